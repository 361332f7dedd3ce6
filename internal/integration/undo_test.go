package integration_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// brokenTx is a host's transaction. The context of its caller ends before some
// statement.
type brokenTx struct {
	*sql.Tx
	left int
	end  context.CancelFunc
}

func (tx *brokenTx) count() {
	if tx.left--; tx.left == 0 {
		tx.end()
	}
}

func (tx *brokenTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tx.count()
	return tx.Tx.ExecContext(ctx, query, args...)
}

func (tx *brokenTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	tx.count()
	return tx.Tx.QueryContext(ctx, query, args...)
}

// TestTxUndone publishes in a transaction until the context ends, at each
// statement in turn, and commits nevertheless: the event is not there in parts.
func TestTxUndone(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			space.Exec(t, "create table orders (n int)")
			store := space.Store(t)
			registerAway(t, store)
			publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)

			orders := 0
			for n := 1; ; n++ {
				ctx, cancel := context.WithCancel(t.Context())
				tx, err := space.Begin(t.Context(), space.DB)
				require.NoError(t, err)
				_, err = tx.ExecContext(t.Context(), "insert into orders values (1)")
				require.NoError(t, err)
				event := message(acme, room)
				event.IdempotencyKey = fmt.Sprint(n)
				_, err = publisher.PublishTx(ctx, store.WithTx(&brokenTx{tx, n, cancel}), event)
				cancel()
				if err == nil {
					require.Greater(t, n, 4, "statements")
					require.NoError(t, tx.Commit())
					break
				}
				require.ErrorIs(t, err, context.Canceled)
				err = tx.Commit()
				if s.Dialect == sqlstore.Postgres {
					require.Error(t, err)
				} else {
					require.NoError(t, err)
					orders++
				}
				requireNothingStored(t, space)
				require.Equal(t, orders, count(t, space, "select count(*) from orders"))
			}
			require.Equal(t, awayHooks, count(t, space, "select count(*) from posthorn_queue"))
		})
	}
}

func requireNothingStored(t *testing.T, s *integration.Space) {
	t.Helper()
	for _, table := range []string{"events", "deliveries", "queue"} {
		require.Zero(t, count(t, s, "select count(*) from posthorn_"+table), table)
	}
}

// TestTxDiskFull is the same with a disk that is full at some page.
func TestTxDiskFull(t *testing.T) {
	t.Parallel()
	refused := 0
	for pages := range 12 {
		t.Run(fmt.Sprintf("%d pages", pages), func(t *testing.T) {
			space := integration.SQLite.Migrated(t)
			registerAway(t, space.Store(t))
			db := bounded(t, space, pages)
			store, err := space.NewStore(db)
			require.NoError(t, err)
			publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)
			tx, err := space.Begin(t.Context(), db)
			require.NoError(t, err)
			event := message(acme, room)
			event.Data = strings.Repeat("x", 10_000)
			p, err := publisher.PublishTx(t.Context(), store.WithTx(tx), event)
			if err == nil {
				require.NoError(t, tx.Commit())
				requireStored(t, space, []uuid.UUID{p.EventID})
				return
			}
			refused++
			requireFull(t, err)
			_ = tx.Commit() // fails as well if SQLite has rolled back by itself
			requireNothingStored(t, space)
		})
	}
	require.NotZero(t, refused)
	require.Less(t, refused, 12)
}

// TestTxOnTheOnlyConnection publishes where the host's transaction has the only
// connection.
func TestTxOnTheOnlyConnection(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			db, err := s.Connect(space.Source, 1)
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			store, err := s.NewStore(db)
			require.NoError(t, err)
			registerAway(t, store)
			publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)
			waits := db.Stats().WaitCount
			tx, err := s.Begin(t.Context(), db)
			require.NoError(t, err)
			_, err = publisher.PublishTx(t.Context(), store.WithTx(tx), message(acme, room))
			require.NoError(t, err)
			require.Equal(t, waits, db.Stats().WaitCount)
			require.NoError(t, tx.Commit())
		})
	}
}
