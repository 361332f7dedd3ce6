package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// operations are what a step of [Model] may be; one that is listed twice comes
// twice as often. Each makes a call of the store and has the model say what it
// must have returned.
var operations = []func(*comparison){
	publishSome, publishSome, publishSome, publishSome, publishSome, publishSome, claimSome, claimSome, claimSome, claimSome,
	finishSome, finishSome, finishSome, finishSome, releaseOne, releaseOne, settleAll, sweepSome, passTime, passTime, passTime,
	changeOne, changeOne, deactivateOne, replaceOne, cancelOne, redeliverOne, redeliverOne, recoverOne,
	claimNotices, claimNotices, finishNotice, finishNotice, purgeSome,
}

func (c *comparison) chance(oneIn int) bool { return c.r.IntN(oneIn) == 0 }

// some returns one of the items, a later one more often, or the zero value.
func some[T any](c *comparison, items []T) (x T) {
	if n := len(items); n > 0 {
		x = items[max(c.r.IntN(n), c.r.IntN(n))]
	}
	return x
}

// someWebhook is seldom a deleted one.
func (c *comparison) someWebhook() *modelWebhook {
	living := where(c.m.webhooks, func(w *modelWebhook) bool { return !w.deleted })
	if len(living) == 0 || c.chance(8) {
		return some(c, c.m.webhooks)
	}
	return living[c.r.IntN(len(living))]
}

// someClaim is mostly one that is still in flight.
func (c *comparison) someClaim() webhook.Claim {
	inFlight := where(c.m.deliveries, func(d *modelDelivery) bool { return d.claim != nil })
	if len(inFlight) == 0 || c.chance(6) {
		return some(c, c.claims)
	}
	return *some(c, inFlight).claim
}

// scope is the organization's, and sometimes another one, which must not know
// what the call is about.
func (c *comparison) scope(s webhook.Scope) webhook.Scope {
	if c.chance(10) {
		return []webhook.Scope{{}, ours, theirs}[c.r.IntN(3)]
	}
	return s
}

// passTime goes on by some time, or to when something is due, or just before.
func passTime(c *comparison) {
	d := []time.Duration{time.Microsecond, took, lease, wait, webhook.NoticeWindow}[c.r.IntN(5)]
	var due []time.Time
	for _, x := range c.m.deliveries {
		due = append(due, x.DueAt, x.LeasedUntil)
	}
	for _, w := range c.m.webhooks {
		due = append(due, w.noticeDue(), w.noticeDue())
	}
	if due = where(due, c.now.Before); len(due) > 0 && c.chance(2) {
		d = some(c, due).Sub(c.now) - time.Duration(c.r.IntN(4)/3)*time.Microsecond
	}
	c.pass(d)
	c.m.now = c.now
	c.say("%s have passed", d)
}

func (c *comparison) addWebhook(edits ...func(*webhook.Webhook)) {
	w := c.newWebhook(edits...)
	c.name(w.ID, "w")
	c.say("create %s of %s with %d subscriptions", w.ID, w.OrganizationID, len(w.Subscriptions))
	c.NoError(c.create(w, 0))
	c.m.webhooks = append(c.m.webhooks, &modelWebhook{
		Webhook: w, secret: c.secrets[w.ID], counters: map[time.Time]*webhook.Counter{},
	})
}

// replaceOne deletes a webhook, if each organization has one, or else creates one.
func replaceOne(c *comparison) {
	for _, organization := range []string{acme, umbrella} {
		if first(c.m.webhooks, func(w *modelWebhook) bool { return w.OrganizationID == organization && !w.deleted }) == nil {
			c.addWebhook(in(organization), subscribed(messages, transcripts))
			return
		}
	}
	if w := c.someWebhook(); c.chance(2) {
		p := webhook.DeleteWebhookParams{Scope: c.scope(scopeOf(w.Webhook)), ID: w.ID, Now: c.now}
		c.say("delete %s in %s", w.ID, p.Scope)
		c.ErrorIs(c.store.DeleteWebhook(c.ctx(), p), c.m.delete(p))
	}
}

