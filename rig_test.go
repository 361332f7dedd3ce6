package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// doerFunc is an HTTPDoer made of a function.
type doerFunc func(*http.Request) (*http.Response, error)

func (f doerFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// respond is an answer without a network.
func respond(code int) (*http.Response, error) {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// hang waits as a request does whose endpoint never answers.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, fmt.Errorf("hanging: %w", r.Context().Err())
}

// rig is a dispatcher with all that it needs, for tests of its behaviour.
type rig struct {
	store      *memstore.Store
	dispatcher *webhook.Dispatcher
	manager    *webhook.Manager
	publisher  *webhook.Publisher
	hosts      map[string]func(*http.Request) (*http.Response, error) // by host of the endpoint

	mu       sync.Mutex
	requests []request
}

// request is one that the rig's HTTPDoer has seen.
type request struct {
	host    string
	eventID string
	at      time.Time
}

// newRig wires a dispatcher to endpoints without a network: a webhook's
// endpoint answers by its host's function. A nil clock is the system's, or a
// bubble's.
func newRig(t *testing.T, clock webhook.Clock, cfg webhook.DispatcherConfig) *rig {
	t.Helper()
	r := &rig{store: memstore.New(), hosts: map[string]func(*http.Request) (*http.Response, error){}}
	r.wire(t, r.store, clock, cfg)
	return r
}

// wire makes the rig's parts on a store that may wrap its own.
func (r *rig) wire(t *testing.T, s webhook.Store, clock webhook.Clock, cfg webhook.DispatcherConfig) {
	t.Helper()
	cfg.Clock = clock
	if cfg.HTTPDoer == nil {
		cfg.HTTPDoer = doerFunc(func(req *http.Request) (*http.Response, error) {
			r.mu.Lock()
			r.requests = append(r.requests, request{req.URL.Host, req.Header.Get("Webhook-Id"), time.Now()})
			answer := r.hosts[req.URL.Host]
			r.mu.Unlock()
			return answer(req)
		})
	}
	var err error
	r.dispatcher, err = webhook.NewDispatcher(s, cfg)
	require.NoError(t, err)
	r.manager, err = webhook.NewManager(s, webhook.ManagerConfig{Clock: clock, Dispatcher: r.dispatcher})
	require.NoError(t, err)
	r.publisher, err = webhook.NewPublisher(s, webhook.PublisherConfig{Clock: clock, Dispatcher: r.dispatcher})
	require.NoError(t, err)
}

var (
	rigRoom  = webhook.Subject{Type: webhook.SubjectRoom, ID: "0b1d4b5e-52a3-4d8e-9a3c-6d0f4d2c7a9b"}
	rigAdmin = webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
)

// adminOf is an admin of another organization.
func adminOf(organization string) webhook.Actor {
	return webhook.Actor{ID: "ada", OrganizationID: organization, Role: webhook.RoleAdmin}
}

// roomOf gives each webhook that needs one a subject of its own.
func roomOf(n int) webhook.Subject {
	return webhook.Subject{Type: webhook.SubjectRoom, ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, n)).String()}
}

// register creates a webhook whose endpoint answers by a function.
func (r *rig) register(t *testing.T, a webhook.Actor, host string, subject webhook.Subject, answer func(*http.Request) (*http.Response, error)) webhook.Webhook {
	t.Helper()
	r.mu.Lock()
	r.hosts[host] = answer
	r.mu.Unlock()
	w, _, err := r.manager.Create(t.Context(), a, webhook.WebhookInput{
		Name: host, EndpointURL: "https://" + host + "/in",
		Subscriptions: []webhook.Subscription{{Subject: subject, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	return w
}

func (r *rig) publish(t *testing.T, organization string, subject webhook.Subject, n int) {
	t.Helper()
	for range n {
		_, err := r.publisher.Publish(t.Context(), webhook.Event{
			OrganizationID: organization, Type: webhook.EventMessageSent, Subject: subject, Data: "hello",
		})
		require.NoError(t, err)
	}
}

// times returns when requests reached a host, since a moment.
func (r *rig) times(host string, since time.Time) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []time.Duration
	for _, q := range r.requests {
		if q.host == host {
			out = append(out, q.at.Sub(since))
		}
	}
	return out
}

// run starts the dispatcher in a bubble. The returned function ends it and
// waits until it has.
func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.dispatcher.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// deliveries returns the organization's deliveries, oldest first.
func (r *rig) deliveries(t *testing.T, a webhook.Actor) []webhook.Delivery {
	t.Helper()
	var out []webhook.Delivery
	q := webhook.DeliveryQuery{Limit: webhook.MaxPageSize}
	for {
		page, err := r.manager.Deliveries(t.Context(), a, q)
		require.NoError(t, err)
		for _, d := range page.Items {
			out = append([]webhook.Delivery{d}, out...)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return out
		}
	}
}

// states counts the organization's deliveries by state.
func (r *rig) states(t *testing.T, a webhook.Actor) map[webhook.DeliveryState]int {
	t.Helper()
	out := map[webhook.DeliveryState]int{}
	for _, d := range r.deliveries(t, a) {
		out[d.State]++
	}
	return out
}

// attempts returns the organization's log, oldest first.
func (r *rig) attempts(t *testing.T, a webhook.Actor) []webhook.Attempt {
	t.Helper()
	page, err := r.manager.Attempts(t.Context(), a, webhook.AttemptQuery{Limit: webhook.MaxPageSize})
	require.NoError(t, err)
	require.Empty(t, page.Next)
	var out []webhook.Attempt
	for _, x := range page.Items {
		out = append([]webhook.Attempt{x}, out...)
	}
	return out
}

// errStore is what stores that fail on purpose return.
var errStore = errors.New("the store is away")

// pass lets time pass in a synctest bubble, where it takes none.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // nothing is waited for: the bubble's clock jumps
}

// steppedRig is a rig on a clock that is moved by hand.
func steppedRig(t *testing.T, cfg webhook.DispatcherConfig) (*rig, *webhooktest.Clock) {
	t.Helper()
	clock := &webhooktest.Clock{}
	return newRig(t, clock, cfg), clock
}
