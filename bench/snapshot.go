package main

import (
	"context"
	"errors"
	"fmt"
)

// snapshotRound is a drain as it is, and one under a held snapshot.
type snapshotRound struct{ free, held drainRun }

// snapshot is the scenario: a drain while a transaction elsewhere in the database
// stays open, which keeps the server from clearing away what was delivered.
func (b *bench) snapshot(ctx context.Context) (*report, error) {
	if b.store != storePostgres {
		return nil, errors.New("-scenario snapshot is there for -store postgres only")
	}
	b.sizes.deliveries = b.sizes.snapshot
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	var rounds []snapshotRound
	for range b.sizes.rounds {
		var r snapshotRound
		if r.free, err = b.runDrain(ctx, targets, false); err != nil {
			return nil, err
		}
		if r.held, err = b.runDrain(ctx, targets, true); err != nil {
			return nil, fmt.Errorf("under a snapshot: %w", err)
		}
		b.log.Info("round", "free_per_second", number(r.free.perSecond()), "held_per_second", number(r.held.perSecond()))
		rounds = append(rounds, r)
	}
	r := &report{columns: []string{"", "per second", "rounds", "sender µs", "database µs"}}
	r.note("%s; %d deliveries to %d webhooks", b.title(), b.sizes.deliveries, b.sizes.webhooks)
	r.note("store: %s", rounds[0].free.about)
	row := func(name string, run func(snapshotRound) drainRun) {
		rate := func(r snapshotRound) float64 { return run(r).perSecond() }
		r.row(name, number(medianOf(rounds, rate)), each(rounds, rate),
			number(medianOf(rounds, func(r snapshotRound) float64 { return run(r).perDelivery(run(r).cpu.sender) })),
			number(medianOf(rounds, func(r snapshotRound) float64 { return run(r).perDelivery(run(r).cpu.database) })))
	}
	row("as it is", func(r snapshotRound) drainRun { return r.free })
	row("under a snapshot", func(r snapshotRound) drainRun { return r.held })
	r.ratio("snapshot_of_drain", medianOf(rounds, func(r snapshotRound) float64 { return r.held.perSecond() / r.free.perSecond() }))
	return r, nil
}
