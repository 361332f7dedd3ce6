package storetest

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

const (
	acme     = "acme"     // the organization of nearly everything here
	umbrella = "umbrella" // another one

	lease = 45 * time.Second      // of claims
	took  = 40 * time.Millisecond // an attempt
	wait  = time.Minute           // from a failed attempt to the next one
)

var (
	// noon is when every test begins. Its microseconds are in use.
	noon = time.Date(2026, time.January, 1, 12, 0, 0, 123_456_000, time.UTC)

	ours   = webhook.Scope{OrganizationID: acme}
	theirs = webhook.Scope{OrganizationID: umbrella}

	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "6a9f2c1e-0d3b-4c8e-9f57-2b1d4e6f8a01"}
	hall  = webhook.Subject{Type: webhook.SubjectRoom, ID: "6a9f2c1e-0d3b-4c8e-9f57-2b1d4e6f8a02"}
	space = webhook.Subject{Type: webhook.SubjectSpace, ID: "b4d1e7a3-5c2f-4e90-8a6d-7f3c9b0e1d01"}

	messages    = webhook.Subscription{Subject: room, EventType: webhook.EventMessageSent}
	transcripts = webhook.Subscription{Subject: room, EventType: webhook.EventRoomRecordingTranscriptPublished}
)

// fixture is a store and a present: what a test does happens at now, until the
// test moves it. Its methods fail the test on an unexpected error, so they are
// for the test's own goroutine.
type fixture struct {
	*require.Assertions
	t       *testing.T
	store   webhook.Store
	now     time.Time
	ids     webhook.IDSource
	secrets map[uuid.UUID]webhook.Secret // of the webhooks created here
}

func newFixture(t *testing.T, store webhook.Store) *fixture {
	return &fixture{
		Assertions: require.New(t), t: t, store: annotated{store}, now: noon,
		secrets: make(map[uuid.UUID]webhook.Secret),
	}
}

// ctx bounds one call, so that one that waits for ever fails its own subtest.
func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	f.t.Cleanup(cancel)
	return ctx
}

// pass moves the present.
func (f *fixture) pass(d time.Duration) { f.now = f.now.Add(d) }

// Webhooks.

func in(organization string) func(*webhook.Webhook) {
	return func(w *webhook.Webhook) { w.OrganizationID = organization }
}

func named(name string) func(*webhook.Webhook) {
	return func(w *webhook.Webhook) { w.Name = name }
}

func inactive(w *webhook.Webhook) { w.Status = webhook.StatusInactive }

func subscribed(to ...webhook.Subscription) func(*webhook.Webhook) {
	return func(w *webhook.Webhook) { w.Subscriptions = to }
}

// newWebhook returns a webhook for the messages of a room of its own, not
// stored yet.
func (f *fixture) newWebhook(edits ...func(*webhook.Webhook)) webhook.Webhook {
	id := f.ids.New(f.now)
	w := webhook.Webhook{
		ID: id, OrganizationID: acme, Name: "Chat archive", Description: "Keeps what was said.",
		EndpointURL: "https://archive.example/hooks", Status: webhook.StatusActive, Version: 1,
		Subscriptions: []webhook.Subscription{{
			Subject:   webhook.Subject{Type: webhook.SubjectRoom, ID: id.String()},
			EventType: webhook.EventMessageSent,
		}},
		CreatedAt: f.now, UpdatedAt: f.now, StatusSince: f.now, CreatedBy: "ann", UpdatedBy: "ann",
	}
	for _, edit := range edits {
		edit(&w)
	}
	return w
}

// webhook creates one for the messages of a room of its own.
func (f *fixture) webhook(edits ...func(*webhook.Webhook)) webhook.Webhook {
	f.t.Helper()
	w := f.newWebhook(edits...)
	f.NoError(f.create(w, 0))
	return w
}

func (f *fixture) secret() webhook.Secret {
	f.t.Helper()
	s, err := webhook.NewSecret()
	f.NoError(err)
	return s
}

