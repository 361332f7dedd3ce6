package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Lists and counters: S15 and S22.

func s15() []test {
	return []test{
		{"NewestFirst", newestFirst},
		{"RecordsThatComeAndGo", recordsThatComeAndGo},
		{"WebhookFilters", webhookFilters},
		{"DeliveryFilters", deliveryFilters},
		{"AttemptFilters", attemptFilters},
		{"PageSizes", pageSizes},
		{"ForeignCursors", foreignCursors},
	}
}

// inOrder checks that a list runs from newer to older records, each once, and
// that pages of every size show the same.
func inOrder[T any](f *fixture, want int, at func(T) webhook.Position, walk func(limit int) []T) {
	f.t.Helper()
	all := walk(webhook.MaxPageSize)
	f.Len(all, want)
	for i := range all[1:] {
		f.Positive(at(all[i]).Compare(at(all[i+1])), "item %d before item %d", i, i+1)
	}
	for _, limit := range []int{0, 1, 2, want - 1, want, want + 1} {
		f.Equal(all, walk(limit), "pages of %d", limit)
	}
}

func webhookAt(w webhook.Webhook) webhook.Position {
	return webhook.Position{At: w.CreatedAt, ID: w.ID}
}

func deliveryAt(d webhook.Delivery) webhook.Position {
	return webhook.Position{At: d.CreatedAt, ID: d.ID}
}

func attemptAt(a webhook.Attempt) webhook.Position {
	return webhook.Position{At: a.StartedAt, ID: a.DeliveryID, Number: a.Number}
}

func newestFirst(f *fixture) {
	for range 3 {
		f.webhook()
		f.webhook()
		f.pass(time.Microsecond)
	}
	inOrder(f, 6, webhookAt, func(limit int) []webhook.Webhook {
		return f.webhooks(ours, webhook.WebhookQuery{Limit: limit})
	})

	w := f.webhook()
	for range 3 {
		f.deliver(w, 3)
		f.pass(time.Microsecond)
	}
	inOrder(f, 9, deliveryAt, func(limit int) []webhook.Delivery {
		return f.deliveries(ours, webhook.DeliveryQuery{Limit: limit})
	})

	// Two rounds of attempts, of which the second's begin with the first's end.
	for range 2 {
		var outcomes []webhook.FinishedAttempt
		for _, c := range f.claimAll() {
			out := f.outcome(c, webhook.DeliveryPending)
			out.DueAt = f.now.Add(took)
			outcomes = append(outcomes, out)
		}
		f.report(outcomes...)
	}
	// One delivery's third attempt began when its second one did, says its host.
	out := f.outcome(f.claimAll()[0], webhook.DeliverySucceeded)
	out.Attempt.StartedAt = f.now.Add(-took)
	f.report(out)
	inOrder(f, 19, attemptAt, func(limit int) []webhook.Attempt {
		return f.attempts(ours, webhook.AttemptQuery{Limit: limit})
	})
}

// keepOrder checks that what fetch returns page by page is what it would have
// been without the disturbance after the first page, but for what came and went.
func keepOrder[T any](f *fixture, all []uuid.UUID, gone []uuid.UUID, id func(T) uuid.UUID,
	fetch func(cursor string) (webhook.Page[T], error), disturb func(),
) {
	f.t.Helper()
	first, err := fetch("")
	f.NoError(err)
	f.NotEmpty(first.Next)
	disturb()
	cursor := first.Next
	rest := pages(f, func(next string) (webhook.Page[T], error) { return fetch(cmp.Or(next, cursor)) })

	var got []uuid.UUID
	for _, item := range append(first.Items, rest...) {
		got = append(got, id(item))
	}
	seen := len(first.Items)
	want := slices.Clone(all[:seen])
	for _, id := range all[seen:] {
		if !slices.Contains(gone, id) {
			want = append(want, id)
		}
	}
	f.Equal(want, got)
}

