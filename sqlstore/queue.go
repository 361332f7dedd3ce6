package sqlstore

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// tokenOf returns a claim's token: what its row has is one value for a whole
// call, which the delivery's id makes its own.
func tokenOf(stored, delivery uuid.UUID) uuid.UUID {
	var t uuid.UUID
	for i := range t {
		t[i] = stored[i] ^ delivery[i]
	}
	return t
}

// openDeliveryRow is a delivery that begins.
type openDeliveryRow struct {
	id, eventID, webhookID uuid.UUID
	organizationID         string
	eventType              webhook.EventType
	test                   bool
	epoch                  int64
	redeliveryOf           uuid.UUID

	claim *webhook.Claim // of one that begins leased
	token uuid.UUID      // as stored
}

// open inserts deliveries, created and due now.
func (c session) open(ctx context.Context, list []openDeliveryRow, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	d, q := c.d.rows(), c.d.rows()
	for i := range list {
		r := &list[i]
		d.add().id("id", r.id).id("event_id", r.eventID).id("webhook_id", r.webhookID).text("organization_id", r.organizationID).
			text("event_type", string(r.eventType)).time("now", now).id("redelivery_of", r.redeliveryOf)
		q.add().id("id", r.id).id("event_id", r.eventID).id("webhook_id", r.webhookID).int("epoch", r.epoch).bool("test", r.test).time("now", now)
		if r.claim == nil {
			q.int("phase", phaseReady).time("wake_at", now).null("token").null("claimed_at").null("url")
		} else {
			q.int("phase", phaseLeased).time("wake_at", r.claim.LeasedUntil).id("token", r.token).time("claimed_at", now).text("url", r.claim.EndpointURL)
		}
	}
	if _, err := c.exec(ctx, `insert into {deliveries} (id, event_id, webhook_id, organization_id, event_type, state, attempts, created_at, redelivery_of)
		select x.id, x.event_id, x.webhook_id, x.organization_id, x.event_type, 0, 0, x.now, x.redelivery_of
		from {rows x id uuid, event_id uuid, webhook_id uuid, organization_id text, event_type text, now int, redelivery_of uuid}`, d); err != nil {
		return err
	}
	_, err := c.exec(ctx, `insert into {queue} (delivery_id, event_id, webhook_id, epoch, test, phase, attempts, due_at, wake_at, cancelled,
			token, claimed_at, claimed_url)
		select x.id, x.event_id, x.webhook_id, x.epoch, x.test, x.phase, case when x.phase = 2 then 1 else 0 end, x.now, x.wake_at, 0,
			x.token, x.claimed_at, x.url
		from {rows x id uuid, event_id uuid, webhook_id uuid, epoch int, test int, now int, phase int, wake_at int, token uuid, claimed_at int, url text}`,
		q)
	return err
}

// closing is an open delivery that ends.
type closing struct {
	id       uuid.UUID
	attempts int
	state    int64
}

// close ends open deliveries: they leave the queue.
func (c session) close(ctx context.Context, list []closing, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	x := c.d.rows()
	for _, r := range list {
		x.add().id("id", r.id).int("n", int64(r.attempts)).int("s", r.state)
	}
	if _, err := c.deleteRows(ctx, "queue", "id uuid", x, "{key t.delivery_id = x.id}"); err != nil {
		return err
	}
	_, err := c.updateRows(ctx, "deliveries", "id uuid, n int, s int", x, "{key t.id = x.id}",
		[]string{"state = x.s", "attempts = x.n", "finished_at = ?"}, now.UnixMicro())
	return err
}
