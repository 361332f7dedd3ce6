package storetest

import (
	"encoding/json"
	"time"

	"github.com/posthorn/webhook"
)

// Notices: S19.

func s19() []test {
	return []test{
		{"OneOpenNoticeCountsThemAll", oneOpenNoticeCountsThemAll},
		{"EachWebhookHasItsOwn", eachWebhookHasItsOwn},
		{"OnlyExhaustionIsNoticed", onlyExhaustionIsNoticed},
		{"ADayBetweenNotices", aDayBetweenNotices},
		{"ASuccessEndsTheWait", aSuccessEndsTheWait},
		{"WhatIsCountedMeanwhileIsTheNextOnes", whatIsCountedMeanwhileIsTheNextOnes},
		{"ARetryIsTheSameNotice", aRetryIsTheSameNotice},
		{"UnknownOutcomesAreCounted", unknownOutcomesAreCounted},
		{"AStaleTokenFinishesNothing", aStaleTokenFinishesNothing},
		{"DeletingDropsTheNotice", deletingDropsTheNotice},
	}
}

// exhaustOne publishes an event for the webhook and lets its delivery fail for
// good at the present, which is returned.
func (f *fixture) exhaustOne(w webhook.Webhook, edits ...func(*webhook.EventRecord)) time.Time {
	f.t.Helper()
	f.exhaust(f.claimOf(f.deliverOne(w, edits...)))
	return f.now
}

// nextNotice moves the present to where the next notice is due, and claims it.
func (f *fixture) nextNotice() webhook.NoticeClaim {
	f.t.Helper()
	due := f.noticeDue()
	f.NotZero(due)
	f.now = due.Add(-time.Microsecond)
	f.Equal(due, f.noticeDue())
	f.now = due
	return f.claimNotice()
}

func oneOpenNoticeCountsThemAll(f *fixture) {
	f.Zero(f.noticeDue())
	w := f.webhook(func(w *webhook.Webhook) {
		w.Name, w.EndpointURL = "Archive 😀", "https://archive.example:8443/in?token=hidden"
		w.Subscriptions = []webhook.Subscription{messages, transcripts}
	})
	first := f.exhaustOne(w)
	f.Equal(webhook.NoticeDue(first, time.Time{}), f.noticeDue())
	f.pass(time.Minute)
	f.deliver(w, 2)
	f.exhaust(f.claimAll()...) // in one call
	f.pass(time.Minute)
	d := f.deliverOne(w, ofType(transcripts.EventType))
	out := f.outcome(f.claimOf(d), webhook.DeliveryFailed)
	a := &out.Attempt
	a.StatusCode, a.ErrorClass, a.Error = 0, webhook.ErrorTimeout, "no complete answer within 15s"
	f.Equal([]error{nil}, f.report(out))
	last := f.now

	// The window began with the first of them.
	f.Equal(first.Add(webhook.NoticeWindow), f.noticeDue())
	got := f.nextNotice()
	f.Equal(first.Add(webhook.NoticeWindow), f.now)
	f.NotZero(got.Token)
	f.Equal(1, got.Attempt)
	f.NotZero(got.Notice.ID)
	f.Equal(webhook.Notice{
		ID: got.Notice.ID, Kind: webhook.NoticeExhausted, OrganizationID: acme,
		WebhookID: w.ID, WebhookName: "Archive 😀", EndpointHost: "archive.example",
		Deliveries: 4, EventTypes: map[webhook.EventType]int{messages.EventType: 3, transcripts.EventType: 1},
		FirstAt: first, LastAt: last,
		LastErrorClass: webhook.ErrorTimeout, LastError: "no complete answer within 15s",
	}, got.Notice)

	text, err := json.Marshal(got.Notice)
	f.NoError(err)
	f.NotContains(string(text), f.secrets[w.ID].Reveal())
	f.NotContains(string(text), "hidden")
	f.NotContains(string(text), "hello") // of the payload

	f.sent(got)
	f.Zero(f.noticeDue())
}

