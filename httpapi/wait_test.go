package httpapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/memstore"
)

const testBody = `{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`

type tested struct {
	Delivery struct {
		ID    uuid.UUID `json:"id"`
		State string    `json:"state"`
	} `json:"delivery"`
	Attempt *struct {
		StatusCode int     `json:"status_code"`
		Duration   float64 `json:"duration_ms"`
		Error      string  `json:"error"`
		Response   *struct {
			Data string `json:"data"`
		} `json:"response"`
	} `json:"attempt"`
}

// after makes a dispatcher of another process deliver what is due, once, after a time.
func (h *host) after(t *testing.T, d time.Duration, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-time.After(d)
		do()
	}()
	t.Cleanup(func() { <-done })
}

func TestSendTestAndWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		w, _ := h.register(t)
		path := h.webhookPath(w.ID) + "/test"
		deliver := func() {
			_, err := h.dispatcher.RunOnce(t.Context())
			require.NoError(t, err)
		}

		h.answers(http.StatusTeapot, "short and stout")
		h.after(t, 4*time.Second, deliver)
		began := time.Now()
		answer := h.call(t, owner, http.MethodPost, path+"?wait=10", testBody)
		require.Equal(t, http.StatusOK, answer.Code)
		require.NotContains(t, answer.Body.String(), "payload")
		got := decode[tested](t, answer)
		require.Equal(t, "WEBHOOK_DELIVERY_STATE_FAILED", got.Delivery.State)
		require.Equal(t, http.StatusTeapot, got.Attempt.StatusCode)
		require.Contains(t, got.Attempt.Error, "418")
		require.Equal(t, "short and stout", got.Attempt.Response.Data)
		require.Less(t, time.Since(began), 6*time.Second)

		// Nobody delivers.
		began = time.Now()
		answer = h.call(t, owner, http.MethodPost, path+"?wait=2", testBody)
		require.Equal(t, http.StatusAccepted, answer.Code)
		require.Equal(t, 2*time.Second, time.Since(began))
		got = decode[tested](t, answer)
		require.Equal(t, "WEBHOOK_DELIVERY_STATE_PENDING", got.Delivery.State)
		require.Nil(t, got.Attempt)
		deliver()

		// Somebody cancels it.
		h.after(t, time.Second, func() {
			page, err := h.manager.Deliveries(t.Context(), actors[owner], webhook.DeliveryQuery{State: webhook.DeliveryPending})
			require.NoError(t, err)
			require.NoError(t, h.manager.Cancel(t.Context(), actors[owner], page.Items[0].ID))
		})
		answer = h.call(t, owner, http.MethodPost, path+"?wait=30", testBody)
		require.Equal(t, http.StatusOK, answer.Code)
		got = decode[tested](t, answer)
		require.Equal(t, "WEBHOOK_DELIVERY_STATE_CANCELLED", got.Delivery.State)
		require.Nil(t, got.Attempt)

		// Somebody makes the webhook inactive meanwhile: nothing is worth waiting for then.
		inactive := webhook.WebhookChange{Version: 1, Name: w.Name, EndpointURL: w.EndpointURL, Status: webhook.StatusInactive, Subscriptions: w.Subscriptions}
		h.after(t, time.Second, func() {
			_, err := h.manager.Update(t.Context(), actors[owner], w.ID, inactive)
			require.NoError(t, err)
		})
		began = time.Now()
		answer = h.call(t, owner, http.MethodPost, path+"?wait=30", testBody)
		require.Equal(t, http.StatusAccepted, answer.Code)
		require.Equal(t, "WEBHOOK_DELIVERY_STATE_HELD", decode[tested](t, answer).Delivery.State)
		require.Less(t, time.Since(began), 3*time.Second)

		// And then it is refused at once.
		began = time.Now()
		require.Equal(t, http.StatusConflict, h.call(t, owner, http.MethodPost, path+"?wait=30", testBody).Code)
		require.Zero(t, time.Since(began))
	})
}

