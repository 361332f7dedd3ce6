package storetest

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Redelivery and recovery: S16 and S23.

func s16() []test {
	return []test{
		{"ADeliveryOfItsOwn", aRedeliveryOfItsOwn},
		{"HeldIfTheWebhookIsInactive", aRedeliveryIsHeld},
		{"Conflicts", redeliveryConflicts},
		{"AnEditBeforeItCancelsNothing", anEditBeforeARedelivery},
	}
}

func aRedeliveryOfItsOwn(f *fixture) {
	w, other := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	e := f.event()
	f.publish(e)
	f.exhaust(f.claimAll()...)
	original := f.deliveryOf(w, e.ID)
	f.pass(time.Hour)

	got, err := f.redeliver(original)
	f.NoError(err)
	f.NotEqual(original.ID, got.ID)
	want := webhook.Delivery{
		ID: got.ID, EventID: e.ID, WebhookID: w.ID, OrganizationID: acme, EventType: e.Type, Subject: e.Subject,
		State: webhook.DeliveryPending, DueAt: f.now, CreatedAt: f.now, RedeliveryOf: original.ID,
		Payload: got.Payload,
	}
	f.Equal(want, got)
	want.Payload = e.Payload
	f.Equal(want, f.delivery(got.ID))
	f.Equal(original, f.delivery(original.ID))
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: other.ID}), 1)

	// Attempts of its own, in a log of its own.
	c := f.claimOf(got)
	f.Equal(1, c.Attempt)
	f.Equal(e.ID, c.EventID)
	f.Equal(e.Payload, c.Payload)
	f.fail(c)
	f.pass(wait)
	second := f.claimOf(got)
	f.Equal(2, second.Attempt)
	f.succeed(second)
	f.Len(f.log(got), 2)
	f.Len(f.log(original), 1)

	// Again, of either: it names the one that was asked for.
	for _, d := range []webhook.Delivery{original, got} {
		again, err := f.redeliver(d)
		f.NoError(err)
		f.Equal(d.ID, again.RedeliveryOf)
		f.succeed(f.claimOf(again))
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID, EventID: e.ID}), 4)

	// Of a test event, one that is a test.
	probe := f.deliverOne(w, asTest)
	f.succeed(f.claimOf(probe))
	again, err := f.redeliver(probe)
	f.NoError(err)
	f.True(again.Test)
	f.True(f.claimOf(again).Test)
}

func aRedeliveryIsHeld(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	f.succeed(f.claimOf(d))
	f.change(w, deactivate)
	got, err := f.redeliver(f.delivery(d.ID))
	f.NoError(err)
	f.Equal(webhook.DeliveryHeld, got.State)
	f.beforeAndAfterSweep(func() { f.Equal(webhook.DeliveryHeld, f.state(got)) })
	f.nothingWaits()
	f.change(w, resume)
	f.claimOf(got)
}

func redeliveryConflicts(f *fixture) {
	w, dormant, doomed := f.webhook(), f.webhook(inactive), f.webhook()
	refused := func(d webhook.Delivery) {
		f.t.Helper()
		before := f.contents(ours)
		_, err := f.redeliver(d)
		f.ErrorIs(err, webhook.ErrConflict)
		f.Equal(before, f.contents(ours))
	}
	gone := f.deliverOne(doomed)
	f.succeed(f.claimOf(gone))
	f.delete(doomed)
	refused(gone)
	refused(f.deliverOne(dormant))
	d := f.deliverOne(w)
	refused(d) // due
	c := f.claimOf(d)
	refused(d) // in flight
	f.fail(c)
	refused(d) // waiting for its retry
	f.pass(wait)
	f.succeed(f.claimOf(d))
	f.pass(time.Hour)
	f.purge(webhook.PurgeParams{PayloadsBefore: f.now})
	refused(d) // purged

	// Finished is finished, also by a person.
	d = f.deliverOne(w)
	f.NoError(f.cancel(d))
	again, err := f.redeliver(d)
	f.NoError(err)
	f.claimOf(again)
}

// anEditBeforeARedelivery: an edit cancels what was there, not what somebody
// asks for afterwards.
func anEditBeforeARedelivery(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	f.change(w, subscribe(transcripts))
	f.pass(time.Second)
	again, err := f.redeliver(d)
	f.NoError(err)
	f.beforeAndAfterSweep(func() {
		f.Equal(webhook.DeliveryCancelled, f.state(d))
		f.Equal(webhook.DeliveryPending, f.state(again))
	})
	f.claimOf(again)
}

