package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// walk reads a list page by page.
func walk[T any](t testing.TB, page func(cursor string) (webhook.Page[T], error)) (items []T, sizes []int) {
	t.Helper()
	for cursor := ""; ; {
		p, err := page(cursor)
		require.NoError(t, err)
		items = append(items, p.Items...)
		sizes = append(sizes, len(p.Items))
		if p.Next == "" {
			return items, sizes
		}
		cursor = p.Next
	}
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var hooks []uuid.UUID
	for i := range 7 {
		if i%3 == 0 { // some have the same time
			f.clock.Advance(time.Second)
		}
		hooks = append(hooks, f.createWebhook(t, endpointURL).ID)
	}
	f.publish(t)
	require.Equal(t, 7, f.deliver(t, answers(http.StatusInternalServerError, "")))

	var want []webhook.Webhook
	for i := range hooks {
		w, err := f.manager.Webhook(t.Context(), f.viewer, hooks[len(hooks)-1-i])
		require.NoError(t, err)
		want = append(want, w)
	}
	for limit, sizes := range map[int][]int{1: {1, 1, 1, 1, 1, 1, 1}, 3: {3, 3, 1}, 7: {7}, 8: {7}, 0: {7}, 200: {7}} {
		got, pages := walk(t, func(cursor string) (webhook.Page[webhook.Webhook], error) {
			return f.manager.Webhooks(t.Context(), f.viewer, webhook.WebhookQuery{Limit: limit, Cursor: cursor})
		})
		require.Equal(t, want, got, "newest first, by limit %d", limit)
		require.Equal(t, sizes, pages)

		deliveries, pages := walk(t, func(cursor string) (webhook.Page[webhook.Delivery], error) {
			return f.manager.Deliveries(t.Context(), f.viewer, webhook.DeliveryQuery{Limit: limit, Cursor: cursor})
		})
		require.Equal(t, sizes, pages)
		requireNewestFirst(t, deliveries, func(d webhook.Delivery) webhook.Position { return webhook.Position{At: d.CreatedAt, ID: d.ID} })

		attempts, pages := walk(t, func(cursor string) (webhook.Page[webhook.Attempt], error) {
			return f.manager.Attempts(t.Context(), f.viewer, webhook.AttemptQuery{Limit: limit, Cursor: cursor})
		})
		require.Equal(t, sizes, pages)
		requireNewestFirst(t, attempts, func(a webhook.Attempt) webhook.Position {
			return webhook.Position{At: a.StartedAt, ID: a.DeliveryID, Number: a.Number}
		})
	}
}

func requireNewestFirst[T any](t testing.TB, items []T, position func(T) webhook.Position) {
	t.Helper()
	for i := 1; i < len(items); i++ {
		require.Positive(t, position(items[i-1]).Compare(position(items[i])))
	}
}

func TestPagesHave50ItemsByDefault(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 51 {
		f.createWebhook(t, endpointURL)
	}
	page, err := f.manager.Webhooks(t.Context(), f.viewer, webhook.WebhookQuery{})
	require.NoError(t, err)
	require.Len(t, page.Items, 50)
	page, err = f.manager.Webhooks(t.Context(), f.viewer, webhook.WebhookQuery{Cursor: page.Next})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	require.Empty(t, page.Next)
}

func TestPagesOfAChangingList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var hooks []webhook.Webhook
	for range 4 {
		f.clock.Advance(time.Second)
		hooks = append(hooks, f.createWebhook(t, endpointURL))
	}
	first, err := f.manager.Webhooks(t.Context(), f.admin, webhook.WebhookQuery{Limit: 2})
	require.NoError(t, err)
	f.clock.Advance(time.Second)
	f.createWebhook(t, endpointURL)
	require.NoError(t, f.manager.Delete(t.Context(), f.admin, hooks[2].ID)) // the last of the first page
	second, err := f.manager.Webhooks(t.Context(), f.admin, webhook.WebhookQuery{Limit: 2, Cursor: first.Next})
	require.NoError(t, err)
	require.Equal(t, webhook.Page[webhook.Webhook]{Items: []webhook.Webhook{hooks[1], hooks[0]}}, second)
}

