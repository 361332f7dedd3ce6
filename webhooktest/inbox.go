package webhooktest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// maxBody is more than any payload may have.
const maxBody = 16 << 20

// Inbox is a receiver on a loopback address: an HTTPS server with any number of
// endpoints, each of which verifies what it gets and keeps it. It is safe for
// concurrent use.
//
// It is not for a testing/synctest bubble: goroutines that wait on its sockets
// keep the bubble's time from moving.
type Inbox struct {
	server *httptest.Server
	client *http.Client

	mu        sync.Mutex
	header    string
	endpoints map[string]*Endpoint
}

// NewInbox starts an inbox that ends with the test.
func NewInbox(t testing.TB) *Inbox {
	t.Helper()
	in := &Inbox{endpoints: map[string]*Endpoint{}}
	in.server = httptest.NewUnstartedServer(http.HandlerFunc(in.serve))
	in.server.Config.ErrorLog = log.New(io.Discard, "", 0) // senders that give up are not news
	in.server.StartTLS()
	pool := x509.NewCertPool()
	pool.AddCert(in.server.Certificate())
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: in.Prefixes(), RootCAs: pool})
	if err != nil {
		in.server.Close()
		t.Fatalf("webhooktest: new inbox: %v", err)
	}
	in.client = client
	t.Cleanup(func() {
		in.client.CloseIdleConnections()
		in.server.CloseClientConnections() // lets hanging endpoints go
		in.server.Close()
	})
	return in
}

// HTTPDoer returns the library's own client, except that it trusts the inbox
// and may connect to it: for DispatcherConfig.HTTPDoer.
func (in *Inbox) HTTPDoer() *http.Client { return in.client }

// Prefixes returns the addresses of inboxes, for ManagerConfig.AllowedPrefixes.
func (in *Inbox) Prefixes() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// SignatureHeader sets the name of the header with the hex signature, for
// dispatchers that do, for endpoints opened afterwards.
func (in *Inbox) SignatureHeader(name string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.header = name
}

// Endpoint opens an endpoint that answers by a script. Until it is told by
// Trust which secret to expect, it takes every request for unsigned; the script
// answers it all the same.
func (in *Inbox) Endpoint(s Script) *Endpoint {
	in.mu.Lock()
	defer in.mu.Unlock()
	path := "/" + strconv.Itoa(len(in.endpoints)+1)
	e := &Endpoint{url: in.server.URL + path, header: in.header, script: s, arrived: make(chan struct{})}
	in.endpoints[path] = e
	return e
}

func (in *Inbox) serve(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	e := in.endpoints[r.URL.Path]
	in.mu.Unlock()
	if e == nil {
		http.NotFound(w, r)
		return
	}
	e.serve(w, r)
}

// Received is a request that an endpoint got.
type Received struct {
	EventID  uuid.UUID // of the webhook-id header
	Attempt  int       // of the X-Pivot-Attempt header
	Header   http.Header
	Payload  []byte
	Verified bool // by a trusted secret, both signatures
}

// Endpoint is one URL of an [Inbox].
type Endpoint struct {
	url    string
	header string

	mu       sync.Mutex
	script   Script
	secrets  []webhook.Secret
	received []Received
	arrived  chan struct{} // closed and replaced at each request
}

// URL returns the endpoint's URL, for WebhookInput.EndpointURL.
func (e *Endpoint) URL() string { return e.url }

// Trust adds a secret that requests may be signed with.
func (e *Endpoint) Trust(s webhook.Secret) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.secrets = append(e.secrets, s)
}

// Script replaces the script. The count of requests goes on.
func (e *Endpoint) Script(s Script) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script = s
}

// Received returns every request so far, in the order of arrival, whatever the
// script answered.
func (e *Endpoint) Received() []Received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.received)
}

// Await waits until the endpoint has got n requests in all, and returns them.
// It returns an error if ctx ends before. The sender may not have recorded the
// attempts yet.
func (e *Endpoint) Await(ctx context.Context, n int) ([]Received, error) {
	for {
		e.mu.Lock()
		got, arrived := slices.Clone(e.received), e.arrived
		e.mu.Unlock()
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return got, fmt.Errorf("webhooktest: %d of %d requests came: %w", len(got), n, ctx.Err())
		}
	}
}

func (e *Endpoint) serve(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	a := e.receive(r, payload)
	switch {
	case a.Reset:
		panic(http.ErrAbortHandler)
	case a.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // say nothing in the end either
	}
	for k, vs := range a.Header {
		w.Header()[k] = append(w.Header()[k], vs...)
	}
	if a.Status == 0 {
		a.Status = http.StatusNoContent
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a status without a body refuses one
}

// receive keeps a request and returns what to answer. The script may call the
// endpoint, and is therefore asked outside of the lock.
func (e *Endpoint) receive(r *http.Request, payload []byte) Answer {
	script, n := e.keep(r, payload)
	if script == nil {
		return Answer{}
	}
	return script(n)
}

func (e *Endpoint) keep(r *http.Request, payload []byte) (script Script, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	got := Received{Header: r.Header.Clone(), Payload: payload, Verified: e.verify(payload, r.Header) == nil}
	got.EventID, _ = uuid.Parse(r.Header.Get("Webhook-Id"))        // zero if absent
	got.Attempt, _ = strconv.Atoi(r.Header.Get("X-Pivot-Attempt")) // likewise
	e.received = append(e.received, got)
	close(e.arrived)
	e.arrived = make(chan struct{})
	return e.script, len(e.received)
}

func (e *Endpoint) verify(payload []byte, h http.Header) error {
	if len(e.secrets) == 0 {
		return errors.New("no secret is trusted")
	}
	v, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: e.secrets, SignatureHeader: e.header, Clock: signedAt(h)})
	if err != nil {
		return err
	}
	return v.Verify(payload, h)
}

// signedAt is a clock that stands at a request's own timestamp: senders under
// test have clocks of their own, and the tolerance of receivers is not what is
// tested here.
type signedAt http.Header

func (h signedAt) Now() time.Time {
	seconds, _ := strconv.ParseInt(http.Header(h).Get("Webhook-Timestamp"), 10, 64) // refused if absent
	return time.Unix(seconds, 0)
}
