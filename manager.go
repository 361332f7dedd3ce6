package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Role is what an actor may do in its organization.
type Role string

// The roles. The zero Role, and any other text, may do nothing.
const (
	RoleOwner  Role = "owner"  // everything
	RoleAdmin  Role = "admin"  // everything
	RoleViewer Role = "viewer" // lists and reads, without payloads and answers
)

// Actor is who calls, as the host has authenticated them. The zero Actor may do
// nothing.
type Actor struct {
	ID             string // recorded as who created or changed a webhook
	OrganizationID string
	Role           Role
}

// ManagerConfig configures [NewManager]. The zero value works.
type ManagerConfig struct {
	// Dispatcher is the one that runs in this process: it is woken when there
	// is something to deliver, and told to abort attempts of a deleted webhook.
	// Defaults to none.
	Dispatcher *Dispatcher

	// Catalog says which event and subject types webhooks can ask for.
	// Defaults to DefaultCatalog.
	Catalog *Catalog

	// AllowedPrefixes are addresses that endpoints may have although they are
	// not public, for development; with any of them, names that are not public
	// are accepted too. Attempts need the same of [TransportConfig]. Logged at
	// Warn by NewManager. Defaults to none.
	AllowedPrefixes []netip.Prefix

	// MaxWebhooks bounds the webhooks of one organization. Defaults to 100;
	// negative is an error.
	MaxWebhooks int

	// MaxPayloadBytes bounds the body of a test event. Defaults to 256 KiB;
	// negative is an error.
	MaxPayloadBytes int

	// Clock tells when things were changed. Defaults to the Dispatcher's clock,
	// without one to the store's, and else to the system's.
	Clock Clock

	// Logger receives one Warn line for AllowedPrefixes. Defaults to silence.
	Logger *slog.Logger
}

// Manager is what people do with webhooks, by hand or through a program. It is
// the only place that authorizes, and it is safe for concurrent use.
//
// Owners and admins may call every method, viewers Webhook, Webhooks,
// Deliveries, Delivery, Await, Attempts, Counters, Health, InFlight and Explain, and see there
// neither payloads nor the answers of receivers. Every other call is ErrForbidden, before
// anything is read. A record of another organization is ErrNotFound, like a
// missing one.
type Manager struct {
	store      ManagerStore
	dispatcher *Dispatcher
	catalog    *Catalog
	allowed    []netip.Prefix
	maxHooks   int
	maxPayload int
	clock      Clock
	ids        IDSource
}

