package storetest

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Pausing, and what there is to do: S25.

func s25() []test {
	return []test{
		{"NothingIsLeasedWhilePaused", nothingIsLeasedWhilePaused},
		{"EverythingElseGoesOn", everythingElseGoesOn},
		{"PausingTwiceIsPausingOnce", pausingTwiceIsPausingOnce},
		{"NoClaimAfterPausing", noClaimAfterPausing},
		{"AnOverviewCountsWhatIsOpen", anOverviewCountsWhatIsOpen},
		{"TheBacklogIsThoseWithTheMost", theBacklogIsThoseWithTheMost},
		{"NumbersAreCountedUpToABound", numbersAreCountedUpToABound},
		{"LastPurge", lastPurge},
	}
}

func (f *fixture) setPaused(paused bool, by string) {
	f.t.Helper()
	f.NoError(f.store.SetPaused(f.ctx(), webhook.SetPausedParams{Paused: paused, By: by, Now: f.now}))
}

func (f *fixture) overview() webhook.Overview {
	f.t.Helper()
	got, err := f.store.Overview(f.ctx(), webhook.OverviewParams{Now: f.now, Top: 10})
	f.NoError(err)
	return got
}

func nothingIsLeasedWhilePaused(f *fixture) {
	w := f.webhook()
	f.deliver(w, 3)
	flying := f.claim(webhook.ClaimParams{Limit: 1}).Claims[0]
	f.setPaused(true, "ann")

	want := webhook.ClaimResult{Paused: true, NextDue: flying.LeasedUntil}
	f.Equal(want, f.claim(webhook.ClaimParams{}))
	f.Equal(flying.LeasedUntil, f.nextDue())
	got := f.insert(webhook.InsertParams{Events: f.events(2, wantedBy(w)), Lease: &webhook.InsertLease{
		For: lease, Take: func(uuid.UUID, uuid.UUID, string) bool { return true },
	}})
	f.Empty(got.Claims, "InsertEvents, while paused")
	f.Equal([]int{1, 1}, []int{got.Events[0].Deliveries, got.Events[1].Deliveries}, "InsertEvents stores all the same")
	f.Equal(1, f.leased(w))

	f.pass(time.Second)
	f.succeed(flying)
	f.Equal(webhook.ClaimResult{Paused: true}, f.claim(webhook.ClaimParams{}), "a claim, while nothing is in flight")

	f.setPaused(false, "bob")
	after := f.claim(webhook.ClaimParams{})
	f.False(after.Paused)
	f.Len(after.Claims, 4, "what was there before, and what was published meanwhile")
	f.succeed(after.Claims...)
	f.nothingWaits()
}

func everythingElseGoesOn(f *fixture) {
	w := f.webhook()
	f.deliver(w, 5)
	claims := f.claimAll()
	f.setPaused(true, "ann")

	f.fail(claims[0])
	retry := f.delivery(claims[0].DeliveryID)
	f.Equal(webhook.DeliveryPending, retry.State)
	f.exhaust(claims[1])
	f.Equal([]error{nil}, f.release(f.now, claims[2]))
	f.NoError(f.cancel(f.delivery(claims[2].DeliveryID)))
	f.now = claims[3].LeasedUntil
	f.Equal(2, f.settle(f.schedule(wait)), "what ran out while paused")
	f.Equal(webhook.ErrLeaseLost, f.report(f.outcome(claims[4], webhook.DeliverySucceeded))[0])

	notice := f.nextNotice()
	f.NoError(f.store.FinishNotice(f.ctx(), webhook.FinishNoticeParams{Now: f.now, WebhookID: w.ID, Token: notice.Token, Sent: true}))
	dormant := f.webhook(inactive)
	held := f.deliverOne(dormant)
	f.change(dormant, resume)
	f.sweep()
	f.Equal(webhook.DeliveryPending, f.delivery(held.ID).State)
	f.pass(time.Hour)
	f.Equal(1, f.purge(webhook.PurgeParams{AttemptsBefore: f.now}).Attempts, "of the one delivery that is finished")

	// Retries whose time has come are due, though nobody has claimed meanwhile.
	got := f.overview()
	f.Equal(4, got.Ready)
	f.Zero(got.Waiting)
	f.Equal(retry.DueAt, got.OldestDue)
	f.setPaused(false, "ann")
	f.Len(f.claimAll(), 4)
}

