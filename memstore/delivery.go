package memstore

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// delivery is one event for one webhook. An unfinished one is in its webhook's
// open set and in exactly one place: ready or waiting at its webhook, leased at
// the store, or held.
type delivery struct {
	id           uuid.UUID
	order        uint64 // of creation
	hook         *hook
	event        *event
	state        webhook.DeliveryState
	attempts     int
	due          time.Time
	created      time.Time
	finished     time.Time
	redeliveryOf uuid.UUID
	log          timeline[*attempt]

	in *heap[*delivery] // where it is queued, or nil
	at int              // its place there

	// While it is leased: the claim, when it was made, and what is to become
	// of the delivery when its attempt has been logged.
	claim     *webhook.Claim
	claimedAt time.Time
	hold      bool
	cancel    bool
}

// attempt is a row of the log.
type attempt struct {
	webhook.Attempt
	token uuid.UUID
}

func (d *delivery) position() webhook.Position { return webhook.Position{At: d.created, ID: d.id} }

func (a *attempt) position() webhook.Position {
	return webhook.Position{At: a.StartedAt, ID: a.DeliveryID, Number: a.Number}
}

// shown is the state that reads show: what is decided already for a delivery
// whose attempt is still in flight.
func (d *delivery) shown() webhook.DeliveryState {
	switch {
	case d.cancel:
		return webhook.DeliveryCancelled
	case d.hold:
		return webhook.DeliveryHeld
	}
	return d.state
}

func (d *delivery) view() webhook.Delivery {
	v := webhook.Delivery{
		ID: d.id, EventID: d.event.ID, WebhookID: d.hook.ID, OrganizationID: d.hook.OrganizationID,
		EventType: d.event.Type, Subject: d.event.Subject, State: d.shown(), Attempts: d.attempts,
		CreatedAt: d.created, FinishedAt: d.finished, RedeliveryOf: d.redeliveryOf, Test: d.event.Test,
	}
	if !v.State.Finished() {
		v.DueAt = d.due
	}
	if d.claim != nil {
		v.LeasedUntil = d.claim.LeasedUntil
	}
	return v
}

func (a *attempt) view() webhook.Attempt {
	v := a.Attempt
	v.Response = slices.Clone(v.Response)
	return v
}

// addDelivery inserts a delivery of a webhook in the state that fits it.
func (s *Store) addDelivery(h *hook, e *event, now time.Time, redeliveryOf uuid.UUID) *delivery {
	s.created++
	d := &delivery{
		id: s.ids.New(now), order: s.created, hook: h, event: e, state: webhook.DeliveryPending,
		due: now, created: now, redeliveryOf: redeliveryOf, at: -1,
	}
	s.deliveries[d.id] = d
	e.deliveries = append(e.deliveries, d)
	h.org.deliveries.add(d)
	h.deliveries.add(d)
	h.open[d] = struct{}{}
	switch {
	case h.deleted:
		s.finish(d, webhook.DeliveryCancelled, now)
	case h.Status != webhook.StatusActive:
		s.hold(d)
	default:
		s.enqueue(d, now)
	}
	return d
}

// enqueue makes an unleased delivery pending: ready, or waiting until it is due.
func (s *Store) enqueue(d *delivery, now time.Time) {
	s.dequeue(d)
	d.state = webhook.DeliveryPending
	h := d.hook
	if d.due.After(now) {
		s.queueAt(d, &h.waiting)
		s.fixWaiting(h)
	} else {
		s.queueAt(d, &h.ready)
		if h.turn == nil {
			h.turn = s.ready.PushBack(h)
		}
	}
}

func (s *Store) queueAt(d *delivery, q *heap[*delivery]) {
	d.in = q
	q.push(d)
}

// dequeue takes a delivery out of the queue it is in.
func (s *Store) dequeue(d *delivery) {
	if d.in == nil {
		return
	}
	q, h := d.in, d.hook
	q.remove(d.at)
	d.in = nil
	switch {
	case q == &h.waiting:
		s.fixWaiting(h)
	case q == &h.ready && h.ready.len() == 0:
		s.ready.Remove(h.turn)
		h.turn = nil
	}
}

// fixWaiting puts a webhook in its place among those that wait, after its
// earliest delivery has changed.
func (s *Store) fixWaiting(h *hook) {
	switch {
	case h.waiting.len() == 0 && h.waitingAt >= 0:
		s.waiting.remove(h.waitingAt)
	case h.waiting.len() > 0 && h.waitingAt < 0:
		s.waiting.push(h)
	case h.waiting.len() > 0:
		s.waiting.fix(h.waitingAt)
	}
}

// hold keeps a delivery from being attempted: at once, or when the attempt in
// flight has failed.
func (s *Store) hold(d *delivery) {
	if d.claim != nil {
		d.hold = true
		return
	}
	s.dequeue(d)
	d.state = webhook.DeliveryHeld
}

// resume makes a held delivery pending.
func (s *Store) resume(d *delivery, now time.Time) {
	d.hold = false
	if d.claim != nil {
		return
	}
	if d.due.Before(now) {
		d.due = now
	}
	s.enqueue(d, now)
}

// cancel ends a delivery: at once, or when the attempt in flight has been
// logged.
func (s *Store) cancel(d *delivery, now time.Time) {
	if d.claim != nil {
		d.cancel = true
		return
	}
	s.finish(d, webhook.DeliveryCancelled, now)
}

// finish ends an unleased delivery.
func (s *Store) finish(d *delivery, state webhook.DeliveryState, now time.Time) {
	s.dequeue(d)
	d.state, d.finished = state, now
	delete(d.hook.open, d)
}

// logAttempt adds a row to the log and the counters.
func (s *Store) logAttempt(d *delivery, a webhook.Attempt, token uuid.UUID) {
	h := d.hook
	a.DeliveryID, a.EventID, a.WebhookID = d.id, d.event.ID, h.ID
	a.OrganizationID, a.EventType = h.OrganizationID, d.event.Type
	row := &attempt{Attempt: a, token: token}
	row.normalize()
	d.log.add(row)
	h.attempts.add(row)
	h.org.attempts.add(row)

	hour := row.StartedAt.Truncate(time.Hour)
	c := h.counters[hour]
	if c == nil {
		c = &webhook.Counter{Hour: hour}
		h.counters[hour] = c
	}
	c.Add(&row.Attempt)
}

// completeLate turns an interrupted row into what was reported after all.
func (s *Store) completeLate(d *delivery, a webhook.Attempt, token uuid.UUID) {
	for _, row := range d.log.items {
		if row.Number != a.Number || row.token != token || row.Outcome != webhook.OutcomeInterrupted {
			continue
		}
		s.unlog(d, row)
		a.DeliveryID, a.EventID, a.WebhookID = row.DeliveryID, row.EventID, row.WebhookID
		a.OrganizationID, a.EventType, a.Outcome = row.OrganizationID, row.EventType, webhook.OutcomeLate
		row.Attempt = a
		row.normalize()
		d.log.add(row)
		d.hook.attempts.add(row)
		d.hook.org.attempts.add(row)
		return
	}
}

// unlog takes a row out of the log.
func (s *Store) unlog(d *delivery, row *attempt) {
	d.log.remove(row)
	d.hook.attempts.remove(row)
	d.hook.org.attempts.remove(row)
}

func (a *attempt) normalize() {
	a.StartedAt = stored(a.StartedAt)
	a.Response = slices.Clone(a.Response)
}
