package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// errChanged says that rows changed between being read and being written,
// which is tried again.
var errChanged = errors.New("rows have changed meanwhile")

// leasedRow is a row of the queue whose lease ends.
type leasedRow struct {
	closing
	eventID, webhookID uuid.UUID
	organizationID     string
	eventType          webhook.EventType
	test               bool
	phase              int
	cancelled          bool
	deleted            bool  // the webhook is
	epoch              int64 // from now on, see delivery.go
	token              uuid.UUID
	leasedUntil        time.Time
	claimedAt          time.Time
	claimedURL         string
	notified           bool // the webhook's people have been told of failures
	gone               bool // from the queue, see takeOut
}

// leasedColumns are what scanLeased scans.
const leasedColumns = `q.delivery_id, q.event_id, q.webhook_id, d.organization_id, d.event_type, q.test, q.phase,
	q.cancelled, q.attempts, q.token, q.wake_at, q.claimed_at, q.claimed_url, case when w.deleted_at is null then 0 else 1 end,
	case when w.notified_at is null then 0 else 1 end, q.epoch, w.active, w.live_from, w.held_before`

func scanLeased(scan func(...any) error, r *leasedRow) error {
	var test, cancelled, deleted, notified, active int
	var liveFrom, heldBefore int64
	err := scan(&r.id, &r.eventID, &r.webhookID, &r.organizationID, &r.eventType, &test, &r.phase, &cancelled, &r.attempts,
		maybe[uuid.UUID]{&r.token}, at{&r.leasedUntil}, at{&r.claimedAt}, maybe[string]{&r.claimedURL}, &deleted,
		&notified, &r.epoch, &active, &liveFrom, &heldBefore)
	// Once resumed, its next due time is nobody's but its own.
	if active == 1 && r.epoch >= liveFrom {
		r.epoch = max(r.epoch, heldBefore)
	}
	r.test, r.cancelled, r.deleted, r.notified = test == 1, cancelled == 1, deleted == 1, notified == 1
	return err
}

// leased reads what is known of rows of the queue, without locking them: what is
// written names the token, and so finds out if somebody was faster.
func (c session) leased(ctx context.Context, ids *rows) (map[uuid.UUID]*leasedRow, error) {
	if ids.n == 0 {
		return map[uuid.UUID]*leasedRow{}, nil
	}
	found, err := query(ctx, c, scanLeased, "select "+leasedColumns+` from {rows x id uuid}
		join {queue} q on {key q.delivery_id = x.id} join {deliveries} d on {key d.id = x.id} join {webhooks} w on {key w.id = q.webhook_id}`, ids)
	out := make(map[uuid.UUID]*leasedRow, len(found))
	for i := range found {
		out[found[i].id] = &found[i]
	}
	return out, err
}

// takeOut deletes rows whose leases are held by those tokens from the queue, and
// adds what was known of them. Postgres does both in one statement.
func (c session) takeOut(ctx context.Context, leases *rows, out map[uuid.UUID]*leasedRow) error {
	if leases.n == 0 {
		return nil
	}
	found, err := query(ctx, c, scanTakenOut, `with q as (delete from {queue} q using {rows x id uuid, token uuid, n int}
			where {key q.delivery_id = x.id} and q.token = x.token and q.attempts = x.n returning q.*)
		select q.delivery_id, q.event_id, q.webhook_id, d.organization_id, d.event_type, q.test, q.cancelled, q.attempts, q.token,
			case when w.deleted_at is null then 0 else 1 end, case when w.notified_at is null then 0 else 1 end
		from q join {deliveries} d on {key d.id = q.delivery_id} join {webhooks} w on {key w.id = q.webhook_id}`, leases)
	for i := range found {
		out[found[i].id] = &found[i]
	}
	return err
}

func scanTakenOut(scan func(...any) error, r *leasedRow) error {
	var test, cancelled, deleted, notified int
	err := scan(&r.id, &r.eventID, &r.webhookID, &r.organizationID, &r.eventType, &test, &cancelled, &r.attempts, &r.token, &deleted, &notified)
	r.test, r.cancelled, r.deleted, r.notified = test == 1, cancelled == 1, deleted == 1, notified == 1
	r.phase, r.gone = phaseLeased, true
	return err
}

