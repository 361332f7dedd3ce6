package integration_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestAFrozenProcessStopsNobody: a process that is frozen in the middle of a claim keeps
// webhooks from being stopped. Whoever tries gives up after a while, and meanwhile
// the others go on claiming.
func TestAFrozenProcessStopsNobody(t *testing.T) {
	t.Parallel()
	enter := map[*integration.Server]string{
		integration.Postgres: "select pg_advisory_xact_lock_shared(1886876771, 'posthorn_gate'::regclass::oid::int)",
		integration.MariaDB:  "select id from posthorn_gate where id = 1 lock in share mode",
	}
	for s, statement := range enter {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			store := space.Store(t)
			w := register(t, store, "https://archive.example/hooks", room)

			frozen, err := s.Begin(t.Context(), space.DB)
			require.NoError(t, err)
			defer func() { _ = frozen.Rollback() }()
			_, err = frozen.ExecContext(t.Context(), statement)
			require.NoError(t, err)

			const patience = 4 * time.Second
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stopped := make(chan error, 1)
			go func() { stopped <- newManager(t, store).Delete(ctx, adminOf(acme), w.ID) }()
			claims := 0
			for ctx.Err() == nil {
				// With a context of its own: one that waited for the other would not come back.
				_, err := store.Claim(t.Context(), webhook.ClaimParams{Now: time.Now(), LeaseFor: time.Minute, Limit: 10})
				require.NoError(t, err)
				claims++
			}
			require.Error(t, <-stopped)
			require.Greater(t, claims, 2) // each of which may have to wait for a moment

			require.NoError(t, frozen.Rollback())
			require.NoError(t, newManager(t, store).Delete(t.Context(), adminOf(acme), w.ID))
		})
	}
}
