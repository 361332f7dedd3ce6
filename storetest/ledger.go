package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// audit holds the ledger of [Stress] against what the store says in the end.
type audit struct {
	*stress
	f          *fixture
	deliveries map[uuid.UUID]webhook.Delivery
	log        map[uuid.UUID][]webhook.Attempt // by delivery
	about      map[uuid.UUID][]*entry          // by delivery, or else by webhook
	lives      map[uuid.UUID][]*life           // by delivery, in their order
}

// life is what became of a claim.
type life struct {
	webhook.Claim
	made   *entry
	end    *entry                   // its release or its accepted outcome; nil if it was settled
	report *webhook.FinishedAttempt // the outcome, accepted or not
}

func (l *life) released() bool { return l.end != nil && l.end.call == "release" }

func newAudit(s *stress, f *fixture) *audit {
	a := &audit{
		stress: s, f: f, deliveries: map[uuid.UUID]webhook.Delivery{}, log: map[uuid.UUID][]webhook.Attempt{},
		about: map[uuid.UUID][]*entry{}, lives: map[uuid.UUID][]*life{},
	}
	for _, scope := range []webhook.Scope{ours, theirs} {
		for _, d := range f.deliveries(scope, webhook.DeliveryQuery{}) {
			a.deliveries[d.ID] = d
		}
		for _, row := range f.attempts(scope, webhook.AttemptQuery{}) {
			a.log[row.DeliveryID] = append(a.log[row.DeliveryID], row)
		}
	}
	slices.SortStableFunc(s.ledger, func(e, o *entry) int { return cmp.Compare(e.from, o.from) })
	lives := map[uuid.UUID]*life{} // by token
	for _, e := range s.ledger {
		id := e.delivery
		if id == (uuid.UUID{}) {
			id = e.webhook
		}
		a.about[id] = append(a.about[id], e)
		if e.call == "claim" {
			if lives[e.claim.Token] != nil {
				a.fault(id, "a token came twice")
			}
			lives[e.claim.Token] = &life{Claim: e.claim, made: e}
			a.lives[id] = append(a.lives[id], lives[e.claim.Token])
		}
	}
	for _, e := range s.ledger {
		if e.call != "finish" && e.call != "release" {
			continue
		}
		l := lives[e.claim.Token]
		l.report = cmp.Or(e.outcome, l.report)
		if e.err == nil && l.end != nil {
			a.fault(e.delivery, "a claim was ended twice, by %s at %d and %s at %d", l.end.call, l.end.to, e.call, e.to)
		}
		if e.err == nil {
			l.end = e
		}
	}
	for _, ls := range a.lives { // what was released is claimed again under the same number
		slices.SortFunc(ls, func(l, o *life) int {
			if l.Attempt == o.Attempt && l.released() != o.released() {
				return map[bool]int{true: -1, false: 1}[l.released()]
			}
			return cmp.Or(cmp.Compare(l.Attempt, o.Attempt), cmp.Compare(l.made.to, o.made.to))
		})
	}
	return a
}

// fault reports what does not fit, with the history of the delivery or webhook.
func (a *audit) fault(id uuid.UUID, format string, args ...any) {
	if a.faults.Load() >= enough {
		return // a history that nobody reads takes long to write, where much is wrong
	}
	d, isDelivery := a.deliveries[id]
	history := slices.Clone(a.about[id])
	if isDelivery {
		history = append(history, a.about[d.WebhookID]...)
	}
	slices.SortStableFunc(history, func(e, o *entry) int { return cmp.Compare(e.from, o.from) })
	var b strings.Builder
	var read webhook.DeliveryState
	for _, e := range history {
		if e.call == "read" && e.state == read {
			continue
		}
		read = cmp.Or(e.state, read)
		fmt.Fprintf(&b, "\n%6d-%d  %s  %s %s", e.from, e.to, e.now.Format(time.TimeOnly), e.call, e.state)
		if c := e.claim; c.Attempt > 0 {
			fmt.Fprintf(&b, " attempt %d, token %.8s, due %s, leased until %s",
				c.Attempt, c.Token, c.DueAt.Format(time.TimeOnly), c.LeasedUntil.Format(time.TimeOnly))
		}
		if e.outcome != nil {
			fmt.Fprintf(&b, ": %s, due %s", e.outcome.State, e.outcome.DueAt.Format(time.TimeOnly))
		}
		if e.err != nil {
			fmt.Fprintf(&b, ": %v", e.err)
		}
	}
	for _, row := range a.log[id] {
		fmt.Fprintf(&b, "\n  log: attempt %d at %s %s, reported under token %.8s",
			row.Number, row.StartedAt.Format(time.TimeOnly), row.Outcome, row.Response)
	}
	a.fail("%s\n%s of webhook %s, in the end %s after %d attempts:%s",
		fmt.Sprintf(format, args...), id, d.WebhookID, d.State, d.Attempts, b.String())
}