func s23() []test {
	return []test{
		{"FailedOnesGetANewDelivery", recoverFailedOnes},
		{"HeldOnesBecomePending", recoverHeldOnes},
		{"BatchesInOrderOfCreation", recoverBatchesInOrderOfCreation},
		{"TheOrderOfEventsInTheQueue", recoverKeepsTheOrder},
		{"SinceAndUntil", recoverSinceAndUntil},
		{"OnlyTheNewestOfAnEvent", recoverOnlyTheNewestOfAnEvent},
		{"UntilHidesItsOwnWork", untilHidesItsOwnWork},
		{"PurgedOnesAreCounted", recoverCountsPurgedOnes},
		{"TestEventsStayOut", recoverLeavesTestEventsOut},
		{"ConcurrentRecoveries", concurrentRecoveries},
	}
}

// recovery is the parameters of a recovery that begins now, of everything.
func (f *fixture) recovery(w webhook.Webhook) webhook.RecoverParams {
	return webhook.RecoverParams{
		Scope: scopeOf(w), WebhookID: w.ID, Since: noon, Limit: 100, Now: f.now,
	}
}

// recoverAll goes through all batches and returns the sums, which a preview
// has to tell.
func (f *fixture) recoverAll(p webhook.RecoverParams) webhook.RecoverResult {
	f.t.Helper()
	before := f.contents(ours)
	preview := p
	preview.Preview = true
	told, err := recoverAll(f, preview)
	f.NoError(err)
	f.Equal(before, f.contents(ours), "a preview has changed something")

	sum, err := recoverAll(f, p)
	f.NoError(err)
	f.Equal(told, sum, "what the preview says, and what was done")
	return sum
}

// recoverAll is for any goroutine.
func recoverAll(f *fixture, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	var sum webhook.RecoverResult
	for range 1000 {
		got, err := f.store.Recover(f.ctx(), p)
		if err != nil {
			return sum, err
		}
		sum.Redelivered += got.Redelivered
		sum.Released += got.Released
		sum.Purged += got.Purged
		if !got.More {
			return sum, nil
		}
		p.After, p.Until = got.Next, got.Until
	}
	return sum, errors.New("a recovery has gone through 1000 batches: the last one must not say More")
}

func recoverFailedOnes(f *fixture) {
	w, other := f.webhook(), f.webhook()
	failed, cancelled := f.deliverOne(w), f.deliverOne(w)
	f.deliverOne(w)
	f.NoError(f.cancel(cancelled))
	for _, c := range f.claimAll() {
		if c.DeliveryID == failed.ID {
			f.exhaust(c)
		} else {
			f.succeed(c)
		}
	}
	retried := f.deliverOne(w)
	f.fail(f.claimOf(retried))
	f.exhaust(f.claimOf(f.deliverOne(other)))
	f.claimOf(f.deliverOne(w)) // in flight
	f.pass(time.Second)

	before := f.contents(ours)
	f.Equal(webhook.RecoverResult{Redelivered: 1}, f.recoverAll(f.recovery(w)))
	after := f.contents(ours)
	f.Len(after.Deliveries, len(before.Deliveries)+1)
	f.Subset(after.Deliveries, before.Deliveries)

	i := slices.IndexFunc(after.Deliveries, func(d webhook.Delivery) bool { return d.RedeliveryOf == failed.ID })
	f.GreaterOrEqual(i, 0, "no delivery names the one that failed")
	d := after.Deliveries[i]
	f.Equal(webhook.Delivery{
		ID: d.ID, EventID: failed.EventID, WebhookID: w.ID, OrganizationID: acme, EventType: failed.EventType,
		Subject: failed.Subject, State: webhook.DeliveryPending, DueAt: f.now, CreatedAt: f.now,
		RedeliveryOf: failed.ID, Payload: failed.Payload,
	}, d)
	c := f.claimOf(d)
	f.Equal(1, c.Attempt)
	f.Equal(failed.Payload, c.Payload)
	f.exhaust(c)

	// An inactive webhook has to be activated first.
	f.change(w, deactivate)
	f.pass(time.Second)
	before = f.contents(ours)
	_, err := f.store.Recover(f.ctx(), f.recovery(w))
	f.ErrorIs(err, webhook.ErrConflict)
	f.Equal(before, f.contents(ours))
}

func recoverHeldOnes(f *fixture) {
	// Held from the beginning, and held by a change, which no Sweep followed.
	w := f.webhook()
	before := f.deliver(w, 2)
	f.change(w, deactivate)
	meanwhile := f.deliverOne(w)
	f.change(w, activate)
	after := f.deliverOne(w)
	f.succeed(f.claimOf(after))
	f.pass(time.Minute)

	f.Equal(webhook.RecoverResult{Released: 3}, f.recoverAll(f.recovery(w)))
	f.beforeAndAfterSweep(func() {
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryPending: 3, webhook.DeliverySucceeded: 1})
	})
	f.Equal(webhook.RecoverResult{}, f.recoverAll(f.recovery(w)))
	claimed := map[uuid.UUID]bool{}
	for _, c := range f.claimAll() {
		claimed[c.DeliveryID] = true
		f.Equal(1, c.Attempt)
	}
	f.Equal(map[uuid.UUID]bool{before[0].ID: true, before[1].ID: true, meanwhile.ID: true}, claimed)
}

