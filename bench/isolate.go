package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

// isolate is the scenario: what endpoints that hang do to the others.
func (b *bench) isolate(ctx context.Context) (*report, error) {
	var about string
	var bursts []float64
	for range b.sizes.isolateRounds {
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
	if s.sender, err = b.startSender(ctx, s.db.store, senderConfig{}); err != nil {
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
	run, err = b.arrived(ctx, &healthyPart, began, 0)
	run.hanging = hanging
	return run, err
}
