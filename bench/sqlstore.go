package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/posthorn/webhook/sqlstore"
)

// place is where another process finds a database.
type place struct {
	DSN  string `json:"dsn"`
	Name string `json:"name"` // of the database on the server; for sqlite empty
}

// connect opens a database that is there.
func (p place) connect(kind string, conns int) (db *sql.DB, err error) {
	switch kind {
	case storePostgres:
		db, err = connectPostgres(p)
	case storeMariaDB:
		db, err = connectMariaDB(p)
	case storeSQLite:
		db, err = sql.Open("sqlite", p.DSN)
	default:
		err = fmt.Errorf("no SQL store is called %q", kind)
	}
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// newSQLStore makes the tables in an empty database, or finds them there, and
// returns a store on it.
func newSQLStore(ctx context.Context, db *sql.DB, kind string) (*sqlstore.Store, error) {
	var dialect sqlstore.Dialect
	switch kind {
	case storePostgres:
		dialect = sqlstore.Postgres
	case storeMariaDB:
		dialect = sqlstore.MySQL
	case storeSQLite:
		dialect = sqlstore.SQLite
	default:
		return nil, fmt.Errorf("no SQL store is called %q", kind)
	}
	store, err := sqlstore.New(db, dialect, sqlstore.Config{InsecurePlaintextSecrets: true})
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(ctx)
}

// openStore connects to a place and lets d have what is the same for all SQL
// databases. d.close closes the connections first, and then does what it did.
func (d *database) openStore(ctx context.Context, kind string, p place) (*sql.DB, error) {
	db, err := p.connect(kind, poolSize)
	if err != nil {
		return nil, err
	}
	drop := d.close
	d.close = func() error { return errors.Join(db.Close(), drop()) }
	store, err := newSQLStore(ctx, db, kind)
	if err != nil {
		return nil, err
	}
	d.store, d.place = store, p
	d.begin = func(ctx context.Context) (hostTx, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		return sqlTx{store.WithTx(tx), tx}, nil
	}
	d.queued = func(ctx context.Context) (n int, err error) {
		err = db.QueryRowContext(ctx, "SELECT count(*) FROM posthorn_queue").Scan(&n)
		return n, err
	}
	return db, nil
}

// sqlTx is a transaction of the host.
type sqlTx struct {
	*sqlstore.TxStore
	*sql.Tx
}

// insertRows inserts rows into a table, so many with a statement and a
// transaction.
func insertRows(ctx context.Context, db *sql.DB, t table, batch int) error {
	row := "(?" + strings.Repeat(", ?", len(t.columns)-1) + ")"
	insert := "INSERT INTO " + t.name + " (" + strings.Join(t.columns, ", ") + ") VALUES "
	var args []any
	flush := func() error {
		n := len(args) / len(t.columns)
		if n == 0 {
			return nil
		}
		_, err := db.ExecContext(ctx, insert+row+strings.Repeat(", "+row, n-1), args...)
		args = args[:0]
		return err
	}
	for values := range t.rows {
		for _, v := range values {
			if id, ok := v.(uuid.UUID); ok {
				v = id[:]
			}
			args = append(args, v)
		}
		if len(args) == batch*len(t.columns) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
