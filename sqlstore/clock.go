package sqlstore

import (
	"context"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

const (
	clockEvery   = time.Minute     // between looks at the database's clock
	clockRetry   = 5 * time.Second // after one that failed
	clockTimeout = 2 * time.Second
)

var _ webhook.ClockSource = (*Store)(nil)

// Clock returns the database's clock, which all processes on it share. New reads
// it, and from then on the use of it does, at most once a minute and without
// anybody waiting; in between this process's monotonic clock goes on from there.
// While the database does not answer, the last reading counts.
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
	local := time.Now() //nolint:forbidigo // this is the clock
	if c.s.d == SQLite {
		return local
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !local.Before(c.next) {
		c.next = local.Add(clockRetry)
		go c.readAgain()
	}
	return c.base.Add(local.Sub(c.reading))
}

func (c *databaseClock) readAgain() {
	ctx, cancel := context.WithTimeout(context.Background(), clockTimeout)
	defer cancel()
	if err := c.read(ctx); err != nil {
		c.s.log.WarnContext(ctx, "sqlstore: the database's clock cannot be read", "error", err)
	}
}

// read asks the database, and takes its answer to be from the middle of the
// round trip.
func (c *databaseClock) read(ctx context.Context) error {
	var text string
	switch c.s.d {
	case SQLite:
		return nil
	case Postgres:
		text = "select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)"
	case MySQL:
		text = "select timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))"
	}
	conn, err := c.s.db.Conn(ctx) // waiting for one is no part of the round trip
	if err != nil {
		return err
	}
	defer conn.Close()
	before := time.Now() //nolint:forbidigo // this is the clock
	n, _, err := first(ctx, session{c.s, conn}, plain[int64], text)
	took := time.Since(before) //nolint:forbidigo // this is the clock
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.reading, c.next = time.UnixMicro(n).UTC(), before.Add(took/2), before.Add(clockEvery)
	return nil
}
