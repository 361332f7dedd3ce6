package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/posthorn/webhook"
)

// tries bounds how often a transaction is begun anew, over about four seconds.
const tries = 15

// write runs fn in a transaction of its own, all of it again if the database
// gave up on it: deadlocks, serialization failures, a busy SQLite, a connection
// that was lost before the commit. step names what is being done, for errors.
//
// A commit whose answer was lost may have taken effect. Then committed, if there
// is one, finds out; without it the error, ErrOutcomeUnknown, is the caller's.
func (s *Store) write(ctx context.Context, step string, fn func(session) error, committed ...func(session) (bool, error)) error {
	return s.transact(ctx, step, session.prepare, fn, committed)
}

// work is write for what dispatchers do. It goes through the gate: what stops a
// webhook waits for such transactions that are under way, and what is read in a
// later one tells of the stop.
func (s *Store) work(ctx context.Context, step string, fn func(session) error, committed ...func(session) (bool, error)) error {
	return s.transact(ctx, step, session.enterGate, fn, committed)
}

func (s *Store) transact(
	ctx context.Context, step string, begin func(session, context.Context) error, fn func(session) error, committed []func(session) (bool, error),
) error {
	err := s.checkVersion(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: %s: %w", step, err)
	}
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(2*time.Millisecond), backoff.WithMultiplier(2), backoff.WithMaxInterval(500*time.Millisecond),
		backoff.WithMaxElapsedTime(0))
	for try := 1; ; try++ {
		err = s.once(ctx, begin, fn)
		if err == nil {
			return nil
		}
		var unknown *unknownCommitError
		if errors.As(err, &unknown) {
			if len(committed) == 0 {
				break
			}
			done, verifyErr := s.verify(ctx, committed[0])
			if verifyErr != nil {
				break
			}
			if done {
				return nil
			}
		} else if !transient(err) && !lost(err) {
			break
		}
		if try == tries || ctx.Err() != nil {
			break
		}
		wait := pause.NextBackOff()
		s.log.DebugContext(ctx, "sqlstore: repeating a transaction", "step", step, "error", err, "wait", wait)
		sleep(ctx, wait)
	}
	return fmt.Errorf("sqlstore: %s: %w", step, err)
}

// verify asks on another connection whether a commit took effect.
func (s *Store) verify(ctx context.Context, committed func(session) (bool, error)) (done bool, err error) {
	for try := 1; ; try++ {
		done, err = committed(session{s, s.db})
		if err == nil || !lost(err) || try == tries || ctx.Err() != nil {
			return done, err
		}
		sleep(ctx, time.Duration(try)*20*time.Millisecond)
	}
}

// unknownCommitError says that nobody knows whether a transaction was
// committed.
type unknownCommitError struct{ err error }

func (e *unknownCommitError) Error() string {
	return "the answer to the commit was lost: " + e.err.Error()
}
func (e *unknownCommitError) Unwrap() []error { return []error{webhook.ErrOutcomeUnknown, e.err} }

