package storetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// What becomes of claims: S10, S11 and S12.

func s10() []test {
	return []test{
		{"SucceededFailedOrPending", succeededFailedOrPending},
		{"AStaleOutcomeChangesNothing", aStaleOutcomeChangesNothing},
		{"OneOfConcurrentReportsCounts", oneOfConcurrentReportsCounts},
		{"TheEndOfTheLeaseIsNotTheEnd", theEndOfTheLeaseIsNotTheEnd},
		{"ALateReportCompletesTheLog", aLateReportCompletesTheLog},
		{"StaleOutcomesAmongGoodOnes", staleOutcomesAmongGoodOnes},
	}
}

func succeededFailedOrPending(f *fixture) {
	w := f.webhook()
	for _, state := range []webhook.DeliveryState{
		webhook.DeliverySucceeded, webhook.DeliveryFailed, webhook.DeliveryPending,
	} {
		before := f.deliverOne(w)
		f.pass(time.Second)
		out := f.outcome(f.claimOf(before), state)
		f.Equal([]error{nil}, f.report(out))

		want := before
		want.State, want.Attempts, want.DueAt = state, 1, out.DueAt
		if state.Finished() {
			want.FinishedAt = f.now
		}
		f.Equal(want, f.delivery(before.ID))
		f.Equal([]webhook.Attempt{out.Attempt}, f.log(before))
		f.Zero(f.leased(w))
	}
	f.now = f.nextDue()
	f.claimOne() // the pending one, and no other
}

func aStaleOutcomeChangesNothing(f *fixture) {
	w := f.webhook()
	d, other := f.deliverOne(w), f.deliverOne(w)
	claims := map[uuid.UUID]webhook.Claim{}
	for _, c := range f.claimAll() {
		claims[c.DeliveryID] = c
	}
	good := f.outcome(claims[d.ID], webhook.DeliverySucceeded)
	before := f.contents(ours)
	for i, spoil := range []func(*webhook.FinishedAttempt){
		func(o *webhook.FinishedAttempt) { o.Token = f.ids.New(f.now) },
		func(o *webhook.FinishedAttempt) { o.Token = uuid.UUID{} },
		func(o *webhook.FinishedAttempt) { o.Token = claims[other.ID].Token },
		func(o *webhook.FinishedAttempt) { o.Attempt.Number = 2 },
		func(o *webhook.FinishedAttempt) { o.Attempt.Number = 0 },
		func(o *webhook.FinishedAttempt) { o.Attempt.DeliveryID = other.ID },
		func(o *webhook.FinishedAttempt) { o.Attempt.DeliveryID = f.ids.New(f.now) },
	} {
		bad := good
		spoil(&bad)
		f.ErrorIs(f.report(bad)[0], webhook.ErrLeaseLost, "case %d", i)
		f.Equal(before, f.contents(ours), "case %d", i)
	}
	f.Equal([]error{nil}, f.report(good))
	done := f.contents(ours)

	// Twice is once.
	f.ErrorIs(f.report(good)[0], webhook.ErrLeaseLost)
	good.State, good.Attempt.Outcome = webhook.DeliveryFailed, webhook.OutcomeFailed
	f.ErrorIs(f.report(good)[0], webhook.ErrLeaseLost)
	f.Equal(done, f.contents(ours))
}

func oneOfConcurrentReportsCounts(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	c := f.claimOf(d)
	outcomes := []webhook.FinishedAttempt{f.outcome(c, webhook.DeliverySucceeded), f.outcome(c, webhook.DeliveryFailed)}
	type answer struct {
		errs []error
		err  error
	}
	accepted := -1
	for i, a := range together(8, func(i int) answer {
		got, err := f.store.Finish(f.ctx(), webhook.FinishParams{
			Now: noon.Add(time.Second), Outcomes: []webhook.FinishedAttempt{outcomes[i%2]},
		})
		return answer{got.Errs, err}
	}) {
		f.NoError(a.err)
		f.Len(a.errs, 1)
		if a.errs[0] == nil {
			f.Equal(-1, accepted, "accepted twice")
			accepted = i % 2
			continue
		}
		f.ErrorIs(a.errs[0], webhook.ErrLeaseLost)
	}
	f.NotEqual(-1, accepted)
	f.Equal(outcomes[accepted].State, f.state(d))
	f.Equal([]webhook.Attempt{outcomes[accepted].Attempt}, f.log(d))
}

