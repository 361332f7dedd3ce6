package storetest

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// model tells the contract a second time, for one caller and without a thought
// for speed: everything is in three slices, and every question is a loop.
type model struct {
	now        time.Time
	schedule   webhook.Schedule
	webhooks   []*modelWebhook // deleted ones too, as long as they have a log
	events     []*modelEvent
	deliveries []*modelDelivery // in the order of their creation
}

type modelWebhook struct {
	webhook.Webhook
	secret   webhook.Secret
	deleted  bool
	counters map[time.Time]*webhook.Counter
	untold   []exhausted // what no sent notice has told of, oldest first
	lastSent time.Time   // of a notice; zero again once an attempt has succeeded

	// The open notice, once it has been claimed.
	notice, token uuid.UUID // the token is zero while it is not leased
	tries, told   int
	unknown       int       // of the tries, those of which nobody knows the outcome
	again         time.Time // when it can be claimed again

	news *webhook.Notice // what it says of a deactivation, or nil
	next *webhook.Notice // and what the next one will
}

// exhausted is a delivery that has failed for good, as its notice tells of it.
type exhausted struct {
	at      time.Time
	attempt webhook.Attempt
}

type modelEvent struct {
	webhook.EventRecord
	inserted time.Time
}

// modelDelivery is a delivery as reads show it. While it is leased, its state
// is what has been decided about it already.
type modelDelivery struct {
	webhook.Delivery
	webhook   *modelWebhook
	event     *modelEvent
	claim     *webhook.Claim // nil if it is not leased
	claimedAt time.Time
	log       []*modelAttempt
}

type modelAttempt struct {
	webhook.Attempt
	token uuid.UUID
}

func where[T any](items []T, keep func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(items), func(x T) bool { return !keep(x) })
}

// first returns the first that is wanted, or nil.
func first[T any](items []*T, wanted func(*T) bool) *T {
	if i := slices.IndexFunc(items, wanted); i >= 0 {
		return items[i]
	}
	return nil
}

func (m *model) delivery(id uuid.UUID) *modelDelivery {
	return first(m.deliveries, func(d *modelDelivery) bool { return d.ID == id })
}

// webhookIn and deliveryIn look inside a scope: S4.
func (m *model) webhookIn(s webhook.Scope, id uuid.UUID) (*modelWebhook, error) {
	w := first(m.webhooks, func(w *modelWebhook) bool { return w.ID == id && scopeOf(w.Webhook) == s && !w.deleted })
	if w == nil {
		return nil, webhook.ErrNotFound
	}
	return w, nil
}

func (m *model) deliveryIn(s webhook.Scope, id uuid.UUID) (*modelDelivery, error) {
	if d := m.delivery(id); d != nil && scopeOfDelivery(d.Delivery) == s {
		return d, nil
	}
	return nil, webhook.ErrNotFound
}

// insert is S7 and S8.
func (m *model) insert(e webhook.EventRecord, only uuid.UUID) webhook.InsertedEvent {
	if o := first(m.events, func(o *modelEvent) bool {
		return e.IdempotencyKey != "" && o.IdempotencyKey == e.IdempotencyKey && o.OrganizationID == e.OrganizationID
	}); o != nil {
		return webhook.InsertedEvent{EventID: o.ID, Duplicate: true}
	}
	if first(m.events, func(o *modelEvent) bool { return o.ID == e.ID }) != nil {
		return webhook.InsertedEvent{EventID: e.ID, Err: webhook.ErrConflict}
	}
	to := where(m.webhooks, func(w *modelWebhook) bool {
		named := w.ID == only || only == uuid.UUID{} && w.Matches(&e)
		return named && !w.deleted && w.OrganizationID == e.OrganizationID
	})
	if len(to) == 0 && only != (uuid.UUID{}) {
		return webhook.InsertedEvent{EventID: e.ID, Err: webhook.ErrNotFound}
	}
	if len(to) > 0 || e.IdempotencyKey != "" {
		m.events = append(m.events, &modelEvent{e, m.now})
		for _, w := range to {
			m.add(w, m.events[len(m.events)-1], uuid.UUID{})
		}
	}
	return webhook.InsertedEvent{EventID: e.ID, Deliveries: len(to)}
}