func recordsThatComeAndGo(f *fixture) {
	webhooksComeAndGo(f)
	deliveriesComeAndGo(f)
	f.succeed(f.claimAll()...)
	attemptsComeAndGo(f)
}

func webhooksComeAndGo(f *fixture) {
	var all []uuid.UUID
	webhooks := map[uuid.UUID]webhook.Webhook{}
	for range 9 {
		w := f.webhook()
		all, webhooks[w.ID] = append(all, w.ID), w
		f.pass(time.Second)
	}
	slices.Reverse(all)
	gone := []uuid.UUID{all[1], all[2], all[3], all[7]} // of either side of the cut, and where it is
	keepOrder(f, all, gone, func(w webhook.Webhook) uuid.UUID { return w.ID },
		func(cursor string) (webhook.Page[webhook.Webhook], error) {
			return f.store.Webhooks(f.ctx(), ours, webhook.WebhookQuery{Limit: 3, Cursor: cursor})
		},
		func() {
			for _, id := range gone {
				f.delete(webhooks[id])
			}
			f.webhook()
			f.change(webhooks[all[5]], func(c *webhook.WebhookChange) { c.Name = "Renamed" })
		})
}

func deliveriesComeAndGo(f *fixture) {
	w := f.webhook()
	var all, gone []uuid.UUID
	var staying []webhook.Claim
	for i := range 9 {
		d := f.deliverOne(w)
		all = append(all, d.ID)
		c := f.claimOf(d)
		if i == 1 || i == 5 || i == 6 || i == 7 {
			gone = append(gone, d.ID)
			f.succeed(c)
		} else {
			staying = append(staying, c)
		}
		f.pass(time.Second)
	}
	slices.Reverse(all)
	before := f.now
	f.succeed(staying...)
	keepOrder(f, all, gone, func(d webhook.Delivery) uuid.UUID { return d.ID },
		func(cursor string) (webhook.Page[webhook.Delivery], error) {
			return f.store.Deliveries(f.ctx(), ours, webhook.DeliveryQuery{WebhookID: w.ID, Limit: 3, Cursor: cursor})
		},
		func() {
			f.purge(webhook.PurgeParams{DeliveriesBefore: before})
			f.deliver(w, 2)
		})
}

func attemptsComeAndGo(f *fixture) {
	w := f.webhook()
	var all, gone []uuid.UUID
	for i := range 9 {
		d := f.deliverOne(w)
		all = append(all, d.ID)
		c := f.claimOf(d)
		out := f.outcome(c, webhook.DeliveryPending)
		if i == 1 || i == 5 || i == 6 || i == 7 {
			gone = append(gone, d.ID)
			out = f.outcome(c, webhook.DeliverySucceeded)
		} else {
			out.DueAt = f.now.Add(time.Hour)
		}
		f.Equal([]error{nil}, f.report(out))
	}
	slices.Reverse(all)
	f.pass(time.Hour)
	keepOrder(f, all, gone, func(a webhook.Attempt) uuid.UUID { return a.DeliveryID },
		func(cursor string) (webhook.Page[webhook.Attempt], error) {
			return f.store.Attempts(f.ctx(), ours, webhook.AttemptQuery{WebhookID: w.ID, Limit: 3, Cursor: cursor})
		},
		func() {
			f.purge(webhook.PurgeParams{AttemptsBefore: f.now})
			f.succeed(f.claimAll()...)
		})
}

