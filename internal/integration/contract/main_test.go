// Package contract_test holds sqlstore to the contract of a store on each
// database. It is apart from the other tests because it takes as long as all of
// them together.
package contract_test

import (
	"os"
	"testing"

	"github.com/posthorn/webhook/internal/integration"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }
