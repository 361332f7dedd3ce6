package sqlstore

import (
	"context"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Sweep lets rows of the queue follow their webhook: those of a deleted one end,
// those of an inactive one are put aside, those of a resumed one come back. It
// works on one webhook a call.
func (s *Store) Sweep(ctx context.Context, p webhook.SweepParams) (webhook.SweepResult, error) {
	var out webhook.SweepResult
	id, behind, others := s.lanes.takeBehind()
	if !behind && !s.anyDirty(ctx) {
		return out, nil
	}
	unfinished := false
	err := s.write(ctx, "sweep", func(c session) error {
		// Locks are waited for by nobody here, or sweeps would wait for each other
		// in circles.
		hooks := func(where string, args ...any) ([]hook, error) {
			return query(ctx, c, scanHook, "select "+hookColumns+" from {webhooks} w where "+where+" {for update} {skip locked}", args...)
		}
		dirty := func() ([]hook, error) {
			return hooks("dirty = 1 and id > ? order by id limit 2", c.d.id(s.lanes.sweptTo()))
		}
		var found []hook
		var err error
		if behind {
			found, err = hooks("id = ?", c.d.id(id))
		} else if found, err = dirty(); err == nil && len(found) == 0 { // the round is over
			s.lanes.sweep(lowest)
			found, err = dirty()
		}
		// Whether there is another one besides one that is behind, the next sweep finds out.
		out, unfinished = webhook.SweepResult{More: behind || others || len(found) > 1}, false
		if err != nil || len(found) == 0 {
			return err
		}
		h := &found[0]
		if out.Moved, unfinished, err = c.followHook(ctx, h, p.Limit); err != nil {
			return err
		}
		out.More = out.More || unfinished
		if unfinished || behind {
			return nil
		}
		// Rows that somebody else had locked were skipped: they keep the webhook dirty
		// until a later sweep, since nothing else looks for held ones. If there was
		// nothing else, the next sweep goes on behind it.
		if left, err := c.anyToFollow(ctx, h); err != nil || left {
			if out.Moved == 0 {
				s.lanes.sweep(h.ID)
			}
			return err
		}
		_, err = c.exec(ctx, "update {webhooks} set dirty = 0 where id = ?", c.d.id(h.ID))
		return err
	})
	if behind && (err != nil || unfinished) {
		s.lanes.addBehind([]uuid.UUID{id})
	}
	if err != nil {
		return webhook.SweepResult{}, err
	}
	if out.Moved > 0 {
		s.wake(everybody)
	}
	return out, nil
}

// anyDirty is a cheap look before Sweep begins a transaction. If it fails, the
// transaction says why.
func (s *Store) anyDirty(ctx context.Context) (dirty bool) {
	err := s.read(ctx, "look for webhooks to follow", func(c session) error {
		n, _, err := first(ctx, c, plain[int], "select count(*) from (select 1 from {webhooks} where dirty = 1 limit 1) t")
		dirty = n > 0
		return err
	})
	return err != nil || dirty
}

// followHook moves rows that do not fit their webhook, at most limit of them,
// and reports whether others are left. The webhook's row is locked.
func (c session) followHook(ctx context.Context, h *hook, limit int) (moved int, more bool, err error) {
	if h.narrowed != nil && h.deletedAt.IsZero() {
		if moved, more, err = c.cancelUnsubscribed(ctx, h, limit); err != nil || more {
			return moved, more, err
		}
	}
	for _, wrong := range c.wrongFor(h) {
		found, err := query(ctx, c, func(scan func(...any) error, r *movingRow) error {
			return scan(&r.id, &r.attempts, &r.phase)
		}, "select delivery_id, attempts, phase from {queue} where "+wrong.where+" order by delivery_id limit ? {for update} {skip locked}",
			append(wrong.args, limit-moved+1)...)
		if err != nil {
			return moved, false, err
		}
		if len(found) > limit-moved {
			more, found = true, found[:limit-moved]
		}
		if err := c.move(ctx, h, found); err != nil {
			return moved, false, err
		}
		moved += len(found)
		if more {
			return moved, true, nil
		}
	}
	return moved, false, nil
}

// anyToFollow reports whether any row does not fit its webhook, locked or not.
func (c session) anyToFollow(ctx context.Context, h *hook) (bool, error) {
	for _, wrong := range c.wrongFor(h) {
		_, found, err := first(ctx, c, plain[uuid.UUID], "select delivery_id from {queue} where "+wrong.where+" limit 1", wrong.args...)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// condition is a part of a statement with its arguments.
type condition struct {
	where string
	args  []any
}

// wrongFor says which rows of the queue do not fit the webhook, in the terms of
// its indexes.
func (c session) wrongFor(h *hook) []condition {
	of := func(phases string, args ...any) condition {
		return condition{"webhook_id = ? and " + phases, append([]any{c.d.id(h.ID)}, args...)}
	}
	switch {
	case !h.deletedAt.IsZero():
		return []condition{of("phase = 0"), of("phase in (1, 3)")}
	case !h.active:
		return []condition{of("phase = 0"), of("phase in (1, 3) and phase = 1")}
	case h.liveFrom > 0:
		return []condition{
			of("phase = 0 and epoch < ?", h.liveFrom),
			of("phase in (1, 3) and (phase = 1 and epoch < ? or phase = 3 and epoch >= ?)", h.liveFrom, h.liveFrom),
		}
	default:
		return []condition{of("phase in (1, 3) and phase = 3")}
	}
}

// movingRow is a row of the queue that follows its webhook.
type movingRow struct {
	closing
	phase int
}

// move puts rows where they belong.
func (c session) move(ctx context.Context, h *hook, found []movingRow) error {
	hold, resume := c.d.rows(), c.d.rows()
	var ended []closing
	for _, r := range found {
		switch {
		case !h.deletedAt.IsZero():
			r.state = stateCancelled
			ended = append(ended, r.closing)
		case r.phase == phaseHeld:
			resume.add().id("id", r.id)
		default:
			hold.add().id("id", r.id)
		}
	}
	if err := c.close(ctx, ended, h.deletedAt); err != nil {
		return err
	}
	if _, err := c.updateRows(ctx, "queue", "id uuid", hold, "{key t.delivery_id = x.id}", []string{"phase = 3"}); err != nil {
		return err
	}
	// Before the moment of resuming it was not due, see dueAt.
	_, err := c.updateRows(ctx, "queue", "id uuid", resume, "{key t.delivery_id = x.id}",
		[]string{
			"wake_at = case when t.epoch < ? then {max t.due_at, ?} else t.due_at end",
			"due_at = case when t.epoch < ? then {max t.due_at, ?} else t.due_at end", "phase = 1",
		},
		h.heldBefore, h.resumedAt.UnixMicro(), h.heldBefore, h.resumedAt.UnixMicro())
	return err
}
