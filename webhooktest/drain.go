package webhooktest

import (
	"testing"

	"github.com/posthorn/webhook"
)

// maxIdleRounds is how many rounds without an attempt Drain puts up with.
const maxIdleRounds = 1000

// Drain runs rounds of the dispatcher, and moves the clock on to what falls due
// next, until nothing waits any more: every delivery has succeeded, failed or
// been cancelled (held ones stay held), and every notice has been passed on.
// The dispatcher must have been made with this clock, and must not be running.
//
// It fails the test if a round fails, or if the same thing stays due forever.
func Drain(t testing.TB, d *webhook.Dispatcher, c *Clock) {
	t.Helper()
	for idle := 0; idle < maxIdleRounds; idle++ {
		n, err := d.RunOnce(t.Context())
		if err != nil {
			t.Fatalf("webhooktest: drain: %v", err)
		}
		if n > 0 {
			idle = 0
		}
		next := d.NextDue()
		if next.IsZero() {
			return
		}
		c.AdvanceTo(next)
	}
	t.Fatalf("webhooktest: drain: after %d rounds without an attempt something is still due at %v; "+
		"was the dispatcher made with another clock?", maxIdleRounds, d.NextDue())
}