func pausingTwiceIsPausingOnce(f *fixture) {
	f.setPaused(false, "ann") // changes nothing
	f.False(f.overview().Paused)
	f.setPaused(true, "ann")
	since := f.now
	f.pass(time.Minute)
	f.setPaused(true, "bob")
	got := f.overview()
	f.Equal(webhook.Overview{Paused: true, PausedSince: since, PausedBy: "ann"}, got)
	f.setPaused(false, "bob")
	f.Equal(webhook.Overview{}, f.overview())
	f.pass(time.Minute)
	f.setPaused(true, `"bob"; 'n`+"\n")
	f.Equal(webhook.Overview{Paused: true, PausedSince: f.now, PausedBy: `"bob"; 'n` + "\n"}, f.overview())
}

func noClaimAfterPausing(f *fixture) {
	const claimers = 4
	w := f.webhook()
	f.deliver(w, 100)
	var paused atomic.Bool
	ctx := f.ctx()
	for _, said := range together(claimers+1, func(i int) string {
		if i == claimers {
			if err := f.store.SetPaused(ctx, webhook.SetPausedParams{Paused: true, By: "ann", Now: f.now}); err != nil {
				return err.Error()
			}
			paused.Store(true)
			return ""
		}
		for over := false; !over; {
			over = paused.Load() // before the claim begins
			got, err := f.store.Claim(ctx, webhook.ClaimParams{Now: f.now, LeaseFor: lease, Limit: 1})
			switch {
			case err != nil:
				return err.Error()
			case over && (len(got.Claims) > 0 || !got.Paused):
				return "Claim has leased something after SetPaused had returned"
			case got.Paused && len(got.Claims) > 0:
				return "Claim has leased something and says that it is paused"
			}
		}
		return ""
	}) {
		f.Empty(said)
	}
}

func anOverviewCountsWhatIsOpen(f *fixture) {
	f.Equal(webhook.Overview{}, f.overview(), "Overview, of nothing")
	w := f.webhook(func(w *webhook.Webhook) {
		w.Name, w.EndpointURL = `<b>"Archive"</b> 😀`, "https://archive.example:8443/in?token=hidden"
	})
	other, dormant := f.webhook(in(umbrella)), f.webhook(inactive)
	f.deliver(w, 4)
	claims := f.claimAll()
	f.succeed(claims[0])
	f.fail(claims[1])
	f.exhaust(claims[2])
	f.deliver(dormant, 3)
	f.pass(time.Second)
	oldest := f.now
	f.deliver(w, 2)
	f.pass(time.Second)
	f.deliver(other, 1)

	want := webhook.Overview{
		Ready: 3, Waiting: 1, Leased: 1, Held: 3, OldestDue: oldest,
		Backlog: []webhook.WebhookBacklog{
			{WebhookID: w.ID, OrganizationID: acme, Name: w.Name, EndpointHost: "archive.example", Due: 2, OldestDue: oldest},
			{WebhookID: other.ID, OrganizationID: umbrella, Name: other.Name, EndpointHost: other.EndpointHost(), Due: 1, OldestDue: f.now},
		},
		NoticesWaiting: 1, NextNotice: f.noticeDue(),
	}
	got := f.overview()
	f.Equal(want, got)
	text, err := json.Marshal(got)
	f.NoError(err)
	f.NotContains(string(text), "hidden")
	f.NotContains(string(text), f.secrets[w.ID].Reveal())

	got.Backlog[0].Name = "changed"
	f.Equal(want, f.overview())

	// At its time a retry is due.
	f.pass(wait)
	want.Ready, want.Waiting, want.Backlog[0].Due = 4, 0, 3
	f.Equal(want, f.overview())

	f.change(w, deactivate)
	f.delete(other)
	f.sweep()
	f.Equal(webhook.Overview{Leased: 1, Held: 6, NoticesWaiting: 1, NextNotice: want.NextNotice}, f.overview())
}

