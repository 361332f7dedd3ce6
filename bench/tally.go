package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/posthorn/webhook"
)

// tally is a dispatcher's tracer that counts for as long as it runs.
type tally struct {
	webhook.NopTracer
	recorded  atomic.Int64 // outcomes in the store
	lost      atomic.Int64 // of them, those whose lease had been lost
	lastNS    atomic.Int64 // when the last was recorded, wall clock
	succeeded atomic.Int64 // attempts
	failed    atomic.Int64
	retried   atomic.Int64 // attempts that succeeded and were not the first
	purged    atomic.Int64 // deliveries
}

// Recorded counts outcomes in the store.
func (t *tally) Recorded(_ context.Context, c webhook.RecordCall) {
	if c.Finished > 0 {
		t.lastNS.Store(time.Now().UnixNano())
	}
	t.lost.Add(int64(c.Lost))
	t.recorded.Add(int64(c.Finished - c.Lost))
}

// AttemptEnded counts attempts.
func (t *tally) AttemptEnded(_ context.Context, a webhook.AttemptEnded) {
	switch {
	case a.State != webhook.DeliverySucceeded:
		t.failed.Add(1)
	case a.Attempt.Number > 1:
		t.retried.Add(1)
		fallthrough
	default:
		t.succeeded.Add(1)
	}
}

// Purged counts what retention has deleted.
func (t *tally) Purged(_ context.Context, c webhook.PurgeCall) {
	t.purged.Add(int64(c.Result.Deliveries))
}

// awaitCount asks for a count until it is high enough, and gives up when it has
// not moved for a minute.
func awaitCount(ctx context.Context, want int64, count func() (int64, error)) error {
	moved, before := time.Now(), int64(-1)
	for {
		n, err := count()
		switch {
		case err != nil || n >= want:
			return err
		case n != before:
			moved, before = time.Now(), n
		case time.Since(moved) > stalled:
			return fmt.Errorf("nothing happened for %s, with %d of %d", stalled, n, want)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}
