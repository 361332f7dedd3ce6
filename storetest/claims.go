package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Claims: S9 and S13.

func s9() []test {
	return []test{
		{"ClaimsCarryTheRateLimit", claimsCarryTheRateLimit},
		{"AClaimIsAllThatAnAttemptNeeds", aClaimIsAllThatAnAttemptNeeds},
		{"Limit", limit},
		{"PerWebhookAndCaps", perWebhookAndCaps},
		{"PerOrganizationAndCaps", perOrganizationAndCaps},
		{"UnlistedLimit", unlistedLimit},
		{"GoesRoundTheWebhooks", goesRoundTheWebhooks},
		{"AsManyWebhooksAsTheLimit", asManyWebhooksAsTheLimit},
		{"ABacklogKeepsNobodyWaiting", aBacklogKeepsNobodyWaiting},
		{"AnyBacklogLeavesEverySecondClaim", anyBacklogLeavesEverySecondClaim},
		{"CreationOrderWithinAWebhook", creationOrderWithinAWebhook},
		{"ConcurrentClaimsAreDisjoint", concurrentClaimsAreDisjoint},
		{"NextDueIsWhenSomethingHappens", nextDueIsWhenSomethingHappens},
		{"NextDueIsNowWhenABoundLeftWork", nextDueIsNowWhenABoundLeftWork},
		{"NextDueLeavesOutWhatMayNotBeClaimed", nextDueLeavesOutWhatMayNotBeClaimed},
	}
}

// perWebhookCount counts the claims of each webhook.
func perWebhookCount(claims []webhook.Claim) map[uuid.UUID]int {
	n := map[uuid.UUID]int{}
	for _, c := range claims {
		n[c.WebhookID]++
	}
	return n
}

func aClaimIsAllThatAnAttemptNeeds(f *fixture) {
	w := f.webhook()
	e, probe := f.event(wantedBy(w)), f.event(wantedBy(w), asTest)
	e.TraceContext = traceContext
	due := f.now
	f.publish(e)
	f.insert(webhook.InsertParams{Events: []webhook.EventRecord{probe}, Only: w.ID})
	f.pass(time.Hour)

	claims := f.claimAll()
	f.Len(claims, 2)
	for _, e := range []webhook.EventRecord{e, probe} {
		i := slices.IndexFunc(claims, func(c webhook.Claim) bool { return c.EventID == e.ID })
		f.GreaterOrEqual(i, 0)
		got, d := claims[i], f.deliveryOf(w, e.ID)
		f.NotZero(got.Token)
		f.Equal(webhook.Claim{
			DeliveryID: d.ID, EventID: e.ID, WebhookID: w.ID, OrganizationID: acme, EventType: e.Type, Test: e.Test,
			Attempt: 1, Token: got.Token, DueAt: due, LeasedUntil: f.now.Add(lease),
			EndpointURL: w.EndpointURL, Secret: f.secrets[w.ID], Payload: e.Payload, TraceContext: e.TraceContext,
		}, got)

		// The attempt is counted, and the delivery stays pending.
		f.Equal(webhook.DeliveryPending, d.State)
		f.Equal(1, d.Attempts)
		f.Equal(f.now.Add(lease), d.LeasedUntil)
		f.Zero(d.FinishedAt)
	}
	f.succeed(claims...)

	// Attempts count up, each under a token of its own.
	d := f.deliverOne(w)
	tokens := map[uuid.UUID]bool{}
	for n := 1; n <= 7; n++ {
		c := f.claimOf(d)
		f.Equal(n, c.Attempt)
		f.Equal(n, f.delivery(d.ID).Attempts)
		tokens[c.Token] = true
		f.fail(c)
		f.pass(wait)
	}
	f.Len(tokens, 7)
	f.Len(f.log(d), 7)
}

func limit(f *fixture) {
	w := f.webhook()
	f.deliver(w, 7)
	for _, want := range []int{3, 3, 1, 0} {
		f.Len(f.claim(webhook.ClaimParams{Limit: 3}).Claims, want)
	}

	// A limit of nothing only looks.
	d := f.deliverOne(w)
	next := f.nextDue()
	f.NotZero(next)
	f.False(next.After(f.now))
	f.Equal(d, f.delivery(d.ID))
	f.claimOf(d)
	f.Equal(f.now.Add(lease), f.nextDue())
}

