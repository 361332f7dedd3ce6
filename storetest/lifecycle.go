package storetest

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Deliveries that stop and go on: S14 and S21.

func s14() []test {
	return []test{
		{"DeactivatingHoldsAtOnce", deactivatingHoldsAtOnce},
		{"DeletingCancelsAtOnce", deletingCancelsAtOnce},
		{"SweepMovesInBatches", sweepMovesInBatches},
		{"LeasedCountsLiveLeases", leasedCountsLiveLeases},
		{"AnAttemptInFlightAtTheDeactivation", anAttemptInFlightAtTheDeactivation},
		{"AnAttemptInFlightAtTheReactivation", anAttemptInFlightAtTheReactivation},
		{"AnAttemptInFlightAtTheDeletion", anAttemptInFlightAtTheDeletion},
		{"AnAttemptSettledOrReleasedAfterwards", anAttemptSettledOrReleasedAfterwards},
		{"ADeletedWebhookLeavesItsLog", aDeletedWebhookLeavesItsLog},
		{"ReactivatingLeavesHeldOnes", reactivatingLeavesHeldOnes},
		{"ResumingReleasesHeldOnes", resumingReleasesHeldOnes},
		{"BackAndForthBeforeAnySweep", backAndForthBeforeAnySweep},
		{"PublishedAtTheSameTime", publishedAtTheSameTime},
	}
}

// dueRetriedDone gives a webhook a delivery that is due, one that waits for its
// retry, and one that has succeeded.
func (f *fixture) dueRetriedDone(w webhook.Webhook) (due, retried, done webhook.Delivery) {
	f.t.Helper()
	retried, done = f.deliverOne(w), f.deliverOne(w)
	for _, c := range f.claimAll() {
		switch c.DeliveryID {
		case retried.ID:
			f.fail(c)
		case done.ID:
			f.succeed(c)
		}
	}
	due = f.deliverOne(w)
	return f.delivery(due.ID), f.delivery(retried.ID), f.delivery(done.ID)
}

// inFlight checks that a delivery reads as what has been decided about it, and
// keeps its lease.
func (f *fixture) inFlight(c webhook.Claim, state webhook.DeliveryState) {
	f.t.Helper()
	got := f.delivery(c.DeliveryID)
	f.Equal(state, got.State)
	f.Equal(c.LeasedUntil, got.LeasedUntil)
	f.Equal(c.Attempt, got.Attempts)
	got.Payload = nil
	f.Equal([]webhook.Delivery{got}, f.deliveries(ours, webhook.DeliveryQuery{EventID: c.EventID, State: state}))
	leased, err := f.store.Leased(f.ctx(), ours, c.WebhookID, f.now)
	f.NoError(err)
	f.Equal(1, leased)
}

func deactivatingHoldsAtOnce(f *fixture) {
	w, other := f.webhook(), f.webhook()
	due, retried, done := f.dueRetriedDone(w)
	untouched := f.deliverOne(other)
	f.pass(time.Second)
	f.change(w, deactivate)
	due.State, retried.State = webhook.DeliveryHeld, webhook.DeliveryHeld
	f.beforeAndAfterSweep(func() {
		for _, want := range []webhook.Delivery{due, retried, done, untouched} {
			f.Equal(want, f.delivery(want.ID))
		}
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 2, webhook.DeliverySucceeded: 1})
	})

	f.pass(time.Hour)
	f.claimOf(untouched)
}

func deletingCancelsAtOnce(f *fixture) {
	w, other, dormant := f.webhook(), f.webhook(), f.webhook(inactive)
	due, retried, done := f.dueRetriedDone(w)
	held, untouched := f.deliverOne(dormant), f.deliverOne(other)
	f.pass(time.Second)
	f.delete(w)
	f.delete(dormant)
	for _, d := range []*webhook.Delivery{&due, &retried, &held} {
		d.State, d.DueAt, d.FinishedAt = webhook.DeliveryCancelled, time.Time{}, f.now
	}
	f.pass(time.Second)
	f.beforeAndAfterSweep(func() {
		for _, want := range []webhook.Delivery{due, retried, held, done, untouched} {
			f.Equal(want, f.delivery(want.ID))
		}
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryCancelled: 2, webhook.DeliverySucceeded: 1})
	})

	f.pass(time.Hour)
	f.claimOf(untouched)
}

