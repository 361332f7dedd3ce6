package storetest

import (
	"time"

	"github.com/posthorn/webhook"
)

// Retention: S17.

func s17() []test {
	return []test{
		{"ZeroTimesKeepEverything", zeroTimesKeepEverything},
		{"Payloads", purgePayloads},
		{"Attempts", purgeAttempts},
		{"DeliveriesAndTheirEvents", purgeDeliveriesAndTheirEvents},
		{"EventsWithoutDeliveries", purgeEventsWithoutDeliveries},
		{"PendingOnesStay", pendingOnesStay},
		{"OldHeldOnesAreCancelled", oldHeldOnesAreCancelled},
		{"Batches", purgeBatches},
	}
}

// oneADay gives the webhook a delivery on each of n days, each finished at once.
func (f *fixture) oneADay(w webhook.Webhook, n int) []webhook.Delivery {
	f.t.Helper()
	ds := make([]webhook.Delivery, n)
	for i := range ds {
		d := f.deliverOne(w)
		f.finish([]webhook.DeliveryState{webhook.DeliverySucceeded, webhook.DeliveryFailed}[i%2], f.claimOf(d))
		ds[i] = f.delivery(d.ID)
		f.pass(24 * time.Hour)
	}
	return ds
}

func zeroTimesKeepEverything(f *fixture) {
	w, dormant := f.webhook(), f.webhook(inactive)
	f.oneADay(w, 3)
	f.publish(f.event(keyed("unmatched")))
	f.deliverOne(dormant)
	f.pass(1000 * 24 * time.Hour)
	before := f.contents(ours)
	f.Equal(webhook.PurgeResult{}, f.purge(webhook.PurgeParams{}))
	f.Equal(before, f.contents(ours))
	f.True(f.publish(f.event(keyed("unmatched")))[0].Duplicate)
}

func purgePayloads(f *fixture) {
	ds := f.oneADay(f.webhook(), 4)
	before := f.contents(ours)

	// What has just that age is not older.
	got := f.purge(webhook.PurgeParams{PayloadsBefore: ds[2].FinishedAt})
	f.Equal(webhook.PurgeResult{Payloads: 2}, got)
	for i, d := range ds {
		if i < 2 {
			d.Payload = nil
			_, err := f.redeliver(d)
			f.ErrorIs(err, webhook.ErrConflict)
		}
		f.Equal(d, f.delivery(d.ID))
	}
	after := f.contents(ours)
	f.Equal(before.Attempts, after.Attempts)
	f.Equal(before.Counters, after.Counters)

	f.Equal(webhook.PurgeResult{}, f.purge(webhook.PurgeParams{PayloadsBefore: ds[2].FinishedAt}))
	f.Equal(webhook.PurgeResult{Payloads: 1}, f.purge(webhook.PurgeParams{
		PayloadsBefore: ds[2].FinishedAt.Add(time.Microsecond),
	}))
	again, err := f.redeliver(ds[3])
	f.NoError(err)
	c := f.claimOf(again)
	f.Equal(ds[3].Payload, c.Payload)
	f.succeed(c)
	f.purge(webhook.PurgeParams{PayloadsBefore: f.now.Add(time.Microsecond)})

	// An event's payload stays while any of its deliveries needs it.
	early, late := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	dormant := f.webhook(inactive, subscribed(messages))
	e := f.event()
	f.publish(e)
	for _, c := range f.claimAll() {
		if c.WebhookID == early.ID {
			f.succeed(c)
		} else {
			f.fail(c)
		}
	}
	f.pass(time.Hour)
	stays := func(before time.Time) {
		f.t.Helper()
		f.Zero(f.purge(webhook.PurgeParams{PayloadsBefore: before}))
		for _, w := range []webhook.Webhook{early, late, dormant} {
			f.Equal(e.Payload, f.deliveryOf(w, e.ID).Payload)
		}
	}
	stays(f.now) // one is unfinished, one is held
	f.NoError(f.cancel(f.deliveryOf(dormant, e.ID)))
	stays(f.now) // one is unfinished
	f.pass(time.Hour)
	f.succeed(f.claimOf(f.deliveryOf(late, e.ID)))
	finished := f.now
	f.pass(time.Hour)
	stays(finished) // one is too young

	f.Positive(f.purge(webhook.PurgeParams{PayloadsBefore: f.now}).Payloads)
	for _, w := range []webhook.Webhook{early, late, dormant} {
		f.Nil(f.deliveryOf(w, e.ID).Payload)
	}
}

