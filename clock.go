package webhook

import "time"

// Clock tells the time. The zero Config of every type uses the system's clock.
// Implementations must be safe for concurrent use.
//
// A clock decides what is due and what the log says; how long an attempt may
// take is always measured in real, monotonic time.
type Clock interface {
	Now() time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// ClockSource is what a store may offer besides [Store]: a clock that all
// processes on it share, such as its database's. It is the default of
// everything that works on the store, so that hosts whose own clocks differ
// agree on what is due.
type ClockSource interface {
	Clock() Clock
}

// clockOr returns the configured clock, or else that of the dispatcher which
// was configured beside it, or else the store's, or else the system's.
func clockOr(c Clock, d *Dispatcher, store any) Clock {
	if c != nil {
		return c
	}
	if d != nil {
		return d.clock
	}
	if source, ok := store.(ClockSource); ok {
		return source.Clock()
	}
	return systemClock{}
}

// storedTime is t as every store keeps it: UTC, whole microseconds, no
// monotonic reading.
func storedTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
