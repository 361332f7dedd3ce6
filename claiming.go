package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	idlePoll      = time.Second            // between looks at a store that cannot wake
	listenedPoll  = time.Minute            // between looks at a store that does
	pausedPoll    = 100 * time.Millisecond // at least, between looks while dispatchers are paused
	busyPoll      = 5 * time.Millisecond   // between looks at a store that has work it does not give
	watchFor      = time.Second            // how long a commit is looked for
	claimLinger   = 5 * time.Millisecond   // at most, between claims while attempts end
	sweepInterval = time.Second            // between looks for rows that follow their webhook
	settleEvery   = time.Second / 10       // under load; else before each claim
)

// claimLoop is Run's: it keeps the slots filled with due work.
func (d *Dispatcher) claimLoop(ctx, flightCtx context.Context) {
	retry := storeBackOff()
	for ctx.Err() == nil {
		progress, next, err := d.cycle(ctx, flightCtx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			d.health.failed(d.clock, err)
			wait := retry.NextBackOff()
			d.log.Warn("webhook: the store failed; trying again", "error", err, "wait", wait)
			sleep(ctx, wait)
			continue
		}
		retry.Reset()
		d.noteNextDue(next)
		d.await(ctx, progress, next)
	}
}

// storeBackOff spaces the retries of calls that the store refused.
func storeBackOff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
}

// cycle settles, sweeps, claims and starts attempts. It reports whether it got
// anywhere, and when something falls due next.
func (d *Dispatcher) cycle(ctx, flightCtx context.Context) (progress bool, next time.Time, err error) {
	// What has ended here is recorded before it is taken for interrupted.
	if time.Now().After(d.nextSettle) && !d.ledger.late() {
		if err := d.settle(ctx); err != nil {
			return false, time.Time{}, err
		}
	}
	if time.Now().After(d.nextSweep) {
		if progress, err = d.sweep(ctx); err != nil {
			return false, time.Time{}, err
		}
		if progress { // more rows have to follow: at once
			next = storedTime(d.clock.Now())
		} else {
			d.nextSweep = time.Now().Add(sweepInterval)
		}
	}
	if d.ledger.full() {
		return progress, storedTime(d.clock.Now()), nil
	}
	claim := func(offer func() ClaimParams) (hitLimit bool, due time.Time, err error) {
		c, err := d.claim(ctx, flightCtx, offer)
		if err != nil {
			return false, time.Time{}, err
		}
		d.start(c.flights)
		progress = progress || len(c.flights) > 0
		return c.hitLimit, c.next, nil
	}
	hitLimit, due, err := claim(d.slots.offerFair)
	if err == nil && !hitLimit && d.slots.quotaReached() {
		// Nobody else is waiting for what the quotas left over.
		_, due, err = claim(d.slots.offerRest)
	}
	next = earliest(next, due)
	if err == nil && d.slots.anySlow() && !d.paused.Load() {
		_, due, err = claim(d.slots.offerSlow)
		next = earliest(next, due)
	}
	d.claimedAt = time.Now()
	d.nextSettle = time.Time{}
	if progress {
		d.nextSettle = time.Now().Add(settleEvery)
	}
	return progress, next, err
}