// add adds a delivery, whose id only the store knows.
func (m *model) add(w *modelWebhook, e *modelEvent, redeliveryOf uuid.UUID) *modelDelivery {
	d := &modelDelivery{webhook: w, event: e, Delivery: webhook.Delivery{
		EventID: e.ID, WebhookID: w.ID, OrganizationID: w.OrganizationID, EventType: e.Type, Subject: e.Subject,
		State: webhook.DeliveryPending, DueAt: m.now, CreatedAt: m.now, RedeliveryOf: redeliveryOf, Test: e.Test,
	}}
	if w.Status != webhook.StatusActive {
		d.State = webhook.DeliveryHeld
	}
	m.deliveries = append(m.deliveries, d)
	return d
}

// claimable is S13.
func (m *model) claimable(d *modelDelivery) bool {
	return d.State == webhook.DeliveryPending && d.claim == nil && !d.DueAt.After(m.now)
}

// lease makes a claim.
func (m *model) lease(d *modelDelivery, token uuid.UUID) webhook.Claim {
	d.Attempts++
	d.claimedAt, d.LeasedUntil = m.now, m.now.Add(lease)
	d.claim = &webhook.Claim{
		DeliveryID: d.ID, EventID: d.EventID, WebhookID: d.WebhookID, OrganizationID: d.OrganizationID,
		EventType: d.EventType, Test: d.Test, Attempt: d.Attempts, Token: token, DueAt: d.DueAt,
		LeasedUntil: d.LeasedUntil, EndpointURL: d.webhook.EndpointURL, Secret: d.webhook.secret, Payload: d.event.Payload,
		TraceContext: d.event.TraceContext,
		RateLimit:    d.webhook.RateLimit,
	}
	return *d.claim
}

// roomFor is how much more of a webhook a claim may take that has taken some
// already: S9.
func roomFor(p webhook.ClaimParams, w *modelWebhook, taken []*modelDelivery) int {
	bound := func(own int, listed bool, general int) int {
		switch {
		case listed:
			return max(own, 0)
		case general == 0:
			return 1 << 30
		}
		return max(general, 0)
	}
	share, listed := p.Caps[w.ID]
	quota, limited := p.OrganizationCaps[w.OrganizationID]
	left := []int{bound(share, listed, p.PerWebhook), bound(quota, limited, p.PerOrganization), bound(1<<30, listed, p.UnlistedLimit)}
	for _, d := range taken {
		if d.webhook == w {
			left[0]--
		}
		if d.OrganizationID == w.OrganizationID {
			left[1]--
		}
		if _, ok := p.Caps[d.WebhookID]; !ok {
			left[2]--
		}
	}
	return slices.Min(left)
}

// nextDue is when a claim with these bounds is worth making again: S9.
func (m *model) nextDue(p webhook.ClaimParams) (next time.Time) {
	for _, d := range m.deliveries {
		switch {
		case d.claim != nil:
			next = earlier(next, d.LeasedUntil)
		case d.State == webhook.DeliveryPending && roomFor(p, d.webhook, nil) > 0:
			next = earlier(next, d.DueAt)
		}
	}
	return next
}

// earlier returns the earlier of two times that are not zero.
func earlier(t, o time.Time) time.Time {
	if t.IsZero() || !o.IsZero() && o.Before(t) {
		return o
	}
	return t
}

// finish is S10.
func (m *model) finish(o webhook.FinishedAttempt) error {
	d := m.delivery(o.Attempt.DeliveryID)
	if d == nil {
		return webhook.ErrLeaseLost
	}
	if d.claim != nil && d.claim.Token == o.Token && d.claim.Attempt == o.Attempt.Number {
		m.end(d, o.Attempt, o.State, o.DueAt)
		return nil
	}
	for _, a := range d.log {
		if a.token == o.Token && a.Number == o.Attempt.Number && a.Outcome == webhook.OutcomeInterrupted {
			a.Attempt = o.Attempt
			a.Outcome = webhook.OutcomeLate
		}
	}
	return webhook.ErrLeaseLost
}

// settle is S11.
func (m *model) settle() (settled int) {
	for _, d := range m.deliveries {
		if d.claim != nil && !d.LeasedUntil.After(m.now) {
			state, due := m.schedule.After(d.Attempts, d.LeasedUntil, d.Test)
			m.end(d, d.claim.Interrupted(d.claimedAt), state, due)
			settled++
		}
	}
	return settled
}

