package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

// sweepRun is what became of a webhook's deliveries after a change of it.
type sweepRun struct {
	call    time.Duration
	rows    int
	swept   time.Duration
	publish []time.Duration // calls for others meanwhile, sorted
}

func (r sweepRun) perSecond() float64 { return float64(r.rows) / r.swept.Seconds() }

func (r sweepRun) stall() float64 { return millis(percentile(r.publish, 1)) }

// deletion is the scenario delete: a webhook with many pending deliveries is made
// inactive, active again, and deleted, while others are published for.
func (b *bench) deletion(ctx context.Context) (r *report, err error) {
	targets, err := b.targets(2, promptPath)
	if err != nil {
		return nil, err
	}
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := b.seed(ctx, db, targets[:1], seed{n: b.sizes.pending, wait: tomorrow}); err != nil {
		return nil, err
	}
	manager, err := webhook.NewManager(db.store, webhook.ManagerConfig{AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		return nil, err
	}
	victim := targets[0].webhook
	admin := webhook.Actor{ID: "bench", OrganizationID: victim.OrganizationID, Role: webhook.RoleAdmin}
	update := func(status webhook.Status) func() error {
		return func() error {
			w, err := manager.Webhook(ctx, admin, victim.ID)
			if err != nil {
				return err
			}
			_, err = manager.Update(ctx, admin, w.ID, webhook.WebhookChange{
				Version: w.Version, Name: w.Name, EndpointURL: w.EndpointURL, Subscriptions: w.Subscriptions, Status: status,
				Resume: status == webhook.StatusActive,
			})
			return err
		}
	}
	r = &report{columns: []string{"", "call ms", "rows", "rows/s", "publish p50 ms", "p99 ms", "longest ms"}}
	r.note("%s; a webhook with %d pending deliveries; events for another one published one after the other meanwhile; %s",
		b.title(), b.sizes.pending, db.about)
	for _, change := range []struct {
		about string
		do    func() error
	}{
		{"nothing", nil},
		{"made inactive", update(webhook.StatusInactive)},
		{"resumed", update(webhook.StatusActive)},
		{"deleted", func() error { return manager.Delete(ctx, admin, victim.ID) }},
	} {
		run, err := b.runSweep(ctx, db.store, &targets[1], change.do)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", change.about, err)
		}
		r.row(change.about, number(millis(run.call)), fmt.Sprint(run.rows), number(run.perSecond()),
			number(millis(percentile(run.publish, 0.5))), number(millis(percentile(run.publish, 0.99))), number(run.stall()))
		switch {
		case change.do == nil:
			r.ratio("publish_longest_alone_ms", run.stall())
			continue
		case run.rows > b.sizes.pending || run.rows < b.sizes.pending-sweepLimit: // the call may have begun with them
			return nil, fmt.Errorf("%w: %d of %d rows followed", errMissing, run.rows, b.sizes.pending)
		}
		name := map[string]string{"made inactive": "deactivate", "resumed": "resume", "deleted": "delete"}[change.about]
		r.ratio(name+"_call_ms", millis(run.call))
		r.ratio(name+"_publish_longest_ms", run.stall())
		r.ratio(name+"_rows_per_second", run.perSecond())
	}
	return r, nil
}

// runSweep makes a change and lets the rows follow as a dispatcher does, while
// somebody publishes for another webhook.
func (b *bench) runSweep(ctx context.Context, store webhook.Store, other *target, change func() error) (run sweepRun, err error) {
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	if err != nil {
		return run, err
	}
	publishing, stop := context.WithCancel(ctx)
	var calls sync.WaitGroup
	var publishErr error
	calls.Go(func() {
		for publishing.Err() == nil && publishErr == nil {
			began := time.Now()
			_, publishErr = publisher.Publish(ctx, timedEvent(other, began))
			run.publish = append(run.publish, time.Since(began))
		}
	})
	defer func() {
		stop()
		calls.Wait()
		slices.Sort(run.publish)
		err = errors.Join(err, publishErr)
	}()
	if change == nil {
		return run, pause(ctx, b.sizes.sweepFor)
	}
	began := time.Now()
	if err := change(); err != nil {
		return run, err
	}
	run.call = time.Since(began)
	began = time.Now()
	for more := true; more; {
		r, err := store.Sweep(ctx, webhook.SweepParams{Now: time.Now().UTC(), Limit: sweepLimit})
		if err != nil {
			return run, err
		}
		run.rows += r.Moved
		more = r.More
	}
	run.swept = time.Since(began)
	return run, nil
}

// sweepLimit is the dispatcher's.
const sweepLimit = 500
