package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

const (
	promoteLimit = 1000 // rows that become ready in one claim
	waitingLook  = 100  // waiting rows that are looked at for the next that may be claimed

	// unionLimit bounds the parts of a statement. SQLite takes 500, and each number of
	// them is a statement that is kept.
	unionLimit = 64
)

// Claim leases due deliveries. Rows are locked in the order of their webhooks'
// turns and skipped if another claim has them.
func (s *Store) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	var k *claiming
	err := s.work(ctx, "claim", func(c session) error {
		k = &claiming{session: c, p: &p, now: stored(p.Now), token: uuid.New(), room: newRoom(&p), hooks: map[uuid.UUID]*claimHook{}, exhausted: map[uuid.UUID]bool{}, upTo: map[uuid.UUID]uuid.UUID{}}
		return k.run(ctx)
	}, func(c session) (bool, error) {
		if len(k.out.Claims) == 0 {
			return true, nil
		}
		n, _, err := first(ctx, c, plain[int], "select count(*) from {queue} where phase = 2 and token = ?", c.d.id(k.token))
		return n > 0, err
	})
	if err != nil {
		return webhook.ClaimResult{}, err
	}
	if len(k.out.Claims) > 0 {
		s.lanes.leases(k.out.Claims[0].LeasedUntil)
	}
	s.lanes.served(k.lanes, k.upTo, k.empty)
	s.lanes.addBehind(k.behind)
	return k.out, nil
}

// claiming is one claim at work.
type claiming struct {
	session
	p     *webhook.ClaimParams
	now   time.Time
	token uuid.UUID // of the call, see tokenOf
	room  *room
	hooks map[uuid.UUID]*claimHook // as they are now

	exhausted map[uuid.UUID]bool      // webhooks without any more ready rows
	upTo      map[uuid.UUID]uuid.UUID // by webhook, the last delivery that was taken

	lanes   []lane
	scanned bool // the queue was asked who has work
	empty   []uuid.UUID
	behind  []uuid.UUID
	out     webhook.ClaimResult
}

// claimHook is what a claim needs of a webhook.
type claimHook struct {
	id         uuid.UUID
	active     bool // and not deleted
	liveFrom   int64
	heldBefore int64
	resumedAt  time.Time
	url        string
	secret     []byte
	rateLimit  int
}

func (k *claiming) run(ctx context.Context) error {
	began, from := ticks(), k.session.lanes.leasedFrom()
	ahead, _, err := first(ctx, k.session, func(scan func(...any) error, a *ahead) error {
		return scan(at{&a.waiting}, at{&a.leased}, &a.paused)
	}, `select (select wake_at from {queue} where phase = 1 order by wake_at limit 1),
		(select wake_at from {queue} where phase = 2 and wake_at >= ? order by wake_at limit 1), `+isPaused, from.UnixMicro())
	if err != nil {
		return err
	}
	k.session.lanes.leasedUntil(from, ahead.leased, k.now, ticks().Sub(began))
	if ahead.paused > 0 {
		k.out.Paused = true
		k.soonest(ahead.leased)
		return nil
	}
	promoted := 0
	if !ahead.waiting.IsZero() && !ahead.waiting.After(k.now) {
		if promoted, err = k.promote(ctx); err != nil {
			return err
		}
	}
	var scanFirst bool
	k.lanes, scanFirst = k.session.lanes.inTurn()
	if scanFirst {
		if err := k.scan(ctx); err != nil {
			return err
		}
	}
	if err := k.take(ctx); err != nil {
		return err
	}
	k.soonest(ahead.leased)
	switch {
	case k.p.Limit > 0 && len(k.out.Claims) == k.p.Limit, promoted == promoteLimit:
		k.soonest(k.now) // whether there are more, the next claim finds out
		return nil
	default:
		return k.lookAhead(ctx, !ahead.waiting.IsZero())
	}
}

// ahead is when, at the earliest, a waiting row is due and a lease ends, and
// whether dispatchers are paused.
type ahead struct {
	waiting, leased time.Time
	paused          int
}