func perWebhookAndCaps(f *fixture) {
	a, b := f.webhook(), f.webhook(in(umbrella))
	f.deliver(a, 5)
	f.deliver(b, 1)
	f.Empty(f.claim(webhook.ClaimParams{PerWebhook: -1}).Claims)

	// The bound is of one claim: what is leased already does not count.
	f.Equal(map[uuid.UUID]int{a.ID: 2, b.ID: 1}, perWebhookCount(f.claim(webhook.ClaimParams{PerWebhook: 2}).Claims))
	f.Equal(map[uuid.UUID]int{a.ID: 2}, perWebhookCount(f.claim(webhook.ClaimParams{PerWebhook: 2}).Claims))
	f.Equal(map[uuid.UUID]int{a.ID: 1}, perWebhookCount(f.claim(webhook.ClaimParams{}).Claims))

	// What Caps lists has that bound in its place, and no more than nothing.
	c, d := f.webhook(), f.webhook()
	for _, w := range []webhook.Webhook{a, b, c, d} {
		f.deliver(w, 4)
	}
	got := f.claim(webhook.ClaimParams{
		PerWebhook: 2, Caps: map[uuid.UUID]int{a.ID: 3, b.ID: 0, c.ID: -5, uuid.New(): 9},
	})
	f.Equal(map[uuid.UUID]int{a.ID: 3, d.ID: 2}, perWebhookCount(got.Claims))

	got = f.claim(webhook.ClaimParams{PerWebhook: -1, Caps: map[uuid.UUID]int{b.ID: 1}})
	f.Equal(map[uuid.UUID]int{b.ID: 1}, perWebhookCount(got.Claims))

	got = f.claim(webhook.ClaimParams{Caps: map[uuid.UUID]int{c.ID: 2}})
	f.Equal(map[uuid.UUID]int{a.ID: 1, b.ID: 3, c.ID: 2, d.ID: 2}, perWebhookCount(got.Claims))
}

// perOrganizationCount counts the claims of each organization.
func perOrganizationCount(claims []webhook.Claim) map[string]int {
	n := map[string]int{}
	for _, c := range claims {
		n[c.OrganizationID]++
	}
	return n
}

func perOrganizationAndCaps(f *fixture) {
	a, b, c := f.webhook(), f.webhook(), f.webhook(in(umbrella))
	for _, w := range []webhook.Webhook{a, b, c} {
		f.deliver(w, 4)
	}
	f.Empty(f.claim(webhook.ClaimParams{PerOrganization: -1}).Claims)

	got := f.claim(webhook.ClaimParams{PerOrganization: 3}).Claims
	f.Equal(map[string]int{acme: 3, umbrella: 3}, perOrganizationCount(got))

	// A webhook's own bound holds besides.
	got = f.claim(webhook.ClaimParams{PerOrganization: 3, PerWebhook: 1}).Claims
	f.Equal(map[uuid.UUID]int{a.ID: 1, b.ID: 1, c.ID: 1}, perWebhookCount(got))
	f.Equal(map[string]int{acme: 3}, perOrganizationCount(f.claim(webhook.ClaimParams{}).Claims))

	// What OrganizationCaps lists has that bound in its place.
	const third = "third"
	for _, organization := range []string{acme, umbrella, third} {
		f.deliver(f.webhook(in(organization)), 3)
		f.deliver(f.webhook(in(organization)), 3)
	}
	count := func(p webhook.ClaimParams) map[string]int { return perOrganizationCount(f.claim(p).Claims) }
	f.Equal(map[string]int{umbrella: 1, third: 2}, count(webhook.ClaimParams{
		PerOrganization: 2, OrganizationCaps: map[string]int{acme: 0, umbrella: 1, "nobody": 9},
	}))
	f.Equal(map[string]int{acme: 2}, count(webhook.ClaimParams{
		PerOrganization: -1, OrganizationCaps: map[string]int{acme: 2, umbrella: -1},
	}))
	f.Equal(map[string]int{acme: 4, umbrella: 3, third: 4}, count(webhook.ClaimParams{
		OrganizationCaps: map[string]int{umbrella: 3},
	}))
	f.Equal(map[string]int{umbrella: 2}, count(webhook.ClaimParams{}))
}

func unlistedLimit(f *fixture) {
	a, b, c := f.webhook(), f.webhook(), f.webhook(in(umbrella))
	for _, w := range []webhook.Webhook{a, b, c} {
		f.deliver(w, 5)
	}
	// What Caps lists, be it with nothing, is not unlisted.
	got := f.claim(webhook.ClaimParams{UnlistedLimit: -1, Caps: map[uuid.UUID]int{a.ID: 1, b.ID: 0}}).Claims
	f.Equal(map[uuid.UUID]int{a.ID: 1}, perWebhookCount(got))

	got = f.claim(webhook.ClaimParams{UnlistedLimit: 3, Caps: map[uuid.UUID]int{a.ID: 10}}).Claims
	counts := perWebhookCount(got)
	f.Equal(4, counts[a.ID])
	f.Equal(3, counts[b.ID]+counts[c.ID])

	got = f.claim(webhook.ClaimParams{UnlistedLimit: 3, PerWebhook: 1}).Claims
	f.Equal(map[uuid.UUID]int{b.ID: 1, c.ID: 1}, perWebhookCount(got))
	f.Len(f.claimAll(), 5)
}

