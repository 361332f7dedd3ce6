package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// What an organization's people do with their webhooks.
func ExampleManager() {
	ctx := context.Background()
	clock := webhooktest.NewClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	mgr, err := webhook.NewManager(memstore.New(), webhook.ManagerConfig{Clock: clock})
	if err != nil {
		log.Fatal(err)
	}
	admin := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	viewer := webhook.Actor{ID: "vera", OrganizationID: "acme", Role: webhook.RoleViewer}
	stranger := webhook.Actor{ID: "eve", OrganizationID: "other", Role: webhook.RoleOwner}

	w, _, err := mgr.Create(ctx, admin, webhook.WebhookInput{
		Name:        "Archive",
		EndpointURL: "https://Archive.Example.com",
		Subscriptions: []webhook.Subscription{{
			Subject:   webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"},
			EventType: webhook.EventMessageSent,
		}},
	})
	if err != nil {
		log.Fatal(err)
	}

	page, err := mgr.Webhooks(ctx, viewer, webhook.WebhookQuery{Status: webhook.StatusActive})
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range page.Items {
		fmt.Println(w.Name, w.EndpointURL, "by", w.CreatedBy, w.CreatedAt.Format(time.DateTime))
	}

	fmt.Println(errors.Is(mgr.Delete(ctx, viewer, w.ID), webhook.ErrForbidden))
	fmt.Println(errors.Is(mgr.Delete(ctx, stranger, w.ID), webhook.ErrNotFound)) // as if it did not exist
	fmt.Println(mgr.Delete(ctx, admin, w.ID))
	// Output:
	// Archive https://archive.example.com/ by ada 2026-01-01 12:00:00
	// true
	// true
	// <nil>
}

// A test without a network: the clock is moved by hand, and a function answers
// in place of the endpoint.
func ExampleDispatcher_RunOnce() {
	ctx := context.Background()
	store, clock := memstore.New(), &webhooktest.Clock{}
	answers := []int{http.StatusServiceUnavailable, http.StatusNoContent}
	// doerFunc is a func with a method Do that calls it, respond an answer without a body.
	doer := doerFunc(func(r *http.Request) (*http.Response, error) {
		fmt.Println(clock.Now().Format(time.TimeOnly), r.Method, r.URL, "attempt", r.Header.Get("X-Pivot-Attempt"))
		code := answers[0]
		answers = answers[1:]
		return respond(code)
	})

	disp, err1 := webhook.NewDispatcher(store, webhook.DispatcherConfig{Clock: clock, HTTPDoer: doer})
	mgr, err2 := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp})
	pub, err3 := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}
	room := webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
	_, _, err1 = mgr.Create(ctx, webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}, webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://archive.example.com/in",
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	_, err2 = pub.Publish(ctx, webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room})
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}

	for range 3 {
		attempts, err := disp.RunOnce(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("attempts made:", attempts)
		clock.Advance(time.Minute)
	}
	// Output:
	// 12:00:00 POST https://archive.example.com/in attempt 1
	// attempts made: 1
	// 12:01:00 POST https://archive.example.com/in attempt 2
	// attempts made: 1
	// attempts made: 0
}

// The table that receivers are told.
func ExampleSchedule_Delay() {
	s := webhook.DefaultSchedule()
	var since time.Duration
	for attempt := 1; attempt <= s.MaxAttempts(); attempt++ {
		delay, more := s.Delay(attempt)
		fmt.Printf("%d after %8s, then wait %8s %t\n", attempt, since, delay, more)
		since += delay
	}
	// Output:
	// 1 after       0s, then wait     1m0s true
	// 2 after     1m0s, then wait     5m0s true
	// 3 after     6m0s, then wait    30m0s true
	// 4 after    36m0s, then wait   2h0m0s true
	// 5 after  2h36m0s, then wait  12h0m0s true
	// 6 after 14h36m0s, then wait       0s false
}

