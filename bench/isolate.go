package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthorn/webhook"
)

// steadyRun is how long events for healthy webhooks were under way while others
// hung.
type steadyRun struct {
	hanging   int
	published int             // for healthy ones
	missing   int             // of them, not received until the end
	stuck     int64           // requests that hung
	latencies []time.Duration // sorted; missing ones count as the time waited for them
	publish   []time.Duration // sorted: how long Publish took
}

// p returns a percentile in milliseconds.
func (r steadyRun) p(share float64) float64 { return millis(percentile(r.latencies, share)) }

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// isolate is the scenario: what endpoints that hang do to the others.
func (b *bench) isolate(ctx context.Context) (*report, error) {
	var about string
	var bursts []float64
	for range b.sizes.rounds {
		seconds, err := b.runBurst(ctx, &about)
		if err != nil {
			return nil, fmt.Errorf("one-shot: %w", err)
		}
		b.log.Info("one-shot", "seconds", number(seconds))
		bursts = append(bursts, seconds)
	}
	cases := append([]int{0}, b.sizes.hanging...)
	rounds := make([][]steadyRun, b.sizes.isolateRounds) // by round, then by case
	for i := range rounds {
		for _, hanging := range cases {
			run, err := b.runSteady(ctx, hanging)
			if err != nil {
				return nil, fmt.Errorf("%d hanging: %w", hanging, err)
			}
			b.log.Info("steady", "round", i+1, "hanging", hanging, "p50_ms", number(run.p(0.5)), "p99_ms", number(run.p(0.99)), "missing", run.missing)
			rounds[i] = append(rounds[i], run)
		}
	}
	r := &report{columns: []string{"hanging", "published", "missing", "stuck", "publish p50 ms", "publish p99 ms", "p50 ms", "p99 ms", "max ms", "p99 of baseline"}}
	r.note("%s; %d healthy webhooks at %d events/s together, %d organizations, %s each; publish → receipt",
		b.title(), b.sizes.healthy, b.sizes.perSecond, b.organizations, b.sizes.isolateFor)
	r.note("store: %s", about)
	r.note("one-shot: %d events for a webhook that hangs and %d for healthy ones, published together; the last of these received after %s s",
		b.sizes.burst, b.sizes.burst, numbers(bursts))
	worst := 0.0
	for c, hanging := range cases {
		of := func(figure func(steadyRun) float64) float64 {
			return medianOf(rounds, func(runs []steadyRun) float64 { return figure(runs[c]) })
		}
		ofBaseline := medianOf(rounds, func(runs []steadyRun) float64 { return runs[c].p(0.99) / runs[0].p(0.99) })
		if hanging > 0 {
			worst = max(worst, ofBaseline)
		}
		r.row(fmt.Sprint(hanging),
			number(of(func(s steadyRun) float64 { return float64(s.published) })),
			number(of(func(s steadyRun) float64 { return float64(s.missing) })),
			number(of(func(s steadyRun) float64 { return float64(s.stuck) })),
			number(of(func(s steadyRun) float64 { return millis(percentile(s.publish, 0.5)) })),
			number(of(func(s steadyRun) float64 { return millis(percentile(s.publish, 0.99)) })),
			number(of(func(s steadyRun) float64 { return s.p(0.5) })),
			number(of(func(s steadyRun) float64 { return s.p(0.99) })),
			number(of(func(s steadyRun) float64 { return s.p(1) })),
			number(ofBaseline))
	}
	r.ratio("isolate_oneshot_seconds", median(bursts))
	r.ratio("isolate_baseline_p99_ms", medianOf(rounds, func(runs []steadyRun) float64 { return runs[0].p(0.99) }))
	r.ratio("isolate_p99_of_baseline", worst)
	return r, nil
}

// stage is what a case of the scenario runs on, all of it new: nothing is known
// of any webhook.
type stage struct {
	db        *database
	sender    *sender
	publisher *webhook.Publisher
	healthy   []target
	hanging   []target
}

