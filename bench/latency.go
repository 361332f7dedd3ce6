package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/posthorn/webhook"
)

// latencyRound is a run in which publisher and dispatcher share a process, and one
// in which they do not.
type latencyRound struct{ same, other steadyRun }

// latency is the scenario: how long an event is under way when there is little to
// do.
func (b *bench) latency(ctx context.Context) (*report, error) {
	var about string
	var rounds []latencyRound
	others := b.store != storeMem // whose data no other process can see
	for i := range b.sizes.rounds {
		var r latencyRound
		var err error
		if r.same, err = b.runLatency(ctx, &about, false); err != nil {
			return nil, err
		}
		if others {
			if r.other, err = b.runLatency(ctx, &about, true); err != nil {
				return nil, fmt.Errorf("published by another process: %w", err)
			}
		}
		b.log.Info("round", "number", i+1, "p50_ms", number(r.same.p(0.5)), "other_p50_ms", number(r.other.p(0.5)))
		rounds = append(rounds, r)
	}
	r := &report{columns: []string{"published", "events", "publish p50 ms", "publish p99 ms", "p50 ms", "p99 ms", "max ms"}}
	r.note("%s; %d events/s to %d webhooks for %s, after a second that is not measured; publish → receipt",
		b.title(), b.sizes.latencyRate, b.sizes.latencyWebhooks, b.sizes.latencyFor)
	r.note("store: %s", about)
	row := func(name, prefix string, run func(latencyRound) steadyRun) {
		of := func(figure func(steadyRun) float64) float64 {
			return medianOf(rounds, func(r latencyRound) float64 { return figure(run(r)) })
		}
		p := func(share float64) float64 { return of(func(s steadyRun) float64 { return s.p(share) }) }
		publish := func(share float64) float64 { return of(func(s steadyRun) float64 { return s.publishP(share) }) }
		r.row(name, number(of(func(s steadyRun) float64 { return float64(s.published) })), number(publish(0.5)), number(publish(0.99)),
			number(p(0.5)), number(p(0.99)), number(p(1)))
		r.ratio(prefix+"_p50_ms", p(0.5))
		r.ratio(prefix+"_p99_ms", p(0.99))
	}
	row("by the dispatcher's process", "latency", func(r latencyRound) steadyRun { return r.same })
	if others {
		row("by another process", "latency_other", func(r latencyRound) steadyRun { return r.other })
	}
	return r, nil
}

func (b *bench) runLatency(ctx context.Context, about *string, other bool) (run steadyRun, err error) {
	targets, err := b.targets(b.sizes.latencyWebhooks, timedPath)
	if err != nil {
		return run, err
	}
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	*about = db.about
	var config webhook.PublisherConfig
	if other {
		all, end, err := b.startDispatchers(ctx, db, 1)
		if err != nil {
			return run, err
		}
		defer func() { err = errors.Join(err, end()) }()
		if _, err := askAll(all, dispatcherQuestion{Start: true}); err != nil {
			return run, err
		}
	} else {
		s, err := b.startSender(ctx, db.store, senderConfig{})
		if err != nil {
			return run, err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		config.Dispatcher = s.dispatcher
	}
	publisher, err := webhook.NewPublisher(db.store, config)
	if err != nil {
		return run, err
	}
	return b.steady(ctx, publisher, targets, float64(b.sizes.latencyRate), b.sizes.latencyFor)
}