func theEndOfTheLeaseIsNotTheEnd(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	out := f.outcome(f.claimOf(d), webhook.DeliverySucceeded)
	out.Attempt.Duration = time.Hour
	f.pass(time.Hour)
	f.Zero(f.leased(w))
	f.Equal([]error{nil}, f.report(out))
	f.Equal(webhook.DeliverySucceeded, f.state(d))
	f.Equal([]webhook.Attempt{out.Attempt}, f.log(d))
	f.Zero(f.settle(webhook.DefaultSchedule()))
}

func aLateReportCompletesTheLog(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	c := f.claimOf(d)
	claimed := f.now
	f.pass(time.Second)
	out := f.outcome(c, webhook.DeliverySucceeded)
	out.Attempt.Duration = time.Minute
	f.now = c.LeasedUntil
	f.Equal(1, f.settle(f.schedule(time.Hour)))
	f.Equal([]webhook.Attempt{c.Interrupted(claimed)}, f.log(d))
	before := f.delivery(d.ID)
	f.Equal(webhook.DeliveryPending, before.State)

	f.ErrorIs(f.report(out)[0], webhook.ErrLeaseLost)
	late := out.Attempt
	late.Outcome = webhook.OutcomeLate
	f.Equal([]webhook.Attempt{late}, f.log(d))
	f.Equal(before, f.delivery(d.ID))

	// Only once, and what it says is kept.
	again := out
	again.Attempt.StatusCode, again.Attempt.Response = 418, []byte("again")
	f.ErrorIs(f.report(again)[0], webhook.ErrLeaseLost)
	f.Equal([]webhook.Attempt{late}, f.log(d))
	f.Equal(before, f.delivery(d.ID))
	f.Len(f.attempts(ours, webhook.AttemptQuery{Outcome: webhook.OutcomeLate}), 1)
	f.Empty(f.attempts(ours, webhook.AttemptQuery{Outcome: webhook.OutcomeInterrupted}))

	// The next attempt may be in flight by then.
	d = f.deliverOne(w)
	first := f.claimOf(d)
	out = f.outcome(first, webhook.DeliveryFailed)
	f.now = first.LeasedUntil
	f.settle(f.schedule(0))
	second := f.claimOf(d)
	before = f.delivery(d.ID)
	f.ErrorIs(f.report(out)[0], webhook.ErrLeaseLost)
	f.Equal(before, f.delivery(d.ID))
	f.Equal(1, f.leased(w))

	// The first token with the second number is nothing at all.
	mixed := f.outcome(first, webhook.DeliveryFailed)
	mixed.Attempt.Number = 2
	f.ErrorIs(f.report(mixed)[0], webhook.ErrLeaseLost)
	f.Equal(before, f.delivery(d.ID))

	good := f.outcome(second, webhook.DeliverySucceeded)
	f.Equal([]error{nil}, f.report(good))
	f.Equal(webhook.DeliverySucceeded, f.state(d))
	late = out.Attempt
	late.Outcome = webhook.OutcomeLate
	f.Equal([]webhook.Attempt{late, good.Attempt}, f.log(d))
}

