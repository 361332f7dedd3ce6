package sqlstore

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// idSlack is how much earlier than its id says a delivery may have been
// finished or attempted: the clocks of hosts differ.
const idSlack = time.Minute

// Purge deletes what has been kept long enough. Each kind is a short transaction
// of its own, passes over rows that somebody else has locked, and waits for
// nobody. One that fails does not keep the others.
//
// There is no index on when deliveries were finished, nor on when attempts were
// made, which every delivery would have to pay for. Both are gone through in the
// order of ids instead, which is that of their creation: what is old enough comes
// first, with little between that stays. What is held may be much, so deliveries are
// gone through once a round, see purgeRound.
func (s *Store) Purge(ctx context.Context, p webhook.PurgeParams) (webhook.PurgeResult, error) {
	p.Limit = max(0, p.Limit)
	var out webhook.PurgeResult
	var errs []error
	// Rows follow their webhook first, so that what is stored is what reads show.
	for left := p.Limit; ; {
		swept, err := s.Sweep(ctx, webhook.SweepParams{Now: p.Now, Limit: left})
		errs = append(errs, err)
		if left -= swept.Moved; swept.More && left <= 0 {
			out.More = true
			return out, errors.Join(errs...)
		}
		if !swept.More {
			break
		}
	}
	var round purgeRound
	for _, kind := range []struct {
		step   string
		before time.Time
		purge  func(session, context.Context, *webhook.PurgeParams) (webhook.PurgeResult, error)
	}{
		{"purge held deliveries", p.HeldBefore, session.purgeHeld},
		{purgeDeliveriesStep, p.DeliveriesBefore, func(c session, ctx context.Context, p *webhook.PurgeParams) (out webhook.PurgeResult, err error) {
			out, round, err = c.purgeDeliveries(ctx, p, s.purging.get())
			return out, err
		}},
		{"purge events", p.DeliveriesBefore, func(c session, ctx context.Context, p *webhook.PurgeParams) (webhook.PurgeResult, error) {
			return c.purgeUnmatched(ctx, p, p.Limit-out.Events)
		}},
		{"purge attempts", p.AttemptsBefore, session.purgeAttempts},
		{"purge payloads", p.PayloadsBefore, session.purgePayloads},
		{"purge webhooks", p.DeliveriesBefore, session.purgeWebhooks},
	} {
		if kind.before.IsZero() {
			continue
		}
		var got webhook.PurgeResult
		if err := s.write(ctx, kind.step, func(c session) (err error) {
			got, err = kind.purge(c, ctx, &p)
			return err
		}); err != nil {
			if errs = append(errs, err); ctx.Err() != nil {
				break
			}
			continue
		}
		if kind.step == purgeDeliveriesStep {
			s.purging.set(round)
		}
		out.HeldCancelled += got.HeldCancelled
		out.Deliveries += got.Deliveries
		out.Events += got.Events
		out.Attempts += got.Attempts
		out.Payloads += got.Payloads
		out.More = out.More || got.More
	}
	if err := errors.Join(errs...); err != nil {
		return out, err
	}
	if total, done := s.purging.add(out); done {
		return out, s.notePurge(ctx, p.Now, total)
	}
	return out, nil
}

// purgeDeliveriesStep is the one that is gone through in rounds.
const purgeDeliveriesStep = "purge deliveries"

// purgeRound is how far this process has come in going through old deliveries. The
// next batch begins there, or each would walk over all that are held before it. The
// zero value begins a round.
type purgeRound struct {
	after  uuid.UUID
	before int64 // what was old enough when the round began
}

// purging keeps the round, and what has been deleted since the last call that left
// nothing.
type purging struct {
	mu    sync.Mutex
	round purgeRound
	total webhook.PurgeResult
}

// add counts what a call has deleted. If it has left nothing, it returns the total
// and begins anew.
func (r *purging) add(p webhook.PurgeResult) (total webhook.PurgeResult, done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	total = r.total.Plus(p)
	if p.More {
		r.total = total
		return total, false
	}
	r.total = webhook.PurgeResult{}
	return total, true
}

func (r *purging) get() purgeRound {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.round
}

func (r *purging) set(round purgeRound) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round = round
}

// batch cuts off the one row more that was asked for to know whether there are
// more.
func batch[T any](found []T, limit int) (_ []T, more bool) {
	if len(found) > limit {
		return found[:limit], true
	}
	return found, false
}

// firstID is the smallest id that an IDSource makes at a time.
func firstID(at time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, at.UnixMilli()))<<16|0x7000)
	id[8] = 0x80
	return id
}

// createdBefore bounds the ids of what was finished, attempted or created before
// a time.
func (d Dialect) createdBefore(t time.Time) any { return d.id(firstID(t.Add(idSlack))) }

