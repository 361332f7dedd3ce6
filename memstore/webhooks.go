package memstore

import (
	"container/list"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// hook is a webhook with its queue and its log.
type hook struct {
	webhook.Webhook
	org       *organization
	secret    webhook.Secret
	deleted   bool
	deletedAt time.Time

	open      map[*delivery]struct{} // unfinished deliveries
	leases    map[*delivery]struct{} // those of them that are leased
	ready     heap[*delivery]        // due, by creation
	waiting   heap[*delivery]        // pending, by when they are due
	turn      *list.Element          // its place among the ready ones, or nil
	waitingAt int                    // its place among the waiting ones

	deliveries timeline[*delivery]
	attempts   timeline[*attempt]
	counters   map[time.Time]*webhook.Counter

	notice       *notice   // what is still to be told, or nil
	noticeAt     int       // its place among the notices
	lastNoticeAt time.Time // zero once an attempt has succeeded since
}

func newHook(w webhook.Webhook, secret webhook.Secret, org *organization) *hook {
	placed := func(d *delivery, i int) { d.at = i }
	return &hook{
		Webhook: w, org: org, secret: secret,
		open: map[*delivery]struct{}{}, leases: map[*delivery]struct{}{},
		ready:     heap[*delivery]{less: func(a, b *delivery) bool { return a.order < b.order }, moved: placed},
		waiting:   heap[*delivery]{less: func(a, b *delivery) bool { return a.due.Before(b.due) }, moved: placed},
		waitingAt: -1, noticeAt: -1,
		counters: map[time.Time]*webhook.Counter{},
	}
}

func (h *hook) position() webhook.Position { return webhook.Position{At: h.CreatedAt, ID: h.ID} }

// subscribe adds the webhook to what its subscriptions are found by.
func (h *hook) subscribe() {
	for _, sub := range h.Subscriptions {
		key := subscription{sub.Subject, sub.EventType}
		if h.org.subscribers[key] == nil {
			h.org.subscribers[key] = map[*hook]struct{}{}
		}
		h.org.subscribers[key][h] = struct{}{}
	}
}

func (h *hook) unsubscribe() {
	for _, sub := range h.Subscriptions {
		key := subscription{sub.Subject, sub.EventType}
		delete(h.org.subscribers[key], h)
		if len(h.org.subscribers[key]) == 0 {
			delete(h.org.subscribers, key)
		}
	}
}

// hookIn returns a webhook of the scope that is not deleted.
func (s *Store) hookIn(scope webhook.Scope, id uuid.UUID) (*hook, error) {
	h, err := s.everIn(scope, id)
	if err == nil && h.deleted {
		return nil, webhook.ErrNotFound
	}
	return h, err
}

// everIn returns a webhook of the scope, deleted or not.
func (s *Store) everIn(scope webhook.Scope, id uuid.UUID) (*hook, error) {
	h := s.hooks[id]
	if h == nil || scope == (webhook.Scope{}) || h.OrganizationID != scope.OrganizationID {
		return nil, webhook.ErrNotFound
	}
	return h, nil
}

// CreateWebhook stores a webhook with its secret.
func (s *Store) CreateWebhook(ctx context.Context, p webhook.CreateWebhookParams) error {
	if err := s.lock(ctx, "create webhook"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if _, taken := s.hooks[p.Webhook.ID]; taken {
		return fmt.Errorf("memstore: create webhook: id is taken: %w", webhook.ErrConflict)
	}
	org := s.organization(p.Webhook.OrganizationID)
	if p.MaxPerOrganization > 0 && len(org.hooks.items) >= p.MaxPerOrganization {
		return webhook.TooManyWebhooks(p.MaxPerOrganization)
	}
	w := p.Webhook.Clone()
	w.CreatedAt, w.UpdatedAt, w.StatusSince = stored(w.CreatedAt), stored(w.UpdatedAt), stored(w.StatusSince)
	h := newHook(w, p.Secret, org)
	s.hooks[w.ID] = h
	org.hooks.add(h)
	h.subscribe()
	return nil
}

// UpdateWebhook replaces what can be changed, if the version is the stored one.
func (s *Store) UpdateWebhook(ctx context.Context, p webhook.UpdateWebhookParams) (webhook.Webhook, error) {
	if err := s.lock(ctx, "update webhook"); err != nil {
		return webhook.Webhook{}, err
	}
	defer s.mu.Unlock()
	h, err := s.hookIn(p.Scope, p.ID)
	if err != nil {
		return webhook.Webhook{}, err
	}
	if h.Version != p.Change.Version {
		return webhook.Webhook{}, fmt.Errorf("memstore: update webhook: version is %d: %w", h.Version, webhook.ErrConflict)
	}
	now := stored(p.Now)
	before := h.Webhook
	h.unsubscribe()
	h.Name, h.Description, h.EndpointURL = p.Change.Name, p.Change.Description, p.Change.EndpointURL
	h.Subscriptions, h.RateLimit = p.Change.Subscriptions, p.Change.RateLimit
	if h.Status != p.Change.Status {
		h.Status, h.StatusSince, h.DeactivatedFor = p.Change.Status, now, ""
	}
	h.Version++
	h.UpdatedAt, h.UpdatedBy = now, p.By
	h.Webhook = h.Clone()
	h.subscribe()

	for d := range h.open {
		switch {
		case before.Subscribes(&d.event.EventRecord) && !h.Subscribes(&d.event.EventRecord):
			s.cancel(d, now)
		case h.Status != webhook.StatusActive:
			s.hold(d)
		case p.Change.Resume && d.shown() == webhook.DeliveryHeld:
			s.resume(d, now)
		}
	}
	s.wake()
	return h.Clone(), nil
}

// DeleteWebhook removes a webhook and cancels its deliveries.
func (s *Store) DeleteWebhook(ctx context.Context, p webhook.DeleteWebhookParams) error {
	if err := s.lock(ctx, "delete webhook"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	h, err := s.hookIn(p.Scope, p.ID)
	if err != nil {
		return err
	}
	h.deleted, h.deletedAt = true, stored(p.Now)
	h.unsubscribe()
	h.org.hooks.remove(h)
	h.secret = webhook.Secret{}
	for d := range h.open {
		s.cancel(d, h.deletedAt)
	}
	s.dropNotice(h)
	return nil
}

// Webhook returns one webhook.
func (s *Store) Webhook(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.Webhook, error) {
	if err := s.lock(ctx, "read webhook"); err != nil {
		return webhook.Webhook{}, err
	}
	defer s.mu.Unlock()
	h, err := s.hookIn(scope, id)
	if err != nil {
		return webhook.Webhook{}, err
	}
	return h.Clone(), nil
}

// Webhooks lists webhooks.
func (s *Store) Webhooks(ctx context.Context, scope webhook.Scope, q webhook.WebhookQuery) (webhook.Page[webhook.Webhook], error) {
	if err := s.lock(ctx, "list webhooks"); err != nil {
		return webhook.Page[webhook.Webhook]{}, err
	}
	defer s.mu.Unlock()
	keep := func(h *hook) bool {
		if q.Status != "" && h.Status != q.Status {
			return false
		}
		if q.EventType == "" {
			return true
		}
		for _, sub := range h.Subscriptions {
			if sub.EventType == q.EventType {
				return true
			}
		}
		return false
	}
	return page(&s.read(scope).hooks, scope, q, keep, func(h *hook) webhook.Webhook { return h.Clone() })
}

// Leased counts the attempts of a webhook that may be in flight.
func (s *Store) Leased(ctx context.Context, scope webhook.Scope, id uuid.UUID, now time.Time) (int, error) {
	if err := s.lock(ctx, "count leases"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	h, err := s.everIn(scope, id)
	if err != nil {
		return 0, err
	}
	n := 0
	for d := range h.leases {
		if d.claim.LeasedUntil.After(now) {
			n++
		}
	}
	return n, nil
}
