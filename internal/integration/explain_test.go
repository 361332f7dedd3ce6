package integration_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestExplainAgreesWithTheDatabase asks about random events of which databases,
// with candidates that their own indexes find, have made deliveries.
func TestExplainAgreesWithTheDatabase(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		const webhooks, events = 40, 300
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		subject := func() webhook.Subject {
			return webhook.Subject{
				Type: []webhook.SubjectType{webhook.SubjectRoom, webhook.SubjectSpace}[r.IntN(2)],
				ID:   fmt.Sprintf("3f0c9d1e-8f5b-4c55-9b0e-%012x", r.IntN(3)),
			}
		}
		eventType := func() webhook.EventType {
			return []webhook.EventType{webhook.EventMessageSent, webhook.EventRoomRecordingTranscriptPublished}[r.IntN(2)]
		}
		attributes := func() map[string]string {
			m := map[string]string{}
			for range r.IntN(3) {
				m[[]string{"kind", "größe"}[r.IntN(2)]] = []string{"", "a", "A ", "世界"}[r.IntN(4)]
			}
			return m
		}
		store := s.Store(t)
		m := newManager(t, store)
		for range webhooks {
			w, _, err := m.Create(t.Context(), adminOf(acme), webhook.WebhookInput{
				Name: "Archive", EndpointURL: "https://archive.example/hooks",
				Subscriptions: []webhook.Subscription{{Subject: subject(), EventType: eventType(), Filter: attributes()}},
			})
			require.NoError(t, err)
			if r.IntN(4) == 0 {
				_, err := m.Update(t.Context(), adminOf(acme), w.ID, webhook.WebhookChange{
					Version: 1, Name: w.Name, EndpointURL: w.EndpointURL, Status: webhook.StatusInactive, Subscriptions: w.Subscriptions,
				})
				require.NoError(t, err)
			}
		}
		publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
		require.NoError(t, err)
		var batch []webhook.Event
		for i := range events {
			e := webhook.Event{
				OrganizationID: acme, Type: eventType(), Subject: subject(), Attributes: attributes(),
				IdempotencyKey: fmt.Sprint(i), // so that it is stored whoever asks for it
			}
			if r.IntN(2) == 0 {
				e.Parents = append(e.Parents, subject())
			}
			batch = append(batch, e)
		}
		published, err := publisher.PublishMany(t.Context(), batch)
		require.NoError(t, err)
		counts := map[webhook.Match]int{}
		for i, p := range published {
			require.NoError(t, p.Err)
			stored, err := m.Explain(t.Context(), adminOf(acme), webhook.ExplainQuery{EventID: p.EventID})
			require.NoError(t, err)
			draft, err := m.Explain(t.Context(), adminOf(acme), webhook.ExplainQuery{Draft: batch[i]})
			require.NoError(t, err)
			require.Len(t, stored.Webhooks, webhooks)
			asking := 0
			for j, x := range stored.Webhooks {
				require.Equal(t, x.Match.Asks(), x.DeliveryID != uuid.Nil, "seed %d: %+v: %+v", seed, stored.Event, x)
				x.DeliveryID = uuid.Nil
				require.Equal(t, draft.Webhooks[j], x, "seed %d", seed)
				counts[x.Match]++
				if x.Match.Asks() {
					asking++
				}
			}
			require.Equal(t, p.Deliveries, asking)
		}
		t.Logf("%s: %d events, %d webhooks: %v", s.Name, events, webhooks, counts)
	})
}
