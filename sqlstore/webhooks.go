package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// resumeAtOnce bounds the held deliveries that go on within the call that
// resumes them; the others follow by Sweep.
const resumeAtOnce = 100

// hook is a webhook with what its deliveries follow, see delivery.go.
type hook struct {
	webhook.Webhook
	active     bool
	epoch      int64
	liveFrom   int64
	heldBefore int64
	resumedAt  time.Time
	deletedAt  time.Time
	narrowed   *narrowing // nil once it is done
}

const hookColumns = `w.id, w.organization_id, w.name, w.description, w.endpoint_url, w.active, w.version, w.subscriptions,
	w.created_at, w.updated_at, w.created_by, w.updated_by, w.epoch, w.live_from, w.held_before, w.resumed_at, w.deleted_at, w.narrowed,
	w.rate_limit, w.status_at, w.deactivated_for`

func scanHook(scan func(...any) error, h *hook) error {
	var active int
	err := scan(&h.ID, &h.OrganizationID, &h.Name, &h.Description, &h.EndpointURL, &active, &h.Version,
		fromJSON[[]webhook.Subscription]{&h.Subscriptions}, at{&h.CreatedAt}, at{&h.UpdatedAt}, &h.CreatedBy, &h.UpdatedBy,
		&h.epoch, &h.liveFrom, &h.heldBefore, at{&h.resumedAt}, at{&h.deletedAt}, fromJSON[*narrowing]{&h.narrowed},
		&h.RateLimit, at{&h.StatusSince}, maybe[webhook.DeactivationReason]{&h.DeactivatedFor})
	h.active, h.Status = active == 1, webhook.StatusInactive
	if h.active { // of an earlier release, perhaps, which leaves the reason there
		h.Status, h.DeactivatedFor = webhook.StatusActive, ""
	}
	if h.StatusSince.IsZero() { // of an earlier release: since its last edit, at the latest, which no rule may take for longer
		h.StatusSince = h.UpdatedAt
	}
	return err
}

// everIn returns a webhook of the scope, deleted or not.
func (c session) everIn(ctx context.Context, scope webhook.Scope, id uuid.UUID) (hook, error) {
	return c.hookBy(ctx, scope, id, "")
}

// hookIn returns a webhook of the scope that is not deleted.
func (c session) hookIn(ctx context.Context, scope webhook.Scope, id uuid.UUID) (hook, error) {
	return c.hookBy(ctx, scope, id, "and w.deleted_at is null")
}

// lockHook is hookIn for a webhook that is about to be changed.
//
// Whoever has closed the gate does not wait for the lock, because everybody else
// would wait with him: noWait fails, and the transaction is repeated.
func (c session) lockHook(ctx context.Context, scope webhook.Scope, id uuid.UUID, lock string) (hook, error) {
	return c.hookBy(ctx, scope, id, "and w.deleted_at is null "+lock)
}

// How to lock.
const (
	waiting = "{for update}"
	noWait  = "{for update} {nowait}"
)

func (c session) hookBy(ctx context.Context, scope webhook.Scope, id uuid.UUID, rest string) (hook, error) {
	h, ok, err := first(ctx, c, scanHook, "select "+hookColumns+" from {webhooks} w where w.id = ? and w.organization_id = ? "+rest,
		c.d.id(id), scope.OrganizationID)
	if err == nil && (!ok || scope == webhook.Scope{}) {
		err = webhook.ErrNotFound
	}
	return h, err
}

