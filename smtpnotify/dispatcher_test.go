package smtpnotify_test

import (
	"net/http"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/smtpnotify"
	"github.com/posthorn/webhook/webhooktest"
)

// failing is an HTTPDoer whose endpoints are all out of order.
type failing struct{}

func (failing) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusBadGateway, Body: http.NoBody}, nil
}

// TestTheDispatcherSends lets deliveries of one webhook fail for good and looks
// at what the server gets, tries included.
func TestTheDispatcherSends(t *testing.T) {
	t.Parallel()
	refuse := func(n int) func(int, *smtp.Conn) error {
		return func(i int, _ *smtp.Conn) error {
			if i <= n {
				return errTryLater
			}
			return nil
		}
	}
	for name, tc := range map[string]struct {
		data     func(int, *smtp.Conn) error
		tried    int
		accepted int
	}{
		"Accepted":                     {nil, 1, 1},
		"RefusedUntilItIsNot":          {refuse(5), 6, 1},
		"BrokenOffIsTriedOnceMore":     {breakOff, 2, 0},
		"BrokenOffOnce":                {first(1, breakOff), 2, 1},
		"RefusedThenBrokenOff":         {first(3, refuse(3), breakOff), 5, 0},
		"BrokenOffThenRefusedThenSent": {first(1, breakOff, refuse(3)), 4, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, script{data: tc.data})
			exhaust(t, s.config(), 25)
			got := s.messages()
			require.Len(t, got, tc.tried)
			require.Len(t, s.accepted(), tc.accepted)
			for _, a := range got {
				m := parse(t, a.raw)
				require.Equal(t, parse(t, got[0].raw).header.Get("Message-ID"), m.header.Get("Message-ID"))
				require.Equal(t, "25 deliveries to webhook “Archive” failed", m.subject)
				require.Contains(t, m.text, "\n  25 × Message Sent (message_sent)\n")
				require.Contains(t, m.text, "The last failure: answered 502 Bad Gateway.")
			}
		})
	}
}

// TestTheDispatcherSaysThatAWebhookIsGone: with what it takes to mend it, at once, and
// instead of the mail about what has failed.
func TestTheDispatcherSaysThatAWebhookIsGone(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	clock := &webhooktest.Clock{}
	store := memstore.New()
	d, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{
		Clock: clock, HTTPDoer: gone{}, Notifier: newNotifier(t, s.config()), DeactivateOnGone: true,
	})
	require.NoError(t, err)
	publish(t, store, d, clock, 25)
	began := clock.Now()
	n, err := d.RunOnce(t.Context())
	require.NoError(t, err)
	require.Positive(t, n)
	require.Less(t, n, 25)
	webhooktest.Drain(t, d, clock)
	require.Equal(t, began, clock.Now(), "nothing is due any more")
	got := s.accepted()
	require.Len(t, got, 1)
	m := parse(t, got[0].raw)
	require.Equal(t, "Webhook “Archive” has been deactivated", m.subject)
	require.Contains(t, m.text, "(410 Gone)")
	require.Contains(t, m.text, "Activate the webhook again, and have it deliver what was held.")
	require.Contains(t, m.text, began.UTC().Format("2 January 2006, 15:04 MST"))
}

// gone is an HTTPDoer whose endpoints are gone for good.
type gone struct{}

func (gone) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusGone, Body: http.NoBody}, nil
}

// first answers the first messages by one function, the others by the next one.
func first(n int, answer func(int, *smtp.Conn) error, then ...func(int, *smtp.Conn) error) func(int, *smtp.Conn) error {
	return func(i int, c *smtp.Conn) error {
		switch {
		case i <= n:
			return answer(i, c)
		case len(then) > 0:
			return then[0](i, c)
		}
		return nil
	}
}

// exhaust publishes events for a webhook whose endpoint is out of order, and lets
// a dispatcher do all that follows.
func exhaust(t *testing.T, cfg smtpnotify.Config, events int) {
	t.Helper()
	clock := &webhooktest.Clock{}
	store := memstore.New()
	d, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{
		Clock: clock, HTTPDoer: failing{}, Notifier: newNotifier(t, cfg),
	})
	require.NoError(t, err)
	publish(t, store, d, clock, events)
	webhooktest.Drain(t, d, clock)
}

// publish publishes events for a webhook of its own.
func publish(t *testing.T, store *memstore.Store, d *webhook.Dispatcher, clock *webhooktest.Clock, events int) {
	t.Helper()
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: d})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{Clock: clock})
	require.NoError(t, err)
	room := webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
	_, _, err = mgr.Create(t.Context(), webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleOwner}, webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://archive.example/in?token=hidden",
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	for range events {
		_, err := pub.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room})
		require.NoError(t, err)
	}
}
