package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Event returns one stored event, without its payload.
func (s *Store) Event(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.EventRecord, error) {
	var e webhook.EventRecord
	err := s.read(ctx, "read event", func(c session) error {
		found, ok, err := first(ctx, c, scanEvent, `select e.id, e.organization_id, e.event_type, e.subject_type, e.subject_id, e.parents,
			e.attributes, e.occurred_at, e.idempotency_key, e.test, e.trace_context from {events} e where e.id = ? and e.organization_id = ?`,
			c.d.id(id), scope.OrganizationID)
		if err == nil && (!ok || scope == webhook.Scope{}) {
			return webhook.ErrNotFound
		}
		e = found
		return err
	})
	return e, err
}

func scanEvent(scan func(...any) error, e *webhook.EventRecord) error {
	var test int
	err := scan(&e.ID, &e.OrganizationID, &e.Type, &e.Subject.Type, &e.Subject.ID, fromJSON[[]webhook.Subject]{&e.Parents},
		fromJSON[map[string]string]{&e.Attributes}, at{&e.OccurredAt}, maybe[string]{&e.IdempotencyKey}, &test,
		maybe[string]{&e.TraceContext})
	e.Test = test == 1
	return err
}

// Delivery returns one delivery with its payload.
func (s *Store) Delivery(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.Delivery, error) {
	var d webhook.Delivery
	err := s.read(ctx, "read delivery", func(c session) (err error) {
		d, err = c.deliveryIn(ctx, scope, id)
		if err != nil {
			return err
		}
		d.Payload, _, err = first(ctx, c, plain[[]byte], "select payload from {events} where id = ?", c.d.id(d.EventID))
		return err
	})
	if err != nil {
		return webhook.Delivery{}, err
	}
	return d, nil
}

// conditions are those of a list, chosen by what its query asks for. Their text
// is put together from constant parts alone.
type conditions struct {
	text string
	args []any
}

func (w *conditions) and(condition string, args ...any) {
	if w.text != "" {
		w.text += " and "
	}
	w.text += condition
	w.args = append(w.args, args...)
}

// between adds the bounds of a list's times.
func (w *conditions) between(column string, since, before time.Time) {
	if !since.IsZero() {
		w.and(column+" >= ?", notBefore(since))
	}
	if !before.IsZero() {
		w.and(column+" < ?", notBefore(before))
	}
}

// notBefore is the first stored moment that is not before t.
func notBefore(t time.Time) int64 {
	n := t.UnixMicro()
	if time.UnixMicro(n).Before(t) {
		n++
	}
	return n
}

// Deliveries lists deliveries.
func (s *Store) Deliveries(ctx context.Context, scope webhook.Scope, q webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error) {
	l := lister[webhook.Delivery]{
		filtered: q.State != "" || q.EventType != "",
		position: func(d *webhook.Delivery) webhook.Position { return webhook.Position{At: d.CreatedAt, ID: d.ID} },
	}
	within := func(where *conditions, r reach) {
		where.between("d.created_at", q.Since, q.Before)
		// The first condition of each says nothing new; it is what MySQL can use an index for.
		if r.after != nil {
			where.and("d.created_at <= ? and (d.created_at, d.id) < (?, ?)", r.after.At.UnixMicro(), r.after.At.UnixMicro(), s.d.id(r.after.ID))
		}
		if r.until != nil {
			where.and("d.created_at >= ? and (d.created_at, d.id) >= (?, ?)", r.until.At.UnixMicro(), r.until.At.UnixMicro(), s.d.id(r.until.ID))
		}
	}
	l.edge = func(c session, r reach, n int) (p webhook.Position, found bool, err error) {
		var where conditions
		if found, err := c.deliveriesOf(ctx, &where, scope, q); err != nil || !found {
			return p, false, err
		}
		within(&where, r)
		return first(ctx, c, func(scan func(...any) error, p *webhook.Position) error { return scan(at{&p.At}, &p.ID) },
			"select d.created_at, d.id from {deliveries} d where "+where.text+" order by d.created_at desc, d.id desc limit 1 offset ?",
			append(where.args, n-1)...)
	}
	l.fetch = func(c session, r reach, limit int) ([]webhook.Delivery, error) {
		var where conditions
		if found, err := c.deliveriesOf(ctx, &where, scope, q); err != nil || !found {
			return nil, err
		}
		within(&where, r)
		if q.State != "" {
			where.inState(q.State)
		}
		if q.EventType != "" {
			where.and("d.event_type = ?", string(q.EventType))
		}
		// The page is cut before anything is joined to it.
		return query(ctx, c, scanDelivery, "select "+deliveryColumns+
			" from (select d.* from {deliveries} d where "+where.text+" order by d.created_at desc, d.id desc limit ?) d join {events} e on {key e.id = d.event_id} "+
			openDelivery+" order by d.created_at desc, d.id desc", append(where.args, limit)...)
	}
	return l.list(ctx, s, "list deliveries", scope, q)
}