// take claims, round by round, until the limit or nothing is left.
func (k *claiming) take(ctx context.Context) error {
	for len(k.out.Claims) < k.p.Limit {
		want := k.allot()
		if len(want) == 0 {
			if k.scanned || !k.session.lanes.worthScanning() {
				return nil
			}
			if err := k.scan(ctx); err != nil {
				return err
			}
			continue
		}
		if err := k.lease(ctx, want); err != nil {
			return err
		}
	}
	return nil
}

// allotment is how many rows of a webhook to take.
type allotment struct {
	lane *lane
	n    int
}

// allot shares what is left of the limit among the webhooks: whoever has got the
// least so far is next, within all bounds.
func (k *claiming) allot() []allotment {
	left := k.p.Limit - len(k.out.Claims)
	var open []allotment
	for i := range k.lanes {
		if !k.exhausted[k.lanes[i].id] {
			open = append(open, allotment{lane: &k.lanes[i]})
		}
	}
	had := func(a allotment) int { return k.room.hooks[a.lane.id] }
	// Rounds begin with those that are behind.
	for round := 0; left > 0; round++ {
		progress, later := false, false
		for i := range open {
			if left == 0 {
				break
			}
			a := &open[i]
			if had(*a) > round {
				later = true
				continue
			}
			if k.room.of(a.lane) <= 0 {
				continue
			}
			k.room.took(a.lane)
			a.n++
			left--
			progress = true
		}
		if !progress && !later {
			break
		}
	}
	out := slices.DeleteFunc(open, func(a allotment) bool { return a.n == 0 })
	for _, a := range out { // it was a plan; what is found counts
		for range a.n {
			k.room.gaveBack(a.lane)
		}
	}
	return out
}

// readyRow is a row of the queue that is being claimed.
type readyRow struct {
	id, eventID, webhookID uuid.UUID
	epoch                  int64
	attempts               int
	due                    time.Time
}

// lease claims what was allotted, as far as it is there.
func (k *claiming) lease(ctx context.Context, want []allotment) error {
	before, until := len(k.out.Claims), stored(k.now.Add(k.p.LeaseFor))
	take := k.takeStepwise
	if k.d == Postgres {
		take = k.takeAtOnce
	}
	if err := take(ctx, want, until); err != nil {
		return err
	}
	taken := k.out.Claims[before:]
	got := map[uuid.UUID]int{}
	for i := range taken {
		c := &taken[i]
		got[c.WebhookID]++
		if last := k.upTo[c.WebhookID]; slices.Compare(c.DeliveryID[:], last[:]) > 0 {
			k.upTo[c.WebhookID] = c.DeliveryID
		}
	}
	for _, a := range want {
		if got[a.lane.id] < a.n {
			k.exhausted[a.lane.id] = true
			if got[a.lane.id] == 0 && k.room.hooks[a.lane.id] == 0 {
				k.empty = append(k.empty, a.lane.id)
				if k.scanned { // the queue says that it has rows: they are held, or of a clock that is ahead
					k.behind = append(k.behind, a.lane.id)
				}
			}
		}
		for range got[a.lane.id] {
			k.room.took(a.lane)
		}
	}
	if len(taken) > 0 {
		k.soonest(until)
	}
	return nil
}

