package webhook

import "time"

// bucket spaces the attempts of a webhook that has a rate limit. It counts in time:
// what a token is worth is the time in which one comes, so there are no fractions.
//
// It lets a tenth of a second's worth through at once, and at least one, so that the
// store is not asked for each attempt of a webhook with a high limit. What has
// gathered while the dispatcher was late is kept up to twice that, or the rate
// would be lower than the limit by as much as it is ever late.
type bucket struct {
	limit int       // tokens a second; 0 means no limit
	spent time.Time // what has come since is left
}

// token is the time in which one comes, and burst that of those which may go at once.
func (b *bucket) token() time.Duration { return time.Second / time.Duration(b.limit) }
func (b *bucket) burst() time.Duration { return time.Duration(max(1, b.limit/10)) * b.token() }

// set changes the limit. A bucket begins with a burst in it.
func (b *bucket) set(limit int, now time.Time) {
	if limit == b.limit {
		return
	}
	b.limit = max(0, min(limit, MaxRateLimit))
	if b.limit > 0 {
		b.spent = now.Add(-b.burst())
	}
}

// left returns how many tokens there are.
func (b *bucket) left(now time.Time) int {
	if b.spent.After(now) { // a clock that was set back keeps nobody waiting
		b.spent = now
	}
	most := 2*b.burst() - 1
	if now.Sub(b.spent) > most {
		b.spent = now.Add(-most)
	}
	return int(now.Sub(b.spent) / b.token())
}

// spend takes a token, if there is one.
func (b *bucket) spend(now time.Time) bool {
	if b.left(now) == 0 {
		return false
	}
	b.spent = b.spent.Add(b.token())
	return true
}

// ready is when there will be a burst, as stores keep times.
func (b *bucket) ready() time.Time {
	return storedTime(b.spent.Add(b.burst() + time.Microsecond - 1))
}