// deliveriesOf adds the condition that says whose deliveries are listed, in a way
// that leads to an index which is good for it. It reports false if there are none.
func (c session) deliveriesOf(ctx context.Context, where *conditions, scope webhook.Scope, q webhook.DeliveryQuery) (bool, error) {
	if q.WebhookID != (uuid.UUID{}) {
		if _, err := c.everIn(ctx, scope, q.WebhookID); err != nil { // whose deliveries are the organization's
			return false, err
		}
		if q.EventID == (uuid.UUID{}) {
			where.and("d.webhook_id = ?", c.d.id(q.WebhookID))
			return true, nil
		}
	}
	if q.EventID == (uuid.UUID{}) {
		where.and("d.organization_id = ?", scope.OrganizationID)
		return true, nil
	}
	_, found, err := first(ctx, c, plain[uuid.UUID], "select id from {events} where id = ? and organization_id = ?",
		c.d.id(q.EventID), scope.OrganizationID)
	if err != nil || !found {
		return false, err
	}
	where.and("d.event_id = ?", c.d.id(q.EventID))
	if q.WebhookID != (uuid.UUID{}) {
		// Of the few deliveries of an event. SQLite would rather go through all of the webhook's.
		where.and("coalesce(d.webhook_id, d.event_id) = ?", c.d.id(q.WebhookID))
	}
	return true, nil
}

// inState adds the condition that deliveries read as being in a state.
func (w *conditions) inState(state webhook.DeliveryState) {
	code := stateCode(state)
	switch code {
	case stateOpen, stateHeld:
		w.and("d.state = 0")
	case stateCancelled:
		w.and("d.state in (0, 3)")
	default:
		w.and("d.state = ?", code)
		return
	}
	w.and("(select "+shownState+" from {webhooks} w left join {queue} q on {key q.delivery_id = d.id} where w.id = d.webhook_id) = ?", code)
}

// loggedColumns are what scanAttempt scans.
const loggedColumns = `a.delivery_id, a.number, a.event_id, a.webhook_id, a.organization_id, a.event_type, a.started_at, a.duration,
	a.dns, a.connect, a.tls, a.first_byte, a.retry_after, a.outcome, a.status_code, a.endpoint_url, a.error_class, a.error,
	a.response, a.response_truncated`

func scanAttempt(scan func(...any) error, a *webhook.Attempt) error {
	var outcome, truncated int
	if err := scan(&a.DeliveryID, &a.Number, &a.EventID, &a.WebhookID, &a.OrganizationID, &a.EventType, at{&a.StartedAt}, &a.Duration,
		maybe[time.Duration]{&a.Timing.DNS}, maybe[time.Duration]{&a.Timing.Connect}, maybe[time.Duration]{&a.Timing.TLS},
		maybe[time.Duration]{&a.Timing.FirstByte}, maybe[time.Duration]{&a.RetryAfter}, &outcome, &a.StatusCode, &a.EndpointURL,
		maybe[webhook.ErrorClass]{&a.ErrorClass}, maybe[string]{&a.Error}, &a.Response, &truncated); err != nil {
		return err
	}
	if outcome < 0 || outcome >= len(outcomes) {
		return fmt.Errorf("attempt %d of delivery %s has the unknown outcome %d", a.Number, a.DeliveryID, outcome)
	}
	a.Outcome, a.ResponseTruncated = outcomes[outcome], truncated == 1
	return nil
}

