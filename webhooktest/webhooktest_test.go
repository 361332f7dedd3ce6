package webhooktest_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// sender is a service under test.
type sender struct {
	clock      *webhooktest.Clock
	inbox      *webhooktest.Inbox
	dispatcher *webhook.Dispatcher
	manager    *webhook.Manager
	publisher  *webhook.Publisher
}

var (
	admin = webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
)

func newSender(t *testing.T, cfg webhook.DispatcherConfig) *sender {
	t.Helper()
	s := &sender{clock: &webhooktest.Clock{}, inbox: webhooktest.NewInbox(t)}
	store := memstore.New()
	cfg.Clock, cfg.HTTPDoer = s.clock, s.inbox.HTTPDoer()
	var err error
	s.dispatcher, err = webhook.NewDispatcher(store, cfg)
	require.NoError(t, err)
	s.manager, err = webhook.NewManager(store, webhook.ManagerConfig{Clock: s.clock, AllowedPrefixes: s.inbox.Prefixes()})
	require.NoError(t, err)
	s.publisher, err = webhook.NewPublisher(store, webhook.PublisherConfig{Clock: s.clock})
	require.NoError(t, err)
	return s
}

// register creates a webhook for an endpoint with this script.
func (s *sender) register(t *testing.T, script webhooktest.Script) *webhooktest.Endpoint {
	t.Helper()
	e := s.inbox.Endpoint(script)
	_, secret, err := s.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "test", EndpointURL: e.URL(),
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	e.Trust(secret)
	return e
}

func (s *sender) publish(t *testing.T) webhook.Published {
	t.Helper()
	p, err := s.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: map[string]string{"text": "hi"},
	})
	require.NoError(t, err)
	return p
}

func (s *sender) attempts(t *testing.T) []webhook.Attempt {
	t.Helper()
	page, err := s.manager.Attempts(t.Context(), admin, webhook.AttemptQuery{})
	require.NoError(t, err)
	return page.Items
}

func TestDrainCarriesDeliveriesToTheirEnd(t *testing.T) {
	t.Parallel()
	s := newSender(t, webhook.DispatcherConfig{})
	healthy, flaky, broken := s.register(t, webhooktest.Succeed()), s.register(t, webhooktest.Fail(2)), s.register(t, webhooktest.Status(503))
	start := s.clock.Now()
	p := s.publish(t)
	require.Equal(t, 3, p.Deliveries)

	webhooktest.Drain(t, s.dispatcher, s.clock)

	require.Equal(t, 14*time.Hour+36*time.Minute, s.clock.Now().Sub(start))
	for e, want := range map[*webhooktest.Endpoint]int{healthy: 1, flaky: 3, broken: 6} {
		got := e.Received()
		require.Len(t, got, want)
		for i, r := range got {
			require.True(t, r.Verified)
			require.Equal(t, p.EventID, r.EventID)
			require.Equal(t, i+1, r.Attempt)
			require.Equal(t, got[0].Payload, r.Payload)
		}
	}
}

func TestDrainPassesOnNotices(t *testing.T) {
	t.Parallel()
	var n notices
	s := newSender(t, webhook.DispatcherConfig{Notifier: &n})
	s.register(t, webhooktest.Status(500))
	s.publish(t)
	webhooktest.Drain(t, s.dispatcher, s.clock)
	require.Len(t, n.got, 1)
	require.Equal(t, 1, n.got[0].Deliveries)
}

type notices struct {
	mu  sync.Mutex
	got []webhook.Notice
}

func (n *notices) Notify(_ context.Context, x webhook.Notice) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, x)
	return nil
}

func TestScripts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script  webhooktest.Script
		timeout time.Duration
		class   webhook.ErrorClass
		want    webhook.Attempt // status and Retry-After
	}{
		"Hang":       {webhooktest.Hang(), 50 * time.Millisecond, webhook.ErrorTimeout, webhook.Attempt{}},
		"Reset":      {webhooktest.Reset(), 0, webhook.ErrorProtocol, webhook.Attempt{}},
		"RetryAfter": {webhooktest.RetryAfter(429, 90*time.Second), 0, webhook.ErrorStatus, webhook.Attempt{StatusCode: 429, RetryAfter: 90 * time.Second}},
		"Sequence":   {webhooktest.Sequence(webhooktest.Answer{Status: 418}, webhooktest.Answer{}), 0, webhook.ErrorStatus, webhook.Attempt{StatusCode: 418}},
		"Empty":      {webhooktest.Sequence(), 0, "", webhook.Attempt{StatusCode: 204}},
		"Nil":        {nil, 0, "", webhook.Attempt{StatusCode: 204}},
		"Body": {webhooktest.Always(webhooktest.Answer{Status: 200, Body: []byte("\x00\xff")}), 0, "",
			webhook.Attempt{StatusCode: 200, Response: []byte("\x00\xff")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSender(t, webhook.DispatcherConfig{AttemptTimeout: c.timeout})
			e := s.register(t, c.script)
			s.publish(t)
			n, err := s.dispatcher.RunOnce(t.Context())
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Len(t, e.Received(), 1)
			a := s.attempts(t)[0]
			require.Equal(t, c.class, a.ErrorClass)
			require.Equal(t, c.want.StatusCode, a.StatusCode)
			require.Equal(t, c.want.RetryAfter, a.RetryAfter)
			require.Equal(t, string(c.want.Response), string(a.Response))
		})
	}
}

func TestEndpointKnowsUnsignedRequests(t *testing.T) {
	t.Parallel()
	in := webhooktest.NewInbox(t)
	e := in.Endpoint(webhooktest.Succeed())
	post := func(url string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		require.NoError(t, err)
		resp, err := in.HTTPDoer().Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusNoContent, post(e.URL()))
	secret, err := webhook.NewSecret()
	require.NoError(t, err)
	e.Trust(secret)
	e.Script(webhooktest.Status(http.StatusTeapot))
	require.Equal(t, http.StatusTeapot, post(e.URL()))
	require.Equal(t, http.StatusNotFound, post(e.URL()+"/other"))

	got, err := e.Await(t.Context(), 2)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.False(t, got[0].Verified)
	require.False(t, got[1].Verified)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.Await(ctx, 3)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAwaitReturnsWhenRequestsArrive(t *testing.T) {
	t.Parallel()
	s := newSender(t, webhook.DispatcherConfig{})
	e := s.register(t, webhooktest.Succeed())
	s.publish(t)
	result := make(chan error, 1)
	go func() {
		_, err := s.dispatcher.RunOnce(t.Context())
		result <- err
	}()
	got, err := e.Await(t.Context(), 1)
	require.NoError(t, err)
	require.True(t, got[0].Verified)
	require.NoError(t, <-result)
}

func TestClock(t *testing.T) {
	t.Parallel()
	var zero webhooktest.Clock
	start := zero.Now()
	require.Equal(t, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), start)
	zero.Advance(time.Minute)
	require.Equal(t, start.Add(time.Minute), zero.Now())
	zero.AdvanceTo(start)
	require.Equal(t, start.Add(time.Minute), zero.Now(), "a clock does not go back")
	zero.AdvanceTo(start.Add(time.Hour))
	require.Equal(t, start.Add(time.Hour), zero.Now())

	at := time.Date(2030, 2, 3, 4, 5, 6, 7, time.UTC)
	require.Equal(t, at, webhooktest.NewClock(at).Now())
}
