package integration_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

var (
	hall  = webhook.Subject{Type: webhook.SubjectRoom, ID: "0a7d1e35-0c8b-4f5d-9a43-6b3c4d7f2e18"}
	scope = webhook.Scope{OrganizationID: acme}
)

func toMessages(subjects ...webhook.Subject) (out []webhook.Subscription) {
	for _, s := range subjects {
		out = append(out, webhook.Subscription{Subject: s, EventType: webhook.EventMessageSent})
	}
	return out
}

// edit is an update of the webhook as it is, to other subscriptions.
func edit(w webhook.Webhook, subjects ...webhook.Subject) webhook.UpdateWebhookParams {
	return webhook.UpdateWebhookParams{Scope: scope, ID: w.ID, Now: time.Now(), Change: webhook.WebhookChange{
		Version: w.Version, Name: w.Name, EndpointURL: w.EndpointURL, Status: w.Status, Subscriptions: toMessages(subjects...),
	}}
}

// backlog stores n deliveries of a subject's messages.
func backlog(t *testing.T, store webhook.Store, subject webhook.Subject, n int) {
	t.Helper()
	now := time.Now().UTC()
	events := make([]webhook.EventRecord, n)
	for i := range events {
		events[i] = webhook.EventRecord{
			ID: uuid.New(), OrganizationID: acme, Type: webhook.EventMessageSent, Subject: subject, OccurredAt: now, Payload: []byte("{}"),
		}
	}
	_, err := store.InsertEvents(t.Context(), webhook.InsertParams{Events: events, Now: now})
	require.NoError(t, err)
}

// logged is a log that tells of its messages.
type logged chan string

func (l logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logged) WithGroup(string) slog.Handler            { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error {
	select {
	case l <- r.Message:
	default:
	}
	return nil
}

// onServersWithLocks runs a test on those that lock rows.
func onServersWithLocks(t *testing.T, test func(t *testing.T, s *integration.Server, space *integration.Space)) {
	t.Helper()
	for _, s := range []*integration.Server{integration.Postgres, integration.MariaDB} {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			test(t, s, s.Migrated(t))
		})
	}
}

// holds begins a transaction that holds what it selects for update until it is
// released.
func holds(t *testing.T, s *integration.Server, space *integration.Space, statement string) (release func()) {
	t.Helper()
	tx, err := s.Begin(t.Context(), space.DB)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	var v any
	require.NoError(t, tx.QueryRowContext(t.Context(), statement).Scan(&v))
	return func() { require.NoError(t, tx.Rollback()) }
}

func claimOne(t *testing.T, store webhook.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := store.Claim(ctx, webhook.ClaimParams{Now: time.Now().Add(time.Second), LeaseFor: time.Minute, Limit: 1})
	require.NoError(t, err)
	require.Len(t, got.Claims, 1)
}

// TestWidening: an edit that takes nothing away looks at no delivery.
func TestWidening(t *testing.T) {
	t.Parallel()
	onServersWithLocks(t, func(t *testing.T, s *integration.Server, space *integration.Space) {
		t.Helper()
		store := space.Store(t)
		w := register(t, store, "https://archive.example/hooks", room)
		backlog(t, store, room, 3)
		holds(t, s, space, "select delivery_id from posthorn_queue order by delivery_id limit 1 for update")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		w, err := store.UpdateWebhook(ctx, edit(w, hall, room))
		require.NoError(t, err)
		require.Len(t, w.Subscriptions, 2)
	})
}

// TestEditsAndDeletesHoldNobodyUp: whoever stops a webhook does not wait for its row,
// nor for its deliveries', while everybody else waits for him.
func TestEditsAndDeletesHoldNobodyUp(t *testing.T) {
	t.Parallel()
	onServersWithLocks(t, func(t *testing.T, s *integration.Server, space *integration.Space) {
		t.Helper()
		log := make(logged, 100)
		store, err := sqlstore.New(space.DB, space.Dialect, sqlstore.Config{Keyring: keyring(t, newKey), Logger: slog.New(log)})
		require.NoError(t, err)
		w := register(t, store, "https://archive.example/hooks", room)
		register(t, store, "https://other.example/hooks", hall)
		backlog(t, store, room, 3)
		backlog(t, store, hall, 3)
		ended := make(chan error, 1)

		release := holds(t, s, space, "select id from posthorn_webhooks where name like '%archive%' for update")
		p := edit(w, hall)
		p.Change.Status = webhook.StatusInactive
		go func() {
			_, err := store.UpdateWebhook(t.Context(), p)
			ended <- err
		}()
		require.Equal(t, "sqlstore: repeating a transaction", <-log)
		claimOne(t, store)
		release()
		require.NoError(t, <-ended)

		release = holds(t, s, space, "select id from posthorn_webhooks where name like '%archive%' for update")
		for len(log) > 0 {
			<-log
		}
		go func() {
			ended <- store.DeleteWebhook(t.Context(), webhook.DeleteWebhookParams{Scope: scope, ID: w.ID, Now: time.Now()})
		}()
		require.Equal(t, "sqlstore: repeating a transaction", <-log)
		claimOne(t, store)
		release()
		require.NoError(t, <-ended)
	})
}

// TestAnEditThatBreaksOff: what it has not cancelled, Sweep cancels, or the next
// edit, and that does not revive it.
func TestAnEditThatBreaksOff(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		const n = 2500
		store := s.Store(t)
		w := register(t, store, "https://archive.example/hooks", room)
		var f faults
		broken, err := s.NewStore(s.ConnectVia(t, f.connector))
		require.NoError(t, err)
		breakOff := func() {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			// The change itself commits, and nothing after it.
			f.set(fault{at: atCommit, err: context.Canceled, effect: fullEffect, broken: true, then: cancel}, 1)
			_, err := broken.UpdateWebhook(ctx, edit(w, hall))
			require.Error(t, err)
			f.clear()
			w, err = store.Webhook(t.Context(), scope, w.ID)
			require.NoError(t, err)
			require.Equal(t, toMessages(hall), w.Subscriptions)
		}
		const cancelled = "select count(*) from posthorn_deliveries where state = 3"

		backlog(t, store, room, n)
		breakOff()
		again, err := store.Deliveries(t.Context(), scope, webhook.DeliveryQuery{WebhookID: w.ID, Limit: 1})
		require.NoError(t, err)
		require.Equal(t, webhook.DeliveryPending, again.Items[0].State)
		for more := true; more; {
			got, err := store.Sweep(t.Context(), webhook.SweepParams{Now: time.Now(), Limit: 100})
			require.NoError(t, err)
			require.LessOrEqual(t, got.Moved, 100)
			more = got.More
		}
		require.Equal(t, n, count(t, s, cancelled))

		w, err = store.UpdateWebhook(t.Context(), edit(w, room, hall))
		require.NoError(t, err)
		backlog(t, store, room, n)
		breakOff()
		w, err = store.UpdateWebhook(t.Context(), edit(w, room, hall))
		require.NoError(t, err)
		require.Equal(t, 2*n, count(t, s, cancelled))
		require.Zero(t, count(t, s, "select count(*) from posthorn_queue"))
		require.Zero(t, count(t, s, "select count(*) from posthorn_webhooks where narrowed is not null"))
	})
}
