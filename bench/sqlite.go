package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// openSQLite creates a file with a store in it, in a new folder below the given
// one; by default that for temporary files.
func openSQLite(ctx context.Context, parent string) (_ *database, err error) {
	folder, err := os.MkdirTemp(parent, databasePrefix)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	opened := &database{close: func() error { return os.RemoveAll(folder) }}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("sqlite: %w", err), opened.close())
		}
	}()
	query := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"},
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "bench.db")+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	opened.close = func() error { return errors.Join(db.Close(), os.RemoveAll(folder)) }
	var version string
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return nil, err
	}
	opened.about = "SQLite " + version + ", WAL, synchronous FULL; its CPU time is the sender's"
	opened.fill = func(ctx context.Context, t table) error { return fillSQLite(ctx, db, t) }
	opened.store, err = newSQLStore(ctx, db, storeSQLite)
	return opened, err
}

// fillSQLite inserts rows into a table, in one transaction.
func fillSQLite(ctx context.Context, db *sql.DB, t table) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	//nolint:gosec // tables and columns of our own
	insert, err := tx.PrepareContext(ctx, "INSERT INTO "+t.name+" ("+strings.Join(t.columns, ", ")+
		") VALUES (?"+strings.Repeat(", ?", len(t.columns)-1)+")")
	if err != nil {
		return err
	}
	defer func() { _ = insert.Close() }()
	for row := range t.rows {
		for i, v := range row {
			if id, ok := v.(uuid.UUID); ok {
				row[i] = id[:]
			}
		}
		if _, err := insert.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	return tx.Commit()
}
