package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestPauseOfProcesses: somebody pauses the dispatchers of other processes. What is
// published meanwhile waits, also for processes that are started then; one of them is
// killed. When they go on, everything arrives, once.
func TestPauseOfProcesses(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		store, receiver := s.Store(t), newReceiver(t)
		receiver.register(t, store, acme, "/one")
		receiver.register(t, store, acme, "/two")
		publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
		require.NoError(t, err)
		total := 0
		publish := func() {
			t.Helper()
			for range 50 {
				p, err := publisher.Publish(t.Context(), message(acme, room))
				require.NoError(t, err)
				total += p.Deliveries
			}
		}
		begin := func(n int) *process {
			p := start(t, s, task{Kind: "dispatch", Number: n, CA: receiver.ca()})
			require.True(t, p.reach(1), "a dispatcher has ended")
			return p
		}
		// Long enough for each dispatcher to have asked for work.
		nothingArrives := func() {
			t.Helper()
			before := receiver.distinct()
			<-time.After(1500 * time.Millisecond)
			require.Equal(t, before, receiver.distinct())
		}
		overview := func() webhook.Overview {
			t.Helper()
			o, err := store.Overview(t.Context(), webhook.OverviewParams{Now: time.Now(), Top: 5})
			require.NoError(t, err)
			return o
		}

		one, two := begin(1), begin(2)
		publish()
		require.True(t, receiver.wait(total))
		require.NoError(t, store.SetPaused(t.Context(), webhook.SetPausedParams{Paused: true, By: "ann", Now: time.Now()}))
		arrived := total
		publish()
		nothingArrives()
		require.Equal(t, arrived, receiver.distinct())
		o := overview()
		require.Equal(t, []int{total - arrived, 0, 0}, []int{o.Ready, o.Leased, o.Waiting})
		require.Len(t, o.Backlog, 2)

		require.NoError(t, one.Process.Kill())
		require.Error(t, one.end(t, false))
		require.NoError(t, two.end(t, true))
		three := begin(3)
		publish()
		nothingArrives()
		o = overview()
		require.True(t, o.Paused)
		require.Equal(t, "ann", o.PausedBy)

		began := time.Now()
		require.NoError(t, store.SetPaused(t.Context(), webhook.SetPausedParams{By: "bob", Now: time.Now()}))
		require.True(t, receiver.wait(total), "%d of %d have arrived", receiver.distinct(), total)
		took := time.Since(began)
		require.NoError(t, three.end(t, true))
		require.Equal(t, map[string]int{fmt.Sprintf("%s after 1", webhook.DeliverySucceeded): total}, outcomes(t, newManager(t, store), acme))
		receiver.mu.Lock()
		defer receiver.mu.Unlock()
		for delivery, times := range receiver.seen {
			require.Equal(t, 1, times, "attempts of %s", delivery)
		}
		require.Zero(t, receiver.unverified)
		t.Logf("%s: all of %d had arrived %v after the pause", s.Name, total, took.Round(time.Millisecond))
	})
}