// NewManager returns a manager on a store.
func NewManager(s ManagerStore, cfg ManagerConfig) (*Manager, error) {
	if s == nil {
		return nil, errors.New("webhook: new manager: the store is nil")
	}
	var faults ValidationErrors
	if cfg.MaxWebhooks < 0 {
		faults.add("max_webhooks", "must not be negative")
	}
	if cfg.MaxPayloadBytes < 0 {
		faults.add("max_payload_bytes", "must not be negative")
	}
	allowed, err := validatePrefixes("allowed_prefixes", cfg.AllowedPrefixes)
	var prefixFaults ValidationErrors
	if errors.As(err, &prefixFaults) {
		faults = append(faults, prefixFaults...)
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	if cfg.MaxWebhooks == 0 {
		cfg.MaxWebhooks = DefaultMaxWebhooks
	}
	if cfg.MaxPayloadBytes == 0 {
		cfg.MaxPayloadBytes = DefaultMaxPayloadBytes
	}
	if len(allowed) > 0 {
		loggerOrSilent(cfg.Logger).Warn("webhook: endpoints may have addresses that are not public", "allowed_prefixes", fmt.Sprint(allowed))
	}
	return &Manager{
		store: s, dispatcher: cfg.Dispatcher, catalog: catalogOrDefault(cfg.Catalog), allowed: allowed,
		maxHooks: cfg.MaxWebhooks, maxPayload: cfg.MaxPayloadBytes, clock: clockOr(cfg.Clock, cfg.Dispatcher, s),
	}, nil
}

// Catalog returns the subject types and event types that webhooks can ask for.
func (m *Manager) Catalog() *Catalog { return m.catalog }

// mayChange returns the scope of an actor who may do everything.
func mayChange(a Actor) (Scope, error) {
	s, contents, err := mayRead(a)
	if err == nil && !contents {
		return Scope{}, ErrForbidden
	}
	return s, err
}

// mayRead returns the scope of an actor who may read, and whether that includes
// payloads and answers.
func mayRead(a Actor) (s Scope, contents bool, err error) {
	contents = a.Role == RoleOwner || a.Role == RoleAdmin
	if a.OrganizationID == "" || !contents && a.Role != RoleViewer {
		return Scope{}, false, ErrForbidden
	}
	var faults ValidationErrors
	checkID(&faults, "organization_id", a.OrganizationID, true)
	return Scope{a.OrganizationID}, contents, faults.err()
}

func (m *Manager) now() time.Time { return storedTime(m.clock.Now()) }

func (m *Manager) wake() {
	if m.dispatcher != nil {
		m.dispatcher.Wake()
	}
}

// Create registers a webhook, active at once, and returns its secret, which
// nothing returns again.
//
// Everything wrong with the input is in one [ValidationErrors]; an endpoint
// that webhooks may not be sent to is ErrDestinationNotAllowed as well. If the
// input's IdempotencyKey is taken, Create changes nothing and returns ErrConflict,
// with the webhook that has it, without a secret; if that has been deleted, with
// the zero Webhook.
func (m *Manager) Create(ctx context.Context, a Actor, in WebhookInput) (Webhook, Secret, error) {
	scope, err := mayChange(a)
	if err != nil {
		return Webhook{}, Secret{}, err
	}
	in, faults, endpointErr := checkWebhook(in, nil, m.catalog, m.allowed)
	checkID(&faults, "idempotency_key", in.IdempotencyKey, false)
	checkID(&faults, "actor_id", a.ID, false)
	if err := refusal(faults, endpointErr); err != nil {
		return Webhook{}, Secret{}, err
	}
	secret, err := NewSecret()
	if err != nil {
		return Webhook{}, Secret{}, fmt.Errorf("webhook: create: %w", err)
	}
	now := m.now()
	w := Webhook{
		ID: m.ids.New(now), OrganizationID: scope.OrganizationID, Name: in.Name, Description: in.Description,
		EndpointURL: in.EndpointURL, Status: StatusActive, Subscriptions: in.Subscriptions, RateLimit: in.RateLimit,
		StatusSince: now, Version: 1, CreatedAt: now, UpdatedAt: now, CreatedBy: a.ID, UpdatedBy: a.ID,
	}
	if in.IdempotencyKey != "" {
		w.ID = idOfKey(scope, in.IdempotencyKey)
	}
	err = m.store.CreateWebhook(ctx, CreateWebhookParams{Webhook: w, Secret: secret, MaxPerOrganization: m.maxHooks})
	if errors.Is(err, ErrConflict) && in.IdempotencyKey != "" {
		first, readErr := m.store.Webhook(ctx, scope, w.ID)
		if readErr != nil && !errors.Is(readErr, ErrNotFound) {
			return Webhook{}, Secret{}, fmt.Errorf("webhook: create: %w", readErr)
		}
		return first, Secret{}, fmt.Errorf("webhook: create: the idempotency key is taken: %w", err)
	}
	if err != nil {
		return Webhook{}, Secret{}, fmt.Errorf("webhook: create: %w", err)
	}
	return w.Clone(), secret, nil
}

// refusal joins the faults of a webhook with the sentinel of its endpoint.
func refusal(faults ValidationErrors, endpointErr error) error {
	if len(faults) > 0 && errors.Is(endpointErr, ErrDestinationNotAllowed) {
		return fmt.Errorf("%w: %w", ErrDestinationNotAllowed, faults)
	}
	return faults.err()
}

// Update replaces everything of a webhook that can be changed: later attempts
// go to the new endpoint, unfinished deliveries of what is no longer subscribed
// are cancelled, those of an inactive webhook are held. What has been claimed
// before may still be attempted, to the old endpoint; InFlight says when nothing
// is any more.
//
// It returns ErrConflict if the webhook has changed since ch.Version, and
// ValidationErrors and ErrDestinationNotAllowed as Create does. A webhook can be
// made inactive, and stays editable so, with the endpoint and the subscriptions that
// it has, even if other settings or another catalog would not accept them any more.
func (m *Manager) Update(ctx context.Context, a Actor, id uuid.UUID, ch WebhookChange) (Webhook, error) {
	scope, err := mayChange(a)
	if err != nil {
		return Webhook{}, err
	}
	in, err := m.checkChange(a, ch, nil)
	if err != nil {
		// A webhook that the actor cannot see is missing, whatever is wrong
		// with the change.
		w, readErr := m.store.Webhook(ctx, scope, id)
		if errors.Is(readErr, ErrNotFound) {
			return Webhook{}, ErrNotFound
		}
		if readErr == nil && ch.Status == StatusInactive && w.Version >= ch.Version {
			in, err = m.checkChange(a, ch, &w)
		}
	}
	if err != nil {
		return Webhook{}, err
	}
	ch.Name, ch.Description, ch.EndpointURL, ch.Subscriptions = in.Name, in.Description, in.EndpointURL, in.Subscriptions
	w, err := m.store.UpdateWebhook(ctx, UpdateWebhookParams{Scope: scope, ID: id, Change: ch, Now: m.now(), By: a.ID})
	if err != nil {
		return Webhook{}, fmt.Errorf("webhook: update: %w", err)
	}
	m.wake()
	return w, nil
}

// checkChange validates a change, but for what has has already, if it is not nil.
func (m *Manager) checkChange(a Actor, ch WebhookChange, has *Webhook) (WebhookInput, error) {
	in, faults, endpointErr := checkWebhook(WebhookInput{
		Name: ch.Name, Description: ch.Description, EndpointURL: ch.EndpointURL, Subscriptions: ch.Subscriptions, RateLimit: ch.RateLimit,
	}, has, m.catalog, m.allowed)
	checkID(&faults, "actor_id", a.ID, false)
	if ch.Version < 1 {
		faults.add("version", "must be the version that was read")
	}
	if ch.Status != StatusActive && ch.Status != StatusInactive {
		faults.add("status", fmt.Sprintf("must be %q or %q", StatusActive, StatusInactive))
	}
	if ch.Resume && ch.Status == StatusInactive {
		faults.add("resume", "needs an active webhook")
	}
	return in, refusal(faults, endpointErr)
}

// Delete removes a webhook. From the first step on nothing new is attempted;
// then Delete waits until the attempts that were in flight have ended, which
// the dispatcher of this process aborts at once. When it returns nil, nothing
// more reaches the endpoint. (The exception: a process that is stopped between
// its last look at a lease and the write of the request, and goes on after the
// lease has run out.)
//
// It returns ErrStillInFlight if ctx ends, or the store fails, while it waits:
// the deletion stands all the same, and calling Delete again goes on waiting.
// Once nothing is in flight any more, that is ErrNotFound. Without a deadline it waits no longer than
// leases last by the Clock, which for one that is moved by hand may be for ever.
func (m *Manager) Delete(ctx context.Context, a Actor, id uuid.UUID) error {
	scope, err := m.remove(ctx, a, id)
	if err != nil {
		return err
	}
	return m.awaitFlights(ctx, scope, id)
}

// DeleteWithin is Delete for callers that are waited for themselves: it waits for
// attempts in flight no longer than the given time, and then returns
// ErrStillInFlight. The time begins when the deletion stands, so that it does not
// cut off the deletion itself, however long that takes.
func (m *Manager) DeleteWithin(ctx context.Context, a Actor, id uuid.UUID, wait time.Duration) error {
	scope, err := m.remove(ctx, a, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return m.awaitFlights(ctx, scope, id)
}

// remove is the first step of a deletion, after which it stands.
func (m *Manager) remove(ctx context.Context, a Actor, id uuid.UUID) (Scope, error) {
	scope, err := mayChange(a)
	if err != nil {
		return Scope{}, err
	}
	err = m.store.DeleteWebhook(ctx, DeleteWebhookParams{Scope: scope, ID: id, Now: m.now()})
	if errors.Is(err, ErrNotFound) {
		// Deleted before, perhaps, with attempts that nobody has waited for to the end.
		if n, leasedErr := m.store.Leased(ctx, scope, id, m.now()); leasedErr == nil && n > 0 {
			err = nil
		}
	}
	if err != nil {
		return Scope{}, fmt.Errorf("webhook: delete: %w", err)
	}
	m.wake()
	return scope, nil
}

// awaitFlights returns when no attempt of a deleted webhook is in flight.
func (m *Manager) awaitFlights(ctx context.Context, scope Scope, id uuid.UUID) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if m.dispatcher != nil {
			m.dispatcher.abort(id)
		}
		n, err := m.store.Leased(ctx, scope, id, m.now())
		if errors.Is(err, ErrNotFound) || err == nil && n == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("webhook: delete: counting attempts: %w: %w", ErrStillInFlight, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("webhook: delete: %d of them: %w: %w", n, ErrStillInFlight, ctx.Err())
		}
	}
}

