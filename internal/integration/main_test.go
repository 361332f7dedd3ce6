package integration_test

import (
	"os"
	"testing"

	"github.com/posthorn/webhook/internal/integration"
)

// TestMain is also where the processes begin that tests start: they are this
// program, told by the environment what else to be.
func TestMain(m *testing.M) {
	if task, ok := os.LookupEnv(childTask); ok {
		os.Exit(child(task))
	}
	os.Exit(integration.Main(m))
}
