package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// scaleRun is what a number of dispatcher processes did together.
type scaleRun struct {
	deliveries int
	elapsed    time.Duration
	least      float64 // share of the process that had least, of an equal one
	deadlocks  int     // that the server counted
	about      string
}

func (r scaleRun) perSecond() float64 { return float64(r.deliveries) / r.elapsed.Seconds() }

// scale is the scenario: one, two, four, eight dispatcher processes on one database.
func (b *bench) scale(ctx context.Context) (*report, error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	processes := b.sizes.scaleProcesses
	rounds := make([][]scaleRun, b.sizes.rounds) // by round, then by number of processes
	for i := range rounds {
		for _, n := range processes {
			run, err := b.runScale(ctx, targets, n)
			if err != nil {
				return nil, fmt.Errorf("%d processes: %w", n, err)
			}
			b.log.Info("processes", "round", i+1, "number", n, "per_second", number(run.perSecond()), "least_share", number(run.least))
			rounds[i] = append(rounds[i], run)
		}
	}
	r := &report{columns: []string{"processes", "per second", "rounds", "of one", "least share", "deadlocks"}}
	r.note("%s; %d deliveries to %d webhooks; all processes start at once; the least share is of an equal one", b.title(), b.sizes.scaled, b.sizes.webhooks)
	r.note("store: %s", rounds[0][0].about)
	deadlocks := 0.0
	for c, n := range processes {
		rate := func(runs []scaleRun) float64 { return runs[c].perSecond() }
		of := medianOf(rounds, func(runs []scaleRun) float64 { return rate(runs) / runs[0].perSecond() })
		least := medianOf(rounds, func(runs []scaleRun) float64 { return runs[c].least })
		met := 0.0
		for _, runs := range rounds {
			met += float64(runs[c].deadlocks)
		}
		deadlocks += met
		r.row(fmt.Sprint(n), number(medianOf(rounds, rate)), each(rounds, rate), number(of), number(least), number(met))
		if c > 0 {
			r.ratio(fmt.Sprintf("scale_%d_of_1", n), of)
		}
		if c == len(processes)-1 {
			r.ratio("scale_least_share", least)
		}
	}
	r.ratio("scale_deadlocks", deadlocks)
	return r, nil
}

func (b *bench) runScale(ctx context.Context, targets []target, processes int) (run scaleRun, err error) {
	n := b.sizes.scaled
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := b.seed(ctx, db, targets, seed{n: n}); err != nil {
		return run, err
	}
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return run, err
	}
	before, err := deadlocks(ctx, db)
	if err != nil {
		return run, err
	}
	all, end, err := b.startDispatchers(ctx, db, processes)
	if err != nil {
		return run, err
	}
	began := time.Now()
	answers, err := askAll(all, dispatcherQuestion{Start: true})
	if err == nil {
		err = awaitCount(ctx, int64(n), func() (sum int64, err error) {
			answers, err = askAll(all, dispatcherQuestion{})
			for _, a := range answers {
				sum += a.Recorded
			}
			return sum, err
		})
	}
	if err := errors.Join(err, end()); err != nil {
		return run, err
	}
	after, err := deadlocks(ctx, db)
	if err != nil {
		return run, err
	}
	var counts []int64
	var last, lost int64
	for _, a := range answers {
		counts, last, lost = append(counts, a.Recorded), max(last, a.LastNS), lost+a.Lost
	}
	received, err := b.receiver.received()
	if err == nil && (lost > 0 || received != int64(n)) {
		err = fmt.Errorf("%w: of %d, the receiver got %d requests, and %d outcomes came too late", errMissing, n, received, lost)
	}
	run = scaleRun{
		deliveries: n, elapsed: time.Unix(0, last).Sub(began), about: db.about, deadlocks: after - before,
		least: float64(slices.Min(counts)) / (float64(n) / float64(processes)),
	}
	return run, errors.Join(err, checkStore(ctx, db.store, targets, n))
}

// deadlocks is how many the server has counted so far, as far as it says so.
func deadlocks(ctx context.Context, db *database) (int, error) {
	if db.deadlocks == nil {
		return 0, nil
	}
	return db.deadlocks(ctx)
}