func publishSome(c *comparison) {
	p := webhook.InsertParams{Now: c.now}
	organization := []string{acme, acme, umbrella}[c.r.IntN(3)]
	if c.chance(6) {
		p.Only = c.someWebhook().ID // be it another organization's
	}
	var taker uuid.UUID
	if c.chance(4) {
		taker = c.someWebhook().ID
		p.Lease = &webhook.InsertLease{For: lease, Take: func(_, w uuid.UUID, _ string) bool { return w == taker }}
	}
	var want []webhook.InsertedEvent
	before := len(c.m.deliveries)
	for range 1 + c.r.IntN(3) {
		e := c.event(ofType([]webhook.EventType{messages.EventType, transcripts.EventType}[c.r.IntN(5)/4]))
		e.OrganizationID, e.Test = organization, p.Only != uuid.UUID{}
		if c.chance(3) && !e.Test {
			e.IdempotencyKey = fmt.Sprint("key", c.r.IntN(4))
		}
		if c.chance(2) {
			e.TraceContext = fmt.Sprint("context of ", e.ID)
		}
		if c.chance(15) && len(c.m.events) > 0 {
			e.ID = some(c, c.m.events).ID
		}
		p.Events, want = append(p.Events, e), append(want, c.m.insert(e, p.Only))
		c.name(e.ID, "e")
		c.say("publish %s of %s in %s, key %q, only %s, lease those for %s", e.ID, e.Type, organization, e.IdempotencyKey, p.Only, taker)
	}
	got := c.insert(p)
	for i := range want {
		c.ErrorIs(got.Events[i].Err, want[i].Err)
		want[i].Err, got.Events[i].Err = nil, nil
	}
	sameList(c, "inserted events", want, got.Events)
	c.adopt()
	c.claimed(got.Claims, where(c.m.deliveries[before:], func(d *modelDelivery) bool {
		return d.WebhookID == taker && c.m.claimable(d)
	}))
}

// adopt tells the model the ids of the deliveries that the store has added.
func (c *comparison) adopt() {
	for _, s := range []webhook.Scope{ours, theirs} {
		for _, d := range slices.Backward(c.deliveries(s, webhook.DeliveryQuery{})) {
			if c.m.delivery(d.ID) == nil {
				added := first(c.m.deliveries, func(o *modelDelivery) bool {
					return o.ID == uuid.UUID{} && o.WebhookID == d.WebhookID && o.EventID == d.EventID && o.RedeliveryOf == d.RedeliveryOf
				})
				c.NotNil(added, "a delivery too many: %+v", d)
				added.ID = d.ID
				c.name(d.ID, "d")
				c.lines[len(c.lines)-1] += fmt.Sprintf("; adds %s of %s for %s", d.ID, d.EventID, d.WebhookID)
			}
		}
	}
	c.Nil(c.m.delivery(uuid.UUID{}), "a delivery is missing")
}

// claimed checks claims, which have to be of these deliveries.
func (c *comparison) claimed(claims []webhook.Claim, of []*modelDelivery) {
	c.Len(claims, len(of))
	for _, got := range claims {
		d := c.m.delivery(got.DeliveryID)
		c.Contains(of, d)
		c.False(slices.ContainsFunc(c.claims, func(o webhook.Claim) bool { return o.Token == got.Token }), "a token came twice")
		want := c.m.lease(d, got.Token)
		same(c, "payload of a claim", string(want.Payload), string(got.Payload))
		want.Payload, got.Payload = nil, nil
		same(c, "claim", want, got)
		c.claims = append(c.claims, got)
	}
}

func claimSome(c *comparison) {
	p := webhook.ClaimParams{Now: c.now, LeaseFor: lease, Limit: c.r.IntN(8)}
	bounds := ""
	if c.chance(4) {
		p.PerWebhook, p.PerOrganization, p.UnlistedLimit = c.r.IntN(4)-1, max(0, c.r.IntN(6)-1), c.r.IntN(4)
		p.Caps = map[uuid.UUID]int{c.someWebhook().ID: c.r.IntN(4) - 1}
		p.OrganizationCaps = map[string]int{acme: c.r.IntN(4)}
		bounds = fmt.Sprintf(", PerWebhook %d, Caps %v, PerOrganization %d, OrganizationCaps %v, UnlistedLimit %d",
			p.PerWebhook, p.Caps, p.PerOrganization, p.OrganizationCaps, p.UnlistedLimit)
	}
	got, err := c.store.Claim(c.ctx(), p)
	c.NoError(err)
	var ids []uuid.UUID
	for _, claim := range got.Claims {
		ids = append(ids, claim.DeliveryID)
	}
	c.say("claim at most %d%s: %v", p.Limit, bounds, ids)
	due := where(c.m.deliveries, c.m.claimable)
	taken := where(due, func(d *modelDelivery) bool { return slices.Contains(ids, d.ID) })
	c.Len(taken, len(ids), "claimed what is not due, or twice")
	c.LessOrEqual(len(taken), p.Limit)
	turns := map[*modelWebhook]int{}
	for _, d := range taken {
		turns[d.webhook]++
		c.GreaterOrEqual(roomFor(p, d.webhook, taken), 0, "too many of %s", d.WebhookID)
	}

	// What was left is newer, and had no room, or its webhook has had its turn.
	for _, d := range due {
		if slices.Contains(taken, d) {
			continue
		}
		for _, o := range taken {
			if o.webhook == d.webhook {
				c.Negative(deliveryAt(o.Delivery).Compare(deliveryAt(d.Delivery)), "%s is newer than %s, which was left", o.ID, d.ID)
			}
			if roomFor(p, d.webhook, taken) > 0 {
				c.LessOrEqual(turns[o.webhook], turns[d.webhook]+1, "%s had more turns than %s", o.WebhookID, d.WebhookID)
			}
		}
		c.True(len(taken) == p.Limit || roomFor(p, d.webhook, taken) == 0, "%s was left", d.ID)
	}
	c.claimed(got.Claims, taken)
	if len(taken) < p.Limit || p.Limit == 0 || !got.NextDue.Equal(p.Now) {
		c.sameDue(c.m.nextDue(p), got.NextDue)
	}
}

