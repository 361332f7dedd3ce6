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

// clockOr returns the configured clock, or else that of the dispatcher which
// was configured beside it, or else the system's.
func clockOr(c Clock, d *Dispatcher) Clock {
	switch {
	case c != nil:
		return c
	case d != nil:
		return d.clock
	default:
		return systemClock{}
	}
}

// storedTime is t as every store keeps it: UTC, whole microseconds, no
// monotonic reading.
func storedTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
