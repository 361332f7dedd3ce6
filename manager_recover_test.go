package webhook_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// purgePayloads deletes the payloads of what has been finished until now.
func (f *fixture) purgePayloads(t testing.TB) {
	t.Helper()
	now := f.clock.Now().Add(time.Microsecond)
	_, err := f.store.Purge(t.Context(), webhook.PurgeParams{Now: now, PayloadsBefore: now, Limit: 1000})
	require.NoError(t, err)
}

func TestRedeliver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.publish(t) // fails
	f.fail(t)
	f.publish(t) // succeeds
	f.deliver(t, answers(http.StatusOK, ""))
	f.publish(t) // is cancelled
	finished := f.deliveries(t, w.ID)
	require.NoError(t, f.manager.Cancel(t.Context(), f.admin, finished[2].ID))
	f.clock.Advance(time.Hour)

	for _, d := range finished {
		again, err := f.manager.Redeliver(t.Context(), f.admin, d.ID)
		require.NoError(t, err)
		require.NotEqual(t, d.ID, again.ID)
		require.Equal(t, webhook.Delivery{
			ID: again.ID, EventID: d.EventID, WebhookID: w.ID, OrganizationID: "acme", EventType: d.EventType, Subject: d.Subject,
			State: webhook.DeliveryPending, DueAt: f.clock.Now(), CreatedAt: f.clock.Now(), RedeliveryOf: d.ID,
		}, again)
		before, err := f.manager.Delivery(t.Context(), f.admin, d.ID)
		require.NoError(t, err)
		after, err := f.manager.Delivery(t.Context(), f.admin, again.ID)
		require.NoError(t, err)
		require.Equal(t, string(before.Payload), string(after.Payload), "the same bytes")
	}
	require.Equal(t, 3, f.deliver(t, answers(http.StatusOK, "")))
}

func TestRedeliveriesHaveAttemptsOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.publish(t)
	d := f.dispatcher(t, answers(http.StatusInternalServerError, ""))
	webhooktest.Drain(t, d, f.clock)
	first := f.deliveries(t, w.ID)[0]
	require.Equal(t, 6, first.Attempts)
	again, err := f.manager.Redeliver(t.Context(), f.admin, first.ID)
	require.NoError(t, err)
	webhooktest.Drain(t, d, f.clock)
	again, err = f.manager.Delivery(t.Context(), f.admin, again.ID)
	require.NoError(t, err)
	require.Equal(t, webhook.DeliveryFailed, again.State)
	require.Equal(t, 6, again.Attempts)
	stored, err := f.manager.Delivery(t.Context(), f.admin, first.ID)
	require.NoError(t, err)
	require.Equal(t, 6, stored.Attempts, "the old one's log is left alone")
}

func TestRedeliverConflicts(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(testing.TB, *scene) uuid.UUID{
		"Pending": func(_ testing.TB, s *scene) uuid.UUID { return s.targets.pending },
		"Held": func(t testing.TB, s *scene) uuid.UUID {
			t.Helper()
			s.update(t, s.webhook.ID, deactivate)
			return s.targets.pending
		},
		"Purged": func(t testing.TB, s *scene) uuid.UUID {
			t.Helper()
			s.purgePayloads(t)
			return s.targets.finished
		},
		"OfADeletedWebhook": func(t testing.TB, s *scene) uuid.UUID {
			t.Helper()
			require.NoError(t, s.manager.Delete(t.Context(), s.admin, s.webhook.ID))
			return s.targets.finished
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			id := prepare(t, s)
			before := s.everything(t)
			d, err := s.manager.Redeliver(t.Context(), s.admin, id)
			require.ErrorIs(t, err, webhook.ErrConflict)
			require.Equal(t, webhook.Delivery{}, d)
			require.Equal(t, before, s.everything(t))
		})
	}
}