func webhookFilters(f *fixture) {
	both := f.webhook(subscribed(messages, transcripts))
	one := f.webhook(subscribed(transcripts), inactive)
	_, third := f.webhook(in(umbrella)), f.webhook(subscribed(messages, webhook.Subscription{
		Subject: space, EventType: webhook.EventMessageSent,
	}))
	for _, tc := range []struct {
		q    webhook.WebhookQuery
		want []uuid.UUID
	}{
		{webhook.WebhookQuery{}, []uuid.UUID{both.ID, one.ID, third.ID}},
		{webhook.WebhookQuery{Status: webhook.StatusActive}, []uuid.UUID{both.ID, third.ID}},
		{webhook.WebhookQuery{Status: webhook.StatusInactive}, []uuid.UUID{one.ID}},
		{webhook.WebhookQuery{EventType: messages.EventType}, []uuid.UUID{both.ID, third.ID}},
		{webhook.WebhookQuery{EventType: transcripts.EventType}, []uuid.UUID{both.ID, one.ID}},
		{webhook.WebhookQuery{EventType: transcripts.EventType, Status: webhook.StatusActive}, []uuid.UUID{both.ID}},
		{webhook.WebhookQuery{EventType: "message_read"}, nil},
	} {
		for _, limit := range []int{0, 1} {
			tc.q.Limit = limit
			var got []uuid.UUID
			for _, w := range f.webhooks(ours, tc.q) {
				got = append(got, w.ID)
			}
			f.ElementsMatch(tc.want, got, "%+v", tc.q)
		}
	}
}

func deliveryFilters(f *fixture) {
	a, b := f.webhook(subscribed(messages, transcripts)), f.webhook(subscribed(messages))
	t0 := f.now
	e1, e2, e3 := f.event(), f.event(ofType(transcripts.EventType)), f.event()
	f.publish(e1, e2)
	for _, c := range f.claimAll() {
		if c.EventID == e1.ID && c.WebhookID == a.ID {
			f.succeed(c)
		} else {
			f.exhaust(c)
		}
	}
	f.now = t0.Add(time.Second)
	t1 := f.now
	f.publish(e3)
	f.change(b, deactivate)
	a1, a2, a3 := f.deliveryOf(a, e1.ID).ID, f.deliveryOf(a, e2.ID).ID, f.deliveryOf(a, e3.ID).ID
	b1, b3 := f.deliveryOf(b, e1.ID).ID, f.deliveryOf(b, e3.ID).ID

	for _, tc := range []struct {
		q    webhook.DeliveryQuery
		want []uuid.UUID
	}{
		{webhook.DeliveryQuery{}, []uuid.UUID{a1, a2, a3, b1, b3}},
		{webhook.DeliveryQuery{WebhookID: a.ID}, []uuid.UUID{a1, a2, a3}},
		{webhook.DeliveryQuery{EventID: e1.ID}, []uuid.UUID{a1, b1}},
		{webhook.DeliveryQuery{EventID: e3.ID, WebhookID: b.ID}, []uuid.UUID{b3}},
		{webhook.DeliveryQuery{EventID: e2.ID, WebhookID: b.ID}, nil},
		{webhook.DeliveryQuery{EventID: uuid.New()}, nil},
		{webhook.DeliveryQuery{State: webhook.DeliverySucceeded}, []uuid.UUID{a1}},
		{webhook.DeliveryQuery{State: webhook.DeliveryFailed}, []uuid.UUID{a2, b1}},
		{webhook.DeliveryQuery{State: webhook.DeliveryPending}, []uuid.UUID{a3}},
		{webhook.DeliveryQuery{State: webhook.DeliveryHeld}, []uuid.UUID{b3}},
		{webhook.DeliveryQuery{State: webhook.DeliveryCancelled}, nil},
		{webhook.DeliveryQuery{State: webhook.DeliveryFailed, WebhookID: b.ID}, []uuid.UUID{b1}},
		{webhook.DeliveryQuery{EventType: transcripts.EventType}, []uuid.UUID{a2}},
		{webhook.DeliveryQuery{EventType: messages.EventType, WebhookID: a.ID}, []uuid.UUID{a1, a3}},
		{webhook.DeliveryQuery{Since: t1}, []uuid.UUID{a3, b3}},
		{webhook.DeliveryQuery{Since: t1.Add(time.Microsecond)}, nil},
		{webhook.DeliveryQuery{Before: t1}, []uuid.UUID{a1, a2, b1}},
		{webhook.DeliveryQuery{Since: t0, Before: t1, WebhookID: b.ID}, []uuid.UUID{b1}},
		{webhook.DeliveryQuery{Before: t0}, nil},
	} {
		for _, limit := range []int{0, 1} {
			tc.q.Limit = limit
			var got []uuid.UUID
			for _, d := range f.deliveries(ours, tc.q) {
				f.Nil(d.Payload)
				got = append(got, d.ID)
			}
			f.ElementsMatch(tc.want, got, "%+v", tc.q)
		}
	}
}

