package main

import (
	"context"
	"fmt"
	"time"

	"github.com/posthorn/webhook"
)

// coalesceRound is one run of each.
type coalesceRound struct {
	limit limitRun
	ours  flowRun
}

// coalesce is the scenario: publishing without a transaction of the host, by many
// callers, each of whom gets an answer once the event is durable.
func (b *bench) coalesce(ctx context.Context) (*report, error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	_, concurrency, err := b.sweepLimit(ctx, targets)
	if err != nil {
		return nil, err
	}
	var rounds []coalesceRound
	for range b.sizes.rounds {
		var r coalesceRound
		if r.limit, err = b.runLimit(ctx, targets, concurrency, b.sizes.limitFor); err != nil {
			return nil, err
		}
		r.ours, err = b.runFlow(ctx, targets, b.sizes.coalesceCallers, b.sizes.coalesced, func(*database) publishCall {
			return func(ctx context.Context, p *webhook.Publisher, i int) error {
				return one(p.Publish(ctx, timedEvent(&targets[i%len(targets)], time.Now())))
			}
		})
		if err != nil {
			return nil, err
		}
		b.log.Info("round", "limit_per_second", number(r.limit.perSecond()), "per_second", number(r.ours.perSecond()))
		rounds = append(rounds, r)
	}
	r := &report{columns: []string{"", "per second", "rounds", "call p50 ms", "call p99 ms"}}
	r.note("%s; %d events by %d callers to %d webhooks, delivered at once; a call is answered when its event is durable",
		b.title(), b.sizes.coalesced, b.sizes.coalesceCallers, b.sizes.webhooks)
	r.note("store: %s", rounds[0].ours.about)
	limit := func(r coalesceRound) float64 { return r.limit.perSecond() }
	ours := func(r coalesceRound) float64 { return r.ours.perSecond() }
	call := func(p float64) float64 {
		return medianOf(rounds, func(r coalesceRound) float64 { return millis(percentile(r.ours.calls, p)) })
	}
	r.row(fmt.Sprintf("limit, %d at once", concurrency), number(medianOf(rounds, limit)), each(rounds, limit), "–", "–")
	r.row("posthorn", number(medianOf(rounds, ours)), each(rounds, ours), number(call(0.5)), number(call(0.99)))
	r.ratio("coalesce_of_limit", medianOf(rounds, func(r coalesceRound) float64 { return ours(r) / limit(r) }))
	r.ratio("coalesce_call_p99_ms", call(0.99))
	return r, nil
}
