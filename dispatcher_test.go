package webhook_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// sixAttempts is when they are made on the default schedule.
var sixAttempts = []time.Duration{
	0, time.Minute, 6 * time.Minute, 36 * time.Minute, 2*time.Hour + 36*time.Minute, 14*time.Hour + 36*time.Minute,
}

func failing(*http.Request) (*http.Response, error) { return respond(http.StatusInternalServerError) }
func healthy(*http.Request) (*http.Response, error) { return respond(http.StatusNoContent) }

func TestScheduleStepped(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	start := clock.Now()
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 1)

	webhooktest.Drain(t, r.dispatcher, clock)

	var at []time.Duration
	for i, a := range r.attempts(t, rigAdmin) {
		require.Equal(t, i+1, a.Number)
		require.Equal(t, webhook.OutcomeFailed, a.Outcome)
		require.Equal(t, 500, a.StatusCode)
		at = append(at, a.StartedAt.Sub(start))
	}
	require.Equal(t, sixAttempts, at)
	d := r.deliveries(t, rigAdmin)[0]
	require.Equal(t, webhook.DeliveryFailed, d.State)
	require.Equal(t, 6, d.Attempts)
	require.Equal(t, start.Add(14*time.Hour+36*time.Minute), d.FinishedAt)
	require.Zero(t, d.DueAt)
}

func TestScheduleRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "failing.example", rigRoom, failing)
		stop := r.run(t)
		start := time.Now()
		r.publish(t, "acme", rigRoom, 1)
		pass(15 * time.Hour)
		stop()
		require.Equal(t, sixAttempts, r.times("failing.example", start))
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryFailed: 1}, r.states(t, rigAdmin))
	})
}

// The wait counts from the end of an attempt, not from its start.
func TestScheduleCountsFromTheEndOfTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "hanging.example", rigRoom, hang)
		stop := r.run(t)
		start := time.Now()
		r.publish(t, "acme", rigRoom, 1)
		pass(15 * time.Hour)
		stop()
		const timeout = 15 * time.Second
		want := make([]time.Duration, len(sixAttempts))
		for i, at := range sixAttempts {
			want[i] = at + time.Duration(i)*timeout
		}
		require.Equal(t, want, r.times("hanging.example", start))
		for _, a := range r.attempts(t, rigAdmin) {
			require.Equal(t, webhook.ErrorTimeout, a.ErrorClass)
			require.Equal(t, timeout, a.Duration)
		}
	})
}

func TestScheduleOfTheHost(t *testing.T) {
	t.Parallel()
	once, err := webhook.NewSchedule()
	require.NoError(t, err)
	r, clock := steppedRig(t, webhook.DispatcherConfig{Schedule: once})
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 1)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Len(t, r.attempts(t, rigAdmin), 1)
	require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryFailed: 1}, r.states(t, rigAdmin))
}

func TestRunOnceMakesAllAttemptsOfOneRound(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
	r.publish(t, "acme", rigRoom, 20)
	n, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 16, n, "of one webhook")
	require.False(t, r.dispatcher.NextDue().After(clock.Now()), "four are still due")
	n, err = r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Zero(t, r.dispatcher.NextDue())
	n, err = r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 20}, r.states(t, rigAdmin))
}

func TestRunOnceSettlesWhatAnotherDispatcherLeft(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
	r.publish(t, "acme", rigRoom, 1)
	gone, err := r.store.Claim(t.Context(), webhook.ClaimParams{Now: clock.Now(), LeaseFor: 45 * time.Second, Limit: 1})
	require.NoError(t, err)
	require.Len(t, gone.Claims, 1)

	webhooktest.Drain(t, r.dispatcher, clock)

	attempts := r.attempts(t, rigAdmin)
	require.Len(t, attempts, 2)
	require.Equal(t, webhook.OutcomeInterrupted, attempts[0].Outcome)
	require.Equal(t, webhook.OutcomeSucceeded, attempts[1].Outcome)
	require.Equal(t, 2, attempts[1].Number)
	require.Equal(t, 105*time.Second, attempts[1].StartedAt.Sub(attempts[0].StartedAt), "lease, then the first wait")
}

func TestRunDeliversWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		r.publish(t, "acme", rigRoom, 1000)
		stop := r.run(t)
		pass(time.Second)
		stop()
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 1000}, r.states(t, rigAdmin))
		require.Len(t, r.times("healthy.example", time.Now()), 1000, "each once")
	})
}

func TestPublishIsDeliveredAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		start := time.Now()
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		require.Equal(t, []time.Duration{0}, r.times("healthy.example", start), "no time has passed")
		stop()
	})
}

