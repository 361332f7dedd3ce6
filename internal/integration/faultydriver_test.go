package integration_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
)

// faults lets the connections of one handle fail. It wraps the database's own
// driver: what does not fail is done by the real database.
type faults struct {
	mu     sync.Mutex
	fault  *fault
	toCome int // how often it still happens
	begun  int // transactions since then
	late   []func() error
}

// fault is something that goes wrong in a transaction.
type fault struct {
	at     place
	err    error  // what the driver reports
	effect effect // of a commit
	broken bool   // the connection does not outlive it
	then   func() // if not nil, called when it has happened
}

// place is where in a transaction something happens: the number of the
// statement, from 1, or atCommit.
type place int

const atCommit place = 0

func (p place) String() string {
	if p == atCommit {
		return "at the commit"
	}
	return fmt.Sprintf("at statement %d", int(p))
}

// effect is what becomes of a commit that is said to have failed. A statement
// that is said to has none.
type effect string

const (
	noEffect   effect = "without effect"
	fullEffect effect = "with effect"
	lateEffect effect = "with a late effect" // when the next transaction begins
)

// set lets a fault happen so many times from now on.
func (f *faults) set(next fault, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.toCome, f.begun = &next, times, 0
}

// clear ends faults, and returns how many were still to come, and how many
// transactions were begun since they were set.
func (f *faults) clear() (toCome, begun int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	toCome, f.toCome = f.toCome, 0
	return toCome, f.begun
}

// commitLate makes the late commits that are still to be made.
func (f *faults) commitLate() error {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	var err error
	for _, commit := range late {
		err = errors.Join(err, commit())
	}
	return err
}

// next returns the fault that happens at this point of a transaction, or nil.
func (f *faults) next(at place) *fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.toCome == 0 || f.fault.at != at {
		return nil
	}
	f.toCome--
	return f.fault
}

// connector is given to [integration.Space.ConnectVia].
func (f *faults) connector(of driver.Connector) driver.Connector { return &faultyConnector{of, f} }

type faultyConnector struct {
	driver.Connector
	f *faults
}

// driverConn is what the drivers' connections have in common.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
}

// Connect connects to the database.
func (c *faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyConn{driverConn: conn.(driverConn), f: c.f}, nil
}

// faultyConn is a connection, which database/sql uses from one goroutine at a
// time.
type faultyConn struct {
	driverConn
	f          *faults
	inTx       bool
	statements place // the latest of the transaction
	broken     bool
	held       bool // until a late commit closes it
}

// BeginTx begins a transaction.
func (c *faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.f.mu.Lock()
	c.f.begun++
	c.f.mu.Unlock()
	if err := c.f.commitLate(); err != nil {
		return nil, err
	}
	tx, err := c.driverConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.inTx, c.statements = true, 0
	return &faultyTx{tx, c}, nil
}

// statement runs a statement, or pretends to.
func (c *faultyConn) statement(run func() error) error {
	if c.broken {
		return driver.ErrBadConn
	}
	if !c.inTx {
		return run()
	}
	c.statements++
	f := c.f.next(c.statements)
	if f == nil {
		return run()
	}
	c.happened(f)
	return f.err
}

func (c *faultyConn) happened(f *fault) {
	c.broken = f.broken
	if f.then != nil {
		f.then()
	}
}

// ExecContext runs a statement. One that the driver would rather prepare first
// fails here, too.
func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (r driver.Result, err error) {
	return r, c.statement(func() error {
		r, err = c.driverConn.ExecContext(ctx, query, args)
		return err
	})
}

// QueryContext runs a query.
func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (r driver.Rows, err error) {
	err = c.statement(func() error {
		r, err = c.driverConn.QueryContext(ctx, query, args)
		return err
	})
	if err != nil && r != nil {
		_ = r.Close() // nobody will read them
		r = nil
	}
	return r, err
}

// CheckNamedValue leaves arguments to the driver, or to database/sql if it does.
func (c *faultyConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.driverConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// ResetSession prepares the connection for its next user.
func (c *faultyConn) ResetSession(ctx context.Context) error {
	if c.broken {
		return driver.ErrBadConn
	}
	return c.driverConn.ResetSession(ctx)
}

// IsValid reports whether the connection can be used again.
func (c *faultyConn) IsValid() bool {
	v, ok := c.driverConn.(driver.Validator)
	return !c.broken && (!ok || v.IsValid())
}

// Close closes the connection, unless a late commit is still under way on it.
func (c *faultyConn) Close() error {
	if c.held {
		return nil
	}
	return c.driverConn.Close()
}

type faultyTx struct {
	driver.Tx
	c *faultyConn
}

// Commit commits, or pretends to.
func (t *faultyTx) Commit() error {
	t.c.inTx = false
	f := t.c.f.next(atCommit)
	if f == nil {
		return t.Tx.Commit()
	}
	switch f.effect {
	case noEffect:
		if err := t.Tx.Rollback(); err != nil {
			return err
		}
	case fullEffect:
		if err := t.Tx.Commit(); err != nil {
			return err
		}
	case lateEffect:
		t.c.held = true
		t.c.f.mu.Lock()
		t.c.f.late = append(t.c.f.late, func() error {
			return errors.Join(t.Tx.Commit(), t.c.driverConn.Close())
		})
		t.c.f.mu.Unlock()
	}
	t.c.happened(f)
	return f.err
}

// Rollback rolls back.
func (t *faultyTx) Rollback() error {
	t.c.inTx = false
	return t.Tx.Rollback()
}