func finishSome(c *comparison) {
	p := webhook.FinishParams{Now: c.now}
	var want []error
	for range min(len(c.claims), 1+c.r.IntN(3)) {
		claim := c.someClaim()
		state, due := webhook.DeliverySucceeded, time.Time{}
		if c.r.IntN(3) > 0 {
			state, due = c.m.schedule.After(claim.Attempt, c.now, claim.Test)
		}
		out := c.outcome(claim, state)
		out.DueAt = due
		forged := ""
		switch {
		case c.chance(12):
			out.Token, forged = uuid.New(), ", token forged"
		case c.chance(12):
			out.Attempt.Number++
		case c.chance(8) && state != webhook.DeliverySucceeded:
			out.Attempt.Outcome = webhook.OutcomeInterrupted
		}
		p.Outcomes, want = append(p.Outcomes, out), append(want, c.m.finish(out))
		c.say("finish attempt %d of %s: %s, %s%s: %v", out.Attempt.Number, claim.DeliveryID, out.Attempt.Outcome, state, forged, want[len(want)-1])
	}
	got, err := c.store.Finish(c.ctx(), p)
	c.NoError(err)
	c.Len(got.Errs, len(want))
	for i := range want {
		c.ErrorIs(got.Errs[i], want[i])
	}
}

func releaseOne(c *comparison) {
	claim := c.someClaim()
	if c.chance(8) {
		claim.Token = uuid.New()
	}
	notBefore := c.now.Add(time.Duration(c.r.IntN(2)) * wait)
	want := c.m.release(webhook.ReleasedClaim{DeliveryID: claim.DeliveryID, Token: claim.Token, NotBefore: notBefore})
	c.say("release attempt %d of %s for %s: %v", claim.Attempt, claim.DeliveryID, notBefore.Sub(c.now), want)
	c.ErrorIs(c.release(notBefore, claim)[0], want)
}

func settleAll(c *comparison) {
	want := c.m.settle()
	c.say("settle: %d", want)
	same(c, "settled", want, c.settle(c.m.schedule))
}

func sweepSome(c *comparison) {
	c.say("sweep")
	_, err := c.store.Sweep(c.ctx(), webhook.SweepParams{Now: c.now, Limit: 1 + c.r.IntN(3)})
	c.NoError(err)
}

func changeOne(c *comparison) {
	w := c.someWebhook()
	p := c.updateOf(w.Webhook)
	p.Scope = c.scope(p.Scope)
	some(c, []func(*webhook.WebhookChange){
		subscribe(messages), activate, subscribe(transcripts, messages), deactivate, resume, resume,
	})(&p.Change)
	if c.chance(10) {
		p.Change.Version--
	}
	want := c.m.update(p)
	c.say("update %s in %s: %s, resume %t, %d subscriptions: %v",
		p.ID, p.Scope, p.Change.Status, p.Change.Resume, len(p.Change.Subscriptions), want)
	got, err := c.store.UpdateWebhook(c.ctx(), p)
	c.ErrorIs(err, want)
	if want == nil {
		same(c, "updated webhook", w.Webhook, got)
	}
}

func deactivateOne(c *comparison) {
	w := c.someWebhook()
	p := goneOf(w.Webhook, c.now)
	if c.chance(2) {
		p.Reason, p.Rule = webhook.DeactivatedFailing, webhook.FailingRule{Before: c.now, Recent: c.now.Add(-24 * time.Hour)}
		found, err := c.store.FailingWebhooks(c.ctx(), webhook.FailingParams{Rule: p.Rule, Limit: 10})
		c.NoError(err)
		named := slices.Contains(found.Webhooks, webhook.FailingWebhook{ID: w.ID, OrganizationID: w.OrganizationID})
		_, failing, err := p.Applies(&w.Webhook, func(since time.Time) ([]webhook.Counter, error) { return w.counted(since), nil })
		c.NoError(err)
		same(c, "failing", failing && !w.deleted, named)
	}
	p.Scope = c.scope(p.Scope)
	want := c.m.deactivate(p)
	c.say("deactivate %s in %s, %s: %t", p.WebhookID, p.Scope, p.Reason, want)
	got, err := c.store.Deactivate(c.ctx(), p)
	c.NoError(err)
	same(c, "deactivated", want, got.Deactivated)
}

