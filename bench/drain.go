package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/posthorn/webhook"
)

// drainRun is how long it took to deliver what was waiting.
type drainRun struct {
	deliveries int
	elapsed    time.Duration
	cpu        cpuUse
	about      string
	cpuUnknown bool // of the database
}

func (r drainRun) perSecond() float64 { return float64(r.deliveries) / r.elapsed.Seconds() }

// perDelivery returns CPU time in microseconds.
func (r drainRun) perDelivery(d time.Duration) float64 { return micros(d, r.deliveries) }

// sendingOf is what a delivery costs to send, of what it costs the peer.
func (r drainRun) sendingOf(peer drainRun) float64 {
	return r.perDelivery(r.cpu.sending()) / peer.perDelivery(peer.cpu.sending())
}

// drainRound is one run of each.
type drainRound struct {
	limit limitRun
	ours  drainRun
	peer  drainRun
}

// drain is the scenario: how fast the dispatcher gets rid of deliveries that
// wait, beside a loop that stores nothing and beside a job queue.
func (b *bench) drain(ctx context.Context) (*report, error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	_, concurrency, err := b.sweepLimit(ctx, targets)
	if err != nil {
		return nil, err
	}
	river := func(d *riverDatabase, s riverSettings, n int) (flowRun, error) {
		return b.workOff(ctx, d, targets, s, n, 0)
	}
	var settings riverSettings
	if b.peer == peerRiver {
		if settings, err = b.sweepRiver(ctx, river, b.sizes.peerSweep); err != nil {
			return nil, err
		}
	}
	var rounds []drainRound
	for i := range b.sizes.rounds {
		var r drainRound
		if r.limit, err = b.runLimit(ctx, targets, concurrency, b.sizes.limitFor); err != nil {
			return nil, err
		}
		if r.ours, err = b.runDrain(ctx, targets, false); err != nil {
			return nil, fmt.Errorf("drain: %w", err)
		}
		if b.peer == peerRiver {
			peer, err := b.runRiver(ctx, settings, river, b.sizes.deliveries)
			if err != nil {
				return nil, fmt.Errorf("river: %w", err)
			}
			r.peer = peer.drainRun
		}
		b.log.Info("round", "number", i+1, "of", b.sizes.rounds, "limit_per_second", number(r.limit.perSecond()),
			"drain_per_second", number(r.ours.perSecond()), "peer_per_second", number(r.peer.perSecond()))
		rounds = append(rounds, r)
	}
	return b.reportDrain(rounds, settings), nil
}

func (b *bench) reportDrain(rounds []drainRound, settings riverSettings) *report {
	r := &report{columns: []string{"", "per second", "rounds", "sender µs", "database µs", "receiver µs"}}
	r.note("%s; %d deliveries to %d webhooks of %d organizations, %d-byte payloads; CPU time is for each delivery",
		b.title(), b.sizes.deliveries, b.sizes.webhooks, b.organizations, payloadBytes)
	r.note("store: %s", rounds[0].ours.about)
	limitRate := func(r drainRound) float64 { return r.limit.perSecond() }
	r.row(fmt.Sprintf("limit, %d at once", rounds[0].limit.concurrency),
		number(medianOf(rounds, limitRate)), each(rounds, limitRate),
		number(medianOf(rounds, func(r drainRound) float64 { return r.limit.perRequest(r.limit.cpu.sender) })), "–",
		number(medianOf(rounds, func(r drainRound) float64 { return r.limit.perRequest(r.limit.cpu.receiver) })))
	drainRow := func(name string, run func(drainRound) drainRun) {
		rate := func(r drainRound) float64 { return run(r).perSecond() }
		cpu := func(part func(cpuUse) time.Duration) string {
			return number(medianOf(rounds, func(r drainRound) float64 { return run(r).perDelivery(part(run(r).cpu)) }))
		}
		r.row(name, number(medianOf(rounds, rate)), each(rounds, rate),
			cpu(func(u cpuUse) time.Duration { return u.sender }),
			cpu(func(u cpuUse) time.Duration { return u.database }),
			cpu(func(u cpuUse) time.Duration { return u.receiver }))
	}
	ours := func(r drainRound) drainRun { return r.ours }
	drainRow("posthorn", ours)
	r.ratio("limit_per_second", medianOf(rounds, limitRate))
	r.ratio("drain_of_limit", medianOf(rounds, func(r drainRound) float64 { return r.ours.perSecond() / r.limit.perSecond() }))
	if b.peer != peerRiver {
		return r
	}
	drainRow("river", func(r drainRound) drainRun { return r.peer })
	r.note("river: best of the sweep is %s", settings)
	r.ratio("drain_of_river", medianOf(rounds, func(r drainRound) float64 { return r.ours.perSecond() / r.peer.perSecond() }))
	if !rounds[0].ours.cpuUnknown {
		r.ratio("drain_cpu_of_river", medianOf(rounds, func(r drainRound) float64 { return r.ours.sendingOf(r.peer) }))
	}
	r.ratio("drain_river_of_limit", medianOf(rounds, func(r drainRound) float64 { return r.peer.perSecond() / r.limit.perSecond() }))
	return r
}

