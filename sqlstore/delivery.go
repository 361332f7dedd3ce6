package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// A change of a webhook takes effect by its own row; the queue's rows follow,
// by Sweep. Until then what is true of an open delivery follows from both:
//
//   - Its epoch is what the webhook's was when it was inserted. Deactivating
//     and activating begin a new epoch, and only deliveries from live_from on
//     are live; resuming sets that back to 0.
//   - Those of epochs before held_before were held until resumed_at, and are
//     not due before.
//   - A deleted webhook's deliveries are cancelled, since deleted_at.
//
// So a delivery whose transaction commits after the change, with an epoch from
// before it, is held or cancelled as well.
const (
	// openDelivery joins what these expressions read.
	openDelivery = `left join {queue} q on {key q.delivery_id = d.id} join {webhooks} w on {key w.id = d.webhook_id}`

	// live is true of open deliveries that may be attempted.
	live = `(w.active = 1 and w.deleted_at is null and q.epoch >= w.live_from)`

	// dueAt is when an open delivery is due.
	dueAt = `case when q.epoch < w.held_before and q.phase <> 2 then {max q.due_at, w.resumed_at} else q.due_at end`

	// shownState is a delivery's state in reads.
	shownState = `case when d.state <> 0 then d.state
		when w.deleted_at is not null or q.cancelled = 1 then 3
		when not ` + live + ` then 4 else 0 end`

	// shownFinishedAt is when a delivery was finished. One that a deletion
	// cancelled ends with the attempt that is in flight.
	shownFinishedAt = `case when d.state = 0 and w.deleted_at is not null and q.phase <> 2 then w.deleted_at else d.finished_at end`
)

// deliveryColumns are what scanDelivery scans.
const deliveryColumns = `d.id, d.event_id, d.webhook_id, d.organization_id, d.event_type, e.subject_type, e.subject_id, e.test,
	` + shownState + `, coalesce(q.attempts, d.attempts), ` + dueAt + `, case when q.phase = 2 then q.wake_at end,
	d.created_at, ` + shownFinishedAt + `, d.redelivery_of`

// deliveryTables are what deliveryColumns are of.
const deliveryTables = `{deliveries} d join {events} e on {key e.id = d.event_id} ` + openDelivery

func scanDelivery(scan func(...any) error, d *webhook.Delivery) error {
	var state, test int
	if err := scan(&d.ID, &d.EventID, &d.WebhookID, &d.OrganizationID, &d.EventType, &d.Subject.Type, &d.Subject.ID, &test,
		&state, &d.Attempts, at{&d.DueAt}, at{&d.LeasedUntil}, at{&d.CreatedAt}, at{&d.FinishedAt}, maybe[uuid.UUID]{&d.RedeliveryOf}); err != nil {
		return err
	}
	if state < 0 || state >= len(states) {
		return fmt.Errorf("delivery %s has the unknown state %d", d.ID, state)
	}
	d.Test, d.State = test == 1, states[state]
	if d.State.Finished() {
		d.DueAt = time.Time{}
	}
	return nil
}

// deliveryIn returns a delivery of the scope, without its payload.
func (c session) deliveryIn(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.Delivery, error) {
	d, ok, err := first(ctx, c, scanDelivery, `select `+deliveryColumns+` from `+deliveryTables+`
		where d.id = ? and d.organization_id = ?`, c.d.id(id), scope.OrganizationID)
	if err == nil && (!ok || scope == webhook.Scope{}) {
		err = webhook.ErrNotFound
	}
	return d, err
}