// listCalls are the lists with a query's limit, cursor and times.
func listCalls(m *webhook.Manager, a webhook.Actor) map[string]func(ctx context.Context, limit int, cursor string, since, before time.Time) error {
	return map[string]func(context.Context, int, string, time.Time, time.Time) error{
		"Webhooks": func(ctx context.Context, limit int, cursor string, _, _ time.Time) error {
			_, err := m.Webhooks(ctx, a, webhook.WebhookQuery{Limit: limit, Cursor: cursor})
			return err
		},
		"Deliveries": func(ctx context.Context, limit int, cursor string, since, before time.Time) error {
			_, err := m.Deliveries(ctx, a, webhook.DeliveryQuery{Limit: limit, Cursor: cursor, Since: since, Before: before})
			return err
		},
		"Attempts": func(ctx context.Context, limit int, cursor string, since, before time.Time) error {
			_, err := m.Attempts(ctx, a, webhook.AttemptQuery{Limit: limit, Cursor: cursor, Since: since, Before: before})
			return err
		},
	}
}

func TestListsRefuse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	spy := s.spy(t)
	now := s.clock.Now()
	for name, list := range listCalls(s.manager, s.viewer) {
		for _, limit := range []int{-1, 201} {
			err := list(t.Context(), limit, "", time.Time{}, time.Time{})
			require.Equal(t, []string{"limit"}, faultFields(t, err), name)
		}
		if name != "Webhooks" {
			for _, since := range []time.Time{now, now.Add(time.Nanosecond)} {
				err := list(t.Context(), 201, "", since, now.In(time.FixedZone("east", 3600)))
				require.Equal(t, []string{"limit", "since"}, faultFields(t, err), name)
			}
			require.NoError(t, list(t.Context(), 0, "", now.Add(-1), now))
			require.NoError(t, list(t.Context(), 0, "", now, time.Time{}))
		}
		for _, cursor := range []string{
			"x", "AAAA", webhook.NextCursor(webhook.Scope{OrganizationID: "rival"}, webhook.WebhookQuery{}, webhook.Position{}),
			webhook.NextCursor(acme, webhook.WebhookQuery{Status: webhook.StatusActive}, webhook.Position{}),
		} {
			require.ErrorIs(t, list(t.Context(), 0, cursor, time.Time{}, time.Time{}), webhook.ErrInvalidCursor, name)
		}
	}
	for field, list := range map[string]func() error{
		"status": func() error {
			_, err := s.manager.Webhooks(t.Context(), s.viewer, webhook.WebhookQuery{Status: "Active"})
			return err
		},
		"state": func() error {
			_, err := s.manager.Deliveries(t.Context(), s.viewer, webhook.DeliveryQuery{State: "lost"})
			return err
		},
		"outcome": func() error {
			_, err := s.manager.Attempts(t.Context(), s.viewer, webhook.AttemptQuery{Outcome: "lost"})
			return err
		},
	} {
		calls := len(spy.seen())
		require.Equal(t, []string{field}, faultFields(t, list()), "what could match nothing")
		require.Len(t, spy.seen(), calls)
	}
}

func TestWebhooksAreFiltered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	messages := f.createWebhook(t, endpointURL)
	transcripts := f.createWebhook(t, endpointURL, subscribing(
		webhook.Subscription{Subject: f.room, EventType: webhook.EventRoomRecordingTranscriptPublished},
	))
	both := f.createWebhook(t, endpointURL, subscribing(
		webhook.Subscription{Subject: f.space, EventType: webhook.EventMessageSent},
		webhook.Subscription{Subject: f.room, EventType: webhook.EventRoomRecordingTranscriptPublished},
	))
	both = f.update(t, both.ID, deactivate)
	for name, c := range map[string]struct {
		q    webhook.WebhookQuery
		want []webhook.Webhook
	}{
		"All":                 {webhook.WebhookQuery{}, []webhook.Webhook{both, transcripts, messages}},
		"Active":              {webhook.WebhookQuery{Status: webhook.StatusActive}, []webhook.Webhook{transcripts, messages}},
		"Inactive":            {webhook.WebhookQuery{Status: webhook.StatusInactive}, []webhook.Webhook{both}},
		"Messages":            {webhook.WebhookQuery{EventType: webhook.EventMessageSent}, []webhook.Webhook{both, messages}},
		"ActiveTranscripts":   {webhook.WebhookQuery{EventType: webhook.EventRoomRecordingTranscriptPublished, Status: webhook.StatusActive}, []webhook.Webhook{transcripts}},
		"EventTypeOfNoOffers": {webhook.WebhookQuery{EventType: "big_bang"}, nil},
	} {
		page, err := f.manager.Webhooks(t.Context(), f.viewer, c.q)
		require.NoError(t, err)
		require.Equal(t, webhook.Page[webhook.Webhook]{Items: c.want}, page, name)
	}
}

