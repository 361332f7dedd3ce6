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

// Webhooks that are known to be slow often begin together, when the attempts
// before have timed out together, and on new connections. They begin a few at a
// time, so that the others do not feel it: a hundred in a quarter of a second.
const (
	slowYoungPerCPU  = 4
	slowConnectGrace = 20 * time.Millisecond
)

// crew makes attempts, in the order in which they are given to it. All attempts
// of the dispatcher's slots may run at once, if their receivers take their time;
// as long as they do not, a few at a time are faster.
type crew struct {
	do func(*flight)

	mu    sync.Mutex
	lines [2]line     // of others, and of webhooks known to be slow
	timer *time.Timer // to look again, while somebody waits
}

// line is where attempts wait for their turn.
type line struct {
	max     int // young ones
	grace   time.Duration
	waiting []*flight // from next on
	next    int
	young   []*flight // that run, and keep others waiting
}

func newCrew(do func(*flight)) *crew {
	n := runtime.GOMAXPROCS(0)
	return &crew{do: do, lines: [2]line{{max: youngPerCPU * n, grace: connectGrace}, {max: slowYoungPerCPU * n, grace: slowConnectGrace}}}
}

func (c *crew) line(f *flight) *line {
	if f.kind == slow {
		return &c.lines[1]
	}
	return &c.lines[0]
}

// give has attempts made.
func (c *crew) give(flights []*flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range flights {
		l := c.line(f)
		l.waiting = append(l.waiting, f)
	}
	c.hire()
}

// hire starts goroutines for those whose turn it is; the lock is held.
func (c *crew) hire() {
	for f := c.take(); f != nil; f = c.take() {
		go c.work(f)
	}
	if c.timer == nil && slices.ContainsFunc(c.lines[:], line.anyWaiting) {
		c.timer = time.AfterFunc(grownUp/2, c.look)
	}
}

// take returns the next attempt, or nil if there is none that may begin; the lock is
// held.
func (c *crew) take() *flight {
	if f := c.lines[0].take(); f != nil {
		return f
	}
	return c.lines[1].take()
}

func (l line) anyWaiting() bool { return l.next < len(l.waiting) }

func (l *line) take() *flight {
	if !l.anyWaiting() {
		return nil
	}
	now := time.Now()
	if len(l.young) >= l.max {
		l.young = slices.DeleteFunc(l.young, func(f *flight) bool { return f.grows.Load() <= now.UnixNano() })
		if len(l.young) >= l.max {
			return nil
		}
	}
	f := l.waiting[l.next]
	l.waiting[l.next] = nil
	if l.next++; l.next == len(l.waiting) {
		l.waiting, l.next = l.waiting[:0], 0
	}
	f.grows.Store(now.Add(l.grace).UnixNano())
	l.young = append(l.young, f)
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
		l := c.line(f)
		if i := slices.Index(l.young, f); i >= 0 {
			l.young = slices.Delete(l.young, i, i+1)
		}
		f = c.take()
		c.mu.Unlock()
	}
}
