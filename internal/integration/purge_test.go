package integration_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestPurgeRounds: a batch goes on where the one before has ended, and does not walk
// over what stays again. Only the next round looks there.
func TestPurgeRounds(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		store := s.Store(t)
		register(t, store, "https://archive.example/hooks", room)
		backlog(t, store, room, 1)
		failAll(t, store, webhook.DeliverySucceeded)
		s.Exec(t, "update posthorn_deliveries set state = 0, finished_at = null") // stays, as one that is held
		backlog(t, store, room, 5)
		failAll(t, store, webhook.DeliverySucceeded)
		now := time.Now().Add(time.Hour)
		purge := func(now time.Time) webhook.PurgeResult {
			t.Helper()
			got, err := store.Purge(t.Context(), webhook.PurgeParams{Now: now, DeliveriesBefore: now, Limit: 2})
			require.NoError(t, err)
			return got
		}
		require.Equal(t, webhook.PurgeResult{Deliveries: 2, Events: 2, More: true}, purge(now))
		s.Exec(t, "update posthorn_deliveries set state = 1, finished_at = 1 where state = 0")
		require.Equal(t, webhook.PurgeResult{Deliveries: 2, Events: 2, More: true}, purge(now))
		later := now.Add(time.Second)
		require.Equal(t, webhook.PurgeResult{Deliveries: 1, Events: 1, More: true}, purge(later), "the end of a round that began before")
		require.Equal(t, webhook.PurgeResult{Deliveries: 1, Events: 1}, purge(later), "what it had passed over")
		require.Zero(t, count(t, s, "select count(*) from posthorn_deliveries"))
	})
}

// TestPurgeOfOneKindFails: the others are purged all the same.
func TestPurgeOfOneKindFails(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		store := s.Store(t)
		register(t, store, "https://archive.example/hooks", room)
		backlog(t, store, room, 2)
		failAll(t, store, webhook.DeliverySucceeded)
		s.Exec(t, "alter table posthorn_events rename column unmatched_at to elsewhere")
		defer s.Exec(t, "alter table posthorn_events rename column elsewhere to unmatched_at")
		now := time.Now().Add(time.Hour)
		got, err := store.Purge(t.Context(), webhook.PurgeParams{
			Now: now, DeliveriesBefore: now.Add(-24 * time.Hour), AttemptsBefore: now, PayloadsBefore: now, Limit: 100,
		})
		require.ErrorContains(t, err, "purge events")
		require.Equal(t, webhook.PurgeResult{Attempts: 2, Payloads: 2}, got)
	})
}