// InFlight returns how many attempts of a webhook may be in flight, those of
// processes that have died included until their leases run out. The webhook may
// have been deleted: this is what Delete waits for.
func (m *Manager) InFlight(ctx context.Context, a Actor, webhookID uuid.UUID) (int, error) {
	scope, _, err := mayRead(a)
	if err != nil {
		return 0, err
	}
	n, err := m.store.Leased(ctx, scope, webhookID, m.now())
	if err != nil {
		return 0, fmt.Errorf("webhook: in flight: %w", err)
	}
	return n, nil
}

// Webhook returns one webhook, or ErrNotFound.
func (m *Manager) Webhook(ctx context.Context, a Actor, id uuid.UUID) (Webhook, error) {
	scope, _, err := mayRead(a)
	if err != nil {
		return Webhook{}, err
	}
	w, err := m.store.Webhook(ctx, scope, id)
	if err != nil {
		return Webhook{}, fmt.Errorf("webhook: read: %w", err)
	}
	return w, nil
}

// Webhooks lists the organization's webhooks, newest first. A cursor that is
// not of this query is ErrInvalidCursor, a limit out of bounds is
// [ValidationErrors]; so in the other lists.
func (m *Manager) Webhooks(ctx context.Context, a Actor, q WebhookQuery) (Page[Webhook], error) {
	return list(ctx, a, q, m.store.Webhooks, nil)
}

