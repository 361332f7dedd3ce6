package webhooktest

import (
	"sync"
	"time"
)

// Clock is a [webhook.Clock] that is moved by hand. It goes with
// [webhook.Dispatcher.RunOnce] and [Drain]; for a dispatcher that runs, use
// testing/synctest, an HTTPDoer without sockets, and no Clock at all.
//
// The zero Clock stands at 2026-01-01 12:00:00 UTC. It is safe for concurrent
// use and must not be copied.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
	start  time.Time
}

// NewClock returns a clock that stands at the given time.
func NewClock(start time.Time) *Clock { return &Clock{start: start} }

// Now returns the time at which the clock stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() time.Time {
	start := c.start
	if start.IsZero() {
		start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	}
	return start.Add(c.offset)
}

// Advance moves the clock on by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// AdvanceTo moves the clock on to t; a time in its past leaves it alone.
func (c *Clock) AdvanceTo(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := t.Sub(c.now()); d > 0 {
		c.offset += d
	}
}