func TestDeliveriesAndAttemptsAreFiltered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one := f.createWebhook(t, "https://one.example.com/")
	two := f.createWebhook(t, "https://two.example.com/", subscribing(
		webhook.Subscription{Subject: f.room, EventType: webhook.EventMessageSent},
		webhook.Subscription{Subject: f.room, EventType: webhook.EventRoomRecordingTranscriptPublished},
	))
	t0 := f.clock.Now()
	message := f.publish(t) // for both: one fails for good, two succeeds
	require.Equal(t, 2, f.deliver(t, doerFunc(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "two.example.com" {
			return answerOf(http.StatusNoContent, ""), nil
		}
		return answerOf(http.StatusNotFound, "nobody"), nil
	}), onlyAttempt))
	f.clock.Advance(time.Hour)
	t1 := f.clock.Now()
	e := f.message()
	e.Type = webhook.EventRoomRecordingTranscriptPublished
	transcript, err := f.publisher.Publish(t.Context(), e) // for two, which is to wait
	require.NoError(t, err)
	require.Equal(t, 1, f.deliver(t, answers(http.StatusTooManyRequests, "")))

	first, second := f.deliveries(t, one.ID), f.deliveries(t, two.ID)
	require.Len(t, first, 1)
	require.Len(t, second, 2)
	type filter struct {
		name       string
		deliveries *webhook.DeliveryQuery
		attempts   *webhook.AttemptQuery
		want       []uuid.UUID // of deliveries, newest first; all were attempted once
	}
	failed, done, waiting := first[0].ID, second[0].ID, second[1].ID
	all := []uuid.UUID{waiting, done, failed}
	for _, c := range []filter{
		{"All", &webhook.DeliveryQuery{}, &webhook.AttemptQuery{}, all},
		{"One", &webhook.DeliveryQuery{WebhookID: one.ID}, &webhook.AttemptQuery{WebhookID: one.ID}, []uuid.UUID{failed}},
		{"Two", &webhook.DeliveryQuery{WebhookID: two.ID}, &webhook.AttemptQuery{WebhookID: two.ID}, []uuid.UUID{waiting, done}},
		{"Message", &webhook.DeliveryQuery{EventID: message.EventID}, nil, []uuid.UUID{done, failed}},
		{"Transcript", &webhook.DeliveryQuery{EventID: transcript.EventID}, nil, []uuid.UUID{waiting}},
		{"EventOfNobody", &webhook.DeliveryQuery{EventID: uuid.New()}, nil, nil},
		{"MessageOfTwo", &webhook.DeliveryQuery{EventID: message.EventID, WebhookID: two.ID}, nil, []uuid.UUID{done}},
		{"OneDelivery", nil, &webhook.AttemptQuery{DeliveryID: waiting}, []uuid.UUID{waiting}},
		{"DeliveryOfItsWebhook", nil, &webhook.AttemptQuery{DeliveryID: waiting, WebhookID: two.ID}, []uuid.UUID{waiting}},
		{"DeliveryOfAnotherWebhook", nil, &webhook.AttemptQuery{DeliveryID: waiting, WebhookID: one.ID}, nil},
		{"Failed", &webhook.DeliveryQuery{State: webhook.DeliveryFailed}, nil, []uuid.UUID{failed}},
		{"Succeeded", &webhook.DeliveryQuery{State: webhook.DeliverySucceeded}, &webhook.AttemptQuery{Outcome: webhook.OutcomeSucceeded}, []uuid.UUID{done}},
		{"Pending", &webhook.DeliveryQuery{State: webhook.DeliveryPending}, nil, []uuid.UUID{waiting}},
		{"FailedAttempts", nil, &webhook.AttemptQuery{Outcome: webhook.OutcomeFailed}, []uuid.UUID{waiting, failed}},
		{"Held", &webhook.DeliveryQuery{State: webhook.DeliveryHeld}, &webhook.AttemptQuery{Outcome: webhook.OutcomeLate}, nil},
		{"EventType", &webhook.DeliveryQuery{EventType: e.Type}, &webhook.AttemptQuery{EventType: e.Type}, []uuid.UUID{waiting}},
		{"SinceFirst", &webhook.DeliveryQuery{Since: t0}, &webhook.AttemptQuery{Since: t0}, all},
		{"SinceSecond", &webhook.DeliveryQuery{Since: t1}, &webhook.AttemptQuery{Since: t1}, []uuid.UUID{waiting}},
		{"BeforeSecond", &webhook.DeliveryQuery{Before: t1}, &webhook.AttemptQuery{Before: t1}, []uuid.UUID{done, failed}},
		{"Between", &webhook.DeliveryQuery{Since: t0.Add(1), Before: t1}, &webhook.AttemptQuery{Since: t0.Add(1), Before: t1}, nil},
		{"Everything", &webhook.DeliveryQuery{
			WebhookID: two.ID, EventID: message.EventID, State: webhook.DeliverySucceeded, EventType: webhook.EventMessageSent, Since: t0, Before: t1, Limit: 1,
		}, &webhook.AttemptQuery{
			WebhookID: two.ID, DeliveryID: done, Outcome: webhook.OutcomeSucceeded, EventType: webhook.EventMessageSent, Since: t0, Before: t1, Limit: 1,
		}, []uuid.UUID{done}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.deliveries != nil {
				page, err := f.manager.Deliveries(t.Context(), f.viewer, *c.deliveries)
				require.NoError(t, err)
				var got []uuid.UUID
				for _, d := range page.Items {
					got = append(got, d.ID)
				}
				require.ElementsMatch(t, c.want, got)
				require.Empty(t, page.Next)
			}
			if c.attempts != nil {
				page, err := f.manager.Attempts(t.Context(), f.viewer, *c.attempts)
				require.NoError(t, err)
				var got []uuid.UUID
				for _, a := range page.Items {
					got = append(got, a.DeliveryID)
				}
				require.ElementsMatch(t, c.want, got)
				require.Empty(t, page.Next)
			}
		})
	}
}

