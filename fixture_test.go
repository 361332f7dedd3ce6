package webhook_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// endpointURL is where the fixture's webhooks point unless a test says otherwise.
const endpointURL = "https://receiver.example.com/hooks"

// fixture is one organization with its people on a store of its own.
type fixture struct {
	store     *memstore.Store
	clock     *webhooktest.Clock // nil in a fixture that goes by the system's clock
	manager   *webhook.Manager
	publisher *webhook.Publisher

	owner, admin, viewer webhook.Actor
	room, space          webhook.Subject

	secrets *sync.Map // uuid.UUID → webhook.Secret, of what createWebhook has made
}

// newFixture returns a fixture whose clock is moved by hand, for RunOnce.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{clock: &webhooktest.Clock{}}
	f.assemble(t, f.clock, nil)
	return f
}

// newRunning returns a fixture on the system's clock with a dispatcher that
// runs until the test ends. It belongs in a synctest bubble.
func newRunning(t testing.TB, endpoint webhook.HTTPDoer) *fixture {
	t.Helper()
	f := &fixture{store: memstore.New()}
	d := f.dispatcher(t, endpoint)
	f.assemble(t, nil, d)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return f
}

func (f *fixture) assemble(t testing.TB, clock webhook.Clock, d *webhook.Dispatcher) {
	t.Helper()
	if f.store == nil {
		f.store = memstore.New()
	}
	var err error
	f.manager, err = webhook.NewManager(f.store, webhook.ManagerConfig{Clock: clock, Dispatcher: d})
	require.NoError(t, err)
	f.publisher, err = webhook.NewPublisher(f.store, webhook.PublisherConfig{Clock: clock, Dispatcher: d})
	require.NoError(t, err)
	f.room = webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
	f.space = webhook.Subject{Type: webhook.SubjectSpace, ID: "b7e1f0a2-58c4-4f0d-8f3e-6d1c2b3a4f55"}
	f.secrets = &sync.Map{}
	f.enter("acme")
}

func (f *fixture) enter(organization string) {
	f.owner = webhook.Actor{ID: "olga", OrganizationID: organization, Role: webhook.RoleOwner}
	f.admin = webhook.Actor{ID: "ada", OrganizationID: organization, Role: webhook.RoleAdmin}
	f.viewer = webhook.Actor{ID: "vic", OrganizationID: organization, Role: webhook.RoleViewer}
}

// of is another organization on the same store.
func (f *fixture) of(organization string) *fixture {
	other := *f
	other.enter(organization)
	return &other
}

// createWebhook registers an endpoint for messages in the room.
func (f *fixture) createWebhook(t testing.TB, url string, opts ...func(*webhook.WebhookInput)) webhook.Webhook {
	t.Helper()
	in := webhook.WebhookInput{
		Name: "Receiver", EndpointURL: url,
		Subscriptions: []webhook.Subscription{{Subject: f.room, EventType: webhook.EventMessageSent}},
	}
	for _, opt := range opts {
		opt(&in)
	}
	w, secret, err := f.manager.Create(t.Context(), f.admin, in)
	require.NoError(t, err)
	f.secrets.Store(w.ID, secret)
	return w
}

// subscribing replaces the subscriptions of a new webhook.
func subscribing(subs ...webhook.Subscription) func(*webhook.WebhookInput) {
	return func(in *webhook.WebhookInput) { in.Subscriptions = subs }
}

// secret is the one that createWebhook was given for a webhook.
func (f *fixture) secret(t testing.TB, webhookID uuid.UUID) webhook.Secret {
	t.Helper()
	s, ok := f.secrets.Load(webhookID)
	require.True(t, ok)
	return s.(webhook.Secret)
}

// sameAs is the change of a webhook that changes nothing yet.
func sameAs(w webhook.Webhook) webhook.WebhookChange {
	w = w.Clone()
	return webhook.WebhookChange{
		Version: w.Version, Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL,
		Status: w.Status, Subscriptions: w.Subscriptions, RateLimit: w.RateLimit,
	}
}

// update changes a webhook, as it is now, by the given edits.
func (f *fixture) update(t testing.TB, webhookID uuid.UUID, edit func(*webhook.WebhookChange)) webhook.Webhook {
	t.Helper()
	w, err := f.manager.Webhook(t.Context(), f.admin, webhookID)
	require.NoError(t, err)
	ch := sameAs(w)
	edit(&ch)
	w, err = f.manager.Update(t.Context(), f.admin, webhookID, ch)
	require.NoError(t, err)
	return w
}

