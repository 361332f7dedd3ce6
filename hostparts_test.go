package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// What hosts plug in, written as the documentation tells them to.

// egress is a host's HTTPDoer: the library's client, with a header for the
// people who watch what leaves the network, and a count of what came of it.
type egress struct {
	client *http.Client

	mu      sync.Mutex
	results map[string]int
}

func (e *egress) Do(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Egress", "chat-7")
	resp, err := e.client.Do(r)
	result := "failed"
	switch {
	case errors.Is(err, webhook.ErrDestinationNotAllowed):
		result = "refused"
	case err == nil:
		result = strconv.Itoa(resp.StatusCode)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.results[result]++
	return resp, err
}

// A wrapped client sends and signs as before, and is as strict: about addresses,
// whoever has registered them, and about redirects.
func TestAWrappedClientKeepsItsGuard(t *testing.T) {
	t.Parallel()
	strict, err := webhook.NewHTTPClient(webhook.TransportConfig{})
	require.NoError(t, err)
	inbox := webhooktest.NewInbox(t)
	for name, tc := range map[string]struct {
		client  *http.Client
		sent    int // requests to each endpoint of the inbox, which is on loopback
		results map[string]int
	}{
		"Strict":        {strict, 0, map[string]int{"refused": 3}},
		"OpenToTheTest": {inbox.HTTPDoer(), 1, map[string]int{"204": 1, "307": 1, "refused": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &egress{client: tc.client, results: map[string]int{}}
			r := &rig{store: memstore.New(), hosts: map[string]func(*http.Request) (*http.Response, error){}}
			r.wire(t, r.store, &webhooktest.Clock{}, webhook.DispatcherConfig{HTTPDoer: out})

			// Somebody has let people register what is inside the network.
			manager, err := webhook.NewManager(r.store, webhook.ManagerConfig{
				Dispatcher: r.dispatcher, AllowedPrefixes: append(inbox.Prefixes(), netip.MustParsePrefix("10.0.0.0/8")),
			})
			require.NoError(t, err)
			r.manager = manager
			endpoint := inbox.Endpoint(webhooktest.Succeed())
			redirecting := inbox.Endpoint(webhooktest.Always(webhooktest.Answer{
				Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {endpoint.URL()}},
			}))
			for _, e := range []*webhooktest.Endpoint{endpoint, redirecting} {
				_, secret, err := r.manager.Create(t.Context(), rigAdmin, webhook.WebhookInput{
					Name: "Archive", EndpointURL: e.URL(),
					Subscriptions: []webhook.Subscription{{Subject: rigRoom, EventType: webhook.EventMessageSent}},
				})
				require.NoError(t, err)
				e.Trust(secret)
			}
			private := r.register(t, rigAdmin, "10.0.0.7", rigRoom, nil)
			r.publish(t, "acme", rigRoom, 1)
			made, err := r.dispatcher.RunOnce(t.Context())
			require.NoError(t, err)
			require.Equal(t, 3, made)

			require.Equal(t, tc.results, out.results)
			for _, e := range []*webhooktest.Endpoint{endpoint, redirecting} {
				require.Len(t, e.Received(), tc.sent)
				for _, got := range e.Received() {
					require.True(t, got.Verified)
					require.Equal(t, "chat-7", got.Header.Get("X-Egress"))
				}
			}
			for _, a := range r.attempts(t, rigAdmin) {
				if a.WebhookID == private.ID || tc.sent == 0 {
					require.Equal(t, webhook.ErrorDestination, a.ErrorClass)
					require.NotContains(t, a.Error, "10.0.0.7")
					require.NotContains(t, a.Error, "127.0.0.1")
				}
			}
		})
	}
}

// Who takes the first client at hand is told at the start.
func TestTheDefaultClientIsNoHTTPDoer(t *testing.T) {
	t.Parallel()
	_, err := webhook.NewDispatcher(memstore.New(), webhook.DispatcherConfig{HTTPDoer: http.DefaultClient})
	require.Equal(t, []string{"http_doer"}, faultFields(t, err))
}

// onCall is a host's Notifier: it looks up whom to tell, and writes to them. Its
// mail server is away the first time.
type onCall struct {
	people map[string]string // by organization
	clock  webhook.Clock

	mu    sync.Mutex
	tried []uuid.UUID // notices
	at    []time.Time
	sent  []string
}

func (o *onCall) Notify(_ context.Context, n webhook.Notice) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried, o.at = append(o.tried, n.ID), append(o.at, o.clock.Now())
	if len(o.tried) == 1 {
		return errors.New("the mail server is away")
	}
	o.sent = append(o.sent, fmt.Sprintf("%s: %d deliveries of %q to %s have failed, the last one by %d",
		o.people[n.OrganizationID], n.Deliveries, n.WebhookName, n.EndpointHost, n.LastStatusCode))
	return nil
}

func TestANotifierThatFailsIsCalledAgainAndThenNoMore(t *testing.T) {
	t.Parallel()
	clock := &webhooktest.Clock{}
	start := clock.Now()
	people := &onCall{people: map[string]string{"acme": "ada@acme.example"}, clock: clock}
	r := newRig(t, clock, webhook.DispatcherConfig{Notifier: people, Schedule: once(t)})
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 2)
	webhooktest.Drain(t, r.dispatcher, clock)

	require.Len(t, people.tried, 2)
	require.Equal(t, people.tried[0], people.tried[1], "the same notice")
	require.Equal(t, start.Add(webhook.NoticeWindow), people.at[0])
	require.True(t, people.at[1].After(people.at[0]))
	require.Equal(t, []string{
		`ada@acme.example: 2 deliveries of "failing.example" to failing.example have failed, the last one by 500`,
	}, people.sent)

	// What has been told is not told again, a day later either.
	clock.Advance(2 * webhook.NoticeInterval)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Len(t, people.tried, 2)
}
