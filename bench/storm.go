package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// stormRun is what it was like when all webhooks hung, and then were healthy again.
type stormRun struct {
	drain      drainRun // of as many healthy ones
	recovered  float64  // deliveries a second shortly after the storm
	received   int64    // within the time for recovering
	goroutines int      // at most
	memory     uint64   // bytes, likewise: of the heap and of stacks
	timeouts   int64
}

func (r stormRun) ofDrain() float64 { return r.recovered / r.drain.perSecond() }

// storm is the scenario: all webhooks hang at once, and then all are healthy.
func (b *bench) storm(ctx context.Context) (*report, error) {
	b.sizes.webhooks = b.sizes.stormWebhooks
	var rounds []stormRun
	for range b.sizes.stormRounds {
		run, err := b.runStorm(ctx)
		if err != nil {
			return nil, err
		}
		b.log.Info("storm", "drain_per_second", number(run.drain.perSecond()), "recovered_per_second", number(run.recovered),
			"goroutines", run.goroutines, "memory_mb", run.memory>>20, "timeouts", run.timeouts)
		rounds = append(rounds, run)
	}
	r := &report{columns: []string{"", "median", "rounds"}}
	r.note("%s; %d webhooks that hang for %s and then answer, what hung included; the rate is that of the last fifth of the first %s afterwards",
		b.title(), b.sizes.webhooks, b.sizes.stormFor, b.sizes.recoverWithin)
	r.note("store: %s", rounds[0].drain.about)
	row := func(name string, figure func(stormRun) float64) float64 {
		m := medianOf(rounds, figure)
		r.row(name, number(m), each(rounds, figure))
		return m
	}
	row("drain/s", func(r stormRun) float64 { return r.drain.perSecond() })
	row("recovered/s", func(r stormRun) float64 { return r.recovered })
	row(fmt.Sprintf("received within %s", b.sizes.recoverWithin), func(r stormRun) float64 { return float64(r.received) })
	row("timeouts", func(r stormRun) float64 { return float64(r.timeouts) })
	r.ratio("storm_recovery_of_drain", row("recovered of drain", stormRun.ofDrain))
	r.ratio("storm_goroutines", row("goroutines, at most", func(r stormRun) float64 { return float64(r.goroutines) }))
	r.ratio("storm_memory_mb", row("heap and stacks MB, at most", func(r stormRun) float64 { return float64(r.memory) / (1 << 20) }))
	return r, nil
}

func (b *bench) runStorm(ctx context.Context) (run stormRun, err error) {
	prompt, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return run, err
	}
	if run.drain, err = b.runDrain(ctx, prompt, false); err != nil {
		return run, err
	}
	targets, err := b.targets(b.sizes.webhooks, stormyPath)
	if err != nil {
		return run, err
	}
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	// As much as a drain would do in the time that is watched, and some more.
	n := max(b.sizes.deliveries, int(run.drain.perSecond()*b.sizes.recoverWithin.Seconds()*1.4))
	if err := b.seed(ctx, db, targets, seed{n: n}); err != nil {
		return run, err
	}
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return run, err
	}
	runtime.GC()
	var t tally
	s, err := b.startSender(ctx, db.store, senderConfig{tracer: &t})
	if err != nil {
		return run, err
	}
	err = b.watchStorm(ctx, &run)
	if err == nil { // each has been attempted, and those that timed out wait for their retries
		err = awaitCount(ctx, int64(n), func() (int64, error) { return t.succeeded.Load() + t.failed.Load(), nil })
	}
	run.timeouts = t.failed.Load()
	if err := errors.Join(err, s.stop()); err != nil {
		return run, err
	}
	return run, b.checkSoFar(ctx, db, targets, n)
}

// watchStorm lets the endpoints hang for a while, and then recover.
func (b *bench) watchStorm(ctx context.Context, run *stormRun) error {
	const look = 50 * time.Millisecond
	for end := time.Now().Add(b.sizes.stormFor); time.Now().Before(end); {
		run.look()
		if err := pause(ctx, look); err != nil {
			return err
		}
	}
	before, err := b.receiver.ask(question{Calm: true})
	if err != nil {
		return err
	}
	began, slice := time.Now(), b.sizes.recoverWithin/5
	var from int64
	for _, at := range []time.Duration{b.sizes.recoverWithin - slice, b.sizes.recoverWithin} {
		for end := began.Add(at); time.Now().Before(end); {
			run.look()
			if err := pause(ctx, min(look, time.Until(end))); err != nil {
				return err
			}
		}
		got, err := b.receiver.received()
		if err != nil {
			return err
		}
		from, run.received = run.received, got-before.Received
	}
	run.recovered = float64(run.received-from) / slice.Seconds()
	return nil
}

// look notes how much this process has at the moment.
func (r *stormRun) look() {
	r.goroutines = max(r.goroutines, runtime.NumGoroutine())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.memory = max(r.memory, m.HeapAlloc+m.StackInuse)
}
