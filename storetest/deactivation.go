package storetest

import (
	"bytes"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Deactivation by rules: S24.

func s24() []test {
	return []test{
		{"FailingIsByTheCounters", failingIsByTheCounters},
		{"FailingWebhooksInBatches", failingWebhooksInBatches},
		{"ItTakesEffectAtOnce", deactivationTakesEffectAtOnce},
		{"TheRuleIsAskedAgain", theRuleIsAskedAgain},
		{"GoneIsOfTheEndpointThatItHas", goneIsOfTheEndpointThatItHas},
		{"OthersAreLeftAlone", othersAreLeftAlone},
		{"ItsNoticeIsDueAtOnce", itsNoticeIsDueAtOnce},
		{"ItsNoticeTakesTheOpenOnesPlace", itsNoticeTakesTheOpenOnesPlace},
		{"ItsNoticeFollowsALeasedOne", itsNoticeFollowsALeasedOne},
		{"ItsNoticeReplacesALeasedOneThatFails", itsNoticeReplacesALeasedOneThatFails},
		{"DeactivatedOnce", deactivatedOnce},
	}
}

// goneOf says that the webhook's endpoint has answered 410 Gone to an attempt of the
// given moment.
func goneOf(w webhook.Webhook, at time.Time) webhook.DeactivateParams {
	return webhook.DeactivateParams{
		Scope: scopeOf(w), WebhookID: w.ID, Reason: webhook.DeactivatedGone, Now: at, EndpointURL: w.EndpointURL, StartedAt: at,
	}
}

const day = 24 * time.Hour

// rule is that of three days, at the present.
func (f *fixture) rule() webhook.FailingRule {
	return webhook.FailingRule{Before: f.now.Add(-3 * day), Recent: f.now.Add(-day)}
}

func (f *fixture) deactivate(p webhook.DeactivateParams) bool {
	f.t.Helper()
	got, err := f.store.Deactivate(f.ctx(), p)
	f.NoError(err)
	return got.Deactivated
}

func (f *fixture) deactivateFailing(w webhook.Webhook) bool {
	f.t.Helper()
	return f.deactivate(webhook.DeactivateParams{
		Scope: scopeOf(w), WebhookID: w.ID, Reason: webhook.DeactivatedFailing, Now: f.now, Rule: f.rule(),
	})
}

func (f *fixture) failing(p webhook.FailingParams) webhook.FailingResult {
	f.t.Helper()
	got, err := f.store.FailingWebhooks(f.ctx(), p)
	f.NoError(err)
	return got
}

// attemptAt makes an attempt of a webhook that has nothing else to do.
func (f *fixture) attemptAt(at time.Time, w webhook.Webhook, state webhook.DeliveryState) {
	f.t.Helper()
	f.now = at
	f.finish(state, f.claimOf(f.deliverOne(w)))
}

// failForDays lets a webhook fail until four days after now, so that the rule applies.
func (f *fixture) failForDays(w webhook.Webhook) {
	f.t.Helper()
	end := f.now.Add(4 * day)
	f.attemptAt(f.now.Add(time.Hour), w, webhook.DeliveryFailed)
	f.attemptAt(end.Add(-2*time.Hour), w, webhook.DeliveryFailed)
	f.attemptAt(end.Add(-time.Hour), w, webhook.DeliveryFailed)
	f.now = end
}

func failingIsByTheCounters(f *fixture) {
	const ok, bad = webhook.DeliverySucceeded, webhook.DeliveryFailed
	type at struct {
		hours int // before the present
		state webhook.DeliveryState
	}
	start := f.now
	for _, tc := range []struct {
		name        string
		activeSince int // hours before the present
		attempts    []at
		want        bool
	}{
		{"nothing was attempted", 200, nil, false},
		{"failures all the time", 200, []at{{100, bad}, {50, bad}, {2, bad}, {1, bad}}, true},
		{"failures at both ends", 200, []at{{100, bad}, {2, bad}, {1, bad}}, true},
		{"a success before", 200, []at{{150, ok}, {100, bad}, {2, bad}, {1, bad}}, true},
		{"a success between", 200, []at{{100, bad}, {30, ok}, {2, bad}, {1, bad}}, false},
		{"a success at the end", 200, []at{{100, bad}, {3, bad}, {2, bad}, {1, ok}}, false},
		{"not long enough", 200, []at{{71, bad}, {2, bad}, {1, bad}}, false},
		{"one failure after a silence", 200, []at{{100, bad}, {1, bad}}, false},
		{"nothing lately", 200, []at{{100, bad}, {99, bad}, {80, bad}}, false},
		{"active for too short a time", 60, []at{{100, bad}, {2, bad}, {1, bad}}, false},
		{"failing before and after it was active", 80, []at{{100, bad}, {75, bad}, {2, bad}, {1, bad}}, true},
	} {
		f.now = start
		w := f.webhook()
		present := start.Add(300 * time.Hour)
		activated := present.Add(-time.Duration(tc.activeSince) * time.Hour)
		active := false
		f.now = start.Add(time.Hour)
		for _, a := range tc.attempts {
			when := present.Add(-time.Duration(a.hours) * time.Hour)
			if !active && !when.Before(activated) {
				f.now, active = activated, true
				f.change(w, deactivate)
				f.change(w, activate)
			}
			f.attemptAt(when, w, a.state)
		}
		f.now = present
		got := f.failing(webhook.FailingParams{Rule: f.rule(), Limit: 1000})
		found := slices.Contains(got.Webhooks, webhook.FailingWebhook{ID: w.ID, OrganizationID: acme})
		f.Equal(tc.want, found, tc.name)
		f.Equal(tc.want, f.deactivateFailing(w), tc.name)
	}
}

func failingWebhooksInBatches(f *fixture) {
	var failing []uuid.UUID
	begin := f.now
	for i := range 7 {
		f.now = begin
		w := f.webhook(in([]string{acme, umbrella}[i%2]))
		switch i {
		case 2:
			f.succeed(f.claimOf(f.deliverOne(w)))
		case 3:
			f.failForDays(w)
			f.change(w, deactivate)
		case 4:
			f.failForDays(w)
			f.delete(w)
		default:
			f.failForDays(w)
			failing = append(failing, w.ID)
		}
	}
	f.now = begin.Add(4 * day)
	p := webhook.FailingParams{Rule: f.rule(), Limit: 2}
	var found []uuid.UUID
	for range 100 {
		got := f.failing(p)
		f.LessOrEqual(len(got.Webhooks), p.Limit)
		for _, w := range got.Webhooks {
			found = append(found, w.ID)
		}
		if !got.More {
			break
		}
		p.After = got.Next
	}
	slices.SortFunc(failing, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	f.Equal(failing, found)
}

func deactivationTakesEffectAtOnce(f *fixture) {
	w := f.webhook(func(w *webhook.Webhook) { w.RateLimit = 5 })
	f.failForDays(w)
	f.deliver(w, 3)
	inFlight := f.claim(webhook.ClaimParams{Limit: 1}).Claims[0]
	f.True(f.deactivateFailing(w))

	want := w.Clone()
	want.Status, want.StatusSince, want.DeactivatedFor = webhook.StatusInactive, f.now, webhook.DeactivatedFailing
	want.Version, want.UpdatedAt, want.UpdatedBy = 2, f.now, webhook.DeactivatedBy
	f.Equal(want, f.read(w))
	f.Equal([]webhook.Webhook{want}, f.webhooks(ours, webhook.WebhookQuery{Status: webhook.StatusInactive}))
	f.beforeAndAfterSweep(func() {
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryFailed: 3, webhook.DeliveryHeld: 3})
		f.Empty(f.claimAll())
	})
	f.fail(inFlight)
	f.deliverOne(w)
	f.pass(day)
	f.Empty(f.claimAll())
	f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryFailed: 3, webhook.DeliveryHeld: 4})

	// An edit that leaves it inactive leaves the reason, too; one that activates it clears it.
	got := f.change(w, func(c *webhook.WebhookChange) { c.Name = "Mended" })
	f.Equal(webhook.DeactivatedFailing, got.DeactivatedFor)
	f.Equal(want.StatusSince, got.StatusSince)
	got = f.change(w, resume)
	f.Empty(got.DeactivatedFor)
	f.Equal(f.now, got.StatusSince)
	f.Equal(got, f.read(w))
	f.sweep()
	f.Len(f.claimAll(), 4)

	// And a person's own deactivation has none.
	f.Empty(f.change(w, deactivate).DeactivatedFor)
}