func purgeAttempts(f *fixture) {
	// Three attempts of a delivery that is finished, one of one that is not.
	d := f.deliverOne(f.webhook())
	for range 2 {
		f.fail(f.claimOf(d))
		f.pass(wait)
	}
	f.succeed(f.claimOf(d))
	unfinished := f.deliverOne(f.webhook())
	f.fail(f.claimOf(unfinished))
	log := f.log(d)
	f.Len(log, 3)
	f.pass(time.Hour)

	got := f.purge(webhook.PurgeParams{AttemptsBefore: log[1].StartedAt})
	f.Equal(webhook.PurgeResult{Attempts: 1}, got)
	f.Equal(log[1:], f.log(d))
	f.Len(f.log(unfinished), 1)
	got = f.purge(webhook.PurgeParams{AttemptsBefore: f.now})
	f.Equal(webhook.PurgeResult{Attempts: 2}, got)
	f.Empty(f.log(d))
	f.Len(f.log(unfinished), 1)

	after := f.delivery(d.ID)
	f.Equal(3, after.Attempts)
	f.NotEmpty(after.Payload)
}

func purgeDeliveriesAndTheirEvents(f *fixture) {
	w := f.webhook()
	var ds []webhook.Delivery
	for _, key := range []string{"first", "second", "third"} {
		d := f.deliverOne(w, keyed(key))
		f.succeed(f.claimOf(d))
		ds = append(ds, f.delivery(d.ID))
		f.pass(24 * time.Hour)
	}
	got := f.purge(webhook.PurgeParams{DeliveriesBefore: ds[1].FinishedAt})
	f.Equal(1, got.Deliveries)
	f.Equal(1, got.Events)
	_, err := f.store.Delivery(f.ctx(), ours, ds[0].ID)
	f.ErrorIs(err, webhook.ErrNotFound)
	for _, d := range ds[1:] {
		f.Equal(d, f.delivery(d.ID))
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID}), 2)
	f.Len(f.attempts(ours, webhook.AttemptQuery{WebhookID: w.ID}), 2)

	// The first key and its event's id are free again, the second are not.
	first, second := f.event(wantedBy(w), keyed("first")), f.event(wantedBy(w), keyed("second"))
	first.ID = ds[0].EventID
	f.Equal(webhook.InsertedEvent{EventID: ds[0].EventID, Deliveries: 1}, f.publish(first)[0])
	f.True(f.publish(second)[0].Duplicate)
	second.ID, second.IdempotencyKey = ds[1].EventID, ""
	f.ErrorIs(f.insert(webhook.InsertParams{Events: []webhook.EventRecord{second}}).Events[0].Err, webhook.ErrConflict)
	f.succeed(f.claimAll()...)
	f.purge(webhook.PurgeParams{DeliveriesBefore: f.now.Add(time.Microsecond)})

	// An event stays while any delivery refers to it.
	early, late := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	e := f.event(keyed("key"))
	f.publish(e)
	for _, c := range f.claimAll() {
		if c.WebhookID == early.ID {
			f.succeed(c)
		} else {
			f.fail(c)
		}
	}
	f.pass(wait)
	got = f.purge(webhook.PurgeParams{DeliveriesBefore: f.now})
	f.Equal(1, got.Deliveries)
	f.Zero(got.Events)
	f.True(f.publish(f.event(keyed("key")))[0].Duplicate)
	c := f.claimOf(f.deliveryOf(late, e.ID))
	f.Equal(e.Payload, c.Payload)
	f.succeed(c)

	f.pass(time.Hour)
	got = f.purge(webhook.PurgeParams{DeliveriesBefore: f.now})
	f.Equal(1, got.Deliveries)
	f.Equal(1, got.Events)
	f.False(f.publish(f.event(keyed("key")))[0].Duplicate)
}

