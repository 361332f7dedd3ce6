package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

const (
	backlogLook   = 10_000 // webhooks with ready rows that are counted
	backlogRounds = 4      // of counting those with the most
	oldestLook    = 1000   // rows of a webhook that are looked at for the oldest
)

// Overview counts what is in the queue.
//
// Each number costs a walk over as many entries of an index. Held rows share theirs
// with waiting ones, so that behind very many of those they are counted no further.
func (s *Store) Overview(ctx context.Context, p webhook.OverviewParams) (webhook.Overview, error) {
	var out webhook.Overview
	err := s.read(ctx, "overview", func(c session) error {
		o := &overview{session: c, now: stored(p.Now), countTo: int64(p.CountTo), top: max(0, p.Top)}
		if o.countTo <= 0 {
			o.countTo = math.MaxInt64
		}
		for _, step := range []func(context.Context) error{o.settings, o.notices, o.phases, o.backlog} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		out = o.out
		return nil
	})
	return out, err
}

// overview is one at work.
type overview struct {
	session
	now     time.Time
	countTo int64
	top     int
	due     map[uuid.UUID]*webhook.WebhookBacklog // rows that are due, and not ready yet
	waited  int                                   // how many these are
	out     webhook.Overview
}

// settings reads what holds for all dispatchers.
func (o *overview) settings(ctx context.Context) error {
	paused, err := o.pause(ctx)
	if err != nil {
		return err
	}
	if paused != nil {
		o.out.Paused, o.out.PausedSince, o.out.PausedBy = true, time.UnixMicro(paused.Since).UTC(), paused.By
	}
	purge, found, err := first(ctx, o.session, scanJSON[lastPurge], "select value from {settings} where name = ?", purgeSetting)
	if found {
		o.out.LastPurge, o.out.LastPurged = time.UnixMicro(purge.At).UTC(), purge.Result
	}
	return err
}

func (o *overview) notices(ctx context.Context) error {
	_, _, err := first(ctx, o.session, func(scan func(...any) error, _ *struct{}) error {
		return scan(&o.out.NoticesWaiting, at{&o.out.NextNotice})
	}, "select count(*), min(due_at) from (select due_at from {notices} order by due_at limit ?) n", o.countTo)
	return err
}

// phases counts the queue's rows.
func (o *overview) phases(ctx context.Context) (err error) {
	count := func(to *int, rows string, args ...any) {
		if err == nil {
			*to, _, err = first(ctx, o.session, plain[int], "select count(*) from ("+rows+" limit ?) q", append(args, o.countTo)...)
		}
	}
	now := o.now.UnixMicro()
	count(&o.out.Ready, "select 1 from "+o.queueBy("ready")+" where phase = 0")
	count(&o.out.Leased, "select 1 from "+o.queueBy("by_time")+" where phase = 2")
	count(&o.out.Waiting, "select 1 from "+o.queueBy("by_time")+" where phase = 1 and wake_at > ?", now)
	if o.d == MySQL {
		count(&o.out.Held, "select 1 from "+o.queueBy("ready")+" where phase = 3")
	} else if err == nil {
		o.out.Held, _, err = first(ctx, o.session, plain[int],
			"select count(case when q.phase = 3 then 1 end) from (select phase from {queue} where phase in (1, 3) limit ?) q", o.countTo)
	}
	if err != nil {
		return err
	}
	// Nobody makes rows ready while dispatchers are paused, so some wait that are due.
	o.due = map[uuid.UUID]*webhook.WebhookBacklog{}
	due, err := query(ctx, o.session, scanBacklog, "select q.webhook_id, count(*), min(q.wake_at) from (select webhook_id, wake_at from "+
		o.queueBy("by_time")+" where phase = 1 and wake_at <= ? order by wake_at limit ?) q group by q.webhook_id", now, o.countTo)
	for i := range due {
		o.due[due[i].WebhookID] = &due[i]
		o.waited += due[i].Due
	}
	return err
}

// queueBy is the queue, read by one of its indexes, which MySQL is told.
func (o *overview) queueBy(index string) string {
	if o.d == MySQL {
		return "{queue} force index ({queue_" + index + "})"
	}
	return "{queue}"
}

func (o *overview) bounded(n int) int { return int(min(int64(n), o.countTo)) }

func scanBacklog(scan func(...any) error, b *webhook.WebhookBacklog) error {
	return scan(&b.WebhookID, &b.Due, at{&b.OldestDue})
}

// backlog finds the webhooks with the most rows that are due.
func (o *overview) backlog(ctx context.Context) error {
	ready, err := query(ctx, o.session, scanFound, scanOf[o.d])
	if err != nil {
		return err
	}
	var active, stopped []uuid.UUID
	for _, f := range ready[:min(len(ready), backlogLook)] {
		if f.active {
			active = append(active, f.id)
		} else {
			stopped = append(stopped, f.id)
		}
	}
	all, err := o.count(ctx, active)
	if err != nil {
		return err
	}
	if err := o.setApart(ctx, stopped, all); err != nil {
		return err
	}
	o.out.Ready = o.bounded(o.out.Ready + o.waited)
	for id, more := range o.due {
		more.More = int64(more.Due) >= o.countTo
		b := all[id]
		if b == nil {
			all[id] = more
			continue
		}
		b.Due, b.More = o.bounded(b.Due+more.Due), b.More || more.More || int64(b.Due+more.Due) >= o.countTo
		if more.OldestDue.Before(b.OldestDue) {
			b.OldestDue = more.OldestDue
		}
	}
	return o.pick(ctx, all)
}