func eachWebhookHasItsOwn(f *fixture) {
	a, b, c := f.webhook(), f.webhook(), f.webhook(in(umbrella))
	var due time.Time
	for _, w := range []webhook.Webhook{a, b, c} {
		due = f.exhaustOne(w).Add(webhook.NoticeWindow)
		f.pass(time.Second)
	}
	f.now = due
	claim := func(limit int) webhook.ClaimNoticesResult {
		f.t.Helper()
		got, err := f.store.ClaimNotices(f.ctx(), webhook.ClaimNoticesParams{Now: f.now, LeaseFor: lease, Limit: limit})
		f.NoError(err)
		return got
	}
	first := claim(2)
	f.Len(first.Claims, 2)
	f.NotZero(first.NextDue)
	f.False(first.NextDue.After(f.now)) // the limit left one
	second := claim(2)
	f.Len(second.Claims, 1)
	f.Equal(f.now.Add(lease), second.NextDue)

	organizations, ids := map[string]int{}, map[string]bool{}
	for _, n := range append(first.Claims, second.Claims...) {
		organizations[n.Notice.OrganizationID]++
		ids[n.Notice.ID.String()] = true
		f.Equal(1, n.Notice.Deliveries)
	}
	f.Equal(map[string]int{acme: 2, umbrella: 1}, organizations)
	f.Len(ids, 3)
}

func onlyExhaustionIsNoticed(f *fixture) {
	w := f.webhook()
	f.exhaustOne(w, asTest)
	f.succeed(f.claimOf(f.deliverOne(w)))
	f.NoError(f.cancel(f.deliverOne(w)))
	cancelled := f.deliverOne(w)
	c := f.claimOf(cancelled)
	f.NoError(f.cancel(cancelled))
	f.exhaust(c)
	f.fail(f.claimOf(f.deliverOne(w)))
	f.Zero(f.noticeDue())

	// Nor is a stale outcome.
	stale := f.outcome(c, webhook.DeliveryFailed)
	f.ErrorIs(f.report(stale)[0], webhook.ErrLeaseLost)
	f.Zero(f.noticeDue())
}

func aDayBetweenNotices(f *fixture) {
	w := f.webhook()
	f.exhaustOne(w)
	first := f.nextNotice()
	f.pass(time.Second)
	f.sent(first)
	sent := f.now

	f.pass(time.Hour)
	next := f.exhaustOne(w)
	f.Equal(sent.Add(webhook.NoticeInterval), webhook.NoticeDue(next, sent))
	f.Equal(sent.Add(webhook.NoticeInterval), f.noticeDue())
	f.pass(time.Hour)
	f.exhaustOne(w)
	second := f.nextNotice()
	f.Equal(sent.Add(webhook.NoticeInterval), f.now)
	f.Equal(2, second.Notice.Deliveries)
	f.Equal(next, second.Notice.FirstAt)
	f.NotEqual(first.Notice.ID, second.Notice.ID)
	f.sent(second)

	// After a longer silence the window counts again.
	f.pass(48 * time.Hour)
	third := f.exhaustOne(w)
	f.Equal(third.Add(webhook.NoticeWindow), f.noticeDue())
}

func aSuccessEndsTheWait(f *fixture) {
	w, other := f.webhook(), f.webhook()
	f.exhaustOne(w)
	f.sent(f.nextNotice())
	sent := f.now

	// A failed attempt and another webhook's success do not.
	f.pass(time.Minute)
	failed := f.deliverOne(w)
	f.fail(f.claimOf(failed))
	f.succeed(f.claimOf(f.deliverOne(other)))
	exhausted := f.exhaustOne(w)
	f.Equal(sent.Add(webhook.NoticeInterval), f.noticeDue())

	// The notice that waits goes out as if there had been none before it.
	f.pass(time.Minute)
	f.now = f.delivery(failed.ID).DueAt
	f.succeed(f.claimOf(failed))
	f.Equal(exhausted.Add(webhook.NoticeWindow), f.noticeDue())
	f.sent(f.nextNotice())

	// And so does one that begins after a success.
	f.pass(time.Minute)
	f.succeed(f.claimOf(f.deliverOne(w)))
	exhausted = f.exhaustOne(w)
	f.Equal(exhausted.Add(webhook.NoticeWindow), f.noticeDue())
}

func whatIsCountedMeanwhileIsTheNextOnes(f *fixture) {
	w := f.webhook()
	f.exhaustOne(w)
	first := f.nextNotice()
	f.Equal(1, first.Notice.Deliveries)
	f.pass(time.Second)
	meanwhile := f.exhaustOne(w)
	f.pass(time.Second)
	f.exhaustOne(w)
	f.Empty(f.claimNotices()) // the one that is being sent is the webhook's only one
	f.sent(first)
	sent := f.now

	f.Equal(sent.Add(webhook.NoticeInterval), f.noticeDue())
	second := f.nextNotice()
	f.NotEqual(first.Notice.ID, second.Notice.ID)
	f.Equal(1, second.Attempt)
	f.Equal(2, second.Notice.Deliveries)
	f.Equal(map[webhook.EventType]int{messages.EventType: 2}, second.Notice.EventTypes)
	f.Equal(meanwhile, second.Notice.FirstAt)
	f.sent(second)
	f.Zero(f.noticeDue())
}