func deactivate(ch *webhook.WebhookChange) { ch.Status = webhook.StatusInactive }
func activate(ch *webhook.WebhookChange)   { ch.Status = webhook.StatusActive }
func resume(ch *webhook.WebhookChange)     { ch.Status, ch.Resume = webhook.StatusActive, true }

// message is an event that the fixture's webhooks are subscribed to.
func (f *fixture) message() webhook.Event {
	return webhook.Event{
		OrganizationID: f.admin.OrganizationID, Type: webhook.EventMessageSent, Subject: f.room,
		Data: map[string]string{"text": "hello"},
	}
}

// publish publishes a message.
func (f *fixture) publish(t testing.TB) webhook.Published {
	t.Helper()
	p, err := f.publisher.Publish(t.Context(), f.message())
	require.NoError(t, err)
	return p
}

// answerOf makes an answer.
func answerOf(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// answers is an endpoint that always gives the same answer.
func answers(status int, body string) doerFunc {
	return func(*http.Request) (*http.Response, error) { return answerOf(status, body), nil }
}

// dispatcher returns one by the fixture's clock that talks to the endpoint.
func (f *fixture) dispatcher(t testing.TB, endpoint webhook.HTTPDoer, opts ...func(*webhook.DispatcherConfig)) *webhook.Dispatcher {
	t.Helper()
	cfg := webhook.DispatcherConfig{HTTPDoer: endpoint}
	if f.clock != nil {
		cfg.Clock = f.clock
	}
	for _, opt := range opts {
		opt(&cfg)
	}
	d, err := webhook.NewDispatcher(f.store, cfg)
	require.NoError(t, err)
	return d
}

// deliver makes one round of attempts, and returns how many there were.
func (f *fixture) deliver(t testing.TB, endpoint webhook.HTTPDoer, opts ...func(*webhook.DispatcherConfig)) int {
	t.Helper()
	n, err := f.dispatcher(t, endpoint, opts...).RunOnce(t.Context())
	require.NoError(t, err)
	return n
}

// onlyAttempt is a schedule under which the first failure is the last.
func onlyAttempt(cfg *webhook.DispatcherConfig) {
	s, err := webhook.NewSchedule()
	if err != nil {
		panic(err)
	}
	cfg.Schedule = s
}

// fail makes one round in which every delivery fails for good.
func (f *fixture) fail(t testing.TB) int {
	t.Helper()
	return f.deliver(t, answers(http.StatusInternalServerError, "out of order"), onlyAttempt)
}

// deliveries returns what the log has of a webhook, oldest first.
func (f *fixture) deliveries(t testing.TB, webhookID uuid.UUID) []webhook.Delivery {
	t.Helper()
	page, err := f.manager.Deliveries(t.Context(), f.admin, webhook.DeliveryQuery{WebhookID: webhookID, Limit: webhook.MaxPageSize})
	require.NoError(t, err)
	require.Empty(t, page.Next)
	slices.Reverse(page.Items)
	return page.Items
}

// states are those of a webhook's deliveries, oldest first.
func (f *fixture) states(t testing.TB, webhookID uuid.UUID) []webhook.DeliveryState {
	t.Helper()
	var out []webhook.DeliveryState
	for _, d := range f.deliveries(t, webhookID) {
		out = append(out, d.State)
	}
	return out
}

// spyStore notes which methods were called, in order, and lets a test fail or
// change the calls.
type spyStore struct {
	webhook.Store

	// before is asked before each call; its error is the call's. It may be nil.
	before func(method string, params any) error

	mu    sync.Mutex
	calls []string
}

func (s *spyStore) called(method string, params any) error {
	s.mu.Lock()
	s.calls = append(s.calls, method)
	s.mu.Unlock()
	if s.before == nil {
		return nil
	}
	return s.before(method, params)
}

// seen returns the calls so far.
func (s *spyStore) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// spied calls through a spy.
func spied[P, R any](ctx context.Context, s *spyStore, name string, p P, method func(context.Context, P) (R, error)) (R, error) {
	if err := s.called(name, &p); err != nil {
		var zero R
		return zero, err
	}
	return method(ctx, p)
}

// spiedIn does the same for methods with a scope.
func spiedIn[P, R any](
	ctx context.Context, s *spyStore, name string, in webhook.Scope, p P, method func(context.Context, webhook.Scope, P) (R, error),
) (R, error) {
	return spied(ctx, s, name, p, func(ctx context.Context, p P) (R, error) { return method(ctx, in, p) })
}

func (s *spyStore) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	return spied(ctx, s, "InsertEvents", p, s.Store.InsertEvents)
}

