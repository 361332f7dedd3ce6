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

func clockOrSystem(c Clock) Clock {
	if c == nil {
		return systemClock{}
	}
	return c
}

// storedTime is t as every store keeps it: UTC, whole microseconds, no
// monotonic reading.
func storedTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
