package sqlstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Redeliver adds a delivery of a finished one's event.
func (s *Store) Redeliver(ctx context.Context, p webhook.RedeliverParams) (webhook.Delivery, error) {
	var out webhook.Delivery
	err := s.write(ctx, "redeliver", func(c session) error {
		d, err := c.deliveryIn(ctx, p.Scope, p.DeliveryID)
		if err != nil {
			return err
		}
		h, err := c.everIn(ctx, p.Scope, d.WebhookID)
		if err != nil {
			return err
		}
		open, _, err := first(ctx, c, plain[int], "select count(*) from {queue} where delivery_id = ?", c.d.id(d.ID))
		if err != nil {
			return err
		}
		// Locked, so that no purge takes the payload meanwhile.
		_, kept, err := first(ctx, c, plain[uuid.UUID], "select id from {events} where id = ? and payload is not null {for update}", c.d.id(d.EventID))
		switch {
		case err != nil:
			return err
		case !h.deletedAt.IsZero():
			return fmt.Errorf("the webhook is deleted: %w", webhook.ErrConflict)
		case open > 0:
			return fmt.Errorf("the delivery is not finished: %w", webhook.ErrConflict)
		case !kept:
			return fmt.Errorf("the payload is purged: %w", webhook.ErrConflict)
		}
		again := openDeliveryRow{
			id: c.ids.New(stored(p.Now)), eventID: d.EventID, webhookID: d.WebhookID, organizationID: d.OrganizationID,
			eventType: d.EventType, test: d.Test, epoch: h.epoch, redeliveryOf: d.ID,
		}
		if err := c.open(ctx, []openDeliveryRow{again}, stored(p.Now)); err != nil {
			return err
		}
		out, err = c.deliveryIn(ctx, p.Scope, again.id)
		return err
	})
	if err != nil {
		return webhook.Delivery{}, err
	}
	s.lanes.addOne(out.WebhookID, out.OrganizationID)
	s.wake(everybody)
	return out, nil
}

// CancelDelivery cancels an unfinished delivery.
func (s *Store) CancelDelivery(ctx context.Context, p webhook.CancelParams) error {
	return s.write(ctx, "cancel", func(c session) error {
		row, _, err := first(ctx, c, func(scan func(...any) error, r *movingRow) error {
			return scan(&r.id, &r.attempts, &r.phase)
		}, "select delivery_id, attempts, phase from {queue} where delivery_id = ? {for update}", c.d.id(p.DeliveryID))
		if err != nil {
			return err
		}
		d, err := c.deliveryIn(ctx, p.Scope, p.DeliveryID)
		if err != nil {
			return err
		}
		if d.State.Finished() {
			return fmt.Errorf("the delivery is finished: %w", webhook.ErrConflict)
		}
		if row.phase == phaseLeased {
			_, err := c.exec(ctx, "update {queue} set cancelled = 1 where delivery_id = ?", c.d.id(p.DeliveryID))
			return err
		}
		row.state = stateCancelled
		return c.close(ctx, []closing{row.closing}, stored(p.Now))
	})
}

// recoverLook bounds the deliveries that a batch of a recovery looks at, most of
// which have succeeded: some milliseconds' worth.
const recoverLook = 5000

// Recover works on one batch of a recovery.
func (s *Store) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	var out webhook.RecoverResult
	run := func(c session) (err error) {
		out, err = c.recover(ctx, &p)
		return err
	}
	var err error
	if p.Preview {
		err = s.read(ctx, "preview a recovery", run)
	} else {
		err = s.write(ctx, "recover", run)
	}
	if err != nil {
		return webhook.RecoverResult{}, err
	}
	if out.Redelivered+out.Released > 0 && !p.Preview {
		s.lanes.addOne(p.WebhookID, p.Scope.OrganizationID)
		s.wake(everybody)
	}
	return out, nil
}