// goesRoundTheWebhooks: while each has more, none gets two more than another.
func goesRoundTheWebhooks(f *fixture) {
	ws := []webhook.Webhook{f.webhook(), f.webhook(in(umbrella)), f.webhook()}
	for i, n := range []int{20, 2, 20} {
		f.deliver(ws[i], n)
	}
	got := f.claim(webhook.ClaimParams{Limit: 10}).Claims
	f.Len(got, 10)
	f.Equal(map[uuid.UUID]int{ws[0].ID: 4, ws[1].ID: 2, ws[2].ID: 4}, perWebhookCount(got))

	got = f.claim(webhook.ClaimParams{Limit: 7}).Claims
	counts := perWebhookCount(got)
	f.Len(got, 7)
	f.Contains([]int{3, 4}, counts[ws[0].ID])
	f.Contains([]int{3, 4}, counts[ws[2].ID])
	f.succeed(f.claimAll()...)

	// Nor does a dispatcher with one slot free at a time spend them all on the
	// same few, be it that each attempt ends before the next claim.
	const webhooks, rounds = 5, 4
	for range webhooks {
		f.deliver(f.webhook(), rounds)
	}
	for round := range rounds {
		var claimed []webhook.Claim
		for range webhooks {
			got := f.claim(webhook.ClaimParams{Limit: 1}).Claims
			f.Len(got, 1)
			if round > 0 {
				f.succeed(got...)
			}
			claimed = append(claimed, got...)
		}
		f.Len(perWebhookCount(claimed), webhooks, "round %d", round)
	}
}

// What a claim asks for grows with the webhooks, and databases bound how long a
// statement may be.
func asManyWebhooksAsTheLimit(f *fixture) {
	const webhooks = 600
	for range webhooks {
		f.webhook(subscribed(webhook.Subscription{Subject: room, EventType: webhook.EventMessageSent}))
	}
	f.Equal(webhooks, f.publish(f.event())[0].Deliveries)
	claims := f.claim(webhook.ClaimParams{Limit: webhooks, PerWebhook: 1}).Claims
	f.Len(claims, webhooks)
	f.Len(perWebhookCount(claims), webhooks)
}

func aBacklogKeepsNobodyWaiting(f *fixture) {
	const backlog = 1000
	big, small := f.webhook(subscribed(messages)), f.webhook(in(umbrella))
	f.publish(f.events(backlog)...)
	f.pass(time.Second)
	f.deliver(small, 3)
	got := f.claim(webhook.ClaimParams{Limit: 10}).Claims
	f.Equal(map[uuid.UUID]int{big.ID: 7, small.ID: 3}, perWebhookCount(got))
	f.Len(f.claimAll(), backlog-7)
}

// anyBacklogLeavesEverySecondClaim counts: however much waits for one webhook,
// another one's deliveries are half of what is claimed until none is left.
func anyBacklogLeavesEverySecondClaim(f *fixture) {
	const batch, small, slots = 1000, 100, 50
	backlog := 100 * batch
	if testing.Short() || raced {
		backlog = 5 * batch
	}
	busy, quiet := f.webhook(subscribed(messages)), f.webhook(in(umbrella))
	for range backlog / batch {
		inserted := 0
		for _, e := range f.insert(webhook.InsertParams{Events: f.events(batch)}).Events {
			inserted += e.Deliveries
		}
		f.Equal(batch, inserted)
	}
	f.pass(time.Second)
	f.publish(f.events(small, wantedBy(quiet))...)
	for range 2 * small / slots {
		got := f.claim(webhook.ClaimParams{Limit: slots}).Claims
		f.Equal(map[uuid.UUID]int{busy.ID: slots / 2, quiet.ID: slots / 2}, perWebhookCount(got))
	}
	f.Equal(map[uuid.UUID]int{busy.ID: slots}, perWebhookCount(f.claim(webhook.ClaimParams{Limit: slots}).Claims))
}

