package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

// database is a store, empty, in a place of its own.
type database struct {
	store webhook.Store
	about string   // version and durability of the server
	cpu   cpuClock // nil if the store works inside this process
	close func() error

	place place                                 // for other processes; zero in memory
	begin func(context.Context) (hostTx, error) // a transaction of the host

	// What follows is nil where there is nothing like it.
	fill      func(context.Context, table) error
	queued    func(context.Context) (int, error) // rows of the queue: deliveries that are not finished
	sizes     func(context.Context) (tableSizes, error)
	deadlocks func(context.Context) (int, error) // so far
	// snapshot begins a transaction that sees the database as it is now until it is
	// released; nil if that keeps nothing from anybody.
	snapshot func(context.Context) (release func() error, err error)

	vacuum  func(context.Context) error
	explain func(context.Context, func(webhook.Store) error) (plans string, err error) // nil unless asked for
}

// hostTx is a transaction of the host, in which events can be published.
type hostTx interface {
	webhook.TxWriter
	Commit() error
	Rollback() error
}

// tableSizes are what the store takes up.
type tableSizes struct {
	tables, indexes int64 // bytes; 0 if they are counted with the tables
	queue           int   // rows
}

const (
	// databasePrefix begins the names of what is created on a server. A run that
	// was killed leaves it behind.
	databasePrefix = "posthorn_bench_"

	// poolSize is how many connections a host gives the library.
	poolSize = 32

	// dropTimeout bounds the clearing up, which goes on when the run is
	// interrupted.
	dropTimeout = 30 * time.Second
)

// openDatabase creates a place for the store that the command line names.
func (b *bench) openDatabase(ctx context.Context) (*database, error) {
	switch b.store {
	case storePostgres:
		return openPostgres(ctx, b.dsn, b.plans)
	case storeMariaDB:
		return openMariaDB(ctx, b.dsn)
	case storeSQLite:
		return openSQLite(ctx, b.dsn)
	default:
		store := memstore.New()
		return &database{
			store: store, about: "in memory", close: func() error { return nil },
			begin: func(context.Context) (hostTx, error) { return store.Begin(), nil },
		}, nil
	}
}

// openFor creates a place for the store, in which the targets' webhooks are.
func (b *bench) openFor(ctx context.Context, targets []target) (*database, error) {
	db, err := b.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	if err := register(ctx, db.store, targets); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

// newDatabaseName returns a name that nothing else has.
func newDatabaseName() string { return databasePrefix + strings.ToLower(rand.Text()[:12]) }

// clearUp runs a step of clearing up, also after ctx has ended.
func clearUp(ctx context.Context, what string, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	if err := step(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