func theBacklogIsThoseWithTheMost(f *fixture) {
	var all []webhook.Webhook
	for n := range 7 {
		w := f.webhook()
		all = append(all, w)
		f.deliver(w, n+1)
	}
	f.pass(time.Second)
	younger := f.webhook()
	f.deliver(younger, 7)
	f.change(all[5], deactivate) // and its rows have not followed yet

	got, err := f.store.Overview(f.ctx(), webhook.OverviewParams{Now: f.now, Top: 3})
	f.NoError(err)
	f.Len(got.Backlog, 3)
	for i, want := range []struct {
		w   webhook.Webhook
		due int
	}{{all[6], 7}, {younger, 7}, {all[4], 5}} {
		f.Equal(want.w.ID, got.Backlog[i].WebhookID, "number %d", i+1)
		f.Equal(want.due, got.Backlog[i].Due, "number %d", i+1)
	}
	f.Equal(noon, got.OldestDue)

	got, err = f.store.Overview(f.ctx(), webhook.OverviewParams{Now: f.now})
	f.NoError(err)
	f.Empty(got.Backlog, "Overview with a Top of 0")
	f.Equal(noon, got.OldestDue)
}

func numbersAreCountedUpToABound(f *fixture) {
	few, many := f.webhook(), f.webhook()
	f.deliver(few, 1)
	f.deliver(many, 8)
	f.deliver(f.webhook(inactive), 8)
	look := func(countTo int) webhook.Overview {
		got, err := f.store.Overview(f.ctx(), webhook.OverviewParams{Now: f.now, Top: 5, CountTo: countTo})
		f.NoError(err)
		return got
	}
	all := look(0)
	f.Equal([]int{9, 8, 2}, []int{all.Ready, all.Held, len(all.Backlog)})
	f.Equal(all, look(100))
	f.Equal(all, look(9))

	got := look(4)
	f.Equal([]int{4, 4}, []int{got.Ready, got.Held})
	f.Equal(many.ID, got.Backlog[0].WebhookID)
	f.Equal([]int{4, 1}, []int{got.Backlog[0].Due, got.Backlog[1].Due})
	f.Equal([]bool{true, false}, []bool{got.Backlog[0].More, got.Backlog[1].More})
	f.Equal(noon, got.OldestDue)
}

func lastPurge(f *fixture) {
	f.oneADay(f.webhook(), 4)
	f.deliverOne(f.webhook(inactive))
	f.pass(24 * time.Hour)
	purge := func(before time.Time, limit int) webhook.PurgeResult {
		got, err := f.store.Purge(f.ctx(), webhook.PurgeParams{Now: f.now, DeliveriesBefore: before, HeldBefore: before, Limit: limit})
		f.NoError(err)
		return got
	}
	f.True(purge(f.now, 1).More)
	f.Zero(f.overview().LastPurge, "LastPurge, while there is more to delete")
	f.pass(time.Minute)
	rounds := 0
	for purge(f.now.Add(-time.Hour), 1).More {
		rounds++
		f.Less(rounds, 100)
	}
	got := f.overview()
	f.Equal(f.now, got.LastPurge)
	f.Equal(4, got.LastPurged.Deliveries, "of all batches")
	f.Equal(1, got.LastPurged.HeldCancelled)
	f.False(got.LastPurged.More)
	f.pass(time.Minute)
	f.Equal(webhook.PurgeResult{}, purge(noon, 100))
	got = f.overview()
	f.Equal(f.now, got.LastPurge)
	f.Equal(webhook.PurgeResult{}, got.LastPurged)
}