func sweepMovesInBatches(f *fixture) {
	w, doomed := f.webhook(), f.webhook()
	f.deliver(w, 7)
	f.deliver(doomed, 7)
	f.change(w, deactivate)
	f.delete(doomed)
	for range 100 {
		got, err := f.store.Sweep(f.ctx(), webhook.SweepParams{Now: f.now, Limit: 2})
		f.NoError(err)
		f.LessOrEqual(got.Moved, 2)
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 7})
		f.inStates(doomed, map[webhook.DeliveryState]int{webhook.DeliveryCancelled: 7})
		f.nothingWaits()
		if !got.More {
			break
		}
	}
	got, err := f.store.Sweep(f.ctx(), webhook.SweepParams{Now: f.now, Limit: 2})
	f.NoError(err)
	f.Equal(webhook.SweepResult{}, got)
}

func leasedCountsLiveLeases(f *fixture) {
	w, other := f.webhook(), f.webhook()
	f.deliver(w, 3)
	f.deliver(other, 2)
	f.Zero(f.leased(w))
	claims := f.claim(webhook.ClaimParams{Caps: map[uuid.UUID]int{w.ID: 1, other.ID: 0}}).Claims
	f.pass(time.Second)
	claims = append(claims, f.claim(webhook.ClaimParams{Caps: map[uuid.UUID]int{other.ID: 0}}).Claims...)
	f.Equal(3, f.leased(w))
	f.Zero(f.leased(other))

	for _, change := range []func(){func() {}, func() { f.change(w, deactivate) }, func() { f.delete(w) }} {
		change()
		f.beforeAndAfterSweep(func() { f.Equal(3, f.leased(w)) })
	}
	f.succeed(claims[1])
	f.Equal(2, f.leased(w))
	f.now = claims[0].LeasedUntil
	f.Equal(1, f.leased(w))
	f.now = claims[2].LeasedUntil
	f.Zero(f.leased(w))
	f.settle(webhook.DefaultSchedule())
	f.Zero(f.leased(w))
}

func anAttemptInFlightAtTheDeactivation(f *fixture) {
	for state, want := range map[webhook.DeliveryState]webhook.DeliveryState{
		webhook.DeliverySucceeded: webhook.DeliverySucceeded,
		webhook.DeliveryFailed:    webhook.DeliveryFailed,
		webhook.DeliveryPending:   webhook.DeliveryHeld,
	} {
		w := f.webhook()
		d := f.deliverOne(w)
		c := f.claimOf(d)
		f.change(w, deactivate)
		f.beforeAndAfterSweep(func() { f.inFlight(c, webhook.DeliveryHeld) })
		out := f.outcome(c, state)
		f.Equal([]error{nil}, f.report(out))
		finished := f.now
		f.pass(time.Second)
		f.beforeAndAfterSweep(func() {
			after := d
			after.State, after.Attempts, after.DueAt = want, 1, out.DueAt
			if want.Finished() {
				after.FinishedAt = finished
			}
			f.Equal(after, f.delivery(d.ID))
			f.inStates(w, map[webhook.DeliveryState]int{want: 1})
		})
		f.Equal([]webhook.Attempt{out.Attempt}, f.log(d))
		f.Zero(f.leased(w))
		f.nothingWaits()
	}
	f.pass(webhook.NoticeWindow)
	f.Equal(1, f.claimNotice().Notice.Deliveries) // of the one that failed
}