// Attempts lists the log.
func (s *Store) Attempts(ctx context.Context, scope webhook.Scope, q webhook.AttemptQuery) (webhook.Page[webhook.Attempt], error) {
	l := lister[webhook.Attempt]{
		filtered: q.Outcome != "" || q.EventType != "" || q.StatusClass != 0,
		position: func(a *webhook.Attempt) webhook.Position {
			return webhook.Position{At: a.StartedAt, ID: a.DeliveryID, Number: a.Number}
		},
	}
	within := func(where *conditions, r reach) {
		where.between("a.started_at", q.Since, q.Before)
		if p := r.after; p != nil {
			where.and("a.started_at <= ? and (a.started_at, a.delivery_id, a.number) < (?, ?, ?)",
				p.At.UnixMicro(), p.At.UnixMicro(), s.d.id(p.ID), p.Number)
		}
		if p := r.until; p != nil {
			where.and("a.started_at >= ? and (a.started_at, a.delivery_id, a.number) >= (?, ?, ?)",
				p.At.UnixMicro(), p.At.UnixMicro(), s.d.id(p.ID), p.Number)
		}
	}
	const order = " order by a.started_at desc, a.delivery_id desc, a.number desc "
	l.edge = func(c session, r reach, n int) (p webhook.Position, found bool, err error) {
		var where conditions
		if found, err := c.attemptsOf(ctx, &where, scope, q); err != nil || !found {
			return p, false, err
		}
		within(&where, r)
		return first(ctx, c, func(scan func(...any) error, p *webhook.Position) error { return scan(at{&p.At}, &p.ID, &p.Number) },
			"select a.started_at, a.delivery_id, a.number from {attempts} a where "+where.text+order+"limit 1 offset ?", append(where.args, n-1)...)
	}
	l.fetch = func(c session, r reach, limit int) ([]webhook.Attempt, error) {
		var where conditions
		if found, err := c.attemptsOf(ctx, &where, scope, q); err != nil || !found {
			return nil, err
		}
		within(&where, r)
		if q.Outcome != "" {
			where.and("a.outcome = ?", outcomeCode(q.Outcome))
		}
		if q.EventType != "" {
			where.and("a.event_type = ?", string(q.EventType))
		}
		if q.StatusClass != 0 {
			where.and("a.status_code >= ? and a.status_code < ?", 100*q.StatusClass, 100*(q.StatusClass+1))
		}
		return query(ctx, c, scanAttempt, "select "+loggedColumns+" from {attempts} a where "+where.text+order+"limit ?", append(where.args, limit)...)
	}
	return l.list(ctx, s, "list attempts", scope, q)
}

// attemptsOf adds the one condition that says whose attempts are listed: each has
// an index of its own. It reports false if there are none.
func (c session) attemptsOf(ctx context.Context, where *conditions, scope webhook.Scope, q webhook.AttemptQuery) (bool, error) {
	if q.WebhookID != (uuid.UUID{}) {
		if _, err := c.everIn(ctx, scope, q.WebhookID); err != nil {
			return false, err
		}
	}
	switch {
	case q.DeliveryID != uuid.UUID{}:
		d, err := c.deliveryIn(ctx, scope, q.DeliveryID)
		if err != nil || q.WebhookID != (uuid.UUID{}) && q.WebhookID != d.WebhookID {
			return false, err
		}
		where.and("a.delivery_id = ?", c.d.id(q.DeliveryID))
	case q.WebhookID != uuid.UUID{}:
		where.and("a.webhook_id = ?", c.d.id(q.WebhookID))
	default:
		where.and("a.organization_id = ?", scope.OrganizationID)
	}
	return true, nil
}

