package webhook

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/google/uuid"
)

// maxRoutes bounds the webhooks whose routes are kept.
const maxRoutes = 4096

// routes keeps what all requests to a webhook have in common: parsing the URL and
// setting up the signer's keys take longer than signing.
type routes struct {
	mu   sync.Mutex
	byID map[uuid.UUID]*route
}

// route is the way to a webhook as it was when a claim was made.
type route struct {
	endpoint string
	secret   Secret
	url      *url.URL
	signer   *Signer
}

// of returns the route of a claim, made anew if the webhook has changed.
func (r *routes) of(c *Claim, signatureHeader string) (*route, error) {
	r.mu.Lock()
	to := r.byID[c.WebhookID]
	r.mu.Unlock()
	if to != nil && to.endpoint == c.EndpointURL && to.secret == c.Secret {
		return to, nil
	}
	u, err := url.Parse(c.EndpointURL)
	if err != nil {
		return nil, err
	}
	signer, err := NewSigner(c.Secret)
	if err != nil {
		return nil, err
	}
	signer.header = signatureHeader
	to = &route{endpoint: c.EndpointURL, secret: c.Secret, url: u, signer: signer}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil || len(r.byID) >= maxRoutes {
		r.byID = map[uuid.UUID]*route{} // those in use come back
	}
	r.byID[c.WebhookID] = to
	return to, nil
}

// request builds the signed POST of a claim.
func (d *Dispatcher) request(ctx context.Context, c *Claim) (*http.Request, error) {
	to, err := d.routes.of(c, d.cfg.SignatureHeader)
	if err != nil {
		return nil, err
	}
	target := *to.url // a host's HTTPDoer may write to it
	body := func() (io.ReadCloser, error) {
		if len(c.Payload) == 0 {
			return http.NoBody, nil // or its length would count as unknown
		}
		return io.NopCloser(bytes.NewReader(c.Payload)), nil
	}
	first, _ := body()
	values := [...]string{"application/json", d.cfg.UserAgent, strconv.Itoa(c.Attempt)}
	header := make(http.Header, 7)
	header["Content-Type"], header["User-Agent"], header[headerAttempt] = values[0:1:1], values[1:2:2], values[2:3:3]
	to.signer.Sign(header, c.EventID.String(), d.clock.Now(), c.Payload)
	req := &http.Request{
		Method: http.MethodPost, URL: &target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: first, GetBody: body, ContentLength: int64(len(c.Payload)),
	}
	return req.WithContext(ctx), nil
}