// missed is a delivery that a recovery has found.
type missed struct {
	webhook.Position
	eventID        uuid.UUID
	organizationID string
	eventType      webhook.EventType
	open           bool
}

// recover locks what it changes and not the webhook: what it adds or releases has
// the epoch that it has read, so that a later change of the webhook applies to it.
func (c session) recover(ctx context.Context, p *webhook.RecoverParams) (webhook.RecoverResult, error) {
	h, err := c.hookIn(ctx, p.Scope, p.WebhookID)
	if err != nil {
		return webhook.RecoverResult{}, err
	}
	if !h.active {
		return webhook.RecoverResult{}, fmt.Errorf("the webhook is inactive: %w", webhook.ErrConflict)
	}
	out := webhook.RecoverResult{Next: p.After, Until: p.Until}
	if out.Until == (webhook.Position{}) {
		newest, _, err := first(ctx, c, scanPosition,
			"select created_at, id from {deliveries} where webhook_id = ? order by created_at desc, id desc limit 1", c.d.id(h.ID))
		if err != nil {
			return out, err
		}
		out.Until = newest
	}
	span := c.between(&h, p.After, out.Until)
	edge, beyond, err := first(ctx, c, scanPosition,
		"select d.created_at, d.id from {deliveries} d where "+span.where+" order by d.created_at, d.id limit 1 offset ?",
		append(span.args, recoverLook-1)...)
	if err != nil {
		return out, err
	}
	out.Next = out.Until
	if beyond {
		out.Next, out.More = edge, edge.Compare(out.Until) < 0
	}
	found, err := c.missed(ctx, p, c.between(&h, p.After, out.Next))
	if err != nil {
		return out, err
	}
	if len(found) > p.Limit {
		out.More, found, out.Next = true, found[:p.Limit], p.After
		if p.Limit > 0 {
			out.Next = found[p.Limit-1].Position
		}
	}
	// Two recoveries at once would each add a delivery, as would a redelivery by hand:
	// what counts is what is so under the locks.
	kept, err := c.lockMissed(ctx, found, !p.Preview)
	if err != nil {
		return out, err
	}
	stillHeld, stillNewest, err := c.stillMissed(ctx, found)
	if err != nil {
		return out, err
	}
	now := stored(p.Now)
	release := c.d.rows()
	var again []openDeliveryRow
	for _, m := range found {
		switch {
		case m.open && stillHeld[m.ID]:
			release.add().id("id", m.ID)
			out.Released++
		case m.open, !stillNewest[m.ID]:
		case !kept[m.eventID]:
			out.Purged++
		default:
			again = append(again, openDeliveryRow{
				id: c.ids.New(now), eventID: m.eventID, webhookID: h.ID, organizationID: m.organizationID, eventType: m.eventType,
				epoch: h.epoch, redeliveryOf: m.ID,
			})
			out.Redelivered++
		}
	}
	if p.Preview {
		return out, nil
	}
	if err := c.open(ctx, again, now); err != nil {
		return out, err
	}
	// With the epoch of today it is live; one whose attempt is in flight keeps its lease.
	_, err = c.updateRows(ctx, "queue", "id uuid", release, "{key t.delivery_id = x.id}",
		[]string{
			"wake_at = case when t.phase = 2 then t.wake_at else {max t.due_at, ?} end",
			"due_at = case when t.phase = 2 then t.due_at else {max t.due_at, ?} end",
			"epoch = ?", "phase = case when t.phase = 2 then 2 else 1 end",
		},
		now.UnixMicro(), now.UnixMicro(), h.epoch)
	return out, err
}

func scanPosition(scan func(...any) error, p *webhook.Position) error { return scan(at{&p.At}, &p.ID) }