// CreateWebhook stores a webhook with its secret.
func (s *Store) CreateWebhook(ctx context.Context, p webhook.CreateWebhookParams) error {
	w := p.Webhook
	w.Subscriptions = tidy(w.Subscriptions)
	return s.write(ctx, "create webhook", func(c session) error {
		if p.MaxPerOrganization > 0 {
			// One at a time, so that nobody else counts what is about to change.
			if err := c.closeGate(ctx); err != nil {
				return err
			}
			n, _, err := first(ctx, c, plain[int],
				"select count(*) from {webhooks} where organization_id = ? and deleted_at is null", w.OrganizationID)
			if err != nil {
				return err
			}
			taken, _, err := first(ctx, c, plain[int], "select count(*) from {webhooks} where id = ?", c.d.id(w.ID))
			if err != nil {
				return err
			}
			if n >= p.MaxPerOrganization && taken == 0 {
				return webhook.TooManyWebhooks(p.MaxPerOrganization)
			}
		}
		subscriptions, err := asJSON(w.Subscriptions, false)
		if err != nil {
			return err
		}
		secret, err := c.seal(p.Secret, w.OrganizationID, w.ID)
		if err != nil {
			return err
		}
		n, err := c.exec(ctx, `{insert} {webhooks} (id, organization_id, name, description, endpoint_url, active, version, subscriptions,
				secret, created_at, updated_at, created_by, updated_by, epoch, live_from, held_before, resumed_at, dirty,
				rate_limit, status_at, deactivated_for)
			values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0, 0, 0, ?, ?, ?) {or ignore}`,
			c.d.id(w.ID), w.OrganizationID, w.Name, w.Description, w.EndpointURL, flag(w.Status == webhook.StatusActive), w.Version,
			subscriptions, secret, w.CreatedAt.UnixMicro(), w.UpdatedAt.UnixMicro(), w.CreatedBy, w.UpdatedBy,
			w.RateLimit, w.StatusSince.UnixMicro(), reasonOrNull(w.DeactivatedFor))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("id is taken: %w", webhook.ErrConflict)
		}
		return c.subscribe(ctx, &w)
	})
}

// reasonOrNull is a column's value: null if there is no reason.
func reasonOrNull(r webhook.DeactivationReason) any {
	if r == "" {
		return nil
	}
	return string(r)
}

// tidy returns a copy in which what is empty is nil.
func tidy(subscriptions []webhook.Subscription) []webhook.Subscription {
	var out []webhook.Subscription
	for _, sub := range subscriptions {
		if len(sub.Filter) == 0 {
			sub.Filter = nil
		}
		out = append(out, sub)
	}
	return out
}

// subscribe writes what fan-out finds a webhook by.
func (c session) subscribe(ctx context.Context, w *webhook.Webhook) error {
	x := c.d.rows()
	for _, sub := range w.Subscriptions {
		x.add().text("type", string(sub.Subject.Type)).text("subject", sub.Subject.ID).text("event", string(sub.EventType))
		filter, err := asJSON(sub.Filter, len(sub.Filter) == 0)
		if err != nil {
			return err
		}
		x.any("filter", filter)
	}
	if x.n == 0 {
		return nil
	}
	// Of two subscriptions to the same, which Manager refuses, one is enough to
	// find the webhook by: what matches is decided by its subscriptions.
	_, err := c.exec(ctx, `{insert} {subscriptions} (organization_id, subject_id, subject_type, event_type, webhook_id, filter)
		select y.organization_id, x.subject, x.type, x.event, y.id, x.filter
		from {rows x type text, subject text, event text, filter text} cross join {webhooks} y where y.id = ? {or ignore}`,
		x, c.d.id(w.ID))
	return err
}

func (c session) unsubscribe(ctx context.Context, id uuid.UUID) error {
	_, err := c.exec(ctx, "delete from {subscriptions} where webhook_id = ?", c.d.id(id))
	return err
}