func recoverBatchesInOrderOfCreation(f *fixture) {
	w := f.webhook()
	var ds []webhook.Delivery
	for range 3 {
		ds = append(ds, f.deliver(w, 3)...)
		f.pass(time.Microsecond)
	}
	// Exhausted from the last to the first: it is the creation that counts.
	claims := map[uuid.UUID]webhook.Claim{}
	for _, c := range f.claimAll() {
		claims[c.DeliveryID] = c
	}
	for i, d := range slices.Backward(ds) {
		if i == 4 {
			f.succeed(claims[d.ID])
		} else {
			f.exhaust(claims[d.ID])
		}
	}
	f.pass(time.Second)

	p := f.recovery(w)
	p.Limit = 2
	began := f.now
	sum := webhook.RecoverResult{}
	for batch := 0; ; batch++ {
		f.Less(batch, 10, "9 deliveries are 5 batches of 2: the last one must not say More")
		f.pass(time.Second)
		p.Now = f.now
		got, err := f.store.Recover(f.ctx(), p)
		f.NoError(err)
		f.LessOrEqual(got.Redelivered, 2)
		sum.Redelivered += got.Redelivered

		// What has been redelivered so far is the oldest, and nothing else.
		redelivered := map[uuid.UUID]bool{}
		for _, d := range f.deliveries(ours, webhook.DeliveryQuery{Since: began.Add(time.Microsecond)}) {
			redelivered[d.RedeliveryOf] = true
		}
		f.Len(redelivered, sum.Redelivered)
		looked := 0
		for i, d := range ds {
			if looked == len(redelivered) {
				break
			}
			if i != 4 {
				f.True(redelivered[d.ID], "delivery %d", i)
				looked++
			}
		}
		if !got.More {
			break
		}
		p.After, p.Until = got.Next, got.Until
	}
	f.Equal(8, sum.Redelivered)
}

// recoverKeepsTheOrder claims what recoveries have put into a webhook's queue, a few at
// a time: what was held at its old place there, and what failed behind it, in the order
// in which the events came.
func recoverKeepsTheOrder(f *fixture) {
	w := f.webhook()
	var failed, held []uuid.UUID // events
	for range 5 {
		for _, d := range f.deliver(w, 3) {
			failed = append(failed, d.EventID)
		}
		f.pass(time.Microsecond)
	}
	claims := f.claimAll()
	for i := range claims { // the first ones in the end
		f.exhaust(claims[len(claims)-1-i])
		f.pass(time.Microsecond)
	}
	f.change(w, deactivate)
	for range 2 {
		for _, d := range f.deliver(w, 3) {
			held = append(held, d.EventID)
		}
		f.pass(time.Microsecond)
	}
	f.change(w, activate)

	// In batches, between some of which no time passes.
	p := f.recovery(w)
	p.Limit = 2
	for batch := 0; ; batch++ {
		f.Less(batch, 20, "21 deliveries are 11 batches of 2: the last one must not say More")
		p.Now = f.now
		got, err := f.store.Recover(f.ctx(), p)
		f.NoError(err)
		if batch%3 == 2 {
			f.pass(time.Millisecond)
		}
		if !got.More {
			break
		}
		p.After, p.Until = got.Next, got.Until
	}

	var claimed []uuid.UUID
	for range 7 { // 21
		got := f.claim(webhook.ClaimParams{Limit: 3})
		for _, c := range got.Claims {
			claimed = append(claimed, c.EventID)
		}
	}
	f.Equal(slices.Concat(held, failed), claimed)
}

// placeOf is where a delivery stands in its list.
func placeOf(d webhook.Delivery) webhook.Position {
	return webhook.Position{At: d.CreatedAt, ID: d.ID}
}

func recoverSinceAndUntil(f *fixture) {
	w := f.webhook()
	// Created early, failed late, and the other way round.
	early := f.deliverOne(w)
	old := f.claimOf(early)
	f.pass(time.Minute)
	f.exhaust(f.claimOf(f.deliverOne(w)))
	f.pass(time.Minute)
	f.exhaust(old)
	since := f.now
	f.pass(time.Minute)
	f.change(w, deactivate)
	f.deliverOne(w)
	f.pass(time.Minute)
	held := f.deliverOne(w)
	f.change(w, activate)

	p := f.recovery(w)
	p.Since, p.Until = since.Add(time.Microsecond), placeOf(early)
	f.Equal(webhook.RecoverResult{}, f.recoverAll(p))
	p.Since, p.Until = since, webhook.Position{At: early.CreatedAt.Add(-time.Microsecond)}
	f.Equal(webhook.RecoverResult{}, f.recoverAll(p))
	p.Since, p.Until = since, placeOf(early)
	f.Equal(webhook.RecoverResult{Redelivered: 1}, f.recoverAll(p))
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{EventID: early.EventID}), 2)

	p.Since, p.Until = held.CreatedAt.Add(time.Microsecond), webhook.Position{}
	f.Equal(webhook.RecoverResult{}, f.recoverAll(p))
	p.Since = held.CreatedAt
	f.Equal(webhook.RecoverResult{Released: 1}, f.recoverAll(p))
	f.Equal(webhook.DeliveryPending, f.state(held))
	f.pass(time.Second)
	p = f.recovery(w)
	f.Equal(webhook.RecoverResult{Redelivered: 1, Released: 1}, f.recoverAll(p))
}

