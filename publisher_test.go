package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

func TestNewPublisherRefuses(t *testing.T) {
	t.Parallel()
	p, err := webhook.NewPublisher(nil, webhook.PublisherConfig{})
	require.Error(t, err)
	require.Nil(t, p)
	p, err = webhook.NewPublisher(memstore.New(), webhook.PublisherConfig{MaxPayloadBytes: -1})
	require.Equal(t, []string{"max_payload_bytes"}, faultFields(t, err))
	require.Nil(t, p)
}

func TestPublishFansOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	message := func(s webhook.Subject, filter ...string) webhook.Subscription {
		sub := webhook.Subscription{Subject: s, EventType: webhook.EventMessageSent}
		if len(filter) == 2 {
			sub.Filter = map[string]string{filter[0]: filter[1]}
		}
		return sub
	}
	lobby := webhook.Subject{Type: webhook.SubjectRoom, ID: otherRoomID}
	want := map[string]int{}
	ids := map[string]uuid.UUID{}
	for name, c := range map[string]struct {
		deliveries int
		subs       []webhook.Subscription
	}{
		"room":                    {1, []webhook.Subscription{message(f.room)}},
		"space around it":         {1, []webhook.Subscription{message(f.space)}},
		"both, and several times": {1, []webhook.Subscription{message(f.room), message(f.space), message(lobby)}},
		"filter that fits":        {1, []webhook.Subscription{message(f.space, "room_type", "chat")}},
		"filter that does not":    {0, []webhook.Subscription{message(f.room, "room_type", "video")}},
		"another room":            {0, []webhook.Subscription{message(lobby)}},
		"another event type":      {0, []webhook.Subscription{{Subject: f.room, EventType: webhook.EventRoomRecordingTranscriptPublished}}},
		"inactive":                {1, []webhook.Subscription{message(f.room)}},
		"deleted":                 {0, []webhook.Subscription{message(f.room)}},
	} {
		w := f.createWebhook(t, endpointURL, subscribing(c.subs...))
		want[name], ids[name] = c.deliveries, w.ID
	}
	f.update(t, ids["inactive"], deactivate)
	require.NoError(t, f.manager.Delete(t.Context(), f.admin, ids["deleted"]))
	delete(ids, "deleted")
	delete(want, "deleted")
	rival := f.of("rival").createWebhook(t, endpointURL)

	e := f.message()
	e.ID = eventID
	e.Parents = []webhook.Subject{f.space}
	e.Attributes = map[string]string{"room_type": "chat"}
	p, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, webhook.Published{EventID: eventID, Deliveries: 5}, p)

	got := map[string]int{}
	for name, id := range ids {
		deliveries := f.deliveries(t, id)
		got[name] = len(deliveries)
		for _, d := range deliveries {
			state := webhook.DeliveryPending
			if name == "inactive" {
				state = webhook.DeliveryHeld
			}
			require.Equal(t, webhook.Delivery{
				ID: d.ID, EventID: eventID, WebhookID: id, OrganizationID: "acme", EventType: webhook.EventMessageSent, Subject: f.room,
				State: state, DueAt: f.clock.Now(), CreatedAt: f.clock.Now(),
			}, d)
		}
	}
	require.Equal(t, want, got)
	require.Empty(t, f.of("rival").deliveries(t, rival.ID))
}

func TestPublishComparesCanonicalIDs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	room := f.createWebhook(t, endpointURL)
	space := f.createWebhook(t, endpointURL, subscribing(webhook.Subscription{
		Subject: webhook.Subject{Type: f.space.Type, ID: strings.ToUpper(f.space.ID)}, EventType: webhook.EventMessageSent,
	}))
	e := f.message()
	e.Subject.ID = strings.ToUpper(e.Subject.ID)
	e.Parents = []webhook.Subject{f.space}
	p, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, 2, p.Deliveries)
	require.Equal(t, f.room, f.deliveries(t, room.ID)[0].Subject)
	require.Len(t, f.deliveries(t, space.ID), 1)
}

func TestPublishToNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := f.message()
	e.ID = eventID
	for range 2 {
		p, err := f.publisher.Publish(t.Context(), e)
		require.NoError(t, err, "nothing was stored, so the id is not taken")
		require.Equal(t, webhook.Published{EventID: eventID}, p)
	}
	e.IdempotencyKey = "k"
	_, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	e.ID = uuid.New()
	f.createWebhook(t, endpointURL)
	p, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, webhook.Published{EventID: eventID, Duplicate: true}, p, "with a key it was stored")
}