func attemptFilters(f *fixture) {
	a, b := f.webhook(subscribed(messages, transcripts)), f.webhook(subscribed(messages))
	message, transcript := f.event(), f.event(ofType(transcripts.EventType))
	t0 := f.now
	f.publish(message)
	claims := f.claimAll()
	outcomes := make([]webhook.FinishedAttempt, len(claims))
	for i, c := range claims {
		state := webhook.DeliverySucceeded
		if c.WebhookID == b.ID {
			state = webhook.DeliveryFailed
		}
		outcomes[i] = f.outcome(c, state)
	}
	f.report(outcomes...)
	f.now = t0.Add(time.Second)
	t1 := f.now
	f.publish(transcript)
	interrupted := f.claimOne()
	f.now = interrupted.LeasedUntil
	f.settle(webhook.DefaultSchedule())

	a1, a2, b1 := f.deliveryOf(a, message.ID).ID, f.deliveryOf(a, transcript.ID).ID, f.deliveryOf(b, message.ID).ID
	for _, tc := range []struct {
		q    webhook.AttemptQuery
		want []uuid.UUID
	}{
		{webhook.AttemptQuery{}, []uuid.UUID{a1, a2, b1}},
		{webhook.AttemptQuery{WebhookID: a.ID}, []uuid.UUID{a1, a2}},
		{webhook.AttemptQuery{DeliveryID: b1}, []uuid.UUID{b1}},
		{webhook.AttemptQuery{DeliveryID: b1, WebhookID: a.ID}, nil},
		{webhook.AttemptQuery{Outcome: webhook.OutcomeSucceeded}, []uuid.UUID{a1}},
		{webhook.AttemptQuery{Outcome: webhook.OutcomeFailed}, []uuid.UUID{b1}},
		{webhook.AttemptQuery{Outcome: webhook.OutcomeInterrupted}, []uuid.UUID{a2}},
		{webhook.AttemptQuery{Outcome: webhook.OutcomeLate}, nil},
		{webhook.AttemptQuery{StatusClass: 2}, []uuid.UUID{a1}},
		{webhook.AttemptQuery{StatusClass: 5}, []uuid.UUID{b1}},
		{webhook.AttemptQuery{StatusClass: 4}, nil},
		{webhook.AttemptQuery{EventType: transcripts.EventType}, []uuid.UUID{a2}},
		{webhook.AttemptQuery{EventType: messages.EventType, WebhookID: b.ID}, []uuid.UUID{b1}},
		{webhook.AttemptQuery{Since: t1}, []uuid.UUID{a2}},
		{webhook.AttemptQuery{Since: t1.Add(time.Microsecond)}, nil},
		{webhook.AttemptQuery{Before: t1}, []uuid.UUID{a1, b1}},
		{webhook.AttemptQuery{Since: t0, Before: t1, Outcome: webhook.OutcomeFailed}, []uuid.UUID{b1}},
		{webhook.AttemptQuery{Before: t0}, nil},
	} {
		for _, limit := range []int{0, 1} {
			tc.q.Limit = limit
			var got []uuid.UUID
			for _, a := range f.attempts(ours, tc.q) {
				got = append(got, a.DeliveryID)
			}
			f.ElementsMatch(tc.want, got, "%+v", tc.q)
		}
	}
}