func staleOutcomesAmongGoodOnes(f *fixture) {
	w := f.webhook()
	f.deliver(w, 6)
	claims := f.claimAll()
	f.succeed(claims[1])
	var outcomes []webhook.FinishedAttempt
	for _, c := range claims {
		outcomes = append(outcomes, f.outcome(c, webhook.DeliverySucceeded))
	}
	outcomes[3].Token = f.ids.New(f.now)
	outcomes = append(outcomes, outcomes[0]) // twice in one call

	errs := f.report(outcomes...)
	for i, err := range errs {
		if i == 1 || i == 3 || i == 6 {
			f.ErrorIs(err, webhook.ErrLeaseLost, "outcome %d", i)
			continue
		}
		f.NoError(err, "outcome %d", i)
	}
	f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 5, webhook.DeliveryPending: 1})
	f.Len(f.attempts(ours, webhook.AttemptQuery{}), 5)
	f.Equal(1, f.leased(w))
}

func s11() []test {
	return []test{
		{"TheScheduleGoesOnFromTheLeasesEnd", theScheduleGoesOnFromTheLeasesEnd},
		{"TheLastAttemptFailsWithANotice", theLastAttemptFailsWithANotice},
		{"ATestEventFailsWithoutANotice", aTestEventFailsWithoutANotice},
		{"LimitAndMore", settleLimitAndMore},
	}
}

func theScheduleGoesOnFromTheLeasesEnd(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	for i, delay := range []time.Duration{time.Minute, 5 * time.Minute} {
		c, claimed := f.claimOf(d), f.now
		f.now = c.LeasedUntil.Add(-time.Microsecond)
		f.Zero(f.settle(webhook.DefaultSchedule()))
		f.Len(f.log(d), i)
		f.Equal(1, f.leased(w))

		// However late somebody notices.
		f.now = c.LeasedUntil.Add(time.Duration(i) * time.Hour)
		f.Zero(f.leased(w))
		f.Equal(1, f.settle(webhook.DefaultSchedule()))
		f.Zero(f.settle(webhook.DefaultSchedule()))
		got := f.delivery(d.ID)
		want := d
		want.Attempts, want.DueAt = i+1, c.LeasedUntil.Add(delay)
		f.Equal(want, got)
		f.Equal(c.Interrupted(claimed), f.log(d)[i])
		f.now = slices.MaxFunc([]time.Time{f.now, want.DueAt}, time.Time.Compare)
	}
	f.Equal(3, f.claimOf(d).Attempt)
}

func theLastAttemptFailsWithANotice(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	schedule := f.schedule(time.Minute)
	f.fail(f.claimOf(d))
	f.pass(wait)
	c := f.claimOf(d)
	f.now = c.LeasedUntil
	f.Equal(1, f.settle(schedule))
	got := f.delivery(d.ID)
	f.Equal(webhook.DeliveryFailed, got.State)
	f.Equal(2, got.Attempts)
	f.Equal(f.now, got.FinishedAt)
	f.Zero(got.DueAt)
	f.Zero(got.LeasedUntil)
	f.nothingWaits()

	f.Equal(f.now.Add(webhook.NoticeWindow), f.noticeDue())
	f.pass(webhook.NoticeWindow)
	n := f.claimNotice().Notice
	f.Equal(w.ID, n.WebhookID)
	f.Equal(1, n.Deliveries)
	f.Equal(webhook.ErrorInterrupted, n.LastErrorClass)
	f.Equal(c.Interrupted(noon).Error, n.LastError)
	f.Equal(c.LeasedUntil, n.FirstAt)
	f.Zero(n.LastStatusCode)
}

func aTestEventFailsWithoutANotice(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w, asTest)
	c := f.claimOf(d)
	f.now = c.LeasedUntil
	f.Equal(1, f.settle(webhook.DefaultSchedule()))
	f.Equal(webhook.DeliveryFailed, f.state(d))
	f.Len(f.log(d), 1)
	f.Zero(f.noticeDue())
}

