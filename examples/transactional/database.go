package main

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/posthorn/webhook/sqlstore"
)

// database is a place of the program's own, which remove removes.
type database struct {
	*sql.DB
	dialect sqlstore.Dialect
	place   string // for people
	remove  func() error
}

func openDatabase(ctx context.Context, dsn string) (database, error) {
	if dsn == "" {
		return openSQLite()
	}
	return openPostgres(ctx, dsn)
}

// openSQLite opens a temporary file, with the settings that sqlstore asks for.
func openSQLite() (database, error) {
	dir, err := os.MkdirTemp("", "transactional-")
	if err != nil {
		return database{}, err
	}
	file := filepath.Join(dir, "shop.db")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.ToSlash(file)}).EscapedPath()+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return database{}, errors.Join(err, os.RemoveAll(dir))
	}
	return database{DB: db, dialect: sqlstore.SQLite, place: "SQLite, " + file, remove: func() error {
		return errors.Join(db.Close(), os.RemoveAll(dir))
	}}, nil
}

// openPostgres makes a schema and opens the database so that names without one
// are looked for, and made, there.
func openPostgres(ctx context.Context, dsn string) (database, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return database{}, err
	}
	schema := "transactional_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	cfg.RuntimeParams["search_path"] = schema // which may be missing for now
	db := stdlib.OpenDB(*cfg)
	if _, err := db.ExecContext(ctx, "create schema "+schema); err != nil {
		return database{}, errors.Join(err, db.Close())
	}
	return database{DB: db, dialect: sqlstore.Postgres, place: "PostgreSQL, schema " + schema, remove: func() error {
		// Also if the program was told to end.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, err := db.ExecContext(ctx, "drop schema "+schema+" cascade")
		return errors.Join(err, db.Close())
	}}, nil
}