func pageSizes(f *fixture) {
	w := f.webhook(subscribed(messages))
	f.publish(f.events(webhook.MaxPageSize + 1)...)
	for limit, want := range map[int]int{
		0: webhook.DefaultPageSize, 7: 7, webhook.MaxPageSize: webhook.MaxPageSize, 1000: webhook.MaxPageSize,
	} {
		page, err := f.store.Deliveries(f.ctx(), ours, webhook.DeliveryQuery{WebhookID: w.ID, Limit: limit})
		f.NoError(err)
		f.Len(page.Items, want, "limit %d", limit)
		f.NotEmpty(page.Next)
	}

	// The last page has no Next, also when it is full.
	for _, n := range []int{1, 3} {
		q := webhook.DeliveryQuery{EventType: webhook.EventType(fmt.Sprint("type_", n)), Limit: n}
		f.webhook(subscribed(webhook.Subscription{Subject: room, EventType: q.EventType}))
		f.publish(f.events(2*n, ofType(q.EventType))...)
		for i := range 2 {
			page, err := f.store.Deliveries(f.ctx(), ours, q)
			f.NoError(err)
			f.Len(page.Items, n)
			f.Equal(i == 0, page.Next != "")
			q.Cursor = page.Next
		}
	}
}

func foreignCursors(f *fixture) {
	w, other := f.webhook(), f.webhook()
	theirOwn := f.webhook(in(umbrella))
	f.deliver(w, 2)
	f.deliver(other, 2)
	f.deliver(theirOwn, 2)
	f.fail(f.claimAll()...)

	deliveries := func(s webhook.Scope, q webhook.DeliveryQuery) (string, error) {
		page, err := f.store.Deliveries(f.ctx(), s, q)
		return page.Next, err
	}
	attempts := func(s webhook.Scope, q webhook.AttemptQuery) (string, error) {
		page, err := f.store.Attempts(f.ctx(), s, q)
		return page.Next, err
	}
	webhooks := func(s webhook.Scope, q webhook.WebhookQuery) (string, error) {
		page, err := f.store.Webhooks(f.ctx(), s, q)
		return page.Next, err
	}
	next := func(cursor string, err error) string {
		f.t.Helper()
		f.NoError(err)
		f.NotEmpty(cursor)
		return cursor
	}
	d := next(deliveries(ours, webhook.DeliveryQuery{Limit: 1}))
	a := next(attempts(ours, webhook.AttemptQuery{Limit: 1}))
	h := next(webhooks(ours, webhook.WebhookQuery{Limit: 1}))

	// Another page size goes on with the same list.
	next(deliveries(ours, webhook.DeliveryQuery{Limit: 2, Cursor: d}))
	next(attempts(ours, webhook.AttemptQuery{Limit: 2, Cursor: a}))
	_, err := webhooks(ours, webhook.WebhookQuery{Limit: 2, Cursor: h})
	f.NoError(err)

	refused := func(_ string, err error) {
		f.t.Helper()
		f.ErrorIs(err, webhook.ErrInvalidCursor)
	}
	for _, cursor := range []string{"x", "%%%", d[:len(d)-1], d + "AA", "ÿ", " " + d, d + "="} {
		refused(deliveries(ours, webhook.DeliveryQuery{Cursor: cursor}))
		refused(attempts(ours, webhook.AttemptQuery{Cursor: cursor}))
		refused(webhooks(ours, webhook.WebhookQuery{Cursor: cursor}))
	}
	refused(deliveries(theirs, webhook.DeliveryQuery{Cursor: d}))
	refused(attempts(theirs, webhook.AttemptQuery{Cursor: a}))
	refused(webhooks(theirs, webhook.WebhookQuery{Cursor: h}))
	refused(deliveries(ours, webhook.DeliveryQuery{Cursor: a}))
	refused(attempts(ours, webhook.AttemptQuery{Cursor: d}))
	refused(webhooks(ours, webhook.WebhookQuery{Cursor: d}))
	for _, q := range []webhook.DeliveryQuery{
		{WebhookID: w.ID}, {State: webhook.DeliveryPending}, {EventType: messages.EventType}, {Since: noon}, {Before: f.now},
	} {
		q.Cursor = d
		refused(deliveries(ours, q))
	}
	for _, q := range []webhook.AttemptQuery{
		{WebhookID: w.ID}, {Outcome: webhook.OutcomeFailed}, {EventType: messages.EventType}, {Since: noon}, {Before: f.now},
	} {
		q.Cursor = a
		refused(attempts(ours, q))
	}
	for _, q := range []webhook.WebhookQuery{{Status: webhook.StatusActive}, {EventType: messages.EventType}} {
		q.Cursor = h
		refused(webhooks(ours, q))
	}
}