func (f *fixture) create(w webhook.Webhook, maxPerOrganization int) error {
	f.t.Helper()
	secret := f.secret()
	p := webhook.CreateWebhookParams{Webhook: w.Clone(), Secret: secret, MaxPerOrganization: maxPerOrganization}
	if err := f.store.CreateWebhook(f.ctx(), p); err != nil {
		return err
	}
	f.secrets[w.ID] = secret
	return nil
}

// read returns the webhook as it is stored now.
func (f *fixture) read(w webhook.Webhook) webhook.Webhook {
	f.t.Helper()
	got, err := f.store.Webhook(f.ctx(), scopeOf(w), w.ID)
	f.NoError(err)
	return got
}

// updateOf returns the update that changes nothing of the webhook as given.
func (f *fixture) updateOf(w webhook.Webhook) webhook.UpdateWebhookParams {
	w = w.Clone()
	return webhook.UpdateWebhookParams{
		Scope: scopeOf(w), ID: w.ID, Now: f.now, By: "bob",
		Change: webhook.WebhookChange{
			Version: w.Version, Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL,
			Status: w.Status, Subscriptions: w.Subscriptions, RateLimit: w.RateLimit,
		},
	}
}

// change edits the webhook as it is stored now.
func (f *fixture) change(w webhook.Webhook, edit func(*webhook.WebhookChange)) webhook.Webhook {
	f.t.Helper()
	p := f.updateOf(f.read(w))
	edit(&p.Change)
	got, err := f.store.UpdateWebhook(f.ctx(), p)
	f.NoError(err)
	return got
}

func deactivate(c *webhook.WebhookChange) { c.Status = webhook.StatusInactive }
func activate(c *webhook.WebhookChange)   { c.Status = webhook.StatusActive }
func resume(c *webhook.WebhookChange)     { c.Status, c.Resume = webhook.StatusActive, true }

func subscribe(to ...webhook.Subscription) func(*webhook.WebhookChange) {
	return func(c *webhook.WebhookChange) { c.Subscriptions = to }
}

func (f *fixture) delete(w webhook.Webhook) {
	f.t.Helper()
	f.NoError(f.store.DeleteWebhook(f.ctx(), webhook.DeleteWebhookParams{Scope: scopeOf(w), ID: w.ID, Now: f.now}))
}

func scopeOf(w webhook.Webhook) webhook.Scope { return webhook.Scope{OrganizationID: w.OrganizationID} }

// Events.

func about(s webhook.Subject, parents ...webhook.Subject) func(*webhook.EventRecord) {
	return func(e *webhook.EventRecord) { e.Subject, e.Parents = s, parents }
}

func keyed(key string) func(*webhook.EventRecord) {
	return func(e *webhook.EventRecord) { e.IdempotencyKey = key }
}

func ofType(t webhook.EventType) func(*webhook.EventRecord) {
	return func(e *webhook.EventRecord) { e.Type = t }
}

// traceContext has all characters that a trace context may have, and is as long as one
// may be.
var traceContext = func() string {
	var b []byte
	for len(b) < webhook.MaxTraceContextBytes {
		b = append(b, byte(' '+len(b)%('~'-' '+1)))
	}
	return string(b)
}()

func asTest(e *webhook.EventRecord) { e.Test = true }

