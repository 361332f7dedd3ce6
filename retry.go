package webhook

import (
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// defaultDelays are the waits of Pivot's webhooks: six attempts in 14 h 36 m.
var defaultDelays = [...]time.Duration{
	time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 12 * time.Hour,
}

// maxDelays bounds a schedule; attempts are numbered in a smallint by SQL stores.
const maxDelays = 100

// Schedule is the fixed waits between the attempts of a delivery. It is an
// immutable value; the zero Schedule is [DefaultSchedule].
//
//	attempt   waits before the next one   earliest time after the first
//	1         1 m                         0
//	2         5 m                         1 m
//	3         30 m                        6 m
//	4         2 h                         36 m
//	5         12 h                        2 h 36 m
//	6         –                           14 h 36 m
//
// A wait starts when the failed attempt has ended. There is no jitter:
// receivers are told this table, and attempts of one outage are already spread
// by the slots of the dispatcher.
type Schedule struct {
	// delays is nil for the default, so that the zero value is useful.
	delays []time.Duration
	set    bool
}

// DefaultSchedule returns 1 m, 5 m, 30 m, 2 h, 12 h.
func DefaultSchedule() Schedule { return Schedule{} }

// NewSchedule returns the schedule with these waits: the first is the one
// between attempts 1 and 2. No waits at all mean a single attempt. A negative
// wait, or more than 100 of them, is a ValidationError.
func NewSchedule(delays ...time.Duration) (Schedule, error) {
	if len(delays) > maxDelays {
		return Schedule{}, ValidationErrors{{"schedule", fmt.Sprintf("must have at most %d waits", maxDelays)}}
	}
	var faults ValidationErrors
	for i, d := range delays {
		if d < 0 {
			faults.add(fmt.Sprintf("schedule[%d]", i), "must not be negative")
		}
	}
	if err := faults.err(); err != nil {
		return Schedule{}, err
	}
	return Schedule{delays: slices.Clone(delays), set: true}, nil
}

func (s Schedule) waits() []time.Duration {
	if s.set {
		return s.delays
	}
	return defaultDelays[:]
}

// MaxAttempts returns how many attempts a delivery has in all.
func (s Schedule) MaxAttempts() int { return len(s.waits()) + 1 }

// Delay returns how long to wait after the given attempt (numbered from 1) has
// failed, and false if it was the last one or its number is below 1.
func (s Schedule) Delay(attempt int) (time.Duration, bool) {
	w := s.waits()
	if attempt < 1 || attempt > len(w) {
		return 0, false
	}
	return w[attempt-1], true
}

// Extra returns by how much DispatcherConfig.HonorRetryAfter makes the wait after the
// given attempt longer, if the receiver has asked for a wait: the whole is no less than
// the schedule's, and no more than twice that.
func (s Schedule) Extra(attempt int, asked time.Duration) time.Duration {
	delay, _ := s.Delay(attempt)
	return min(max(0, asked-delay), delay)
}

// BackOff returns a fresh cursor over the schedule for code that speaks
// cenkalti/backoff: NextBackOff gives each wait in turn, then backoff.Stop.
// Unlike the schedule, a cursor is not safe for concurrent use.
func (s Schedule) BackOff() backoff.BackOff { return &scheduleCursor{schedule: s} }

type scheduleCursor struct {
	schedule Schedule
	attempt  int
}

func (c *scheduleCursor) NextBackOff() time.Duration {
	c.attempt++
	d, ok := c.schedule.Delay(c.attempt)
	if !ok {
		c.attempt-- // stays at the end however often it is asked
		return backoff.Stop
	}
	return d
}

func (c *scheduleCursor) Reset() { c.attempt = 0 }