// end logs an attempt and moves its delivery on, unless it is to stay where it
// was put meanwhile: S14, S19, S21 and S22.
func (m *model) end(d *modelDelivery, a webhook.Attempt, state webhook.DeliveryState, due time.Time) {
	w, hour := d.webhook, a.StartedAt.Truncate(time.Hour)
	d.log = append(d.log, &modelAttempt{a, d.claim.Token})
	if w.counters[hour] == nil {
		w.counters[hour] = &webhook.Counter{Hour: hour}
	}
	w.counters[hour].Add(&a)
	if a.Outcome == webhook.OutcomeSucceeded {
		w.lastSent = time.Time{}
	}
	d.claim, d.LeasedUntil = nil, time.Time{}
	switch {
	case d.State == webhook.DeliveryCancelled:
		m.finished(d, webhook.DeliveryCancelled)
	case state == webhook.DeliveryPending:
		d.DueAt = due // still pending, or held
	default:
		m.finished(d, state)
		if state == webhook.DeliveryFailed && !d.Test {
			w.untold = append(w.untold, exhausted{m.now, a})
		}
	}
}

func (m *model) finished(d *modelDelivery, state webhook.DeliveryState) {
	d.State, d.FinishedAt, d.DueAt = state, m.now, time.Time{}
}

// release is S12.
func (m *model) release(r webhook.ReleasedClaim) error {
	d := m.delivery(r.DeliveryID)
	if d == nil || d.claim == nil || d.claim.Token != r.Token {
		return webhook.ErrLeaseLost
	}
	d.claim, d.LeasedUntil = nil, time.Time{}
	d.Attempts--
	d.DueAt = r.NotBefore
	if d.State == webhook.DeliveryCancelled {
		m.finished(d, webhook.DeliveryCancelled)
	}
	return nil
}

// update is S6 and S14.
func (m *model) update(p webhook.UpdateWebhookParams) error {
	w, err := m.webhookIn(p.Scope, p.ID)
	if err != nil {
		return err
	}
	if w.Version != p.Change.Version {
		return webhook.ErrConflict
	}
	before := w.Webhook
	w.Name, w.Description, w.EndpointURL = p.Change.Name, p.Change.Description, p.Change.EndpointURL
	w.Subscriptions, w.RateLimit = p.Change.Subscriptions, p.Change.RateLimit
	if w.Status != p.Change.Status {
		w.Status, w.StatusSince, w.DeactivatedFor = p.Change.Status, m.now, ""
	}
	w.Version, w.UpdatedAt, w.UpdatedBy = w.Version+1, m.now, p.By
	for _, d := range m.unfinished(w) {
		switch {
		case before.Subscribes(&d.event.EventRecord) && !w.Subscribes(&d.event.EventRecord):
			m.stop(d)
		case w.Status != webhook.StatusActive:
			d.State = webhook.DeliveryHeld
		case p.Change.Resume:
			m.resume(d)
		}
	}
	return nil
}

// deactivate is S24.
func (m *model) deactivate(p webhook.DeactivateParams) (done bool) {
	w, err := m.webhookIn(p.Scope, p.WebhookID)
	if err != nil {
		return false
	}
	since, applies, err := p.Applies(&w.Webhook, func(since time.Time) ([]webhook.Counter, error) { return w.counted(since), nil })
	if err != nil || !applies {
		return false
	}
	w.Status, w.StatusSince, w.DeactivatedFor = webhook.StatusInactive, m.now, p.Reason
	w.Version, w.UpdatedAt, w.UpdatedBy = w.Version+1, m.now, webhook.DeactivatedBy
	for _, d := range m.unfinished(w) {
		d.State = webhook.DeliveryHeld
	}
	news := &webhook.Notice{Kind: webhook.NoticeDeactivated, Reason: p.Reason, DeactivatedAt: m.now, FailingSince: since}
	if w.token != (uuid.UUID{}) {
		w.next = news
	} else {
		w.news, w.tries, w.told, w.unknown = news, 0, 0, 0
	}
	return true
}

// counted returns a webhook's counters, oldest first.
func (w *modelWebhook) counted(since time.Time) (cs []webhook.Counter) {
	for _, hour := range slices.SortedFunc(maps.Keys(w.counters), time.Time.Compare) {
		if !hour.Before(since) {
			cs = append(cs, *w.counters[hour])
		}
	}
	return cs
}