// Finish writes what became of claimed deliveries.
func (s *Store) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	out := webhook.FinishResult{Errs: make([]error, len(p.Outcomes))}
	if len(p.Outcomes) == 0 {
		return out, nil
	}
	ended := make([]ending, 0, len(p.Outcomes))
	now := stored(p.Now)
	err := s.work(ctx, "finish", func(c session) error {
		ended = ended[:0]
		stay, leave := c.d.rows(), c.d.rows()
		atOnce := c.d == Postgres && !repeats(p.Outcomes)
		for i := range p.Outcomes {
			o := &p.Outcomes[i]
			if id := o.Attempt.DeliveryID; atOnce && o.State != webhook.DeliveryPending {
				leave.add().id("id", id).id("token", tokenOf(o.Token, id)).int("n", int64(o.Attempt.Number))
			} else {
				stay.add().id("id", id)
			}
		}
		open, err := c.leased(ctx, stay)
		if err == nil {
			err = c.takeOut(ctx, leave, open)
		}
		if err != nil {
			return err
		}
		var late []webhook.FinishedAttempt
		for i, o := range p.Outcomes {
			r := open[o.Attempt.DeliveryID]
			if r == nil || r.phase != phaseLeased || tokenOf(r.token, r.id) != o.Token || r.attempts != o.Attempt.Number {
				out.Errs[i] = webhook.ErrLeaseLost
				late = append(late, o)
				continue
			}
			delete(open, r.id) // a second report of it is stale
			out.Errs[i] = nil
			ended = append(ended, ending{leasedRow: r, attempt: o.Attempt, to: o.State, due: stored(o.DueAt)})
		}
		if err := c.end(ctx, ended, now); err != nil {
			return err
		}
		return c.completeLate(ctx, late)
	}, func(c session) (bool, error) {
		if len(ended) == 0 {
			return true, nil
		}
		a := ended[0].attempt
		n, _, err := first(ctx, c, plain[int], "select count(*) from {attempts} where delivery_id = ? and number = ? and started_at = ? and outcome = ?",
			c.d.id(a.DeliveryID), a.Number, stored(a.StartedAt).UnixMicro(), outcomeCode(a.Outcome))
		return n > 0, err
	})
	if err != nil {
		return webhook.FinishResult{}, err
	}
	return out, nil
}

// repeats reports whether a delivery is reported twice.
func repeats(list []webhook.FinishedAttempt) bool {
	seen := make(map[uuid.UUID]bool, len(list))
	for i := range list {
		seen[list[i].Attempt.DeliveryID] = true
	}
	return len(seen) < len(list)
}

// ending is an attempt that has ended, and what is to become of its delivery
// unless something else was decided meanwhile.
type ending struct {
	*leasedRow
	attempt webhook.Attempt
	to      webhook.DeliveryState
	due     time.Time
}

// end logs attempts, ends their leases and moves the deliveries on.
func (c session) end(ctx context.Context, list []ending, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	retry, leave, finished := c.d.rows(), c.d.rows(), c.d.rows()
	var failed []exhausted
	var succeeded []uuid.UUID
	for i := range list {
		e := &list[i]
		if e.notified && e.attempt.Outcome == webhook.OutcomeSucceeded {
			succeeded = append(succeeded, e.webhookID)
		}
		switch {
		case e.cancelled || e.deleted:
			e.to = webhook.DeliveryCancelled
		case e.to == webhook.DeliveryPending:
			// Whether it is held then, its epoch says.
			retry.add().id("id", e.id).id("token", e.token).bool("c", e.cancelled).time("due", e.due).int("e", e.epoch)
			continue
		case e.to == webhook.DeliveryFailed && !e.test:
			failed = append(failed, exhausted{e.webhookID, e.organizationID, e.eventType, &e.attempt})
		}
		finished.add().id("id", e.id).int("n", int64(e.attempts)).int("s", stateCode(e.to))
		if !e.gone {
			leave.add().id("id", e.id).id("token", e.token).bool("c", e.cancelled)
		}
	}
	// Also of a cancellation that came after the rows were read.
	const fence, fenced = "{key t.delivery_id = x.id} and t.token = x.token and t.cancelled = x.c", "id uuid, token uuid, c int"
	n, err := c.deleteRows(ctx, "queue", fenced, leave, fence)
	if err != nil {
		return err
	}
	m, err := c.updateRows(ctx, "queue", fenced+", due int, e int", retry, fence,
		[]string{"phase = 1", "due_at = x.due", "wake_at = x.due", "epoch = x.e", "token = null", "claimed_at = null", "claimed_url = null"})
	if err != nil {
		return err
	}
	if n+m != leave.n+retry.n {
		return errChanged
	}
	if _, err := c.updateRows(ctx, "deliveries", "id uuid, n int, s int", finished, "{key t.id = x.id}",
		[]string{"state = x.s", "attempts = x.n", "finished_at = ?"}, now.UnixMicro()); err != nil {
		return err
	}
	if err := c.logAttempts(ctx, list); err != nil {
		return err
	}
	if err := c.noteSuccesses(ctx, succeeded); err != nil {
		return err
	}
	if err := c.noteExhausted(ctx, now, failed); err != nil {
		return err
	}
	return c.count(ctx, list) // last, because others wait for these rows
}

