package webhook

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Waits between two looks at a delivery that somebody waits for. They double, so that
// a quick answer is seen quickly, and a retry of tomorrow costs a read a second.
const (
	firstLook   = 5 * time.Millisecond
	slowestLook = time.Second
)

// Await waits until a delivery is finished, in whichever process that is, and returns
// it as [Manager.Delivery] does. Its attempts, with what was answered, are in the log.
//
// Without an error the delivery is finished: look at its State. ErrUnfinished, with the
// delivery as it was last seen, says that it is not: because it is held, which is said
// at once, or because ctx ended, whose error is then wrapped as well. Only the waiting
// is over then; the delivery goes on, and may be awaited again. A delivery with retries
// ahead is waited for until the last of them, so give ctx a deadline.
func (m *Manager) Await(ctx context.Context, a Actor, deliveryID uuid.UUID) (Delivery, error) {
	var told <-chan struct{}
	if m.dispatcher != nil { // before the first look, so that nothing is missed
		var leave func()
		told, leave = m.dispatcher.awaited.join(deliveryID)
		defer leave()
	}
	d, err := m.Delivery(ctx, a, deliveryID)
	for wait := firstLook; err == nil; wait = min(2*wait, slowestLook) {
		switch {
		case d.State.Finished():
			return d, nil
		case d.State == DeliveryHeld:
			return d, fmt.Errorf("webhook: await: it is held: %w", ErrUnfinished)
		case ctx.Err() != nil:
			return d, fmt.Errorf("webhook: await: %w: %w", ErrUnfinished, ctx.Err())
		}
		select {
		case <-told:
		case <-time.After(wait):
		case <-ctx.Done():
		}
		var now Delivery
		if now, err = m.Delivery(ctx, a, deliveryID); err == nil {
			d = now
		} else if ctx.Err() != nil {
			return d, fmt.Errorf("webhook: await: %w: %w", ErrUnfinished, ctx.Err())
		}
	}
	return Delivery{}, fmt.Errorf("webhook: await: %w", err)
}

// awaited are the deliveries that callers of this process wait for. The zero value is
// ready, and it is safe for concurrent use.
type awaited struct {
	mu sync.Mutex
	by map[uuid.UUID]map[chan struct{}]struct{}
}

// join returns a channel that gets something whenever an attempt of the delivery has
// been recorded, until the caller leaves.
func (w *awaited) join(id uuid.UUID) (told <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[uuid.UUID]map[chan struct{}]struct{}{}
	}
	if w.by[id] == nil {
		w.by[id] = map[chan struct{}]struct{}{}
	}
	w.by[id][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.by[id], c); len(w.by[id]) == 0 {
			delete(w.by, id)
		}
	}
}

// tell wakes those who wait for one of the deliveries.
func (w *awaited) tell(outcomes []FinishedAttempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.by) == 0 {
		return
	}
	for i := range outcomes {
		for c := range w.by[outcomes[i].Attempt.DeliveryID] {
			signal(c)
		}
	}
}