// settle deals with leases that ran out.
func (d *Dispatcher) settle(ctx context.Context) error {
	for more := true; more; {
		r, err := d.settleSome(ctx)
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

func (d *Dispatcher) settleSome(ctx context.Context) (SettleResult, error) {
	began := time.Now()
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := d.store.Settle(call, SettleParams{Now: storedTime(d.clock.Now()), Schedule: d.cfg.Schedule, Limit: batchLimit})
	d.tracer.Settled(ctx, SettleCall{Settled: r.Settled, Duration: time.Since(began), Err: err})
	return r, err
}

// sweep moves a batch of rows that follow their webhook.
func (d *Dispatcher) sweep(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := d.store.Sweep(ctx, SweepParams{Now: storedTime(d.clock.Now()), Limit: batchLimit})
	if err != nil {
		return false, fmt.Errorf("sweep: %w", err)
	}
	return r.More, nil
}

// claimed is what a claim has led to.
type claimed struct {
	flights  []*flight
	hitLimit bool // there may be more than the claim could take
	next     time.Time
}

// claim asks the store for what an offer allows and gives it slots.
func (d *Dispatcher) claim(ctx, flightCtx context.Context, offer func() ClaimParams) (claimed, error) {
	d.claimMu.Lock()
	defer d.claimMu.Unlock()
	// A claim that was broken off might leave deliveries leased by nobody, so a
	// shutdown gives it a moment to end.
	call, cancel := outlasting(ctx, farewell)
	defer cancel()
	p := offer()
	began := time.Now() // before the clock is read, so that the lease ends here first
	leaseEnd := began.Add(d.cfg.LeaseFor)
	registered := false
	defer func() {
		if !registered { // the store has panicked
			d.slots.register(flightCtx, nil, p, leaseEnd)
		}
	}()
	p.Now, p.LeaseFor = storedTime(d.clock.Now()), d.cfg.LeaseFor
	r, err := d.store.Claim(call, p)
	if err != nil {
		r = ClaimResult{}
	}
	flights := d.slots.register(flightCtx, r.Claims, p, leaseEnd)
	registered = true
	if err == nil {
		d.health.claimed(p.Now)
		d.notePaused(r.Paused)
	}
	d.tracer.Claimed(ctx, ClaimCall{Claims: len(r.Claims), NextDue: r.NextDue, Duration: time.Since(began), Err: err})
	if err != nil {
		return claimed{}, fmt.Errorf("claim: %w", err)
	}
	return claimed{flights, len(flights) >= p.Limit, earliest(r.NextDue, d.slots.nextUnblocked())}, nil
}

// peek asks when something falls due, and claims nothing.
func (d *Dispatcher) peek(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := d.store.Claim(ctx, ClaimParams{Now: storedTime(d.clock.Now()), LeaseFor: d.cfg.LeaseFor})
	return r.NextDue, err
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

// await returns when it is time for the next cycle.
func (d *Dispatcher) await(ctx context.Context, progress bool, next time.Time) {
	wait := idlePoll
	if d.paused.Load() {
		d.awaitPaused(ctx)
		return
	}
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
			d.linger(ctx)
			return
		case free:
			wait = busyPoll
		default:
			wait = idlePoll
		}
	}
	d.pace.Lock()
	if since := time.Since(d.pace.watched); since < watchFor {
		wait = min(wait, max(time.Millisecond, since)) // after 1, 2, 4 … ms
	}
	d.pace.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-d.woken:
	case <-d.freed:
		d.linger(ctx)
	}
}

// awaitPaused is await while dispatchers are paused: whoever resumes may be another
// process, and what is published meanwhile is no reason to ask at once.
func (d *Dispatcher) awaitPaused(ctx context.Context) {
	for _, step := range []struct {
		wait  time.Duration
		woken <-chan struct{}
	}{{pausedPoll, nil}, {idlePoll - pausedPoll, d.woken}} {
		timer := time.NewTimer(step.wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			continue
		case <-ctx.Done():
		case <-step.woken:
		case <-d.resumed:
		}
		return
	}
}

// linger lets slots come free, so that the store is asked for many deliveries at
// a time: until half of the attempts that were in flight after the last claim have
// ended, or that is a while ago.
func (d *Dispatcher) linger(ctx context.Context) {
	timer := time.NewTimer(claimLinger - time.Since(d.claimedAt))
	defer timer.Stop()
	defer d.slots.endLinger()
	for !d.slots.linger() {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-d.freed:
		}
	}
}

func sleep(ctx context.Context, wait time.Duration) {
	waitFor(ctx.Done(), wait)
}

// watch makes a running dispatcher look for what a transaction is about to
// commit, after 1, 2, 4 … ms for about a second.
func (d *Dispatcher) watch() {
	d.pace.Lock()
	d.pace.watched = time.Now()
	d.pace.Unlock()
	d.Wake()
}

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
		if d.heard.Swap(false) {
			retry.Reset()
		}
		if ctx.Err() != nil || errors.Is(err, errors.ErrUnsupported) {
			return
		}
		d.log.Warn("webhook: the store no longer wakes the dispatcher; asking it every second meanwhile", "error", err)
		sleep(ctx, retry.NextBackOff())
	}
}

// earliest returns the earlier of two times of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