func TestPublishTxIsDeliveredSoonAfterTheCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		// Hides that the store can wake: what another process commits is found by looking.
		r.wire(t, struct{ webhook.Store }{r.store}, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		pass(10 * time.Second)
		tx := r.store.Begin()
		_, err := r.publisher.PublishTx(t.Context(), tx, webhook.Event{
			OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom,
		})
		require.NoError(t, err)
		pass(100 * time.Millisecond)
		require.Empty(t, r.times("healthy.example", time.Now()), "nothing before the commit")
		committed := time.Now()
		require.NoError(t, tx.Commit())
		pass(200 * time.Millisecond)
		at := r.times("healthy.example", committed)
		require.Len(t, at, 1)
		require.Less(t, at[0], 130*time.Millisecond, "found by the doubling looks, not by the poll of a second")
		stop()
	})
}

func TestOtherProcessesEventsAreFoundByPolling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.wire(t, struct{ webhook.Store }{r.store}, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		elsewhere, err := webhook.NewPublisher(r.store, webhook.PublisherConfig{})
		require.NoError(t, err)
		stop := r.run(t)
		pass(10 * time.Second)
		_, err = elsewhere.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom})
		require.NoError(t, err)
		published := time.Now()
		pass(2 * time.Second)
		at := r.times("healthy.example", published)
		require.Len(t, at, 1)
		require.LessOrEqual(t, at[0], time.Second)
		stop()
	})
}

func TestWakeIsHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.wire(t, struct{ webhook.Store }{r.store}, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		pass(1500 * time.Millisecond) // between two polls
		tx := r.store.Begin()
		_, err := tx.InsertEventsTx(t.Context(), webhook.InsertParams{Now: time.Now(), Events: []webhook.EventRecord{{
			ID: uuid.New(), OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom, Payload: []byte("{}"),
		}}})
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		committed := time.Now()
		r.dispatcher.Wake()
		synctest.Wait()
		require.Equal(t, []time.Duration{0}, r.times("healthy.example", committed))
		stop()
	})
}

func TestRunTwiceIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		stop := r.run(t)
		require.ErrorContains(t, r.dispatcher.Run(t.Context()), "running already")
		stop()
		stop = r.run(t) // one after the other is fine
		stop()
	})
}

func TestShutdownLetsAttemptsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "slow.example", rigRoom, func(*http.Request) (*http.Response, error) {
			pass(10 * time.Second)
			return respond(200)
		})
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 2) // the second waits for the first
		synctest.Wait()
		start := time.Now()
		stop()
		require.Equal(t, 10*time.Second, time.Since(start).Truncate(time.Second))
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 1, webhook.DeliveryPending: 1}, r.states(t, rigAdmin))
		require.Len(t, r.attempts(t, rigAdmin), 1, "nothing was begun after the end")
	})
}

func TestShutdownInterruptsWhatLastsTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{ShutdownTimeout: 2 * time.Second})
		r.register(t, rigAdmin, "hanging.example", rigRoom, hang)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		start := time.Now()
		stop()
		require.Equal(t, 2*time.Second, time.Since(start).Truncate(time.Second))
		attempts := r.attempts(t, rigAdmin)
		require.Len(t, attempts, 1)
		require.Equal(t, webhook.OutcomeInterrupted, attempts[0].Outcome, "the request may have arrived, so it counts")
		require.Equal(t, "the sender was shut down", attempts[0].Error)
		d := r.deliveries(t, rigAdmin)[0]
		require.Equal(t, webhook.DeliveryPending, d.State)
		require.Zero(t, d.LeasedUntil, "the lease is given up")
	})
}

// A host's HTTPDoer that ignores its context cannot keep Run from returning.
func TestShutdownLeavesDeafHTTPDoersBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "deaf.example", rigRoom, func(*http.Request) (*http.Response, error) {
			pass(time.Hour)
			return respond(200)
		})
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		start := time.Now()
		stop()
		require.Less(t, time.Since(start), time.Minute)
		pass(2 * time.Hour) // let it end
	})
}

// A claim that has waited too long for its attempt is given back unused.
func TestNoAttemptBeginsOnAnOldLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		slow := &slowClaims{Store: r.store}
		r.wire(t, slow, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		r.publish(t, "acme", rigRoom, 1)
		slow.delay.Store(int64(31 * time.Second)) // 45 s of lease, less than 15 s of it left
		n, err := r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		d := r.deliveries(t, rigAdmin)[0]
		require.Equal(t, webhook.DeliveryPending, d.State)
		require.Zero(t, d.Attempts, "no attempt is spent")

		slow.delay.Store(0)
		n, err = r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

// slowClaims is a store whose answers to claims are long on the way.
type slowClaims struct {
	webhook.Store
	delay atomic.Int64
}

func (s *slowClaims) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	r, err := s.Store.Claim(ctx, p)
	pass(time.Duration(s.delay.Load()))
	return r, err
}

