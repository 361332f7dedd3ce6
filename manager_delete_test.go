package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

func TestDelete(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	require.NoError(t, s.manager.Delete(t.Context(), s.admin, s.webhook.ID))

	_, err := s.manager.Webhook(t.Context(), s.admin, s.webhook.ID)
	require.ErrorIs(t, err, webhook.ErrNotFound)
	require.ErrorIs(t, s.manager.Delete(t.Context(), s.admin, s.webhook.ID), webhook.ErrNotFound)
	_, err = s.manager.Update(t.Context(), s.admin, s.webhook.ID, sameAs(s.webhook))
	require.ErrorIs(t, err, webhook.ErrNotFound)
	page, err := s.manager.Webhooks(t.Context(), s.admin, webhook.WebhookQuery{})
	require.NoError(t, err)
	require.Empty(t, page.Items)

	require.Equal(t, []webhook.DeliveryState{webhook.DeliveryFailed, webhook.DeliveryCancelled}, s.states(t, s.webhook.ID), "the log stays")
	require.Zero(t, s.deliver(t, answers(http.StatusOK, "")))
	p, err := s.publisher.Publish(t.Context(), s.message())
	require.NoError(t, err)
	require.Zero(t, p.Deliveries)
}

func TestDeleteReachesTransactionsThatCommitLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	tx := f.store.Begin()
	_, err := f.publisher.PublishTx(t.Context(), tx, f.message())
	require.NoError(t, err)
	require.NoError(t, f.manager.Delete(t.Context(), f.admin, w.ID))
	require.NoError(t, tx.Commit())
	require.Zero(t, f.deliver(t, answers(http.StatusOK, "")))
	require.Equal(t, []webhook.DeliveryState{webhook.DeliveryCancelled}, f.states(t, w.ID))
}

// sendingAlready starts a dispatcher and waits until a message is being sent.
func sendingAlready(t testing.TB, endpoint doerFunc) (f *fixture, w webhook.Webhook) {
	t.Helper()
	started := make(chan struct{}, 1)
	f = newRunning(t, doerFunc(func(r *http.Request) (*http.Response, error) {
		started <- struct{}{}
		return endpoint(r)
	}))
	w = f.createWebhook(t, endpointURL)
	f.publish(t)
	<-started
	return f, w
}

// elsewhere gives the fixture a manager that has no dispatcher in its process.
func (f *fixture) elsewhere(t testing.TB, s webhook.ManagerStore) {
	t.Helper()
	var err error
	f.manager, err = webhook.NewManager(s, webhook.ManagerConfig{})
	require.NoError(t, err)
}

func TestDeleteAbortsWhatThisProcessSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 1)
		f, w := sendingAlready(t, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			ended <- time.Now()
			return nil, r.Context().Err()
		})
		began := time.Now()
		require.NoError(t, f.manager.Delete(t.Context(), f.admin, w.ID))
		require.Equal(t, began, <-ended, "at once")
		require.Less(t, time.Since(began), time.Second)

		log, err := f.manager.Attempts(t.Context(), f.admin, webhook.AttemptQuery{})
		require.NoError(t, err)
		require.Len(t, log.Items, 1)
		require.Equal(t, webhook.OutcomeInterrupted, log.Items[0].Outcome)
		require.Equal(t, webhook.ErrorInterrupted, log.Items[0].ErrorClass)
		require.Equal(t, []webhook.DeliveryState{webhook.DeliveryCancelled}, f.states(t, w.ID))
	})
}

func TestDeleteWaitsForWhatOthersSend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var answered atomic.Bool
		f, w := sendingAlready(t, func(*http.Request) (*http.Response, error) {
			pass(7 * time.Second)
			answered.Store(true)
			return answerOf(http.StatusOK, ""), nil
		})
		f.elsewhere(t, f.store)
		began := time.Now()
		require.NoError(t, f.manager.Delete(t.Context(), f.admin, w.ID))
		require.True(t, answered.Load())
		took := time.Since(began)
		require.GreaterOrEqual(t, took, 7*time.Second)
		require.Less(t, took, 7*time.Second+200*time.Millisecond, "it notices soon")
		require.Equal(t, []webhook.DeliveryState{webhook.DeliveryCancelled}, f.states(t, w.ID))
		log, err := f.manager.Attempts(t.Context(), f.admin, webhook.AttemptQuery{})
		require.NoError(t, err)
		require.Equal(t, webhook.OutcomeSucceeded, log.Items[0].Outcome, "and logged as what it was")
	})
}

func TestDeleteWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		// Deaf to its context, against the rule for HTTPDoers.
		f, w := sendingAlready(t, func(*http.Request) (*http.Response, error) {
			<-release
			return answerOf(http.StatusOK, ""), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		err := f.manager.Delete(ctx, f.admin, w.ID)
		require.ErrorIs(t, err, webhook.ErrStillInFlight)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))

		_, err = f.manager.Webhook(t.Context(), f.admin, w.ID)
		require.ErrorIs(t, err, webhook.ErrNotFound, "the deletion stands")
		require.Equal(t, []webhook.DeliveryState{webhook.DeliveryCancelled}, f.states(t, w.ID))
		close(release)
	})
}

func TestDeleteWithinCountsFromTheDeletion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f, w := sendingAlready(t, func(*http.Request) (*http.Response, error) {
			<-release
			return answerOf(http.StatusOK, ""), nil
		})
		f.elsewhere(t, &spyStore{Store: f.store, before: func(method string, _ any) error {
			if method == "DeleteWebhook" {
				pass(5 * time.Second)
			}
			return nil
		}})
		began := time.Now()
		err := f.manager.DeleteWithin(t.Context(), f.admin, w.ID, 2*time.Second)
		require.ErrorIs(t, err, webhook.ErrStillInFlight)
		require.Equal(t, 7*time.Second, time.Since(began))

		_, err = f.manager.Webhook(t.Context(), f.admin, w.ID)
		require.ErrorIs(t, err, webhook.ErrNotFound, "the deletion stands")
		time.AfterFunc(6*time.Second, func() { close(release) })
		require.NoError(t, f.manager.DeleteWithin(t.Context(), f.admin, w.ID, 2*time.Second), "and can be waited for")
	})
}

func TestDeleteWaitsNoLongerThanLeasesLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{store: memstore.New()}
		f.assemble(t, nil, nil)
		w := f.createWebhook(t, endpointURL)
		f.publish(t)
		// A dispatcher takes the delivery and dies.
		r, err := f.store.Claim(t.Context(), webhook.ClaimParams{Now: time.Now(), LeaseFor: 45 * time.Second, Limit: 1})
		require.NoError(t, err)
		require.Len(t, r.Claims, 1)
		began := time.Now()
		require.NoError(t, f.manager.Delete(t.Context(), f.admin, w.ID))
		require.GreaterOrEqual(t, time.Since(began), 45*time.Second)
		require.Less(t, time.Since(began), 46*time.Second)
	})
}

func TestDeleteWhenTheStoreFailsWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, w := sendingAlready(t, hang)
		calls := 0
		spy := &spyStore{Store: f.store, before: func(method string, _ any) error {
			if method == "Leased" {
				if calls++; calls == 4 {
					return errBoom
				}
			}
			return nil
		}}
		f.elsewhere(t, spy)
		err := f.manager.Delete(t.Context(), f.admin, w.ID)
		require.ErrorIs(t, err, webhook.ErrStillInFlight)
		require.ErrorIs(t, err, errBoom)
		require.Equal(t, []string{"DeleteWebhook", "Leased", "Leased", "Leased", "Leased"}, spy.seen())
		_, err = f.manager.Webhook(t.Context(), f.admin, w.ID)
		require.ErrorIs(t, err, webhook.ErrNotFound, "the deletion stands")
	})
}

func TestDeleteWhenThePurgeWasFaster(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.spy(t).before = func(method string, _ any) error {
		if method == "Leased" {
			return fmt.Errorf("store: %w", webhook.ErrNotFound)
		}
		return nil
	}
	require.NoError(t, f.manager.Delete(t.Context(), f.admin, w.ID), "what the store has forgotten is not in flight")
}

func TestDeleteAfterItsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := f.manager.Delete(ctx, f.admin, w.ID)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, webhook.ErrStillInFlight, "nothing was deleted")
	_, err = f.manager.Webhook(t.Context(), f.admin, w.ID)
	require.NoError(t, err)
}

func TestDeleteLeavesOtherWebhooksAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		aborted := make(chan string, 2)
		release := make(chan struct{})
		started := make(chan struct{}, 2)
		f := newRunning(t, doerFunc(func(r *http.Request) (*http.Response, error) {
			started <- struct{}{}
			select {
			case <-r.Context().Done():
				aborted <- r.URL.Host
				return nil, r.Context().Err()
			case <-release:
				return answerOf(http.StatusOK, ""), nil
			}
		}))
		w := f.createWebhook(t, "https://one.example.com/")
		other := f.createWebhook(t, "https://two.example.com/")
		f.publish(t)
		<-started
		<-started
		require.NoError(t, f.manager.Delete(t.Context(), f.admin, w.ID))
		require.Equal(t, "one.example.com", <-aborted)
		close(release)
		pass(time.Second)
		require.Empty(t, aborted)
		require.Equal(t, []webhook.DeliveryState{webhook.DeliverySucceeded}, f.states(t, other.ID))
	})
}