// windows are how many rows a page with a filter looks at, one after the other,
// before it is given back with what has been found: a filter that fits one row in a
// million must not read the million. Looking at 2,500 takes some milliseconds.
var windows = []int{500, 1000, 1000}

// reach is a part of a list, from after one position until another one, which
// belongs to it; nil is its end.
type reach struct{ after, until *webhook.Position }

// lister reads a list, newest first.
type lister[T any] struct {
	filtered bool // fetch passes over rows that edge counts
	edge     func(c session, r reach, n int) (nth webhook.Position, found bool, err error)
	fetch    func(c session, r reach, limit int) ([]T, error)
	position func(*T) webhook.Position
}

// list reads one page. It looks for one record more than the page has, by which to
// know whether there is another page.
func (l *lister[T]) list(ctx context.Context, s *Store, step string, scope webhook.Scope, q webhook.Query) (webhook.Page[T], error) {
	var page webhook.Page[T]
	after, limit, goesOn, err := webhook.StartOf(scope, q)
	if err != nil {
		return page, fmt.Errorf("sqlstore: %s: %w", step, err)
	}
	var found []T
	var seen *webhook.Position // how far a page that is not full has looked
	err = s.read(ctx, step, func(c session) (err error) {
		r := reach{}
		if goesOn {
			r.after = &after
		}
		if !l.filtered {
			found, err = l.fetch(c, r, limit+1)
			return err
		}
		found, seen = nil, nil
		for _, n := range windows {
			r.until = nil
			end, more, err := l.edge(c, r, n)
			if err != nil {
				return err
			}
			if more {
				r.until = &end
			}
			some, err := l.fetch(c, r, limit+1-len(found))
			if err != nil {
				return err
			}
			found = append(found, some...)
			if r.after, seen = r.until, r.until; len(found) > limit || !more {
				break
			}
		}
		return nil
	})
	if err != nil || scope == (webhook.Scope{}) {
		return page, err
	}
	switch {
	case len(found) > limit:
		found = found[:limit]
		page.Next = webhook.NextCursor(scope, q, l.position(&found[limit-1]))
	case seen != nil:
		page.Next = webhook.NextCursor(scope, q, *seen)
	}
	page.Items = found
	return page, nil
}

// Counters returns a webhook's counted hours.
func (s *Store) Counters(ctx context.Context, scope webhook.Scope, q webhook.CounterQuery) ([]webhook.Counter, error) {
	var out []webhook.Counter
	err := s.read(ctx, "read counters", func(c session) error {
		if _, err := c.hookIn(ctx, scope, q.WebhookID); err != nil {
			return err
		}
		var err error
		out, err = c.counters(ctx, q)
		return err
	})
	return out, err
}

// counters returns a webhook's counters of a span of hours, oldest first.
func (c session) counters(ctx context.Context, q webhook.CounterQuery) ([]webhook.Counter, error) {
	var where conditions
	where.and("webhook_id = ?", c.d.id(q.WebhookID))
	where.between("hour", q.Since, q.Before)
	return query(ctx, c, func(scan func(...any) error, n *webhook.Counter) error {
		to := []any{at{&n.Hour}, at{&n.LastSuccessAt}, &n.FailedSince, &n.Succeeded, &n.Failed, &n.Interrupted}
		for i := range n.Latency {
			to = append(to, &n.Latency[i])
		}
		err := scan(to...)
		switch { // what an earlier release has counted
		case n.Succeeded == 0:
			n.FailedSince = n.Failed
		case n.LastSuccessAt.IsZero():
			n.LastSuccessAt = n.Hour
		}
		return err
	}, "select hour, last_success_at, failed_since, "+strings.Join(counterColumns(), ", ")+" from {counters} where "+where.text+" order by hour", where.args...)
}