// UpdateWebhook replaces what can be changed, if the version is the stored one.
// What it cancels follows in batches, outside of the gate; an edit that also
// resumes what was held does so after that, so that nothing goes out between.
func (s *Store) UpdateWebhook(ctx context.Context, p webhook.UpdateWebhookParams) (webhook.Webhook, error) {
	var out hook
	resume := false
	update := func(c session) error {
		h, err := c.hookIn(ctx, p.Scope, p.ID)
		if err != nil {
			return err
		}
		lock := waiting
		if h.Status != p.Change.Status || p.Change.Resume { // before any row is locked that a transaction in the gate may wait for
			if err := c.closeGate(ctx); err != nil {
				return err
			}
			lock = noWait
		}
		if h, err = c.lockHook(ctx, p.Scope, p.ID, lock); err != nil {
			return err
		}
		switch {
		case h.Version != p.Change.Version:
			return fmt.Errorf("version is %d: %w", h.Version, webhook.ErrConflict)
		case h.narrowed != nil: // or this edit might revive what that one has not come to
			return errNarrowing
		}
		before, p := h, p
		h.Subscriptions = p.Change.Subscriptions
		narrows := h.narrowerThan(&before)
		resume = narrows && p.Change.Resume
		p.Change.Resume = p.Change.Resume && !narrows
		h.change(&p)
		if narrows {
			h.epoch++
			h.narrowed = &narrowing{Before: before.Subscriptions, At: stored(p.Now), Epoch: h.epoch}
		}
		if err := c.saveHook(ctx, &h, &before); err != nil {
			return err
		}
		if h.epoch != before.epoch && !narrows { // else by Sweep
			if _, _, err := c.followHook(ctx, &h, resumeAtOnce); err != nil {
				return err
			}
		}
		out = h
		return nil
	}
	err := s.write(ctx, "update webhook", update)
	for errors.Is(err, errNarrowing) {
		if err = s.finishNarrowing(ctx, p.Scope, p.ID); err == nil {
			err = s.write(ctx, "update webhook", update)
		}
	}
	if err != nil {
		return webhook.Webhook{}, err
	}
	if out.narrowed != nil {
		err = s.finishNarrowing(ctx, p.Scope, p.ID)
		if err == nil && resume {
			err = s.resume(ctx, &p)
		}
		if err != nil && !errors.Is(err, webhook.ErrNotFound) { // deleted, it has nothing left to cancel or resume
			return webhook.Webhook{}, fmt.Errorf("the webhook is changed, and what follows is not done: %w", err)
		}
	}
	if resume || p.Change.Resume { // what was published while it was inactive is ready now, and has its turn
		s.lanes.addOne(out.ID, out.OrganizationID)
	}
	s.wake(everybody)
	return out.Clone(), nil
}

// resume lets what is held of an active webhook go on.
func (s *Store) resume(ctx context.Context, p *webhook.UpdateWebhookParams) error {
	return s.write(ctx, "resume webhook", func(c session) error {
		if err := c.closeGate(ctx); err != nil {
			return err
		}
		h, err := c.lockHook(ctx, p.Scope, p.ID, noWait)
		if err != nil || !h.active { // somebody has deactivated it meanwhile
			return err
		}
		h.resume(true, stored(p.Now))
		if _, err := c.exec(ctx, "update {webhooks} set epoch = ?, live_from = ?, held_before = ?, resumed_at = ?, dirty = 1 where id = ?",
			h.epoch, h.liveFrom, h.heldBefore, h.resumedAt.UnixMicro(), c.d.id(h.ID)); err != nil {
			return err
		}
		_, _, err = c.followHook(ctx, &h, resumeAtOnce)
		return err
	})
}

// change applies an update to the webhook and to what its deliveries follow.
func (h *hook) change(p *webhook.UpdateWebhookParams) {
	was := h.active
	h.Name, h.Description, h.EndpointURL = p.Change.Name, p.Change.Description, p.Change.EndpointURL
	h.Subscriptions, h.RateLimit = tidy(p.Change.Subscriptions), p.Change.RateLimit
	h.setStatus(p.Change.Status, "", stored(p.Now), p.By)
	switch {
	case h.active && p.Change.Resume && (!was || h.liveFrom > 0):
		h.resume(was, h.UpdatedAt)
	case h.active != was:
		h.epoch++
		h.liveFrom = h.epoch
	}
}

// setStatus makes a webhook active or inactive, and counts the change.
func (h *hook) setStatus(to webhook.Status, reason webhook.DeactivationReason, now time.Time, by string) {
	if h.Status != to {
		h.Status, h.StatusSince, h.DeactivatedFor = to, now, reason
		h.active = to == webhook.StatusActive
	}
	h.Version++
	h.UpdatedAt, h.UpdatedBy = now, by
}

// resume makes live what was held of a webhook that is active now.
func (h *hook) resume(was bool, now time.Time) {
	h.heldBefore = h.liveFrom
	h.epoch++
	if !was {
		h.heldBefore = h.epoch
	}
	h.liveFrom, h.resumedAt = 0, now
}

