package webhook_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// draftOf is what Explain is asked about an event that is not stored.
func draftOf(e webhook.Event) webhook.ExplainQuery { return webhook.ExplainQuery{Draft: e} }

// explain returns what each of the organization's webhooks makes of an event.
func (f *fixture) explain(t testing.TB, q webhook.ExplainQuery) map[uuid.UUID]webhook.ExplainedWebhook {
	t.Helper()
	got, err := f.manager.Explain(t.Context(), f.viewer, q)
	require.NoError(t, err)
	out := map[uuid.UUID]webhook.ExplainedWebhook{}
	for _, x := range got.Webhooks {
		require.NotContains(t, out, x.Webhook.ID)
		out[x.Webhook.ID] = x
	}
	return out
}

func TestExplainSaysWhyNot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	on := func(s webhook.Subject, e webhook.EventType, filter ...string) webhook.Subscription {
		out := webhook.Subscription{Subject: s, EventType: e}
		for i := 0; i < len(filter); i += 2 {
			if out.Filter == nil {
				out.Filter = map[string]string{}
			}
			out.Filter[filter[i]] = filter[i+1]
		}
		return out
	}
	const message, transcript = webhook.EventMessageSent, webhook.EventRoomRecordingTranscriptPublished
	other := webhook.Subject{Type: webhook.SubjectRoom, ID: otherRoomID}
	e := f.message()
	e.Parents, e.Attributes = []webhook.Subject{f.space}, map[string]string{"kind": "chat", "lang": ""}

	type want struct {
		match        webhook.Match
		subscription int
		filter       []string
	}
	for name, tc := range map[string]struct {
		subs []webhook.Subscription
		want want
	}{
		"Subject":         {[]webhook.Subscription{on(f.room, message)}, want{webhook.MatchYes, 0, nil}},
		"Parent":          {[]webhook.Subscription{on(f.space, message)}, want{webhook.MatchYes, 0, nil}},
		"Filter":          {[]webhook.Subscription{on(f.room, message, "kind", "chat", "lang", "")}, want{webhook.MatchYes, 0, nil}},
		"SecondOne":       {[]webhook.Subscription{on(other, message), on(f.room, message)}, want{webhook.MatchYes, 1, nil}},
		"OneOfFilter":     {[]webhook.Subscription{on(f.room, message, "kind", "chat", "lang", "en")}, want{webhook.MatchFilter, 0, []string{"lang"}}},
		"AllOfFilter":     {[]webhook.Subscription{on(f.room, message, "kind", "mail", "a", "")}, want{webhook.MatchFilter, 0, []string{"a", "kind"}}},
		"NearestIsFilter": {[]webhook.Subscription{on(f.room, transcript), on(f.space, message, "a", "b")}, want{webhook.MatchFilter, 1, []string{"a"}}},
		"EventType":       {[]webhook.Subscription{on(f.room, transcript, "kind", "mail")}, want{webhook.MatchEventType, 0, nil}},
		"NearestIsType":   {[]webhook.Subscription{on(other, message), on(f.space, transcript)}, want{webhook.MatchEventType, 1, nil}},
		"OtherSubject":    {[]webhook.Subscription{on(other, transcript), on(other, message)}, want{webhook.MatchOtherSubject, 1, nil}},
		"NothingInCommon": {[]webhook.Subscription{on(other, transcript)}, want{webhook.MatchOtherSubject, -1, nil}},
	} {
		w := f.createWebhook(t, endpointURL, subscribing(tc.subs...))
		got := f.explain(t, draftOf(e))[w.ID]
		require.Equal(t, tc.want, want{got.Match, got.Subscription, got.Filter}, name)
		require.Equal(t, tc.want.match == webhook.MatchYes, got.Match.Asks(), name)
		require.Zero(t, got.DeliveryID)
		require.Equal(t, w, got.Webhook)

		// What an inactive one does not ask for, it would not get either.
		f.update(t, w.ID, deactivate)
		got = f.explain(t, draftOf(e))[w.ID]
		require.Equal(t, tc.want.match.Asks(), got.Match == webhook.MatchInactive, name)
		require.Equal(t, tc.want.match.Asks(), got.Match.Asks(), name)
		require.NoError(t, f.manager.Delete(t.Context(), f.owner, w.ID))
		require.Empty(t, f.explain(t, draftOf(e)))
	}
}

func TestExplainOfAStoredEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	gets := f.createWebhook(t, endpointURL)
	held := f.createWebhook(t, endpointURL)
	f.update(t, held.ID, deactivate)
	edited := f.createWebhook(t, endpointURL)
	e := f.message()
	e.IdempotencyKey, e.Attributes, e.Parents = "once", map[string]string{"kind": "chat"}, []webhook.Subject{f.space}
	published, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	later := f.createWebhook(t, endpointURL)
	f.update(t, edited.ID, func(ch *webhook.WebhookChange) {
		ch.Subscriptions[0].EventType = webhook.EventRoomRecordingTranscriptPublished
	})
	f.of("rival").createWebhook(t, endpointURL)

	for _, a := range []webhook.Actor{f.owner, f.viewer} {
		got, err := f.manager.Explain(t.Context(), a, webhook.ExplainQuery{EventID: published.EventID})
		require.NoError(t, err)
		require.Equal(t, webhook.EventRecord{
			ID: published.EventID, OrganizationID: "acme", Type: e.Type, Subject: f.room, Parents: e.Parents,
			Attributes: e.Attributes, OccurredAt: f.clock.Now().UTC(),
		}, got.Event, "neither payload nor key")
		var order []uuid.UUID
		for _, x := range got.Webhooks {
			order = append(order, x.Webhook.ID)
		}
		require.Equal(t, []uuid.UUID{later.ID, edited.ID, held.ID, gets.ID}, order, "newest first")
	}
	of := func(w webhook.Webhook) uuid.UUID {
		page, err := f.manager.Deliveries(t.Context(), f.owner, webhook.DeliveryQuery{WebhookID: w.ID, EventID: published.EventID})
		require.NoError(t, err)
		return page.Items[0].ID
	}
	got := f.explain(t, webhook.ExplainQuery{EventID: published.EventID})
	require.Equal(t, webhook.MatchYes, got[gets.ID].Match)
	require.Equal(t, of(gets), got[gets.ID].DeliveryID)
	require.Equal(t, webhook.MatchInactive, got[held.ID].Match)
	require.Equal(t, of(held), got[held.ID].DeliveryID)
	require.Equal(t, webhook.MatchEventType, got[edited.ID].Match)
	require.Equal(t, of(edited), got[edited.ID].DeliveryID, "it was subscribed then")
	require.Equal(t, webhook.MatchYes, got[later.ID].Match)
	require.Zero(t, got[later.ID].DeliveryID, "it was not there yet")

	// Of a redelivered event it is the newest delivery.
	require.NotZero(t, f.deliver(t, answers(500, ""), onlyAttempt))
	again, err := f.manager.Redeliver(t.Context(), f.owner, of(gets))
	require.NoError(t, err)
	require.Equal(t, again.ID, f.explain(t, webhook.ExplainQuery{EventID: published.EventID})[gets.ID].DeliveryID)
}

func TestExplainOfATestEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tested, other := f.createWebhook(t, endpointURL), f.createWebhook(t, endpointURL)
	d, err := f.manager.SendTest(t.Context(), f.owner, tested.ID, webhook.EventRoomRecordingTranscriptPublished)
	require.NoError(t, err)
	got := f.explain(t, webhook.ExplainQuery{EventID: d.EventID})
	require.Equal(t, webhook.MatchYes, got[tested.ID].Match, "whatever it is subscribed to")
	require.Equal(t, d.ID, got[tested.ID].DeliveryID)
	require.Equal(t, webhook.MatchOtherTest, got[other.ID].Match)
}

func TestExplainOfWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createWebhook(t, endpointURL)
	for name, tc := range map[string]struct {
		edit   func(*webhook.Event)
		fields []string
	}{
		"Nothing":    {func(e *webhook.Event) { *e = webhook.Event{} }, []string{"type", "subject.type", "subject.id"}},
		"Type":       {func(e *webhook.Event) { e.Type = "message_lost" }, []string{"type"}},
		"Subject":    {func(e *webhook.Event) { e.Subject.ID = "lobby" }, []string{"subject.id"}},
		"Parents":    {func(e *webhook.Event) { e.Parents = []webhook.Subject{{}} }, []string{"parents[0].type", "parents[0].id"}},
		"Attributes": {func(e *webhook.Event) { e.Attributes = entries(17) }, []string{"attributes"}},
	} {
		e := f.message()
		tc.edit(&e)
		_, err := f.manager.Explain(t.Context(), f.viewer, draftOf(e))
		require.Equal(t, tc.fields, faultFields(t, err), name)
	}

	foreign := f.message()
	foreign.OrganizationID = "rival"
	_, err := f.manager.Explain(t.Context(), f.owner, draftOf(foreign))
	require.ErrorIs(t, err, webhook.ErrNotFound)

	// Data is not looked at, and a canonical id is as good as any.
	e := f.message()
	e.OrganizationID, e.Data = "", func() {}
	e.Subject.ID = "3F0C9D1E-8F5B-4C55-9B0E-0F4D2C7A9B11"
	for _, x := range f.explain(t, draftOf(e)) {
		require.Equal(t, webhook.MatchYes, x.Match)
	}

	// What nobody asked for is not stored, and has nothing to explain.
	e = f.message()
	e.Subject.ID = otherRoomID
	published, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	_, err = f.manager.Explain(t.Context(), f.owner, webhook.ExplainQuery{EventID: published.EventID})
	require.ErrorIs(t, err, webhook.ErrNotFound)
}

