package webhook_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// slowly answers with one status after the other, each after 7 s.
func slowly(statuses ...int) doerFunc {
	return func(*http.Request) (*http.Response, error) {
		pass(7 * time.Second)
		status := statuses[0]
		if len(statuses) > 1 {
			statuses = statuses[1:]
		}
		return answerOf(status, "thank you"), nil
	}
}

func TestAwaitATest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		elsewhere bool          // the dispatcher is another process's
		within    time.Duration // of the answer
	}{
		"SentByThisProcess": {within: 20 * time.Millisecond},
		"SentByAnother":     {elsewhere: true, within: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newRunning(t, slowly(http.StatusTeapot))
				w := f.createWebhook(t, endpointURL)
				if c.elsewhere {
					f.elsewhere(t, f.store)
				}
				began := time.Now()
				sent, err := f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
				require.NoError(t, err)

				d, err := f.manager.Await(t.Context(), f.admin, sent.ID)

				require.NoError(t, err)
				require.GreaterOrEqual(t, time.Since(began), 7*time.Second)
				require.Less(t, time.Since(began), 8*time.Second+c.within)
				if !c.elsewhere {
					require.Less(t, time.Since(began), 7*time.Second+c.within, "its own dispatcher wakes it")
				}
				require.Equal(t, webhook.DeliveryFailed, d.State)
				require.NotEmpty(t, d.Payload)
				log, err := f.manager.Attempts(t.Context(), f.admin, webhook.AttemptQuery{DeliveryID: sent.ID})
				require.NoError(t, err)
				require.Len(t, log.Items, 1)
				require.Equal(t, http.StatusTeapot, log.Items[0].StatusCode)

				again, err := f.manager.Await(t.Context(), f.viewer, sent.ID)
				require.NoError(t, err, "what is finished is not waited for")
				d.Payload = nil
				require.Equal(t, d, again)
			})
		})
	}
}

func TestAwaitWaitsForRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newRunning(t, slowly(http.StatusBadGateway, http.StatusBadGateway, http.StatusOK))
		w := f.createWebhook(t, endpointURL)
		f.publish(t)
		began := time.Now()
		d, err := f.manager.Await(t.Context(), f.admin, f.deliveries(t, w.ID)[0].ID)
		require.NoError(t, err)
		require.Equal(t, webhook.DeliverySucceeded, d.State)
		require.Equal(t, 3, d.Attempts)
		require.Greater(t, time.Since(began), 6*time.Minute)
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newRunning(t, slowly(http.StatusOK))
		w := f.createWebhook(t, endpointURL)
		sent, err := f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		d, err := f.manager.Await(ctx, f.admin, sent.ID)
		require.ErrorIs(t, err, webhook.ErrUnfinished)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Equal(t, sent.ID, d.ID)
		require.Equal(t, webhook.DeliveryPending, d.State)

		d, err = f.manager.Await(t.Context(), f.admin, sent.ID)
		require.NoError(t, err, "the delivery goes on")
		require.Equal(t, webhook.DeliverySucceeded, d.State)
	})
}

// What an inactive webhook holds is not waited for: nothing would come.
func TestAwaitOfAHeldDelivery(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.update(t, s.webhook.ID, deactivate)
	d, err := s.manager.Await(t.Context(), s.admin, s.targets.pending)
	require.ErrorIs(t, err, webhook.ErrUnfinished)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, webhook.DeliveryHeld, d.State)
}

// A webhook is deactivated while somebody waits.
func TestAwaitSeesADeactivation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		waited := make(chan error, 1)
		go func() {
			_, err := s.manager.Await(t.Context(), s.admin, s.targets.pending)
			waited <- err
		}()
		synctest.Wait()
		s.update(t, s.webhook.ID, deactivate)
		require.ErrorIs(t, <-waited, webhook.ErrUnfinished)
	})
}

// The store's errors while somebody waits are no answer about the delivery.
func TestAwaitReturnsTheStoresErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		looks := 0
		s.spy(t).before = func(method string, _ any) error {
			if method != "Delivery" {
				return nil
			}
			if looks++; looks > 3 {
				return errBoom
			}
			return nil
		}
		d, err := s.manager.Await(t.Context(), s.admin, s.targets.pending)
		require.ErrorIs(t, err, errBoom)
		require.NotErrorIs(t, err, webhook.ErrUnfinished)
		require.Zero(t, d)
		require.Equal(t, 4, looks)
	})
}