// Waiting is bounded: whoever comes when there are enough is answered at once, and the
// place of one whose sender has gone is free again.
func TestRequestsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		w, _ := h.register(t)
		const enough = 100
		ctx, leave := context.WithCancel(t.Context())
		waits := func(ctx context.Context) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, h.webhookPath(w.ID)+"/test?wait=30", strings.NewReader(testBody))
			r.Header.Set("Authorization", "Bearer "+owner)
			r.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			h.api.ServeHTTP(answer, r)
			return answer
		}
		var waiting sync.WaitGroup
		for range enough {
			waiting.Go(func() { waits(ctx) })
		}
		synctest.Wait()

		began := time.Now()
		require.Equal(t, http.StatusAccepted, waits(t.Context()).Code)
		require.Zero(t, time.Since(began), "it does not wait")
		leave()
		waiting.Wait()
		require.Zero(t, time.Since(began), "waiting ends with the request")
		require.Equal(t, http.StatusAccepted, waits(t.Context()).Code)
		require.Equal(t, 30*time.Second, time.Since(began))
	})
}

func TestWaitsThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	before := h.state(t)
	for _, wait := range []string{"0", "-1", "31", "10s", "1.5", "9999999999999999999"} {
		got := h.call(t, owner, http.MethodPost, h.webhookPath(w.ID)+"/test?wait="+wait, testBody)
		require.Equal(t, http.StatusBadRequest, got.Code, wait)
		require.Equal(t, []fault{{"wait", "", "must be an integer from 1 to 30, in seconds"}}, problemOf(t, got).Errors)
	}
	require.Equal(t, before, h.state(t), "nothing is sent")
}

// slowStore takes its time for each batch of a recovery, which has two deliveries.
type slowStore struct{ *memstore.Store }

func (s slowStore) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	select {
	case <-time.After(4 * time.Second):
	case <-ctx.Done():
		return webhook.RecoverResult{}, ctx.Err()
	}
	p.Limit = 2
	return s.Store.Recover(ctx, p)
}

// A recovery that takes long is several requests, each of which says what it has done.
func TestRecoverInSeveralRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		w, _ := h.register(t)
		for range 14 {
			h.deliver(t, http.StatusInternalServerError)
		}
		var err error
		h.manager, err = webhook.NewManager(slowStore{h.store}, webhook.ManagerConfig{Clock: h.clock})
		require.NoError(t, err)
		h.api, err = httpapi.New(h.manager, httpapi.Config{Actor: authenticate})
		require.NoError(t, err)

		type recovered struct {
			Recovery   webhook.Recovery `json:"recovery"`
			NextCursor string           `json:"next_cursor"`
		}
		body := map[string]any{"since": "2026-01-01T00:00:00Z"}
		var done []int
		for len(done) < 10 {
			answer := h.call(t, owner, http.MethodPost, h.webhookPath(w.ID)+"/recover", object(t, body))
			require.Equal(t, http.StatusOK, answer.Code)
			got := decode[recovered](t, answer)
			done = append(done, got.Recovery.Redelivered)
			if body["cursor"] = got.NextCursor; got.NextCursor == "" {
				break
			}
		}
		require.Equal(t, []int{6, 6, 2}, done, "batches of two, of 4 s each, for more than 10 s")
		page, err := h.manager.Deliveries(t.Context(), actors[owner], webhook.DeliveryQuery{State: webhook.DeliveryPending})
		require.NoError(t, err)
		require.Len(t, page.Items, 14)
	})
}

func TestRecoverCursorsThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	for body, detail := range map[string]string{
		`{"since":"2026-01-01T00:00:00Z","cursor":"x"}`:                "is not one that a recovery of this webhook since this time has given",
		`{"since":"2026-01-01T00:00:00Z","cursor":"x","preview":true}`: "must not be there with preview, which counts everything",
	} {
		got := h.call(t, owner, http.MethodPost, h.webhookPath(w.ID)+"/recover", body)
		require.Equal(t, http.StatusBadRequest, got.Code)
		require.Equal(t, []fault{{"cursor", "/cursor", detail}}, problemOf(t, got).Errors)
	}
}
