package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// memoryRun is what one dispatcher process needed.
type memoryRun struct {
	perSecond float64
	peak      int64   // bytes of memory
	allocs    float64 // objects for each delivery
	cpu       time.Duration
}

// memory is the scenario: what a dispatcher process needs while it delivers from a
// long queue.
func (b *bench) memory(ctx context.Context) (r *report, err error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := b.seed(ctx, db, targets, seed{n: b.sizes.memoryPending}); err != nil {
		return nil, err
	}
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return nil, err
	}
	var rounds []memoryRun
	for range b.sizes.rounds {
		run, err := b.runMemory(ctx, db)
		if err != nil {
			return nil, err
		}
		b.log.Info("memory", "peak_mb", run.peak>>20, "allocs", number(run.allocs), "per_second", number(run.perSecond))
		rounds = append(rounds, run)
	}
	if err := b.checkSoFar(ctx, db, targets, b.sizes.memoryPending); err != nil {
		return nil, err
	}
	r = &report{columns: []string{"", "median", "rounds"}}
	r.note("%s; a dispatcher process, %s from a queue that had %d deliveries", b.title(), b.sizes.memoryFor, b.sizes.memoryPending)
	r.note("store: %s", db.about)
	row := func(name string, figure func(memoryRun) float64) float64 {
		m := medianOf(rounds, figure)
		r.row(name, number(m), each(rounds, figure))
		return m
	}
	row("deliveries/s", func(r memoryRun) float64 { return r.perSecond })
	row("CPU µs for each", func(r memoryRun) float64 { return float64(r.cpu.Nanoseconds()) / 1000 })
	r.ratio("memory_rss_mb", row("RSS MB, at most", func(r memoryRun) float64 { return float64(r.peak) / (1 << 20) }))
	r.ratio("allocs_per_delivery", row("allocations for each", func(r memoryRun) float64 { return r.allocs }))
	return r, nil
}

func (b *bench) runMemory(ctx context.Context, db *database) (run memoryRun, err error) {
	all, end, err := b.startDispatchers(ctx, db, 1)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, end()) }()
	d := all[0]
	if _, err := d.ask(dispatcherQuestion{Start: true}); err != nil {
		return run, err
	}
	if err := pause(ctx, b.sizes.warmUp); err != nil {
		return run, err
	}
	var before dispatcherAnswer
	err = awaitCount(ctx, 1, func() (int64, error) {
		before, err = d.ask(dispatcherQuestion{})
		return before.Recorded, err
	})
	if err != nil {
		return run, err
	}
	began := time.Now()
	if err := pause(ctx, b.sizes.memoryFor); err != nil {
		return run, err
	}
	elapsed := time.Since(began)
	after, err := d.ask(dispatcherQuestion{Stop: true})
	if err != nil {
		return run, err
	}
	n := after.Recorded - before.Recorded
	if n < 1 {
		return run, fmt.Errorf("%w: nothing was delivered in %s; there is too little in the queue", errMissing, elapsed)
	}
	return memoryRun{
		perSecond: float64(n) / elapsed.Seconds(), peak: after.PeakRSS,
		allocs: float64(after.Mallocs-before.Mallocs) / float64(n), cpu: (after.CPU - before.CPU) / time.Duration(n),
	}, nil
}