func (a *audit) all() {
	a.numbers()
	for id := range a.lives {
		if a.deliveries[id].ID != id {
			a.fault(id, "claimed, but in no list")
		}
	}
	for id, d := range a.deliveries {
		a.attempts(d)
		for i, l := range a.lives[id] {
			a.claim(d, l)
			if i > 0 {
				a.next(a.lives[id][i-1], l)
			}
		}
		a.state(d)
	}
	for _, w := range a.webhooks {
		a.webhook(w)
	}
}

// attempts: each claim that was not released is one row of the log, as it was
// reported. They are numbered without a gap, and no more than the schedule has.
func (a *audit) attempts(d webhook.Delivery) {
	n, rows, most := 0, a.log[d.ID], a.schedule.MaxAttempts()
	slices.SortFunc(rows, func(r, o webhook.Attempt) int { return cmp.Compare(r.Number, o.Number) })
	for _, l := range a.lives[d.ID] {
		if l.Attempt != n+1 {
			a.fault(d.ID, "attempt %d comes after %d", l.Attempt, n)
		}
		if l.released() {
			continue
		}
		n++
		want := l.Interrupted(l.made.now)
		if l.report != nil {
			want = l.report.Attempt
		}
		if l.report != nil && l.end == nil {
			want.Outcome = webhook.OutcomeLate
		}
		if n > len(rows) || !reflect.DeepEqual(want, rows[n-1]) {
			a.fault(d.ID, "attempt %d should be in the log as %+v", n, want)
			return
		}
	}
	if d.Test {
		most = 1
	}
	if n != len(rows) || n != d.Attempts || n > most {
		a.fault(d.ID, "%d claims were not released; %d attempts are in the log, of at most %d", n, len(rows), most)
	}
}

// claim: it was due, of a webhook that could be active, and its organization's.
func (a *audit) claim(d webhook.Delivery, l *life) {
	if l.DueAt.After(l.made.now) || l.DueAt.Before(d.CreatedAt) || !l.LeasedUntil.Equal(l.made.now.Add(lease)) {
		a.fault(d.ID, "claimed at %s, due at %s, leased until %s", l.made.now, l.DueAt, l.LeasedUntil)
	}
	if l.OrganizationID != d.OrganizationID || l.WebhookID != d.WebhookID || l.EventID != d.EventID || l.Secret != a.secret ||
		!strings.HasSuffix(l.EndpointURL, d.WebhookID.String()) || !bytes.Contains(l.Payload, []byte(d.EventID.String())) {
		a.fault(d.ID, "a claim of more than one thing: %+v", l.Claim)
	}
	changes := where(a.about[d.WebhookID], func(e *entry) bool { // of a recovery, some batches may not have been refused
		return e.from < l.made.to && (e.err == nil || e.call == "recover")
	})
	slices.SortStableFunc(changes, func(e, o *entry) int { return cmp.Compare(e.version, o.version) })
	has := func(es []*entry, after int64, calls ...string) bool {
		return slices.ContainsFunc(es, func(e *entry) bool { return e.to > after && slices.Contains(calls, e.call) })
	}
	for i, e := range changes {
		if e.to > l.made.from || e.call != "inactive" && e.call != "delete" {
			continue
		}
		held := a.about[d.ID][0].to < e.from && !has(changes, e.from, "resume", "recover")
		if e.call == "delete" || held || !has(changes[i+1:], 0, "active", "resume") {
			a.fault(d.ID, "claimed at %d, after the webhook's %s at %d", l.made.from, e.call, e.to)
		}
	}
}

// next: a claim is made when the one before it has ended, and is due as that says.
func (a *audit) next(l, next *life) {
	var due time.Time
	var ended bool
	switch {
	case l.released():
		due, ended = l.end.due, l.end.from < next.made.to
	case l.end != nil:
		due, ended = l.report.DueAt, l.end.from < next.made.to && !l.report.State.Finished()
	default:
		_, due = a.schedule.After(l.Attempt, l.LeasedUntil, l.Test)
		ended = slices.ContainsFunc(a.about[uuid.UUID{}], func(e *entry) bool {
			return e.call == "settle" && !e.now.Before(l.LeasedUntil) && e.to > l.made.from && e.from < next.made.to
		})
	}
	if !ended || next.DueAt.Before(due) {
		a.fault(l.DeliveryID, "claimed for attempt %d although %d had not ended, or too early", next.Attempt, l.Attempt)
	}
}