// saveHook writes what an update can change.
func (c session) saveHook(ctx context.Context, h, before *hook) error {
	subscriptions, err := asJSON(h.Subscriptions, false)
	if err != nil {
		return err
	}
	narrowed, err := asJSON(h.narrowed, h.narrowed == nil)
	if err != nil {
		return err
	}
	if _, err := c.exec(ctx, `update {webhooks} set name = ?, description = ?, endpoint_url = ?, active = ?, version = ?, subscriptions = ?,
			updated_at = ?, updated_by = ?, epoch = ?, live_from = ?, held_before = ?, resumed_at = ?, narrowed = ?,
			rate_limit = ?, status_at = ?, deactivated_for = ?, dirty = case when ? = 1 then 1 else dirty end
		where id = ?`,
		h.Name, h.Description, h.EndpointURL, flag(h.active), h.Version, subscriptions, h.UpdatedAt.UnixMicro(), h.UpdatedBy,
		h.epoch, h.liveFrom, h.heldBefore, h.resumedAt.UnixMicro(), narrowed,
		h.RateLimit, h.StatusSince.UnixMicro(), reasonOrNull(h.DeactivatedFor), flag(h.epoch != before.epoch), c.d.id(h.ID)); err != nil {
		return err
	}
	if err := c.unsubscribe(ctx, h.ID); err != nil {
		return err
	}
	return c.subscribe(ctx, &h.Webhook)
}

// DeleteWebhook removes a webhook; its deliveries are cancelled by that.
func (s *Store) DeleteWebhook(ctx context.Context, p webhook.DeleteWebhookParams) error {
	return s.write(ctx, "delete webhook", func(c session) error {
		if err := c.closeGate(ctx); err != nil {
			return err
		}
		h, err := c.lockHook(ctx, p.Scope, p.ID, noWait)
		if err != nil {
			return err
		}
		if _, err := c.exec(ctx, "update {webhooks} set deleted_at = ?, secret = null, dirty = 1, epoch = epoch + 1 where id = ?",
			stored(p.Now).UnixMicro(), c.d.id(h.ID)); err != nil {
			return err
		}
		if err := c.unsubscribe(ctx, h.ID); err != nil {
			return err
		}
		return c.dropNotice(ctx, h.ID)
	})
}

// Webhook returns one webhook.
func (s *Store) Webhook(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.Webhook, error) {
	var h hook
	err := s.read(ctx, "read webhook", func(c session) (err error) {
		h, err = c.hookIn(ctx, scope, id)
		return err
	})
	return h.Webhook, err
}

// Webhooks lists webhooks.
func (s *Store) Webhooks(ctx context.Context, scope webhook.Scope, q webhook.WebhookQuery) (webhook.Page[webhook.Webhook], error) {
	var page webhook.Page[webhook.Webhook]
	after, limit, goesOn, err := webhook.StartOf(scope, q)
	if err != nil || scope == (webhook.Scope{}) {
		return page, err
	}
	where, args := "w.organization_id = ? and w.deleted_at is null", []any{scope.OrganizationID}
	if q.Status != "" {
		where += " and w.active = ?"
		args = append(args, flag(q.Status == webhook.StatusActive))
	}
	if q.EventType != "" {
		where += " and (select s.event_type from {subscriptions} s where s.webhook_id = w.id and s.event_type = ? limit 1) is not null"
		args = append(args, string(q.EventType))
	}
	if goesOn {
		where += " and w.created_at <= ? and (w.created_at, w.id) < (?, ?)"
		args = append(args, after.At.UnixMicro(), after.At.UnixMicro(), s.d.id(after.ID))
	}
	var found []hook
	err = s.read(ctx, "list webhooks", func(c session) (err error) {
		found, err = query(ctx, c, scanHook, "select "+hookColumns+" from {webhooks} w where "+where+
			" order by w.created_at desc, w.id desc limit ?", append(args, limit+1)...)
		return err
	})
	for i, h := range found {
		if i == limit {
			last := page.Items[limit-1]
			page.Next = webhook.NextCursor(scope, q, webhook.Position{At: last.CreatedAt, ID: last.ID})
			break
		}
		page.Items = append(page.Items, h.Webhook)
	}
	return page, err
}

// Leased counts the attempts of a webhook that may be in flight.
func (s *Store) Leased(ctx context.Context, scope webhook.Scope, id uuid.UUID, now time.Time) (n int, err error) {
	err = s.read(ctx, "count leases", func(c session) error {
		if _, err := c.everIn(ctx, scope, id); err != nil {
			return err
		}
		n, _, err = first(ctx, c, plain[int], "select count(*) from {queue} where phase = 2 and webhook_id = ? and wake_at > ?",
			c.d.id(id), stored(now).UnixMicro())
		return err
	})
	return n, err
}