func TestPublishRefusesTakenID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	e := f.message()
	e.ID = eventID
	_, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	e.Data = "another"
	p, err := f.publisher.Publish(t.Context(), e)
	require.ErrorIs(t, err, webhook.ErrConflict)
	require.Equal(t, webhook.Published{}, p)
	require.Len(t, f.deliveries(t, w.ID), 1)
}

func TestPublishIsIdempotentByKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	e := f.message()
	e.IdempotencyKey = "message-7"
	first, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, webhook.Published{EventID: first.EventID, Deliveries: 1}, first)

	f.clock.Advance(time.Hour)
	e.Data = "changed meanwhile"
	again, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, webhook.Published{EventID: first.EventID, Duplicate: true}, again)
	require.Len(t, f.deliveries(t, w.ID), 1)

	rival := f.of("rival")
	rival.createWebhook(t, endpointURL)
	e.OrganizationID = "rival"
	p, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.False(t, p.Duplicate, "keys are an organization's own")
	require.NotEqual(t, first.EventID, p.EventID)
	require.Equal(t, 1, p.Deliveries)
}

func TestPublishWithOneKeyConcurrently(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	const calls = 32
	results := make([]webhook.Published, calls)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			e := f.message()
			e.IdempotencyKey = "k"
			var err error
			results[i], err = f.publisher.Publish(t.Context(), e)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := 0
	for _, r := range results {
		require.Equal(t, results[0].EventID, r.EventID)
		if !r.Duplicate {
			first++
		}
	}
	require.Equal(t, 1, first)
	require.Len(t, f.deliveries(t, w.ID), 1)
}

func TestPublishManyWithMixedValidity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	spy := f.spy(t)
	good, keyed, sameKey, taken, bad, worse := f.message(), f.message(), f.message(), f.message(), f.message(), f.message()
	good.ID = eventID
	keyed.IdempotencyKey, sameKey.IdempotencyKey = "k", "k"
	taken.ID = eventID
	bad.Type = "big_bang"
	worse.OrganizationID, worse.Data = "", make(chan int)

	results, err := f.publisher.PublishMany(t.Context(), []webhook.Event{bad, good, keyed, sameKey, taken, worse})
	require.NoError(t, err, "the refusal of some is no failure of the whole")
	require.Equal(t, []string{"InsertEvents"}, spy.seen(), "one step for all")
	require.Len(t, results, 6)
	require.Equal(t, []string{"type"}, faultFields(t, results[0].Err))
	require.Equal(t, webhook.PublishResult{Published: webhook.Published{EventID: eventID, Deliveries: 1}}, results[1])
	require.Equal(t, webhook.PublishResult{Published: webhook.Published{EventID: results[2].EventID, Deliveries: 1}}, results[2])
	require.Equal(t, webhook.PublishResult{Published: webhook.Published{EventID: results[2].EventID, Duplicate: true}}, results[3])
	require.ErrorIs(t, results[4].Err, webhook.ErrConflict)
	require.Equal(t, []string{"organization_id", "data"}, faultFields(t, results[5].Err))
	for _, i := range []int{0, 4, 5} {
		require.Equal(t, webhook.Published{}, results[i].Published)
	}
	require.Len(t, f.deliveries(t, w.ID), 2)
}

func TestPublishManyOfNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	spy := f.spy(t)
	results, err := f.publisher.PublishMany(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, results)

	results, err = f.publisher.PublishMany(t.Context(), make([]webhook.Event, 3))
	require.NoError(t, err)
	require.Len(t, results, 3)
	for _, r := range results {
		require.Equal(t, []string{"organization_id", "type", "subject.type", "subject.id"}, faultFields(t, r.Err))
	}
	require.Empty(t, spy.seen())
}

var errBoom = errors.New("boom")

func TestPublishReturnsTheStoresError(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.spy(t).before = func(method string, _ any) error {
		if method == "InsertEvents" {
			return errBoom
		}
		return nil
	}
	p, err := f.publisher.Publish(t.Context(), f.message())
	require.ErrorIs(t, err, errBoom)
	require.Equal(t, webhook.Published{}, p)

	results, err := f.publisher.PublishMany(t.Context(), []webhook.Event{f.message(), {}, f.message()})
	require.ErrorIs(t, err, errBoom)
	require.Len(t, results, 3)
	require.ErrorIs(t, results[0].Err, errBoom)
	require.NotErrorIs(t, results[1].Err, errBoom, "it had been refused before")
	require.NotEmpty(t, faultFields(t, results[1].Err))
	require.ErrorIs(t, results[2].Err, errBoom)
	require.Empty(t, f.deliveries(t, w.ID))
}

// forgetfulWriter stores nothing, and says nothing about it.
type forgetfulWriter struct{}

