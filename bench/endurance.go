package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/posthorn/webhook"
)

// enduranceWindow is one line of the table.
type enduranceWindow struct {
	received  int64
	latencies []time.Duration // sorted
	sizes     tableSizes
	purged    int64
}

// endurance is the scenario: publishing and delivering at half of what a drain does,
// for half an hour, while retention deletes.
func (b *bench) endurance(ctx context.Context) (r *report, err error) {
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
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	var t tally
	kept := b.sizes.enduranceRetention
	s, err := b.startSender(ctx, db.store, senderConfig{
		tracer: &t, kept: webhook.Retention{Payloads: kept, Attempts: kept, Deliveries: kept, Held: kept},
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
		p.run(publishingCtx, publisher, targets, time.Now(), rate, b.sizes.enduranceFor)
	}()
	vacuumed := make(chan error, 1)
	go func() { vacuumed <- vacuumNowAndThen(publishingCtx, db) }()
	var windows []enduranceWindow
	var received int64
	for range int(b.sizes.enduranceFor / b.sizes.enduranceWindow) {
		if err := pause(ctx, b.sizes.enduranceWindow); err != nil {
			return nil, err
		}
		a, err := b.receiver.ask(question{Samples: true, Reset: true})
		if err != nil {
			return nil, err
		}
		w := enduranceWindow{received: a.Received, purged: t.purged.Swap(0)}
		received += a.Received
		for _, ns := range a.Latencies {
			w.latencies = append(w.latencies, time.Duration(ns))
		}
		slices.Sort(w.latencies)
		if w.sizes, err = db.sizes(ctx); err != nil {
			return nil, err
		}
		b.log.Info("window", "received_per_second", int(float64(w.received)/b.sizes.enduranceWindow.Seconds()),
			"p99_ms", number(millis(percentile(w.latencies, 0.99))), "purged", w.purged, "mb", (w.sizes.tables+w.sizes.indexes)>>20, "queue", w.sizes.queue)
		windows = append(windows, w)
	}
	<-ended
	stopPublishing()
	if err := errors.Join(p.err, <-vacuumed); err != nil {
		return nil, err
	}
	if err := b.checkEndurance(ctx, db, targets, &t, p.published.Load(), received); err != nil {
		return nil, err
	}

	r = &report{columns: []string{"after s", "received/s", "p50 ms", "p99 ms", "purged/s", "tables MB", "indexes MB", "queue rows"}}
	r.note("%s; %s deliveries/s to %d webhooks for %s, kept for %s; VACUUM every %s; %s",
		b.title(), number(rate), b.sizes.webhooks, b.sizes.enduranceFor, b.sizes.enduranceRetention, vacuumEvery, db.about)
	for i, w := range windows {
		seconds := b.sizes.enduranceWindow.Seconds()
		r.row(fmt.Sprint((i+1)*int(seconds)), number(float64(w.received)/seconds), number(millis(percentile(w.latencies, 0.5))),
			number(millis(percentile(w.latencies, 0.99))), number(float64(w.purged)/seconds),
			fmt.Sprint(w.sizes.tables>>20), fmt.Sprint(w.sizes.indexes>>20), fmt.Sprint(w.sizes.queue))
	}
	// Of the second half and the quarter before it: by then retention has caught up.
	late, early := windows[len(windows)/2:], windows[len(windows)/4:len(windows)/2]
	drift := 0.0
	for _, d := range []struct {
		name   string
		figure func(enduranceWindow) float64
	}{
		{"rate", func(w enduranceWindow) float64 { return float64(w.received) }},
		{"p99", func(w enduranceWindow) float64 { return millis(percentile(w.latencies, 0.99)) }},
		{"tables", func(w enduranceWindow) float64 { return float64(w.sizes.tables) }},
		{"indexes", func(w enduranceWindow) float64 { return float64(w.sizes.indexes) }},
	} {
		of := medianOf(late, d.figure) / medianOf(early, d.figure)
		r.ratio("endurance_"+d.name+"_late_of_early", of)
		if d.name == "rate" { // of which less is worse
			of = 1 / of
		}
		if !math.IsNaN(of) { // where indexes are not counted apart
			drift = max(drift, of)
		}
	}
	r.ratio("endurance_drift", drift)
	return r, nil
}

// checkEndurance waits for what is still under way, and compares what was published
// with what was received, of which the windows have counted a part, and with the
// store's counters, which retention spares.
func (b *bench) checkEndurance(ctx context.Context, db *database, targets []target, t *tally, published, counted int64) error {
	if err := awaitCount(ctx, published, func() (int64, error) { return t.recorded.Load(), nil }); err != nil {
		return err
	}
	received, err := b.receiver.received()
	if err != nil {
		return err
	}
	sum, err := countAttempts(ctx, db.store, targets)
	if err != nil {
		return err
	}
	if received += counted; received != published || int64(sum.Succeeded) != published || sum.Failed+sum.Interrupted > 0 {
		return fmt.Errorf("%w: of %d events, the receiver got %d requests, the store counts %d that succeeded, %d that failed, %d that were interrupted",
			errMissing, published, received, sum.Succeeded, sum.Failed, sum.Interrupted)
	}
	return nil
}

// vacuumEvery is how often the scenario does what autovacuum does on a server that is
// not set up for tests.
const vacuumEvery = 10 * time.Second

func vacuumNowAndThen(ctx context.Context, db *database) error {
	if db.vacuum == nil {
		return nil
	}
	for pause(ctx, vacuumEvery) == nil {
		if err := db.vacuum(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
