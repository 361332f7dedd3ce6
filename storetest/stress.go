package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// StressConfig says how much [Stress] does. The zero value is useful.
type StressConfig struct {
	// Goroutines work at the same time. Defaults to 8.
	Goroutines int

	// Operations is how many they do together. Defaults to 2,000.
	Operations int

	// Seed fixes what each goroutine asks for, though not how the calls of
	// several meet. Defaults to 1.
	Seed uint64
}

// Stress lets goroutines do everything to one store at the same time, and keep a
// ledger of it. Then it drains the queue and audits: ledger, log, counters,
// notices and what reads show must tell the same story, one that the contract
// allows. For what does not fit it prints the seed and the history of the delivery.
//
// The time is a counter that the goroutines advance, so that calls arrive a little
// out of order, as those of hosts with different clocks do.
func Stress(t *testing.T, newStore func(t *testing.T) webhook.Store, cfg StressConfig) {
	t.Helper()
	cfg.Goroutines, cfg.Operations = cmp.Or(cfg.Goroutines, 8), cmp.Or(cfg.Operations, 2_000)
	s := &stress{t: t, store: newStore(t), seed: cmp.Or(cfg.Seed, 1)}
	f := newFixture(t, s.store)
	s.schedule, s.secret = f.schedule(10*time.Second, 30*time.Second), f.secret()
	workers := make([]*worker, cfg.Goroutines+1)
	for i := range workers {
		workers[i] = &worker{stress: s, f: newFixture(t, s.store), r: rand.New(rand.NewPCG(s.seed, uint64(i)))}
	}
	for _, organization := range []string{acme, acme, acme, umbrella, umbrella} {
		workers[cfg.Goroutines].create(organization)
	}
	s.left.Store(int64(cfg.Operations))
	together(cfg.Goroutines, func(i int) bool {
		for s.left.Add(-1) >= 0 {
			workers[i].operation()
		}
		return true
	})
	if !workers[cfg.Goroutines].drain() {
		return // the ledger has not come to an end either
	}
	for _, w := range workers { // what they have not reported by now is late
		for range len(w.hand) / 2 {
			w.finish()
		}
	}
	workers[cfg.Goroutines].drainNotices()
	newAudit(s, f).all()
}

// stress is what the goroutines share.
type stress struct {
	t        *testing.T
	store    webhook.Store
	seed     uint64
	schedule webhook.Schedule
	secret   webhook.Secret // of every webhook

	clock atomic.Int64 // seconds since noon
	order atomic.Int64 // of the beginnings and ends of calls
	left  atomic.Int64 // operations

	faults atomic.Int64

	mu       sync.Mutex
	webhooks []webhook.Webhook // not the deleted ones
	ledger   []*entry
}

// entry is a line of the ledger: a call, or one of the things it was about.
type entry struct {
	call     string
	from, to int64 // between which of all beginnings and ends it took place
	now      time.Time
	err      error

	webhook, delivery uuid.UUID
	version           int64                    // of the webhook after a change
	claim             webhook.Claim            // made, finished or released
	outcome           *webhook.FinishedAttempt // finished
	due               time.Time                // released
	event             webhook.EventRecord      // published
	state             webhook.DeliveryState    // read
	count             int                      // of the event's deliveries, of those recovered, of those a sent notice tells of
}

// held is a claim in a worker's hand.
type held struct {
	webhook.Claim
	at  time.Time
	out *webhook.FinishedAttempt // once reported
}

// worker is one goroutine.
type worker struct {
	*stress
	f       *fixture // makes records; its assertions are not for goroutines
	r       *rand.Rand
	hand    []held
	seen    []webhook.Delivery
	notices []webhook.NoticeClaim
}

// enough is how many of the things that do not fit are reported.
const enough = 5

// fail reports what does not fit; the first few things tell enough.
func (s *stress) fail(format string, args ...any) {
	if s.faults.Add(1) <= enough {
		s.t.Errorf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
	}
}

// call makes a call of the store, which may return some errors.
func call[T any](w *worker, name string, do func() (T, error), may ...error) (T, entry) {
	w.f.now = w.time(w.r.IntN(3))
	e := entry{call: name, now: w.f.now, from: w.order.Add(1)}
	got, err := do()
	e.to, e.err = w.order.Add(1), err
	if err != nil && !slices.ContainsFunc(may, func(target error) bool { return errors.Is(err, target) }) {
		w.fail("%s: %v", name, err)
	}
	return got, e
}

// time advances by some seconds.
func (s *stress) time(seconds int) time.Time {
	return noon.Add(time.Duration(s.clock.Add(int64(seconds))) * time.Second)
}

