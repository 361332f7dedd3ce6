package sqlstore

import (
	"context"
	"fmt"
	"slices"

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

// Recover works on one batch of a recovery.
func (s *Store) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	var out webhook.RecoverResult
	err := s.write(ctx, "recover", func(c session) (err error) {
		out, err = c.recover(ctx, &p)
		return err
	})
	if err != nil {
		return webhook.RecoverResult{}, err
	}
	if out.Redelivered+out.Released > 0 && !p.Preview {
		s.lanes.addOne(p.WebhookID, p.Scope.OrganizationID)
		s.wake(everybody)
	}
	return out, nil
}

// missed is a delivery that a recovery looks at.
type missed struct {
	position
	eventID        uuid.UUID
	organizationID string
	eventType      webhook.EventType
	open           bool
	newest         bool // of its event to this webhook
}

// position is a delivery's place.
type position struct{ webhook.Position }

func (c session) recover(ctx context.Context, p *webhook.RecoverParams) (webhook.RecoverResult, error) {
	// Two recoveries at once would each add a delivery.
	h, err := c.lockHook(ctx, p.Scope, p.WebhookID, waiting)
	if err != nil {
		return webhook.RecoverResult{}, err
	}
	if !h.active {
		return webhook.RecoverResult{}, fmt.Errorf("the webhook is inactive: %w", webhook.ErrConflict)
	}
	out := webhook.RecoverResult{Next: p.After, Until: p.Until}
	if out.Until == (webhook.Position{}) {
		newest, _, err := first(ctx, c, func(scan func(...any) error, to *webhook.Position) error {
			return scan(&to.ID, at{&to.At})
		}, "select id, created_at from {deliveries} where webhook_id = ? order by created_at desc, id desc limit 1", c.d.id(h.ID))
		if err != nil {
			return out, err
		}
		out.Until = newest
	}
	found, err := c.missed(ctx, &h, p, out.Until)
	if err != nil {
		return out, err
	}
	kept, err := c.lockPayloads(ctx, found)
	if err != nil {
		return out, err
	}
	if len(found) > p.Limit {
		out.More, found = true, found[:p.Limit]
	}
	now := stored(p.Now)
	release := c.d.rows()
	var again []openDeliveryRow
	for _, m := range found {
		out.Next = m.Position
		switch {
		case m.open:
			release.add().id("id", m.ID)
			out.Released++
		case !m.newest:
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

// missed returns what a batch of a recovery looks at, and one more.
func (c session) missed(ctx context.Context, h *hook, p *webhook.RecoverParams, until webhook.Position) ([]missed, error) {
	since := stored(p.Since)
	if p.Since.After(since) {
		since = since.Add(1000)
	}
	return query(ctx, c, func(scan func(...any) error, m *missed) error {
		var open, newest int
		err := scan(&m.ID, at{&m.At}, &m.eventID, &m.organizationID, &m.eventType, &open, &newest)
		m.open, m.newest = open == 1, newest == 1
		return err
	}, `select d.id, d.created_at, d.event_id, d.organization_id, d.event_type, case when d.state = 0 then 1 else 0 end,
			case when exists (select 1 from {deliveries} n where n.event_id = d.event_id and n.webhook_id = d.webhook_id
				and (n.created_at, n.id) > (d.created_at, d.id)) then 0 else 1 end
		from `+deliveryTables+`
		where d.webhook_id = ? and e.test = 0 and d.created_at >= ? and (d.created_at, d.id) > (?, ?) and d.created_at <= ? and (d.created_at, d.id) <= (?, ?)
			and (d.state = 2 and d.finished_at >= ? or d.state = 0 and d.created_at >= ? and `+shownState+` = 4)
		order by d.created_at, d.id limit ?`,
		c.d.id(h.ID), p.After.At.UnixMicro(), p.After.At.UnixMicro(), c.d.anyID(p.After.ID), until.At.UnixMicro(), until.At.UnixMicro(), c.d.anyID(until.ID),
		since.UnixMicro(), since.UnixMicro(), p.Limit+1)
}

// lockPayloads keeps purges from the payloads of what a recovery may send again,
// and reports which events still have theirs.
func (c session) lockPayloads(ctx context.Context, list []missed) (map[uuid.UUID]bool, error) {
	var ids []uuid.UUID
	for _, m := range list {
		if !m.open {
			ids = append(ids, m.eventID)
		}
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }) // in one order for all
	kept := map[uuid.UUID]bool{}
	for _, id := range slices.Compact(ids) {
		_, ok, err := first(ctx, c, plain[uuid.UUID], "select id from {events} where id = ? and payload is not null {for update}", c.d.id(id))
		if err != nil {
			return nil, err
		}
		kept[id] = ok
	}
	return kept, nil
}

// anyID is an id as an argument, the zero one as well.
func (d Dialect) anyID(v uuid.UUID) any {
	if d == Postgres {
		return v.String()
	}
	return v[:]
}
