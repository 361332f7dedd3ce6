package webhook

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// StatsCountTo is how far [Dispatcher.Stats] counts: a number of its Overview that
// has reached it means that many or more.
const StatsCountTo = 1_000_000

const (
	statsTop     = 20               // webhooks of the backlog
	statsTimeout = 10 * time.Second // for the store's part
)

// Stats is how much work there is, and what one dispatcher does of it.
type Stats struct {
	At       time.Time // when, by the dispatcher's clock
	Overview Overview  // of the store: what all dispatchers have to do

	// The rest is of this dispatcher alone.

	Running    bool // Run runs
	Slots      int
	InFlight   int // attempts that have a slot
	Unrecorded int // attempts that have ended, and are not in the store yet
	Known      int // webhooks of which it remembers how they answer
	Unproven   int // of these, those that have not answered promptly so far and are not slow either

	// Slow are the webhooks that answered after more than a second or not in time,
	// in the last ten minutes. They have one attempt at a time.
	Slow []WebhookSince

	// Blocked are those whose secrets could not be opened, so that nothing is sent to
	// them for a while.
	Blocked []WebhookSince

	LastClaim   time.Time // the last time that the store answered a claim; zero if never
	LastError   string    // of the store, the last one since this dispatcher was made
	LastErrorAt time.Time // zero if there was none
}

// WebhookSince is a webhook of which something has been true for a while.
type WebhookSince struct {
	WebhookID      uuid.UUID
	OrganizationID string
	Since          time.Time
	InFlight       int // attempts of this dispatcher
}

// Stats returns how much work there is in the store, and what this dispatcher
// does of it. It is for the people who run the host: it crosses organizations. The
// numbers of the store are counted up to [StatsCountTo], and Backlog has up to 20
// webhooks; whoever wants it otherwise asks the store's Overview.
//
// An error is the store's, or that it took more than 10 s; what is this dispatcher's
// own is returned all the same.
func (d *Dispatcher) Stats(ctx context.Context) (Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	now := storedTime(d.clock.Now())
	o, err := d.store.Overview(ctx, OverviewParams{Now: now, Top: statsTop, CountTo: StatsCountTo})
	s := Stats{At: now, Running: d.running.Load(), Unrecorded: d.ledger.unrecorded()}
	d.slots.report(&s)
	d.health.report(&s)
	if err != nil {
		return s, fmt.Errorf("webhook: stats: %w", err)
	}
	s.Overview = o
	return s, nil
}

// Pause stops the dispatchers of all processes, across restarts, until Resume. When
// it has returned, nothing more is claimed: what is published waits in the store, as
// do retries that fall due. What has been claimed before is attempted and recorded.
// Retention and notices go on.
//
// by says who asks for it, and stands in Overview. It is required, and has at most
// MaxIDBytes. If the dispatchers are paused already, nothing changes.
//
// It returns ValidationErrors about by; other errors are the store's.
func (d *Dispatcher) Pause(ctx context.Context, by string) error {
	return d.setPaused(ctx, true, by)
}

// Resume lets the dispatchers of all processes go on, this one at once, others within
// a second. by says who asks for it, which goes to the Logger. If they are not paused,
// nothing changes. Errors are as of Pause.
func (d *Dispatcher) Resume(ctx context.Context, by string) error {
	return d.setPaused(ctx, false, by)
}

func (d *Dispatcher) setPaused(ctx context.Context, paused bool, by string) error {
	step := map[bool]string{true: "pause", false: "resume"}[paused]
	var faults ValidationErrors
	checkID(&faults, "by", by, true)
	if err := faults.err(); err != nil {
		return fmt.Errorf("webhook: %s: %w", step, err)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := d.store.SetPaused(ctx, SetPausedParams{Paused: paused, By: by, Now: storedTime(d.clock.Now())}); err != nil {
		return fmt.Errorf("webhook: %s: %w", step, err)
	}
	d.log.Warn("webhook: somebody has paused or resumed the dispatchers", "paused", paused, "by", by)
	d.notePaused(paused)
	signal(d.resumed)
	d.Wake()
	return nil
}

// notePaused takes in what the store has said.
func (d *Dispatcher) notePaused(paused bool) {
	switch was := d.paused.Swap(paused); {
	case paused && !was:
		d.log.Warn("webhook: the dispatchers are paused; nothing is attempted until somebody resumes them")
	case !paused && was:
		d.log.Info("webhook: the dispatchers go on")
		d.Wake() // the claim that says so may not have seen what was published meanwhile
	}
}

// report adds what the slots are used for.
func (s *slots) report(to *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.Slots, to.InFlight, to.Known = s.max, s.inFlight, len(s.lanes)
	now := time.Now()
	for id, l := range s.lanes {
		// Since when is measured with this process's clock, and told by the dispatcher's.
		since := func(t time.Time) WebhookSince {
			return WebhookSince{WebhookID: id, OrganizationID: l.organization, Since: storedTime(to.At.Add(-now.Sub(t))), InFlight: len(l.flights)}
		}
		switch l.kind(now) {
		case slow:
			to.Slow = append(to.Slow, since(l.slowSince))
		case unproven:
			to.Unproven++
		case proven:
		}
		if s.sealed(l) {
			to.Blocked = append(to.Blocked, since(l.blockedSince))
		}
	}
	for _, list := range [][]WebhookSince{to.Slow, to.Blocked} {
		slices.SortFunc(list, func(a, b WebhookSince) int {
			if c := a.Since.Compare(b.Since); c != 0 {
				return c
			}
			return slices.Compare(a.WebhookID[:], b.WebhookID[:])
		})
	}
}

// storeHealth is how the store has answered.
type storeHealth struct {
	mu        sync.Mutex
	lastClaim time.Time
	lastErr   error
	lastErrAt time.Time
}

func (h *storeHealth) claimed(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastClaim = at
}

func (h *storeHealth) failed(c Clock, err error) {
	at := storedTime(c.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastErr, h.lastErrAt = err, at
}

func (h *storeHealth) report(to *Stats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	to.LastClaim, to.LastErrorAt = h.lastClaim, h.lastErrAt
	if h.lastErr != nil {
		to.LastError = h.lastErr.Error()
	}
}
