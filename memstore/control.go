package memstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/posthorn/webhook"
)

// Redeliver adds a delivery of a finished one's event.
func (s *Store) Redeliver(ctx context.Context, p webhook.RedeliverParams) (webhook.Delivery, error) {
	if err := s.lock(ctx, "redeliver"); err != nil {
		return webhook.Delivery{}, err
	}
	defer s.mu.Unlock()
	d, err := s.deliveryIn(p.Scope, p.DeliveryID)
	if err != nil {
		return webhook.Delivery{}, err
	}
	switch {
	case d.hook.deleted:
		err = fmt.Errorf("memstore: redeliver: the webhook is deleted: %w", webhook.ErrConflict)
	case !d.state.Finished():
		err = fmt.Errorf("memstore: redeliver: the delivery is not finished: %w", webhook.ErrConflict)
	case d.event.Payload == nil:
		err = fmt.Errorf("memstore: redeliver: the payload is purged: %w", webhook.ErrConflict)
	}
	if err != nil {
		return webhook.Delivery{}, err
	}
	again := s.addDelivery(d.hook, d.event, stored(p.Now), d.id)
	s.wake()
	return again.view(), nil
}

// CancelDelivery cancels an unfinished delivery.
func (s *Store) CancelDelivery(ctx context.Context, p webhook.CancelParams) error {
	if err := s.lock(ctx, "cancel"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	d, err := s.deliveryIn(p.Scope, p.DeliveryID)
	if err != nil {
		return err
	}
	if d.shown().Finished() {
		return fmt.Errorf("memstore: cancel: the delivery is finished: %w", webhook.ErrConflict)
	}
	s.cancel(d, stored(p.Now))
	return nil
}

// Recover works on one batch of a recovery.
func (s *Store) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	if err := s.lock(ctx, "recover"); err != nil {
		return webhook.RecoverResult{}, err
	}
	defer s.mu.Unlock()
	h, err := s.hookIn(p.Scope, p.WebhookID)
	if err != nil {
		return webhook.RecoverResult{}, err
	}
	if h.Status != webhook.StatusActive {
		return webhook.RecoverResult{}, fmt.Errorf("memstore: recover: the webhook is inactive: %w", webhook.ErrConflict)
	}
	out := webhook.RecoverResult{Next: p.After, Until: p.Until}
	if n := len(h.deliveries.items); n > 0 && out.Until == (webhook.Position{}) {
		out.Until = h.deliveries.items[n-1].position()
	}
	from, found := h.deliveries.find(p.After)
	if found {
		from++
	}
	// A new delivery goes to the end of the list, behind what is gone through here.
	for _, d := range slices.Clone(h.deliveries.items[from:]) {
		if d.position().Compare(out.Until) > 0 {
			break
		}
		failed := d.state == webhook.DeliveryFailed && !d.finished.Before(p.Since)
		held := d.shown() == webhook.DeliveryHeld && !d.created.Before(p.Since)
		if d.event.Test || !failed && !held {
			continue
		}
		if p.Limit == 0 {
			out.More = true
			break
		}
		p.Limit--
		out.Next = d.position()
		switch {
		case held:
			out.Released++
			if !p.Preview {
				s.resume(d, stored(p.Now))
			}
		case d != d.event.newestFor(h):
		case d.event.Payload == nil:
			out.Purged++
		default:
			out.Redelivered++
			if !p.Preview {
				s.addDelivery(h, d.event, stored(p.Now), d.id)
			}
		}
	}
	s.wake()
	return out, nil
}

// newestFor returns the event's newest delivery to a webhook.
func (e *event) newestFor(h *hook) *delivery {
	for _, d := range slices.Backward(e.deliveries) {
		if d.hook == h {
			return d
		}
	}
	return nil
}

// Purge deletes what has been kept long enough.
func (s *Store) Purge(ctx context.Context, p webhook.PurgeParams) (webhook.PurgeResult, error) {
	if err := s.lock(ctx, "purge"); err != nil {
		return webhook.PurgeResult{}, err
	}
	defer s.mu.Unlock()
	var out webhook.PurgeResult
	for _, d := range s.deliveries {
		if d.state == webhook.DeliveryHeld && d.created.Before(p.HeldBefore) && batch(&out.HeldCancelled, p.Limit, &out.More) {
			s.finish(d, webhook.DeliveryCancelled, stored(p.Now))
		}
	}
	for _, d := range s.deliveries {
		if d.state.Finished() && d.finished.Before(p.DeliveriesBefore) && batch(&out.Deliveries, p.Limit, &out.More) {
			s.purgeDelivery(d)
		}
	}
	for _, d := range s.deliveries {
		for _, row := range slices.Clone(d.log.items) {
			if d.state.Finished() && row.StartedAt.Before(p.AttemptsBefore) && batch(&out.Attempts, p.Limit, &out.More) {
				s.unlog(d, row)
			}
		}
	}
	for _, e := range s.events {
		switch {
		case len(e.deliveries) == 0 && e.insertedAt.Before(p.DeliveriesBefore):
			if batch(&out.Events, p.Limit, &out.More) {
				s.purgeEvent(e)
			}
		case e.Payload != nil && e.finishedBefore(p):
			if batch(&out.Payloads, p.Limit, &out.More) {
				e.Payload = nil
			}
		}
	}
	for id, h := range s.hooks { // what the log of a deleted webhook was found by
		if h.deleted && h.deletedAt.Before(p.DeliveriesBefore) && len(h.deliveries.items) == 0 {
			delete(s.hooks, id)
		}
	}
	s.notePurge(p.Now, out)
	return out, nil
}

// batch counts one more, unless the batch is full.
func batch(n *int, limit int, more *bool) bool {
	if *n >= limit {
		*more = true
		return false
	}
	*n++
	return true
}

// finishedBefore reports whether all deliveries of the event were finished
// early enough for its payload to go.
func (e *event) finishedBefore(p webhook.PurgeParams) bool {
	if len(e.deliveries) == 0 {
		return e.insertedAt.Before(p.PayloadsBefore)
	}
	return !slices.ContainsFunc(e.deliveries, func(d *delivery) bool {
		return !d.state.Finished() || !d.finished.Before(p.PayloadsBefore)
	})
}

func (s *Store) purgeDelivery(d *delivery) {
	for _, row := range slices.Clone(d.log.items) {
		s.unlog(d, row)
	}
	delete(s.deliveries, d.id)
	d.hook.deliveries.remove(d)
	d.hook.org.deliveries.remove(d)
	d.event.deliveries = slices.DeleteFunc(d.event.deliveries, func(o *delivery) bool { return o == d })
}

func (s *Store) purgeEvent(e *event) {
	delete(s.events, e.ID)
	if e.IdempotencyKey != "" {
		delete(s.organization(e.OrganizationID).keys, e.IdempotencyKey)
	}
}
