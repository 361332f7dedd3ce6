package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthorn/webhook"
)

// callAll is a closed loop: so many callers make one call after the other, until n
// have been made. It returns how long they took, sorted.
func callAll(ctx context.Context, callers, n int, call func(ctx context.Context, i int) error) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]time.Duration, n)
	var next atomic.Int64
	var loops sync.WaitGroup
	for range callers {
		loops.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				began := time.Now()
				if err := call(ctx, i); err != nil {
					cancel(err)
				}
				took[i] = time.Since(began)
			}
		})
	}
	loops.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	slices.Sort(took)
	return took, nil
}

// one is the error of a published event that did not make exactly one delivery.
func one(p webhook.Published, err error) error {
	if err == nil && p.Deliveries != 1 {
		err = fmt.Errorf("an event made %d deliveries", p.Deliveries)
	}
	return err
}

// publishing is an open loop: the next event does not wait for the one before.
type publishing struct {
	published atomic.Int64
	stopped   atomic.Bool // to end it early

	mu        sync.Mutex
	durations []time.Duration
	err       error // the first
}

// run publishes events for the targets in turn, at so many a second. Each tells
// the time at which it should have been published, so that a sender that falls
// behind cannot hide it.
func (p *publishing) run(ctx context.Context, publisher *webhook.Publisher, targets []target, began time.Time, rate float64, lasting time.Duration) {
	var calls sync.WaitGroup
	defer calls.Wait()
	for i := 0; ; i++ {
		offset := time.Duration(float64(i) / rate * float64(time.Second))
		if offset >= lasting || p.stopped.Load() || pause(ctx, time.Until(began.Add(offset))) != nil {
			return
		}
		calls.Go(func() { p.publish(ctx, publisher, &targets[i%len(targets)], began.Add(offset)) })
	}
}

func (p *publishing) publish(ctx context.Context, publisher *webhook.Publisher, t *target, due time.Time) {
	called := time.Now()
	err := one(publisher.Publish(ctx, timedEvent(t, due)))
	took := time.Since(called)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.err = cmp.Or(p.err, err)
		return
	}
	p.durations = append(p.durations, took)
	p.published.Add(1)
}

// steadyRun is how long events that were published at a steady rate were under
// way.
type steadyRun struct {
	hanging   int // webhooks beside them
	published int
	missing   int             // of them, not received until the end
	stuck     int64           // requests that hung
	latencies []time.Duration // sorted; missing ones count as the time waited for them
	publish   []time.Duration // sorted: how long Publish took
}

// p returns a percentile in milliseconds.
func (r steadyRun) p(share float64) float64 { return millis(percentile(r.latencies, share)) }

// publishP is the same of the calls of Publish.
func (r steadyRun) publishP(share float64) float64 { return millis(percentile(r.publish, share)) }

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// arrived waits for what was published, and a number of other requests, and
// returns how long it was under way.
func (b *bench) arrived(ctx context.Context, p *publishing, began time.Time, others int) (run steadyRun, err error) {
	run.published = int(p.published.Load())
	if err := b.receiver.await(ctx, int64(run.published+others), b.sizes.stragglers); err != nil {
		return run, err
	}
	waited := time.Since(began)
	a, err := b.receiver.ask(question{Samples: true})
	if err != nil {
		return run, err
	}
	run.stuck, run.missing = a.Hanging, max(0, run.published-len(a.Latencies))
	for _, ns := range a.Latencies {
		run.latencies = append(run.latencies, time.Duration(ns))
	}
	for range run.missing {
		run.latencies = append(run.latencies, waited)
	}
	slices.Sort(run.latencies)
	run.publish = p.durations
	slices.Sort(run.publish)
	return run, nil
}

// steady publishes events for the targets at a rate, and returns how long they were
// under way. The first second goes unmeasured: connections are made then.
func (b *bench) steady(ctx context.Context, publisher *webhook.Publisher, targets []target, rate float64, lasting time.Duration) (steadyRun, error) {
	for _, measured := range []bool{false, true} {
		if _, err := b.receiver.ask(question{Reset: true}); err != nil {
			return steadyRun{}, err
		}
		var p publishing
		began, span := time.Now(), min(lasting, time.Second)
		if measured {
			span = lasting
		}
		p.run(ctx, publisher, targets, began, rate, span)
		if err := errors.Join(ctx.Err(), p.err); err != nil {
			return steadyRun{}, err
		}
		run, err := b.arrived(ctx, &p, began, 0)
		if err == nil && (run.missing > 0 || len(run.latencies) > run.published) {
			err = fmt.Errorf("%w: of %d events, %d were received", errMissing, run.published, len(run.latencies)-run.missing)
		}
		if err != nil || measured {
			return run, err
		}
	}
	return steadyRun{}, nil
}
