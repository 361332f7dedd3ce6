package integration_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// TestTxWrappers publishes by whatever a host may have for a transaction.
func TestTxWrappers(t *testing.T) {
	t.Parallel()
	// embedding is how sqlx and others make transactions of their own.
	type embedding struct{ *sql.Tx }

	for _, tc := range []struct {
		name string
		// begin returns what WithTx is given, and how it ends.
		begin func(t *testing.T, s *integration.Space) (tx sqlstore.DBTX, end func(commit bool) error)
	}{
		{"Tx", func(t *testing.T, s *integration.Space) (sqlstore.DBTX, func(bool) error) {
			t.Helper()
			tx, err := s.Begin(t.Context(), s.DB)
			require.NoError(t, err)
			return tx, endOf(tx)
		}},
		{"EmbeddedTx", func(t *testing.T, s *integration.Space) (sqlstore.DBTX, func(bool) error) {
			t.Helper()
			tx, err := s.Begin(t.Context(), s.DB)
			require.NoError(t, err)
			return embedding{tx}, endOf(tx)
		}},
		{"Conn", func(t *testing.T, s *integration.Space) (sqlstore.DBTX, func(bool) error) {
			t.Helper()
			conn, err := s.DB.Conn(t.Context())
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
			begin := "begin"
			if s.Dialect == sqlstore.SQLite {
				begin = "begin immediate"
			}
			_, err = conn.ExecContext(t.Context(), begin)
			require.NoError(t, err)
			return conn, func(commit bool) error {
				word := "rollback"
				if commit {
					word = "commit"
				}
				_, err := conn.ExecContext(t.Context(), word)
				return err
			}
		}},
		{"TxOfConn", func(t *testing.T, s *integration.Space) (sqlstore.DBTX, func(bool) error) {
			t.Helper()
			conn, err := s.DB.Conn(t.Context())
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
			tx, err := conn.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			return tx, endOf(tx)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range integration.Servers {
				t.Run(s.Name, func(t *testing.T) {
					t.Parallel()
					space := s.Migrated(t)
					store := space.Store(t)
					register(t, store, "https://archive.example/hooks", room)
					publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
					require.NoError(t, err)

					var committed uuid.UUID
					for _, commit := range []bool{false, true} {
						tx, end := tc.begin(t, space)
						for range 2 { // the statements of the first leave nothing open on the connection
							p, err := publisher.PublishTx(t.Context(), store.WithTx(tx), message(acme, room))
							require.NoError(t, err)
							require.Equal(t, 1, p.Deliveries)
							committed = p.EventID
						}
						require.NoError(t, end(commit))
					}
					got := claimEverything(t, store)
					require.Len(t, got, 2)
					require.Contains(t, got, committed)
				})
			}
		})
	}
}

func endOf(tx *sql.Tx) func(commit bool) error {
	return func(commit bool) error {
		if commit {
			return tx.Commit()
		}
		return tx.Rollback()
	}
}

// TestTxIsNoHandle refuses a handle, on which each statement would be a
// transaction of its own.
func TestTxIsNoHandle(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			store := space.Store(t)
			register(t, store, "https://archive.example/hooks", room)
			publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)

			for name, w := range map[string]*sqlstore.TxStore{"handle": store.WithTx(space.DB), "nil": store.WithTx(nil)} {
				_, err := publisher.PublishTx(t.Context(), w, message(acme, room))
				require.ErrorContains(t, err, "WithTx", name)
			}
			require.Empty(t, claimEverything(t, store))
		})
	}
}

// TestTxEndsWithItsContext publishes where the host's context has ended.
func TestTxEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			store := space.Store(t)
			register(t, store, "https://archive.example/hooks", room)
			publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)

			ctx, cancel := context.WithCancel(t.Context())
			tx, err := s.Begin(ctx, space.DB)
			require.NoError(t, err)
			_, err = publisher.PublishTx(ctx, store.WithTx(tx), message(acme, room))
			require.NoError(t, err)
			cancel()
			_, err = publisher.PublishTx(ctx, store.WithTx(tx), message(acme, room))
			require.ErrorIs(t, err, context.Canceled)
			require.Error(t, tx.Commit())
			require.Empty(t, claimEverything(t, store))
		})
	}
}