func aRetryIsTheSameNotice(f *fixture) {
	w := f.webhook()
	f.exhaustOne(w)
	first := f.nextNotice()
	retry := f.now.Add(time.Hour)
	f.retryNotice(first, retry)
	f.Equal(retry, f.noticeDue())
	second := f.nextNotice()
	f.Equal(retry, f.now)
	f.Equal(2, second.Attempt)
	f.NotEqual(first.Token, second.Token)
	f.Equal(first.Notice, second.Notice)

	// One that comes meanwhile is counted once, by this notice or the next.
	f.exhaustOne(w)
	f.retryNotice(second, f.now)
	third := f.claimNotice()
	f.Equal(3, third.Attempt)
	f.Equal(first.Notice.ID, third.Notice.ID)
	f.sent(third)
	counted := third.Notice.Deliveries
	if counted == 1 {
		counted += f.nextNotice().Notice.Deliveries
	}
	f.Equal(2, counted)
}

func unknownOutcomesAreCounted(f *fixture) {
	w := f.webhook()
	f.exhaustOne(w)
	c := f.nextNotice()
	f.Zero(c.Unknown)
	f.retryNotice(c, f.now) // refused, which is known
	c = f.claimNotice()
	f.Zero(c.Unknown)
	f.exhaustOne(w) // counted meanwhile, and then by the same notice
	f.NoError(f.store.FinishNotice(f.ctx(), webhook.FinishNoticeParams{
		Now: f.now, WebhookID: w.ID, Token: c.Token, RetryAt: f.now, Unknown: true,
	}))
	c = f.claimNotice()
	f.Equal(1, c.Unknown)
	f.pass(lease) // nobody says what became of it
	c = f.claimNotice()
	f.Equal(2, c.Unknown)
	f.Equal(4, c.Attempt)
	f.Equal(2, c.Notice.Deliveries)

	// The next notice begins anew.
	f.exhaustOne(w)
	f.sent(c)
	f.Zero(f.nextNotice().Unknown)
}

func aStaleTokenFinishesNothing(f *fixture) {
	w := f.webhook()
	f.exhaustOne(w)
	first := f.nextNotice()
	finish := func(c webhook.NoticeClaim, sent bool) error {
		return f.store.FinishNotice(f.ctx(), webhook.FinishNoticeParams{
			Now: f.now, WebhookID: c.Notice.WebhookID, Token: c.Token, Sent: sent, RetryAt: f.now,
		})
	}
	forged := first
	forged.Token = f.ids.New(f.now)
	f.ErrorIs(finish(forged, true), webhook.ErrLeaseLost)
	unknown := first
	unknown.Notice.WebhookID = f.ids.New(f.now)
	f.ErrorIs(finish(unknown, true), webhook.ErrLeaseLost)

	// When the lease has run out, the notice is anyone's.
	f.Equal(f.now.Add(lease), f.noticeDue())
	f.pass(lease)
	second := f.claimNotice()
	f.Equal(2, second.Attempt)
	f.NotEqual(first.Token, second.Token)
	f.Equal(first.Notice, second.Notice)
	for _, sent := range []bool{true, false} {
		f.ErrorIs(finish(first, sent), webhook.ErrLeaseLost)
	}
	f.Equal(f.now.Add(lease), f.noticeDue())
	f.NoError(finish(second, true))
	for _, sent := range []bool{true, false} {
		f.ErrorIs(finish(second, sent), webhook.ErrLeaseLost)
	}
	f.Zero(f.noticeDue())
}

func deletingDropsTheNotice(f *fixture) {
	waiting, claimed := f.webhook(), f.webhook()
	f.exhaustOne(claimed)
	c := f.nextNotice()
	f.exhaustOne(waiting)
	f.delete(waiting)
	f.delete(claimed)
	f.ErrorIs(f.store.FinishNotice(f.ctx(), webhook.FinishNoticeParams{
		Now: f.now, WebhookID: claimed.ID, Token: c.Token, RetryAt: f.now,
	}), webhook.ErrLeaseLost)
	f.Zero(f.noticeDue())
	f.pass(48 * time.Hour)
	f.Empty(f.claimNotices())
}