func settleLimitAndMore(f *fixture) {
	w := f.webhook()
	f.deliver(w, 7)
	f.claimAll()
	f.pass(time.Second)
	live := f.deliverOne(w)
	f.claimOf(live)
	f.now = f.now.Add(lease - time.Microsecond)

	settled := 0
	for range 7 {
		got, err := f.store.Settle(f.ctx(), webhook.SettleParams{Now: f.now, Limit: 3})
		f.NoError(err)
		f.LessOrEqual(got.Settled, 3)
		settled += got.Settled
		f.Len(f.attempts(ours, webhook.AttemptQuery{Outcome: webhook.OutcomeInterrupted}), settled)
		if settled < 7 {
			f.True(got.More)
			f.Positive(got.Settled)
		}
		if !got.More {
			break
		}
	}
	f.Equal(7, settled)
	f.Empty(f.log(live))
	f.Equal(1, f.leased(w))
}

func s12() []test {
	return []test{
		{"TheAttemptIsGivenBack", theAttemptIsGivenBack},
		{"AStaleTokenReleasesNothing", aStaleTokenReleasesNothing},
	}
}

func (f *fixture) release(notBefore time.Time, claims ...webhook.Claim) []error {
	f.t.Helper()
	p := webhook.ReleaseParams{Now: f.now}
	for _, c := range claims {
		p.Claims = append(p.Claims, webhook.ReleasedClaim{DeliveryID: c.DeliveryID, Token: c.Token, NotBefore: notBefore})
	}
	got, err := f.store.Release(f.ctx(), p)
	f.NoError(err)
	f.Len(got.Errs, len(claims), "Release has an error or nil for each claim")
	return got.Errs
}

func theAttemptIsGivenBack(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	first := f.claimOf(d)
	f.fail(first)
	f.pass(wait)
	second := f.claimOf(d)
	f.pass(time.Second)
	later := f.now.Add(time.Hour)
	f.Equal([]error{nil}, f.release(later, second))

	want := d
	want.Attempts, want.DueAt = 1, later
	f.Equal(want, f.delivery(d.ID))
	f.Len(f.log(d), 1)
	f.Zero(f.leased(w))

	f.Equal(later, f.nextDue())
	f.now = later
	again := f.claimOf(d)
	f.Equal(2, again.Attempt)
	f.NotEqual(second.Token, again.Token)
	f.Equal(later, again.DueAt)
	f.succeed(again)
	f.Len(f.log(d), 2)

	// At once is a time like any other.
	d = f.deliverOne(w)
	f.Equal([]error{nil}, f.release(f.now, f.claimOf(d)))
	f.Zero(f.delivery(d.ID).Attempts)
	f.Equal(1, f.claimOf(d).Attempt)
}

func aStaleTokenReleasesNothing(f *fixture) {
	w := f.webhook()
	f.deliver(w, 4)
	claims := f.claimAll()
	forged := claims[0]
	forged.Token = f.ids.New(f.now)
	unknown := claims[0]
	unknown.DeliveryID = f.ids.New(f.now)
	f.Equal([]error{nil}, f.release(f.now.Add(time.Hour), claims[1]))
	f.succeed(claims[2])
	before := f.contents(ours)

	for _, err := range f.release(f.now, forged, unknown, claims[1], claims[2]) {
		f.ErrorIs(err, webhook.ErrLeaseLost)
	}
	f.Equal(before, f.contents(ours))

	errs := f.release(f.now, forged, claims[3], claims[3], claims[0])
	f.ErrorIs(errs[0], webhook.ErrLeaseLost)
	f.NoError(errs[1])
	f.ErrorIs(errs[2], webhook.ErrLeaseLost)
	f.NoError(errs[3])

	// Released, it can no longer be finished; settled, no longer released.
	f.ErrorIs(f.report(f.outcome(claims[0], webhook.DeliverySucceeded))[0], webhook.ErrLeaseLost)
	again := f.claimAll()
	f.Len(again, 2)
	f.pass(lease)
	f.Equal(2, f.settle(webhook.DefaultSchedule()))
	for _, err := range f.release(f.now, again...) {
		f.ErrorIs(err, webhook.ErrLeaseLost)
	}
	f.Len(f.attempts(ours, webhook.AttemptQuery{}), 3)
}