// state: it is a finished one, for a reason, and was the same in all reads since
// the first that showed it.
func (a *audit) state(d webhook.Delivery) {
	cancelled, finished := 0, &entry{}
	for _, e := range a.about[d.ID] {
		switch {
		case e.call == "cancel" && e.err == nil:
			cancelled++
		case e.call == "read" && e.state.Finished() && finished.to == 0:
			finished = e
		}
		if e.call == "read" && e.state != d.State && (e.state.Finished() || finished.to != 0 && e.from > finished.to) {
			a.fault(d.ID, "read as %s at %d", e.state, e.to)
		}
	}
	var last webhook.DeliveryState // what its last attempt would make of it
	if n := len(a.lives[d.ID]); n > 0 {
		switch l := a.lives[d.ID][n-1]; {
		case l.released():
		case l.end != nil:
			last = l.report.State
		default:
			last, _ = a.schedule.After(l.Attempt, l.LeasedUntil, l.Test)
		}
	}
	deleted := slices.ContainsFunc(a.about[d.WebhookID], func(e *entry) bool { return e.call == "delete" && e.err == nil })
	switch {
	case cancelled == 1 && d.State == webhook.DeliveryCancelled:
	case cancelled == 0 && d.State == webhook.DeliveryCancelled && deleted:
	case cancelled == 0 && d.State.Finished() && d.State == last:
	default:
		a.fault(d.ID, "cancelled %d times, last attempt %q, webhook deleted: %t", cancelled, last, deleted)
	}
}

// numbers: there are as many deliveries as calls have added, each in its event's
// organization, and none was recovered twice. Each key has one event, and each
// version of a webhook one update.
func (a *audit) numbers() {
	left, recovered, again := map[uuid.UUID]int{}, 0, map[uuid.UUID]int{}
	events, keyed, updated := map[uuid.UUID]webhook.EventRecord{}, map[string]uuid.UUID{}, map[string]bool{}
	for _, e := range a.ledger {
		if version := fmt.Sprint(e.webhook, e.version); e.version > 0 && e.err == nil {
			if updated[version] {
				a.fault(e.webhook, "version %d was updated twice, the second time at %d", e.version-1, e.to)
			}
			updated[version] = true
		}
		switch e.call {
		case "publish":
			events[e.event.ID] = e.event
			left[e.event.ID] += e.count
			if key := e.event.OrganizationID + e.event.IdempotencyKey; e.event.IdempotencyKey != "" {
				if first := cmp.Or(keyed[key], e.event.ID); first != e.event.ID {
					a.fail("%s of %s is the key of two events, %s and %s", e.event.IdempotencyKey, e.event.OrganizationID, first, e.event.ID)
				}
				keyed[key] = e.event.ID
			}
		case "recover":
			recovered += e.count
		}
	}
	for id, d := range a.deliveries {
		original, isAgain := a.deliveries[d.RedeliveryOf]
		switch {
		case !isAgain:
			left[d.EventID]--
		case !slices.ContainsFunc(a.about[id], func(e *entry) bool { return e.call == "redeliver" }):
			recovered--
			if deliveryAt(d).Compare(deliveryAt(original)) > 0 { // and so the newest, from then on
				again[original.ID]++
			}
		}
		strange := isAgain && (original.EventID != d.EventID || original.WebhookID != d.WebhookID)
		if strange || events[d.EventID].OrganizationID != d.OrganizationID || again[d.RedeliveryOf] > 1 {
			a.fault(id, "of an event of %q; the %dth redelivery by recoveries of %+v", events[d.EventID].OrganizationID, again[d.RedeliveryOf], original)
		}
	}
	if maps.DeleteFunc(left, func(_ uuid.UUID, n int) bool { return n == 0 }); recovered != 0 || len(left) > 0 {
		a.fail("deliveries too many or too few: of events %v, by recoveries %d", left, recovered)
	}
}

// webhook: its counters are its log, its notices tell once of each exhausted
// delivery, and no lease is left.
func (a *audit) webhook(w webhook.Webhook) {
	hours := map[time.Time]*webhook.Counter{}
	exhausted, told := 0, 0
	for id, d := range a.deliveries {
		if d.WebhookID != w.ID {
			continue
		}
		if d.State == webhook.DeliveryFailed && !d.Test {
			exhausted++
		}
		for _, row := range a.log[id] {
			if row.Outcome == webhook.OutcomeLate {
				row.Outcome = webhook.OutcomeInterrupted // as it was counted
			}
			hour := row.StartedAt.Truncate(time.Hour)
			if hours[hour] == nil {
				hours[hour] = &webhook.Counter{Hour: hour}
			}
			hours[hour].Add(&row)
		}
	}
	counters := a.f.counters(w)
	for _, c := range counters {
		if h := hours[c.Hour]; h != nil { // in which order they were logged, the log does not say
			c.FailedSince, h.FailedSince = 0, 0
		}
		if hours[c.Hour] == nil || *hours[c.Hour] != c {
			a.fault(w.ID, "its counter is %+v, by the log %+v", c, hours[c.Hour])
		}
	}
	for _, e := range a.about[w.ID] {
		if e.call == "notice" {
			told += e.count
		}
	}
	if leased := a.f.leased(w); len(counters) != len(hours) || told != exhausted || leased != 0 {
		a.fault(w.ID, "%d hours of %d have counters; %d deliveries are exhausted, notices tell of %d; %d leases are left",
			len(counters), len(hours), exhausted, told, leased)
	}
}