// Deliveries lists deliveries, newest first. It returns ErrNotFound if the
// query names a webhook that the organization never had; a deleted one's
// deliveries stay until retention takes them.
func (m *Manager) Deliveries(ctx context.Context, a Actor, q DeliveryQuery) (Page[Delivery], error) {
	return list(ctx, a, q, m.store.Deliveries, func(d *Delivery) { d.Payload = nil })
}

// Attempts lists the delivery log, newest first: every request that was made,
// by webhook, by delivery or for the whole organization. Viewers get it without
// the receivers' answers. ErrNotFound as in Deliveries, and for a delivery.
func (m *Manager) Attempts(ctx context.Context, a Actor, q AttemptQuery) (Page[Attempt], error) {
	return list(ctx, a, q, m.store.Attempts, func(at *Attempt) { at.Response, at.ResponseTruncated = nil, false })
}

// list is what the three lists have in common. conceal removes from an item
// what viewers do not see.
func list[Q Query, T any](
	ctx context.Context, a Actor, q Q, read func(context.Context, Scope, Q) (Page[T], error), conceal func(*T),
) (Page[T], error) {
	scope, contents, err := mayRead(a)
	if err != nil {
		return Page[T]{}, err
	}
	if err := checkQuery(q); err != nil {
		return Page[T]{}, err
	}
	page, err := read(ctx, scope, q)
	if err != nil {
		return Page[T]{}, fmt.Errorf("webhook: list: %w", err)
	}
	if !contents && conceal != nil {
		for i := range page.Items {
			conceal(&page.Items[i])
		}
	}
	return page, nil
}

// Delivery returns one delivery, for owners and admins with its payload.
func (m *Manager) Delivery(ctx context.Context, a Actor, id uuid.UUID) (Delivery, error) {
	scope, contents, err := mayRead(a)
	if err != nil {
		return Delivery{}, err
	}
	d, err := m.store.Delivery(ctx, scope, id)
	if err != nil {
		return Delivery{}, fmt.Errorf("webhook: read delivery: %w", err)
	}
	if !contents {
		d.Payload = nil
	}
	return d, nil
}