func anAttemptInFlightAtTheReactivation(f *fixture) {
	for name, tc := range map[string]struct {
		edit func(*webhook.WebhookChange)
		want webhook.DeliveryState
	}{
		"left":    {activate, webhook.DeliveryHeld},
		"resumed": {resume, webhook.DeliveryPending},
	} {
		w := f.webhook()
		d := f.deliverOne(w)
		c := f.claimOf(d)
		f.change(w, deactivate)
		f.pass(time.Second)
		f.change(w, tc.edit)
		f.beforeAndAfterSweep(func() { f.inFlight(c, tc.want) })
		out := f.outcome(c, webhook.DeliveryPending)
		f.Equal([]error{nil}, f.report(out))
		f.beforeAndAfterSweep(func() {
			got := f.delivery(d.ID)
			f.Equal(tc.want, got.State, name)
			f.Equal(out.DueAt, got.DueAt, name)
		})
		f.change(w, resume)
		f.pass(wait)
		f.succeed(f.claimOf(d))
	}
}

func anAttemptInFlightAtTheDeletion(f *fixture) {
	for _, state := range []webhook.DeliveryState{
		webhook.DeliverySucceeded, webhook.DeliveryFailed, webhook.DeliveryPending,
	} {
		w := f.webhook()
		d := f.deliverOne(w)
		c := f.claimOf(d)
		f.delete(w)
		f.beforeAndAfterSweep(func() { f.inFlight(c, webhook.DeliveryCancelled) })
		out := f.outcome(c, state)
		f.Equal([]error{nil}, f.report(out))
		after := d
		after.State, after.Attempts, after.DueAt, after.FinishedAt = webhook.DeliveryCancelled, 1, time.Time{}, f.now
		f.pass(time.Second)
		f.beforeAndAfterSweep(func() { f.Equal(after, f.delivery(d.ID), "after %s", state) })
		f.Equal([]webhook.Attempt{out.Attempt}, f.log(d))
		f.Zero(f.leased(w))
		f.nothingWaits()
	}
	f.pass(24 * time.Hour)
	f.Empty(f.claimNotices())
}

func anAttemptSettledOrReleasedAfterwards(f *fixture) {
	w, doomed, spent := f.webhook(), f.webhook(), f.webhook()
	held, cancelled, failed := f.deliverOne(w), f.deliverOne(doomed), f.deliverOne(spent, asTest)
	claimed := f.now
	claims := map[uuid.UUID]webhook.Claim{}
	for _, c := range f.claimAll() {
		claims[c.DeliveryID] = c
	}
	f.pass(time.Second)
	f.change(w, deactivate)
	f.change(spent, deactivate)
	f.delete(doomed)
	f.now = claimed.Add(lease)
	f.Equal(3, f.settle(webhook.DefaultSchedule()))

	f.beforeAndAfterSweep(func() {
		after := held
		after.State, after.Attempts, after.DueAt = webhook.DeliveryHeld, 1, claimed.Add(lease+time.Minute)
		f.Equal(after, f.delivery(held.ID))
		f.Equal(webhook.DeliveryCancelled, f.state(cancelled))
		f.Equal(webhook.DeliveryFailed, f.state(failed)) // no other attempt was left
	})
	for _, d := range []webhook.Delivery{held, cancelled, failed} {
		c := claims[d.ID]
		f.Equal([]webhook.Attempt{c.Interrupted(claimed)}, f.log(d))
	}
	f.nothingWaits()
	f.Zero(f.noticeDue())

	// Given back, there is no attempt to log.
	logged := f.attempts(ours, webhook.AttemptQuery{})
	w, doomed = f.webhook(), f.webhook()
	held, cancelled = f.deliverOne(w), f.deliverOne(doomed)
	given := f.claimAll()
	f.change(w, deactivate)
	f.delete(doomed)
	f.pass(time.Second)
	f.Equal([]error{nil, nil}, f.release(f.now, given...))
	f.beforeAndAfterSweep(func() {
		f.Equal(webhook.DeliveryHeld, f.state(held))
		f.Equal(webhook.DeliveryCancelled, f.state(cancelled))
	})
	f.Equal(logged, f.attempts(ours, webhook.AttemptQuery{}))
	f.Zero(f.delivery(held.ID).Attempts)
	f.Zero(f.leased(w))
	f.Zero(f.leased(doomed))
	f.nothingWaits()
}