// The same waits for code that speaks cenkalti/backoff.
func ExampleSchedule_BackOff() {
	s, err := webhook.NewSchedule(time.Second, time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	b := s.BackOff()
	fmt.Println(b.NextBackOff(), b.NextBackOff(), b.NextBackOff()) // the last is backoff.Stop
	b.Reset()
	fmt.Println(b.NextBackOff())
	// Output:
	// 1s 1m0s -1ns
	// 1s
}

// A shop offers its own events, about orders that it numbers.
func ExampleNewCatalog() {
	catalog, err := webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{
			Type: "order", Title: "Order",
			ParseID: func(id string) (string, error) {
				n, err := strconv.ParseUint(id, 10, 64)
				if err != nil {
					return "", errors.New("must be an order's number")
				}
				return strconv.FormatUint(n, 10), nil
			},
		}},
		[]webhook.EventTypeInfo{
			{Type: "order_paid", Title: "Order Paid", Sample: map[string]any{"amount": "17.50"}},
			{Type: "order_shipped", Title: "Order Shipped"},
		},
	)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range catalog.EventTypes() {
		fmt.Printf("%s (%s): %s\n", e.Title, e.Type, e.Sample)
	}

	mgr, err := webhook.NewManager(memstore.New(), webhook.ManagerConfig{Catalog: catalog})
	if err != nil {
		log.Fatal(err)
	}
	admin := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	w, _, err := mgr.Create(context.Background(), admin, webhook.WebhookInput{
		Name: "Books", EndpointURL: "https://books.example.com/in",
		Subscriptions: []webhook.Subscription{{Subject: webhook.Subject{Type: "order", ID: "0042"}, EventType: "order_paid"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("subscribed to order", w.Subscriptions[0].Subject.ID)
	// Output:
	// Order Paid (order_paid): {"amount":"17.50"}
	// Order Shipped (order_shipped): {}
	// subscribed to order 42
}

// The client goes nowhere inside the host's network, whoever asks it to.
func ExampleNewHTTPClient() {
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{})
	if err != nil {
		log.Fatal(err)
	}
	for _, url := range []string{"https://127.0.0.1/admin", "https://169.254.169.254/latest", "http://93.184.216.34/"} {
		resp, err := client.Get(url) //nolint:noctx // an example has no context, and nothing is sent
		if err == nil {
			_ = resp.Body.Close()
		}
		fmt.Println(errors.Is(err, webhook.ErrDestinationNotAllowed))
	}
	// Output:
	// true
	// true
	// true
}

func ExampleValidateEndpointURL() {
	for _, raw := range []string{
		"https://Archive.Example.com:443/in?room=1",
		"http://archive.example.com",
		"https://2130706433/", // 127.0.0.1, as browsers read it
	} {
		normalized, err := webhook.ValidateEndpointURL(raw)
		fmt.Printf("%q %v %t\n", normalized, err == nil, errors.Is(err, webhook.ErrDestinationNotAllowed))
	}
	// Output:
	// "https://archive.example.com/in?room=1" true false
	// "" false false
	// "" false true
}

func ExampleCheckAddress() {
	for _, text := range []string{"93.184.216.34", "10.0.0.7", "::ffff:127.0.0.1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"} {
		fmt.Println(text, webhook.CheckAddress(netip.MustParseAddr(text)))
	}
	// Output:
	// 93.184.216.34 <nil>
	// 10.0.0.7 webhook: destination not allowed
	// ::ffff:127.0.0.1 webhook: destination not allowed
	// 2606:2800:21f:cb07:6820:80da:af6b:8b2c <nil>
}

// Every fault is told at once, each with its field, for a form or an API.
func ExampleValidationErrors() {
	mgr, err := webhook.NewManager(memstore.New(), webhook.ManagerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	admin := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	_, _, err = mgr.Create(context.Background(), admin, webhook.WebhookInput{
		EndpointURL: "http://archive.example.com",
		Subscriptions: []webhook.Subscription{
			{Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: "lobby"}, EventType: webhook.EventMessageSent},
		},
	})

	var faults webhook.ValidationErrors
	if errors.As(err, &faults) {
		for _, f := range faults {
			fmt.Printf("%s: %s\n", f.Field, f.Reason)
		}
	}
	// Output:
	// name: is required
	// endpoint_url: must begin with https://
	// subscriptions[0].subject.id: must be a UUID such as "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"
}
