package webhook

import (
	"context"
	"math/rand/v2"
	"time"
)

// DefaultRetention is how long things are kept; see [Retention].
const DefaultRetention = 30 * 24 * time.Hour

const (
	purgeEvery = 5 * time.Minute       // between rounds, or a quarter of the shortest age
	purgePause = 10 * time.Millisecond // between batches of a round, or half of what the last one took
	purgeLimit = 1000                  // rows of each kind in a batch
)

// Retention is how long what is finished is kept. A running [Dispatcher] deletes
// what is older, every five minutes, in small batches with rests between them; any
// number of dispatchers may do so on one store. Each age defaults to 30 days; a
// negative one keeps things for ever. Deliveries that are pending are never
// deleted.
type Retention struct {
	// Payloads is for the bodies of requests, from when the last delivery of
	// the event was finished. Without its payload a delivery stays in the log,
	// and cannot be redelivered.
	Payloads time.Duration

	// Attempts is for the log of attempts, from when they were made.
	Attempts time.Duration

	// Deliveries is for finished deliveries with what is left of their
	// attempts, from when they were finished, and then for events without
	// deliveries, with their idempotency keys, and for deleted webhooks.
	Deliveries time.Duration

	// Held is for deliveries of inactive webhooks, from when they were
	// created. They are cancelled then, and kept as finished ones are.
	Held time.Duration
}

// complete fills in the defaults.
func (r *Retention) complete() {
	for _, age := range []*time.Duration{&r.Payloads, &r.Attempts, &r.Deliveries, &r.Held} {
		if *age == 0 {
			*age = DefaultRetention
		}
	}
}

// every returns how long the rests between rounds are, and 0 if nothing is ever
// deleted.
func (r *Retention) every() time.Duration {
	var shortest time.Duration
	for _, age := range []time.Duration{r.Payloads, r.Attempts, r.Deliveries, r.Held} {
		if age > 0 && (shortest == 0 || age < shortest) {
			shortest = age
		}
	}
	return min(purgeEvery, shortest/4)
}

// before returns what a purge may take away.
func (r *Retention) before(now time.Time) PurgeParams {
	since := func(age time.Duration) time.Time {
		if age < 0 {
			return time.Time{}
		}
		return now.Add(-age)
	}
	return PurgeParams{
		Now: now, PayloadsBefore: since(r.Payloads), AttemptsBefore: since(r.Attempts),
		DeliveriesBefore: since(r.Deliveries), HeldBefore: since(r.Held), Limit: purgeLimit,
	}
}

// retentionLoop is Run's: every few minutes it deletes what has been kept long
// enough.
func (d *Dispatcher) retentionLoop(ctx context.Context) {
	every := d.cfg.Retention.every()
	if every == 0 {
		return
	}
	// The first time earlier, by chance, so that processes that are often started
	// anew come to it, and not all at once.
	wait := rand.N(every) //nolint:gosec // nothing depends on nobody guessing it
	for {
		sleep(ctx, wait)
		wait = every
		for more := true; more && ctx.Err() == nil; {
			var took time.Duration
			more, took = d.purge(ctx)
			if more {
				sleep(ctx, max(took/2, purgePause))
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// purge deletes a batch. It reports whether there is more.
func (d *Dispatcher) purge(ctx context.Context) (more bool, took time.Duration) {
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	began := time.Now()
	r, err := d.store.Purge(call, d.cfg.Retention.before(storedTime(d.clock.Now())))
	took = time.Since(began)
	if ctx.Err() != nil {
		return false, took
	}
	d.tracer.Purged(ctx, PurgeCall{Result: r, Duration: took, Err: err})
	if r.HeldCancelled > 0 {
		d.log.Warn("webhook: deliveries that were held for too long were cancelled", "deliveries", r.HeldCancelled)
	}
	if err != nil {
		d.health.failed(d.clock, err)
		d.log.Warn("webhook: what is old could not be deleted; trying again later", "error", err)
		return false, took
	}
	return r.More, took
}
