package integration_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

const (
	dispatchedHooks = 12
	dispatchTimeout = 2 * time.Minute
)

// TestDispatchers lets several processes deliver what one publishes: each
// delivery has one attempt, whoever makes it, and none is left.
func TestDispatchers(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			events := 600
			if integration.Long {
				events = 5_000
			}
			crowds := []int{2}
			if s == integration.Postgres {
				crowds = []int{2, 8}
			}
			for _, n := range crowds {
				t.Run(fmt.Sprintf("%d", n), func(t *testing.T) { // no t.Parallel: they would share the few cores and connections
					deliverBy(t, s.Migrated(t), n, events)
				})
			}
		})
	}
}

// deliverBy publishes events and lets n processes deliver them.
func deliverBy(t *testing.T, space *integration.Space, n, events int) {
	t.Helper()
	store := space.Store(t)
	receiver := newReceiver(t)
	// Each organization has a webhook of its own room, and every third one
	// another of the same.
	expected := map[string]int{} // deliveries by organization
	for i := range dispatchedHooks {
		organization := fmt.Sprintf("organization-%d", i%9)
		receiver.register(t, store, organization, fmt.Sprintf("/%d", i))
	}
	var dispatchers []*process
	for i := range n {
		dispatchers = append(dispatchers, start(t, space, task{Kind: "dispatch", Number: i, CA: receiver.ca()}))
	}
	for _, p := range dispatchers {
		require.True(t, p.reach(1), "a dispatcher has ended")
	}
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	total, began := 0, time.Now()
	for i := range events {
		organization := fmt.Sprintf("organization-%d", i%9)
		p, err := publisher.Publish(t.Context(), message(organization, room))
		require.NoError(t, err)
		total += p.Deliveries
		expected[organization] += p.Deliveries
	}
	published := time.Since(began)
	require.True(t, receiver.wait(total), "%d of %d deliveries have arrived", receiver.distinct(), total)
	arrived := time.Since(began)
	for _, p := range dispatchers { // which record what they still have in hand
		require.NoError(t, p.end(t, true))
	}

	m := newManager(t, store)
	for organization, want := range expected {
		require.Equal(t, map[string]int{"succeeded after 1": want}, outcomes(t, m, organization))
	}
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	require.Zero(t, receiver.unverified)
	require.Len(t, receiver.seen, total)
	for delivery, times := range receiver.seen {
		require.Equal(t, 1, times, "attempts of %s", delivery)
	}
	t.Logf("%s: %d events, published in %v; %d deliveries, arrived in %v, by dispatcher: %v",
		space.Name, events, published.Round(time.Millisecond), total, arrived.Round(time.Millisecond), receiver.by)
}

// outcomes counts an organization's deliveries by state and attempts.
func outcomes(t *testing.T, m *webhook.Manager, organization string) map[string]int {
	t.Helper()
	out := map[string]int{}
	q := webhook.DeliveryQuery{Limit: webhook.MaxPageSize}
	for {
		page, err := m.Deliveries(t.Context(), adminOf(organization), q)
		require.NoError(t, err)
		for _, d := range page.Items {
			out[fmt.Sprintf("%s after %d", d.State, d.Attempts)]++
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return out
		}
	}
}

// dispatch is a child of TestDispatchers.
func dispatch(ctx context.Context, c *childProcess, tick func()) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return errors.New("the certificate is not PEM")
	}
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback, RootCAs: roots})
	if err != nil {
		return err
	}
	d, err := webhook.NewDispatcher(c.store, webhook.DispatcherConfig{
		HTTPDoer: client, UserAgent: fmt.Sprintf("dispatcher-%d", c.Number),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	tick()
	return d.Run(ctx)
}

// receiver is an HTTPS server that counts what it gets.
type receiver struct {
	*httptest.Server

	mu         sync.Mutex
	verifiers  map[string]*webhook.Verifier // by path
	seen       map[string]int               // by path and event
	by         map[string]int               // by user agent
	unverified int
	want       int
	complete   chan struct{} // closed when seen has want entries
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{verifiers: map[string]*webhook.Verifier{}, seen: map[string]int{}, by: map[string]int{}}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ErrorLog = log.New(io.Discard, "", 0) // senders that close idle connections
	r.StartTLS()
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

func (r *receiver) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
}

// register creates a webhook for a path.
func (r *receiver) register(t *testing.T, store webhook.ManagerStore, organization, path string) {
	t.Helper()
	_, secret, err := newManager(t, store).Create(t.Context(), adminOf(organization), webhook.WebhookInput{
		Name: path, EndpointURL: r.URL + path, Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	v, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}})
	require.NoError(t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verifiers[path] = v
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	v := r.verifiers[req.URL.Path]
	r.mu.Unlock()
	verified := false
	if v != nil {
		_, err := v.VerifyRequest(req)
		verified = err == nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !verified {
		r.unverified++
	}
	r.by[strings.TrimPrefix(req.UserAgent(), "dispatcher-")]++
	r.seen[req.URL.Path+" "+req.Header.Get("Webhook-Id")]++
	if r.complete != nil && len(r.seen) == r.want {
		close(r.complete)
		r.complete = nil
	}
	w.WriteHeader(http.StatusNoContent)
}

// wait waits until so many different deliveries have arrived.
func (r *receiver) wait(n int) bool {
	complete := make(chan struct{})
	r.mu.Lock()
	if len(r.seen) >= n {
		close(complete)
	} else {
		r.want, r.complete = n, complete
	}
	r.mu.Unlock()
	select {
	case <-complete:
		return true
	case <-time.After(dispatchTimeout):
		return false
	}
}

func (r *receiver) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}
