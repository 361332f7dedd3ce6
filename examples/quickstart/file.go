package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite" // and with it the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// defaultFile is where the quick start keeps everything unless it is told
// otherwise; empty if the system has no place for such things.
func defaultFile() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "posthorn-quickstart", "quickstart.db")
}

// take makes sure that no other quick start works on the file, waiting for its
// end if need be. It returns the file's full path.
//
// Any number of processes may share a database, but not two that move their
// clocks by hand: each would take the other's retries for overdue, and send them
// at a time that the other's receiver must refuse.
func take(ctx context.Context, out io.Writer, file string) (full string, release func(), err error) {
	if file == "" {
		return "", nil, errors.New("there is no folder for caches: name a file with -db")
	}
	if full, err = filepath.Abs(file); err != nil {
		return "", nil, err
	}
	// The webhooks' secrets are in it as they are: it is for nobody else to read.
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return "", nil, err
	}
	f, err := os.OpenFile(full, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := f.Close(); err != nil {
		return "", nil, err
	}
	// A transaction on an empty database beside it is a lock that every system
	// has, and that is gone when the process is, however it ends.
	db, err := sql.Open("sqlite", uri(full+".lock")+"?_txlock=exclusive&_pragma=busy_timeout(0)")
	if err != nil {
		return "", nil, err
	}
	for told := false; ; told = true {
		tx, err := db.BeginTx(context.WithoutCancel(ctx), nil) // release ends it, not ctx
		if err == nil {
			return full, func() { _ = errors.Join(tx.Rollback(), db.Close()) }, nil
		}
		var refused *sqlite.Error
		if !errors.As(err, &refused) || refused.Code()&0xff != sqlite3.SQLITE_BUSY {
			return "", nil, errors.Join(err, db.Close())
		}
		if !told {
			say(out, "another quickstart works on %s; this one waits until it ends, or give it another file with -db\n", full)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", nil, errors.Join(ctx.Err(), db.Close())
		}
	}
}

// uri names a file to SQLite, whatever characters are in its path.
func uri(file string) string {
	return "file:" + (&url.URL{Path: filepath.ToSlash(file)}).EscapedPath()
}
