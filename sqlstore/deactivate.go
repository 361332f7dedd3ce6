package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// FailingWebhooks looks at a batch of active webhooks, in a read of its own: whoever
// deactivates one of them asks again. Nearly all of them drop out by two looks at
// their latest counters.
func (s *Store) FailingWebhooks(ctx context.Context, p webhook.FailingParams) (webhook.FailingResult, error) {
	var out webhook.FailingResult
	type seen struct {
		id        uuid.UUID
		suspected bool
	}
	err := s.read(ctx, "find failing webhooks", func(c session) error {
		out = webhook.FailingResult{}
		found, err := query(ctx, c, func(scan func(...any) error, w *seen) error {
			var recent, succeeded int
			err := scan(&w.id, &recent, &succeeded)
			w.suspected = recent >= 2 && succeeded == 0
			return err
		}, `select w.id,
				(select count(*) from {counters} c where c.webhook_id = w.id and c.hour >= ? and c.failed > 0),
				case when (select c.hour from {counters} c where c.webhook_id = w.id and c.hour > ? and c.succeeded > 0 limit 1) is null then 0 else 1 end
			from (select id from {webhooks} where id > ? and active = 1 and deleted_at is null order by id limit ?) w order by w.id`,
			notBefore(p.Rule.Recent), p.Rule.Before.Add(-time.Hour).UnixMicro(), c.d.anyID(p.After), p.Limit+1)
		if err != nil {
			return err
		}
		if out.More = len(found) > p.Limit; out.More {
			found = found[:p.Limit]
		}
		for _, w := range found {
			out.Next = w.id
			if !w.suspected {
				continue
			}
			h, ok, err := first(ctx, c, scanHook, "select "+hookColumns+" from {webhooks} w where w.id = ?", c.d.id(w.id))
			if err != nil {
				return err
			}
			if !ok || !h.active {
				continue
			}
			counted, err := c.counters(ctx, webhook.CounterQuery{WebhookID: h.ID, Since: h.StatusSince})
			if err != nil {
				return err
			}
			if _, failing := p.Rule.Failing(h.StatusSince, counted); failing {
				out.Webhooks = append(out.Webhooks, webhook.FailingWebhook{ID: h.ID, OrganizationID: h.OrganizationID})
			}
		}
		return nil
	})
	if err != nil {
		return webhook.FailingResult{}, err
	}
	return out, nil
}

// Deactivate makes a webhook inactive if a rule applies: what is counted meanwhile
// waits at the gate.
func (s *Store) Deactivate(ctx context.Context, p webhook.DeactivateParams) (webhook.DeactivateResult, error) {
	var out webhook.DeactivateResult
	applies := func(c session, h *hook) (time.Time, bool, error) {
		return p.Applies(&h.Webhook, func(since time.Time) ([]webhook.Counter, error) {
			return c.counters(ctx, webhook.CounterQuery{WebhookID: h.ID, Since: since})
		})
	}
	// Of many answers alike the first deactivates, and the others need not close the gate.
	err := s.read(ctx, "deactivate webhook", func(c session) error {
		h, err := c.hookIn(ctx, p.Scope, p.WebhookID)
		if err == nil {
			_, out.Deactivated, err = applies(c, &h)
		}
		return err
	})
	if errors.Is(err, webhook.ErrNotFound) {
		return webhook.DeactivateResult{}, nil
	}
	if err != nil || !out.Deactivated {
		return webhook.DeactivateResult{}, err
	}
	err = s.write(ctx, "deactivate webhook", func(c session) error {
		out.Deactivated = false
		if err := c.closeGate(ctx); err != nil {
			return err
		}
		h, err := c.lockHook(ctx, p.Scope, p.WebhookID, noWait)
		if errors.Is(err, webhook.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		failingSince, yes, err := applies(c, &h)
		if err != nil || !yes {
			return err
		}
		h.setStatus(webhook.StatusInactive, p.Reason, stored(p.Now), webhook.DeactivatedBy)
		h.epoch++
		h.liveFrom = h.epoch
		if _, err := c.exec(ctx, `update {webhooks} set active = 0, status_at = ?, deactivated_for = ?, version = ?, updated_at = ?, updated_by = ?,
				epoch = ?, live_from = ?, dirty = 1 where id = ?`,
			h.StatusSince.UnixMicro(), reasonOrNull(h.DeactivatedFor), h.Version, h.UpdatedAt.UnixMicro(), h.UpdatedBy,
			h.epoch, h.liveFrom, c.d.id(h.ID)); err != nil {
			return err
		}
		out.Deactivated = true
		return c.noteDeactivation(ctx, &h, failingSince)
	})
	if err != nil {
		return webhook.DeactivateResult{}, err
	}
	if out.Deactivated {
		s.wake(everybody)
	}
	return out, nil
}
