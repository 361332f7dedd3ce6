package webhook_test

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// hookedStore lets a test do something at a call of the dispatcher's or the
// publisher's, before the store does.
type hookedStore struct {
	webhook.Store
	claims                 atomic.Int64
	settle, finish, insert atomic.Pointer[func(context.Context) error]
}

func (s *hookedStore) hook(ctx context.Context, h *atomic.Pointer[func(context.Context) error]) error {
	if f := h.Load(); f != nil {
		return (*f)(ctx)
	}
	return nil
}

func (s *hookedStore) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	s.claims.Add(1)
	return s.Store.Claim(ctx, p)
}

func (s *hookedStore) Settle(ctx context.Context, p webhook.SettleParams) (webhook.SettleResult, error) {
	if err := s.hook(ctx, &s.settle); err != nil {
		return webhook.SettleResult{}, err
	}
	return s.Store.Settle(ctx, p)
}

func (s *hookedStore) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	if err := s.hook(ctx, &s.finish); err != nil {
		return webhook.FinishResult{}, err
	}
	return s.Store.Finish(ctx, p)
}

func (s *hookedStore) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	r, err := s.Store.InsertEvents(ctx, p)
	if hooked := s.hook(ctx, &s.insert); hooked != nil {
		return webhook.InsertResult{}, hooked
	}
	return r, err
}

// hangs is a store's call on a dead connection.
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func hookedRig(t *testing.T, cfg webhook.DispatcherConfig) (*rig, *hookedStore) {
	t.Helper()
	r := newRig(t, nil, webhook.DispatcherConfig{})
	s := &hookedStore{Store: r.store}
	r.wire(t, s, nil, cfg)
	return r, s
}

// A call that hangs is given up, and the loop goes on.
func TestRunOutlivesACallThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, s := hookedRig(t, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		var calls atomic.Int64
		once := func(ctx context.Context) error {
			if calls.Add(1) == 1 {
				return hangs(ctx)
			}
			return nil
		}
		s.settle.Store(&once)
		r.publish(t, "acme", rigRoom, 1)
		start := time.Now()
		stop := r.run(t)
		pass(time.Minute)
		stop()
		at := r.times("healthy.example", start)
		require.Len(t, at, 1)
		require.Less(t, at[0], 31*time.Second)
	})
}

// A store that hangs does not keep Run from ending.
func TestShutdownDoesNotWaitForAHangingStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, s := hookedRig(t, webhook.DispatcherConfig{})
		for i := range 50 {
			r.register(t, rigAdmin, "healthy.example", roomOf(i), healthy)
		}
		stop := r.run(t)
		f := hangs
		s.finish.Store(&f)
		for i := range 50 {
			r.publish(t, "acme", roomOf(i), 40)
		}
		pass(time.Second)
		start := time.Now()
		stop()
		require.Less(t, time.Since(start), 40*time.Second)
	})
}

// An insert that panics is an error to whoever published, and gives its slots
// back.
func TestPanickingInsertsLeakNoSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, s := hookedRig(t, webhook.DispatcherConfig{Slots: 2})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		boom := func(context.Context) error { panic("driver") }
		s.insert.Store(&boom)
		for range 4 {
			e := webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom}
			_, err := r.publisher.Publish(t.Context(), e)
			require.ErrorContains(t, err, "panicked")
			require.Panics(t, func() { _, _ = r.publisher.PublishMany(t.Context(), []webhook.Event{e}) })
		}
		s.insert.Store(nil)
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		require.NotEmpty(t, r.times("healthy.example", time.Now()))
		start := time.Now()
		stop()
		require.Less(t, time.Since(start), time.Second, "nothing is thought to be in flight")
	})
}

// Looking for a commit ends after a second, however much else happens meanwhile,
// and is not used up by it.
func TestLookingForACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		s := &hookedStore{Store: struct{ webhook.Store }{r.store}} // that cannot wake
		r.wire(t, s, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		tx := r.store.Begin()
		_, err := r.publisher.PublishTx(t.Context(), tx, webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom})
		require.NoError(t, err)
		for range 80 {
			r.dispatcher.Wake()
			pass(2 * time.Millisecond)
		}
		committed := time.Now()
		looks := s.claims.Load()
		require.NoError(t, tx.Commit())
		pass(500 * time.Millisecond)
		require.Less(t, s.claims.Load()-looks, int64(10), "more and more seldom")
		at := r.times("healthy.example", committed)
		require.Len(t, at, 1)
		require.Less(t, at[0], 300*time.Millisecond)

		pass(10 * time.Second)
		before := s.claims.Load()
		pass(10 * time.Second)
		require.Less(t, s.claims.Load()-before, int64(15), "once a second when idle")
		stop()
	})
}