func TestTheLogOfADelivery(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.publish(t)
	began := f.clock.Now()
	require.Equal(t, 1, f.deliver(t, answers(http.StatusBadGateway, "down\x00\xff")))
	f.clock.Advance(time.Minute)
	require.Equal(t, 1, f.deliver(t, answers(http.StatusOK, "up")))
	d := f.deliveries(t, w.ID)[0]
	require.Equal(t, webhook.Delivery{
		ID: d.ID, EventID: d.EventID, WebhookID: w.ID, OrganizationID: "acme", EventType: webhook.EventMessageSent, Subject: f.room,
		State: webhook.DeliverySucceeded, Attempts: 2, CreatedAt: began, FinishedAt: began.Add(time.Minute),
	}, d)
	log, err := f.manager.Attempts(t.Context(), f.admin, webhook.AttemptQuery{DeliveryID: d.ID})
	require.NoError(t, err)
	want := []webhook.Attempt{
		{Number: 2, StartedAt: began.Add(time.Minute), Outcome: webhook.OutcomeSucceeded, StatusCode: 200, Response: []byte("up")},
		{
			Number: 1, StartedAt: began, Outcome: webhook.OutcomeFailed, StatusCode: 502, Response: []byte("down\x00\xff"),
			ErrorClass: webhook.ErrorStatus, Error: log.Items[1].Error,
		},
	}
	for i := range want {
		want[i].DeliveryID, want[i].EventID, want[i].WebhookID, want[i].OrganizationID = d.ID, d.EventID, w.ID, "acme"
		want[i].EventType, want[i].EndpointURL = webhook.EventMessageSent, endpointURL
		want[i].Duration, want[i].Timing = log.Items[i].Duration, log.Items[i].Timing
	}
	require.Equal(t, webhook.Page[webhook.Attempt]{Items: want}, log)

	counters, err := f.manager.Counters(t.Context(), f.viewer, webhook.CounterQuery{WebhookID: w.ID})
	require.NoError(t, err)
	counter := webhook.Counter{Hour: began.Truncate(time.Hour)}
	for i := len(log.Items) - 1; i >= 0; i-- { // oldest first
		counter.Add(&log.Items[i])
	}
	require.Equal(t, []webhook.Counter{counter}, counters)
}