func aDeletedWebhookLeavesItsLog(f *fixture) {
	w, other := f.webhook(), f.webhook()
	_, _, done := f.dueRetriedDone(w)
	f.delete(w)

	_, err := f.store.Webhook(f.ctx(), ours, w.ID)
	f.ErrorIs(err, webhook.ErrNotFound)
	f.Equal([]webhook.Webhook{other}, f.webhooks(ours, webhook.WebhookQuery{}))
	_, err = f.store.UpdateWebhook(f.ctx(), f.updateOf(w))
	f.ErrorIs(err, webhook.ErrNotFound)
	f.ErrorIs(f.store.DeleteWebhook(f.ctx(), webhook.DeleteWebhookParams{Scope: ours, ID: w.ID, Now: f.now}), webhook.ErrNotFound)
	_, err = f.redeliver(done)
	f.ErrorIs(err, webhook.ErrConflict)
	_, err = f.store.Recover(f.ctx(), f.recovery(w))
	f.ErrorIs(err, webhook.ErrNotFound)
	f.Zero(f.publish(f.event(wantedBy(w)))[0].Deliveries) // new events pass it by

	f.beforeAndAfterSweep(func() {
		f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID}), 3)
		f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 3)
		f.Len(f.attempts(ours, webhook.AttemptQuery{WebhookID: w.ID}), 2)
		f.Len(f.attempts(ours, webhook.AttemptQuery{}), 2)
		f.Equal(done, f.delivery(done.ID))
		f.Len(f.log(done), 1)
		f.Zero(f.leased(w))
	})
	_, err = f.store.Deliveries(f.ctx(), theirs, webhook.DeliveryQuery{WebhookID: w.ID})
	f.ErrorIs(err, webhook.ErrNotFound)

	// One that never had a delivery has an empty log.
	f.delete(other)
	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: other.ID}))
	f.Empty(f.attempts(ours, webhook.AttemptQuery{WebhookID: other.ID}))
	f.Zero(f.leased(other))
}

func reactivatingLeavesHeldOnes(f *fixture) {
	w := f.webhook()
	before := f.deliverOne(w)
	f.change(w, deactivate)
	meanwhile := f.deliverOne(w)
	f.pass(time.Second)
	f.change(w, activate)
	f.beforeAndAfterSweep(func() {
		f.Equal(webhook.DeliveryHeld, f.state(before))
		f.Equal(webhook.DeliveryHeld, f.state(meanwhile))
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 2})
		f.nothingWaits()
	})

	// What comes after is delivered, and an ordinary edit releases nothing.
	f.pass(time.Second)
	after := f.deliverOne(w)
	f.change(w, func(c *webhook.WebhookChange) { c.Name = "Renamed" })
	f.succeed(f.claimOf(after))
	f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 2, webhook.DeliverySucceeded: 1})
}

func resumingReleasesHeldOnes(f *fixture) {
	w, dormant := f.webhook(), f.webhook(inactive)
	due, retried, done := f.dueRetriedDone(w)
	untouched := f.deliverOne(dormant)
	f.pass(time.Second)
	f.change(w, deactivate)
	meanwhile := f.deliverOne(w)
	f.pass(time.Second)
	f.change(w, resume)
	resumed := f.now
	f.beforeAndAfterSweep(func() {
		for _, want := range []struct {
			d   webhook.Delivery
			due time.Time
		}{{due, resumed}, {meanwhile, resumed}, {retried, retried.DueAt}} {
			got := want.d
			got.State, got.DueAt = webhook.DeliveryPending, want.due
			f.Equal(got, f.delivery(want.d.ID))
		}
		f.Equal(done, f.delivery(done.ID))
		f.Equal(webhook.DeliveryHeld, f.state(untouched))
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryPending: 3, webhook.DeliverySucceeded: 1})
	})

	got := f.claim(webhook.ClaimParams{})
	f.Len(got.Claims, 2)
	f.Equal(resumed.Add(lease), got.NextDue)
	f.succeed(got.Claims...)
	f.now = retried.DueAt
	f.Equal(2, f.claimOf(retried).Attempt)
}

