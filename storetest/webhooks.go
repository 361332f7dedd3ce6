package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Webhooks and their ids: S5 and S6.

func s5() []test {
	return []test{
		{"AWebhookIDIsTakenOnce", aWebhookIDIsTakenOnce},
		{"AnEventIDIsTakenOnce", anEventIDIsTakenOnce},
		{"AnOrganizationHasABound", anOrganizationHasABound},
		{"ConcurrentCallsKeepBoth", concurrentCallsKeepBoth},
	}
}

func aWebhookIDIsTakenOnce(f *fixture) {
	w := f.webhook()
	for _, organization := range []string{acme, umbrella} {
		again := f.newWebhook(in(organization), named("Again"))
		again.ID = w.ID
		f.ErrorIs(f.create(again, 0), webhook.ErrConflict)
	}
	f.Equal([]webhook.Webhook{w}, f.webhooks(ours, webhook.WebhookQuery{}))
	f.Empty(f.webhooks(theirs, webhook.WebhookQuery{}))

	f.deliverOne(w)
	f.Equal(f.secrets[w.ID].Reveal(), f.claimOne().Secret.Reveal())

	f.delete(w)
	again := f.newWebhook(named("Again"))
	again.ID = w.ID
	f.ErrorIs(f.create(again, 1), webhook.ErrConflict)
	f.Empty(f.webhooks(ours, webhook.WebhookQuery{}))
}

func anEventIDIsTakenOnce(f *fixture) {
	w := f.webhook(subscribed(messages))
	f.webhook(in(umbrella), subscribed(messages))
	e := f.event()
	f.publish(e)

	// In a later call, by the same organization, by another one, and twice
	// within one call.
	again, foreign, twice := f.event(), f.event(), f.events(2)
	again.ID, foreign.ID, foreign.OrganizationID, twice[1].ID = e.ID, e.ID, umbrella, twice[0].ID
	got := f.insert(webhook.InsertParams{Events: []webhook.EventRecord{again, foreign, twice[0], twice[1]}}).Events
	f.ErrorIs(got[0].Err, webhook.ErrConflict)
	f.ErrorIs(got[1].Err, webhook.ErrConflict)
	f.NoError(got[2].Err)
	f.ErrorIs(got[3].Err, webhook.ErrConflict)

	f.Equal(e.Payload, f.deliveryOf(w, e.ID).Payload)
	f.Equal(twice[0].Payload, f.deliveryOf(w, twice[0].ID).Payload)
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 2)
	f.Empty(f.deliveries(theirs, webhook.DeliveryQuery{}))
}

func anOrganizationHasABound(f *fixture) {
	const bound = 2
	full := func() {
		f.t.Helper()
		err := f.create(f.newWebhook(), bound)
		var faults webhook.ValidationErrors
		f.ErrorAs(err, &faults)
		f.Len(faults, 1)
		f.Equal("webhooks", faults[0].Field)
	}

	first := f.newWebhook()
	f.NoError(f.create(first, bound))
	f.NoError(f.create(f.newWebhook(inactive), bound))
	full()

	// Others' webhooks do not count, nor do deleted ones, and 0 is no bound.
	f.NoError(f.create(f.newWebhook(in(umbrella)), bound))
	f.delete(first)
	f.NoError(f.create(f.newWebhook(), bound))
	full()
	f.NoError(f.create(f.newWebhook(), 0))
	full()
	f.Len(f.webhooks(ours, webhook.WebhookQuery{}), 3)
}