// idRows are rows of an id each.
func (d Dialect) idRows(ids []uuid.UUID) *rows {
	x := d.rows()
	for _, id := range ids {
		x.add().id("id", id)
	}
	return x
}

// distinct returns ids in their order, each once. Whoever locks rows in this
// order waits for nobody who does the same and waits for him.
func distinct(ids []uuid.UUID) []uuid.UUID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// purgeHeld cancels held deliveries. They are found without locks, and then
// locked with their webhooks: one that is being resumed is somebody else's.
func (c session) purgeHeld(ctx context.Context, p *webhook.PurgeParams) (out webhook.PurgeResult, err error) {
	const held = "q.phase <> 2 and w.deleted_at is null and not " + live
	found, err := query(ctx, c, plain[uuid.UUID], `select q.delivery_id
		from {queue} q join {webhooks} w on {key w.id = q.webhook_id}
		where q.delivery_id < ? and (select d.created_at from {deliveries} d where d.id = q.delivery_id) < ? and `+held+` order by q.delivery_id limit ?`,
		c.d.createdBefore(p.HeldBefore), notBefore(p.HeldBefore), p.Limit+1)
	if err != nil {
		return out, err
	}
	found, out.More = batch(found, p.Limit)
	if len(found) == 0 {
		return out, nil
	}
	ended, err := query(ctx, c, func(scan func(...any) error, r *closing) error {
		r.state = stateCancelled
		return scan(&r.id, &r.attempts)
	}, `select q.delivery_id, q.attempts from {rows x id uuid} {join queue q} join {webhooks} w on {key w.id = q.webhook_id}
		where {key q.delivery_id = x.id} and `+held+` {for update} {skip locked}`, c.d.idRows(found))
	if err != nil {
		return out, err
	}
	out.HeldCancelled = len(ended)
	return out, c.close(ctx, ended, stored(p.Now))
}

// purgeDeliveries deletes finished deliveries with their attempts, and then those
// of their events that nothing refers to any more. It returns where the next batch
// goes on.
func (c session) purgeDeliveries(ctx context.Context, p *webhook.PurgeParams, round purgeRound) (out webhook.PurgeResult, next purgeRound, err error) {
	type delivery struct{ id, eventID uuid.UUID }
	before := notBefore(p.DeliveriesBefore)
	if round.after == (uuid.UUID{}) {
		round.before = before
	}
	found, err := query(ctx, c, func(scan func(...any) error, d *delivery) error { return scan(&d.id, &d.eventID) },
		`select id, event_id from {deliveries} where id > ? and id < ? and finished_at < ? order by id limit ? {for update} {skip locked}`,
		c.d.anyID(round.after), c.d.createdBefore(p.DeliveriesBefore), before, p.Limit+1)
	if err != nil {
		return out, round, err
	}
	found, out.More = batch(found, p.Limit)
	switch {
	case out.More && len(found) > 0:
		next = purgeRound{found[len(found)-1].id, round.before}
	case !out.More && before > round.before: // something that was passed over has become old enough
		out.More = true
	}
	if len(found) == 0 {
		return out, next, nil
	}
	// Who holds an event's lock may delete its deliveries or add to them. Without
	// it, two who delete one each would both leave the event to the other.
	var events []uuid.UUID
	for _, d := range found {
		events = append(events, d.eventID)
	}
	events, err = query(ctx, c, plain[uuid.UUID],
		"select e.id from {rows x id uuid} {join events e} where {key e.id = x.id} {for update} {skip locked}", c.d.idRows(distinct(events)))
	if err != nil {
		return out, next, err
	}
	mine := map[uuid.UUID]bool{}
	for _, id := range events {
		mine[id] = true
	}
	x := c.d.rows()
	for _, d := range found {
		if mine[d.eventID] {
			x.add().id("id", d.id)
			out.Deliveries++
		}
	}
	if _, err := c.deleteRows(ctx, "attempts", "id uuid", x, "{key t.delivery_id = x.id}"); err != nil {
		return out, next, err
	}
	if _, err := c.deleteRows(ctx, "deliveries", "id uuid", x, "{key t.id = x.id}"); err != nil {
		return out, next, err
	}
	unused, err := query(ctx, c, plain[uuid.UUID], `select e.id from {rows x id uuid} {join events e}
		where {key e.id = x.id} and e.inserted_at < ? and (select d.id from {deliveries} d where d.event_id = e.id limit 1) is null`,
		c.d.idRows(events), notBefore(p.DeliveriesBefore))
	if err != nil {
		return out, next, err
	}
	out.Events = len(unused)
	_, err = c.deleteRows(ctx, "events", "id uuid", c.d.idRows(unused), "{key t.id = x.id}")
	return out, next, err
}

