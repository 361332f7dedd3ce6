package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
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

// openPostgres creates a database with a store in it.
func openPostgres(ctx context.Context, dsn string) (_ *database, err error) {
	d, err := createPostgres(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.drop(ctx))
		}
	}()
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	store, err := newSQLStore(ctx, db, storePostgres)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &database{
		store: store, about: d.about, cpu: d.cpu,
		close: func() error { return errors.Join(db.Close(), d.drop(ctx)) },
	}, nil
}