// concurrentCallsKeepBoth: the bound, and that an id is taken once.
func concurrentCallsKeepBoth(f *fixture) {
	const bound = 3
	ws := make([]webhook.Webhook, 8)
	for i := range ws {
		ws[i] = f.newWebhook(named(fmt.Sprint("Webhook ", i)))
	}
	secret := f.secret()
	created := 0
	for _, err := range together(len(ws), func(i int) error {
		return f.store.CreateWebhook(f.ctx(), webhook.CreateWebhookParams{
			Webhook: ws[i], Secret: secret, MaxPerOrganization: bound,
		})
	}) {
		if err == nil {
			created++
			continue
		}
		var faults webhook.ValidationErrors
		f.ErrorAs(err, &faults)
	}
	f.Equal(bound, created)
	f.Len(f.webhooks(ours, webhook.WebhookQuery{}), bound)

	w, e := f.newWebhook(subscribed(messages)), f.event()
	one := func(errs []error) {
		f.t.Helper()
		good := 0
		for _, err := range errs {
			if err == nil {
				good++
				continue
			}
			f.ErrorIs(err, webhook.ErrConflict)
		}
		f.Equal(1, good)
	}
	one(together(8, func(int) error {
		return f.store.CreateWebhook(f.ctx(), webhook.CreateWebhookParams{Webhook: w, Secret: secret})
	}))
	one(together(8, func(int) error {
		got, err := f.store.InsertEvents(f.ctx(), webhook.InsertParams{Events: []webhook.EventRecord{e}, Now: noon})
		if err != nil {
			return err
		}
		return got.Events[0].Err
	}))
	f.deliveryOf(w, e.ID)
}

func s6() []test {
	return []test{
		{"AnUpdateReplacesEverything", anUpdateReplacesEverything},
		{"AStaleVersionIsAConflict", aStaleVersionIsAConflict},
		{"LaterClaimsGoToTheNewURL", laterClaimsGoToTheNewURL},
		{"WhatIsNoLongerAskedForIsCancelled", whatIsNoLongerAskedForIsCancelled},
		{"FiltersAndParentsKeepDeliveries", filtersAndParentsKeepDeliveries},
		{"AnAttemptInFlightIsLoggedFirst", anAttemptInFlightIsLoggedFirst},
		{"SubscribingAgainRevivesNothing", subscribingAgainRevivesNothing},
		{"AnEditCancelsAnyNumber", anEditCancelsAnyNumber},
	}
}

func anUpdateReplacesEverything(f *fixture) {
	w, untouched := f.webhook(), f.webhook()
	f.pass(time.Hour)
	want := w.Clone()
	want.Name, want.Description, want.EndpointURL = "New name", "", "https://new.example:8443/in"
	want.Status, want.StatusSince, want.RateLimit = webhook.StatusInactive, f.now, 25
	want.Subscriptions = []webhook.Subscription{
		transcripts,
		{Subject: space, EventType: webhook.EventMessageSent, Filter: map[string]string{"kind": "chat"}},
	}
	want.Version, want.UpdatedAt, want.UpdatedBy = 2, f.now, "cleo"

	p := f.updateOf(want)
	p.Change.Version, p.By = 1, "cleo"
	got, err := f.store.UpdateWebhook(f.ctx(), p)
	f.NoError(err)
	f.Equal(want, got)
	f.Equal(want, f.read(w))
	f.Equal(untouched, f.read(untouched))

	// Nothing is different now, and yet it is another version.
	f.pass(time.Hour)
	p = f.updateOf(want)
	p.By, want.UpdatedAt = "cleo", f.now
	got, err = f.store.UpdateWebhook(f.ctx(), p)
	f.NoError(err)
	want.Version = 3
	f.Equal(want, got)
}

func aStaleVersionIsAConflict(f *fixture) {
	w := f.change(f.webhook(), func(c *webhook.WebhookChange) { c.Name = "Second" })
	f.EqualValues(2, w.Version)
	for _, version := range []int64{-1, 0, 1, 3} {
		p := f.updateOf(w)
		p.Change.Version, p.Change.Name = version, "Third"
		_, err := f.store.UpdateWebhook(f.ctx(), p)
		f.ErrorIs(err, webhook.ErrConflict, "version %d", version)
	}
	f.Equal(w, f.read(w))

	// Of several updates that were made from one version, the first wins.
	errs := together(8, func(i int) error {
		p := f.updateOf(w)
		p.Change.Name = fmt.Sprint("Name ", i)
		_, err := f.store.UpdateWebhook(f.ctx(), p)
		return err
	})
	winner := -1
	for i, err := range errs {
		if err == nil {
			f.Equal(-1, winner, "two updates of one version")
			winner = i
			continue
		}
		f.ErrorIs(err, webhook.ErrConflict)
	}
	f.NotEqual(-1, winner, "%v", errors.Join(errs...))
	got := f.read(w)
	f.Equal(fmt.Sprint("Name ", winner), got.Name)
	f.EqualValues(3, got.Version)
}

