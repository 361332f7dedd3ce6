package webhook

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// How many attempts run at once before others wait for them. A machine is busy
// with few: more connections that take turns cost both sides a third more for each
// request, measured over loopback, and a TLS handshake is work of about a
// millisecond.
const (
	youngPerCPU  = 32
	grownUp      = 10 * time.Millisecond  // with a connection, an attempt keeps others waiting no longer
	connectGrace = 100 * time.Millisecond // nor without one
)

// crew makes attempts, in the order in which they are given to it. All attempts
// of the dispatcher's slots may run at once, if their receivers take their time;
// as long as they do not, a few at a time are faster.
type crew struct {
	do  func(*flight)
	max int // young ones

	mu      sync.Mutex
	waiting []*flight // from next on
	next    int
	young   []*flight   // that run, and keep others waiting
	timer   *time.Timer // to look again, while others wait
}

func newCrew(do func(*flight)) *crew {
	return &crew{do: do, max: youngPerCPU * runtime.GOMAXPROCS(0)}
}

// give has attempts made.
func (c *crew) give(flights []*flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, flights...)
	c.hire()
}

// hire starts goroutines for what waits, as far as there is room; the lock is
// held.
func (c *crew) hire() {
	for {
		f := c.take()
		if f == nil {
			break
		}
		go c.work(f)
	}
	if c.next < len(c.waiting) && c.timer == nil {
		c.timer = time.AfterFunc(grownUp/2, c.look)
	}
}

// take returns the next attempt, or nil if there is none that may begin; the lock is
// held.
func (c *crew) take() *flight {
	if c.next == len(c.waiting) {
		return nil
	}
	if len(c.young) >= c.max {
		now := time.Now().UnixNano()
		c.young = slices.DeleteFunc(c.young, func(f *flight) bool { return f.grows.Load() <= now })
		if len(c.young) >= c.max {
			return nil
		}
	}
	f := c.waiting[c.next]
	c.waiting[c.next] = nil
	if c.next++; c.next == len(c.waiting) {
		c.waiting, c.next = c.waiting[:0], 0
	}
	f.grows.Store(time.Now().Add(connectGrace).UnixNano())
	c.young = append(c.young, f)
	return f
}

// look sees whether others have grown up.
func (c *crew) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	c.hire()
}

// work makes one attempt after the other, on a stack that has grown already.
func (c *crew) work(f *flight) {
	for f != nil {
		c.do(f)
		c.mu.Lock()
		if i := slices.Index(c.young, f); i >= 0 {
			c.young = slices.Delete(c.young, i, i+1)
		}
		f = c.take()
		c.mu.Unlock()
	}
}
