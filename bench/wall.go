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

// wallSpan is the time within which all the retries fall due.
const wallSpan = time.Minute

// wallRun is what it was like when they did, or, without any, when they did not.
type wallRun struct {
	retries int
	elapsed time.Duration
	others  steadyRun
	about   string
}

func (r wallRun) perSecond() float64 { return float64(r.retries) / r.elapsed.Seconds() }

// wallRound is a drain, a quiet time, and a wall.
type wallRound struct {
	drain       drainRun
	quiet, wall wallRun
}

// wall is the scenario: an outage is over, and the retries of a minute are due at
// once, while others publish.
func (b *bench) wall(ctx context.Context) (*report, error) {
	b.sizes.deliveries = b.sizes.wallDrain
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	var rounds []wallRound
	for range b.sizes.rounds {
		var r wallRound
		if r.drain, err = b.runDrain(ctx, targets, false); err != nil {
			return nil, err
		}
		if r.quiet, err = b.runWall(ctx, targets, 0); err != nil {
			return nil, fmt.Errorf("quiet: %w", err)
		}
		if r.wall, err = b.runWall(ctx, targets, b.sizes.walled); err != nil {
			return nil, fmt.Errorf("wall: %w", err)
		}
		b.log.Info("round", "drain_per_second", number(r.drain.perSecond()), "wall_per_second", number(r.wall.perSecond()),
			"publish_p99_ms", number(r.wall.others.publishP(0.99)))
		rounds = append(rounds, r)
	}
	r := &report{columns: []string{"", "per second", "rounds", "others' publish p50 ms", "p99 ms", "publish → receipt p50 ms", "p99 ms"}}
	r.note("%s; %d retries of %d webhooks, due within %s before the dispatcher starts; others publish %d events/s to %d more meanwhile",
		b.title(), b.sizes.walled, b.sizes.webhooks, wallSpan, b.sizes.besideRate, b.sizes.healthy)
	r.note("store: %s", rounds[0].drain.about)
	drain := func(r wallRound) float64 { return r.drain.perSecond() }
	wall := func(r wallRound) float64 { return r.wall.perSecond() }
	row := func(name string, rate func(wallRound) float64, run func(wallRound) wallRun) {
		of := func(figure func(steadyRun) float64) string {
			return number(medianOf(rounds, func(r wallRound) float64 { return figure(run(r).others) }))
		}
		perSecond, all := "–", "–"
		if rate != nil {
			perSecond, all = number(medianOf(rounds, rate)), each(rounds, rate)
		}
		r.row(name, perSecond, all, of(func(s steadyRun) float64 { return s.publishP(0.5) }), of(func(s steadyRun) float64 { return s.publishP(0.99) }),
			of(func(s steadyRun) float64 { return s.p(0.5) }), of(func(s steadyRun) float64 { return s.p(0.99) }))
	}
	r.row(fmt.Sprintf("a drain of %d", b.sizes.deliveries), number(medianOf(rounds, drain)), each(rounds, drain), "–", "–", "–", "–")
	row("quiet", nil, func(r wallRound) wallRun { return r.quiet })
	row("the wall", wall, func(r wallRound) wallRun { return r.wall })
	r.ratio("wall_of_drain", medianOf(rounds, func(r wallRound) float64 { return wall(r) / drain(r) }))
	r.ratio("wall_publish_p99_of_quiet", medianOf(rounds, func(r wallRound) float64 {
		return r.wall.others.publishP(0.99) / r.quiet.others.publishP(0.99)
	}))
	r.ratio("wall_publish_p99_ms", medianOf(rounds, func(r wallRound) float64 { return r.wall.others.publishP(0.99) }))
	return r, nil
}

// runWall has a number of retries due, and others publish until they are delivered;
// if there are none, for a while.
func (b *bench) runWall(ctx context.Context, targets []target, retries int) (run wallRun, err error) {
	others, err := b.targets(b.sizes.healthy, timedPath)
	if err != nil {
		return run, err
	}
	db, err := b.openDatabase(ctx)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	all := slices.Concat(targets, others)
	if err := register(ctx, db.store, all); err != nil {
		return run, err
	}
	err = b.seed(ctx, db, targets, seed{n: retries, attempts: 1, wait: func(i int) time.Duration {
		return time.Duration(float64(wallSpan)*float64(i)/float64(retries)) - wallSpan
	}})
	if err != nil {
		return run, err
	}
	if db.vacuum != nil {
		if err := db.vacuum(ctx); err != nil {
			return run, err
		}
	}
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return run, err
	}
	runtime.GC()
	var t tally
	began := time.Now()
	s, err := b.startSender(ctx, db.store, senderConfig{tracer: &t})
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	publisher, err := webhook.NewPublisher(db.store, webhook.PublisherConfig{Dispatcher: s.dispatcher})
	if err != nil {
		return run, err
	}
	var p publishing
	var publishers sync.WaitGroup
	publishers.Go(func() { p.run(ctx, publisher, others, began, float64(b.sizes.besideRate), time.Hour) })
	if retries > 0 {
		err = awaitCount(ctx, int64(retries), func() (int64, error) { return t.retried.Load(), nil })
	} else {
		err = pause(ctx, b.sizes.quietFor)
	}
	run.retries, run.elapsed, run.about = retries, time.Since(began), db.about
	p.stopped.Store(true)
	publishers.Wait()
	if err := errors.Join(err, p.err); err != nil {
		return run, err
	}
	if run.others, err = b.arrived(ctx, &p, began, retries); err != nil {
		return run, err
	}
	n := retries + run.others.published
	if err := awaitCount(ctx, int64(n), func() (int64, error) { return t.recorded.Load(), nil }); err != nil {
		return run, err
	}
	got, err := b.receiver.received()
	if err == nil && got != int64(n) {
		err = fmt.Errorf("%w: of %d, the receiver got %d requests", errMissing, n, got)
	}
	return run, errors.Join(err, checkStore(ctx, db.store, all, n))
}