func laterClaimsGoToTheNewURL(f *fixture) {
	const moved = "https://new.example/"
	w := f.webhook()
	d := f.deliverOne(w)
	first := f.claimOf(d)
	f.Equal(w.EndpointURL, first.EndpointURL)
	f.change(w, func(c *webhook.WebhookChange) { c.EndpointURL = moved })
	f.fail(first)
	f.pass(wait)
	second, claimed := f.claimOf(d), f.now
	f.Equal(moved, second.EndpointURL)

	// The log keeps what each attempt was sent to, also where nobody said so.
	f.change(w, func(c *webhook.WebhookChange) { c.EndpointURL = w.EndpointURL })
	f.now = second.LeasedUntil
	f.Equal(1, f.settle(webhook.DefaultSchedule()))
	log := f.log(d)
	f.Len(log, 2)
	f.Equal(w.EndpointURL, log[0].EndpointURL)
	f.Equal(second.Interrupted(claimed), log[1])
}

func whatIsNoLongerAskedForIsCancelled(f *fixture) {
	w := f.webhook(subscribed(messages, transcripts))
	dormant := f.webhook(inactive, subscribed(messages, transcripts))
	other := f.webhook(subscribed(messages, transcripts))
	transcript := ofType(webhook.EventRoomRecordingTranscriptPublished)

	// One has been tried, one has not, one has succeeded. One is a test.
	tried, done := f.event(), f.event()
	f.publish(tried, done)
	for _, c := range f.claimAll() {
		if c.EventID == done.ID {
			f.succeed(c)
		} else {
			f.fail(c)
		}
	}
	untried, kept := f.event(), f.event(transcript)
	f.publish(untried, kept)
	probe := f.deliverOne(w, asTest)
	f.pass(time.Second)
	for _, w := range []webhook.Webhook{w, dormant} {
		f.change(w, subscribe(transcripts))
	}
	changed := f.now
	f.pass(time.Hour)

	f.beforeAndAfterSweep(func() {
		for _, e := range []webhook.EventRecord{tried, untried} {
			for _, w := range []webhook.Webhook{w, dormant} {
				d := f.deliveryOf(w, e.ID)
				f.Equal(webhook.DeliveryCancelled, d.State)
				f.Equal(changed, d.FinishedAt)
				f.Zero(d.DueAt)
			}
			f.Equal(webhook.DeliveryPending, f.deliveryOf(other, e.ID).State)
		}
		f.Equal(webhook.DeliverySucceeded, f.deliveryOf(w, done.ID).State)
		f.Equal(webhook.DeliveryCancelled, f.deliveryOf(dormant, done.ID).State)
		f.Equal(webhook.DeliveryPending, f.deliveryOf(w, kept.ID).State)
		f.Equal(webhook.DeliveryHeld, f.deliveryOf(dormant, kept.ID).State)
		f.Equal(webhook.DeliveryPending, f.state(probe))
	})

	claimed := map[uuid.UUID][]uuid.UUID{}
	for _, c := range f.claimAll() {
		claimed[c.WebhookID] = append(claimed[c.WebhookID], c.EventID)
	}
	f.Len(claimed, 2)
	f.ElementsMatch([]uuid.UUID{kept.ID, probe.EventID}, claimed[w.ID])
	f.ElementsMatch([]uuid.UUID{tried.ID, untried.ID, kept.ID}, claimed[other.ID])

	// What somebody asks for by hand, though it is not subscribed to, is not
	// cancelled by the next edit, which is about something else.
	again, err := f.redeliver(f.deliveryOf(w, done.ID))
	f.NoError(err)
	f.change(w, func(c *webhook.WebhookChange) { c.Name = "Renamed" })
	f.beforeAndAfterSweep(func() { f.Equal(webhook.DeliveryPending, f.state(again)) })
}