func (forgetfulWriter) InsertEvents(context.Context, webhook.InsertParams) (webhook.InsertResult, error) {
	return webhook.InsertResult{}, nil
}

func TestPublishDistrustsMissingAnswers(t *testing.T) {
	t.Parallel()
	p, err := webhook.NewPublisher(forgetfulWriter{}, webhook.PublisherConfig{})
	require.NoError(t, err)
	_, err = p.Publish(t.Context(), newEvent())
	require.Error(t, err)
	results, err := p.PublishMany(t.Context(), []webhook.Event{newEvent(), newEvent()})
	require.Error(t, err)
	require.Equal(t, []webhook.PublishResult{{Err: err}, {Err: err}}, results)
}

func TestPublishAfterItsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.publisher.Publish(ctx, f.message())
	require.ErrorIs(t, err, context.Canceled)
	tx := f.store.Begin()
	_, err = f.publisher.PublishTx(ctx, tx, f.message())
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, tx.Commit())
	require.Empty(t, f.deliveries(t, w.ID))
}

func TestPublishTx(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(*memstore.Tx) error
		want int
	}{
		"Commit":   {(*memstore.Tx).Commit, 2},
		"Rollback": {(*memstore.Tx).Rollback, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.createWebhook(t, endpointURL)
			tx := f.store.Begin()
			e := f.message()
			e.ID, e.IdempotencyKey = eventID, "k"
			p, err := f.publisher.PublishTx(t.Context(), tx, e)
			require.NoError(t, err)
			require.Equal(t, webhook.Published{EventID: eventID, Deliveries: 1}, p)

			// A refusal, a duplicate or a conflict leave the transaction usable.
			_, err = f.publisher.PublishTx(t.Context(), tx, webhook.Event{})
			require.Equal(t, []string{"organization_id", "type", "subject.type", "subject.id"}, faultFields(t, err))
			again := f.message()
			again.IdempotencyKey = "k"
			p, err = f.publisher.PublishTx(t.Context(), tx, again)
			require.NoError(t, err)
			require.Equal(t, webhook.Published{EventID: eventID, Duplicate: true}, p)
			again.ID, again.IdempotencyKey = eventID, ""
			p, err = f.publisher.PublishTx(t.Context(), tx, again)
			require.ErrorIs(t, err, webhook.ErrConflict)
			require.Equal(t, webhook.Published{}, p)
			_, err = f.publisher.PublishTx(t.Context(), tx, f.message())
			require.NoError(t, err)

			require.Empty(t, f.deliveries(t, w.ID), "nothing shows before the end")
			require.NoError(t, c.end(tx))
			require.Len(t, f.deliveries(t, w.ID), c.want)
			require.Equal(t, c.want, f.deliver(t, answers(http.StatusOK, "")))

			p, err = f.publisher.PublishTx(t.Context(), tx, f.message())
			require.ErrorIs(t, err, memstore.ErrTxDone)
			require.Equal(t, webhook.Published{}, p)
		})
	}
}

func TestPublishTxRefusesNil(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, err := f.publisher.PublishTx(t.Context(), nil, f.message())
	require.Error(t, err)
	require.Equal(t, webhook.Published{}, p)
}

// What the design says does not compile.
func TestPlainStoresAreNoTransactions(t *testing.T) {
	t.Parallel()
	_, ok := any(memstore.New()).(webhook.TxWriter)
	require.False(t, ok)
	_, ok = any(memstore.New().Begin()).(webhook.EventWriter)
	require.False(t, ok)
	_, ok = any(memstore.New().Begin()).(webhook.DispatcherStore)
	require.False(t, ok)
}

func TestPublishedIsDeliveredAsItWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	e := f.message()
	e.ID, e.Data = eventID, json.RawMessage(` {"b":1,  "a":"<&>"} `)
	_, err := f.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	d, err := f.manager.Delivery(t.Context(), f.admin, f.deliveries(t, w.ID)[0].ID)
	require.NoError(t, err)
	require.Equal(t, payloadOf("2026-01-01T12:00:00Z", ` {"b":1,  "a":"<&>"} `), string(d.Payload))
}

func TestPublishManyEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	events := make([]webhook.Event, 100)
	for i := range events {
		events[i] = f.message()
		events[i].Data = i
	}
	results, err := f.publisher.PublishMany(t.Context(), events)
	require.NoError(t, err)
	deliveries := f.deliveries(t, w.ID)
	require.Len(t, deliveries, 100)
	for i, d := range deliveries {
		require.Equal(t, results[i].EventID, d.EventID, "in the order given")
		d, err := f.manager.Delivery(t.Context(), f.admin, d.ID)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(d.Payload), fmt.Sprintf(`"data":%d}`, i)))
	}
}