// event returns a message in the room, not stored yet.
func (f *fixture) event(edits ...func(*webhook.EventRecord)) webhook.EventRecord {
	id := f.ids.New(f.now)
	e := webhook.EventRecord{
		ID: id, OrganizationID: acme, Type: webhook.EventMessageSent, Subject: room, OccurredAt: f.now,
		Payload: fmt.Appendf(nil, `{"id":%q,"data":{"text":"hello"}}`, id),
	}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

func (f *fixture) events(n int, edits ...func(*webhook.EventRecord)) []webhook.EventRecord {
	es := make([]webhook.EventRecord, n)
	for i := range es {
		es[i] = f.event(edits...)
	}
	return es
}

// insert stores events at the present.
func (f *fixture) insert(p webhook.InsertParams) webhook.InsertResult {
	f.t.Helper()
	if p.Now.IsZero() {
		p.Now = f.now
	}
	got, err := f.store.InsertEvents(f.ctx(), p)
	f.NoError(err)
	f.Len(got.Events, len(p.Events), "InsertEvents has a result for each event")
	return got
}

// publish stores events in one call; none of them may fail.
func (f *fixture) publish(events ...webhook.EventRecord) []webhook.InsertedEvent {
	f.t.Helper()
	got := f.insert(webhook.InsertParams{Events: events}).Events
	for i, e := range got {
		f.NoError(e.Err, "InsertEvents, event %d", i)
	}
	return got
}

// wantedBy makes an event one that the webhook's first subscription asks for.
func wantedBy(w webhook.Webhook) func(*webhook.EventRecord) {
	return func(e *webhook.EventRecord) {
		e.OrganizationID, e.Subject, e.Type = w.OrganizationID, w.Subscriptions[0].Subject, w.Subscriptions[0].EventType
	}
}

// deliver publishes n events that the webhook is subscribed to, in one call,
// and returns its deliveries of them in the order of their creation.
func (f *fixture) deliver(w webhook.Webhook, n int, edits ...func(*webhook.EventRecord)) []webhook.Delivery {
	f.t.Helper()
	p := webhook.InsertParams{Events: f.events(n, append([]func(*webhook.EventRecord){wantedBy(w)}, edits...)...)}
	if p.Events[0].Test {
		p.Only = w.ID
	}
	ds := make([]webhook.Delivery, n)
	for i, e := range f.insert(p).Events {
		f.NoError(e.Err, "InsertEvents, event %d", i)
		ds[i] = f.deliveryOf(w, e.EventID)
	}
	return ds
}

func (f *fixture) deliverOne(w webhook.Webhook, edits ...func(*webhook.EventRecord)) webhook.Delivery {
	f.t.Helper()
	return f.deliver(w, 1, edits...)[0]
}

// Claims and outcomes.

// claim fills in what the test leaves open: the present, the usual lease, and a
// limit that is never reached.
func (f *fixture) claim(p webhook.ClaimParams) webhook.ClaimResult {
	f.t.Helper()
	if p.Now.IsZero() {
		p.Now = f.now
	}
	if p.LeaseFor == 0 {
		p.LeaseFor = lease
	}
	if p.Limit == 0 {
		p.Limit = 10_000
	}
	got, err := f.store.Claim(f.ctx(), p)
	f.NoError(err)
	return got
}

func (f *fixture) claimAll() []webhook.Claim {
	f.t.Helper()
	return f.claim(webhook.ClaimParams{}).Claims
}

func (f *fixture) claimOne() webhook.Claim {
	f.t.Helper()
	got := f.claimAll()
	f.Len(got, 1, "Claim, of the one delivery that is due")
	return got[0]
}

// nothingWaits checks that a claim finds nothing, neither now nor later.
func (f *fixture) nothingWaits() {
	f.t.Helper()
	got := f.claim(webhook.ClaimParams{})
	f.Empty(got.Claims, "Claim, of nothing")
	f.Zero(got.NextDue, "NextDue of Claim, where nothing waits")
}

// nextDue asks when it is worth claiming, and claims nothing.
func (f *fixture) nextDue() time.Time {
	f.t.Helper()
	got, err := f.store.Claim(f.ctx(), webhook.ClaimParams{Now: f.now, LeaseFor: lease}) // a limit of 0
	f.NoError(err)
	f.Empty(got.Claims, "Claim with a limit of 0")
	return got.NextDue
}

// claimOf claims the one delivery that is due.
func (f *fixture) claimOf(d webhook.Delivery) webhook.Claim {
	f.t.Helper()
	c := f.claimOne()
	f.Equal(d.ID, c.DeliveryID, "Claim, of the one delivery that is due")
	return c
}

// outcome is what the claim's attempt, begun now, leads to.
func (f *fixture) outcome(c webhook.Claim, state webhook.DeliveryState) webhook.FinishedAttempt {
	out := webhook.FinishedAttempt{
		Token: c.Token, State: state,
		Attempt: webhook.Attempt{
			DeliveryID: c.DeliveryID, EventID: c.EventID, WebhookID: c.WebhookID,
			OrganizationID: c.OrganizationID, EventType: c.EventType, Number: c.Attempt,
			StartedAt: f.now, Duration: took, EndpointURL: c.EndpointURL,
			Timing: webhook.Timing{
				DNS: time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond,
				FirstByte: 30 * time.Millisecond,
			},
		},
	}
	a := &out.Attempt
	if state == webhook.DeliverySucceeded {
		a.Outcome, a.StatusCode, a.Response = webhook.OutcomeSucceeded, 200, []byte("thanks")
		return out
	}
	a.Outcome, a.StatusCode, a.Response = webhook.OutcomeFailed, 503, []byte("busy")
	a.ErrorClass, a.Error = webhook.ErrorStatus, "503 Service Unavailable"
	a.RetryAfter, a.ResponseTruncated = 30*time.Second, true
	if state == webhook.DeliveryPending {
		out.DueAt = f.now.Add(took + wait)
	}
	return out
}

// report ends the attempts after the time that one takes.
func (f *fixture) report(outcomes ...webhook.FinishedAttempt) []error {
	f.t.Helper()
	f.pass(took)
	got, err := f.store.Finish(f.ctx(), webhook.FinishParams{Now: f.now, Outcomes: outcomes})
	f.NoError(err)
	f.Len(got.Errs, len(outcomes), "Finish has an error or nil for each outcome")
	return got.Errs
}

func (f *fixture) finish(state webhook.DeliveryState, claims ...webhook.Claim) {
	f.t.Helper()
	outcomes := make([]webhook.FinishedAttempt, len(claims))
	for i, c := range claims {
		outcomes[i] = f.outcome(c, state)
	}
	for i, err := range f.report(outcomes...) {
		f.NoError(err, "Finish, outcome %d", i)
	}
}

func (f *fixture) succeed(claims ...webhook.Claim) {
	f.t.Helper()
	f.finish(webhook.DeliverySucceeded, claims...)
}

func (f *fixture) fail(claims ...webhook.Claim) {
	f.t.Helper()
	f.finish(webhook.DeliveryPending, claims...)
}

// exhaust fails what were the last attempts.
func (f *fixture) exhaust(claims ...webhook.Claim) {
	f.t.Helper()
	f.finish(webhook.DeliveryFailed, claims...)
}

// schedule returns one with these waits.
func (f *fixture) schedule(delays ...time.Duration) webhook.Schedule {
	f.t.Helper()
	s, err := webhook.NewSchedule(delays...)
	f.NoError(err)
	return s
}

// settle settles everything whose lease has run out, and returns how many.
func (f *fixture) settle(s webhook.Schedule) int {
	f.t.Helper()
	settled := 0
	for range 1000 {
		got, err := f.store.Settle(f.ctx(), webhook.SettleParams{Now: f.now, Schedule: s, Limit: 100})
		f.NoError(err)
		settled += got.Settled
		if !got.More {
			return settled
		}
	}
	f.FailNow("Settle has said More 1000 times: it must stop once no lease that has run out is left")
	return 0
}

// sweep moves every row that a change of its webhook has left behind.
func (f *fixture) sweep() {
	f.t.Helper()
	for range 1000 {
		got, err := f.store.Sweep(f.ctx(), webhook.SweepParams{Now: f.now, Limit: 100})
		f.NoError(err)
		if !got.More {
			return
		}
	}
	f.FailNow("Sweep has said More 1000 times: it must stop once no row is left to move")
}

// beforeAndAfterSweep checks that what reads show is so at once, not only when
// the rows have followed.
func (f *fixture) beforeAndAfterSweep(check func()) {
	f.t.Helper()
	check()
	f.sweep()
	check()
}

func (f *fixture) cancel(d webhook.Delivery) error {
	return f.store.CancelDelivery(f.ctx(), webhook.CancelParams{Scope: scopeOfDelivery(d), DeliveryID: d.ID, Now: f.now})
}

func (f *fixture) redeliver(d webhook.Delivery) (webhook.Delivery, error) {
	return f.store.Redeliver(f.ctx(), webhook.RedeliverParams{Scope: scopeOfDelivery(d), DeliveryID: d.ID, Now: f.now})
}

func scopeOfDelivery(d webhook.Delivery) webhook.Scope {
	return webhook.Scope{OrganizationID: d.OrganizationID}
}

// purge goes on until nothing more is old enough, and returns the sums.
func (f *fixture) purge(p webhook.PurgeParams) webhook.PurgeResult {
	f.t.Helper()
	p.Now = f.now
	if p.Limit == 0 {
		p.Limit = 100
	}
	var sum webhook.PurgeResult
	for range 1000 {
		got, err := f.store.Purge(f.ctx(), p)
		f.NoError(err)
		for _, n := range []int{got.Payloads, got.Attempts, got.Deliveries, got.Events, got.HeldCancelled} {
			f.LessOrEqual(n, p.Limit, "Purge, within its limit")
		}
		sum.Payloads += got.Payloads
		sum.Attempts += got.Attempts
		sum.Deliveries += got.Deliveries
		sum.Events += got.Events
		sum.HeldCancelled += got.HeldCancelled
		if !got.More {
			return sum
		}
	}
	f.FailNow("Purge has said More 1000 times: it must stop once nothing is left that is old enough")
	return sum
}

// Notices.

func (f *fixture) claimNotices() []webhook.NoticeClaim {
	f.t.Helper()
	got, err := f.store.ClaimNotices(f.ctx(), webhook.ClaimNoticesParams{Now: f.now, LeaseFor: lease, Limit: 1000})
	f.NoError(err)
	return got.Claims
}

func (f *fixture) claimNotice() webhook.NoticeClaim {
	f.t.Helper()
	got := f.claimNotices()
	f.Len(got, 1, "ClaimNotices, of the one notice that is due")
	return got[0]
}

// noticeDue returns when ClaimNotices says to come again, without claiming.
func (f *fixture) noticeDue() time.Time {
	f.t.Helper()
	got, err := f.store.ClaimNotices(f.ctx(), webhook.ClaimNoticesParams{Now: f.now, LeaseFor: lease, Limit: 1000})
	f.NoError(err)
	f.Empty(got.Claims, "ClaimNotices, of nothing that is due")
	return got.NextDue
}

func (f *fixture) sent(c webhook.NoticeClaim) {
	f.t.Helper()
	f.NoError(f.store.FinishNotice(f.ctx(), webhook.FinishNoticeParams{
		Now: f.now, WebhookID: c.Notice.WebhookID, Token: c.Token, Sent: true,
	}))
}

func (f *fixture) retryNotice(c webhook.NoticeClaim, at time.Time) {
	f.t.Helper()
	f.NoError(f.store.FinishNotice(f.ctx(), webhook.FinishNoticeParams{
		Now: f.now, WebhookID: c.Notice.WebhookID, Token: c.Token, RetryAt: at,
	}))
}

// together runs fn n times at once. fn must not use the fixture's assertions;
// what it returns comes back in the order of i. If one of them panics, so does
// together, once all have ended.
func together[T any](n int, fn func(i int) T) []T {
	out := make([]T, n)
	start, panicked := make(chan struct{}), make(chan string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panicked <- fmt.Sprintf("%v\n%s", p, debug.Stack())
				}
			}()
			<-start
			out[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	select {
	case p := <-panicked:
		panic(p)
	default:
		return out
	}
}
