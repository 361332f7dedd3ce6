package main

import (
	"context"
	"crypto/rand"
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

	fill  func(context.Context, table) error        // nil if nobody has written it
	sizes func(context.Context) (tableSizes, error) // likewise
	// snapshot begins a transaction that sees the database as it is now until it is
	// released; nil if that keeps nothing from anybody.
	snapshot func(context.Context) (release func() error, err error)

	vacuum  func(context.Context) error                                                // nil if there is nothing like it
	explain func(context.Context, func(webhook.Store) error) (plans string, err error) // nil unless asked for
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
		return &database{store: memstore.New(), about: "in memory", close: func() error { return nil }}, nil
	}
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
