package webhook

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// recordLinger lets outcomes gather, so that the store writes many at a time.
const recordLinger = 10 * time.Millisecond

// landing is what became of a flight: an attempt to record, or a claim to give
// back because no attempt was made.
type landing struct {
	finished *FinishedAttempt
	released *ReleasedClaim
	unopened bool // released because the secret did not open
	limited  bool // released because of the webhook's rate limit
	verdict  verdict
}

// ledger keeps the landings of Run until they are recorded.
type ledger struct {
	mu       sync.Mutex
	waiting  []landing
	writing  int
	overdue  int // of the waiting and the writing: the store has refused something since they came
	isOpen   bool
	added    chan struct{}
	closing  chan struct{}
	capacity int
}

func newLedger() *ledger { return &ledger{added: make(chan struct{}, 1), capacity: 4 * recordLimit} }

func (l *ledger) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isOpen, l.closing = true, make(chan struct{})
}

// close lets the ledger's reader end when everything is recorded.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isOpen = false
	close(l.closing)
}

// add queues a landing. After close it is dropped: the lease will run out.
func (l *ledger) add(x landing) {
	l.mu.Lock()
	if l.isOpen {
		l.waiting = append(l.waiting, x)
	}
	l.mu.Unlock()
	signal(l.added)
}

// full reports whether recording is so far behind that nothing more should be
// claimed.
func (l *ledger) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)+l.writing >= l.capacity
}

// next returns the landings to record now, as soon as there are any, or nil
// when the ledger is closed and empty.
func (l *ledger) next() []landing {
	for {
		l.mu.Lock()
		n, isOpen, closing := len(l.waiting), l.isOpen, l.closing
		l.mu.Unlock()
		switch {
		case n == 0 && !isOpen:
			return nil
		case n == 0:
			select {
			case <-l.added:
			case <-closing:
			}
			continue
		case n < recordLimit/2:
			waitFor(closing, recordLinger)
		}
		l.mu.Lock()
		n = min(len(l.waiting), recordLimit)
		batch := append([]landing(nil), l.waiting[:n]...)
		l.waiting = l.waiting[:copy(l.waiting, l.waiting[n:])]
		l.writing = n
		l.mu.Unlock()
		return batch
	}
}

func (l *ledger) written() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.overdue = max(0, l.overdue-l.writing)
	l.writing = 0
}

// refused notes that the store did not take what is being written.
func (l *ledger) refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.overdue = l.writing + len(l.waiting)
}

// unrecorded returns how many landings wait to be recorded, or are being recorded.
func (l *ledger) unrecorded() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) + l.writing
}

// late reports whether something waits for a store that has refused it. Its
// lease may be over when the store is back.
func (l *ledger) late() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overdue > 0
}

// recordLoop is Run's: it records landings until the ledger is closed and
// empty. It goes on trying while the store refuses, until ctx ends: then it gives
// up what is left, because the leases will run out anyway.
func (d *Dispatcher) recordLoop(ctx context.Context) {
	for {
		batch := d.ledger.next()
		if batch == nil {
			return
		}
		d.recordWithRetry(ctx, batch)
		wasFull := d.ledger.full()
		d.ledger.written()
		if wasFull {
			signal(d.freed)
		}
	}
}

func (d *Dispatcher) recordWithRetry(ctx context.Context, batch []landing) {
	retry := storeBackOff()
	for {
		err := d.record(ctx, batch)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			d.log.Error("webhook: outcomes could not be recorded before the shutdown; their leases will run out", "outcomes", len(batch))
			return
		}
		d.ledger.refused()
		d.health.failed(d.clock, err)
		wait := retry.NextBackOff()
		d.log.Warn("webhook: outcomes could not be recorded; trying again", "outcomes", len(batch), "error", err, "wait", wait)
		sleep(ctx, wait)
	}
}

// record writes landings to the store. What has been written is taken out of
// the batch, so that it can be given again after an error.
func (d *Dispatcher) record(ctx context.Context, batch []landing) (err error) {
	call := RecordCall{}
	began := time.Now()
	defer func() {
		call.Duration, call.Err = time.Since(began), err
		d.tracer.Recorded(ctx, call)
	}()
	storeCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	finish := FinishParams{Now: storedTime(d.clock.Now()), Outcomes: make([]FinishedAttempt, 0, len(batch))}
	release := ReleaseParams{Now: finish.Now}
	exhausted, unopened, limited := false, 0, 0
	for _, l := range batch {
		if l.finished != nil {
			finish.Outcomes = append(finish.Outcomes, *l.finished)
			exhausted = exhausted || l.finished.State == DeliveryFailed
		}
		if l.released != nil {
			release.Claims = append(release.Claims, *l.released)
			switch {
			case l.unopened:
				unopened++
			case l.limited:
				limited++
			}
		}
	}
	if len(finish.Outcomes) > 0 {
		r, err := d.store.Finish(storeCtx, finish)
		if err != nil {
			return err
		}
		call.Finished = len(finish.Outcomes)
		for i, err := range r.Errs {
			if err != nil {
				call.Lost++
				a := &finish.Outcomes[i].Attempt
				d.log.Warn("webhook: an attempt was reported after its lease", "delivery_id", a.DeliveryID, "attempt", a.Number, "error", err)
			}
			if a := &finish.Outcomes[i].Attempt; d.cfg.DeactivateOnGone && a.StatusCode == http.StatusGone {
				d.gone.add(a)
			}
		}
		for i := range batch {
			batch[i].finished = nil
		}
		d.awaited.tell(finish.Outcomes)
		if exhausted {
			signal(d.told)
		}
	}
	if len(release.Claims) > 0 {
		if _, err := d.store.Release(storeCtx, release); err != nil {
			return err
		}
		call.Released, call.Unopened, call.RateLimited = len(release.Claims), unopened, limited
	}
	return nil
}
