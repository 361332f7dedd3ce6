package main

import (
	"context"
	"errors"
	"time"

	"github.com/posthorn/webhook"
)

// flowRun is how long it took to publish and deliver.
type flowRun struct {
	drainRun
	calls []time.Duration // of publishing, sorted
}

// publishCall publishes the event with a number.
type publishCall func(ctx context.Context, p *webhook.Publisher, i int) error

// runFlow publishes n events by so many callers at once, while the dispatcher of the
// same process delivers them, and measures until the last one is on record.
func (b *bench) runFlow(ctx context.Context, targets []target, callers, n int, call func(*database) publishCall) (run flowRun, err error) {
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	publish := call(db)
	run.drainRun, err = b.deliver(ctx, db, targets, n, nil, func(d *webhook.Dispatcher) error {
		publisher, err := webhook.NewPublisher(db.store, webhook.PublisherConfig{Dispatcher: d})
		if err != nil {
			return err
		}
		run.calls, err = callAll(ctx, callers, n, func(ctx context.Context, i int) error { return publish(ctx, publisher, i) })
		return err
	})
	return run, err
}