// setApart takes the rows of webhooks that are not active, which have to follow
// them yet, out of those that are due.
func (o *overview) setApart(ctx context.Context, stopped []uuid.UUID, active map[uuid.UUID]*webhook.WebhookBacklog) error {
	if len(stopped) == 0 {
		return nil
	}
	counted, err := o.count(ctx, stopped)
	if err != nil {
		return err
	}
	deleted, err := query(ctx, o.session, plain[uuid.UUID], "select w.id from {rows x id uuid} join {webhooks} w on {key w.id = x.id} "+
		"where w.deleted_at is not null", o.d.idRows(stopped))
	for id, b := range counted {
		o.out.Ready -= b.Due
		if !slices.Contains(deleted, id) {
			o.out.Held = o.bounded(o.out.Held + b.Due)
		}
	}
	sum := 0
	for _, b := range active {
		sum += b.Due
	}
	o.out.Ready = o.bounded(max(o.out.Ready, sum)) // if they were not counted to the end
	return err
}

// count counts the ready rows of webhooks. Each is counted up to its share of the
// bound; those that have more are counted again, and share the bound among
// themselves.
func (o *overview) count(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*webhook.WebhookBacklog, error) {
	all := map[uuid.UUID]*webhook.WebhookBacklog{}
	for upTo, round := int64(0), 0; len(ids) > 0 && round < backlogRounds; round++ {
		share := max(1, o.countTo/int64(len(ids)))
		if share <= upTo {
			break
		}
		upTo = share
		counted, err := o.countUpTo(ctx, ids, upTo)
		if err != nil {
			return nil, err
		}
		ids = nil
		for i := range counted {
			b := &counted[i]
			all[b.WebhookID] = b
			if b.More = int64(b.Due) >= upTo; b.More {
				ids = append(ids, b.WebhookID)
			}
		}
	}
	return all, nil
}

// countUpTo counts the ready rows of webhooks, those of each no further than upTo.
func (o *overview) countUpTo(ctx context.Context, ids []uuid.UUID, upTo int64) ([]webhook.WebhookBacklog, error) {
	look := min(upTo, oldestLook)
	if o.d == Postgres {
		return query(ctx, o.session, scanBacklog, `select x.id, n.n, d.due from {rows x id uuid}
			cross join lateral (select count(*) as n from (
				select 1 from {queue} q where q.phase = 0 and q.webhook_id = x.id limit ?) q) n
			cross join lateral (select min(q.due_at) as due from (
				select q.due_at from {queue} q where q.phase = 0 and q.webhook_id = x.id order by q.delivery_id limit ?) q) d`,
			o.d.idRows(ids), upTo, look)
	}
	var out []webhook.WebhookBacklog
	for some := range slices.Chunk(ids, unionLimit) { // as in pick, there is no LATERAL
		var parts []string
		var args []any
		for i, id := range some {
			parts = append(parts, fmt.Sprintf(`select %d as i, (select count(*) from (select 1 from %[2]s where phase = 0 and webhook_id = ? limit ?) q) as n,
				(select min(due_at) from (select due_at from %[2]s where phase = 0 and webhook_id = ? order by delivery_id limit ?) d) as due`,
				i, o.queueBy("ready")))
			args = append(args, o.d.id(id), upTo, o.d.id(id), look)
		}
		counted, err := query(ctx, o.session, func(scan func(...any) error, b *webhook.WebhookBacklog) error {
			var i int
			err := scan(&i, &b.Due, at{&b.OldestDue})
			if err == nil {
				b.WebhookID = some[i]
			}
			return err
		}, strings.Join(parts, " union all "), args...)
		if err != nil {
			return nil, err
		}
		out = append(out, counted...)
	}
	return out, nil
}

// pick keeps the webhooks with the most, of those that are active, and says who they
// are.
func (o *overview) pick(ctx context.Context, all map[uuid.UUID]*webhook.WebhookBacklog) error {
	list := make([]*webhook.WebhookBacklog, 0, len(all))
	for _, b := range all {
		if b.Due > 0 {
			list = append(list, b)
			if o.out.OldestDue.IsZero() || b.OldestDue.Before(o.out.OldestDue) {
				o.out.OldestDue = b.OldestDue
			}
		}
	}
	last := map[bool]int{true: 0, false: 1}
	slices.SortFunc(list, func(a, b *webhook.WebhookBacklog) int {
		return cmp.Or(cmp.Compare(last[a.More], last[b.More]), cmp.Compare(b.Due, a.Due), a.OldestDue.Compare(b.OldestDue), slices.Compare(a.WebhookID[:], b.WebhookID[:]))
	})
	for some := range slices.Chunk(list, max(1, o.top)) {
		if len(o.out.Backlog) >= o.top {
			break
		}
		x := o.d.rows()
		for _, b := range some {
			x.add().id("id", b.WebhookID)
		}
		hooks, err := query(ctx, o.session, func(scan func(...any) error, w *webhook.Webhook) error {
			return scan(&w.ID, &w.OrganizationID, &w.Name, &w.EndpointURL)
		}, `select w.id, w.organization_id, w.name, w.endpoint_url from {rows x id uuid} join {webhooks} w on {key w.id = x.id}
			where w.active = 1 and w.deleted_at is null`, x)
		if err != nil {
			return err
		}
		for _, b := range some {
			i := slices.IndexFunc(hooks, func(w webhook.Webhook) bool { return w.ID == b.WebhookID })
			if i >= 0 && len(o.out.Backlog) < o.top {
				w := &hooks[i]
				b.OrganizationID, b.Name, b.EndpointHost = w.OrganizationID, w.Name, w.EndpointHost()
				o.out.Backlog = append(o.out.Backlog, *b)
			}
		}
	}
	return nil
}