// attemptColumns are what addAttempt writes of an attempt, besides whose it is.
const attemptColumns = `id uuid, number int, started_at int, duration int, dns int, connect int, tls int, first_byte int, retry_after int,
	outcome int, status_code int, endpoint_url text, error_class text, error text, response bytes, response_truncated int, token uuid`

func addAttempt(x *rows, id uuid.UUID, a *webhook.Attempt, outcome int64, token uuid.UUID) {
	x.add().id("id", id).int("number", int64(a.Number)).time("started_at", stored(a.StartedAt)).int("duration", int64(a.Duration))
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"dns", a.Timing.DNS}, {"connect", a.Timing.Connect}, {"tls", a.Timing.TLS}, {"first_byte", a.Timing.FirstByte}, {"retry_after", a.RetryAfter},
	} {
		if d.d != 0 {
			x.int(d.name, int64(d.d))
		}
	}
	x.int("outcome", outcome).int("status_code", int64(a.StatusCode)).text("endpoint_url", clean(a.EndpointURL)).
		int("response_truncated", flag(a.ResponseTruncated))
	if a.ErrorClass != "" {
		x.text("error_class", clean(string(a.ErrorClass)))
	}
	if a.Error != "" {
		x.text("error", clean(a.Error))
	}
	if len(a.Response) > 0 {
		x.bytes("response", a.Response)
	}
	if token != (uuid.UUID{}) {
		x.id("token", token)
	}
}

