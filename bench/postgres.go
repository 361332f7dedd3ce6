package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/posthorn/webhook"
)

const defaultPostgres = "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"

// postgresDatabase is a database that was created for a run.
type postgresDatabase struct {
	dsn   string // of the server
	name  string
	about string
	cpu   cpuClock
}

// createPostgres creates a database.
func createPostgres(ctx context.Context, dsn string) (*postgresDatabase, error) {
	if dsn == "" {
		dsn = defaultPostgres
	}
	d := &postgresDatabase{dsn: dsn, name: newDatabaseName()}
	err := d.asAdministrator(ctx, func(conn *pgx.Conn) error {
		if err := d.describe(ctx, conn); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{d.name}.Sanitize()+" TEMPLATE template0")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: create a database: %w", err)
	}
	return d, nil
}

// describe asks the server what it is, and finds its processes.
func (d *postgresDatabase) describe(ctx context.Context, conn *pgx.Conn) error {
	var version, fsync, commit, autovacuum string
	var pid int
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('fsync'),
		current_setting('synchronous_commit'), current_setting('autovacuum'), pg_backend_pid()`).
		Scan(&version, &fsync, &commit, &autovacuum, &pid)
	if err != nil {
		return err
	}
	d.about = fmt.Sprintf("PostgreSQL %s, fsync %s, synchronous_commit %s, autovacuum %s", version, fsync, commit, autovacuum)
	if d.cpu = postgresCPU(pid); d.cpu == nil {
		d.about += "; not on this machine, its CPU time is unknown"
	}
	return nil
}

// postgresCPU is the clock of the server that has a process for a connection, or
// nil if this machine has no such process.
func postgresCPU(pid int) cpuClock {
	backend, err := readProcess(pid)
	if err != nil || backend.command != "postgres" {
		return nil
	}
	return familyCPU(backend.parent)
}

// config is how to connect to the database.
func (d *postgresDatabase) config() (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(d.dsn)
	if err != nil {
		return nil, err
	}
	c.Database = d.name
	return c, nil
}

func (d *postgresDatabase) asAdministrator(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(context.WithoutCancel(ctx)))
}

// drop removes the database, whoever is connected to it.
func (d *postgresDatabase) drop(ctx context.Context) error {
	return clearUp(ctx, "postgres: drop the database "+d.name, func(ctx context.Context) error {
		return d.asAdministrator(ctx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{d.name}.Sanitize()+" WITH (FORCE)")
			return err
		})
	})
}

// connectPostgres opens a database of the server.
func connectPostgres(p place) (*sql.DB, error) {
	d := postgresDatabase{dsn: p.DSN, name: p.Name}
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*config), nil
}

// openPostgres creates a database with a store in it.
func openPostgres(ctx context.Context, dsn string, plans bool) (_ *database, err error) {
	d, err := createPostgres(ctx, dsn)
	if err != nil {
		return nil, err
	}
	out := &database{about: d.about, cpu: d.cpu, fill: d.fill, close: func() error { return d.drop(ctx) }}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("postgres: %w", err), out.close())
		}
	}()
	db, err := out.openStore(ctx, storePostgres, place{DSN: d.dsn, Name: d.name})
	if err != nil {
		return nil, err
	}
	out.sizes = func(ctx context.Context) (s tableSizes, err error) {
		err = db.QueryRowContext(ctx, `SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)), (SELECT count(*) FROM posthorn_queue)
			FROM pg_class WHERE relkind = 'r' AND relname LIKE 'posthorn\_%'`).Scan(&s.tables, &s.indexes, &s.queue)
		return s, err
	}
	out.deadlocks = func(ctx context.Context) (n int, err error) {
		err = db.QueryRowContext(ctx, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&n)
		return n, err
	}
	out.vacuum = func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "VACUUM")
		return err
	}
	out.snapshot = func(ctx context.Context) (func() error, error) {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, "SELECT 1"); err != nil { // which takes it
			return nil, errors.Join(err, tx.Rollback())
		}
		return tx.Rollback, nil
	}
	if plans {
		out.explain = d.explain
	}
	return out, nil
}

// fill copies rows into a table.
func (d *postgresDatabase) fill(ctx context.Context, t table) error {
	config, err := d.config()
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	next, stop := iter.Pull(t.rows)
	defer stop()
	_, err = conn.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromFunc(func() ([]any, error) {
		row, ok := next()
		if !ok {
			return nil, nil
		}
		return row, nil
	}))
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// explain does something with a store, and returns how the server has done it.
func (d *postgresDatabase) explain(ctx context.Context, do func(webhook.Store) error) (plans string, err error) {
	config, err := d.config()
	if err != nil {
		return "", err
	}
	maps.Copy(config.RuntimeParams, map[string]string{
		"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "client_min_messages": "log",
		"auto_explain.log_analyze": "on", "auto_explain.log_buffers": "on", "auto_explain.log_timing": "off",
	})
	var said []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Message) }
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	store, err := newSQLStore(ctx, db, storePostgres)
	if err != nil {
		return "", err
	}
	said = nil
	err = do(store)
	return strings.Join(said, "\n\n"), err
}
