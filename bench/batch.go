package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/posthorn/webhook"
)

// batchEvents is how many events a call of PublishMany has.
const batchEvents = 100

// batchRun is how long storing events took.
type batchRun struct {
	events  int
	elapsed time.Duration
	calls   []time.Duration // sorted
	about   string
}

func (r batchRun) perSecond() float64 { return float64(r.events) / r.elapsed.Seconds() }

// batch is the scenario: events published a hundred a call, and not delivered.
func (b *bench) batch(ctx context.Context) (*report, error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	rounds := make([][]batchRun, b.sizes.rounds) // by round, then by number of callers
	for i := range rounds {
		for _, callers := range b.sizes.batchCallers {
			run, err := b.runBatch(ctx, targets, callers)
			if err != nil {
				return nil, fmt.Errorf("%d callers: %w", callers, err)
			}
			b.log.Info("batches", "round", i+1, "callers", callers, "per_second", number(run.perSecond()))
			rounds[i] = append(rounds[i], run)
		}
	}
	r := &report{columns: []string{"callers", "events/s", "rounds", "call p50 ms", "call p99 ms"}}
	r.note("%s; %d events to %d webhooks, PublishMany of %d, no dispatcher", b.title(), b.sizes.batched, b.sizes.webhooks, batchEvents)
	r.note("store: %s", rounds[0][0].about)
	best := 0.0
	for c, callers := range b.sizes.batchCallers {
		rate := func(runs []batchRun) float64 { return runs[c].perSecond() }
		call := func(p float64) string {
			return number(medianOf(rounds, func(runs []batchRun) float64 { return millis(percentile(runs[c].calls, p)) }))
		}
		best = max(best, medianOf(rounds, rate))
		r.row(fmt.Sprint(callers), number(medianOf(rounds, rate)), each(rounds, rate), call(0.5), call(0.99))
	}
	r.ratio("batch_per_second", best)
	return r, nil
}

func (b *bench) runBatch(ctx context.Context, targets []target, callers int) (run batchRun, err error) {
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	publisher, err := webhook.NewPublisher(db.store, webhook.PublisherConfig{})
	if err != nil {
		return run, err
	}
	calls := b.sizes.batched / batchEvents
	began := time.Now()
	run.calls, err = callAll(ctx, callers, calls, func(ctx context.Context, i int) error {
		now := time.Now()
		events := make([]webhook.Event, batchEvents)
		for j := range events {
			events[j] = timedEvent(&targets[(i*batchEvents+j)%len(targets)], now)
		}
		return publishTogether(ctx, publisher, events)
	})
	if err != nil {
		return run, err
	}
	run.elapsed, run.events, run.about = time.Since(began), calls*batchEvents, db.about
	return run, checkQueued(ctx, db, run.events)
}

// publishTogether publishes events by one call, each of which has to make one
// delivery.
func publishTogether(ctx context.Context, p *webhook.Publisher, events []webhook.Event) error {
	results, err := p.PublishMany(ctx, events)
	for _, r := range results {
		err = errors.Join(err, one(r.Published, r.Err))
	}
	return err
}

// checkQueued compares the number of deliveries that wait with what it should be.
func checkQueued(ctx context.Context, db *database, n int) error {
	if db.queued == nil {
		return nil
	}
	got, err := db.queued(ctx)
	if err == nil && got != n {
		err = fmt.Errorf("%w: of %d deliveries, %d are in the queue", errMissing, n, got)
	}
	return err
}
