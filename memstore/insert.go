package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// ErrTxDone is returned by a transaction that has been committed or rolled back.
var ErrTxDone = errors.New("memstore: transaction has already been committed or rolled back")

// Tx is a transaction for [webhook.Publisher.PublishTx]: what is published in
// it appears as a whole at Commit, or never. It is safe for concurrent use.
//
// As in a database, an insert that names an event id or idempotency key of
// another open transaction waits until that one has ended, or the context has.
type Tx struct {
	store   *Store
	ended   chan struct{}
	done    bool
	inserts []insert
}

// insert is an event on its way into the store.
type insert struct {
	event *event
	hooks []*hook
}

// reservation is an event id, or an idempotency key, that an open transaction
// is about to use.
type reservation struct {
	event        uuid.UUID
	organization string
	key          string
}

// Begin starts a transaction. It must be ended by Commit or Rollback.
func (s *Store) Begin() *Tx { return &Tx{store: s, ended: make(chan struct{})} }

// Commit makes everything of the transaction visible at once.
func (tx *Tx) Commit() error {
	s := tx.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if tx.done {
		return ErrTxDone
	}
	for _, in := range tx.inserts {
		s.apply(in)
	}
	tx.end()
	s.wake()
	return nil
}

// Rollback drops everything of the transaction.
func (tx *Tx) Rollback() error {
	tx.store.mu.Lock()
	defer tx.store.mu.Unlock()
	if tx.done {
		return ErrTxDone
	}
	tx.end()
	return nil
}

func (tx *Tx) end() {
	tx.done = true
	maps.DeleteFunc(tx.store.reserved, func(_ reservation, owner *Tx) bool { return owner == tx })
	tx.inserts = nil
	close(tx.ended)
}

// InsertEventsTx adds events to the transaction.
func (tx *Tx) InsertEventsTx(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	if p.Lease != nil {
		return webhook.InsertResult{}, errors.New("memstore: insert events: a transaction leases nothing")
	}
	if err := tx.store.lockForInsert(ctx, p, tx); err != nil {
		return webhook.InsertResult{}, err
	}
	defer tx.store.mu.Unlock()
	if tx.done {
		return webhook.InsertResult{}, ErrTxDone
	}
	var out webhook.InsertResult
	for _, rec := range p.Events {
		in, result := tx.store.prepare(rec, p, tx)
		if in != nil {
			tx.inserts = append(tx.inserts, *in)
			tx.store.reserved[reservation{event: rec.ID}] = tx
			if rec.IdempotencyKey != "" {
				tx.store.reserved[reservation{organization: rec.OrganizationID, key: rec.IdempotencyKey}] = tx
			}
		}
		out.Events = append(out.Events, result)
	}
	return out, nil
}

// InsertEvents stores events with their deliveries.
func (s *Store) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	if err := s.lockForInsert(ctx, p, nil); err != nil {
		return webhook.InsertResult{}, err
	}
	defer s.mu.Unlock()
	var out webhook.InsertResult
	for _, rec := range p.Events {
		in, result := s.prepare(rec, p, nil)
		if in != nil {
			for _, d := range s.apply(*in) {
				if p.Lease != nil && !s.paused && d.in == &d.hook.ready && p.Lease.Take(d.event.ID, d.hook.ID, d.hook.OrganizationID) {
					out.Claims = append(out.Claims, s.lease(d, d.created, p.Lease.For))
				}
			}
		}
		out.Events = append(out.Events, result)
	}
	s.wake()
	return out, nil
}

// lockForInsert takes the lock once no other transaction has a claim to any of
// the ids and keys. Waiting before anything is written keeps a call whole.
func (s *Store) lockForInsert(ctx context.Context, p webhook.InsertParams, tx *Tx) error {
	for {
		if err := s.lock(ctx, "insert events"); err != nil {
			return err
		}
		other := s.reservedByOther(p.Events, tx)
		if other == nil {
			return nil
		}
		s.mu.Unlock()
		select {
		case <-other.ended:
		case <-ctx.Done():
			return fmt.Errorf("memstore: insert events: waiting for another transaction: %w", ctx.Err())
		}
	}
}

func (s *Store) reservedByOther(events []webhook.EventRecord, tx *Tx) *Tx {
	if len(s.reserved) == 0 {
		return nil
	}
	for i := range events {
		e := &events[i]
		if other := s.reserved[reservation{event: e.ID}]; other != nil && other != tx {
			return other
		}
		if e.IdempotencyKey == "" {
			continue
		}
		if other := s.reserved[reservation{organization: e.OrganizationID, key: e.IdempotencyKey}]; other != nil && other != tx {
			return other
		}
	}
	return nil
}

