package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// The dispatcher's defaults; see [DispatcherConfig].
const (
	DefaultAttemptTimeout  = 15 * time.Second
	DefaultShutdownTimeout = 20 * time.Second
	DefaultNotifyTimeout   = 30 * time.Second
	DefaultUserAgent       = "posthorn-webhook/1"
)

const (
	leaseMargin  = 30 * time.Second // of the default lease, beyond the attempt's timeout
	batchLimit   = 500              // rows of one call to the store
	recordLimit  = 1000             // likewise, of outcomes
	storeTimeout = 30 * time.Second // of one call to the store
	farewell     = 5 * time.Second  // at shutdown, for what should have ended
)

// DispatcherConfig configures [NewDispatcher]. The zero value works.
type DispatcherConfig struct {
	// Logger receives one Info line for each attempt, Warn for what was
	// overcome, Error for what needs a person. Debug has the raw error of each
	// failed attempt, with addresses and URLs. Defaults to silence.
	Logger *slog.Logger

	// Notifier tells people about exhausted deliveries, and about webhooks that a
	// rule has made inactive. Defaults to none: notices wait in the store.
	Notifier Notifier

	// Tracer is told of what happens, for spans and metrics. Defaults to none.
	Tracer Tracer

	// HTTPDoer sends the requests. Defaults to NewHTTPClient for Slots; read
	// [HTTPDoer] before you set it. http.DefaultClient is refused.
	HTTPDoer HTTPDoer

	// Clock decides what is due. Defaults to the store's clock, or to the
	// system's if the store is no [ClockSource]. A clock that is moved by hand
	// goes with RunOnce; for Run, use testing/synctest and an HTTPDoer without
	// sockets.
	Clock Clock

	// Schedule is the waits between attempts. Defaults to DefaultSchedule.
	Schedule Schedule

	// AttemptTimeout bounds one attempt, from the look-up of the name to the
	// last byte that is kept of the answer. Defaults to 15 s; negative is an
	// error.
	AttemptTimeout time.Duration

	// LeaseFor is how long a claimed delivery is this dispatcher's own. No
	// attempt outlives it; one whose dispatcher dies goes on after it. Must
	// exceed AttemptTimeout by as much again, or by 1 s if that is less.
	// Defaults to AttemptTimeout + 30 s.
	LeaseFor time.Duration

	// Slots bounds the attempts in flight. Defaults to 1024; negative is an
	// error.
	Slots int

	// ShutdownTimeout is how long Run lets attempts in flight go on when its
	// context has ended. Defaults to 20 s; negative is an error.
	ShutdownTimeout time.Duration

	// NotifyTimeout bounds one call of the Notifier. Defaults to 30 s;
	// negative is an error.
	NotifyTimeout time.Duration

	// Retention is how long what is finished is kept. Defaults to 30 days for
	// everything.
	Retention Retention

	// DeactivateAfter makes a webhook inactive all of whose attempts have failed for
	// at least this long, since the last success or since it became active, with
	// failures in two hours of the last day at least; see [FailingRule]. Its people get
	// a notice, and its deliveries are held until they activate it again. A running
	// dispatcher looks every ten minutes, by the hourly counters. Must be at least
	// 24 h. Defaults to 0: no webhook is deactivated.
	DeactivateAfter time.Duration

	// DeactivateOnGone makes a webhook inactive, as DeactivateAfter does, once its
	// endpoint has answered 410 Gone. Defaults to false: that is a failure like any
	// other.
	DeactivateOnGone bool

	// HonorRetryAfter lets a failed answer's Retry-After header put the next attempt
	// off: to no earlier than the schedule says, and no more than twice its wait.
	// Defaults to false: the schedule is exact.
	HonorRetryAfter bool

	// UserAgent is sent with every request. Defaults to "posthorn-webhook/1".
	UserAgent string

	// SignatureHeader is the name of the header with the hex signature.
	// Defaults to X-Pivot-Signature.
	SignatureHeader string
}