// Counters returns a webhook's hourly counts, oldest first, for rates and
// charts. It returns [ValidationErrors] if Since is not before Before.
func (m *Manager) Counters(ctx context.Context, a Actor, q CounterQuery) ([]Counter, error) {
	scope, _, err := mayRead(a)
	if err != nil {
		return nil, err
	}
	var faults ValidationErrors
	checkSpan(&faults, q.Since, q.Before)
	if err := faults.err(); err != nil {
		return nil, err
	}
	cs, err := m.store.Counters(ctx, scope, q)
	if err != nil {
		return nil, fmt.Errorf("webhook: counters: %w", err)
	}
	return cs, nil
}

// Redeliver sends a finished delivery's event again, by a new delivery with
// attempts of its own; of an inactive webhook it is held. It returns
// ErrConflict if the delivery is not finished, its payload has been purged or
// its webhook deleted.
func (m *Manager) Redeliver(ctx context.Context, a Actor, deliveryID uuid.UUID) (Delivery, error) {
	scope, err := mayChange(a)
	if err != nil {
		return Delivery{}, err
	}
	d, err := m.store.Redeliver(ctx, RedeliverParams{Scope: scope, DeliveryID: deliveryID, Now: m.now()})
	if err != nil {
		return Delivery{}, fmt.Errorf("webhook: redeliver: %w", err)
	}
	m.wake()
	return d, nil
}

// Cancel ends a delivery that is pending or held. An attempt in flight ends by
// itself and is logged, but is the last. It returns ErrConflict if the delivery
// is finished.
func (m *Manager) Cancel(ctx context.Context, a Actor, deliveryID uuid.UUID) error {
	scope, err := mayChange(a)
	if err != nil {
		return err
	}
	if err := m.store.CancelDelivery(ctx, CancelParams{Scope: scope, DeliveryID: deliveryID, Now: m.now()}); err != nil {
		return fmt.Errorf("webhook: cancel: %w", err)
	}
	return nil
}

// SendTest sends the catalog's sample of an event type to one webhook, by the
// same queue, signature, guard and log as any event, with "test": true in the
// payload. It is one attempt: if that fails, the delivery has failed, without a
// retry and without a notice, unless a 410 Gone makes the webhook inactive, see
// DispatcherConfig.DeactivateOnGone. SendTest does not wait for it: [Manager.Await] does,
// and what was answered is in the log of the delivery.
//
// The webhook need not be subscribed to the type. It must be active, and have a
// subscription, since the event's subject is that of the first one; else it is
// ErrConflict.
func (m *Manager) SendTest(ctx context.Context, a Actor, webhookID uuid.UUID, t EventType) (Delivery, error) {
	scope, err := mayChange(a)
	if err != nil {
		return Delivery{}, err
	}
	w, err := m.store.Webhook(ctx, scope, webhookID)
	if err != nil {
		return Delivery{}, fmt.Errorf("webhook: send test: %w", err)
	}
	if w.Status != StatusActive {
		return Delivery{}, fmt.Errorf("webhook: send test: the webhook is inactive: %w", ErrConflict)
	}
	if len(w.Subscriptions) == 0 { // no Manager stores such a webhook, but a store takes it from others
		return Delivery{}, fmt.Errorf("webhook: send test: the webhook has no subscription: %w", ErrConflict)
	}
	info, ok := m.catalog.EventType(t)
	if !ok {
		return Delivery{}, ValidationErrors{{"event_type", notOffered("an event type", string(t))}}
	}
	now := m.now()
	rec, err := newRecord(Event{
		ID: m.ids.New(now), OrganizationID: w.OrganizationID, Type: t, Subject: w.Subscriptions[0].Subject,
		OccurredAt: now, Data: info.Sample,
	}, m.catalog, true, m.maxPayload)
	if err != nil {
		return Delivery{}, err
	}
	inserted, err := m.store.InsertEvents(ctx, InsertParams{Events: []EventRecord{rec}, Now: now, Only: w.ID})
	if err == nil && len(inserted.Events) == 1 {
		err = inserted.Events[0].Err
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("webhook: send test: %w", err)
	}
	m.wake()
	page, err := m.store.Deliveries(ctx, scope, DeliveryQuery{WebhookID: w.ID, EventID: rec.ID, Limit: 1})
	if err != nil {
		return Delivery{}, fmt.Errorf("webhook: send test: %w", err)
	}
	if len(page.Items) == 0 {
		return Delivery{}, fmt.Errorf("webhook: send test: %w", ErrNotFound) // deleted and purged meanwhile
	}
	return page.Items[0], nil
}