// takeAtOnce is takeStepwise in one statement.
func (k *claiming) takeAtOnce(ctx context.Context, want []allotment, until time.Time) error {
	x := k.d.rows()
	for i, a := range want {
		x.add().int("i", int64(i)).id("id", a.lane.id).int("n", int64(a.n)).id("low", a.lane.low)
	}
	urls, secrets := make([]string, len(want)), make([]webhook.Secret, len(want))
	var i int
	var url, secret sql.RawBytes
	text, args := k.statement(`with taken as materialized (
			select x.i, q.delivery_id, q.event_id, q.attempts, w.endpoint_url, w.secret, w.rate_limit,
				case when q.epoch < w.held_before then greatest(q.due_at, w.resumed_at) else q.due_at end as due_at
			from {rows x i int, id uuid, n int, low uuid} join {webhooks} w on {key w.id = x.id} and w.active = 1 and w.deleted_at is null
			cross join lateral (
				select q.delivery_id, q.event_id, q.attempts, q.epoch, q.due_at from {queue} q
				where q.phase = 0 and q.webhook_id = x.id and q.delivery_id >= x.low and q.due_at <= ?
					and q.epoch >= case when w.resumed_at > ? then greatest(w.live_from, w.held_before) else w.live_from end
				order by q.delivery_id limit x.n for update skip locked) q),
		leased as (
			update {queue} t set phase = 2, wake_at = ?, token = ?, claimed_at = ?, attempts = t.attempts + 1, claimed_url = taken.endpoint_url
			from taken where {key t.delivery_id = taken.delivery_id})
		select taken.i, taken.delivery_id, taken.event_id, taken.attempts, taken.due_at, taken.endpoint_url, taken.secret, taken.rate_limit,
			e.event_type, e.test, e.payload, e.trace_context
		from taken join {events} e on {key e.id = taken.event_id}`,
		[]any{x, k.now.UnixMicro(), k.now.UnixMicro(), until.UnixMicro(), k.d.id(k.token), k.now.UnixMicro()})
	found, err := k.q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		var due int64
		var test int
		var trace sql.NullString
		c := webhook.Claim{LeasedUntil: until}
		if err := found.Scan(&i, &c.DeliveryID, &c.EventID, &c.Attempt, &due, &url, &secret, &c.RateLimit, &c.EventType, &test, &c.Payload, &trace); err != nil {
			return err
		}
		if urls[i] == "" {
			urls[i], secrets[i] = string(url), k.openOrLog(secret, want[i].lane.organization, want[i].lane.id)
		}
		l := want[i].lane
		c.WebhookID, c.OrganizationID, c.EndpointURL, c.Secret = l.id, l.organization, urls[i], secrets[i]
		c.Attempt++
		c.Token, c.DueAt, c.Test, c.TraceContext = tokenOf(k.token, c.DeliveryID), time.UnixMicro(due).UTC(), test == 1, trace.String
		k.out.Claims = append(k.out.Claims, c)
	}
	return found.Err()
}

// takeStepwise leases ready rows of the webhooks, the oldest first, and adds
// their claims.
func (k *claiming) takeStepwise(ctx context.Context, want []allotment, until time.Time) error {
	if err := k.readHooks(ctx, want); err != nil {
		return err
	}
	picked, err := k.pick(ctx, want, true)
	if err != nil || len(picked) == 0 {
		return err
	}
	x, events := k.d.rows(), k.d.rows()
	asked := map[uuid.UUID]bool{}
	for _, r := range picked {
		x.add().id("id", r.id).text("url", k.hooks[r.webhookID].url)
		if !asked[r.eventID] {
			asked[r.eventID] = true
			events.add().id("id", r.eventID)
		}
	}
	if _, err := k.updateRows(ctx, "queue", "id uuid, url text", x, "{key t.delivery_id = x.id}",
		[]string{"phase = 2", "wake_at = ?", "token = ?", "claimed_at = ?", "attempts = t.attempts + 1", "claimed_url = x.url"},
		until.UnixMicro(), k.d.id(k.token), k.now.UnixMicro()); err != nil {
		return err
	}
	type event struct {
		id           uuid.UUID
		organization string
		kind         webhook.EventType
		test         int
		payload      []byte
		trace        string
	}
	read, err := query(ctx, k.session, func(scan func(...any) error, e *event) error {
		return scan(&e.id, &e.organization, &e.kind, &e.test, &e.payload, maybe[string]{&e.trace})
	}, "select e.id, e.organization_id, e.event_type, e.test, e.payload, e.trace_context from {rows x id uuid} join {events} e on {key e.id = x.id}", events)
	if err != nil {
		return err
	}
	byID := map[uuid.UUID]*event{}
	for i := range read {
		byID[read[i].id] = &read[i]
	}
	for _, r := range picked {
		h, e := k.hooks[r.webhookID], byID[r.eventID]
		c := webhook.Claim{
			DeliveryID: r.id, EventID: r.eventID, WebhookID: r.webhookID, Attempt: r.attempts + 1, Token: tokenOf(k.token, r.id),
			DueAt: r.due, LeasedUntil: until, EndpointURL: h.url, RateLimit: h.rateLimit, Secret: k.openOrLog(h.secret, e.organization, h.id),
		}
		if r.epoch < h.heldBefore && c.DueAt.Before(h.resumedAt) {
			c.DueAt = h.resumedAt
		}
		c.OrganizationID, c.EventType, c.Test, c.Payload, c.TraceContext = e.organization, e.kind, e.test == 1, slices.Clone(e.payload), e.trace
		k.out.Claims = append(k.out.Claims, c)
	}
	return nil
}

