package sqlstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// narrowBatch bounds the open deliveries that one transaction looks at.
const narrowBatch = 1000

// errNarrowing says that an edit from before has not cancelled everything yet.
var errNarrowing = errors.New("an earlier edit is not through")

// narrowing is what an edit that took subscriptions away has yet to do: to cancel
// open deliveries of what was subscribed before and is not any more. It is part of
// the webhook's row until it is done, so that a Sweep goes on with it if the
// process that began it does not.
type narrowing struct {
	Before []webhook.Subscription
	At     time.Time
	Epoch  int64     // deliveries from this epoch on came after the edit
	After  uuid.UUID // the last delivery that was looked at
}

// narrowerThan reports whether anything that another state of the webhook
// subscribes to is missing in this one, whatever the filters.
func (h *hook) narrowerThan(o *hook) bool {
	return slices.ContainsFunc(o.Subscriptions, func(a webhook.Subscription) bool {
		return !slices.ContainsFunc(h.Subscriptions, func(b webhook.Subscription) bool {
			return a.Subject == b.Subject && a.EventType == b.EventType
		})
	})
}

// finishNarrowing cancels, batch by batch, what is left of an edit. In between it
// leaves the webhook's row to others, who may not wait for it, for half of the time
// that it had it.
func (s *Store) finishNarrowing(ctx context.Context, scope webhook.Scope, id uuid.UUID) error {
	for {
		began, more := ticks(), false
		err := s.write(ctx, "cancel what is no longer subscribed to", func(c session) error {
			h, err := c.lockHook(ctx, scope, id, waiting)
			if err != nil || h.narrowed == nil {
				more = false
				return err
			}
			_, more, err = c.cancelUnsubscribed(ctx, &h, narrowBatch)
			return err
		}, func(session) (bool, error) { return false, nil }) // what is done already is not done again
		if err != nil || !more {
			return err
		}
		sleep(ctx, ticks().Sub(began)/2)
	}
}

// cancelUnsubscribed works on one batch of a narrowing, and reports whether there
// are others. The webhook's row is locked.
func (c session) cancelUnsubscribed(ctx context.Context, h *hook, limit int) (cancelled int, more bool, err error) {
	n := h.narrowed
	ids, more, err := c.openAfter(ctx, h.ID, n.After, limit)
	if err != nil || more && len(ids) == 0 {
		return 0, more, err
	}
	type open struct {
		movingRow
		epoch   int64
		eventID uuid.UUID
	}
	rows, err := query(ctx, c, func(scan func(...any) error, o *open) error {
		return scan(&o.id, &o.phase, &o.attempts, &o.epoch, &o.eventID)
	}, `select q.delivery_id, q.phase, q.attempts, q.epoch, q.event_id from {rows x id uuid} {join queue q}
		where {key q.delivery_id = x.id} {for update}`, c.d.idRows(ids))
	if err != nil {
		return 0, false, err
	}
	var eventIDs []uuid.UUID
	for _, o := range rows {
		eventIDs = append(eventIDs, o.eventID)
	}
	found, err := query(ctx, c, func(scan func(...any) error, e *webhook.EventRecord) error {
		var test int
		err := scan(&e.ID, &test, &e.Type, &e.Subject.Type, &e.Subject.ID, fromJSON[[]webhook.Subject]{&e.Parents})
		e.Test = test == 1
		return err
	}, `select e.id, e.test, e.event_type, e.subject_type, e.subject_id, e.parents
		from {rows x id uuid} join {events} e on {key e.id = x.id}`, c.d.idRows(distinct(eventIDs)))
	if err != nil {
		return 0, false, err
	}
	before := webhook.Webhook{Subscriptions: n.Before}
	unwanted := map[uuid.UUID]bool{}
	for i := range found {
		e := &found[i]
		unwanted[e.ID] = before.Subscribes(e) && !h.Subscribes(e) // without the former it was asked for by hand
	}
	var ended []closing
	inFlight := c.d.rows()
	for _, o := range rows {
		switch {
		case !unwanted[o.eventID] || o.epoch >= n.Epoch:
		case o.phase == phaseLeased:
			inFlight.add().id("id", o.id)
		default:
			o.state = stateCancelled
			ended = append(ended, o.closing)
		}
	}
	if err := c.close(ctx, ended, n.At); err != nil {
		return 0, false, err
	}
	if _, err := c.updateRows(ctx, "queue", "id uuid", inFlight, "{key t.delivery_id = x.id}", []string{"cancelled = 1"}); err != nil {
		return 0, false, err
	}
	if h.narrowed = nil; more {
		n.After = ids[len(ids)-1]
		h.narrowed = n
	}
	left, err := asJSON(h.narrowed, h.narrowed == nil)
	if err != nil {
		return 0, false, err
	}
	_, err = c.exec(ctx, "update {webhooks} set narrowed = ? where id = ?", left, c.d.id(h.ID))
	return len(ended) + inFlight.n, more, err
}

// openAfter returns the webhook's open deliveries after one of them, in the order
// of their ids, whatever their phase. One statement finds them, and locks nothing:
// between two, a row might go from the phase that is looked at next to the one that
// has been.
func (c session) openAfter(ctx context.Context, id, after uuid.UUID, limit int) (ids []uuid.UUID, more bool, err error) {
	index := ""
	if c.d == MySQL {
		index = " force index ({queue_ready})"
	}
	var text strings.Builder
	var args []any
	for _, phase := range []string{"phase = 0", "phase in (1, 3) and phase = 1", "phase in (1, 3) and phase = 3"} {
		text.WriteString("select * from (select delivery_id from {queue}" + index + " where " + phase +
			" and webhook_id = ? and delivery_id > ? order by delivery_id limit ?) t union all ")
		args = append(args, c.d.id(id), c.d.anyID(after), limit+1)
	}
	// Those that are leased are few, and found by time.
	all, err := query(ctx, c, plain[uuid.UUID], text.String()+"select delivery_id from {queue}"+index+" where phase = 2 and webhook_id = ?",
		append(args, c.d.id(id))...)
	if err != nil {
		return nil, false, err
	}
	ids = slices.DeleteFunc(distinct(all), func(id uuid.UUID) bool { return slices.Compare(id[:], after[:]) <= 0 })
	ids, more = batch(ids, limit)
	return ids, more, nil
}
