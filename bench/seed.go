package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// table is what one of sqlstore's tables is filled with.
type table struct {
	name    string
	columns []string
	rows    iter.Seq[[]any]
}

// seedID returns the id of a row that is not made by the library: in the order of
// their times, and one for each kind, number and millisecond.
func seedID(kind byte, i int, at time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000)
	id[8] = 0x80 | kind
	binary.BigEndian.PutUint32(id[12:], uint32(i))
	return id
}

// The kinds of ids.
const (
	seedEvent    = 1
	seedDelivery = 2
)

// seed is open deliveries that nobody published: rows written as fast as the
// database takes them.
type seed struct {
	n        int
	shared   bool // an event goes to all the targets of its organization, instead of one each
	attempts int  // that have been made, though the log does not have them

	// wait is how long after now a delivery waits to fall due; nil means that all
	// of them are ready.
	wait func(i int) time.Duration
}

// tomorrow is when deliveries fall due that are in the way, and nothing else.
func tomorrow(int) time.Duration { return 24 * time.Hour }

// seed fills the queue with deliveries for the targets in turn.
func (b *bench) seed(ctx context.Context, db *database, targets []target, s seed) error {
	if s.n == 0 {
		return nil
	}
	began := time.Now()
	switch {
	case db.fill != nil:
		for _, t := range s.tables(targets, b.organizations, time.Now().UTC().Truncate(time.Microsecond)) {
			if err := db.fill(ctx, t); err != nil {
				return fmt.Errorf("fill %s: %w", t.name, err)
			}
		}
	case s.wait == nil:
		if err := fill(ctx, db.store, targets, s.n); err != nil {
			return err
		}
	default:
		if err := postpone(ctx, db.store, targets, s); err != nil {
			return err
		}
	}
	b.log.Info("seeded", "deliveries", s.n, "seconds", number(time.Since(began).Seconds()))
	return nil
}

// eventOf says which event a delivery is of, and which target is its owner.
func (s seed) eventOf(i, targets, organizations int) (event, owner int) {
	if !s.shared {
		return i, i % targets
	}
	organizations = min(organizations, targets) // the targets are dealt out to them in turn
	return i/targets*organizations + i%targets%organizations, i % targets % organizations
}

// The phases of sqlstore's queue.
const (
	phaseReady   = 0
	phaseWaiting = 1
)

// tables are the seed's rows.
func (s seed) tables(targets []target, organizations int, now time.Time) []table {
	at := now.UnixMicro()
	return []table{
		{
			"posthorn_events",
			[]string{
				"id", "organization_id", "event_type", "subject_type", "subject_id", "occurred_at", "test", "inserted_at", "payload_at",
				"insert_token", "payload",
			},
			func(yield func([]any) bool) {
				last := -1
				for i := range s.n {
					event, owner := s.eventOf(i, len(targets), organizations)
					if event <= last {
						continue
					}
					last = event
					id, t := seedID(seedEvent, event, now), &targets[owner]
					if !yield([]any{
						id, t.webhook.OrganizationID, string(webhook.EventMessageSent), string(t.subject().Type), t.subject().ID,
						at, int16(0), at, at, id, payload(t, id),
					}) {
						return
					}
				}
			},
		},
		{
			"posthorn_deliveries",
			[]string{"id", "event_id", "webhook_id", "organization_id", "event_type", "state", "attempts", "created_at"},
			func(yield func([]any) bool) {
				for i := range s.n {
					event, _ := s.eventOf(i, len(targets), organizations)
					w := &targets[i%len(targets)].webhook
					if !yield([]any{
						seedID(seedDelivery, i, now), seedID(seedEvent, event, now), w.ID, w.OrganizationID, string(webhook.EventMessageSent),
						int16(0), int16(0), at,
					}) {
						return
					}
				}
			},
		},
		{
			"posthorn_queue",
			[]string{"delivery_id", "event_id", "webhook_id", "epoch", "test", "phase", "attempts", "due_at", "wake_at", "cancelled"},
			func(yield func([]any) bool) {
				for i := range s.n {
					event, _ := s.eventOf(i, len(targets), organizations)
					phase, due := int16(phaseReady), at
					if s.wait != nil {
						phase, due = phaseWaiting, now.Add(s.wait(i)).UnixMicro()
					}
					if !yield([]any{
						seedID(seedDelivery, i, now), seedID(seedEvent, event, now), targets[i%len(targets)].webhook.ID, int64(1), int16(0),
						phase, int16(s.attempts), due, due, int16(0),
					}) {
						return
					}
				}
			},
		},
	}
}

// fill stores n events for the targets in turn.
func fill(ctx context.Context, store webhook.EventWriter, targets []target, n int) error {
	var ids webhook.IDSource
	for first := 0; first < n; first += insertBatch {
		p := webhook.InsertParams{Now: time.Now()}
		for i := first; i < min(first+insertBatch, n); i++ {
			p.Events = append(p.Events, record(&targets[i%len(targets)], ids.New(p.Now), p.Now))
		}
		r, err := store.InsertEvents(ctx, p)
		if err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
		for _, e := range r.Events {
			if e.Err != nil || e.Deliveries != 1 {
				return fmt.Errorf("insert events: one made %d deliveries: %w", e.Deliveries, e.Err)
			}
		}
	}
	return nil
}

// insertBatch is how many events are stored by one call.
const insertBatch = 1000

// postpone is seed for deliveries that wait, by the store's own methods.
func postpone(ctx context.Context, store webhook.Store, targets []target, s seed) error {
	for done := 0; done < s.n; {
		batch := min(s.n-done, 5000)
		if err := fill(ctx, store, targets, batch); err != nil {
			return err
		}
		now := time.Now().UTC()
		got, err := store.Claim(ctx, webhook.ClaimParams{Now: now, LeaseFor: time.Hour, Limit: batch, PerWebhook: batch, UnlistedLimit: batch})
		if err != nil {
			return err
		}
		release := webhook.ReleaseParams{Now: now}
		for i, c := range got.Claims {
			release.Claims = append(release.Claims, webhook.ReleasedClaim{DeliveryID: c.DeliveryID, Token: c.Token, NotBefore: now.Add(s.wait(done + i))})
		}
		if len(release.Claims) != batch {
			return fmt.Errorf("%w: %d of %d deliveries could be claimed", errMissing, len(release.Claims), batch)
		}
		if _, err := store.Release(ctx, release); err != nil {
			return err
		}
		done += batch
	}
	return nil
}