// TestExplainAgreesWithWhatWasDelivered asks about random events before and after
// they are published to random webhooks, in two organizations.
func TestExplainAgreesWithWhatWasDelivered(t *testing.T) {
	t.Parallel()
	const webhooks, events = 100, 1000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	subject := func() webhook.Subject {
		return webhook.Subject{
			Type: []webhook.SubjectType{webhook.SubjectRoom, webhook.SubjectSpace}[r.IntN(2)],
			ID:   fmt.Sprintf("3f0c9d1e-8f5b-4c55-9b0e-%012x", r.IntN(4)),
		}
	}
	eventType := func() webhook.EventType {
		return []webhook.EventType{webhook.EventMessageSent, webhook.EventRoomRecordingTranscriptPublished}[r.IntN(2)]
	}
	attributes := func(most int) (m map[string]string) {
		for range r.IntN(most + 1) {
			if m == nil {
				m = map[string]string{}
			}
			m[[]string{"kind", "lang"}[r.IntN(2)]] = []string{"", "a", "b"}[r.IntN(3)]
		}
		return m
	}
	f := newFixture(t)
	organizations := []*fixture{f, f.of("rival")}
	for i := range webhooks {
		var subs []webhook.Subscription
		taken := map[string]bool{}
		for range 1 + r.IntN(3) {
			s := webhook.Subscription{Subject: subject(), EventType: eventType(), Filter: attributes(2)}
			if key := fmt.Sprint(s.Subject, s.EventType); !taken[key] {
				taken[key] = true
				subs = append(subs, s)
			}
		}
		of := organizations[i%2]
		w := of.createWebhook(t, endpointURL, subscribing(subs...))
		if r.IntN(4) == 0 {
			of.update(t, w.ID, deactivate)
		}
	}
	counts := map[webhook.Match]int{}
	for range events {
		of := organizations[r.IntN(2)]
		e := webhook.Event{OrganizationID: of.admin.OrganizationID, Type: eventType(), Subject: subject(), Attributes: attributes(3)}
		for range r.IntN(3) {
			e.Parents = append(e.Parents, subject())
		}
		before := of.explain(t, draftOf(e))
		require.Len(t, before, webhooks/2)
		published, err := of.publisher.Publish(t.Context(), e)
		require.NoError(t, err)
		states := map[uuid.UUID]webhook.DeliveryState{}
		page, err := of.manager.Deliveries(t.Context(), of.viewer, webhook.DeliveryQuery{EventID: published.EventID, Limit: webhook.MaxPageSize})
		require.NoError(t, err)
		for _, d := range page.Items {
			states[d.WebhookID] = d.State
		}
		require.Len(t, states, published.Deliveries)
		for id, x := range before {
			counts[x.Match]++
			want := map[webhook.Match]webhook.DeliveryState{webhook.MatchYes: webhook.DeliveryPending, webhook.MatchInactive: webhook.DeliveryHeld}[x.Match]
			require.Equal(t, want, states[id], "%+v\n%+v", e, x)
		}
		if len(states) == 0 {
			continue
		}
		for id, x := range of.explain(t, webhook.ExplainQuery{EventID: published.EventID}) {
			require.Equal(t, before[id].Match, x.Match)
			require.Equal(t, states[id] != "", x.DeliveryID != uuid.Nil)
		}
	}
	t.Logf("%d events, %d webhooks: %v", events, webhooks, counts)
	for _, m := range []webhook.Match{webhook.MatchYes, webhook.MatchInactive, webhook.MatchFilter, webhook.MatchEventType, webhook.MatchOtherSubject} {
		require.Positive(t, counts[m], m)
	}
}
