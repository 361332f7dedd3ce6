// Package sqlstore keeps webhooks, events, deliveries and their log in the
// host's own SQL database: PostgreSQL 13 or later, MySQL 8, MariaDB 10.6 or
// later, or SQLite 3.41 or later, through database/sql and the driver that the
// host already has.
//
//	store, err := sqlstore.New(db, sqlstore.Postgres, sqlstore.Config{Keyring: keys})
//	err = store.Migrate(ctx)
//
// Any number of processes may publish to one database and deliver from it. With
// [Store.WithTx] an event is part of the host's transaction: it commits or
// vanishes with it.
//
// # Drivers
//
// PostgreSQL: pgx's stdlib package or lib/pq. MySQL and MariaDB:
// go-sql-driver/mysql, without options. SQLite: modernc.org/sqlite with
//
//	file:hooks.db?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)
//
// or mattn/go-sqlite3 with
//
//	file:hooks.db?_txlock=immediate&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL
//
// What the tests run on: PostgreSQL 15 with pgx, MariaDB 10.11, and
// modernc.org/sqlite. The SQL for MySQL keeps to what MySQL 8 documents, but
// has not been run on it.
//
// # Tables
//
// The tables begin with "posthorn_", unless Config says otherwise, and live where
// the connection's search path or database points to. They are this package's
// own: hosts read through [webhook.Manager], and write nothing. There are no
// foreign keys, triggers or functions.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

var _ webhook.Store = (*Store)(nil)

// Config configures [New].
type Config struct {
	// TablePrefix begins the names of all tables and indexes: lower-case
	// letters, digits and underscores, a letter first, at most 24. Defaults to
	// "posthorn_".
	TablePrefix string

	// Keyring seals the webhooks' secrets. Required, unless
	// InsecurePlaintextSecrets is set.
	Keyring *Keyring

	// InsecurePlaintextSecrets says that webhooks' secrets may be stored as
	// they are, so that whoever reads the database or a backup can sign
	// requests in their name. Beside a Keyring it lets secrets be read that are
	// still as they were stored without one, until [Store.Reseal] has sealed them.
	// Defaults to false.
	InsecurePlaintextSecrets bool

	// Logger is told of transactions that had to be repeated, at Debug.
	// Defaults to silence.
	Logger *slog.Logger
}

// Store is a [webhook.Store] on an SQL database. It is safe for concurrent use
// and needs no closing; the database handle stays the host's to close.
type Store struct {
	db     *sql.DB
	d      Dialect
	prefix string

	keyring   *Keyring
	plaintext bool // secrets that are not sealed open
	log       *slog.Logger
	ids       webhook.IDSource
	lanes     lanes
	clock     databaseClock
	purging   purging

	notifications notifications
	self          string // whom notifications are from

	texts  sync.Map // statements by their shared form
	writer *writer  // SQLite's

	versionOK atomic.Bool // the tables have been looked at
}

var prefixForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,23}$`)

// New returns a store on a database, which it asks for its version, its time and, on
// SQLite, for the settings that durability depends on. Before its first use the
// tables must be there: see [Store.Migrate]. It returns webhook.ValidationErrors
// for what is wrong with the parameters.
func New(db *sql.DB, d Dialect, cfg Config) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: new: the database is nil")
	}
	var faults webhook.ValidationErrors
	if d != Postgres && d != MySQL && d != SQLite {
		faults = append(faults, webhook.ValidationError{Field: "dialect", Reason: "must be sqlstore.Postgres, sqlstore.MySQL or sqlstore.SQLite"})
	}
	if cfg.TablePrefix == "" {
		cfg.TablePrefix = defaultPrefix
	}
	if !prefixForm.MatchString(cfg.TablePrefix) {
		faults = append(faults, webhook.ValidationError{
			Field: "table_prefix", Reason: "must be 1 to 24 lower-case letters, digits and underscores, a letter first",
		})
	}
	if cfg.Keyring == nil && !cfg.InsecurePlaintextSecrets {
		faults = append(faults, webhook.ValidationError{
			Field: "keyring", Reason: "is required, to seal the webhooks' secrets; or set InsecurePlaintextSecrets, and they are stored as they are",
		})
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("sqlstore: new: %w", faults)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{db: db, d: d, prefix: cfg.TablePrefix, keyring: cfg.Keyring, plaintext: cfg.InsecurePlaintextSecrets, log: cfg.Logger, self: uuid.NewString(), writer: newWriter()}
	s.clock.s = s
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if err := again(ctx, func() error { return s.checkDatabase(ctx) }); err != nil {
		return nil, fmt.Errorf("sqlstore: new: %w", err)
	}
	if err := again(ctx, func() error { return s.clock.read(ctx) }); err != nil {
		return nil, fmt.Errorf("sqlstore: new: the database's clock: %w", err)
	}
	return s, nil
}

// DBTX is what WithTx needs of a transaction. *sql.Tx has it, and so have
// *sql.Conn and sqlx's transactions. Of bun's, which rewrites statements, pass
// the *sql.Tx inside.
type DBTX interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// TxStore stores events inside a transaction of the host.
type TxStore struct {
	s  *Store
	tx DBTX
}

var _ webhook.TxWriter = (*TxStore)(nil)

// WithTx returns a writer for [webhook.Publisher.PublishTx] that works inside a
// transaction of the host: what is published with it is delivered if and only
// if the transaction commits. tx is a *sql.Tx, a *sql.Conn on which the host has
// begun a transaction, or a wrapper of either with the same three methods. A
// *sql.DB is refused when something is inserted, since it is no transaction.
//
// On MySQL, use READ COMMITTED for such transactions: under the default,
// REPEATABLE READ, they do not see webhooks that were created after their first
// read, and meet more deadlocks. Two concurrent transactions that publish under
// one idempotency key wait for each other.
//
// On SQLite, whose one writer the transaction is, whoever holds it must not call
// what the store does in transactions of its own, such as Publish: that waits for
// the transaction to end.
func (s *Store) WithTx(tx DBTX) *TxStore { return &TxStore{s: s, tx: tx} }

// statement returns a statement in the store's dialect, and its arguments with rows
// spread out.
func (s *Store) statement(shared string, args []any) (string, []any) {
	known, ok := s.texts.Load(shared)
	if !ok {
		known, _ = s.texts.LoadOrStore(shared, s.d.expand(shared, s.prefix))
	}
	st := known.(statement)
	if len(st.rows) == 0 {
		return st.text, args
	}
	var out []any
	seen := 0
	for _, arg := range args {
		if r, ok := arg.(*rows); ok {
			out = append(out, r.args(st.rows[seen])...)
			seen++
		} else {
			out = append(out, arg)
		}
	}
	return st.text, out
}

// session is one connection, or transaction, at work.
type session struct {
	*Store
	q DBTX
}

// exec runs a statement and returns how many rows it has changed.
func (c session) exec(ctx context.Context, text string, args ...any) (int, error) {
	text, args = c.statement(text, args)
	r, err := c.q.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// query collects what a statement returns.
func query[T any](ctx context.Context, c session, scan func(scan func(...any) error, to *T) error, text string, args ...any) ([]T, error) {
	text, args = c.statement(text, args)
	found, err := c.q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var out []T
	for found.Next() {
		var v T
		if err := scan(found.Scan, &v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, found.Err()
}

// first is query for statements that return one row or none.
func first[T any](ctx context.Context, c session, scan func(scan func(...any) error, to *T) error, text string, args ...any) (v T, ok bool, err error) {
	all, err := query(ctx, c, scan, text, args...)
	if err != nil || len(all) == 0 {
		return v, false, err
	}
	return all[0], true, nil
}

// plain scans a single column.
func plain[T any](scan func(...any) error, to *T) error { return scan(to) }