// once runs fn in one transaction.
func (s *Store) once(ctx context.Context, begin func(session, context.Context) error, fn func(session) error) error {
	if s.d == SQLite {
		release, err := s.writer.take(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	opts := &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	if s.d == SQLite {
		opts = nil
	}
	tx, err := s.db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	c := session{s, tx}
	if err := begin(c, ctx); err != nil {
		return err
	}
	if err := fn(c); err != nil {
		return err
	}
	err = tx.Commit()
	if err != nil && ctx.Err() == nil && !transient(err) && lost(err) {
		return &unknownCommitError{err}
	}
	return err
}

// planByIndex keeps Postgres to plans that are right whatever it knows about the
// tables: they walk the indexes that the statements were written for, and so are
// made once for a connection. Otherwise a plan from when tables were empty, or from
// before their first ANALYZE, sorts everything that is ready before it takes
// a handful. Measured with 100,000 ready rows and no statistics: a claim read 850
// index entries for each row it took, and with these settings one; planning each
// statement anew was a quarter of the database's work.
//
// What is left to Postgres is which side of a join comes first. While a table has
// next to no rows, walking all of it and looking for each row among those that the
// statement brings along seems cheapest, and stays planned when it has grown: 300
// of 200,000 rows took 7.6 s. So a column that rows are to be found by is compared
// as column = any(array[value]), which an index can do and a merge cannot: then
// there is no reason to walk the index from end to end, and no such plan. That is
// the macro {key}.
const planByIndex = "select set_config('plan_cache_mode', 'force_generic_plan', true), set_config('jit', 'off', true), " +
	"set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), " +
	"set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), " +
	idleLimit

// idleLimit ends transactions whose process has been frozen, or cut off, in the middle.
const idleLimit = "set_config('idle_in_transaction_session_timeout', '30s', true)"

// prepare begins a transaction's work.
func (c session) prepare(ctx context.Context) error {
	if c.d != Postgres {
		return nil
	}
	_, err := c.q.ExecContext(ctx, planByIndex)
	return err
}

// On Postgres the gate is an advisory lock, which the table lends its identity:
// a lock on the table itself takes a statement of its own.
const gateKey = "(1886876771, '{gate}'::regclass::oid::int)"

// enterGate is prepare for a transaction that goes through the gate.
func (c session) enterGate(ctx context.Context) error {
	return c.gate(ctx, planByIndex+", pg_advisory_xact_lock_shared"+gateKey, "select id from {gate} where id = 1 lock in share mode")
}

// closeGate waits until every transaction in the gate has ended, and keeps new
// ones waiting until this one ends, which should be soon.
//
// While it waits, new ones wait as well. So it gives up after a moment, as it must if
// a process has been frozen in the gate, and the transaction is repeated.
func (c session) closeGate(ctx context.Context) error {
	if c.d != MySQL {
		return c.gate(ctx, "select set_config('lock_timeout', '500ms', true), pg_advisory_xact_lock"+gateKey, "")
	}
	// There it is a setting of the session, which is the host's.
	if _, err := c.exec(ctx, "set @posthorn_wait = @@session.innodb_lock_wait_timeout, session innodb_lock_wait_timeout = 1"); err != nil {
		return err
	}
	err := c.gate(ctx, "", "select id from {gate} where id = 1 for update")
	_, resetErr := c.exec(ctx, "set session innodb_lock_wait_timeout = @posthorn_wait")
	return errors.Join(err, resetErr)
}

// undoTimeout bounds what undoes a publish in the host's transaction, after the
// caller's context has ended.
const undoTimeout = 5 * time.Second

// undoable runs fn in the host's transaction. If fn fails, what it has written
// cannot be committed.
//
// Postgres gets no savepoint, because subtransactions, if there are many, slow
// down everybody else. There a failed statement bars the commit by itself; where
// none has failed, going back to a savepoint that is not there does.
func (c session) undoable(ctx context.Context, fn func(context.Context, session) error) error {
	if c.d != Postgres {
		if _, err := c.q.ExecContext(ctx, "savepoint posthorn_publish"); err != nil {
			return err
		}
	}
	err := fn(ctx, c)
	if err == nil && c.d != Postgres {
		_, err = c.q.ExecContext(ctx, "release savepoint posthorn_publish")
	}
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if _, undoErr := c.q.ExecContext(undo, "rollback to savepoint posthorn_publish"); undoErr != nil && c.d != Postgres {
			err = fmt.Errorf("%w; it could not be undone, roll the transaction back: %w", err, undoErr)
		}
	}
	return err
}

// read runs fn where it sees committed rows.
func (s *Store) read(ctx context.Context, step string, fn func(session) error) error {
	if err := s.checkVersion(ctx); err != nil {
		return fmt.Errorf("sqlstore: %s: %w", step, err)
	}
	if err := again(ctx, func() error { return s.readOnce(ctx, fn) }); err != nil {
		return fmt.Errorf("sqlstore: %s: %w", step, err)
	}
	return nil
}

// again repeats what changes nothing when the database was busy or the connection
// was lost, as a pooled one is that was cut while nobody used it.
func again(ctx context.Context, fn func() error) error {
	for try := 1; ; try++ {
		err := fn()
		if err == nil || try == tries || ctx.Err() != nil || !transient(err) && !lost(err) {
			return err
		}
		sleep(ctx, time.Duration(try)*10*time.Millisecond)
	}
}

func (s *Store) readOnce(ctx context.Context, fn func(session) error) error {
	if s.d != Postgres {
		conn, err := s.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return fn(session{s, conn})
	}
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	c := session{s, tx}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	return fn(c)
}

func (c session) gate(ctx context.Context, postgres, mysql string) error {
	switch c.d {
	case Postgres:
		_, err := c.exec(ctx, postgres)
		return err
	case MySQL:
		_, err := query(ctx, c, plain[int], mysql)
		return err
	default: // one transaction writes at a time
		return nil
	}
}

var mysqlNumber = regexp.MustCompile(`^Error (\d+)`)

// transient reports whether the database has rolled a transaction back for a
// reason that may be gone the next time.
func transient(err error) bool {
	var pg interface{ SQLState() string }
	var lite interface{ Code() int }
	switch {
	case err == nil:
		return false
	case errors.Is(err, errChanged):
		return true
	case errors.As(err, &pg):
		switch pg.SQLState() {
		case "40001", "40P01", "55P03": // serialization failure, deadlock, lock not available
			return true
		}
		return false
	case errors.As(err, &lite):
		return lite.Code()&0xff == 5 || lite.Code()&0xff == 6 // SQLITE_BUSY, SQLITE_LOCKED
	}
	switch mysqlCode(err) {
	case "1213", "1205", "3572", "1020": // deadlock, lock wait timeout (MariaDB's nowait, too), nowait, changed since it was read
		return true
	}
	return strings.Contains(err.Error(), "database is locked") // mattn/go-sqlite3
}

// mysqlCode returns the number of an error that MySQL has reported, or nothing.
func mysqlCode(err error) string {
	if err == nil {
		return ""
	}
	m := mysqlNumber.FindStringSubmatch(rootCause(err).Error())
	if m == nil {
		return ""
	}
	return m[1]
}

// lost reports whether the connection was lost, so that nobody knows what
// became of the statement. What the server itself reports is an answer, except
// that it is shutting down.
func lost(err error) bool {
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		code := pg.SQLState()
		return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P")
	}
	var network net.Error
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return errors.As(err, &network) || strings.Contains(err.Error(), "invalid connection") || strings.Contains(err.Error(), "conn closed")
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