func purgeEventsWithoutDeliveries(f *fixture) {
	f.publish(f.event(keyed("old")))
	f.pass(24 * time.Hour)
	young := f.now
	f.publish(f.event(keyed("young")))
	f.pass(24 * time.Hour)
	f.Zero(f.purge(webhook.PurgeParams{PayloadsBefore: f.now, AttemptsBefore: f.now, HeldBefore: f.now}).Events)
	f.Equal(1, f.purge(webhook.PurgeParams{DeliveriesBefore: young}).Events)
	f.True(f.publish(f.event(keyed("young")))[0].Duplicate)
	f.False(f.publish(f.event(keyed("old")))[0].Duplicate)
}

func pendingOnesStay(f *fixture) {
	w := f.webhook()
	f.fail(f.claimOf(f.deliverOne(w)))
	f.claimOf(f.deliverOne(w))
	f.deliverOne(w)
	f.pass(1000 * 24 * time.Hour)
	before := f.contents(ours)
	f.Equal(webhook.PurgeResult{}, f.purge(webhook.PurgeParams{
		PayloadsBefore: f.now, AttemptsBefore: f.now, DeliveriesBefore: f.now, HeldBefore: f.now,
	}))
	f.Equal(before, f.contents(ours))
	f.Equal(1, f.settle(webhook.DefaultSchedule()))
	for _, c := range f.claimAll() {
		f.NotEmpty(c.Payload)
		f.succeed(c)
	}
	f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 3})
}

func oldHeldOnesAreCancelled(f *fixture) {
	w, stopped := f.webhook(inactive), f.webhook()
	ds := append(f.deliver(w, 2), f.deliverOne(stopped))
	f.change(stopped, deactivate)
	f.sweep()
	f.pass(24 * time.Hour)
	young := f.deliverOne(w)
	f.pass(24 * time.Hour)

	f.Equal(webhook.PurgeResult{}, f.purge(webhook.PurgeParams{HeldBefore: ds[0].CreatedAt}))
	got := f.purge(webhook.PurgeParams{HeldBefore: young.CreatedAt})
	f.Equal(webhook.PurgeResult{HeldCancelled: 3}, got)
	for _, d := range ds {
		got := f.delivery(d.ID)
		f.Equal(webhook.DeliveryCancelled, got.State)
		f.Equal(f.now, got.FinishedAt)
		f.Zero(got.DueAt)
	}
	f.Equal(webhook.DeliveryHeld, f.state(young))

	f.change(w, resume)
	f.change(stopped, resume)
	f.sweep()
	f.claimOf(young)
}

func purgeBatches(f *fixture) {
	w, dormant := f.webhook(), f.webhook(inactive)
	f.deliver(w, 7, func(e *webhook.EventRecord) { e.IdempotencyKey = e.ID.String() })
	f.succeed(f.claimAll()...)
	f.deliver(dormant, 7)
	f.pass(time.Hour)
	p := webhook.PurgeParams{Limit: 2}
	p.PayloadsBefore = f.now
	f.Equal(webhook.PurgeResult{Payloads: 7}, f.purge(p))
	p.AttemptsBefore = f.now
	f.Equal(webhook.PurgeResult{Attempts: 7}, f.purge(p))
	p.HeldBefore = f.now
	f.Equal(7, f.purge(p).HeldCancelled)
	f.pass(time.Hour)
	p.DeliveriesBefore = f.now
	got := f.purge(p)
	f.Equal(14, got.Deliveries)
	f.Equal(14, got.Events)
	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{}))
	f.Equal(webhook.PurgeResult{}, f.purge(p))

	// One call of a batch says that there is more.
	f.change(dormant, activate)
	f.deliver(dormant, 3)
	f.succeed(f.claimAll()...)
	p.Now, p.DeliveriesBefore = f.now.Add(time.Hour), f.now.Add(time.Hour)
	first, err := f.store.Purge(f.ctx(), p)
	f.NoError(err)
	f.True(first.More)
}