// A store that fails for a while costs nothing but the time.
func TestRunOutlivesFailuresOfTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		s := &failingStore{Store: r.store}
		r.wire(t, s, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)

		s.failClaims.Store(true)
		r.publish(t, "acme", rigRoom, 50)
		pass(time.Minute)
		calls := s.calls.Load()
		require.Less(t, calls, int64(60), "the loop backs off")
		s.failClaims.Store(false)
		pass(20 * time.Second)
		require.Equal(t, 50, r.states(t, rigAdmin)[webhook.DeliverySucceeded])

		s.failFinishes.Store(true) // within the leases
		r.publish(t, "acme", rigRoom, 50)
		pass(20 * time.Second)
		s.failFinishes.Store(false)
		pass(20 * time.Second)
		stop()
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 100}, r.states(t, rigAdmin))
		require.Len(t, r.times("healthy.example", time.Now()), 100, "what was delivered is recorded, not sent again")
	})
}

// failingStore fails calls of the dispatcher's loop on demand.
type failingStore struct {
	webhook.Store
	failClaims, failFinishes atomic.Bool
	calls                    atomic.Int64
}

func (s *failingStore) Settle(ctx context.Context, p webhook.SettleParams) (webhook.SettleResult, error) {
	if s.failClaims.Load() {
		s.calls.Add(1)
		return webhook.SettleResult{}, errStore
	}
	return s.Store.Settle(ctx, p)
}

func (s *failingStore) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	if s.failFinishes.Load() {
		return webhook.FinishResult{}, errStore
	}
	return s.Store.Finish(ctx, p)
}

func TestRunOnceReturnsTheStoresErrors(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	s := &failingStore{Store: r.store}
	r.wire(t, s, clock, webhook.DispatcherConfig{})
	r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
	r.publish(t, "acme", rigRoom, 1)
	s.failClaims.Store(true)
	_, err := r.dispatcher.RunOnce(t.Context())
	require.ErrorIs(t, err, errStore)
	s.failClaims.Store(false)
	s.failFinishes.Store(true)
	n, err := r.dispatcher.RunOnce(t.Context())
	require.ErrorIs(t, err, errStore)
	require.Equal(t, 1, n)
}

func TestDeletedWhileARetryIsPending(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	w := r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 1)
	_, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.manager.Delete(t.Context(), rigAdmin, w.ID))
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Len(t, r.attempts(t, rigAdmin), 1)
	require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryCancelled: 1}, r.states(t, rigAdmin))
}

func TestDeleteAbortsAttemptsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		w := r.register(t, rigAdmin, "hanging.example", rigRoom, hang)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 3)
		pass(time.Second)
		start := time.Now()
		require.NoError(t, r.manager.Delete(t.Context(), rigAdmin, w.ID))
		require.Less(t, time.Since(start), 100*time.Millisecond)
		requests := len(r.times("hanging.example", start))
		pass(time.Hour)
		stop()
		require.Len(t, r.times("hanging.example", start), requests, "nothing after Delete has returned")
		attempts := r.attempts(t, rigAdmin)
		require.Len(t, attempts, 1)
		require.Equal(t, webhook.OutcomeInterrupted, attempts[0].Outcome)
		require.Equal(t, "the webhook was deleted", attempts[0].Error)
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryCancelled: 3}, r.states(t, rigAdmin))
	})
}

func TestDispatcherConfigIsChecked(t *testing.T) {
	t.Parallel()
	r, _ := steppedRig(t, webhook.DispatcherConfig{})
	_, err := webhook.NewDispatcher(nil, webhook.DispatcherConfig{})
	require.Error(t, err)
	_, err = webhook.NewDispatcher(r.store, webhook.DispatcherConfig{HTTPDoer: http.DefaultClient})
	require.ErrorContains(t, err, "http.DefaultClient")
	_, err = webhook.NewDispatcher(r.store, webhook.DispatcherConfig{
		AttemptTimeout: -1, LeaseFor: -1, Slots: -1, ShutdownTimeout: -1, NotifyTimeout: -1, UserAgent: "a\nb", SignatureHeader: "Content-Type",
	})
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	fields := map[string]bool{}
	for _, f := range faults {
		fields[f.Field] = true
	}
	require.Equal(t, map[string]bool{
		"attempt_timeout": true, "lease_for": true, "slots": true, "shutdown_timeout": true, "notify_timeout": true,
		"user_agent": true, "signature_header": true,
	}, fields)
	_, err = webhook.NewDispatcher(r.store, webhook.DispatcherConfig{AttemptTimeout: time.Minute, LeaseFor: time.Minute})
	require.ErrorContains(t, err, "lease_for: must exceed attempt_timeout by")
}