func backAndForthBeforeAnySweep(f *fixture) {
	w := f.webhook()
	change := func(edit func(*webhook.WebhookChange)) {
		f.pass(time.Second)
		f.change(w, edit)
	}
	first := f.deliverOne(w)
	change(deactivate)
	second := f.deliverOne(w)
	change(activate)
	third := f.deliverOne(w) // pending, and claimed
	f.succeed(f.claimOf(third))
	fourth := f.deliverOne(w) // pending
	change(deactivate)
	change(activate)
	fifth := f.deliverOne(w)
	f.claimOf(fifth)
	for _, d := range []webhook.Delivery{first, second, fourth} {
		f.Equal(webhook.DeliveryHeld, f.state(d))
	}

	// Resumed, and at once held again: none has been claimed meanwhile.
	change(deactivate)
	change(resume)
	change(deactivate)
	for _, d := range []webhook.Delivery{first, second, fourth} {
		f.Equal(webhook.DeliveryHeld, f.state(d))
	}
	change(resume)
	f.beforeAndAfterSweep(func() {
		for _, d := range []webhook.Delivery{first, second, fourth} {
			got := f.delivery(d.ID)
			f.Equal(webhook.DeliveryPending, got.State)
			f.Equal(f.now, got.DueAt)
		}
	})
	f.Len(f.claimAll(), 3)

	// Deletion is the end, wherever it stood.
	sixth := f.deliverOne(w)
	change(deactivate)
	seventh := f.deliverOne(w)
	f.pass(time.Second)
	f.delete(w)
	f.beforeAndAfterSweep(func() {
		f.Equal(webhook.DeliveryCancelled, f.state(sixth))
		f.Equal(webhook.DeliveryCancelled, f.state(seventh))
		f.Equal(webhook.DeliverySucceeded, f.state(third))
	})
}

