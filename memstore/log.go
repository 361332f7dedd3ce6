package memstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// deliveryIn returns a delivery of the scope.
func (s *Store) deliveryIn(scope webhook.Scope, id uuid.UUID) (*delivery, error) {
	d := s.deliveries[id]
	if d == nil || scope == (webhook.Scope{}) || d.hook.OrganizationID != scope.OrganizationID {
		return nil, webhook.ErrNotFound
	}
	return d, nil
}

// Event returns one stored event, without its payload.
func (s *Store) Event(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.EventRecord, error) {
	if err := s.lock(ctx, "read event"); err != nil {
		return webhook.EventRecord{}, err
	}
	defer s.mu.Unlock()
	e := s.events[id]
	if e == nil || scope == (webhook.Scope{}) || e.OrganizationID != scope.OrganizationID {
		return webhook.EventRecord{}, webhook.ErrNotFound
	}
	v := e.EventRecord
	v.Parents, v.Attributes, v.Payload = slices.Clone(v.Parents), maps.Clone(v.Attributes), nil
	return v, nil
}

// Delivery returns one delivery with its payload.
func (s *Store) Delivery(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.Delivery, error) {
	if err := s.lock(ctx, "read delivery"); err != nil {
		return webhook.Delivery{}, err
	}
	defer s.mu.Unlock()
	d, err := s.deliveryIn(scope, id)
	if err != nil {
		return webhook.Delivery{}, err
	}
	v := d.view()
	v.Payload = slices.Clone(d.event.Payload)
	return v, nil
}

// Deliveries lists deliveries.
func (s *Store) Deliveries(ctx context.Context, scope webhook.Scope, q webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error) {
	if err := s.lock(ctx, "list deliveries"); err != nil {
		return webhook.Page[webhook.Delivery]{}, err
	}
	defer s.mu.Unlock()
	list := &s.read(scope).deliveries
	if q.WebhookID != (uuid.UUID{}) {
		h, err := s.everIn(scope, q.WebhookID)
		if err != nil {
			return webhook.Page[webhook.Delivery]{}, err
		}
		list = &h.deliveries
	}
	keep := func(d *delivery) bool {
		return (q.EventID == uuid.UUID{} || d.event.ID == q.EventID) &&
			(q.State == "" || d.shown() == q.State) &&
			(q.EventType == "" || d.event.Type == q.EventType) &&
			within(d.created, q.Since, q.Before)
	}
	return page(list, scope, q, keep, (*delivery).view)
}

// Attempts lists the log.
func (s *Store) Attempts(ctx context.Context, scope webhook.Scope, q webhook.AttemptQuery) (webhook.Page[webhook.Attempt], error) {
	if err := s.lock(ctx, "list attempts"); err != nil {
		return webhook.Page[webhook.Attempt]{}, err
	}
	defer s.mu.Unlock()
	list := &s.read(scope).attempts
	if q.WebhookID != (uuid.UUID{}) {
		h, err := s.everIn(scope, q.WebhookID)
		if err != nil {
			return webhook.Page[webhook.Attempt]{}, err
		}
		list = &h.attempts
	}
	if q.DeliveryID != (uuid.UUID{}) {
		d, err := s.deliveryIn(scope, q.DeliveryID)
		if err != nil {
			return webhook.Page[webhook.Attempt]{}, err
		}
		list = &d.log
	}
	keep := func(a *attempt) bool {
		return (q.WebhookID == uuid.UUID{} || a.WebhookID == q.WebhookID) &&
			(q.Outcome == "" || a.Outcome == q.Outcome) &&
			(q.EventType == "" || a.EventType == q.EventType) &&
			(q.StatusClass == 0 || a.StatusCode/100 == q.StatusClass) &&
			within(a.StartedAt, q.Since, q.Before)
	}
	return page(list, scope, q, keep, (*attempt).view)
}

// Counters returns a webhook's counted hours.
func (s *Store) Counters(ctx context.Context, scope webhook.Scope, q webhook.CounterQuery) ([]webhook.Counter, error) {
	if err := s.lock(ctx, "read counters"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	h, err := s.hookIn(scope, q.WebhookID)
	if err != nil {
		return nil, err
	}
	return h.counted(q.Since, q.Before), nil
}

// counted returns the counters of a span of hours, oldest first.
func (h *hook) counted(since, before time.Time) (out []webhook.Counter) {
	for _, c := range h.counters {
		if within(c.Hour, since, before) {
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b webhook.Counter) int { return a.Hour.Compare(b.Hour) })
	return out
}

func within(t, since, before time.Time) bool {
	return (since.IsZero() || !t.Before(since)) && (before.IsZero() || t.Before(before))
}
