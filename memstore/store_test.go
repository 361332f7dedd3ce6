package memstore_test

import (
	"testing"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/storetest"
)

// TestStore is the whole contract; its subtests are the clauses.
func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) webhook.Store { return memstore.New() })
}

func TestTx(t *testing.T) {
	t.Parallel()
	storetest.RunTx(t, func(*testing.T) (webhook.Store, func(*testing.T) storetest.Tx) {
		s := memstore.New()
		return s, func(*testing.T) storetest.Tx { return s.Begin() }
	})
}