// clean makes a text one that every database takes. A log must not fail for
// what it logs.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// logAttempts adds rows to the log.
func (c session) logAttempts(ctx context.Context, list []ending) error {
	x := c.d.rows()
	flush := func() error {
		if x.n == 0 {
			return nil
		}
		_, err := c.exec(ctx, `insert into {attempts} (delivery_id, number, event_id, webhook_id, organization_id, event_type, started_at, duration,
				dns, connect, tls, first_byte, retry_after, outcome, status_code, endpoint_url, error_class, error, response, response_truncated, token)
			select x.id, x.number, x.event_id, x.webhook_id, x.organization_id, x.event_type, x.started_at, x.duration,
				x.dns, x.connect, x.tls, x.first_byte, x.retry_after, x.outcome, x.status_code, x.endpoint_url, x.error_class, x.error, x.response,
				x.response_truncated, x.token
			from {rows x event_id uuid, webhook_id uuid, organization_id text, event_type text, `+attemptColumns+`}`, x)
		x = c.d.rows()
		return err
	}
	for i := range list {
		e := &list[i]
		token := uuid.UUID{}
		if e.attempt.Outcome == webhook.OutcomeInterrupted {
			token = e.token
		}
		e.attempt.Number = e.attempts
		addAttempt(x, e.id, &e.attempt, outcomeCode(e.attempt.Outcome), token)
		x.id("event_id", e.eventID).id("webhook_id", e.webhookID).text("organization_id", e.organizationID).text("event_type", string(e.eventType))
		if x.size() > statementBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// completeLate turns interrupted rows of the log into what was reported after
// all.
func (c session) completeLate(ctx context.Context, late []webhook.FinishedAttempt) error {
	for i := range late { // rare
		x, o := c.d.rows(), &late[i]
		id := o.Attempt.DeliveryID
		addAttempt(x, id, &o.Attempt, outcomeLate, tokenOf(o.Token, id))
		if _, err := c.updateRows(ctx, "attempts", attemptColumns, x,
			"{key t.delivery_id = x.id} and t.number = x.number and t.outcome = 2 and t.token = x.token",
			[]string{
				"started_at = x.started_at", "duration = x.duration", "dns = x.dns", "connect = x.connect", "tls = x.tls", "first_byte = x.first_byte",
				"retry_after = x.retry_after", "outcome = x.outcome", "status_code = x.status_code", "endpoint_url = x.endpoint_url",
				"error_class = x.error_class", "error = x.error", "response = x.response", "response_truncated = x.response_truncated", "token = null",
			}); err != nil {
			return err
		}
	}
	return nil
}

// count adds attempts to their webhooks' hours.
func (c session) count(ctx context.Context, list []ending) error {
	type key struct {
		webhook uuid.UUID
		hour    int64
	}
	sums := map[key]*webhook.Counter{}
	var keys []key
	for i := range list {
		e := &list[i]
		k := key{e.webhookID, e.attempt.StartedAt.UTC().Truncate(time.Hour).UnixMicro()}
		if sums[k] == nil {
			sums[k] = &webhook.Counter{}
			keys = append(keys, k)
		}
		sums[k].Add(&e.attempt)
	}
	// In one order for all, so that two batches never wait for each other.
	slices.SortFunc(keys, func(a, b key) int {
		if n := slices.Compare(a.webhook[:], b.webhook[:]); n != 0 {
			return n
		}
		return cmp.Compare(a.hour, b.hour)
	})
	x := c.d.rows()
	for _, k := range keys {
		s := sums[k]
		x.add().id("id", k.webhook).int("hour", k.hour).int("succeeded", int64(s.Succeeded)).int("failed", int64(s.Failed)).
			int("interrupted", int64(s.Interrupted)).time("last_success_at", s.LastSuccessAt).int("failed_since", int64(s.FailedSince))
		for i, n := range s.Latency {
			x.int("latency"+strconv.Itoa(i), int64(n))
		}
	}
	columns := counterColumns()
	added := func(name string) string {
		if c.d == MySQL {
			return "values(" + name + ")"
		}
		return "excluded." + name
	}
	sum := []string{ // as Counter.Add does; without a success what is added has no time of it
		"failed_since = case when " + added("succeeded") + " > 0 then " + added("failed_since") + " else {counters}.failed_since + " + added("failed_since") + " end",
		"last_success_at = case when " + added("succeeded") + " = 0 or {counters}.last_success_at > " + added("last_success_at") +
			" then {counters}.last_success_at else " + added("last_success_at") + " end",
	}
	var typed []string
	for _, name := range columns {
		typed = append(typed, name+" int")
		sum = append(sum, name+" = {counters}."+name+" + "+added(name))
	}
	typed = append(typed, "last_success_at int", "failed_since int")
	columns = append(columns, "last_success_at", "failed_since")
	conflict := "on conflict (webhook_id, hour) do update set "
	if c.d == MySQL {
		conflict = "on duplicate key update "
	}
	_, err := c.exec(ctx, "insert into {counters} (webhook_id, hour, "+strings.Join(columns, ", ")+
		") select x.id, x.hour, x."+strings.Join(columns, ", x.")+" from {rows x id uuid, hour int, "+strings.Join(typed, ", ")+"} where true "+
		conflict+strings.Join(sum, ", "), x)
	return err
}

// counterColumns are what a counter counts.
func counterColumns() []string {
	columns := []string{"succeeded", "failed", "interrupted"}
	for i := range len(webhook.Counter{}.Latency) {
		columns = append(columns, "latency"+strconv.Itoa(i))
	}
	return columns
}

// Settle logs attempts whose leases have run out, and moves their deliveries on.
func (s *Store) Settle(ctx context.Context, p webhook.SettleParams) (webhook.SettleResult, error) {
	var out webhook.SettleResult
	now := stored(p.Now)
	from := s.lanes.leasedFrom()
	if s.nothingLeasedUntil(ctx, from, now) {
		return out, nil
	}
	err := s.work(ctx, "settle", func(c session) error {
		out = webhook.SettleResult{}
		found, err := query(ctx, c, plain[uuid.UUID],
			"select delivery_id from {queue} where phase = 2 and wake_at >= ? and wake_at <= ? order by wake_at limit ? {for update} {skip locked}",
			from.UnixMicro(), now.UnixMicro(), p.Limit+1)
		if err != nil || len(found) == 0 {
			return err
		}
		out.More = len(found) > p.Limit
		ids := c.d.rows()
		for _, id := range found[:min(len(found), p.Limit)] {
			ids.add().id("id", id)
		}
		open, err := c.leased(ctx, ids)
		if err != nil {
			return err
		}
		var ended []ending
		for _, r := range open {
			claim := webhook.Claim{Attempt: r.attempts, LeasedUntil: r.leasedUntil, EndpointURL: r.claimedURL}
			e := ending{leasedRow: r, attempt: claim.Interrupted(r.claimedAt)}
			e.to, e.due = p.Schedule.After(r.attempts, r.leasedUntil, r.test)
			ended = append(ended, e)
		}
		out.Settled = len(ended)
		return c.end(ctx, ended, now)
	})
	if err != nil {
		return webhook.SettleResult{}, err
	}
	return out, nil
}

// nothingLeasedUntil is a cheap look before Settle begins a transaction. If it
// fails, the transaction says why. Like a claim's look it begins where the first
// lease is known to end: before that, PostgreSQL may still have what has been
// delivered.
func (s *Store) nothingLeasedUntil(ctx context.Context, from, now time.Time) (nothing bool) {
	err := s.read(ctx, "look for leases", func(c session) error {
		n, _, err := first(ctx, c, plain[int], "select count(*) from (select 1 from {queue} where phase = 2 and wake_at >= ? and wake_at <= ? order by wake_at limit 1) t",
			from.UnixMicro(), now.UnixMicro())
		nothing = n == 0
		return err
	})
	return err == nil && nothing
}

// Release gives claims back without an attempt.
func (s *Store) Release(ctx context.Context, p webhook.ReleaseParams) (webhook.ReleaseResult, error) {
	out := webhook.ReleaseResult{Errs: make([]error, len(p.Claims))}
	if len(p.Claims) == 0 {
		return out, nil
	}
	now := stored(p.Now)
	err := s.work(ctx, "release", func(c session) error {
		ids := c.d.rows()
		for _, r := range p.Claims {
			ids.add().id("id", r.DeliveryID)
		}
		open, err := c.leased(ctx, ids)
		if err != nil {
			return err
		}
		back := c.d.rows()
		var ended []closing
		for i, given := range p.Claims {
			r := open[given.DeliveryID]
			if r == nil || r.phase != phaseLeased || tokenOf(r.token, r.id) != given.Token {
				out.Errs[i] = webhook.ErrLeaseLost
				continue
			}
			delete(open, r.id)
			out.Errs[i] = nil
			back.add().id("id", r.id).id("token", r.token).bool("c", r.cancelled).time("due", stored(given.NotBefore)).int("e", r.epoch)
			if r.cancelled || r.deleted {
				ended = append(ended, closing{id: r.id, attempts: r.attempts - 1, state: stateCancelled})
			}
		}
		n, err := c.updateRows(ctx, "queue", "id uuid, token uuid, c int, due int, e int", back, "{key t.delivery_id = x.id} and t.token = x.token and t.cancelled = x.c",
			[]string{"phase = 1", "due_at = x.due", "wake_at = x.due", "epoch = x.e", "attempts = t.attempts - 1", "token = null", "claimed_at = null", "claimed_url = null"})
		if err != nil {
			return err
		}
		if n != back.n {
			return errChanged
		}
		return c.close(ctx, ended, now)
	})
	if err != nil {
		return webhook.ReleaseResult{}, err
	}
	s.wake(everybody)
	return out, nil
}