func s22() []test {
	return []test{
		{"HoursAndOutcomes", hoursAndOutcomes},
		{"LatencyBuckets", latencyBuckets},
		{"ALateReportCountsNothing", aLateReportCountsNothing},
		{"TheLastSuccessOfAnHour", theLastSuccessOfAnHour},
		{"CountersOutliveThePurge", countersOutliveThePurge},
	}
}

func hoursAndOutcomes(f *fixture) {
	w, other := f.webhook(), f.webhook()
	f.Empty(f.counters(w))
	hour := func(n int) time.Time { return time.Date(2026, time.January, 1, 12+n, 0, 0, 0, time.UTC) }
	attempt := func(at time.Time, state webhook.DeliveryState) {
		f.t.Helper()
		f.now = at
		f.finish(state, f.claimOf(f.deliverOne(w)))
	}
	// It counts where it started, not where it ended.
	attempt(hour(0).Add(time.Second), webhook.DeliverySucceeded)
	attempt(hour(1).Add(-time.Microsecond), webhook.DeliverySucceeded)
	attempt(hour(1), webhook.DeliveryFailed)
	f.succeed(f.claimOf(f.deliverOne(other)))
	f.now = hour(4).Add(-time.Second)
	interrupted := f.claimOf(f.deliverOne(w))
	f.now = interrupted.LeasedUntil
	f.settle(f.schedule())
	attempt(hour(5).Add(time.Minute), webhook.DeliverySucceeded)

	quick := func(n int) (l [len(webhook.LatencyBounds) + 1]int) {
		l[2] = n // of attempts that took 40 ms
		return l
	}
	want := []webhook.Counter{
		{Hour: hour(0), Succeeded: 2, Latency: quick(2), LastSuccessAt: hour(1).Add(-time.Microsecond)},
		{Hour: hour(1), Failed: 1, Latency: quick(1), FailedSince: 1},
		{Hour: hour(3), Interrupted: 1},
		{Hour: hour(5), Succeeded: 1, Latency: quick(1), LastSuccessAt: hour(5).Add(time.Minute)},
	}
	f.Equal(want, f.counters(w))
	f.Equal([]webhook.Counter{{Hour: hour(1), Succeeded: 1, Latency: quick(1), LastSuccessAt: hour(1).Add(took)}}, f.counters(other))

	for _, tc := range []struct {
		since, before time.Time
		want          []webhook.Counter
	}{
		{hour(1), time.Time{}, want[1:]},
		{time.Time{}, hour(3), want[:2]},
		{hour(1), hour(5), want[1:3]},
		{hour(1).In(time.FixedZone("east", 3600)), hour(2), want[1:2]},
		{hour(2), hour(3), nil},
		{hour(6), time.Time{}, nil},
	} {
		got, err := f.store.Counters(f.ctx(), ours, webhook.CounterQuery{WebhookID: w.ID, Since: tc.since, Before: tc.before})
		f.NoError(err)
		if len(tc.want) == 0 {
			f.Empty(got)
			continue
		}
		f.Equal(tc.want, got)
	}
}