func TestCountersAreFiltered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	start := f.clock.Now()
	for range 3 {
		f.publish(t)
		f.deliver(t, answers(http.StatusOK, ""))
		f.clock.Advance(time.Hour)
	}
	for name, c := range map[string]struct {
		since, before time.Time
		hours         []int
	}{
		"All":     {time.Time{}, time.Time{}, []int{0, 1, 2}},
		"Since":   {start.Add(time.Hour), time.Time{}, []int{1, 2}},
		"Before":  {time.Time{}, start.Add(2 * time.Hour), []int{0, 1}},
		"Between": {start.Add(time.Hour), start.Add(2 * time.Hour), []int{1}},
		"None":    {start.Add(3 * time.Hour), time.Time{}, nil},
	} {
		got, err := f.manager.Counters(t.Context(), f.viewer, webhook.CounterQuery{WebhookID: w.ID, Since: c.since, Before: c.before})
		require.NoError(t, err)
		var hours []int
		for _, counter := range got {
			require.Equal(t, 1, counter.Succeeded)
			hours = append(hours, int(counter.Hour.Sub(start)/time.Hour))
		}
		require.Equal(t, c.hours, hours, name)
	}
	_, err := f.manager.Counters(t.Context(), f.viewer, webhook.CounterQuery{WebhookID: w.ID, Since: start, Before: start})
	require.Equal(t, []string{"since"}, faultFields(t, err), "as in lists")
}

func TestTheLogOutlivesItsWebhook(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	require.NoError(t, s.manager.Delete(t.Context(), s.admin, s.webhook.ID))
	deliveries, err := s.manager.Deliveries(t.Context(), s.viewer, webhook.DeliveryQuery{WebhookID: s.webhook.ID})
	require.NoError(t, err)
	require.Len(t, deliveries.Items, 2)
	attempts, err := s.manager.Attempts(t.Context(), s.viewer, webhook.AttemptQuery{WebhookID: s.webhook.ID})
	require.NoError(t, err)
	require.Len(t, attempts.Items, 1)
	_, err = s.manager.Delivery(t.Context(), s.viewer, s.targets.finished)
	require.NoError(t, err)
	_, err = s.manager.Counters(t.Context(), s.viewer, webhook.CounterQuery{WebhookID: s.webhook.ID})
	require.ErrorIs(t, err, webhook.ErrNotFound)
}

func TestPagesBelongToTheirReaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		f.createWebhook(t, endpointURL)
		f.of("rival").createWebhook(t, endpointURL)
	}
	page, err := f.manager.Webhooks(t.Context(), f.admin, webhook.WebhookQuery{Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, page.Next)
	_, err = f.manager.Webhooks(t.Context(), f.of("rival").admin, webhook.WebhookQuery{Limit: 1, Cursor: page.Next})
	require.ErrorIs(t, err, webhook.ErrInvalidCursor)
	next, err := f.manager.Webhooks(t.Context(), f.viewer, webhook.WebhookQuery{Limit: 2, Cursor: page.Next})
	require.NoError(t, err, "a colleague's cursor, with another limit")
	require.Len(t, next.Items, 2)

	page.Items[0].Name = "changed by the caller"
	page.Items[0].Subscriptions[0].EventType = "changed"
	again, err := f.manager.Webhooks(t.Context(), f.admin, webhook.WebhookQuery{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, "Receiver", again.Items[0].Name, fmt.Sprint(again))
	require.Equal(t, webhook.EventMessageSent, again.Items[0].Subscriptions[0].EventType)
}