func theRuleIsAskedAgain(f *fixture) {
	w := f.webhook()
	f.failForDays(w)
	rule := f.rule()
	f.Len(f.failing(webhook.FailingParams{Rule: rule, Limit: 10}).Webhooks, 1)
	f.succeed(f.claimOf(f.deliverOne(w)))
	f.False(f.deactivateFailing(w))
	f.Equal(w, f.read(w))
	f.Empty(f.failing(webhook.FailingParams{Rule: rule, Limit: 10}).Webhooks)
	f.Empty(f.claimNotices()[1:], "but for the one of the exhausted deliveries")
}

func goneIsOfTheEndpointThatItHas(f *fixture) {
	w := f.webhook()
	before := goneOf(w, f.now)
	f.pass(time.Minute)
	moved := f.change(w, func(c *webhook.WebhookChange) { c.EndpointURL = "https://new.example/in" })
	f.False(f.deactivate(before))
	f.Equal(moved, f.read(w))

	// One from before it was activated is not of the one that was mended, either.
	before = goneOf(moved, f.now)
	f.pass(time.Minute)
	f.change(w, deactivate)
	f.False(f.deactivate(before))
	active := f.change(w, activate)
	f.False(f.deactivate(before))
	f.Equal(active, f.read(w))
	f.pass(time.Minute)
	f.True(f.deactivate(goneOf(moved, f.now)))
	f.Equal(webhook.DeactivatedGone, f.read(w).DeactivatedFor)
}

