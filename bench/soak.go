package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

// soakWindow is one line of the soak's table.
type soakWindow struct {
	received  int64
	latencies []time.Duration // sorted
	sizes     tableSizes
	purged    int
}

// tableSizes are what the store takes up.
type tableSizes struct {
	tables, indexes int64 // bytes
	queue           int   // rows
}

// purgeCounter adds up what retention has deleted.
type purgeCounter struct {
	webhook.NopTracer
	mu         sync.Mutex
	deliveries int
}

func (p *purgeCounter) Purged(_ context.Context, c webhook.PurgeCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deliveries += c.Result.Deliveries
}

func (p *purgeCounter) take() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.deliveries
	p.deliveries = 0
	return n
}

// soak is the scenario: publishing and delivering at half of what a drain does, for
// minutes, while retention deletes.
func (b *bench) soak(ctx context.Context) (r *report, err error) {
	rate := float64(b.rate)
	if b.rate == 0 {
		targets, err := b.targets(b.sizes.webhooks, promptPath)
		if err != nil {
			return nil, err
		}
		drained, err := b.runDrain(ctx, targets, false)
		if err != nil {
			return nil, err
		}
		rate = drained.perSecond() / 2
	}
	targets, err := b.targets(b.sizes.webhooks, timedPath)
	if err != nil {
		return nil, err
	}
	db, err := b.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if db.sizes == nil {
		return nil, errors.New("-scenario soak needs -store postgres")
	}
	if err := register(ctx, db.store, targets); err != nil {
		return nil, err
	}
	var purged purgeCounter
	s, err := b.startSender(ctx, db.store, &purged, webhook.Retention{
		Payloads: b.sizes.soakRetention, Attempts: b.sizes.soakRetention, Deliveries: b.sizes.soakRetention, Held: b.sizes.soakRetention,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	publisher, err := webhook.NewPublisher(db.store, webhook.PublisherConfig{Dispatcher: s.dispatcher})
	if err != nil {
		return nil, err
	}
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return nil, err
	}

	var p publishing
	ended := make(chan struct{})
	publishingCtx, stopPublishing := context.WithCancel(ctx)
	defer stopPublishing()
	go func() {
		defer close(ended)
		p.run(publishingCtx, publisher, targets, time.Now(), rate, b.sizes.soakFor)
	}()
	vacuumed := make(chan error, 1)
	go func() { vacuumed <- vacuumNowAndThen(publishingCtx, db) }()
	var windows []soakWindow
	for range int(b.sizes.soakFor / b.sizes.soakWindow) {
		if err := pause(ctx, b.sizes.soakWindow); err != nil {
			return nil, err
		}
		a, err := b.receiver.ask(question{Samples: true})
		if err != nil {
			return nil, err
		}
		if _, err := b.receiver.ask(question{Reset: true}); err != nil {
			return nil, err
		}
		w := soakWindow{received: a.Received, purged: purged.take()}
		for _, ns := range a.Latencies {
			w.latencies = append(w.latencies, time.Duration(ns))
		}
		slices.Sort(w.latencies)
		if w.sizes, err = db.sizes(ctx); err != nil {
			return nil, err
		}
		b.log.Info("soak", "received_per_second", int(float64(w.received)/b.sizes.soakWindow.Seconds()),
			"p99_ms", number(millis(percentile(w.latencies, 0.99))), "purged", w.purged, "mb", (w.sizes.tables+w.sizes.indexes)>>20, "queue", w.sizes.queue)
		windows = append(windows, w)
	}
	<-ended
	stopPublishing()
	if err := errors.Join(p.err, <-vacuumed); err != nil {
		return nil, err
	}

	r = &report{columns: []string{"after s", "received/s", "p50 ms", "p99 ms", "purged/s", "tables MB", "indexes MB", "queue rows"}}
	r.note("%s; %s deliveries/s to %d webhooks for %s, kept for %s; VACUUM every %s; %s",
		b.title(), number(rate), b.sizes.webhooks, b.sizes.soakFor, b.sizes.soakRetention, vacuumEvery, db.about)
	for i, w := range windows {
		seconds := b.sizes.soakWindow.Seconds()
		r.row(fmt.Sprint((i+1)*int(seconds)), number(float64(w.received)/seconds), number(millis(percentile(w.latencies, 0.5))),
			number(millis(percentile(w.latencies, 0.99))), number(float64(w.purged)/seconds),
			fmt.Sprint(w.sizes.tables>>20), fmt.Sprint(w.sizes.indexes>>20), fmt.Sprint(w.sizes.queue))
	}
	// Of the second half and the quarter before it: by then retention has caught up.
	half := windows[len(windows)/2:]
	before := windows[len(windows)/4 : len(windows)/2]
	ratioOf := func(name string, figure func(soakWindow) float64) {
		r.ratio(name, medianOf(half, figure)/medianOf(before, figure))
	}
	ratioOf("soak_rate_late_of_early", func(w soakWindow) float64 { return float64(w.received) })
	ratioOf("soak_p99_late_of_early", func(w soakWindow) float64 { return millis(percentile(w.latencies, 0.99)) })
	ratioOf("soak_tables_late_of_early", func(w soakWindow) float64 { return float64(w.sizes.tables) })
	ratioOf("soak_indexes_late_of_early", func(w soakWindow) float64 { return float64(w.sizes.indexes) })
	return r, nil
}

// vacuumEvery is how often the soak does what autovacuum does on a server that is
// not set up for tests.
const vacuumEvery = 10 * time.Second

func vacuumNowAndThen(ctx context.Context, db *database) error {
	for pause(ctx, vacuumEvery) == nil {
		if err := db.vacuum(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
