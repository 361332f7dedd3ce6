package integration_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// bounded opens a database once more, which cannot grow by more than some pages,
// as on a disk that is nearly full. Each connection has the bound for itself; the
// file does not have it.
func bounded(t *testing.T, s *integration.Space, pages int) *sql.DB {
	t.Helper()
	source := s.Source
	source.DSN += fmt.Sprintf("&_pragma=max_page_count(%d)", count(t, s, "pragma page_count")+pages)
	db, err := s.Connect(source, 3)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// unbind lets the database grow again.
func unbind(t *testing.T, db *sql.DB) {
	t.Helper()
	for range db.Stats().MaxOpenConnections { // all of them at once, so that none is taken twice
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.ExecContext(t.Context(), "pragma max_page_count = 1000000")
		require.NoError(t, err)
	}
}

// requireFull wants the error that says so, to programs and to people.
func requireFull(t *testing.T, err error) {
	t.Helper()
	var lite *sqlite.Error
	require.ErrorAs(t, err, &lite)
	require.Equal(t, 13, lite.Code()&0xff, "SQLITE_FULL")
	require.ErrorContains(t, err, "database or disk is full")
}

func requireIntegrity(t *testing.T, s *integration.Space) {
	t.Helper()
	var said string
	require.NoError(t, s.DB.QueryRowContext(t.Context(), "pragma integrity_check").Scan(&said))
	require.Equal(t, "ok", said)
}

// TestDiskFull publishes until the disk is full. What does not fit is refused as
// a whole, and what was accepted before is delivered when there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	space := integration.SQLite.Migrated(t)
	registerAway(t, space.Store(t))
	db := bounded(t, space, 20)
	store, err := space.NewStore(db)
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)

	var accepted []uuid.UUID
	event := message(acme, room)
	event.Data = strings.Repeat("x", 3_000)
	for err == nil {
		var p webhook.Published
		if p, err = publisher.Publish(t.Context(), event); err == nil {
			accepted = append(accepted, p.EventID)
		}
	}
	requireFull(t, err)
	require.NotEmpty(t, accepted)
	small := message(acme, room)
	results, err := publisher.PublishMany(t.Context(), []webhook.Event{small, event, event})
	requireFull(t, err)
	for _, r := range results {
		requireFull(t, r.Err)
	}
	requireStored(t, space, accepted)

	// A dispatcher on it gets nowhere.
	x := newScene()
	x.body = strings.Repeat("x", webhook.MaxResponseBytes)
	publisher = x.dispatch(t.Context(), t, store)
	x.until(t, "a failure", func() bool { return x.failed > 0 })
	_, err = publisher.Publish(t.Context(), event)
	requireFull(t, err)
	requireStored(t, space, accepted)

	unbind(t, db)
	for range 5 {
		p, err := publisher.Publish(t.Context(), event)
		require.NoError(t, err)
		accepted = append(accepted, p.EventID)
	}
	x.until(t, "an empty queue", func() bool { return count(t, space, "select count(*) from posthorn_queue") == 0 })
	requireStored(t, space, accepted)
	require.Equal(t, map[string]int{"succeeded after 1": awayHooks * len(accepted)}, outcomes(t, newManager(t, store), acme))
	x.mu.Lock()
	defer x.mu.Unlock()
	require.Len(t, x.answered, awayHooks*len(accepted))
	for delivery, times := range x.answered {
		require.Equal(t, 1, times, delivery)
	}
}

// requireStored wants these events in the database, each with all its
// deliveries, and nothing else.
func requireStored(t *testing.T, s *integration.Space, events []uuid.UUID) {
	t.Helper()
	want := map[uuid.UUID]int{}
	for _, id := range events {
		want[id] = awayHooks
	}
	require.Equal(t, want, deliveriesByEvent(t, s))
	open := count(t, s, "select count(*) from posthorn_deliveries where state = 0")
	require.Equal(t, open, count(t, s, "select count(*) from posthorn_queue"), "open deliveries in the queue")
	requireIntegrity(t, s)
}

// TestDiskFullAnywhere lets every statement be the one that finds no room: nothing
// is left of those before it.
func TestDiskFullAnywhere(t *testing.T) {
	t.Parallel()
	space := integration.SQLite.Migrated(t)
	registerAway(t, space.Store(t))
	events := slices.Repeat([]webhook.Event{message(acme, room)}, 50)
	for pages := 0; ; pages++ {
		db := bounded(t, space, pages)
		store, err := space.NewStore(db)
		require.NoError(t, err)
		publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
		require.NoError(t, err)
		results, err := publisher.PublishMany(t.Context(), events)
		require.NoError(t, db.Close())
		if err == nil {
			require.Greater(t, pages, 10, "tries")
			var accepted []uuid.UUID
			for _, r := range results {
				require.NoError(t, r.Err)
				accepted = append(accepted, r.EventID)
			}
			requireStored(t, space, accepted)
			return
		}
		requireFull(t, err)
		requireStored(t, space, nil)
	}
}

// TestDiskFullTx lets a host's transaction fail for want of room: rolled back, it
// leaves nothing, and the next one works.
func TestDiskFullTx(t *testing.T) {
	t.Parallel()
	space := integration.SQLite.Migrated(t)
	space.Exec(t, "create table orders (n int)")
	registerAway(t, space.Store(t))
	db := bounded(t, space, 4)
	store, err := space.NewStore(db)
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	event := message(acme, room)
	event.Data = strings.Repeat("x", 10_000)
	order := func(end func(*sql.Tx) error) (err error) {
		tx, err := space.Begin(t.Context(), db)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "insert into orders values (1)")
		require.NoError(t, err)
		for range 3 {
			if _, err = publisher.PublishTx(t.Context(), store.WithTx(tx), event); err != nil {
				break
			}
		}
		require.NoError(t, end(tx))
		return err
	}
	requireFull(t, order((*sql.Tx).Rollback))
	require.Zero(t, count(t, space, "select count(*) from orders"))
	requireStored(t, space, nil)

	unbind(t, db)
	require.NoError(t, order((*sql.Tx).Commit))
	require.Equal(t, 1, count(t, space, "select count(*) from orders"))
	require.Equal(t, 3*awayHooks, count(t, space, "select count(*) from posthorn_queue"))
	requireIntegrity(t, space)
}

// TestDiskFullMigrate has no room for all tables: then there are none.
func TestDiskFullMigrate(t *testing.T) {
	t.Parallel()
	space := integration.SQLite.Empty(t)
	db := bounded(t, space, 10)
	store, err := space.NewStore(db)
	require.NoError(t, err)
	requireFull(t, store.Migrate(t.Context()))
	require.Zero(t, count(t, space, "select count(*) from sqlite_master"))
	requireIntegrity(t, space)
	_, err = store.Claim(t.Context(), webhook.ClaimParams{})
	require.ErrorContains(t, err, "Migrate")

	unbind(t, db)
	require.NoError(t, store.Migrate(t.Context()))
	requireWorks(t, store)
}