// unfinished returns a webhook's deliveries of which nothing final is decided.
func (m *model) unfinished(w *modelWebhook) []*modelDelivery {
	return where(m.deliveries, func(d *modelDelivery) bool { return d.webhook == w && !d.State.Finished() })
}

func (m *model) stop(d *modelDelivery) {
	d.State = webhook.DeliveryCancelled
	if d.claim == nil {
		m.finished(d, webhook.DeliveryCancelled)
	}
}

func (m *model) resume(d *modelDelivery) {
	if d.State == webhook.DeliveryHeld && d.DueAt.Before(m.now) {
		d.DueAt = m.now
	}
	d.State = webhook.DeliveryPending
}

// delete is S14.
func (m *model) delete(p webhook.DeleteWebhookParams) error {
	w, err := m.webhookIn(p.Scope, p.ID)
	if err != nil {
		return err
	}
	w.deleted, w.untold, w.token, w.tries, w.news, w.next = true, nil, uuid.UUID{}, 0, nil, nil
	for _, d := range m.unfinished(w) {
		m.stop(d)
	}
	return nil
}

// cancel is S21.
func (m *model) cancel(p webhook.CancelParams) error {
	d, err := m.deliveryIn(p.Scope, p.DeliveryID)
	if err == nil && d.State.Finished() {
		return webhook.ErrConflict
	}
	if err == nil {
		m.stop(d)
	}
	return err
}

// redeliver is S16.
func (m *model) redeliver(p webhook.RedeliverParams) (*modelDelivery, error) {
	d, err := m.deliveryIn(p.Scope, p.DeliveryID)
	if err != nil {
		return nil, err
	}
	if d.FinishedAt.IsZero() || d.event.Payload == nil || d.webhook.deleted {
		return nil, webhook.ErrConflict
	}
	return m.add(d.webhook, d.event, d.ID), nil
}

// recover is S23, all batches.
func (m *model) recover(p webhook.RecoverParams) (out webhook.RecoverResult, err error) {
	w, err := m.webhookIn(p.Scope, p.WebhookID)
	if err != nil {
		return out, err
	}
	if w.Status != webhook.StatusActive {
		return out, webhook.ErrConflict
	}
	all := where(m.deliveries, func(d *modelDelivery) bool { return d.webhook == w && !d.Test })
	for i, d := range all {
		newer := first(all[i+1:], func(o *modelDelivery) bool { return o.event == d.event })
		switch {
		case d.State == webhook.DeliveryHeld && !d.CreatedAt.Before(p.Since):
			m.resume(d)
			out.Released++
		case d.State != webhook.DeliveryFailed || d.FinishedAt.Before(p.Since) || newer != nil:
		case d.event.Payload == nil:
			out.Purged++
		default:
			m.add(w, d.event, d.ID)
			out.Redelivered++
		}
	}
	return out, nil
}

// purge is S17, all batches. Payloads are not counted: those of events without
// deliveries may be among them.
func (m *model) purge(p webhook.PurgeParams) (out webhook.PurgeResult) {
	old := func(d *modelDelivery, before time.Time) bool {
		return !d.FinishedAt.IsZero() && d.FinishedAt.Before(before)
	}
	for _, d := range m.deliveries {
		if d.State == webhook.DeliveryHeld && d.CreatedAt.Before(p.HeldBefore) {
			m.finished(d, webhook.DeliveryCancelled)
			out.HeldCancelled++
		}
		if n := len(d.log); !d.FinishedAt.IsZero() {
			d.log = where(d.log, func(a *modelAttempt) bool { return !a.StartedAt.Before(p.AttemptsBefore) })
			out.Attempts += n - len(d.log)
		}
	}
	deliveries, events := len(m.deliveries), len(m.events)
	m.deliveries = where(m.deliveries, func(d *modelDelivery) bool { return !old(d, p.DeliveriesBefore) })
	m.events = where(m.events, func(e *modelEvent) bool {
		of := where(m.deliveries, func(d *modelDelivery) bool { return d.event == e })
		if first(of, func(d *modelDelivery) bool { return !old(d, p.PayloadsBefore) }) == nil {
			e.Payload = nil
		}
		return len(of) > 0 || !e.inserted.Before(p.DeliveriesBefore)
	})
	out.Deliveries, out.Events = deliveries-len(m.deliveries), events-len(m.events)
	return out
}

