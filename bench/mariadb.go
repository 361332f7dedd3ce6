package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

const defaultMariaDB = "root@tcp(127.0.0.1:3306)/"

// openMariaDB creates a database with a store in it.
func openMariaDB(ctx context.Context, dsn string) (_ *database, err error) {
	if dsn == "" {
		dsn = defaultMariaDB
	}
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("mariadb: %w", err)
	}
	config.DBName = ""
	admin, err := openMySQL(config)
	if err != nil {
		return nil, err
	}
	name := newDatabaseName()
	opened := &database{close: func() error {
		return errors.Join(
			clearUp(ctx, "mariadb: drop the database "+name, func(ctx context.Context) error {
				_, err := admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name)
				return err
			}),
			admin.Close(),
		)
	}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("mariadb: %w", err), opened.close())
		}
	}()
	if err := describeMariaDB(ctx, admin, opened); err != nil {
		return nil, err
	}
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, err
	}
	config.DBName = name
	db, err := opened.openStore(ctx, storeMariaDB, place{DSN: config.FormatDSN(), Name: name})
	if err != nil {
		return nil, err
	}
	opened.sizes = func(ctx context.Context) (s tableSizes, err error) {
		err = db.QueryRowContext(ctx, `SELECT sum(data_length), sum(index_length), (SELECT count(*) FROM posthorn_queue)
			FROM information_schema.tables WHERE table_schema = database()`).Scan(&s.tables, &s.indexes, &s.queue)
		return s, err
	}
	opened.deadlocks = func(ctx context.Context) (n int, err error) { // of the whole server
		err = db.QueryRowContext(ctx, "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Innodb_deadlocks'").Scan(&n)
		return n, err
	}
	opened.fill = func(ctx context.Context, t table) (err error) {
		filling := config.Clone()
		filling.InterpolateParams = true // spares a round trip, and the bound on placeholders
		db, err := openMySQL(filling)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return insertRows(ctx, db, t, 1000)
	}
	return opened, nil
}

// connectMariaDB opens a database of the server.
func connectMariaDB(p place) (*sql.DB, error) {
	config, err := mysql.ParseDSN(p.DSN)
	if err != nil {
		return nil, err
	}
	return openMySQL(config)
}

func openMySQL(config *mysql.Config) (*sql.DB, error) {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// describeMariaDB asks the server what it is, and finds its process.
func describeMariaDB(ctx context.Context, admin *sql.DB, d *database) error {
	var version, flush, pidFile string
	err := admin.QueryRowContext(ctx, "SELECT version(), @@innodb_flush_log_at_trx_commit, @@pid_file").Scan(&version, &flush, &pidFile)
	if err != nil {
		return err
	}
	d.about = fmt.Sprintf("%s, innodb_flush_log_at_trx_commit %s", version, flush)
	if d.cpu = mariaDBCPU(pidFile); d.cpu == nil {
		d.about += "; its process was not found, its CPU time is unknown"
	}
	return nil
}

// mariaDBCPU is the clock of the server that has written its number to a file,
// or nil if this machine has no such file or process.
func mariaDBCPU(pidFile string) cpuClock {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil
	}
	server, err := readProcess(pid)
	if err != nil || server.command != "mariadbd" && server.command != "mysqld" {
		return nil
	}
	return processCPU(pid)
}