func othersAreLeftAlone(f *fixture) {
	w := f.webhook()
	deleted := f.webhook()
	f.delete(deleted)
	for _, scope := range []webhook.Scope{{}, theirs} {
		p := goneOf(w, f.now)
		p.Scope = scope
		f.False(f.deactivate(p))
	}
	f.False(f.deactivate(goneOf(deleted, f.now)))
	missing := w
	missing.ID = f.ids.New(f.now)
	f.False(f.deactivate(goneOf(missing, f.now)))
	p := goneOf(w, f.now)
	p.Reason = "another"
	_, err := f.store.Deactivate(f.ctx(), p)
	f.Error(err)
	f.Equal(w, f.read(w))
	f.Zero(f.noticeDue())
}

// deactivatedNotice is what a notice tells of the webhook that has been deactivated now.
func (f *fixture) deactivatedNotice(id uuid.UUID, w webhook.Webhook) webhook.Notice {
	return webhook.Notice{
		ID: id, Kind: webhook.NoticeDeactivated, Reason: webhook.DeactivatedGone, DeactivatedAt: f.now,
		OrganizationID: acme, WebhookID: w.ID, WebhookName: w.Name, EndpointHost: w.EndpointHost(),
	}
}

func itsNoticeIsDueAtOnce(f *fixture) {
	w := f.webhook()
	f.True(f.deactivate(goneOf(w, f.now)))
	c := f.claimNotice()
	f.NotZero(c.Notice.ID)
	f.Equal(f.deactivatedNotice(c.Notice.ID, w), c.Notice)
	f.sent(c)
	f.Zero(f.noticeDue())

	// However short a while ago the last one was.
	f.change(w, activate)
	f.True(f.deactivate(goneOf(w, f.now)))
	f.sent(f.claimNotice())

	// Since when it had been failing, the rule knows.
	failing := f.webhook()
	first := f.now.Add(time.Hour)
	f.failForDays(failing)
	f.True(f.deactivateFailing(failing))
	c = f.claimNotice()
	f.Equal(webhook.DeactivatedFailing, c.Notice.Reason)
	f.Equal(first.Truncate(time.Hour), c.Notice.FailingSince)
	f.Equal(3, c.Notice.Deliveries)

	// A success ends no wait of it.
	f.retryNotice(c, f.now.Add(time.Minute))
	f.change(failing, activate)
	f.succeed(f.claimOf(f.deliverOne(failing)))
	f.pass(time.Minute)
	f.Equal(c.Notice.ID, f.claimNotice().Notice.ID)
	f.delete(failing)
	f.Zero(f.noticeDue())
}