func recoverOnlyTheNewestOfAnEvent(f *fixture) {
	w, other := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	e := f.event()
	f.publish(e)
	f.exhaust(f.claimAll()...)
	ofEvent := func() int {
		f.t.Helper()
		return len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID, EventID: e.ID}))
	}
	recovered := func() int {
		f.t.Helper()
		f.pass(time.Second)
		return f.recoverAll(f.recovery(w)).Redelivered
	}

	// Its redelivery is under way, then fails, then is recovered and succeeds.
	f.Equal(1, recovered())
	f.Zero(recovered())
	second := f.claimOne()
	f.Zero(recovered())
	f.exhaust(second)
	f.Equal(2, ofEvent())
	f.Equal(1, recovered())
	f.Equal(3, ofEvent())
	f.succeed(f.claimOne())
	f.Zero(recovered())
	f.Equal(3, ofEvent())

	// The other webhook's deliveries of the event are another matter.
	f.Equal(1, f.recoverAll(f.recovery(other)).Redelivered)
}

func untilHidesItsOwnWork(f *fixture) {
	w := f.webhook()
	f.deliver(w, 4)
	f.exhaust(f.claimAll()...)
	f.pass(time.Second)
	p := f.recovery(w)
	p.Limit = 2
	redelivered := 0
	for batch := 0; ; batch++ {
		f.Less(batch, 10, "4 deliveries are 2 batches of 2: the last one must not say More, nor Until let in what the recovery itself added")
		got, err := f.store.Recover(f.ctx(), p)
		f.NoError(err)
		redelivered += got.Redelivered

		// The new ones fail before the next batch looks, in the same moment.
		f.exhaust(f.claimAll()...)
		if !got.More {
			break
		}
		p.After, p.Until = got.Next, got.Until
	}
	f.Equal(4, redelivered)
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 8)
}

func recoverCountsPurgedOnes(f *fixture) {
	w := f.webhook()
	f.deliver(w, 3)
	f.exhaust(f.claimAll()...)
	f.pass(time.Hour)
	f.purge(webhook.PurgeParams{PayloadsBefore: f.now})
	f.deliverOne(w)
	f.exhaust(f.claimOne())
	f.pass(time.Second)
	f.Equal(webhook.RecoverResult{Redelivered: 1, Purged: 3}, f.recoverAll(f.recovery(w)))
	f.Len(f.claimAll(), 1)
}

func recoverLeavesTestEventsOut(f *fixture) {
	w := f.webhook()
	f.exhaust(f.claimOf(f.deliverOne(w, asTest)))
	f.change(w, deactivate)
	held := f.deliverOne(w, asTest)
	f.change(w, activate)
	f.pass(time.Second)
	f.Equal(webhook.RecoverResult{}, f.recoverAll(f.recovery(w)))
	f.Equal(webhook.DeliveryHeld, f.state(held))
	f.nothingWaits()
}

func concurrentRecoveries(f *fixture) {
	const failed, held, people = 20, 5, 4
	w := f.webhook()
	f.deliver(w, failed)
	f.exhaust(f.claimAll()...)
	f.change(w, deactivate)
	f.deliver(w, held)
	f.change(w, activate)
	f.pass(time.Second)
	p := f.recovery(w)
	p.Limit = 3
	type answer struct {
		sum webhook.RecoverResult
		err error
	}
	var sum webhook.RecoverResult
	for _, a := range together(people, func(i int) answer {
		p := p
		p.Now = p.Now.Add(time.Duration(i+1) * time.Microsecond)
		got, err := recoverAll(f, p)
		return answer{got, err}
	}) {
		f.NoError(a.err)
		sum.Redelivered += a.sum.Redelivered
		sum.Released += a.sum.Released
	}
	f.Equal(webhook.RecoverResult{Redelivered: failed, Released: held}, sum)
	f.pass(time.Second)
	claims := f.claimAll()
	events := map[uuid.UUID]bool{}
	for _, c := range claims {
		events[c.EventID] = true
	}
	f.Len(claims, failed+held)
	f.Len(events, failed+held)
}