func (b *bench) newStage(ctx context.Context, hanging int) (_ *stage, err error) {
	s := &stage{}
	if s.healthy, err = b.targets(b.sizes.healthy, timedPath); err != nil {
		return nil, err
	}
	if s.hanging, err = b.targets(hanging, hangingPath); err != nil {
		return nil, err
	}
	if s.db, err = b.openDatabase(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := register(ctx, s.db.store, slices.Concat(s.healthy, s.hanging)); err != nil {
		return nil, err
	}
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return nil, err
	}
	runtime.GC()
	if s.sender, err = b.startSender(ctx, s.db.store, nil, webhook.Retention{}); err != nil {
		return nil, err
	}
	s.publisher, err = webhook.NewPublisher(s.db.store, webhook.PublisherConfig{Dispatcher: s.sender.dispatcher})
	return s, err
}

func (s *stage) close() error {
	var err error
	if s.sender != nil {
		err = s.sender.stop()
	}
	return errors.Join(err, s.db.close())
}

// runBurst publishes a heap of events for a webhook that hangs, and behind them
// in the same call as many for healthy ones. It returns after how many seconds
// the last of these was received.
func (b *bench) runBurst(ctx context.Context, about *string) (seconds float64, err error) {
	s, err := b.newStage(ctx, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	*about = s.db.about
	began := time.Now()
	var events []webhook.Event
	for range b.sizes.burst {
		events = append(events, timedEvent(&s.hanging[0], began))
	}
	for i := range b.sizes.burst {
		events = append(events, timedEvent(&s.healthy[i%len(s.healthy)], began))
	}
	results, err := s.publisher.PublishMany(ctx, events)
	if err != nil {
		return 0, err
	}
	for _, r := range results {
		if r.Err != nil {
			return 0, r.Err
		}
	}
	want := int64(b.sizes.burst)
	if err := b.receiver.await(ctx, want, 2*time.Minute); err != nil {
		return 0, err
	}
	a, err := b.receiver.ask(question{})
	if err != nil {
		return 0, err
	}
	if a.Received < want {
		return 0, fmt.Errorf("%w: the receiver got %d of %d", errMissing, a.Received, want)
	}
	return time.Unix(0, a.LastNS).Sub(began).Seconds(), nil
}

// runSteady publishes events for healthy webhooks at a steady rate, whether or
// not the ones before have been published, and for each webhook that hangs as
// many as for a healthy one.
func (b *bench) runSteady(ctx context.Context, hanging int) (run steadyRun, err error) {
	s, err := b.newStage(ctx, hanging)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	rate := float64(b.sizes.perSecond)
	hangingRate := rate * float64(hanging) / float64(b.sizes.healthy)
	began := time.Now()
	var healthyPart, hangingPart publishing
	var parts sync.WaitGroup
	parts.Go(func() { healthyPart.run(ctx, s.publisher, s.healthy, began, rate, b.sizes.isolateFor) })
	if hanging > 0 {
		parts.Go(func() { hangingPart.run(ctx, s.publisher, s.hanging, began, hangingRate, b.sizes.isolateFor) })
	}
	parts.Wait()
	if err := errors.Join(ctx.Err(), healthyPart.err, hangingPart.err); err != nil {
		return run, err
	}
	run.hanging, run.published = hanging, int(healthyPart.published.Load())
	if err := b.receiver.await(ctx, int64(run.published), b.sizes.stragglers); err != nil {
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
	run.publish = healthyPart.durations
	slices.Sort(run.publish)
	return run, nil
}

// publishing is an open loop: the next event does not wait for the one before.
type publishing struct {
	published atomic.Int64

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
		if offset >= lasting || pause(ctx, time.Until(began.Add(offset))) != nil {
			return
		}
		calls.Go(func() { p.publish(ctx, publisher, &targets[i%len(targets)], began.Add(offset)) })
	}
}

func (p *publishing) publish(ctx context.Context, publisher *webhook.Publisher, t *target, due time.Time) {
	called := time.Now()
	published, err := publisher.Publish(ctx, timedEvent(t, due))
	took := time.Since(called)
	if err == nil && published.Deliveries != 1 {
		err = fmt.Errorf("an event made %d deliveries", published.Deliveries)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.err = cmp.Or(p.err, err)
		return
	}
	p.durations = append(p.durations, took)
	p.published.Add(1)
}
