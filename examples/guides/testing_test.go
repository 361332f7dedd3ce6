package guides_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

func TestRunInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		doer := doerFunc(func(*http.Request) (*http.Response, error) { // no sockets
			attempts = append(attempts, time.Now())
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
		})
		store := memstore.New()
		disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: doer}) // no Clock
		require.NoError(t, err)
		mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp})
		require.NoError(t, err)
		pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
		require.NoError(t, err)
		_, _, err = mgr.Create(t.Context(), admin, archive("https://archive.example.com/in"))
		require.NoError(t, err)

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- disp.Run(ctx) }()
		_, err = pub.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room})
		require.NoError(t, err)

		<-time.After(24 * time.Hour) // of the bubble's time
		stop()
		require.NoError(t, <-done)
		require.Len(t, attempts, 6)
		require.Equal(t, 14*time.Hour+36*time.Minute, attempts[5].Sub(attempts[0]))
	})
}

func TestNothingIsPublishedAfterARollback(t *testing.T) {
	t.Parallel()
	store := memstore.New()
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{})
	require.NoError(t, err)
	_, _, err = mgr.Create(t.Context(), admin, archive("https://archive.example.com/in"))
	require.NoError(t, err)

	tx := store.Begin()
	_, err = pub.PublishTx(t.Context(), tx, webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room})
	require.NoError(t, err)
	require.NoError(t, tx.Rollback())

	page, err := mgr.Deliveries(t.Context(), admin, webhook.DeliveryQuery{})
	require.NoError(t, err)
	require.Empty(t, page.Items)
}

func TestRunningWithAnInbox(t *testing.T) {
	t.Parallel()
	inbox := webhooktest.NewInbox(t)
	endpoint := inbox.Endpoint(webhooktest.Succeed())
	store := memstore.New()
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: inbox.HTTPDoer()})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp, AllowedPrefixes: inbox.Prefixes()})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
	require.NoError(t, err)
	_, secret, err := mgr.Create(t.Context(), admin, archive(endpoint.URL()))
	require.NoError(t, err)
	endpoint.Trust(secret)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- disp.Run(ctx) }()
	_, err = pub.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room})
	require.NoError(t, err)

	received, err := endpoint.Await(t.Context(), 1) // ends with the test's context at the latest
	require.NoError(t, err)
	require.True(t, received[0].Verified)
	stop()
	require.NoError(t, <-done)
}
