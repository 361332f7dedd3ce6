package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"
)

// The dispatcher's defaults; see [DispatcherConfig].
const (
	DefaultAttemptTimeout  = 15 * time.Second
	DefaultLease           = 30 * time.Second // beyond the attempt's timeout
	DefaultShutdownTimeout = 20 * time.Second
	DefaultNotifyTimeout   = 30 * time.Second
	DefaultUserAgent       = "posthorn-webhook/1"
)

const (
	idlePoll      = time.Second             // between looks at a store that cannot wake
	listenedPoll  = time.Minute             // between looks at a store that does
	watchFor      = 1023 * time.Millisecond // 1 + 2 + 4 … 512 ms: how long a commit is looked for
	claimLinger   = time.Millisecond        // to let more slots come free before claiming again
	sweepInterval = time.Second             // between looks for rows that follow their webhook
	batchLimit    = 500                     // rows of one call to the store
	storeTimeout  = 30 * time.Second        // of one call to the store
	farewell      = 5 * time.Second         // at shutdown, for what should have ended
	unsealedDelay = time.Minute             // before a delivery is tried whose secret did not open
)

// DispatcherConfig configures [NewDispatcher]. The zero value works.
type DispatcherConfig struct {
	// Logger receives one Info line for each attempt, Warn for what was
	// overcome, Error for what needs a person. Debug has the raw error of each
	// failed attempt, with addresses and URLs. Defaults to silence.
	Logger *slog.Logger

	// Notifier tells people about exhausted deliveries. Defaults to none:
	// their notices wait in the store.
	Notifier Notifier

	// Tracer is told of what happens, for spans and metrics. Defaults to none.
	Tracer Tracer

	// HTTPDoer sends the requests. Defaults to NewHTTPClient for Slots; read
	// [HTTPDoer] before you set it. http.DefaultClient is refused.
	HTTPDoer HTTPDoer

	// Clock decides what is due. Defaults to the system's clock. A clock that
	// is moved by hand goes with RunOnce; for Run, use testing/synctest and an
	// HTTPDoer without sockets.
	Clock Clock

	// Schedule is the waits between attempts. Defaults to DefaultSchedule.
	Schedule Schedule

	// AttemptTimeout bounds one attempt, from the look-up of the name to the
	// last byte that is kept of the answer. Defaults to 15 s; negative is an
	// error.
	AttemptTimeout time.Duration

	// LeaseFor is how long a claimed delivery is this dispatcher's own. No
	// attempt outlives it; one whose dispatcher dies goes on after it. Must
	// exceed AttemptTimeout. Defaults to AttemptTimeout + 30 s.
	LeaseFor time.Duration

	// Slots bounds the attempts in flight. Defaults to 256; negative is an
	// error.
	Slots int

	// ShutdownTimeout is how long Run lets attempts in flight go on when its
	// context has ended. Defaults to 20 s; negative is an error.
	ShutdownTimeout time.Duration

	// NotifyTimeout bounds one call of the Notifier. Defaults to 30 s;
	// negative is an error.
	NotifyTimeout time.Duration

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
	store  DispatcherStore
	cfg    DispatcherConfig
	clock  Clock
	log    *slog.Logger
	tracer Tracer
	slots  *slots
	ledger *ledger

	running atomic.Bool
	claimMu sync.Mutex // one claim at a time

	noticeMu sync.Mutex      // one notice at a time
	stuck    <-chan struct{} // closed when a call of the notifier that was given up returns

	woken chan struct{} // there may be new work
	freed chan struct{} // a slot is free that work was waiting for
	told  chan struct{} // there may be a notice
	heard atomic.Bool   // the store tells of new work by itself

	nextSweep time.Time // of Run's loop only
	pace      struct {
		sync.Mutex
		nextDue  time.Time
		watching time.Time     // until when commits are looked for
		step     time.Duration // and when next
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
	d := &Dispatcher{
		store: s, cfg: cfg, clock: clockOr(cfg.Clock, nil), log: loggerOrSilent(cfg.Logger),
		tracer: tracerOrNop(cfg.Tracer, cfg.Logger),
		slots:  newSlots(cfg.Slots), ledger: newLedger(),
		woken: make(chan struct{}, 1), freed: make(chan struct{}, 1), told: make(chan struct{}, 1),
	}
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
	duration("lease_for", &cfg.LeaseFor, cfg.AttemptTimeout+DefaultLease)
	duration("shutdown_timeout", &cfg.ShutdownTimeout, DefaultShutdownTimeout)
	duration("notify_timeout", &cfg.NotifyTimeout, DefaultNotifyTimeout)
	if cfg.LeaseFor <= cfg.AttemptTimeout {
		faults.add("lease_for", "must exceed attempt_timeout")
	}
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
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		d.recordLoop(context.WithoutCancel(ctx))
	}()
	helped := make(chan struct{})
	go func() {
		defer close(helped)
		var helpers sync.WaitGroup
		helpers.Go(func() { d.noticeLoop(ctx) })
		helpers.Go(func() { d.listenLoop(ctx) })
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
	<-recorded
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
func (d *Dispatcher) Wake() {
	signal(d.woken)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// NextDue returns when, as of the last look, something falls due: an attempt,
// the end of another dispatcher's lease, or a notice. It is zero if nothing
// waits. Tests step their clock by it.
func (d *Dispatcher) NextDue() time.Time {
	d.pace.Lock()
	defer d.pace.Unlock()
	return d.pace.nextDue
}

// RunOnce does one round and returns when it is done: it settles what ran out,
// claims once, makes all the claimed attempts, records them, and passes on due
// notices. It returns how many attempts were made. A webhook has up to 16
// attempts in one round.
//
// If ctx ends during the attempts, they are interrupted and recorded. An error
// is the store's; leases of attempts that could not be recorded run out.
func (d *Dispatcher) RunOnce(ctx context.Context) (int, error) {
	if err := d.settle(ctx); err != nil {
		return 0, fmt.Errorf("webhook: run once: %w", err)
	}
	for more := true; more; {
		var err error
		if more, err = d.sweep(ctx); err != nil {
			return 0, fmt.Errorf("webhook: run once: %w", err)
		}
	}
	flights, next, err := d.claim(ctx, ctx, d.slots.offerAll)
	if err != nil {
		return 0, fmt.Errorf("webhook: run once: %w", err)
	}
	attempts, err := d.flyAll(ctx, flights)
	if err != nil {
		return attempts, fmt.Errorf("webhook: run once: %w", err)
	}
	nextNotice, err := d.passOnNotices(ctx)
	if err != nil {
		return attempts, fmt.Errorf("webhook: run once: notices: %w", err)
	}
	if len(flights) > 0 { // their retries came after the claim had looked
		next, err = d.peek(ctx)
		if err != nil {
			return attempts, fmt.Errorf("webhook: run once: %w", err)
		}
	}
	d.noteNextDue(earliest(next, nextNotice))
	return attempts, nil
}

// peek asks when something falls due, and claims nothing.
func (d *Dispatcher) peek(ctx context.Context) (time.Time, error) {
	r, err := d.store.Claim(ctx, ClaimParams{Now: storedTime(d.clock.Now()), LeaseFor: d.cfg.LeaseFor})
	return r.NextDue, err
}

// flyAll makes attempts side by side and records each as soon as it can.
func (d *Dispatcher) flyAll(ctx context.Context, flights []*flight) (attempts int, err error) {
	landed := make(chan landing, len(flights))
	for _, f := range flights {
		go func() {
			l := d.fly(f)
			d.land(f, l.verdict)
			landed <- l
		}()
	}
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

// claimLoop is Run's: it keeps the slots filled with due work.
func (d *Dispatcher) claimLoop(ctx, flightCtx context.Context) {
	retry := storeBackOff()
	for ctx.Err() == nil {
		progress, next, err := d.cycle(ctx, flightCtx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			wait := retry.NextBackOff()
			d.log.Warn("webhook: the store failed; trying again", "error", err, "wait", wait)
			sleep(ctx, wait)
			continue
		}
		retry.Reset()
		d.await(ctx, progress, next)
	}
}

// storeBackOff spaces the retries of calls that the store refused.
func storeBackOff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
}

// cycle settles, claims and starts attempts. It reports whether it started any,
// and when something falls due next.
func (d *Dispatcher) cycle(ctx, flightCtx context.Context) (progress bool, next time.Time, err error) {
	if err := d.settle(ctx); err != nil {
		return false, time.Time{}, err
	}
	if time.Now().After(d.nextSweep) {
		more, err := d.sweep(ctx)
		if err != nil {
			return false, time.Time{}, err
		}
		if !more {
			d.nextSweep = time.Now().Add(sweepInterval)
		}
	}
	if d.ledger.full() {
		return false, storedTime(d.clock.Now()), nil
	}
	flights, next, err := d.claim(ctx, flightCtx, d.slots.offerFair)
	if err != nil {
		return false, time.Time{}, err
	}
	d.start(flights)
	progress = len(flights) > 0
	if d.slots.free() > 0 && d.slots.quotaReached() {
		// Nobody else is waiting for what the quotas left over.
		flights, next, err = d.claim(ctx, flightCtx, d.slots.offerRest)
		if err != nil {
			return progress, time.Time{}, err
		}
		d.start(flights)
		progress = progress || len(flights) > 0
	}
	d.noteNextDue(next)
	return progress, next, nil
}

// settle deals with leases that ran out.
func (d *Dispatcher) settle(ctx context.Context) error {
	for more := true; more; {
		began := time.Now()
		r, err := d.store.Settle(ctx, SettleParams{Now: storedTime(d.clock.Now()), Schedule: d.cfg.Schedule, Limit: batchLimit})
		d.tracer.Settled(ctx, SettleCall{Settled: r.Settled, Duration: time.Since(began), Err: err})
		if err != nil {
			return fmt.Errorf("settle: %w", err)
		}
		if r.Settled > 0 {
			d.log.Warn("webhook: attempts were interrupted", "attempts", r.Settled)
			signal(d.told)
		}
		more = r.More
	}
	return nil
}

// sweep moves a batch of rows that follow their webhook.
func (d *Dispatcher) sweep(ctx context.Context) (more bool, err error) {
	r, err := d.store.Sweep(ctx, SweepParams{Now: storedTime(d.clock.Now()), Limit: batchLimit})
	if err != nil {
		return false, fmt.Errorf("sweep: %w", err)
	}
	return r.More, nil
}

// claim asks the store for what an offer allows and gives it slots.
func (d *Dispatcher) claim(ctx, flightCtx context.Context, offer func() ClaimParams) ([]*flight, time.Time, error) {
	d.claimMu.Lock()
	defer d.claimMu.Unlock()
	// A claim that was broken off might leave deliveries leased by nobody, so a
	// shutdown gives it a moment to end.
	ctx, cancel := outlasting(ctx, farewell)
	defer cancel()
	p := offer()
	p.Now, p.LeaseFor = storedTime(d.clock.Now()), d.cfg.LeaseFor
	began := time.Now()
	r, err := d.store.Claim(ctx, p)
	d.tracer.Claimed(ctx, ClaimCall{Claims: len(r.Claims), NextDue: r.NextDue, Duration: time.Since(began), Err: err})
	leaseEnd := began.Add(p.LeaseFor) // counted from before the call: never too late
	flights := d.slots.register(flightCtx, r.Claims, p, leaseEnd)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("claim: %w", err)
	}
	return flights, r.NextDue, nil
}

// outlasting returns a context for one call to the store, which goes on for a
// while when ctx ends.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	stop := context.AfterFunc(ctx, func() {
		waitFor(out.Done(), by)
		cancel()
	})
	return out, func() {
		stop()
		cancel()
	}
}

