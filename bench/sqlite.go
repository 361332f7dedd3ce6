package main

import (
	"context"
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
	at := place{DSN: "file:" + filepath.Join(folder, "bench.db") + "?" + query.Encode()}
	db, err := opened.openStore(ctx, storeSQLite, at)
	if err != nil {
		return nil, err
	}
	var version string
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return nil, err
	}
	opened.about = "SQLite " + version + ", WAL, synchronous FULL; its CPU time is the sender's"
	opened.fill = func(ctx context.Context, t table) error { return insertRows(ctx, db, t, 1000) }
	opened.sizes = func(ctx context.Context) (s tableSizes, err error) {
		err = db.QueryRowContext(ctx, `SELECT (pages.page_count - free.freelist_count) * size.page_size, (SELECT count(*) FROM posthorn_queue)
			FROM pragma_page_count AS pages, pragma_freelist_count AS free, pragma_page_size AS size`).Scan(&s.tables, &s.queue)
		return s, err
	}
	return opened, nil
}