// purgeUnmatched deletes events that never had a delivery, and were kept for
// their idempotency keys.
func (c session) purgeUnmatched(ctx context.Context, p *webhook.PurgeParams, limit int) (out webhook.PurgeResult, err error) {
	found, err := query(ctx, c, plain[uuid.UUID],
		"select id from {events} where unmatched_at < ? order by unmatched_at limit ? {for update} {skip locked}",
		notBefore(p.DeliveriesBefore), limit+1)
	if err != nil {
		return out, err
	}
	found, out.More = batch(found, limit)
	out.Events = len(found)
	_, err = c.deleteRows(ctx, "events", "id uuid", c.d.idRows(found), "{key t.id = x.id}")
	return out, err
}

// purgeAttempts deletes attempts of finished deliveries.
func (c session) purgeAttempts(ctx context.Context, p *webhook.PurgeParams) (out webhook.PurgeResult, err error) {
	type attempt struct {
		id     uuid.UUID
		number int64
	}
	found, err := query(ctx, c, func(scan func(...any) error, a *attempt) error { return scan(&a.id, &a.number) },
		`select a.delivery_id, a.number from {attempts} a
		where a.delivery_id < ? and a.started_at < ? and (select d.state from {deliveries} d where d.id = a.delivery_id) <> 0
		order by a.delivery_id, a.number limit ? {for update} {skip locked}`,
		c.d.createdBefore(p.AttemptsBefore), notBefore(p.AttemptsBefore), p.Limit+1)
	if err != nil {
		return out, err
	}
	found, out.More = batch(found, p.Limit)
	out.Attempts = len(found)
	x := c.d.rows()
	for _, a := range found {
		x.add().id("id", a.id).int("n", a.number)
	}
	_, err = c.deleteRows(ctx, "attempts", "id uuid, n int", x, "{key t.delivery_id = x.id} and t.number = x.n")
	return out, err
}

// purgePayloads empties events whose deliveries are all finished. One that has to
// wait is looked at again when it can have become old enough, and not before: a
// webhook that stays inactive has many of them.
func (c session) purgePayloads(ctx context.Context, p *webhook.PurgeParams) (out webhook.PurgeResult, err error) {
	before := notBefore(p.PayloadsBefore)
	found, err := query(ctx, c, plain[uuid.UUID],
		"select id from {events} where payload_at < ? order by payload_at limit ? {for update} {skip locked}", before, p.Limit+1)
	if err != nil {
		return out, err
	}
	found, out.More = batch(found, p.Limit)
	if len(found) == 0 {
		return out, nil
	}
	// A statement of its own sees what was committed before the locks were got.
	// What is open counts as finished at the end of time.
	type use struct {
		id   uuid.UUID
		last int64 // that a delivery was finished
	}
	uses, err := query(ctx, c, func(scan func(...any) error, u *use) error { return scan(&u.id, maybe[int64]{&u.last}) },
		`select x.id, (select max(case when d.state = 0 then 9223372036854775807 else d.finished_at end) from {deliveries} d where {key d.event_id = x.id})
		from {rows x id uuid}`, c.d.idRows(found))
	if err != nil {
		return out, err
	}
	again := c.d.rows()
	wait := map[uuid.UUID]bool{}
	for _, u := range uses {
		switch {
		case u.last == math.MaxInt64: // it will not be finished before now
			u.last = max(p.Now.UnixMicro(), before)
		case u.last < before:
			continue
		}
		wait[u.id] = true
		again.add().id("id", u.id).int("next", u.last)
	}
	if _, err := c.updateRows(ctx, "events", "id uuid, next int", again, "{key t.id = x.id}", []string{"payload_at = x.next"}); err != nil {
		return out, err
	}
	old := slices.DeleteFunc(found, func(id uuid.UUID) bool { return wait[id] })
	out.Payloads = len(old)
	_, err = c.updateRows(ctx, "events", "id uuid", c.d.idRows(old), "{key t.id = x.id}", []string{"payload = null", "payload_at = null"})
	return out, err
}

// purgeWebhooks deletes what is left of deleted webhooks, once no delivery names
// them.
func (c session) purgeWebhooks(ctx context.Context, p *webhook.PurgeParams) (out webhook.PurgeResult, err error) {
	found, err := query(ctx, c, plain[uuid.UUID], `select w.id from {webhooks} w
		where w.deleted_at < ? and (select d.id from {deliveries} d where d.webhook_id = w.id limit 1) is null
		order by w.id limit ? {for update} {skip locked}`, notBefore(p.DeliveriesBefore), p.Limit+1)
	if err != nil {
		return out, err
	}
	found, out.More = batch(found, p.Limit)
	x := c.d.idRows(found)
	for _, table := range []string{"counters", "notices"} {
		if _, err := c.deleteRows(ctx, table, "id uuid", x, "{key t.webhook_id = x.id}"); err != nil {
			return out, err
		}
	}
	_, err = c.deleteRows(ctx, "webhooks", "id uuid", x, "{key t.id = x.id}")
	return out, err
}
