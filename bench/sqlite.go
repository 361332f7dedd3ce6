package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

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
	opened.store, err = newSQLStore(ctx, db, storeSQLite)
	return opened, err
}
