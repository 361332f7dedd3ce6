package integration_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestSweepComesBack: what a sweep has to leave, because somebody else has locked
// it, the next one moves.
func TestSweepComesBack(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		if s == integration.SQLite { // which locks no rows
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			store := space.Store(t)
			w := register(t, store, "https://archive.example/hooks", room)
			set := func(status webhook.Status, resume bool) {
				var err error
				w, err = newManager(t, store).Update(t.Context(), adminOf(acme), w.ID, webhook.WebhookChange{
					Version: w.Version, Name: w.Name, EndpointURL: w.EndpointURL, Subscriptions: w.Subscriptions, Status: status, Resume: resume,
				})
				require.NoError(t, err)
			}
			sweep := func() (moved int) {
				for more := true; more; {
					got, err := store.Sweep(t.Context(), webhook.SweepParams{Now: time.Now(), Limit: 100})
					require.NoError(t, err)
					moved, more = moved+got.Moved, got.More
				}
				return moved
			}
			set(webhook.StatusInactive, false)
			publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)
			for range 3 {
				_, err = publisher.Publish(t.Context(), message(acme, room))
				require.NoError(t, err)
			}
			sweep()
			const held = "select count(*) from posthorn_queue where phase = 3"
			require.Equal(t, 3, count(t, space, held))

			tx, err := s.Begin(t.Context(), space.DB)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			var locked any
			require.NoError(t, tx.QueryRowContext(t.Context(),
				"select delivery_id from posthorn_queue order by delivery_id limit 1 for update").Scan(&locked))
			set(webhook.StatusActive, true)
			sweep()
			require.Equal(t, 1, count(t, space, held), "the one that is locked")
			require.NoError(t, tx.Rollback())
			require.Equal(t, 1, sweep())
			require.Zero(t, count(t, space, held))
			require.Zero(t, sweep())
			require.Zero(t, count(t, space, "select count(*) from posthorn_webhooks where dirty = 1"))

			got, err := store.Claim(t.Context(), webhook.ClaimParams{Now: time.Now().Add(time.Second), LeaseFor: time.Minute, Limit: 10})
			require.NoError(t, err)
			require.Len(t, got.Claims, 3)
		})
	}
}

// TestSweepGoesOnBehindALock: a webhook whose rows somebody keeps locked holds up
// neither the others nor whoever sweeps until nothing is left.
func TestSweepGoesOnBehindALock(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		if s == integration.SQLite { // which locks no rows
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			store := space.Store(t)
			m := newManager(t, store)
			publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)
			var hooks []webhook.Webhook // by their ids
			for range 3 {
				hooks = append(hooks, register(t, store, "https://archive.example/hooks", room))
			}
			for range 2 {
				_, err = publisher.Publish(t.Context(), message(acme, room))
				require.NoError(t, err)
			}
			tx, err := s.Begin(t.Context(), space.DB)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			var locked any
			require.NoError(t, tx.QueryRowContext(t.Context(),
				"select delivery_id from posthorn_queue order by delivery_id limit 1 for update").Scan(&locked))
			for _, w := range hooks {
				_, err := m.Update(t.Context(), adminOf(acme), w.ID, webhook.WebhookChange{
					Version: w.Version, Name: w.Name, EndpointURL: w.EndpointURL, Subscriptions: w.Subscriptions, Status: webhook.StatusInactive,
				})
				require.NoError(t, err)
			}

			sweep := func() {
				for range 20 {
					got, err := store.Sweep(t.Context(), webhook.SweepParams{Now: time.Now(), Limit: 100})
					require.NoError(t, err)
					if !got.More {
						return
					}
				}
				require.Fail(t, "there is always more")
			}
			const held = "select count(*) from posthorn_queue where phase = 3"
			sweep()
			require.Equal(t, 5, count(t, space, held), "all but the one that is locked")
			require.NoError(t, tx.Rollback())
			sweep()
			require.Equal(t, 6, count(t, space, held))
		})
	}
}