func TestRedeliverToAnInactiveWebhookIsHeld(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.update(t, s.webhook.ID, deactivate)
	d, err := s.manager.Redeliver(t.Context(), s.admin, s.targets.finished)
	require.NoError(t, err)
	require.Equal(t, webhook.DeliveryHeld, d.State)
	require.Zero(t, s.deliver(t, answers(http.StatusOK, "")))
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.clock.Advance(time.Minute)
	require.NoError(t, s.manager.Cancel(t.Context(), s.admin, s.targets.pending))
	d, err := s.manager.Delivery(t.Context(), s.admin, s.targets.pending)
	require.NoError(t, err)
	require.Equal(t, webhook.DeliveryCancelled, d.State)
	require.Equal(t, s.clock.Now(), d.FinishedAt)
	require.Zero(t, d.DueAt)
	require.Zero(t, s.deliver(t, answers(http.StatusOK, "")))
	for _, finished := range []uuid.UUID{s.targets.pending, s.targets.finished} {
		require.ErrorIs(t, s.manager.Cancel(t.Context(), s.admin, finished), webhook.ErrConflict)
	}

	s.update(t, s.webhook.ID, deactivate)
	s.publish(t)
	held := s.deliveries(t, s.webhook.ID)[2]
	require.Equal(t, webhook.DeliveryHeld, held.State)
	require.NoError(t, s.manager.Cancel(t.Context(), s.admin, held.ID))
	s.update(t, s.webhook.ID, resume)
	require.Zero(t, s.deliver(t, answers(http.StatusOK, "")))
}

func TestCancelLetsAnAttemptInFlightBeTheLast(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"ThatFails": http.StatusInternalServerError, "ThatSucceeds": http.StatusOK} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.createWebhook(t, endpointURL)
			f.publish(t)
			id := f.deliveries(t, w.ID)[0].ID
			cancelled := errBoom
			require.Equal(t, 1, f.deliver(t, doerFunc(func(r *http.Request) (*http.Response, error) {
				cancelled = f.manager.Cancel(r.Context(), f.admin, id)
				return answerOf(status, ""), nil
			})))
			require.NoError(t, cancelled)
			require.Equal(t, []webhook.DeliveryState{webhook.DeliveryCancelled}, f.states(t, w.ID))
			log, err := f.manager.Attempts(t.Context(), f.admin, webhook.AttemptQuery{DeliveryID: id})
			require.NoError(t, err)
			require.Len(t, log.Items, 1)
			require.Equal(t, status, log.Items[0].StatusCode)
			f.clock.Advance(24 * time.Hour)
			require.Zero(t, f.deliver(t, answers(http.StatusOK, "")))
		})
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	other := f.createWebhook(t, "https://other.example.com/")
	down, up := answers(http.StatusInternalServerError, ""), answers(http.StatusOK, "")
	publish := func() webhook.Delivery {
		f.publish(t)
		all := f.deliveries(t, w.ID)
		return all[len(all)-1]
	}

	publish() // failed too early
	f.fail(t)
	f.clock.Advance(time.Hour)
	since := f.clock.Now()

	succeeded := publish()
	f.deliver(t, up)
	again, err := f.manager.Redeliver(t.Context(), f.admin, succeeded.ID) // failed, but had succeeded: asked for by a person
	require.NoError(t, err)
	f.deliver(t, down, onlyAttempt)

	repaired := publish()
	f.fail(t)
	_, err = f.manager.Redeliver(t.Context(), f.admin, repaired.ID) // has succeeded since
	require.NoError(t, err)
	f.deliver(t, up)

	underWay := publish()
	f.fail(t)
	_, err = f.manager.Redeliver(t.Context(), f.admin, underWay.ID) // is being sent again
	require.NoError(t, err)

	_, err = f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
	require.NoError(t, err)
	cancelled := publish()
	require.NoError(t, f.manager.Cancel(t.Context(), f.admin, cancelled.ID))
	f.clock.Advance(time.Minute)
	failed := publish()
	f.deliver(t, down, onlyAttempt) // with the test and the redelivery under way
	failedToo := publish()
	f.fail(t)
	stillPending := publish()
	pendingAgain, err := f.manager.Redeliver(t.Context(), f.admin, failedToo.ID)
	require.NoError(t, err)

	before := f.deliveries(t, w.ID)
	beforeOther := f.deliveries(t, other.ID)
	got, err := f.manager.Recover(t.Context(), f.admin, w.ID, since)
	require.NoError(t, err)
	redelivered := map[uuid.UUID]bool{}
	after := f.deliveries(t, w.ID)
	for _, d := range after[len(before):] {
		require.Equal(t, webhook.DeliveryPending, d.State)
		redelivered[d.RedeliveryOf] = true
	}
	want := map[uuid.UUID]bool{failed.ID: true, again.ID: true, before[indexOf(before, underWay.ID)+1].ID: true}
	require.Equal(t, want, redelivered)
	require.Equal(t, webhook.Recovery{Redelivered: 3}, got)
	require.NotContains(t, redelivered, stillPending.ID)
	require.NotContains(t, redelivered, pendingAgain.ID)
	require.Equal(t, beforeOther, f.deliveries(t, other.ID), "another webhook's are left alone")

	got, err = f.manager.Recover(t.Context(), f.admin, w.ID, since)
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{}, got, "each is being sent again already")
}