// start makes attempts of Run.
func (d *Dispatcher) start(flights []*flight) {
	for _, f := range flights {
		d.slots.begin(f)
		go func() {
			l := d.fly(f)
			d.ledger.add(l) // first, so that whoever waits for free slots finds it there
			d.land(f, l.verdict)
		}()
	}
}

// await returns when it is time for the next cycle.
func (d *Dispatcher) await(ctx context.Context, progress bool, next time.Time) {
	wait := idlePoll
	if d.heard.Load() {
		wait = listenedPoll
	}
	if !next.IsZero() {
		wait = min(wait, next.Sub(d.clock.Now()))
	}
	if wait <= 0 {
		// Work is left. Either slots are what it waits for, or the next claim
		// finds it under the bounds as they are now.
		switch free := d.slots.free() > 0 && !d.ledger.full(); {
		case free && progress:
			return
		case free:
			wait = 5 * time.Millisecond
		default:
			wait = idlePoll
		}
	}
	d.pace.Lock()
	if now := time.Now(); now.Before(d.pace.watching) {
		wait = min(wait, d.pace.step)
		d.pace.step *= 2
	}
	d.pace.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-d.woken:
	case <-d.freed:
		sleep(ctx, claimLinger)
	}
}

func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// watch makes a running dispatcher look for what a transaction is about to
// commit, after 1, 2, 4 … ms for about a second.
func (d *Dispatcher) watch() {
	d.pace.Lock()
	d.pace.watching, d.pace.step = time.Now().Add(watchFor), time.Millisecond
	d.pace.Unlock()
	d.Wake()
}