// prepare decides what becomes of an event: an insert to apply, or nothing.
func (s *Store) prepare(rec webhook.EventRecord, p webhook.InsertParams, tx *Tx) (*insert, webhook.InsertedEvent) {
	if first := s.withKey(rec.OrganizationID, rec.IdempotencyKey, tx); first != nil {
		return nil, webhook.InsertedEvent{EventID: first.ID, Duplicate: true}
	}
	if s.events[rec.ID] != nil || s.reserved[reservation{event: rec.ID}] != nil {
		err := fmt.Errorf("memstore: insert event: id is taken: %w", webhook.ErrConflict)
		return nil, webhook.InsertedEvent{EventID: rec.ID, Err: err}
	}
	var hooks []*hook
	if p.Only != (uuid.UUID{}) {
		h, err := s.hookIn(webhook.Scope{OrganizationID: rec.OrganizationID}, p.Only)
		if err != nil {
			return nil, webhook.InsertedEvent{EventID: rec.ID, Err: err}
		}
		hooks = []*hook{h}
	} else {
		hooks = s.matching(&rec)
	}
	result := webhook.InsertedEvent{EventID: rec.ID, Deliveries: len(hooks)}
	if len(hooks) == 0 && rec.IdempotencyKey == "" {
		return nil, result
	}
	rec.Parents = slices.Clone(rec.Parents)
	rec.Attributes = maps.Clone(rec.Attributes)
	rec.Payload = slices.Clone(rec.Payload)
	rec.OccurredAt = stored(rec.OccurredAt)
	return &insert{&event{EventRecord: rec, insertedAt: stored(p.Now)}, hooks}, result
}

// withKey returns the event that has an idempotency key, in the store or
// earlier in the transaction.
func (s *Store) withKey(organization, key string, tx *Tx) *event {
	if key == "" {
		return nil
	}
	if tx != nil {
		for _, in := range tx.inserts {
			if in.event.OrganizationID == organization && in.event.IdempotencyKey == key {
				return in.event
			}
		}
	}
	return s.read(webhook.Scope{OrganizationID: organization}).keys[key]
}

// matching returns the organization's webhooks that ask for an event, in the
// order of their creation.
func (s *Store) matching(rec *webhook.EventRecord) []*hook {
	org := s.read(webhook.Scope{OrganizationID: rec.OrganizationID})
	var out []*hook
	seen := map[*hook]struct{}{}
	for _, subject := range append([]webhook.Subject{rec.Subject}, rec.Parents...) {
		for h := range org.subscribers[subscription{subject, rec.Type}] {
			if _, ok := seen[h]; !ok && h.Matches(rec) {
				out = append(out, h)
			}
			seen[h] = struct{}{}
		}
	}
	slices.SortFunc(out, func(a, b *hook) int { return a.position().Compare(b.position()) })
	return out
}

// apply writes an event and its deliveries.
func (s *Store) apply(in insert) []*delivery {
	e := in.event
	s.events[e.ID] = e
	if e.IdempotencyKey != "" {
		s.organization(e.OrganizationID).keys[e.IdempotencyKey] = e
	}
	out := make([]*delivery, len(in.hooks))
	for i, h := range in.hooks {
		out[i] = s.addDelivery(h, e, e.insertedAt, uuid.UUID{})
	}
	return out
}

// read returns the organization's records, or empty ones.
func (s *Store) read(scope webhook.Scope) *organization {
	if o := s.orgs[scope.OrganizationID]; o != nil && scope != (webhook.Scope{}) {
		return o
	}
	return &organization{}
}

// lease gives a ready delivery to a dispatcher for one attempt.
func (s *Store) lease(d *delivery, now time.Time, lasting time.Duration) webhook.Claim {
	s.dequeue(d)
	d.attempts++
	d.claimedAt = now
	d.claim = &webhook.Claim{
		DeliveryID: d.id, EventID: d.event.ID, WebhookID: d.hook.ID, OrganizationID: d.hook.OrganizationID,
		EventType: d.event.Type, Test: d.event.Test, Attempt: d.attempts, Token: uuid.New(), DueAt: d.due,
		LeasedUntil: stored(now.Add(lasting)), EndpointURL: d.hook.EndpointURL, Secret: d.hook.secret, RateLimit: d.hook.RateLimit,
		TraceContext: d.event.TraceContext,
	}
	d.hook.leases[d] = struct{}{}
	s.queueAt(d, &s.leased)
	c := *d.claim
	c.Payload = slices.Clone(d.event.Payload)
	return c
}
