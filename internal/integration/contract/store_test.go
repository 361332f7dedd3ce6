package contract_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
	"github.com/posthorn/webhook/storetest"
)

// TestStore is the whole contract on each database; its subtests are the
// clauses.
func TestStore(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, newStore(s))
		})
	}
}

func TestTxStore(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			storetest.RunTx(t, func(t *testing.T) (webhook.Store, func(*testing.T) storetest.Tx) {
				t.Helper()
				space := s.Migrated(t)
				store := space.Store(t)
				return store, func(t *testing.T) storetest.Tx {
					t.Helper()
					begin := func() (*sql.Tx, error) { return s.Begin(t.Context(), space.DB) }
					if s != integration.SQLite {
						tx, err := begin()
						require.NoError(t, err)
						return &hostTx{TxStore: store.WithTx(tx), tx: tx}
					}
					return &lazyTx{store: store, begin: begin}
				}
			})
		})
	}
}

func TestStoreStress(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			storetest.Stress(t, newStore(s), storetest.StressConfig{})
		})
	}
}

func TestStoreModel(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			runs := 5 // servers take seconds for each
			if integration.Long || s == integration.SQLite && !integration.Raced {
				runs = 30
			}
			storetest.Model(t, newStore(s), storetest.ModelConfig{Runs: runs})
		})
	}
}

func newStore(s *integration.Server) func(*testing.T) webhook.Store {
	return func(t *testing.T) webhook.Store {
		t.Helper()
		return s.Migrated(t).Store(t)
	}
}

// hostTx is a transaction of the host.
type hostTx struct {
	*sqlstore.TxStore
	tx *sql.Tx
}

func (h *hostTx) Commit() error   { return h.tx.Commit() }
func (h *hostTx) Rollback() error { return h.tx.Rollback() }

// lazyTx begins with its first insert: an open transaction of SQLite keeps every
// other one from beginning.
type lazyTx struct {
	store *sqlstore.Store
	begin func() (*sql.Tx, error)
	tx    *sql.Tx
}

// InsertEventsTx begins the transaction if need be.
func (l *lazyTx) InsertEventsTx(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	if l.tx == nil {
		tx, err := l.begin()
		if err != nil {
			return webhook.InsertResult{}, err
		}
		l.tx = tx
	}
	return l.store.WithTx(l.tx).InsertEventsTx(ctx, p)
}

func (l *lazyTx) Commit() error {
	if l.tx == nil {
		return nil
	}
	return l.tx.Commit()
}

func (l *lazyTx) Rollback() error {
	if l.tx == nil {
		return nil
	}
	return l.tx.Rollback()
}