func latencyBuckets(f *fixture) {
	w := f.webhook()
	want := webhook.Counter{Hour: noon.Truncate(time.Hour)}
	last := len(webhook.LatencyBounds)
	durations := map[time.Duration]int{0: 0, webhook.LatencyBounds[last-1] + time.Microsecond: last, time.Hour: last}
	for i, bound := range webhook.LatencyBounds {
		durations[bound], durations[bound-time.Microsecond] = i, i
		durations[bound+time.Microsecond] = i + 1
	}
	state := webhook.DeliverySucceeded
	for duration, bucket := range durations {
		f.now = noon
		out := f.outcome(f.claimOf(f.deliverOne(w)), state)
		out.Attempt.Duration = duration
		f.Equal([]error{nil}, f.report(out))
		want.Latency[bucket]++
		if state == webhook.DeliverySucceeded {
			want.Succeeded++
			want.FailedSince, want.LastSuccessAt = 0, noon
			state = webhook.DeliveryFailed
		} else {
			want.Failed++
			want.FailedSince++
			state = webhook.DeliverySucceeded
		}
	}
	f.Equal([]webhook.Counter{want}, f.counters(w))
}

// theLastSuccessOfAnHour: when it started, and what has failed since it was logged,
// in one call and in several.
func theLastSuccessOfAnHour(f *fixture) {
	w := f.webhook()
	check := func(failedSince int, lastSuccess time.Time) {
		f.t.Helper()
		cs := f.counters(w)
		f.Len(cs, 1)
		f.Equal(failedSince, cs[0].FailedSince)
		f.Equal(lastSuccess, cs[0].LastSuccessAt)
	}
	f.deliver(w, 3)
	f.exhaust(f.claimAll()...)
	check(3, time.Time{})

	f.deliver(w, 4)
	cs := f.claimAll()
	first := f.now
	f.Equal(make([]error, 4), f.report(
		f.outcome(cs[0], webhook.DeliveryFailed), f.outcome(cs[1], webhook.DeliverySucceeded),
		f.outcome(cs[2], webhook.DeliveryFailed), f.outcome(cs[3], webhook.DeliveryPending)))
	check(2, first)
	f.exhaust(f.claimOf(f.deliverOne(w)))
	check(3, first)

	// One that started earlier is logged later: it is the last in the log, and not the
	// last that started.
	f.pass(time.Minute)
	early := f.deliver(w, 1)
	c := f.claim(webhook.ClaimParams{}).Claims
	f.Len(c, 2) // and the one that was to be tried again
	slow := f.outcome(c[0], webhook.DeliverySucceeded)
	slow.Attempt.StartedAt = first.Add(-took)
	f.Equal([]error{nil}, f.report(slow))
	check(0, first)
	f.exhaust(c[1])
	check(1, first)
	f.NotZero(early)
}

func aLateReportCountsNothing(f *fixture) {
	w := f.webhook()
	c := f.claimOf(f.deliverOne(w))
	late := f.outcome(c, webhook.DeliverySucceeded)
	f.now = c.LeasedUntil
	f.settle(f.schedule())
	want := []webhook.Counter{{Hour: noon.Truncate(time.Hour), Interrupted: 1}}
	f.Equal(want, f.counters(w))
	f.ErrorIs(f.report(late)[0], webhook.ErrLeaseLost)
	f.ErrorIs(f.report(late)[0], webhook.ErrLeaseLost)
	f.Equal(want, f.counters(w))
}

func countersOutliveThePurge(f *fixture) {
	w := f.webhook()
	f.deliver(w, 3)
	f.succeed(f.claimAll()...)
	want := f.counters(w)
	f.Equal(3, want[0].Succeeded)
	f.pass(365 * 24 * time.Hour)
	f.purge(webhook.PurgeParams{
		PayloadsBefore: f.now, AttemptsBefore: f.now, DeliveriesBefore: f.now, HeldBefore: f.now,
	})
	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{}))
	f.Equal(want, f.counters(w))
}