// What the host plugs in may panic, or end its goroutine as require does in a
// test: that costs an attempt at most.
func TestRunOnceOutlivesTheHostsCallbacks(t *testing.T) {
	t.Parallel()
	clock := &webhooktest.Clock{}
	for name, cfg := range map[string]webhook.DispatcherConfig{
		"LoggerPanics": {Logger: slog.New(panickingHandler{})},
		"DoerEndsItsGoroutine": {HTTPDoer: doerFunc(func(*http.Request) (*http.Response, error) {
			runtime.Goexit()
			return nil, nil
		})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, clock, cfg)
			r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
			r.publish(t, "acme", rigRoom, 1)
			_, err := r.dispatcher.RunOnce(t.Context())
			require.NoError(t, err)
			require.Equal(t, webhook.DeliveryPending, r.deliveries(t, rigAdmin)[0].State, "its lease runs out")
		})
	}
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingHandler) Handle(context.Context, slog.Record) error { panic("disk full") }

// A notifier that ends its goroutine has not sent anything.
func TestNotifierThatEndsItsGoroutineIsTriedAgain(t *testing.T) {
	t.Parallel()
	n := notifier{answer: func(_ context.Context, calls int) error {
		if calls == 1 {
			runtime.Goexit()
		}
		return nil
	}}
	r, clock := steppedRig(t, webhook.DispatcherConfig{Notifier: &n, Schedule: once(t)})
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 1)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Len(t, n.notices(), 2)
}

// RunOnce passes notices on until one fails, so that a notifier which hangs
// holds up a host that loops over it once a round, not once a notice.
func TestRunOnceStopsAtTheFirstNoticeThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := notifier{answer: func(ctx context.Context, _ int) error { return hangs(ctx) }}
		r := newRig(t, nil, webhook.DispatcherConfig{Notifier: &n, Schedule: once(t)})
		for i := range 20 {
			r.register(t, rigAdmin, "failing.example", roomOf(i), failing)
			r.publish(t, "acme", roomOf(i), 1)
		}
		_, err := r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		pass(11 * time.Minute)
		start := time.Now()
		_, err = r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(start), 31*time.Second)
		require.False(t, r.dispatcher.NextDue().After(time.Now()), "the others are still due")
	})
}

// A tracer's context gives values, and cannot keep an attempt from being ended.
func TestTracerCannotKeepAnAttemptAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Tracer: detachingTracer{}})
		w := r.register(t, rigAdmin, "hanging.example", rigRoom, hang)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		pass(time.Second)
		start := time.Now()
		require.NoError(t, r.manager.Delete(t.Context(), rigAdmin, w.ID))
		require.Less(t, time.Since(start), 100*time.Millisecond)
		stop()
	})
}

type detachingTracer struct{ webhook.NopTracer }

func (detachingTracer) AttemptStarted(context.Context, webhook.AttemptStarted) context.Context {
	return context.Background()
}

// A second Delete goes on waiting for what the first one left in flight.
func TestDeleteCanBeContinued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		w := r.register(t, rigAdmin, "deaf.example", rigRoom, func(*http.Request) (*http.Response, error) {
			pass(10 * time.Second)
			return respond(200)
		})
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.manager.Delete(ctx, rigAdmin, w.ID), webhook.ErrStillInFlight)
		start := time.Now()
		require.NoError(t, r.manager.Delete(t.Context(), rigAdmin, w.ID))
		require.Greater(t, time.Since(start), 8*time.Second)
		require.ErrorIs(t, r.manager.Delete(t.Context(), rigAdmin, w.ID), webhook.ErrNotFound)
		stop()
	})
}

// A dispatcher whose store was away for longer than a lease records what it has
// done before it would take it for interrupted, and so repeats nothing.
func TestOutageLongerThanALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, s := hookedRig(t, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		back := time.Now().Add(2 * time.Minute)
		until := func(end time.Time) *func(context.Context) error {
			away := func(context.Context) error {
				if time.Now().Before(end) {
					return errStore
				}
				return nil
			}
			return &away
		}
		stop := r.run(t)
		s.settle.Store(until(back))
		s.finish.Store(until(back.Add(10 * time.Second)))
		r.publish(t, "acme", rigRoom, 30)
		pass(10 * time.Minute)
		stop()
		require.Len(t, r.times("healthy.example", back), 30)
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 30}, r.states(t, rigAdmin))
		require.Len(t, r.attempts(t, rigAdmin), 30)
	})
}