func (s *stress) note(e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger = append(s.ledger, &e)
}

func (w *worker) webhook() webhook.Webhook {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.webhooks[w.r.IntN(len(w.webhooks))]
}

func (w *worker) chance(oneIn int) bool { return w.r.IntN(oneIn) == 0 }

func (w *worker) operation() {
	switch n := w.r.IntN(200); {
	case n < 1:
		w.delete()
	case n < 46:
		w.claim(1 + w.r.IntN(6))
	case n < 106:
		w.finish()
	case n < 118:
		w.release()
	case n < 130:
		w.tidy()
	case n < 158:
		w.publish()
	case n < 168:
		w.change(w.webhook(), []func(*webhook.WebhookChange){deactivate, activate, resume, resume, outdate}[w.r.IntN(5)])
	case n < 173:
		w.cancel()
	case n < 177:
		w.redeliver()
	case n < 180:
		w.recover()
	case n < 188:
		w.tell()
	default:
		w.look()
	}
}

func (w *worker) create(organization string) {
	hook := w.f.newWebhook(in(organization), subscribed(messages))
	hook.EndpointURL = "https://archive.example/" + hook.ID.String()
	if err := w.store.CreateWebhook(w.f.ctx(), webhook.CreateWebhookParams{Webhook: hook, Secret: w.secret}); err != nil {
		w.fail("create: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.webhooks = append(w.webhooks, hook)
}

// delete puts a new webhook in the place of the deleted one.
func (w *worker) delete() {
	hook := w.webhook()
	_, e := call(w, "delete", func() (any, error) {
		return nil, w.store.DeleteWebhook(w.f.ctx(), webhook.DeleteWebhookParams{Scope: scopeOf(hook), ID: hook.ID, Now: w.f.now})
	}, webhook.ErrNotFound)
	e.webhook = hook.ID
	w.note(e)
	if e.err == nil {
		w.create(hook.OrganizationID)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.webhooks = where(w.webhooks, func(o webhook.Webhook) bool { return o.ID != hook.ID })
	}
}

func (w *worker) change(hook webhook.Webhook, edit func(*webhook.WebhookChange)) {
	current, e := call(w, "read webhook", func() (webhook.Webhook, error) {
		return w.store.Webhook(w.f.ctx(), scopeOf(hook), hook.ID)
	}, webhook.ErrNotFound)
	if e.err != nil {
		return
	}
	p := w.f.updateOf(current)
	edit(&p.Change)
	name := string(p.Change.Status)
	if p.Change.Resume {
		name = "resume"
	}
	_, e = call(w, name, func() (webhook.Webhook, error) {
		p.Now = w.f.now
		return w.store.UpdateWebhook(w.f.ctx(), p)
	}, webhook.ErrConflict, webhook.ErrNotFound)
	e.webhook, e.version = p.ID, p.Change.Version+1
	w.note(e)
}

// outdate makes a change that of an older version, which is to be refused.
func outdate(c *webhook.WebhookChange) { c.Version-- }

func (w *worker) publish() {
	hook := w.webhook()
	p := webhook.InsertParams{Events: w.f.events(1+w.r.IntN(2), wantedBy(hook))}
	if w.chance(8) {
		p.Only = hook.ID
	}
	for i := range p.Events {
		p.Events[i].Test = p.Only == hook.ID
		if w.chance(2) { // the same one as others at this time
			p.Events[i].IdempotencyKey = fmt.Sprint("key", w.clock.Load()/20)
		}
	}
	if w.chance(4) {
		p.Lease = &webhook.InsertLease{For: lease, Take: func(uuid.UUID, uuid.UUID, string) bool { return true }}
	}
	got, e := call(w, "publish", func() (webhook.InsertResult, error) {
		p.Now = w.f.now
		return w.store.InsertEvents(w.f.ctx(), p)
	})
	w.took(e, got.Claims)
	for i, event := range got.Events {
		e.event, e.count = p.Events[i], event.Deliveries
		e.event.ID = event.EventID // of a duplicate, the first one's
		if event.Err == nil {
			w.note(e)
		} else if !errors.Is(event.Err, webhook.ErrNotFound) {
			w.fail("publish: %v", event.Err)
		}
	}
}

func (w *worker) claim(limit int) webhook.ClaimResult {
	got, e := call(w, "claim", func() (webhook.ClaimResult, error) {
		return w.store.Claim(w.f.ctx(), webhook.ClaimParams{Now: w.f.now, LeaseFor: lease, Limit: limit})
	})
	w.took(e, got.Claims)
	return got
}

func (w *worker) took(e entry, claims []webhook.Claim) {
	e.call = "claim"
	for _, c := range claims {
		e.claim, e.delivery, e.webhook = c, c.DeliveryID, c.WebhookID
		w.note(e)
		w.hand = append(w.hand, held{Claim: c, at: e.now})
	}
}

// drop takes a claim out of the hand.
func (w *worker) drop() held {
	i := w.r.IntN(len(w.hand))
	h := w.hand[i]
	w.hand = slices.Delete(w.hand, i, i+1)
	return h
}

// finish reports some attempts, and now and then one of them again.
func (w *worker) finish() {
	var p webhook.FinishParams
	var claims []webhook.Claim
	for range min(len(w.hand), 1+w.r.IntN(6)) {
		h := w.drop()
		if h.out == nil {
			state, due := webhook.DeliverySucceeded, time.Time{}
			if w.chance(2) {
				state, due = w.schedule.After(h.Attempt, w.time(0), h.Test)
			}
			out := w.f.outcome(h.Claim, state)
			out.DueAt, out.Attempt.StartedAt, out.Attempt.Response = due, h.at, []byte(h.Token.String())
			h.out = &out
			if w.chance(10) {
				w.hand = append(w.hand, h)
			}
		}
		p.Outcomes, claims = append(p.Outcomes, *h.out), append(claims, h.Claim)
	}
	got, e := call(w, "finish", func() (webhook.FinishResult, error) {
		p.Now = w.f.now
		return w.store.Finish(w.f.ctx(), p)
	})
	for i, err := range got.Errs {
		e.claim, e.delivery, e.outcome, e.err = claims[i], claims[i].DeliveryID, &p.Outcomes[i], err
		w.note(e)
		if err != nil && !errors.Is(err, webhook.ErrLeaseLost) {
			w.fail("finish: %v", err)
		}
	}
}

func (w *worker) release() {
	if len(w.hand) == 0 {
		return
	}
	h := w.drop()
	r := webhook.ReleasedClaim{DeliveryID: h.DeliveryID, Token: h.Token}
	_, e := call(w, "release", func() (any, error) {
		r.NotBefore = w.f.now.Add(time.Duration(w.r.IntN(5)) * time.Second)
		got, err := w.store.Release(w.f.ctx(), webhook.ReleaseParams{Now: w.f.now, Claims: []webhook.ReleasedClaim{r}})
		return nil, cmp.Or(err, errors.Join(got.Errs...))
	}, webhook.ErrLeaseLost)
	e.claim, e.delivery, e.due = h.Claim, h.DeliveryID, r.NotBefore
	w.note(e)
	if w.chance(4) { // and reports it all the same
		w.hand = append(w.hand, h)
	}
}

// tidy settles, sweeps and purges payloads. It says whether something was left to
// settle or sweep.
func (w *worker) tidy() bool {
	settled, e := call(w, "settle", func() (webhook.SettleResult, error) {
		return w.store.Settle(w.f.ctx(), webhook.SettleParams{Now: w.f.now, Schedule: w.schedule, Limit: 1 + w.r.IntN(10)})
	})
	w.note(e)
	swept, _ := call(w, "sweep", func() (webhook.SweepResult, error) {
		return w.store.Sweep(w.f.ctx(), webhook.SweepParams{Now: w.f.now, Limit: 1 + w.r.IntN(10)})
	})
	call(w, "purge", func() (webhook.PurgeResult, error) {
		return w.store.Purge(w.f.ctx(), webhook.PurgeParams{
			Now: w.f.now, PayloadsBefore: w.f.now.Add(-5 * time.Minute), Limit: 1 + w.r.IntN(10),
		})
	})
	return settled.More || swept.More
}

// delivery is one that was seen or, half of the time, one in hand.
func (w *worker) delivery() (d webhook.Delivery, ok bool) {
	switch {
	case len(w.hand) > 0 && w.chance(2):
		h := w.hand[w.r.IntN(len(w.hand))]
		return webhook.Delivery{ID: h.DeliveryID, OrganizationID: h.OrganizationID}, true
	case len(w.seen) > 0:
		return w.seen[w.r.IntN(len(w.seen))], true
	}
	return d, false
}

func (w *worker) cancel() {
	if d, ok := w.delivery(); ok {
		_, e := call(w, "cancel", func() (any, error) { return nil, w.f.cancel(d) }, webhook.ErrConflict)
		e.delivery = d.ID
		w.note(e)
	}
}

func (w *worker) redeliver() {
	if d, ok := w.delivery(); ok {
		again, e := call(w, "redeliver", func() (webhook.Delivery, error) { return w.f.redeliver(d) }, webhook.ErrConflict)
		e.delivery = again.ID
		w.note(e)
	}
}

func (w *worker) recover() {
	p := w.f.recovery(w.webhook())
	got, e := call(w, "recover", func() (webhook.RecoverResult, error) {
		p.Now, p.Limit = w.f.now, 3
		return recoverAll(w.f, p)
	}, webhook.ErrConflict, webhook.ErrNotFound)
	e.webhook, e.count = p.WebhookID, got.Redelivered
	w.note(e)
}

// tell sends notices, some of them only the next time or never. It says whether
// others wait.
func (w *worker) tell() bool {
	got, _ := call(w, "claim notices", func() (webhook.ClaimNoticesResult, error) {
		return w.store.ClaimNotices(w.f.ctx(), webhook.ClaimNoticesParams{Now: w.f.now, LeaseFor: lease, Limit: 2})
	})
	for w.notices = append(w.notices, got.Claims...); len(w.notices) > 0 && !w.chance(3); w.notices = w.notices[1:] {
		n, sent := w.notices[0], !w.chance(3)
		_, e := call(w, "finish notice", func() (any, error) {
			return nil, w.store.FinishNotice(w.f.ctx(), webhook.FinishNoticeParams{
				Now: w.f.now, WebhookID: n.Notice.WebhookID, Token: n.Token, Sent: sent, RetryAt: w.f.now.Add(time.Second),
			})
		}, webhook.ErrLeaseLost)
		if sent && e.err == nil {
			e.call, e.webhook, e.count = "notice", n.Notice.WebhookID, n.Notice.Deliveries
			w.note(e)
		}
	}
	return !got.NextDue.IsZero()
}

// look reads.
func (w *worker) look() {
	hook := w.webhook()
	states := []webhook.DeliveryState{"", webhook.DeliveryPending, webhook.DeliveryHeld, webhook.DeliveryFailed, webhook.DeliverySucceeded}
	q := webhook.DeliveryQuery{State: states[w.r.IntN(len(states))], Limit: 1 + w.r.IntN(60)}
	page, e := call(w, "read", func() (webhook.Page[webhook.Delivery], error) {
		return w.store.Deliveries(w.f.ctx(), scopeOf(hook), q)
	})
	w.seen = page.Items
	for _, d := range page.Items {
		e.delivery, e.state = d.ID, d.State
		w.note(e)
	}
	call(w, "look", func() (any, error) {
		_, err1 := w.store.Attempts(w.f.ctx(), scopeOf(hook), webhook.AttemptQuery{WebhookID: hook.ID})
		_, err2 := w.store.Counters(w.f.ctx(), scopeOf(hook), webhook.CounterQuery{WebhookID: hook.ID})
		_, err3 := w.store.Webhooks(w.f.ctx(), scopeOf(hook), webhook.WebhookQuery{})
		_, err4 := w.store.Leased(w.f.ctx(), scopeOf(hook), hook.ID, w.f.now)
		return nil, cmp.Or(err1, err2, err3, err4)
	}, webhook.ErrNotFound)
	foreign := webhook.Scope{OrganizationID: map[string]string{acme: umbrella, umbrella: acme}[hook.OrganizationID]}
	if len(w.seen) > 0 {
		d := w.seen[0]
		if _, err := w.store.Delivery(w.f.ctx(), foreign, d.ID); d.OrganizationID != hook.OrganizationID || !errors.Is(err, webhook.ErrNotFound) {
			w.fail("%s of %s is in a list of %s; %s gets %v", d.ID, d.OrganizationID, hook.OrganizationID, foreign, err)
		}
	}
}

// drain resumes every webhook and goes on until nothing waits. It says whether
// that came about.
func (w *worker) drain() bool {
	for _, hook := range w.webhooks {
		w.change(hook, resume)
	}
	for range 1000 {
		w.time(60)
		rows := 1000 + len(w.ledger) // more than there can be, and a round may do a single one
		for rounds := 0; w.tidy(); rounds++ {
			if rounds > rows {
				w.fail("Settle or Sweep has said More %d times on end: they must stop once nothing is left to settle or move", rounds)
				return false
			}
		}
		got := w.claim(100)
		for len(w.hand) > 0 {
			w.finish()
		}
		if len(got.Claims) == 0 && got.NextDue.IsZero() {
			return true
		}
	}
	w.fail("the queue does not come to an end: with every webhook active, each attempt reported and more and more time gone by, " +
		"Claim must at last return nothing and a zero NextDue")
	return false
}

func (w *worker) drainNotices() {
	for range 1000 {
		w.time(int(webhook.NoticeInterval.Seconds()))
		w.notices = nil // their leases have run out
		if !w.tell() {
			return
		}
	}
	w.fail("the notices do not come to an end: once each has been sent, ClaimNotices must return a zero NextDue")
}
