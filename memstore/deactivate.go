package memstore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// FailingWebhooks looks at a batch of active webhooks.
func (s *Store) FailingWebhooks(ctx context.Context, p webhook.FailingParams) (webhook.FailingResult, error) {
	if err := s.lock(ctx, "find failing webhooks"); err != nil {
		return webhook.FailingResult{}, err
	}
	defer s.mu.Unlock()
	compare := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	var ids []uuid.UUID
	for id, h := range s.hooks {
		if !h.deleted && h.Status == webhook.StatusActive && compare(id, p.After) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compare)
	out := webhook.FailingResult{More: len(ids) > p.Limit}
	for _, id := range ids[:min(len(ids), p.Limit)] {
		h := s.hooks[id]
		out.Next = id
		if _, failing := p.Rule.Failing(h.StatusSince, h.counted(h.StatusSince, time.Time{})); failing {
			out.Webhooks = append(out.Webhooks, webhook.FailingWebhook{ID: id, OrganizationID: h.OrganizationID})
		}
	}
	return out, nil
}

// Deactivate makes a webhook inactive if a rule applies.
func (s *Store) Deactivate(ctx context.Context, p webhook.DeactivateParams) (webhook.DeactivateResult, error) {
	if err := s.lock(ctx, "deactivate webhook"); err != nil {
		return webhook.DeactivateResult{}, err
	}
	defer s.mu.Unlock()
	h, err := s.hookIn(p.Scope, p.WebhookID)
	if err != nil { // missing
		return webhook.DeactivateResult{}, nil
	}
	failingSince, applies, err := p.Applies(&h.Webhook, func(since time.Time) ([]webhook.Counter, error) {
		return h.counted(since, time.Time{}), nil
	})
	if err != nil {
		return webhook.DeactivateResult{}, fmt.Errorf("memstore: deactivate webhook: %w", err)
	}
	if !applies {
		return webhook.DeactivateResult{}, nil
	}
	now := stored(p.Now)
	h.Status, h.StatusSince, h.DeactivatedFor = webhook.StatusInactive, now, p.Reason
	h.Version++
	h.UpdatedAt, h.UpdatedBy = now, webhook.DeactivatedBy
	for d := range h.open {
		s.hold(d)
	}
	s.noticeDeactivation(h, failingSince, now)
	s.wake()
	return webhook.DeactivateResult{Deactivated: true}, nil
}
