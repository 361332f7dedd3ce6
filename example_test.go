package webhook_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// What a host adds to its main.
func Example() {
	logger := slog.New(slog.DiscardHandler)
	serve := func(context.Context, *webhook.Publisher, *webhook.Manager) {}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	store := memstore.New() // in memory: forgets everything when the process ends
	disp, err1 := webhook.NewDispatcher(store, webhook.DispatcherConfig{Logger: logger})
	pub, err2 := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
	mgr, err3 := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp})
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}

	done := make(chan error, 1)
	go func() { done <- disp.Run(ctx) }() // delivers until ctx ends

	serve(ctx, pub, mgr) // your own server; what it does with them comes next

	stop()
	if err := <-done; err != nil { // attempts in flight had 20 s to end
		log.Fatal(err)
	}

	fmt.Println("delivered until the end")
	// Output: delivered until the end
}

// A person registers an endpoint, and the host publishes.
func ExamplePublisher_Publish() {
	ctx := context.Background()
	show := func(webhook.Webhook, string) {}
	store := memstore.New()
	pub, err1 := webhook.NewPublisher(store, webhook.PublisherConfig{})
	mgr, err2 := webhook.NewManager(store, webhook.ManagerConfig{})
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}

	room := webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}

	// When somebody registers an endpoint. Who that is, is what you say.
	actor := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	w, secret, err := mgr.Create(ctx, actor, webhook.WebhookInput{
		Name:          "Archive",
		EndpointURL:   "https://archive.example.com/webhooks",
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	if err != nil {
		log.Fatal(err) // a webhook.ValidationErrors names every fault at once
	}
	show(w, secret.Reveal()) // now or never: nothing returns the secret again

	// When something has happened in that organization.
	published, err := pub.Publish(ctx, webhook.Event{
		OrganizationID: "acme",
		Type:           webhook.EventMessageSent,
		Subject:        room,
		Data:           map[string]string{"text": "Hello, World!"},
	})
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println("deliveries:", published.Deliveries)
	// Output: deliveries: 1
}

// An event that commits or vanishes with a transaction.
func ExamplePublisher_PublishTx() {
	ctx := context.Background()
	store := memstore.New()
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}
	event := webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, IdempotencyKey: "message 17",
		Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"},
	}

	tx := store.Begin()
	if _, err := pub.PublishTx(ctx, tx, event); err != nil {
		log.Fatal(err)
	}
	if err := tx.Rollback(); err != nil { // as if it had never been published
		log.Fatal(err)
	}

	published, err := pub.Publish(ctx, event)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("duplicate:", published.Duplicate)
	// Output: duplicate: false
}

// docs/testing.md shows this as the test of an integration.
func TestFailingEndpointIsTriedAgain(t *testing.T) {
	t.Parallel()
	admin := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	room := webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}

	clock := &webhooktest.Clock{}                   // moved by hand
	inbox := webhooktest.NewInbox(t)                // a receiver on loopback, over HTTPS
	endpoint := inbox.Endpoint(webhooktest.Fail(2)) // 500, 500, then 204
	store, start := memstore.New(), clock.Now()

	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Clock: clock, HTTPDoer: inbox.HTTPDoer()})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp, AllowedPrefixes: inbox.Prefixes()})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
	require.NoError(t, err)

	_, secret, err := mgr.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Archive", EndpointURL: endpoint.URL(),
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	endpoint.Trust(secret)

	// Here your service does what makes it publish.
	_, err = pub.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room})
	require.NoError(t, err)
	webhooktest.Drain(t, disp, clock) // all attempts, hours of waiting included, in milliseconds

	received := endpoint.Received()
	require.Len(t, received, 3)
	require.True(t, received[2].Verified)
	require.Equal(t, 6*time.Minute, clock.Now().Sub(start)) // 1 m and 5 m
}

// A receiver on localhost, for development.
func Example_localhost() {
	store, certificate := memstore.New(), []byte("…")

	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate) // cert.pem
	client, err1 := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback, RootCAs: roots})
	disp, err2 := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: client})
	mgr, err3 := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp, AllowedPrefixes: loopback})
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}

	_, _, err := mgr.Create(context.Background(),
		webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin},
		webhook.WebhookInput{
			Name: "Local", EndpointURL: "https://localhost:8443/in",
			Subscriptions: []webhook.Subscription{{
				Subject:   webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"},
				EventType: webhook.EventMessageSent,
			}},
		})
	fmt.Println(err)
	// Output: <nil>
}
