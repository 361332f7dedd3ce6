package main

import (
	"context"
	"fmt"
	"time"

	"github.com/posthorn/webhook"
)

// pipeRound is one run of each.
type pipeRound struct{ ours, peer flowRun }

// pipe is the scenario: one transaction of the host for each event, delivered at
// once, beside a job queue that does the same.
func (b *bench) pipe(ctx context.Context) (*report, error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	river := func(d *riverDatabase, s riverSettings, n int) (flowRun, error) {
		return b.workOff(ctx, d, targets, s, n, b.sizes.pipeCallers)
	}
	var settings riverSettings
	if b.peer == peerRiver {
		if settings, err = b.sweepRiver(ctx, river, b.sizes.pipeSweep); err != nil {
			return nil, err
		}
	}
	var rounds []pipeRound
	for range b.sizes.rounds {
		var r pipeRound
		if r.ours, err = b.runFlow(ctx, targets, b.sizes.pipeCallers, b.sizes.piped, func(db *database) publishCall {
			return func(ctx context.Context, p *webhook.Publisher, i int) error {
				return publishInTx(ctx, db, p, timedEvent(&targets[i%len(targets)], time.Now()))
			}
		}); err != nil {
			return nil, fmt.Errorf("pipe: %w", err)
		}
		if b.peer == peerRiver {
			if r.peer, err = b.runRiver(ctx, settings, river, b.sizes.piped); err != nil {
				return nil, fmt.Errorf("river: %w", err)
			}
		}
		b.log.Info("round", "per_second", number(r.ours.perSecond()), "peer_per_second", number(r.peer.perSecond()))
		rounds = append(rounds, r)
	}
	r := &report{columns: []string{"", "per second", "rounds", "call p50 ms", "call p99 ms", "sender µs", "database µs", "receiver µs"}}
	r.note("%s; %d events, a transaction each, by %d publishers to %d webhooks, delivered at once; CPU time is for each event, publishing included",
		b.title(), b.sizes.piped, b.sizes.pipeCallers, b.sizes.webhooks)
	r.note("store: %s", rounds[0].ours.about)
	row := func(name string, run func(pipeRound) flowRun) {
		rate := func(r pipeRound) float64 { return run(r).perSecond() }
		median := func(figure func(flowRun) float64) string {
			return number(medianOf(rounds, func(r pipeRound) float64 { return figure(run(r)) }))
		}
		r.row(name, number(medianOf(rounds, rate)), each(rounds, rate),
			median(func(r flowRun) float64 { return millis(percentile(r.calls, 0.5)) }),
			median(func(r flowRun) float64 { return millis(percentile(r.calls, 0.99)) }),
			median(func(r flowRun) float64 { return r.perDelivery(r.cpu.sender) }),
			median(func(r flowRun) float64 { return r.perDelivery(r.cpu.database) }),
			median(func(r flowRun) float64 { return r.perDelivery(r.cpu.receiver) }))
	}
	row("posthorn", func(r pipeRound) flowRun { return r.ours })
	r.ratio("pipe_per_second", medianOf(rounds, func(r pipeRound) float64 { return r.ours.perSecond() }))
	if b.peer != peerRiver {
		return r, nil
	}
	row("river", func(r pipeRound) flowRun { return r.peer })
	r.note("river: best of the sweep is %s", settings)
	r.ratio("pipe_of_river", medianOf(rounds, func(r pipeRound) float64 { return r.ours.perSecond() / r.peer.perSecond() }))
	if !rounds[0].ours.cpuUnknown {
		r.ratio("pipe_cpu_of_river", medianOf(rounds, func(r pipeRound) float64 { return r.ours.sendingOf(r.peer.drainRun) }))
	}
	return r, nil
}

// publishInTx publishes an event in a transaction of its own.
func publishInTx(ctx context.Context, db *database, p *webhook.Publisher, e webhook.Event) error {
	tx, err := db.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it has nothing to do
	if err := one(p.PublishTx(ctx, tx, e)); err != nil {
		return err
	}
	return tx.Commit()
}
