package integration_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestFiltersOverManyRows walks through lists of which a filter leaves nearly
// nothing: no page reads all of it, and all of what fits is found, once and in
// order.
func TestFiltersOverManyRows(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		store := s.Store(t)
		rare := webhook.EventType("room_recording_transcript_published")
		w, _, err := newManager(t, store).Create(t.Context(), adminOf(acme), webhook.WebhookInput{
			Name: "Archive", EndpointURL: "https://archive.example/hooks",
			Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}, {Subject: room, EventType: rare}},
		})
		require.NoError(t, err)
		// By age: windows of a page end at 500, 1,500 and 2,500 rows.
		const rows = 11_000
		at := map[int]bool{0: true, 1: true, 499: true, 500: true, 501: true, 1499: true, 1500: true, 2499: true, 2500: true, 2501: true, 10_998: true, 10_999: true}
		now := time.Now().UTC().Truncate(time.Microsecond)
		var want []uuid.UUID // newest first
		var batch webhook.InsertParams
		for i := rows - 1; i >= 0; i-- {
			e := webhook.EventRecord{
				ID: uuid.New(), OrganizationID: acme, Type: webhook.EventMessageSent, Subject: room, OccurredAt: now, Payload: []byte("{}"),
			}
			if at[i] {
				e.Type = rare
				want = append([]uuid.UUID{e.ID}, want...)
			}
			batch.Now = now
			batch.Events = append(batch.Events, e)
			if len(batch.Events) == 500 || at[i] || at[i-1] { // so that the rare ones have a moment of their own
				_, err := store.InsertEvents(t.Context(), batch)
				require.NoError(t, err)
				batch.Events, now = nil, now.Add(time.Millisecond)
			}
		}
		for _, q := range []webhook.DeliveryQuery{{EventType: rare, Limit: 2}, {EventType: rare, WebhookID: w.ID}, {EventType: rare, State: webhook.DeliveryPending, Limit: 3}} {
			var got []uuid.UUID
			pages := 0
			for {
				p, err := store.Deliveries(t.Context(), webhook.Scope{OrganizationID: acme}, q)
				require.NoError(t, err)
				for _, d := range p.Items {
					got = append(got, d.EventID)
				}
				pages++
				if q.Cursor = p.Next; q.Cursor == "" {
					break
				}
			}
			require.Equal(t, want, got)
			require.GreaterOrEqual(t, pages, 5, "of 2,500 rows at most")
			require.LessOrEqual(t, pages, 12)
		}
		none, err := store.Deliveries(t.Context(), webhook.Scope{OrganizationID: acme}, webhook.DeliveryQuery{State: webhook.DeliveryFailed})
		require.NoError(t, err)
		require.Empty(t, none.Items)
		require.NotEmpty(t, none.Next, "there may be more")
	})
}
