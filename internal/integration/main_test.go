package integration_test

import (
	"fmt"
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
	code := m.Run()
	if err := integration.DropAll(); err != nil {
		fmt.Fprintln(os.Stderr, "dropping what the tests have made:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}
