package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// payloadBytes is the size of request bodies.
const payloadBytes = 300

// attemptTimeout is the library's, for those who do without it.
const attemptTimeout = webhook.DefaultAttemptTimeout

// target is a webhook, with what it takes to send to it without the library.
type target struct {
	webhook webhook.Webhook
	secret  webhook.Secret
	signer  *webhook.Signer
}

// subject is what the target's one subscription is for.
func (t *target) subject() webhook.Subject { return t.webhook.Subscriptions[0].Subject }

// targets makes webhooks that lead to a path of the receiver. Each is subscribed
// to a room of its own, so that an event makes one delivery. They are dealt out
// to the organizations in turn.
func (b *bench) targets(n int, path string) ([]target, error) {
	var ids webhook.IDSource
	out := make([]target, n)
	for i := range out {
		now := time.Now().UTC().Truncate(time.Microsecond)
		secret, err := webhook.NewSecret()
		if err != nil {
			return nil, err
		}
		signer, err := webhook.NewSigner(secret)
		if err != nil {
			return nil, err
		}
		out[i] = target{secret: secret, signer: signer, webhook: webhook.Webhook{
			ID:             ids.New(now),
			OrganizationID: fmt.Sprintf("organization-%d", i%b.organizations),
			Name:           fmt.Sprintf("Webhook %d", i),
			EndpointURL:    b.receiver.url(path, i),
			Status:         webhook.StatusActive,
			Subscriptions: []webhook.Subscription{{
				Subject:   webhook.Subject{Type: webhook.SubjectRoom, ID: uuid.NewString()},
				EventType: webhook.EventMessageSent,
			}},
			Version:   1,
			CreatedAt: now, UpdatedAt: now, CreatedBy: "bench", UpdatedBy: "bench",
		}}
	}
	return out, nil
}

// register stores the targets. It goes past the Manager, which refuses
// addresses that are not public.
func register(ctx context.Context, store webhook.WebhookStore, targets []target) error {
	for _, t := range targets {
		if err := store.CreateWebhook(ctx, webhook.CreateWebhookParams{Webhook: t.webhook, Secret: t.secret}); err != nil {
			return fmt.Errorf("create a webhook: %w", err)
		}
	}
	return nil
}

// payload is a body of payloadBytes for an event of the target.
func payload(t *target, eventID uuid.UUID) []byte {
	body := fmt.Appendf(nil, `{"id":%q,"event_type":%q,"subject":{"type":%q,"id":%q},"data":{"text":"`,
		eventID, webhook.EventMessageSent, t.subject().Type, t.subject().ID)
	const end = `"}}`
	body = append(body, strings.Repeat("x", payloadBytes-len(body)-len(end))...)
	return append(body, end...)
}

// record is an event for the target, as stores take it.
func record(t *target, id uuid.UUID, now time.Time) webhook.EventRecord {
	return webhook.EventRecord{
		ID: id, OrganizationID: t.webhook.OrganizationID, Type: webhook.EventMessageSent, Subject: t.subject(),
		OccurredAt: now, Payload: payload(t, id),
	}
}

// timedEvent is an event for the target, as hosts publish it, with a time for
// timedPath. What the library adds makes about payloadBytes of it.
func timedEvent(t *target, sent time.Time) webhook.Event {
	return webhook.Event{
		OrganizationID: t.webhook.OrganizationID, Type: webhook.EventMessageSent, Subject: t.subject(), OccurredAt: sent,
		Data: json.RawMessage(fmt.Sprintf(`{%s%d,"text":%q}`, sentField, sent.UnixNano(), strings.Repeat("x", 70))),
	}
}

// newClient returns the client that webhooks are sent with.
func (b *bench) newClient(slots int) (*http.Client, error) {
	return webhook.NewHTTPClient(webhook.TransportConfig{
		AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		RootCAs:         b.receiver.roots,
		Slots:           slots,
	})
}

// post makes a signed attempt without the library's dispatcher.
func post(ctx context.Context, client *http.Client, t *target, eventID string, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.webhook.EndpointURL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", webhook.DefaultUserAgent)
	req.Header.Set("X-Pivot-Attempt", "1")
	t.signer.Sign(req.Header, eventID, time.Now(), body)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, webhook.MaxResponseBytes))
	if e := resp.Body.Close(); err == nil {
		err = e
	}
	return resp.StatusCode, err
}