// filtersAndParentsKeepDeliveries: what an edit looks at is Webhook.Subscribes,
// not Webhook.Matches.
func filtersAndParentsKeepDeliveries(f *fixture) {
	onSpace := webhook.Subscription{Subject: space, EventType: webhook.EventMessageSent}
	w := f.webhook(subscribed(messages))
	e := f.event(about(room, hall, space))
	f.publish(e)

	filtered, viaSpace := messages, onSpace
	filtered.Filter, viaSpace.Filter = map[string]string{"kind": "none"}, map[string]string{"kind": "none"}
	for _, to := range []webhook.Subscription{filtered, onSpace, viaSpace} {
		f.change(w, subscribe(to))
		f.beforeAndAfterSweep(func() {
			f.Equal(webhook.DeliveryPending, f.deliveryOf(w, e.ID).State)
		})
	}
	f.Equal(e.ID, f.claimOne().EventID)
}

func anAttemptInFlightIsLoggedFirst(f *fixture) {
	for _, state := range []webhook.DeliveryState{
		webhook.DeliverySucceeded, webhook.DeliveryPending, webhook.DeliveryFailed,
	} {
		w := f.webhook()
		d := f.deliverOne(w)
		c := f.claimOf(d)
		f.change(w, subscribe(transcripts))
		f.beforeAndAfterSweep(func() { f.inFlight(c, webhook.DeliveryCancelled) })
		out := f.outcome(c, state)
		f.Equal([]error{nil}, f.report(out))
		f.beforeAndAfterSweep(func() { f.Equal(webhook.DeliveryCancelled, f.state(d), "after %s", state) })
		f.Equal([]webhook.Attempt{out.Attempt}, f.log(d))
		f.Zero(f.leased(w))
	}
	f.pass(24 * time.Hour)
	f.Empty(f.claimAll())
	f.Empty(f.claimNotices())
}

// anEditCancelsAnyNumber: also more than a store may want to cancel at once, with
// some that stay between them, of a webhook that the same edit activates.
func anEditCancelsAnyNumber(f *fixture) {
	const each = 1100
	w := f.webhook(inactive, subscribed(messages, transcripts))
	for range each / 100 {
		f.publish(append(f.events(100), f.events(100, ofType(transcripts.EventType))...)...)
		f.pass(time.Millisecond)
	}
	f.change(w, func(c *webhook.WebhookChange) {
		resume(c)
		c.Subscriptions = []webhook.Subscription{transcripts}
	})
	f.beforeAndAfterSweep(func() {
		listed := map[webhook.DeliveryState]int{}
		for _, d := range f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID, Limit: webhook.MaxPageSize}) {
			listed[d.State]++
		}
		f.Equal(map[webhook.DeliveryState]int{webhook.DeliveryCancelled: each, webhook.DeliveryPending: each}, listed)
	})
	claims := f.claimAll()
	f.Len(claims, each)
	for _, c := range claims {
		f.Equal(transcripts.EventType, c.EventType)
	}
}

func subscribingAgainRevivesNothing(f *fixture) {
	w := f.webhook()
	pending := f.deliverOne(w)
	f.change(w, subscribe(transcripts))
	f.change(w, subscribe(w.Subscriptions...))
	after := f.deliverOne(w)
	f.beforeAndAfterSweep(func() {
		f.Equal(webhook.DeliveryCancelled, f.state(pending))
		f.Equal(webhook.DeliveryPending, f.state(after))
	})
	f.succeed(f.claimOf(after))

	// One edit may resume the webhook and narrow what it resumes with.
	w = f.webhook(inactive, subscribed(messages, transcripts))
	message, transcript := f.event(), f.event(ofType(transcripts.EventType))
	f.publish(message, transcript)
	f.pass(time.Second)
	f.change(w, func(c *webhook.WebhookChange) {
		resume(c)
		c.Subscriptions = []webhook.Subscription{transcripts}
	})
	f.beforeAndAfterSweep(func() {
		f.Equal(webhook.DeliveryCancelled, f.deliveryOf(w, message.ID).State)
		f.Equal(webhook.DeliveryPending, f.deliveryOf(w, transcript.ID).State)
	})
	f.claimOf(f.deliveryOf(w, transcript.ID))
}