func itsNoticeTakesTheOpenOnesPlace(f *fixture) {
	w := f.webhook()
	first := f.exhaustOne(w)
	open := f.nextNotice()
	f.retryNotice(open, f.now.Add(time.Hour)) // it has been tried, and may have arrived
	f.pass(time.Minute)
	inFlight := f.claimOf(f.deliverOne(w))
	f.True(f.deactivate(goneOf(w, f.now)))
	want := f.deactivatedNotice(uuid.UUID{}, w)
	f.exhaust(inFlight)
	last := f.now
	got := f.claimNotice()
	f.NotEqual(open.Notice.ID, got.Notice.ID)
	f.Equal(1, got.Attempt)
	f.Zero(got.Unknown)
	want.ID, want.Deliveries, want.EventTypes = got.Notice.ID, 2, map[webhook.EventType]int{messages.EventType: 2}
	want.FirstAt, want.LastAt, want.LastStatusCode = first, last, 503
	want.LastErrorClass, want.LastError = webhook.ErrorStatus, "503 Service Unavailable"
	f.Equal(want, got.Notice)
	f.sent(got)
	f.Zero(f.noticeDue())
}

func itsNoticeFollowsALeasedOne(f *fixture) {
	w := f.webhook()
	f.exhaustOne(w)
	leased := f.nextNotice()
	f.pass(time.Second)
	meanwhile := f.exhaustOne(w)
	f.True(f.deactivate(goneOf(w, f.now)))
	f.Empty(f.claimNotices())
	want := f.deactivatedNotice(uuid.UUID{}, w)
	f.pass(time.Second)
	f.sent(leased)
	got := f.claimNotice()
	f.NotEqual(leased.Notice.ID, got.Notice.ID)
	f.Equal(1, got.Attempt)
	f.Equal(webhook.NoticeDeactivated, got.Notice.Kind)
	f.Equal(want.DeactivatedAt, got.Notice.DeactivatedAt)
	f.Equal(1, got.Notice.Deliveries)
	f.Equal(meanwhile, got.Notice.FirstAt)
	f.sent(got)
	f.Zero(f.noticeDue())
}

func itsNoticeReplacesALeasedOneThatFails(f *fixture) {
	w := f.webhook()
	first := f.exhaustOne(w)
	leased := f.nextNotice()
	f.True(f.deactivate(goneOf(w, f.now)))
	f.NoError(f.store.FinishNotice(f.ctx(), webhook.FinishNoticeParams{
		Now: f.now, WebhookID: w.ID, Token: leased.Token, RetryAt: f.now.Add(time.Hour), Unknown: true,
	}))
	got := f.claimNotice()
	f.NotEqual(leased.Notice.ID, got.Notice.ID)
	f.Equal(1, got.Attempt)
	f.Zero(got.Unknown)
	f.Equal(webhook.NoticeDeactivated, got.Notice.Kind)
	f.Equal(1, got.Notice.Deliveries)
	f.Equal(first, got.Notice.FirstAt)
	retry := f.now.Add(time.Minute)
	f.retryNotice(got, retry)
	f.Equal(retry, f.noticeDue())
	f.now = retry
	again := f.claimNotice()
	f.Equal(got.Notice, again.Notice)
	f.Equal(2, again.Attempt)
}

// deactivatedOnce: of many that say so at once, one does it.
func deactivatedOnce(f *fixture) {
	w := f.webhook()
	p := goneOf(w, f.now)
	type result struct {
		done bool
		err  error
	}
	done := 0
	for _, r := range together(8, func(int) result {
		got, err := f.store.Deactivate(f.ctx(), p)
		return result{got.Deactivated, err}
	}) {
		f.NoError(r.err)
		if r.done {
			done++
		}
	}
	f.Equal(1, done)
	f.EqualValues(2, f.read(w).Version)
	f.sent(f.claimNotice())
	f.Zero(f.noticeDue())
}