// abort ends the attempts in flight of a deleted webhook.
func (d *Dispatcher) abort(webhookID uuid.UUID) { d.slots.abort(webhookID, errAborted) }

// listenLoop lets the store wake the dispatcher, if it offers to.
func (d *Dispatcher) listenLoop(ctx context.Context) {
	source, ok := d.store.(WakeSource)
	if !ok {
		return
	}
	retry := storeBackOff()
	for ctx.Err() == nil {
		err := source.Listen(ctx, func() {
			d.heard.Store(true)
			d.Wake()
			signal(d.told)
		})
		d.heard.Store(false)
		if ctx.Err() != nil {
			return
		}
		d.log.Warn("webhook: the store no longer wakes the dispatcher; asking it every second meanwhile", "error", err)
		sleep(ctx, retry.NextBackOff())
	}
}

// handOff publishes for a [Publisher], taking deliveries into free slots as
// they are inserted.
func (d *Dispatcher) handOff(ctx context.Context, w EventWriter, p InsertParams) (InsertResult, error) {
	type key struct{ event, webhook uuid.UUID }
	taken := map[key]*flight{}
	leaseEnd := time.Now().Add(d.cfg.LeaseFor)
	p.Lease = &InsertLease{For: d.cfg.LeaseFor, Take: func(event, webhook uuid.UUID, organization string) bool {
		k := key{event, webhook}
		if taken[k] == nil {
			taken[k] = d.slots.take(webhook, organization, leaseEnd)
		}
		return taken[k] != nil
	}}
	r, err := w.InsertEvents(ctx, p)
	var flights []*flight
	for _, c := range r.Claims {
		k := key{c.EventID, c.WebhookID}
		if f := taken[k]; f != nil {
			f.claim = c
			flights = append(flights, f)
			delete(taken, k)
		}
	}
	for _, f := range taken {
		if f != nil {
			d.land(f, verdictNone)
		}
	}
	d.start(flights)
	deliveries := 0
	for _, e := range r.Events {
		deliveries += e.Deliveries
	}
	if deliveries > len(flights) {
		d.Wake()
	}
	return r, err
}

// land frees a flight's slot and says so to whoever may be waiting for it.
func (d *Dispatcher) land(f *flight, v verdict) {
	if d.slots.done(f, v) {
		signal(d.freed)
	}
}

func (d *Dispatcher) noteNextDue(t time.Time) {
	d.pace.Lock()
	d.pace.nextDue = t
	d.pace.Unlock()
}

// earliest returns the earlier of two times of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