// Dispatcher delivers: it settles leases that ran out, claims what is due,
// signs and sends it, and records what became of it. Any number of dispatchers
// may work on one store. It is safe for concurrent use.
type Dispatcher struct {
	store   DispatcherStore
	cfg     DispatcherConfig
	clock   Clock
	log     *slog.Logger
	tracer  Tracer
	slots   *slots
	ledger  *ledger
	routes  routes
	crew    *crew
	awaited awaited
	gone    goneList

	running atomic.Bool
	claimMu sync.Mutex // one claim at a time

	noticeMu sync.Mutex      // one notice at a time
	stuck    <-chan struct{} // closed when a call of the notifier that was given up returns

	woken   chan struct{} // there may be new work
	resumed chan struct{} // Resume has been called
	freed   chan struct{} // a slot is free that work was waiting for
	told    chan struct{} // there may be a notice
	heard   atomic.Bool   // the store tells of new work by itself

	paused atomic.Bool // as the store said last
	health storeHealth

	nextSweep, nextSettle, claimedAt time.Time // of Run's loop only
	pace                             struct {
		sync.Mutex
		nextDue time.Time
		watched time.Time // since when a commit is looked for
	}
}

// NewDispatcher returns a dispatcher on a store. It starts nothing: see
// [Dispatcher.Run].
func NewDispatcher(s DispatcherStore, cfg DispatcherConfig) (*Dispatcher, error) {
	if s == nil {
		return nil, errors.New("webhook: new dispatcher: the store is nil")
	}
	if cfg.HTTPDoer == http.DefaultClient {
		return nil, ValidationErrors{{"http_doer", "must not be http.DefaultClient, which follows redirects into the host's own network"}}
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	cfg.HTTPDoer = withoutDetour(cfg.HTTPDoer)
	d := &Dispatcher{
		store: s, cfg: cfg, clock: clockOr(cfg.Clock, nil, s), log: loggerOrSilent(cfg.Logger),
		tracer: tracerOrNop(cfg.Tracer, cfg.Logger),
		ledger: newLedger(), gone: goneList{of: map[uuid.UUID]DeactivateParams{}, added: make(chan struct{}, 1)},
		woken: make(chan struct{}, 1), resumed: make(chan struct{}, 1), freed: make(chan struct{}, 1), told: make(chan struct{}, 1),
	}
	d.slots = newSlots(cfg.Slots, d.clock)
	d.crew = newCrew(d.do)
	return d, nil
}

// complete checks the configuration and fills in the defaults.
func (cfg *DispatcherConfig) complete() error {
	var faults ValidationErrors
	duration := func(field string, v *time.Duration, byDefault time.Duration) {
		if *v < 0 {
			faults.add(field, "must not be negative")
		}
		if *v == 0 {
			*v = byDefault
		}
	}
	duration("attempt_timeout", &cfg.AttemptTimeout, DefaultAttemptTimeout)
	duration("lease_for", &cfg.LeaseFor, cfg.AttemptTimeout+leaseMargin)
	duration("shutdown_timeout", &cfg.ShutdownTimeout, DefaultShutdownTimeout)
	duration("notify_timeout", &cfg.NotifyTimeout, DefaultNotifyTimeout)
	if cfg.LeaseFor < cfg.AttemptTimeout+min(cfg.AttemptTimeout, time.Second) {
		faults.add("lease_for", "must exceed attempt_timeout by as much again, or by 1 s if that is less")
	}
	if cfg.DeactivateAfter != 0 && cfg.DeactivateAfter < minDeactivateAfter {
		faults.add("deactivate_after", "must be at least 24 h, or 0 for never")
	}
	cfg.Retention.complete()
	if cfg.Slots < 0 {
		faults.add("slots", "must not be negative")
	}
	if cfg.Slots == 0 {
		cfg.Slots = defaultSlots
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
	checkID(&faults, "user_agent", cfg.UserAgent, true)
	if cfg.SignatureHeader == "" {
		cfg.SignatureHeader = headerPivotSignature
	}
	header, reason := validateHeaderName(cfg.SignatureHeader)
	if reason != "" {
		faults.add("signature_header", reason)
	}
	cfg.SignatureHeader = header
	if err := faults.err(); err != nil {
		return err
	}
	if cfg.HTTPDoer == nil {
		client, err := NewHTTPClient(TransportConfig{Slots: cfg.Slots, Logger: cfg.Logger})
		if err != nil {
			return err
		}
		cfg.HTTPDoer = client
	}
	return nil
}

// errShutdown ends attempts that outlast the shutdown, errAborted those of a
// deleted webhook.
var (
	errShutdown = errors.New("the sender was shut down")
	errAborted  = errors.New("the webhook was deleted")
)

// Run delivers until ctx ends. Then it claims nothing more, gives attempts in
// flight ShutdownTimeout to end, interrupts the rest, records what became of
// them, and returns nil. Errors of the store are logged and retried; they do
// not end it. Calling Run while it runs is an error.
func (d *Dispatcher) Run(ctx context.Context) error {
	if !d.running.CompareAndSwap(false, true) {
		return errors.New("webhook: run: the dispatcher is running already")
	}
	defer d.running.Store(false)
	base, endFlights := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endFlights(nil)

	d.ledger.open()
	recording, endRecording := context.WithCancel(context.WithoutCancel(ctx))
	defer endRecording()
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		d.recordLoop(recording)
	}()
	helped := make(chan struct{})
	go func() {
		defer close(helped)
		var helpers sync.WaitGroup
		helpers.Go(func() { d.noticeLoop(ctx) })
		helpers.Go(func() { d.listenLoop(ctx) })
		helpers.Go(func() { d.retentionLoop(ctx) })
		helpers.Go(func() { d.deactivationLoop(ctx) })
		helpers.Wait()
	}()
	d.slots.open(base)

	d.claimLoop(ctx, base)

	drained := d.slots.close()
	if !waitFor(drained, d.cfg.ShutdownTimeout) {
		endFlights(errShutdown)
		if !waitFor(drained, farewell) {
			d.log.Error("webhook: attempts did not end at shutdown; their leases will run out")
		}
	}
	d.ledger.close()
	if !waitFor(recorded, farewell) {
		endRecording()
		<-recorded
	}
	if !waitFor(helped, farewell) {
		d.log.Error("webhook: the notifier did not end at shutdown")
	}
	return nil
}

// waitFor waits until a channel is closed, but no longer than the timeout.
func waitFor(done <-chan struct{}, timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// Wake makes a running dispatcher look for due deliveries now. It does not
// block, and does nothing if the dispatcher is not running.
func (d *Dispatcher) Wake() { signal(d.woken) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// NextDue returns when, as of the last look, something falls due: an attempt,
// the end of another dispatcher's lease, or, after RunOnce, a notice. It is zero
// if nothing waits. Tests step their clock by it.
func (d *Dispatcher) NextDue() time.Time {
	d.pace.Lock()
	defer d.pace.Unlock()
	return d.pace.nextDue
}

func (d *Dispatcher) noteNextDue(t time.Time) {
	d.pace.Lock()
	defer d.pace.Unlock()
	d.pace.nextDue = t
}

// RunOnce does one round and returns when it is done: it settles what ran out,
// claims once, makes all the claimed attempts, records them, deactivates the
// webhooks that are gone if it is to, and passes on due notices until one cannot be
// sent. It returns how many attempts were made. A webhook has up to 16 attempts in
// one round. What is done now and then, retention and DeactivateAfter, is Run's.
//
// If ctx ends during the attempts, they are interrupted and recorded. An error
// is the store's; leases of attempts that could not be recorded run out. While
// dispatchers are paused, see [Dispatcher.Pause], it makes none.
func (d *Dispatcher) RunOnce(ctx context.Context) (attempts int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("webhook: run once: %w", err)
		}
	}()
	if err := d.settle(ctx); err != nil {
		return 0, err
	}
	for more := true; more; {
		if more, err = d.sweep(ctx); err != nil {
			return 0, err
		}
	}
	c, err := d.claim(ctx, ctx, d.slots.offerAll)
	if err != nil {
		return 0, err
	}
	if attempts, err = d.flyAll(ctx, c.flights); err != nil {
		return attempts, err
	}
	if err := d.deactivateGone(ctx); err != nil {
		return attempts, err
	}
	notice, err := d.passOnNotices(ctx, true)
	if err != nil {
		return attempts, err
	}
	next := c.next
	if len(c.flights) > 0 { // their retries came after the claim had looked
		if next, err = d.peek(ctx); err != nil {
			return attempts, err
		}
	}
	d.noteNextDue(earliest(next, notice))
	return attempts, nil
}

// flyAll makes attempts side by side and records each as soon as it can.
func (d *Dispatcher) flyAll(ctx context.Context, flights []*flight) (attempts int, err error) {
	landed := make(chan landing, len(flights))
	d.launch(flights, func(l landing) { landed <- l })
	var batch []landing
	for range flights {
		l := <-landed
		if l.finished != nil {
			attempts++
		}
		batch = append(batch, l)
		if len(landed) > 0 {
			continue
		}
		// The context may have ended, which is no reason to forget what happened.
		if err = d.record(context.WithoutCancel(ctx), batch); err == nil {
			batch = nil
		}
	}
	return attempts, err
}

// start makes attempts of Run.
func (d *Dispatcher) start(flights []*flight) { d.launch(flights, d.ledger.add) }

// launch makes attempts, gives away what became of each and frees its slot, in
// this order, so that whoever waits for free slots finds all that was given.
func (d *Dispatcher) launch(flights []*flight, landed func(landing)) {
	for _, f := range flights {
		f.landed = landed
	}
	d.crew.give(flights)
}

func (d *Dispatcher) do(f *flight) {
	d.slots.begin(f)
	var l landing // of a flight that broke off: nothing, and the lease runs out
	defer func() {
		if p := recover(); p != nil {
			d.logPanic("Logger or Clock", p)
		}
		f.landed(l)
		d.land(f, l.verdict)
	}()
	l = d.fly(f)
}

// logPanic reports a panic, which may have been the logger's own.
func (d *Dispatcher) logPanic(callback string, p any) {
	defer func() { _ = recover() }()
	d.log.Error("webhook: a callback panicked", "callback", callback, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// land frees a flight's slot and says so to whoever may be waiting for it.
func (d *Dispatcher) land(f *flight, v verdict) {
	if d.slots.done(f, v) {
		signal(d.freed)
	}
}

// abort ends the attempts in flight of a deleted webhook.
func (d *Dispatcher) abort(webhookID uuid.UUID) { d.slots.abort(webhookID, errAborted) }

// handOff publishes for a [Publisher], taking deliveries into free slots as
// they are inserted.
func (d *Dispatcher) handOff(ctx context.Context, w EventWriter, p InsertParams, clock Clock) (InsertResult, error) {
	type key struct{ event, webhook uuid.UUID }
	taken := map[key]*flight{}
	refused := map[uuid.UUID]struct{}{}
	defer func() { // whatever becomes of the insert, a panic included
		for _, f := range taken {
			if f != nil {
				d.land(f, verdictNone)
			}
		}
	}()
	// Before the clock is read, so that the lease ends here first.
	leaseEnd := time.Now().Add(d.cfg.LeaseFor)
	p.Now = storedTime(clock.Now())
	if d.paused.Load() {
		r, err := w.InsertEvents(ctx, p)
		if !d.paused.Load() { // else notePaused wakes the loop
			d.Wake()
		}
		return r, err
	}
	p.Lease = &InsertLease{For: d.cfg.LeaseFor, Take: func(event, webhook uuid.UUID, organization string) bool {
		k := key{event, webhook}
		if taken[k] == nil {
			taken[k] = d.slots.take(webhook, organization, leaseEnd)
		}
		if taken[k] == nil {
			refused[webhook] = struct{}{}
		}
		return taken[k] != nil
	}}
	r, err := w.InsertEvents(ctx, p)
	if err != nil {
		return r, err
	}
	var flights []*flight
	for _, c := range r.Claims {
		k := key{c.EventID, c.WebhookID}
		if f := taken[k]; f != nil {
			f.claim = c
			d.slots.limit(f)
			flights = append(flights, f)
			delete(taken, k)
		}
	}
	d.start(flights)
	for id := range refused {
		if d.slots.keptBack(id) {
			d.Wake()
		}
	}
	return r, nil
}