func creationOrderWithinAWebhook(f *fixture) {
	w := f.webhook()
	retried := f.deliverOne(w)
	f.fail(f.claimOf(retried))
	f.pass(time.Second)
	later := f.deliver(w, 5)
	f.pass(wait) // the first is due last, and comes first: it is the oldest

	want := []uuid.UUID{retried.ID}
	for _, d := range later {
		want = append(want, d.ID)
	}
	var got []uuid.UUID
	for range 3 {
		// The order within one claim is the store's own.
		ids := []uuid.UUID{}
		for _, c := range f.claim(webhook.ClaimParams{Limit: 2}).Claims {
			ids = append(ids, c.DeliveryID)
		}
		f.ElementsMatch(want[len(got):len(got)+2], ids)
		got = append(got, ids...)
	}
}

func concurrentClaimsAreDisjoint(f *fixture) {
	const webhooks, each, claimers = 4, 100, 8
	for i := range webhooks {
		subject := webhook.Subject{Type: webhook.SubjectRoom, ID: fmt.Sprint("room ", i)}
		f.webhook(subscribed(webhook.Subscription{Subject: subject, EventType: webhook.EventMessageSent}))
		f.publish(f.events(each, about(subject))...)
	}
	type answer struct {
		claims []webhook.Claim
		err    error
	}
	answers := together(claimers, func(int) answer {
		var all answer
		for len(all.claims) <= webhooks*each { // or it has claimed something twice
			got, err := f.store.Claim(f.ctx(), webhook.ClaimParams{Now: noon, LeaseFor: lease, Limit: 20})
			if err != nil || len(got.Claims) == 0 {
				all.err = err
				return all
			}
			all.claims = append(all.claims, got.Claims...)
		}
		all.err = fmt.Errorf("one caller has %d claims on %d deliveries, and Claim returns more: "+
			"a delivery must not be claimed again while its lease lives", len(all.claims), webhooks*each)
		return all
	})
	deliveries, tokens := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
	claimed := 0
	for _, a := range answers {
		f.NoError(a.err)
		for _, c := range a.claims {
			deliveries[c.DeliveryID], tokens[c.Token] = true, true
			f.Equal(1, c.Attempt)
			claimed++
		}
	}
	f.Equal(webhooks*each, claimed)
	f.Len(deliveries, claimed)
	f.Len(tokens, claimed)
	f.Empty(f.claimAll())
}

func nextDueIsWhenSomethingHappens(f *fixture) {
	next := func(p webhook.ClaimParams) time.Time {
		f.t.Helper()
		got := f.claim(p)
		f.Empty(got.Claims)
		return got.NextDue
	}
	f.Zero(next(webhook.ClaimParams{}))

	// A lease will run out, be it of a webhook that may have no more.
	w := f.webhook()
	d := f.deliverOne(w)
	claimed := f.claim(webhook.ClaimParams{})
	f.Len(claimed.Claims, 1)
	f.Equal(f.now.Add(lease), claimed.NextDue)
	f.Equal(f.now.Add(lease), next(webhook.ClaimParams{}))
	f.Equal(f.now.Add(lease), next(webhook.ClaimParams{Caps: map[uuid.UUID]int{w.ID: 0}}))

	// A retry will be due, sooner or later than another lease ends.
	f.fail(claimed.Claims...)
	retry := f.now.Add(wait)
	f.Equal(retry, next(webhook.ClaimParams{}))
	f.pass(time.Second)
	f.deliverOne(w)
	sooner := f.claim(webhook.ClaimParams{})
	f.Len(sooner.Claims, 1)
	f.Equal(f.now.Add(lease), sooner.NextDue)
	f.pass(lease - time.Second)
	f.Equal(sooner.Claims[0].LeasedUntil, next(webhook.ClaimParams{}))
	f.succeed(sooner.Claims...)
	f.Equal(retry, next(webhook.ClaimParams{}))

	f.now = retry
	f.succeed(f.claimOf(d))
	f.Zero(next(webhook.ClaimParams{}))
}

func nextDueIsNowWhenABoundLeftWork(f *fixture) {
	a, b := f.webhook(), f.webhook()
	for i, p := range []webhook.ClaimParams{
		{Limit: 1},
		{PerWebhook: 1},
		{Caps: map[uuid.UUID]int{a.ID: 1}},
		{PerOrganization: 1},
		{OrganizationCaps: map[string]int{acme: 3}},
		{Caps: map[uuid.UUID]int{a.ID: 10}, UnlistedLimit: 1},
	} {
		f.deliver(a, 2)
		f.deliver(b, 2)
		got := f.claim(p)
		f.NotEmpty(got.Claims, "case %d", i)
		f.Less(len(got.Claims), 4, "case %d", i)
		f.NotZero(got.NextDue, "case %d", i)
		f.False(got.NextDue.After(f.now), "case %d: next due at %s", i, got.NextDue)

		rest := f.claim(webhook.ClaimParams{})
		f.Equal(f.now.Add(lease), rest.NextDue)
		f.Len(rest.Claims, 4-len(got.Claims))
		f.succeed(append(got.Claims, rest.Claims...)...)
	}
}

