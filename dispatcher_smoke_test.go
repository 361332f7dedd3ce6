package webhook_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

type doerFunc func(*http.Request) (*http.Response, error)

func (f doerFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

func TestSmoke(t *testing.T) {
	clock := &webhooktest.Clock{}
	start := clock.Now()
	s := memstore.New()
	var at []time.Duration
	d, err := webhook.NewDispatcher(s, webhook.DispatcherConfig{Clock: clock, HTTPDoer: doerFunc(func(r *http.Request) (*http.Response, error) {
		at = append(at, clock.Now().Sub(start))
		return &http.Response{StatusCode: 500, Body: io.NopCloser(strings.NewReader("no"))}, nil
	})})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(s, webhook.PublisherConfig{Clock: clock})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(s, webhook.ManagerConfig{Clock: clock})
	require.NoError(t, err)
	room := webhook.Subject{Type: "room", ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
	admin := webhook.Actor{ID: "a", OrganizationID: "org", Role: webhook.RoleAdmin}
	_, _, err = mgr.Create(t.Context(), admin, webhook.WebhookInput{Name: "x", EndpointURL: "https://example.com/x", Subscriptions: []webhook.Subscription{{Subject: room, EventType: "message_sent"}}})
	require.NoError(t, err)
	p, err := pub.Publish(t.Context(), webhook.Event{OrganizationID: "org", Type: "message_sent", Subject: room, Data: "x"})
	require.NoError(t, err)
	require.Equal(t, 1, p.Deliveries)
	for range 10 {
		n, err := d.RunOnce(t.Context())
		require.NoError(t, err)
		t.Log(n, clock.Now(), d.NextDue())
		if d.NextDue().IsZero() {
			break
		}
		clock.AdvanceTo(d.NextDue())
	}
	t.Log(at)
	require.Len(t, at, 6)
}

func TestSmokeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		s := memstore.New()
		d, err := webhook.NewDispatcher(s, webhook.DispatcherConfig{HTTPDoer: doerFunc(func(r *http.Request) (*http.Response, error) {
			at = append(at, time.Since(began))
			return &http.Response{StatusCode: 500, Body: io.NopCloser(strings.NewReader("no"))}, nil
		})})
		require.NoError(t, err)
		pub, err := webhook.NewPublisher(s, webhook.PublisherConfig{Dispatcher: d})
		require.NoError(t, err)
		mgr, err := webhook.NewManager(s, webhook.ManagerConfig{})
		require.NoError(t, err)
		room := webhook.Subject{Type: "room", ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
		admin := webhook.Actor{ID: "a", OrganizationID: "org", Role: webhook.RoleAdmin}
		_, _, err = mgr.Create(t.Context(), admin, webhook.WebhookInput{Name: "x", EndpointURL: "https://example.com/x", Subscriptions: []webhook.Subscription{{Subject: room, EventType: "message_sent"}}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		_, err = pub.Publish(t.Context(), webhook.Event{OrganizationID: "org", Type: "message_sent", Subject: room, Data: "x"})
		require.NoError(t, err)
		time.Sleep(15 * time.Hour)
		cancel()
		require.NoError(t, <-done)
		t.Log(at)
		require.Len(t, at, 6)
	})
}