// publishedAtTheSameTime: an insert that has seen the webhook active may come
// to its end after the change.
func publishedAtTheSameTime(f *fixture) {
	const publishers, events = 4, 10
	stopped, doomed := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	batches := make([][]webhook.EventRecord, publishers)
	for i := range batches {
		batches[i] = f.events(events)
	}
	update := f.updateOf(stopped)
	update.Change.Status = webhook.StatusInactive
	for _, err := range together(publishers+2, func(i int) error {
		switch i {
		case publishers:
			_, err := f.store.UpdateWebhook(f.ctx(), update)
			return err
		case publishers + 1:
			return f.store.DeleteWebhook(f.ctx(), webhook.DeleteWebhookParams{Scope: ours, ID: doomed.ID, Now: noon})
		}
		var errs []error
		for _, e := range batches[i] {
			got, err := f.store.InsertEvents(f.ctx(), webhook.InsertParams{Events: []webhook.EventRecord{e}, Now: noon})
			if err == nil {
				err = got.Events[0].Err
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}) {
		f.NoError(err)
	}
	f.beforeAndAfterSweep(func() {
		f.inStates(stopped, map[webhook.DeliveryState]int{webhook.DeliveryHeld: publishers * events})
		for _, d := range f.deliveries(ours, webhook.DeliveryQuery{WebhookID: doomed.ID}) {
			f.Equal(webhook.DeliveryCancelled, d.State)
		}
		f.nothingWaits()
	})
}

func s21() []test {
	return []test{
		{"PendingAndHeldOnes", cancelPendingAndHeldOnes},
		{"OneInFlight", cancelOneInFlight},
		{"FinishedOnesAreAConflict", cancelFinishedOnes},
	}
}

func cancelPendingAndHeldOnes(f *fixture) {
	w, dormant, stopped := f.webhook(), f.webhook(inactive), f.webhook()
	due, retried, _ := f.dueRetriedDone(w)
	held, heldSince, other := f.deliverOne(dormant), f.deliverOne(stopped), f.deliverOne(w)
	f.change(stopped, deactivate)
	f.pass(time.Second)
	cancelled := f.now
	for _, d := range []webhook.Delivery{due, retried, held, heldSince} {
		f.NoError(f.cancel(d))
	}
	f.pass(time.Second)
	f.change(dormant, resume)
	f.change(stopped, resume)
	f.beforeAndAfterSweep(func() {
		for _, want := range []webhook.Delivery{due, retried, held, heldSince} {
			want.State, want.DueAt, want.FinishedAt = webhook.DeliveryCancelled, time.Time{}, cancelled
			f.Equal(want, f.delivery(want.ID))
		}
	})
	f.pass(time.Hour)
	f.claimOf(other)
	f.Empty(f.log(due))
}

func cancelOneInFlight(f *fixture) {
	w := f.webhook()
	for _, state := range []webhook.DeliveryState{
		webhook.DeliverySucceeded, webhook.DeliveryFailed, webhook.DeliveryPending,
	} {
		d := f.deliverOne(w)
		c := f.claimOf(d)
		f.pass(time.Second)
		f.NoError(f.cancel(d))
		f.beforeAndAfterSweep(func() { f.inFlight(c, webhook.DeliveryCancelled) })
		f.ErrorIs(f.cancel(d), webhook.ErrConflict)

		out := f.outcome(c, state)
		f.Equal([]error{nil}, f.report(out))
		want := d
		want.State, want.Attempts, want.DueAt, want.FinishedAt = webhook.DeliveryCancelled, 1, time.Time{}, f.now
		f.Equal(want, f.delivery(d.ID), "after %s", state)
		f.Equal([]webhook.Attempt{out.Attempt}, f.log(d))
		f.ErrorIs(f.cancel(d), webhook.ErrConflict)
	}

	// Nor does it go on when nobody reports, or the attempt is not made.
	d := f.deliverOne(w)
	c, claimed := f.claimOf(d), f.now
	f.NoError(f.cancel(d))
	f.now = c.LeasedUntil
	f.Equal(1, f.settle(webhook.DefaultSchedule()))
	f.Equal(webhook.DeliveryCancelled, f.state(d))
	f.Equal([]webhook.Attempt{c.Interrupted(claimed)}, f.log(d))

	d = f.deliverOne(w)
	c = f.claimOf(d)
	f.NoError(f.cancel(d))
	f.Equal([]error{nil}, f.release(f.now, c))
	f.Equal(webhook.DeliveryCancelled, f.state(d))
	f.Empty(f.log(d))

	f.nothingWaits()
	f.Zero(f.noticeDue())
}

func cancelFinishedOnes(f *fixture) {
	w, doomed := f.webhook(), f.webhook()
	var finished []webhook.Delivery
	for _, state := range []webhook.DeliveryState{webhook.DeliverySucceeded, webhook.DeliveryFailed} {
		finished = append(finished, f.deliverOne(w))
		f.finish(state, f.claimOne())
	}
	finished = append(finished, f.deliverOne(w), f.deliverOne(doomed))
	f.NoError(f.cancel(finished[2]))
	f.delete(doomed)
	before := f.contents(ours)
	f.pass(time.Second)
	for _, d := range finished {
		f.ErrorIs(f.cancel(d), webhook.ErrConflict)
	}
	f.Equal(before, f.contents(ours))
}