func nextDueLeavesOutWhatMayNotBeClaimed(f *fixture) {
	w, dormant := f.webhook(), f.webhook()
	due, retried := f.deliver(w, 2), f.deliverOne(dormant)
	for _, c := range f.claimAll() {
		switch c.DeliveryID {
		case due[0].ID:
			f.fail(c)
		case retried.ID:
			f.fail(c)
		default:
			f.succeed(c)
		}
	}
	retry := f.now
	f.pass(time.Second)
	f.deliverOne(w)
	f.deliverOne(dormant)
	f.change(dormant, deactivate)

	// Held work does not wait. A bound of nothing leaves out the due delivery
	// and the retry to come alike.
	for i, p := range []webhook.ClaimParams{
		{PerWebhook: -1},
		{Caps: map[uuid.UUID]int{w.ID: 0}},
		{PerOrganization: -1},
		{OrganizationCaps: map[string]int{acme: 0}},
		{UnlistedLimit: -1},
		{UnlistedLimit: -1, Caps: map[uuid.UUID]int{w.ID: -1}},
	} {
		got := f.claim(p)
		f.Empty(got.Claims, "case %d", i)
		f.Zero(got.NextDue, "case %d", i)
	}
	got := f.claim(webhook.ClaimParams{})
	f.Len(got.Claims, 1)
	f.succeed(got.Claims...)
	next := f.nextDue()
	f.Equal(f.delivery(due[0].ID).DueAt, next)
	f.False(next.After(retry.Add(wait)))
}

func s13() []test {
	return []test{
		{"NothingIsClaimedBeforeItIsDue", nothingIsClaimedBeforeItIsDue},
		{"NothingIsClaimedWhileItsLeaseLives", nothingIsClaimedWhileItsLeaseLives},
	}
}

func nothingIsClaimedBeforeItIsDue(f *fixture) {
	d := f.deliverOne(f.webhook())
	f.Empty(f.claim(webhook.ClaimParams{Now: f.now.Add(-time.Microsecond)}).Claims)
	f.fail(f.claimOf(d))
	due := f.delivery(d.ID).DueAt

	f.now = due.Add(-time.Microsecond)
	got := f.claim(webhook.ClaimParams{})
	f.Empty(got.Claims)
	f.Equal(due, got.NextDue)
	f.now = due
	f.claimOf(d)
}

func nothingIsClaimedWhileItsLeaseLives(f *fixture) {
	w := f.webhook()
	d := f.deliverOne(w)
	c := f.claimOf(d)
	for _, at := range []time.Time{f.now, f.now.Add(time.Second), c.LeasedUntil.Add(-time.Microsecond)} {
		f.Empty(f.claim(webhook.ClaimParams{Now: at}).Claims)
	}

	// Its end is not enough: until it is settled the claimer may report.
	f.now = c.LeasedUntil.Add(time.Hour)
	got := f.claim(webhook.ClaimParams{})
	f.Empty(got.Claims)
	f.NotZero(got.NextDue)
	f.False(got.NextDue.After(f.now))
	f.Equal(1, f.settle(f.schedule(0)))
	again := f.claimOf(d)
	f.Equal(2, again.Attempt)
	f.NotEqual(c.Token, again.Token)
}

// claimsCarryTheRateLimit: as it is now, however they are made.
func claimsCarryTheRateLimit(f *fixture) {
	w := f.webhook(func(w *webhook.Webhook) { w.RateLimit = 25 })
	f.Equal(25, f.read(w).RateLimit)
	c := f.claimOf(f.deliverOne(w))
	f.Equal(25, c.RateLimit)
	f.fail(c)
	f.change(w, func(c *webhook.WebhookChange) { c.RateLimit = 1000 })
	f.pass(wait)
	f.Equal(1000, f.claimOne().RateLimit)
	got := f.insert(webhook.InsertParams{
		Events: f.events(1, wantedBy(w)),
		Lease:  &webhook.InsertLease{For: lease, Take: func(uuid.UUID, uuid.UUID, string) bool { return true }},
	})
	f.Len(got.Claims, 1)
	f.Equal(1000, got.Claims[0].RateLimit)
	f.change(w, func(c *webhook.WebhookChange) { c.RateLimit = 0 })
	f.Zero(f.claimOf(f.deliverOne(w)).RateLimit)
}