func indexOf(ds []webhook.Delivery, id uuid.UUID) int {
	for i, d := range ds {
		if d.ID == id {
			return i
		}
	}
	return -1
}

func TestRecoverReleasesWhatIsHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.update(t, w.ID, deactivate)
	f.publish(t)
	f.clock.Advance(time.Hour)
	since := f.clock.Now()
	f.publish(t)
	f.publish(t)
	f.update(t, w.ID, activate)
	preview, err := f.manager.RecoverPreview(t.Context(), f.admin, w.ID, since)
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{Released: 2}, preview)
	require.Equal(t, []webhook.DeliveryState{webhook.DeliveryHeld, webhook.DeliveryHeld, webhook.DeliveryHeld}, f.states(t, w.ID), "it was a preview")
	got, err := f.manager.Recover(t.Context(), f.admin, w.ID, since.In(time.FixedZone("east", 3600)))
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{Released: 2}, got)
	require.Equal(t, []webhook.DeliveryState{webhook.DeliveryHeld, webhook.DeliveryPending, webhook.DeliveryPending}, f.states(t, w.ID))
	require.Equal(t, 2, f.deliver(t, answers(http.StatusOK, "")))
	got, err = f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{Released: 1}, got)
}

func TestRecoverCountsWhatIsPurged(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.purgePayloads(t)
	got, err := s.manager.Recover(t.Context(), s.admin, s.webhook.ID, time.Time{})
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{Purged: 1}, got)
}

func TestRecoverNeedsAnActiveWebhook(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.update(t, s.webhook.ID, deactivate)
	before := s.everything(t)
	got, err := s.manager.Recover(t.Context(), s.admin, s.webhook.ID, time.Time{})
	require.ErrorIs(t, err, webhook.ErrConflict)
	require.Equal(t, webhook.Recovery{}, got)
	require.Equal(t, before, s.everything(t))

	require.NoError(t, s.manager.Delete(t.Context(), s.admin, s.webhook.ID))
	_, err = s.manager.Recover(t.Context(), s.admin, s.webhook.ID, time.Time{})
	require.ErrorIs(t, err, webhook.ErrNotFound)
}

func TestRecoverWorksInBatches(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for range 5 {
		f.publish(t)
	}
	require.Equal(t, 5, f.fail(t))
	spy := f.spy(t)
	batches := 0
	var failAt int
	spy.before = func(method string, params any) error {
		if method != "Recover" {
			return nil
		}
		p := params.(*webhook.RecoverParams)
		require.Equal(t, 500, p.Limit)
		p.Limit = 2
		f.clock.Advance(time.Second) // what a batch adds must stay out of the next one's sight
		if batches++; batches == failAt {
			return errBoom
		}
		return nil
	}

	failAt = 3
	got, err := f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
	require.ErrorIs(t, err, errBoom)
	require.Equal(t, webhook.Recovery{Redelivered: 4}, got, "what had been done")

	batches, failAt = 0, 0
	got, err = f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{Redelivered: 1}, got, "only the rest")
	require.Len(t, f.deliveries(t, w.ID), 10)
}

func TestRecoverBatchGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for range 5 {
		f.publish(t)
	}
	require.Equal(t, 5, f.fail(t))
	f.spy(t).before = func(method string, params any) error {
		if method == "Recover" {
			f.fail(t) // what the batches before have added
			params.(*webhook.RecoverParams).Limit = 2
		}
		return nil
	}

	since := f.clock.Now().Add(-time.Hour)
	var got []webhook.Recovery
	var cursors []string
	for cursor := ""; ; {
		done, next, err := f.manager.RecoverBatch(t.Context(), f.admin, w.ID, since, cursor)
		require.NoError(t, err)
		got, cursors = append(got, done), append(cursors, next)
		if cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, []webhook.Recovery{{Redelivered: 2}, {Redelivered: 2}, {Redelivered: 1}}, got)
	require.Len(t, f.deliveries(t, w.ID), 10)

	other := f.createWebhook(t, endpointURL)
	for name, call := range map[string]func() error{
		"OfAnotherWebhook": func() error {
			_, _, err := f.manager.RecoverBatch(t.Context(), f.admin, other.ID, since, cursors[0])
			return err
		},
		"OfAnotherTime": func() error {
			_, _, err := f.manager.RecoverBatch(t.Context(), f.admin, w.ID, since.Add(1), cursors[0])
			_, _, other := f.manager.RecoverBatch(t.Context(), f.admin, w.ID, since.Add(time.Microsecond), cursors[0])
			require.NoError(t, err, "the same microsecond")
			return other
		},
		"OfAnotherOrganization": func() error {
			_, _, err := f.manager.RecoverBatch(t.Context(), f.of("rival").admin, w.ID, since, cursors[0])
			return err
		},
		"Shorter": func() error {
			_, _, err := f.manager.RecoverBatch(t.Context(), f.admin, w.ID, since, cursors[0][1:])
			return err
		},
		"NoBase64": func() error {
			_, _, err := f.manager.RecoverBatch(t.Context(), f.admin, w.ID, since, strings.Repeat("*", len(cursors[0])))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, call(), webhook.ErrInvalidCursor)
		})
	}
}

func TestRecoverDoesNotChaseItsOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for range 5 {
		f.publish(t)
	}
	require.Equal(t, 5, f.fail(t))
	batches := 0
	f.spy(t).before = func(method string, params any) error {
		if method != "Recover" {
			return nil
		}
		f.fail(t) // what the batches before have added, though no time has passed
		params.(*webhook.RecoverParams).Limit = 2
		if batches++; batches > 10 {
			return errBoom
		}
		return nil
	}
	got, err := f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{Redelivered: 5}, got)
	require.Len(t, f.deliveries(t, w.ID), 10)
}

func TestRecoverKeepsTheOrderOfTheEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for range 5 {
		f.publish(t)
		f.clock.Advance(time.Second)
	}
	f.fail(t)
	_, err := f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
	require.NoError(t, err)
	all := f.deliveries(t, w.ID)
	for i := range 5 {
		require.Equal(t, all[i].ID, all[5+i].RedeliveryOf)
	}
}

func TestSendTest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	other := f.createWebhook(t, endpointURL)
	d, err := f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventRoomRecordingTranscriptPublished) // not subscribed to
	require.NoError(t, err)
	require.Equal(t, webhook.Delivery{
		ID: d.ID, EventID: d.EventID, WebhookID: w.ID, OrganizationID: "acme", EventType: webhook.EventRoomRecordingTranscriptPublished,
		Subject: f.room, State: webhook.DeliveryPending, DueAt: f.clock.Now(), CreatedAt: f.clock.Now(), Test: true,
	}, d)
	require.Equal(t, f.clock.Now().UnixMilli(), requireVersion7(t, d.EventID))
	require.Empty(t, f.deliveries(t, other.ID), "for the one webhook only")

	full, err := f.manager.Delivery(t.Context(), f.admin, d.ID)
	require.NoError(t, err)
	var payload struct {
		Test bool            `json:"test"`
		Data json.RawMessage `json:"data"`
	}
	require.NoError(t, json.Unmarshal(full.Payload, &payload))
	info, _ := webhook.DefaultCatalog().EventType(webhook.EventRoomRecordingTranscriptPublished)
	require.True(t, payload.Test)
	require.Equal(t, info.Sample, payload.Data)

	// An edit of the subscriptions leaves it alone; it is attempted once.
	f.update(t, w.ID, func(ch *webhook.WebhookChange) { ch.Subscriptions = rooms(1) })
	webhooktest.Drain(t, f.dispatcher(t, answers(http.StatusInternalServerError, "")), f.clock)
	full, err = f.manager.Delivery(t.Context(), f.admin, d.ID)
	require.NoError(t, err)
	require.Equal(t, webhook.DeliveryFailed, full.State)
	require.Equal(t, 1, full.Attempts)
	notices, err := f.store.ClaimNotices(t.Context(), webhook.ClaimNoticesParams{Now: f.clock.Now().Add(48 * time.Hour), LeaseFor: time.Minute, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, webhook.ClaimNoticesResult{}, notices, "nobody is told")
	got, err := f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
	require.NoError(t, err)
	require.Equal(t, webhook.Recovery{}, got, "tests are not missed")
}

func TestSendTestRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for _, eventType := range []webhook.EventType{"", "big_bang"} {
		_, err := f.manager.SendTest(t.Context(), f.admin, w.ID, eventType)
		require.Equal(t, []string{"event_type"}, faultFields(t, err))
	}
	tight, err := webhook.NewManager(f.store, webhook.ManagerConfig{MaxPayloadBytes: 100})
	require.NoError(t, err)
	_, err = tight.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
	require.Equal(t, []string{"data"}, faultFields(t, err))

	f.update(t, w.ID, deactivate)
	_, err = f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
	require.ErrorIs(t, err, webhook.ErrConflict)
	_, err = f.manager.SendTest(t.Context(), f.admin, uuid.New(), webhook.EventMessageSent)
	require.ErrorIs(t, err, webhook.ErrNotFound)
	require.Empty(t, f.deliveries(t, w.ID))
}

// A host that has put a webhook into the store by itself may have left out what
// Manager insists on.
func TestSendTestNeedsASubject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	w.ID, w.Subscriptions = uuid.New(), nil
	secret, err := webhook.NewSecret()
	require.NoError(t, err)
	require.NoError(t, f.store.CreateWebhook(t.Context(), webhook.CreateWebhookParams{Webhook: w, Secret: secret}))
	_, err = f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
	require.ErrorIs(t, err, webhook.ErrConflict)
	require.Empty(t, f.deliveries(t, w.ID))
}

// A webhook may be deleted between the steps of SendTest.
func TestSendTestMeetsADeletion(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"InsertEvents", "Deliveries"} {
		t.Run("Before"+step, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.createWebhook(t, endpointURL)
			f.spy(t).before = func(method string, _ any) error {
				if method != step {
					return nil
				}
				err := f.store.DeleteWebhook(t.Context(), webhook.DeleteWebhookParams{Scope: acme, ID: w.ID, Now: f.clock.Now()})
				if step == "Deliveries" {
					_, purgeErr := f.store.Purge(t.Context(), webhook.PurgeParams{
						Now: f.clock.Now(), DeliveriesBefore: f.clock.Now().Add(time.Hour), Limit: 10,
					})
					require.NoError(t, purgeErr)
				}
				return err
			}
			d, err := f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
			require.ErrorIs(t, err, webhook.ErrNotFound)
			require.Equal(t, webhook.Delivery{}, d)
		})
	}
}

func TestSendTestWhenTheLogIsEmpty(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	s := &logless{Store: f.store}
	m, err := webhook.NewManager(s, webhook.ManagerConfig{})
	require.NoError(t, err)
	_, err = m.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
	require.ErrorIs(t, err, webhook.ErrNotFound)
}

// logless is a store whose log has been purged already.
type logless struct{ webhook.Store }

func (*logless) Deliveries(context.Context, webhook.Scope, webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error) {
	return webhook.Page[webhook.Delivery]{}, nil
}

// deaf is a store that does not tell dispatchers of new work.
type deaf struct{ webhook.Store }

func TestManagerWakesTheDispatcherOfItsProcess(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(testing.TB, *fixture, webhook.Webhook) error{
		"Redeliver": func(t testing.TB, f *fixture, w webhook.Webhook) error {
			t.Helper()
			_, err := f.manager.Redeliver(t.Context(), f.admin, f.deliveries(t, w.ID)[0].ID)
			return err
		},
		"Recover": func(t testing.TB, f *fixture, w webhook.Webhook) error {
			t.Helper()
			_, err := f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
			return err
		},
		"SendTest": func(t testing.TB, f *fixture, w webhook.Webhook) error {
			t.Helper()
			_, err := f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
			return err
		},
		"Update": func(t testing.TB, f *fixture, w webhook.Webhook) error {
			t.Helper()
			f.update(t, w.ID, deactivate)
			f.publish(t)
			f.update(t, w.ID, resume)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				sent := make(chan time.Time, 10)
				status := http.StatusInternalServerError
				store := deaf{f.store}
				d, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{
					Schedule: newSchedule(t), // a single attempt
					HTTPDoer: doerFunc(func(*http.Request) (*http.Response, error) {
						sent <- time.Now()
						return answerOf(status, ""), nil
					}),
				})
				require.NoError(t, err)
				f.assemble(t, nil, d)
				w := f.createWebhook(t, endpointURL)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- d.Run(ctx) }()
				f.publish(t)
				<-sent
				time.Sleep(100 * time.Millisecond) //nolint:forbidigo // into the wait between two looks
				began := time.Now()
				require.NoError(t, act(t, f, w))
				require.Equal(t, began, <-sent, "no time has passed")
				cancel()
				require.NoError(t, <-done)
			})
		})
	}
}