// runDrain fills a new store and measures from the start of the dispatcher to
// its last record, if asked for under a snapshot that somebody else holds.
func (b *bench) runDrain(ctx context.Context, targets []target, snapshot bool) (run drainRun, err error) {
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	n := b.sizes.deliveries
	filling := time.Now()
	if err := fill(ctx, db.store, targets, n); err != nil {
		return run, err
	}
	b.log.Info("inserted", "events", n, "seconds", number(time.Since(filling).Seconds()))
	if snapshot {
		release, err := db.snapshot(ctx)
		if err != nil {
			return run, err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	return b.deliver(ctx, db, targets, n, nil, nil)
}

// deliver measures how long a dispatcher takes, from its start to its last record,
// to deliver n deliveries: those that are in the store, or those that are published
// once it runs. The requests go through the given doer, or by default to the
// receiver.
func (b *bench) deliver(
	ctx context.Context, db *database, targets []target, n int, doer webhook.HTTPDoer, publish func(*webhook.Dispatcher) error,
) (run drainRun, err error) {
	if _, err := b.receiver.ask(question{Reset: true}); err != nil {
		return run, err
	}
	runtime.GC()
	before, err := b.cpu(db.cpu)
	if err != nil {
		return run, err
	}
	done := newProgress(n)
	began := time.Now()
	s, err := b.startSender(ctx, db.store, senderConfig{tracer: done, doer: doer})
	if err != nil {
		return run, err
	}
	if publish != nil {
		err = publish(s.dispatcher)
	}
	if err == nil {
		err = done.wait(ctx)
	}
	after, cpuErr := b.cpu(db.cpu)
	if err := errors.Join(err, cpuErr, s.stop()); err != nil {
		return run, err
	}
	b.log.Info("calls to the store", "claims", done.claims.String(), "records", done.records.String(), "settles", done.settles.String())
	if doer == nil {
		got, err := b.receiver.received()
		if err != nil {
			return run, err
		}
		if got != int64(n) {
			return run, fmt.Errorf("%w: of %d, the receiver got %d requests", errMissing, n, got)
		}
	}
	inside := b.store == storeMem || b.store == storeSQLite
	run = drainRun{
		deliveries: n, elapsed: done.at.Sub(began), cpu: after.minus(before),
		about: db.about, cpuUnknown: db.cpu == nil && !inside,
	}
	return run, checkStore(ctx, db.store, targets, n)
}

// countAttempts adds up the counters of the targets.
func countAttempts(ctx context.Context, store webhook.DeliveryLog, targets []target) (sum webhook.Counter, err error) {
	for i := range targets {
		w := &targets[i].webhook
		hours, err := store.Counters(ctx, webhook.Scope{OrganizationID: w.OrganizationID}, webhook.CounterQuery{WebhookID: w.ID})
		if err != nil {
			return sum, fmt.Errorf("counters: %w", err)
		}
		for _, c := range hours {
			sum.Succeeded += c.Succeeded
			sum.Failed += c.Failed
			sum.Interrupted += c.Interrupted
		}
	}
	return sum, nil
}

// checkStore compares what the store says with what should be in it: n attempts
// that succeeded, and no delivery that waits.
func checkStore(ctx context.Context, store webhook.DeliveryLog, targets []target, n int) error {
	sum, err := countAttempts(ctx, store, targets)
	if err != nil {
		return err
	}
	for i := range targets {
		w := &targets[i].webhook
		waiting, err := store.Deliveries(ctx, webhook.Scope{OrganizationID: w.OrganizationID},
			webhook.DeliveryQuery{WebhookID: w.ID, State: webhook.DeliveryPending, Limit: 1})
		if err != nil {
			return fmt.Errorf("deliveries: %w", err)
		}
		if len(waiting.Items) > 0 {
			return fmt.Errorf("%w: the store has a delivery that waits", errMissing)
		}
	}
	if sum.Succeeded != n || sum.Failed+sum.Interrupted > 0 {
		return fmt.Errorf("%w: of %d attempts, the store counts %d that succeeded, %d that failed, %d that were interrupted",
			errMissing, n, sum.Succeeded, sum.Failed, sum.Interrupted)
	}
	return nil
}

// checkSoFar does the same when a sender was stopped in the middle of n deliveries:
// each is finished or in the queue, and the receiver got what succeeded and, of
// what was interrupted, some.
func (b *bench) checkSoFar(ctx context.Context, db *database, targets []target, n int) error {
	sum, err := countAttempts(ctx, db.store, targets)
	if err != nil {
		return err
	}
	received, err := b.receiver.received()
	if err != nil {
		return err
	}
	left := n - sum.Succeeded
	if db.queued != nil {
		if left, err = db.queued(ctx); err != nil {
			return err
		}
	}
	if sum.Succeeded+left != n || int(received) < sum.Succeeded || int(received) > sum.Succeeded+sum.Interrupted {
		return fmt.Errorf("%w: of %d, %d are in the queue; the store counts %d attempts that succeeded and %d that were interrupted, the receiver %d requests",
			errMissing, n, left, sum.Succeeded, sum.Interrupted, received)
	}
	return nil
}
