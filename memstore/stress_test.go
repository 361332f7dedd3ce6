package memstore_test

import (
	"testing"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/storetest"
)

func newStore(*testing.T) webhook.Store { return memstore.New() }

func TestStress(t *testing.T) {
	t.Parallel()
	storetest.Stress(t, newStore, storetest.StressConfig{})
}

func TestModel(t *testing.T) {
	t.Parallel()
	storetest.Model(t, newStore, storetest.ModelConfig{})
}
