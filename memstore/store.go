// Package memstore keeps webhooks, events, deliveries and their log in memory.
//
// It is a complete [webhook.Store], for tests, for examples and for programs
// that may forget everything when they end. Transactions are begun with
// [Store.Begin]. A dispatcher on it needs no polling: the store wakes it.
//
// Claims take O(log n) steps for each delivery they return, whatever else is
// stored, and look at each webhook that has due work once a round.
package memstore

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

var (
	_ webhook.Store      = (*Store)(nil)
	_ webhook.WakeSource = (*Store)(nil)
	_ webhook.TxWriter   = (*Tx)(nil)
)

// Store is an in-memory [webhook.Store]. Use [New]. It is safe for concurrent
// use, starts no goroutines and needs no closing.
type Store struct {
	mu         sync.Mutex
	ids        webhook.IDSource
	created    uint64 // deliveries so far, for their order
	orgs       map[string]*organization
	hooks      map[uuid.UUID]*hook // deleted ones too, while the log refers to them
	events     map[uuid.UUID]*event
	deliveries map[uuid.UUID]*delivery
	reserved   map[reservation]*Tx // by transactions that have not ended

	ready   *list.List      // of *hook: those with due deliveries, next in turn first
	waiting heap[*hook]     // by the earliest delivery that is not due yet
	leased  heap[*delivery] // by the end of the lease
	notices heap[*hook]     // by when their notice is due, or its lease ends

	listeners map[*func()]struct{}
	oversight
}

// organization is what one tenant has.
type organization struct {
	hooks       timeline[*hook] // not the deleted ones
	deliveries  timeline[*delivery]
	attempts    timeline[*attempt]
	keys        map[string]*event // by idempotency key
	subscribers map[subscription]map[*hook]struct{}
}

// subscription is what webhooks are found by.
type subscription struct {
	subject   webhook.Subject
	eventType webhook.EventType
}

// event is a stored event and the deliveries that refer to it.
type event struct {
	webhook.EventRecord
	insertedAt time.Time
	deliveries []*delivery // in the order of their creation
}

// New returns an empty store.
func New() *Store {
	return &Store{
		orgs:       map[string]*organization{},
		hooks:      map[uuid.UUID]*hook{},
		events:     map[uuid.UUID]*event{},
		deliveries: map[uuid.UUID]*delivery{},
		reserved:   map[reservation]*Tx{},
		ready:      list.New(),
		waiting: heap[*hook]{
			less:  func(a, b *hook) bool { return a.waiting.top().due.Before(b.waiting.top().due) },
			moved: func(h *hook, i int) { h.waitingAt = i },
		},
		leased: heap[*delivery]{
			less:  func(a, b *delivery) bool { return a.claim.LeasedUntil.Before(b.claim.LeasedUntil) },
			moved: func(d *delivery, i int) { d.at = i },
		},
		notices: heap[*hook]{
			less:  func(a, b *hook) bool { return a.notice.due.Before(b.notice.due) },
			moved: func(h *hook, i int) { h.noticeAt = i },
		},
		listeners: map[*func()]struct{}{},
	}
}

// lock takes the store's lock, unless the caller's context has ended.
func (s *Store) lock(ctx context.Context, step string) error {
	s.mu.Lock()
	if err := ctx.Err(); err != nil {
		s.mu.Unlock()
		return fmt.Errorf("memstore: %s: %w", step, err)
	}
	return nil
}

// organization returns the organization's records, made at first use.
func (s *Store) organization(id string) *organization {
	o := s.orgs[id]
	if o == nil {
		o = &organization{keys: map[string]*event{}, subscribers: map[subscription]map[*hook]struct{}{}}
		s.orgs[id] = o
	}
	return o
}

// Listen calls wake whenever deliveries or notices may have become due earlier
// than before, until ctx ends.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	s.mu.Lock()
	s.listeners[&wake] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, &wake)
		s.mu.Unlock()
	}()
	wake()
	<-ctx.Done()
	return nil
}

// wake tells the listeners; the lock is held, and they do not block.
func (s *Store) wake() {
	for l := range s.listeners {
		(*l)()
	}
}

// stored is t as the store keeps it.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