func (s *spyStore) CreateWebhook(ctx context.Context, p webhook.CreateWebhookParams) error {
	if err := s.called("CreateWebhook", &p); err != nil {
		return err
	}
	return s.Store.CreateWebhook(ctx, p)
}

func (s *spyStore) UpdateWebhook(ctx context.Context, p webhook.UpdateWebhookParams) (webhook.Webhook, error) {
	return spied(ctx, s, "UpdateWebhook", p, s.Store.UpdateWebhook)
}

func (s *spyStore) DeleteWebhook(ctx context.Context, p webhook.DeleteWebhookParams) error {
	if err := s.called("DeleteWebhook", &p); err != nil {
		return err
	}
	return s.Store.DeleteWebhook(ctx, p)
}

func (s *spyStore) Webhook(ctx context.Context, in webhook.Scope, id uuid.UUID) (webhook.Webhook, error) {
	return spiedIn(ctx, s, "Webhook", in, id, s.Store.Webhook)
}

func (s *spyStore) Webhooks(ctx context.Context, in webhook.Scope, q webhook.WebhookQuery) (webhook.Page[webhook.Webhook], error) {
	return spiedIn(ctx, s, "Webhooks", in, q, s.Store.Webhooks)
}

func (s *spyStore) Leased(ctx context.Context, in webhook.Scope, id uuid.UUID, now time.Time) (int, error) {
	if err := s.called("Leased", &id); err != nil {
		return 0, err
	}
	return s.Store.Leased(ctx, in, id, now)
}

func (s *spyStore) Event(ctx context.Context, in webhook.Scope, id uuid.UUID) (webhook.EventRecord, error) {
	return spiedIn(ctx, s, "Event", in, id, s.Store.Event)
}

func (s *spyStore) Delivery(ctx context.Context, in webhook.Scope, id uuid.UUID) (webhook.Delivery, error) {
	return spiedIn(ctx, s, "Delivery", in, id, s.Store.Delivery)
}

func (s *spyStore) Deliveries(ctx context.Context, in webhook.Scope, q webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error) {
	return spiedIn(ctx, s, "Deliveries", in, q, s.Store.Deliveries)
}

func (s *spyStore) Attempts(ctx context.Context, in webhook.Scope, q webhook.AttemptQuery) (webhook.Page[webhook.Attempt], error) {
	return spiedIn(ctx, s, "Attempts", in, q, s.Store.Attempts)
}

func (s *spyStore) Counters(ctx context.Context, in webhook.Scope, q webhook.CounterQuery) ([]webhook.Counter, error) {
	return spiedIn(ctx, s, "Counters", in, q, s.Store.Counters)
}

func (s *spyStore) Redeliver(ctx context.Context, p webhook.RedeliverParams) (webhook.Delivery, error) {
	return spied(ctx, s, "Redeliver", p, s.Store.Redeliver)
}

func (s *spyStore) CancelDelivery(ctx context.Context, p webhook.CancelParams) error {
	if err := s.called("CancelDelivery", &p); err != nil {
		return err
	}
	return s.Store.CancelDelivery(ctx, p)
}

func (s *spyStore) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	return spied(ctx, s, "Recover", p, s.Store.Recover)
}

// spy makes the fixture's manager and publisher call the store through a spy.
func (f *fixture) spy(t testing.TB) *spyStore {
	t.Helper()
	s := &spyStore{Store: f.store}
	var clock webhook.Clock
	if f.clock != nil {
		clock = f.clock
	}
	var err error
	f.manager, err = webhook.NewManager(s, webhook.ManagerConfig{Clock: clock})
	require.NoError(t, err)
	f.publisher, err = webhook.NewPublisher(s, webhook.PublisherConfig{Clock: clock})
	require.NoError(t, err)
	return s
}