// between is true of a webhook's deliveries after one position and until another.
// The conditions on created_at alone say nothing new; they are what MySQL can use an
// index for.
func (c session) between(h *hook, after, until webhook.Position) condition {
	return condition{
		"d.webhook_id = ? and d.created_at >= ? and (d.created_at, d.id) > (?, ?) and d.created_at <= ? and (d.created_at, d.id) <= (?, ?)",
		[]any{
			c.d.id(h.ID), after.At.UnixMicro(), after.At.UnixMicro(), c.d.anyID(after.ID),
			until.At.UnixMicro(), until.At.UnixMicro(), c.d.anyID(until.ID),
		},
	}
}

// missed returns what a batch of a recovery is about, and one more.
func (c session) missed(ctx context.Context, p *webhook.RecoverParams, span condition) ([]missed, error) {
	since := notBefore(p.Since)
	return query(ctx, c, func(scan func(...any) error, m *missed) error {
		var open int
		err := scan(&m.ID, at{&m.At}, &m.eventID, &m.organizationID, &m.eventType, &open)
		m.open = open == 1
		return err
	}, `select d.id, d.created_at, d.event_id, d.organization_id, d.event_type, case when d.state = 0 then 1 else 0 end
		from `+deliveryTables+`
		where `+span.where+` and d.state in (0, 2) and e.test = 0
			and (d.state = 2 and d.finished_at >= ? or d.state = 0 and d.created_at >= ? and `+shownState+` = 4)
		order by d.created_at, d.id limit ?`, append(span.args, since, since, p.Limit+1)...)
}

// lockMissed keeps redeliveries and purges from the events of what a recovery may
// send again, and everybody from what it may release. It reports which events still
// have their payload.
func (c session) lockMissed(ctx context.Context, list []missed, lock bool) (map[uuid.UUID]bool, error) {
	var events []uuid.UUID
	held := c.d.rows()
	for _, m := range list {
		if m.open {
			held.add().id("id", m.ID)
		} else {
			events = append(events, m.eventID)
		}
	}
	forUpdate := ""
	if lock {
		forUpdate = " {for update}"
	}
	kept := map[uuid.UUID]bool{}
	if len(events) > 0 {
		found, err := query(ctx, c, plain[uuid.UUID], "select e.id from {rows x id uuid} {join events e} where {key e.id = x.id} and e.payload is not null"+
			forUpdate, c.d.idRows(distinct(events)))
		if err != nil {
			return nil, err
		}
		for _, id := range found {
			kept[id] = true
		}
	}
	if held.n > 0 && lock {
		if _, err := query(ctx, c, plain[uuid.UUID],
			"select q.delivery_id from {rows x id uuid} {join queue q} where {key q.delivery_id = x.id} {for update}", held); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// stillMissed reports which deliveries are held, and which are their event's newest
// to the webhook.
func (c session) stillMissed(ctx context.Context, list []missed) (held, newest map[uuid.UUID]bool, err error) {
	held, newest = map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
	if len(list) == 0 {
		return held, newest, nil
	}
	x := c.d.rows()
	for _, m := range list {
		x.add().id("id", m.ID)
	}
	// An event has a handful of deliveries, the webhook any number: the case keeps databases
	// from looking through the webhook's.
	_, err = query(ctx, c, func(scan func(...any) error, id *uuid.UUID) error {
		var state, later int
		err := scan(id, &state, &later)
		held[*id], newest[*id] = state == stateHeld, later == 0
		return err
	}, `select d.id, `+shownState+`, case when exists (select 1 from {deliveries} n where n.event_id = d.event_id
			and case when n.webhook_id = d.webhook_id and (n.created_at, n.id) > (d.created_at, d.id) then 1 else 0 end = 1) then 1 else 0 end
		from {rows x id uuid} {join deliveries d} `+openDelivery+` where {key d.id = x.id}`, x)
	return held, newest, err
}

// anyID is an id as an argument, the zero one as well.
func (d Dialect) anyID(v uuid.UUID) any {
	if d == Postgres {
		return v.String()
	}
	return v[:]
}