// noticeDue is when a webhook's notice can be claimed, zero if it has none: S19.
func (w *modelWebhook) noticeDue() time.Time {
	switch {
	case w.tries > 0:
		return w.again
	case w.news != nil:
		return w.news.DeactivatedAt
	case len(w.untold) == 0:
		return time.Time{}
	}
	return webhook.NoticeDue(w.untold[0].at, w.lastSent)
}

// leaseNotice is what a claim of the notice returns. The first time it tells of
// everything; later, the store may leave what came meanwhile to the next one.
func (m *model) leaseNotice(w *modelWebhook, got webhook.NoticeClaim) webhook.NoticeClaim {
	if w.tries == 0 {
		w.notice, w.told = got.Notice.ID, len(w.untold)
	} else {
		w.told = min(max(w.told, got.Notice.Deliveries), len(w.untold))
	}
	w.tries++
	if w.token != uuid.Nil { // its lease has run out
		w.unknown++
	}
	w.token, w.again = got.Token, m.now.Add(lease)
	out := webhook.Notice{Kind: webhook.NoticeExhausted}
	if w.news != nil {
		out = *w.news
	}
	out.ID, out.OrganizationID, out.WebhookID, out.WebhookName, out.EndpointHost = w.notice, w.OrganizationID, w.ID, w.Name, w.EndpointHost()
	if w.told > 0 {
		last := w.untold[w.told-1]
		out.Deliveries, out.EventTypes, out.FirstAt, out.LastAt = w.told, map[webhook.EventType]int{}, w.untold[0].at, last.at
		out.LastStatusCode, out.LastErrorClass, out.LastError = last.attempt.StatusCode, last.attempt.ErrorClass, last.attempt.Error
	}
	for _, x := range w.untold[:w.told] {
		out.EventTypes[x.attempt.EventType]++
	}
	return webhook.NoticeClaim{Notice: out, Token: got.Token, Attempt: w.tries, Unknown: w.unknown}
}

func (m *model) finishNotice(p webhook.FinishNoticeParams) error {
	w := first(m.webhooks, func(w *modelWebhook) bool { return w.ID == p.WebhookID && w.token == p.Token })
	if w == nil {
		return webhook.ErrLeaseLost
	}
	w.token, w.again = uuid.UUID{}, p.RetryAt
	switch {
	case p.Sent:
		w.untold, w.lastSent = w.untold[w.told:], m.now
		w.news, w.next, w.tries, w.told, w.unknown = w.next, nil, 0, 0, 0
	case w.next != nil:
		w.news, w.next, w.tries, w.told, w.unknown = w.next, nil, 0, 0, 0
	case p.Unknown:
		w.unknown++
	}
	return nil
}

// contents is what lists and counters have to show, newest first: S15.
func (m *model) contents(s webhook.Scope) contents {
	c := contents{Counters: map[uuid.UUID][]webhook.Counter{}}
	for _, w := range m.webhooks {
		if scopeOf(w.Webhook) == s && !w.deleted {
			c.Webhooks = append(c.Webhooks, w.Webhook)
			c.Counters[w.ID] = w.counted(time.Time{})
		}
	}
	for _, d := range m.deliveries {
		if scopeOfDelivery(d.Delivery) == s {
			c.Deliveries = append(c.Deliveries, d.Delivery)
			c.Deliveries[len(c.Deliveries)-1].Payload = d.event.Payload
			for _, a := range d.log {
				c.Attempts = append(c.Attempts, a.Attempt)
			}
		}
	}
	newest(c.Webhooks, webhookAt)
	newest(c.Deliveries, deliveryAt)
	newest(c.Attempts, attemptAt)
	return c
}

func newest[T any](items []T, at func(T) webhook.Position) {
	slices.SortFunc(items, func(a, b T) int { return at(b).Compare(at(a)) })
}

// leased counts live leases, also of a deleted webhook: S14.
func (m *model) leased(w *modelWebhook) int {
	return len(where(m.deliveries, func(d *modelDelivery) bool {
		return d.webhook == w && d.claim != nil && d.LeasedUntil.After(m.now)
	}))
}