// readHooks reads the webhooks that are about to be claimed from, as they are
// now. They stay so until this transaction ends, because of the gate.
func (k *claiming) readHooks(ctx context.Context, want []allotment) error {
	x := k.d.rows()
	for _, a := range want {
		if k.hooks[a.lane.id] == nil {
			k.hooks[a.lane.id] = &claimHook{id: a.lane.id} // in case it is not there
			x.add().id("id", a.lane.id)
		}
	}
	if x.n == 0 {
		return nil
	}
	found, err := query(ctx, k.session, func(scan func(...any) error, h *claimHook) error {
		var active int
		err := scan(&h.id, &active, &h.liveFrom, &h.heldBefore, at{&h.resumedAt}, &h.url, maybe[[]byte]{&h.secret}, &h.rateLimit)
		h.active = active == 1
		return err
	}, `select w.id, case when w.deleted_at is null then w.active else 0 end, w.live_from, w.held_before, w.resumed_at, w.endpoint_url, w.secret, w.rate_limit
		from {rows x id uuid} join {webhooks} w on {key w.id = x.id}`, x)
	for i := range found {
		h := &found[i]
		if h.resumedAt.After(k.now) { // by a clock that is ahead: what was held is not due yet
			h.liveFrom = max(h.liveFrom, h.heldBefore)
		}
		k.hooks[h.id] = h
	}
	return err
}

// pick returns ready rows of the webhooks, the oldest first, and locks them if it
// is asked to.
func (k *claiming) pick(ctx context.Context, want []allotment, lock bool) ([]readyRow, error) {
	forUpdate := ""
	if lock {
		forUpdate = " {for update} {skip locked}"
	}
	const columns = "delivery_id, event_id, webhook_id, epoch, attempts, due_at"
	scan := func(scan func(...any) error, r *readyRow) error {
		return scan(&r.id, &r.eventID, &r.webhookID, &r.epoch, &r.attempts, at{&r.due})
	}
	if k.d == Postgres {
		x := k.d.rows()
		for _, a := range want {
			if h := k.hooks[a.lane.id]; h.active {
				x.add().id("id", h.id).int("n", int64(a.n)).int("live_from", h.liveFrom).id("low", a.lane.low)
			}
		}
		if x.n == 0 {
			return nil, nil
		}
		return query(ctx, k.session, scan, `select q.* from {rows x id uuid, n int, live_from int, low uuid} cross join lateral (
				select `+columns+` from {queue} q
				where q.phase = 0 and q.webhook_id = x.id and q.delivery_id >= x.low and q.epoch >= x.live_from and q.due_at <= ?
				order by q.delivery_id limit x.n`+forUpdate+`) q`, x, k.now.UnixMicro())
	}
	// There is no LATERAL in MariaDB and SQLite.
	var out []readyRow
	for some := range slices.Chunk(want, unionLimit) {
		var parts []string
		var args []any
		for _, a := range some {
			if h := k.hooks[a.lane.id]; h.active {
				parts = append(parts, fmt.Sprintf(readyOf[k.d], forUpdate))
				args = append(args, k.d.id(h.id), h.liveFrom, k.now.UnixMicro(), a.n)
			}
		}
		if len(parts) == 0 {
			continue
		}
		picked, err := query(ctx, k.session, scan, strings.Join(parts, " union all "), args...)
		if err != nil {
			return nil, err
		}
		out = append(out, picked...)
	}
	return out, nil
}

// readyOf selects the oldest ready rows of one webhook. MySQL is told which index
// to use: it would rather walk the whole table in the order of the primary key.
var readyOf = map[Dialect]string{
	MySQL: `(select delivery_id, event_id, webhook_id, epoch, attempts, due_at from {queue} force index ({queue_ready})
		where phase = 0 and webhook_id = ? and epoch >= ? and due_at <= ? order by delivery_id limit ?%s)`,
	SQLite: `select * from (select delivery_id, event_id, webhook_id, epoch, attempts, due_at from {queue}
		where phase = 0 and webhook_id = ? and epoch >= ? and due_at <= ? order by delivery_id limit ?%s)`,
}
