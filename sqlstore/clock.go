package sqlstore

import (
	"context"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

const (
	clockEvery   = time.Minute // between looks at the database's clock
	clockRetry   = time.Second // after one that failed
	clockTimeout = 2 * time.Second
)

var _ webhook.ClockSource = (*Store)(nil)

// Clock returns the database's clock, which all processes on it share. It is
// read at the first use and then once a minute, by whoever asks for the time
// then; in between this process's monotonic clock goes on from there. While the
// database does not answer, the last reading counts, and before the first one the
// system's time.
//
// SQLite has no clock of its own: there it is the system's, since all processes
// on a file share a machine.
func (s *Store) Clock() webhook.Clock { return &s.clock }

// databaseClock knows by how much the database's clock differs.
type databaseClock struct {
	s *Store

	mu      sync.Mutex
	base    time.Time // what the database said
	reading time.Time // when, by this process
	next    time.Time // when to read again, by this process
}

// Now returns the database's time.
func (c *databaseClock) Now() time.Time {
	c.mu.Lock()
	local := time.Now() //nolint:forbidigo // this is the clock
	due := c.s.d != SQLite && !local.Before(c.next)
	if due {
		c.next = local.Add(clockRetry) // others use the last reading meanwhile
	}
	first := c.base.IsZero()
	c.mu.Unlock()
	if due {
		c.read()
		if first {
			local = time.Now() //nolint:forbidigo // the reading took a moment
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.IsZero() {
		return local
	}
	return c.base.Add(local.Sub(c.reading))
}

// read asks the database, and takes its answer to be from the middle of the
// round trip.
func (c *databaseClock) read() {
	ctx, cancel := context.WithTimeout(context.Background(), clockTimeout)
	defer cancel()
	text := "select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)"
	if c.s.d == MySQL {
		text = "select timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))"
	}
	before := time.Now() //nolint:forbidigo // this is the clock
	n, _, err := first(ctx, session{c.s, c.s.db}, plain[int64], text)
	took := time.Since(before) //nolint:forbidigo // this is the clock
	if err != nil {
		c.s.log.WarnContext(ctx, "sqlstore: the database's clock cannot be read", "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.reading, c.next = time.UnixMicro(n).UTC(), before.Add(took/2), before.Add(clockEvery)
}