func cancelOne(c *comparison) {
	if d := some(c, c.m.deliveries); d != nil {
		p := webhook.CancelParams{Scope: c.scope(scopeOfDelivery(d.Delivery)), DeliveryID: d.ID, Now: c.now}
		c.say("cancel %s in %s", d.ID, p.Scope)
		c.ErrorIs(c.store.CancelDelivery(c.ctx(), p), c.m.cancel(p))
	}
}

func redeliverOne(c *comparison) {
	d := some(c, where(c.m.deliveries, func(d *modelDelivery) bool { return d.State.Finished() || c.chance(8) }))
	if d == nil {
		return
	}
	p := webhook.RedeliverParams{Scope: c.scope(scopeOfDelivery(d.Delivery)), DeliveryID: d.ID, Now: c.now}
	c.say("redeliver %s in %s", d.ID, p.Scope)
	got, err := c.store.Redeliver(c.ctx(), p)
	again, want := c.m.redeliver(p)
	c.ErrorIs(err, want)
	if want == nil {
		c.adopt()
		got.Payload = nil
		c.sameDelivery(again.Delivery, got)
	}
}

func recoverOne(c *comparison) {
	p := c.recovery(c.someWebhook().Webhook)
	p.Scope, p.Limit = c.scope(p.Scope), 1+c.r.IntN(4)
	if d := some(c, c.m.deliveries); d != nil && c.chance(2) {
		p.Since = d.CreatedAt
	}
	c.say("recover %s in %s since %s", p.WebhookID, p.Scope, p.Since.Format(moment))
	got, err := recoverAll(c.fixture, p)
	model, want := c.m.recover(p)
	c.ErrorIs(err, want)
	same(c, "recovered", model, got)
	c.adopt()
}

func claimNotices(c *comparison) {
	limit := 1 + c.r.IntN(2)
	got, err := c.store.ClaimNotices(c.ctx(), webhook.ClaimNoticesParams{Now: c.now, LeaseFor: lease, Limit: limit})
	c.NoError(err)
	c.say("claim at most %d notices: %d", limit, len(got.Claims))
	due := where(c.m.webhooks, func(w *modelWebhook) bool { return !w.noticeDue().IsZero() && !w.noticeDue().After(c.now) })
	c.Len(got.Claims, min(limit, len(due)))
	for _, claim := range got.Claims {
		w := first(due, func(w *modelWebhook) bool { return w.ID == claim.Notice.WebhookID })
		c.NotNil(w, "no notice of %s is due", claim.Notice.WebhookID)
		same(c, "notice", c.m.leaseNotice(w, claim), claim)
		c.notices = append(c.notices, claim)
	}
	var next time.Time
	for _, w := range c.m.webhooks {
		next = earlier(next, w.noticeDue())
	}
	c.sameDue(next, got.NextDue)
}

func finishNotice(c *comparison) {
	if len(c.notices) > 0 {
		n := some(c, c.notices[max(0, len(c.notices)-3):])
		p := webhook.FinishNoticeParams{Now: c.now, WebhookID: n.Notice.WebhookID, Token: n.Token, Sent: c.chance(2), RetryAt: c.now.Add(wait)}
		p.Unknown = !p.Sent && c.chance(2)
		want := c.m.finishNotice(p)
		c.say("finish a notice of %s, sent %t, unknown %t: %v", p.WebhookID, p.Sent, p.Unknown, want)
		c.ErrorIs(c.store.FinishNotice(c.ctx(), p), want)
	}
}

func purgeSome(c *comparison) {
	before := c.now.Add([]time.Duration{0, -wait, -time.Hour}[c.r.IntN(3)])
	p := webhook.PurgeParams{Limit: 1 + c.r.IntN(3)}
	names := []string{"payloads", "attempts", "deliveries", "held deliveries"}
	i := c.r.IntN(len(names))
	*[]*time.Time{&p.PayloadsBefore, &p.AttemptsBefore, &p.DeliveriesBefore, &p.HeldBefore}[i] = before
	if !p.HeldBefore.IsZero() && first(c.m.deliveries, func(d *modelDelivery) bool {
		return d.State == webhook.DeliveryHeld && d.claim != nil
	}) != nil {
		return // the contract leaves open whether one in flight is cancelled
	}
	c.say("purge %s before %s", names[i], before.Format(moment))
	want, got := c.m.purge(p), c.purge(p)
	got.Payloads = 0
	same(c, "purged", want, got)

	// A deleted webhook may be forgotten when nothing is left of its log.
	c.m.webhooks = where(c.m.webhooks, func(w *modelWebhook) bool {
		return !w.deleted || first(c.m.deliveries, func(d *modelDelivery) bool { return d.webhook == w }) != nil
	})
}
