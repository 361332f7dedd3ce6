package integration_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// failAll ends all that is due, each as if it had been its last attempt.
func failAll(t *testing.T, store webhook.Store, state webhook.DeliveryState) {
	t.Helper()
	now := time.Now().Add(time.Second).UTC()
	for {
		got, err := store.Claim(t.Context(), webhook.ClaimParams{Now: now, LeaseFor: time.Minute, Limit: 1000})
		require.NoError(t, err)
		if len(got.Claims) == 0 {
			return
		}
		p := webhook.FinishParams{Now: now}
		for _, c := range got.Claims {
			a := webhook.Attempt{DeliveryID: c.DeliveryID, EventID: c.EventID, WebhookID: c.WebhookID, OrganizationID: acme,
				EventType: c.EventType, Number: c.Attempt, StartedAt: now, Outcome: webhook.OutcomeFailed, EndpointURL: c.EndpointURL}
			if state == webhook.DeliverySucceeded {
				a.Outcome = webhook.OutcomeSucceeded
			}
			p.Outcomes = append(p.Outcomes, webhook.FinishedAttempt{Token: c.Token, Attempt: a, State: state})
		}
		_, err = store.Finish(t.Context(), p)
		require.NoError(t, err)
	}
}

// TestRecoveryOverManyRows: a batch looks at a bounded number of deliveries, and all
// of what was missed is found. A preview waits for no lock.
func TestRecoveryOverManyRows(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		store := s.Store(t)
		w := register(t, store, "https://archive.example/hooks", room)
		for range 2 {
			backlog(t, store, room, 2)
			failAll(t, store, webhook.DeliveryFailed)
			for range 6 {
				backlog(t, store, room, 1000)
			}
			failAll(t, store, webhook.DeliverySucceeded)
		}
		if s.Server != integration.SQLite {
			for _, table := range []string{"posthorn_webhooks", "posthorn_events"} {
				holds(t, s.Server, s, "select id from "+table+" order by id limit 1 for update")
			}
		}
		p := webhook.RecoverParams{Scope: scope, WebhookID: w.ID, Limit: 3, Now: time.Now().Add(time.Minute).UTC(), Preview: true}
		var found []int
		for more := true; more; {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			got, err := store.Recover(ctx, p)
			cancel()
			require.NoError(t, err)
			found = append(found, got.Redelivered)
			more, p.After, p.Until = got.More, got.Next, got.Until
		}
		require.Equal(t, []int{2, 2, 0}, found, "of 5,000 rows each")
	})
}

// TestARedeliveryDuringARecovery: what somebody sends again by hand while a recovery
// waits for the event is not sent once more.
func TestARedeliveryDuringARecovery(t *testing.T) {
	t.Parallel()
	space := integration.Postgres.Migrated(t)
	store := space.Store(t)
	w := register(t, store, "https://archive.example/hooks", room)
	backlog(t, store, room, 1)
	failAll(t, store, webhook.DeliveryFailed)
	page, err := store.Deliveries(t.Context(), scope, webhook.DeliveryQuery{WebhookID: w.ID})
	require.NoError(t, err)

	release := holds(t, integration.Postgres, space, "select id from posthorn_events for update")
	// The first who waits for a row holds its tuple's lock, the next one waits for that.
	queued := func(granted bool) {
		t.Helper()
		const waiting = "select count(*) from pg_locks where locktype = 'tuple' and relation = 'posthorn_events'::regclass and granted = "
		for range 1000 {
			var n int
			require.NoError(t, space.DB.QueryRowContext(t.Context(), waiting+map[bool]string{true: "true", false: "false"}[granted]).Scan(&n))
			if n > 0 {
				return
			}
			space.Exec(t, "select pg_sleep(0.01)")
		}
		t.Fatal("nobody waits")
	}
	var again webhook.Delivery
	redelivered, recovered := make(chan error, 1), make(chan error, 1)
	go func() {
		var err error
		again, err = store.Redeliver(t.Context(), webhook.RedeliverParams{Scope: scope, DeliveryID: page.Items[0].ID, Now: time.Now()})
		redelivered <- err
	}()
	queued(true)
	var got webhook.RecoverResult
	go func() {
		var err error
		got, err = store.Recover(t.Context(), webhook.RecoverParams{Scope: scope, WebhookID: w.ID, Limit: 10, Now: time.Now()})
		recovered <- err
	}()
	queued(false)
	release()
	require.NoError(t, <-redelivered)
	require.NoError(t, <-recovered)
	require.NotEqual(t, uuid.UUID{}, again.ID)
	require.Zero(t, got.Redelivered)
	require.Equal(t, 2, count(t, space, "select count(*) from posthorn_deliveries"))
}
