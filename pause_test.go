package webhook_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// While dispatchers are paused nothing begins, what is in flight ends, and what is
// published waits. Resuming goes on at once, and nothing is lost.
func TestPauseStopsAndResumeGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "prompt.example", rigRoom, healthy)
		r.register(t, rigAdmin, "late.example", roomOf(1), func(req *http.Request) (*http.Response, error) {
			pass(3 * time.Second)
			return healthy(req)
		})
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		r.publish(t, "acme", roomOf(1), 1)
		synctest.Wait()
		require.NoError(t, r.dispatcher.Pause(t.Context(), "ann"))

		paused := time.Now()
		r.publish(t, "acme", rigRoom, 3)
		tx := r.store.Begin()
		_, err := r.publisher.PublishTx(t.Context(), tx, webhook.Event{
			OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom, Data: "hello",
		})
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		pass(time.Hour)
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 2, webhook.DeliveryPending: 4}, r.states(t, rigAdmin),
			"what was in flight is recorded, what was published meanwhile waits")
		s, err := r.dispatcher.Stats(t.Context())
		require.NoError(t, err)
		require.True(t, s.Overview.Paused)
		require.Equal(t, "ann", s.Overview.PausedBy)
		require.Equal(t, 4, s.Overview.Ready)
		require.Zero(t, s.InFlight)

		require.NoError(t, r.dispatcher.Resume(t.Context(), "bob"))
		synctest.Wait()
		require.Equal(t, time.Hour, r.times("prompt.example", paused)[1], "at once")
		pass(100 * time.Millisecond)
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 6}, r.states(t, rigAdmin))
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		require.Equal(t, time.Hour+100*time.Millisecond, r.times("prompt.example", paused)[5])
		pass(100 * time.Millisecond)
		require.Equal(t, 7, r.states(t, rigAdmin)[webhook.DeliverySucceeded], "hand-offs are taken again")
		stop()
	})
}

// A retry that falls due while dispatchers are paused is made when they go on, and
// a lease that runs out meanwhile is settled.
func TestRetriesWaitWhilePaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		down := true
		w := r.register(t, rigAdmin, "down.example", rigRoom, func(req *http.Request) (*http.Response, error) {
			if down {
				return respond(http.StatusServiceUnavailable)
			}
			return healthy(req)
		})
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		require.NoError(t, r.dispatcher.Pause(t.Context(), "ann"))
		r.publish(t, "acme", rigRoom, 1)
		// Another dispatcher had claimed, and has died.
		require.NoError(t, r.store.SetPaused(t.Context(), webhook.SetPausedParams{Now: time.Now()}))
		died, err := r.store.Claim(t.Context(), webhook.ClaimParams{Now: time.Now(), LeaseFor: 10 * time.Second, Limit: 1})
		require.NoError(t, err)
		require.Len(t, died.Claims, 1)
		require.NoError(t, r.store.SetPaused(t.Context(), webhook.SetPausedParams{Paused: true, By: "ann", Now: time.Now()}))
		down = false
		pass(24 * time.Hour)
		require.Len(t, r.attempts(t, rigAdmin), 2)
		leased, err := r.store.Leased(t.Context(), webhook.Scope{OrganizationID: "acme"}, w.ID, time.Now())
		require.NoError(t, err)
		require.Zero(t, leased)
		require.Equal(t, webhook.OutcomeInterrupted, r.attempts(t, rigAdmin)[1].Outcome)

		require.NoError(t, r.dispatcher.Resume(t.Context(), "ann"))
		pass(100 * time.Millisecond)
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 2}, r.states(t, rigAdmin))
		stop()
	})
}

// It is the store that is paused: by one dispatcher for all, and for those that are
// started later.
func TestPauseHoldsForAllDispatchersAndAcrossRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one := newRig(t, nil, webhook.DispatcherConfig{})
		another := &rig{store: one.store, hosts: one.hosts}
		another.wire(t, one.store, nil, webhook.DispatcherConfig{})
		one.register(t, rigAdmin, "prompt.example", rigRoom, healthy)
		stopOne, stopAnother := one.run(t), another.run(t)
		sent := func() int {
			return len(one.times("prompt.example", time.Now())) + len(another.times("prompt.example", time.Now()))
		}

		require.NoError(t, one.dispatcher.Pause(t.Context(), "ann"))
		another.publish(t, "acme", rigRoom, 5) // whose dispatcher has not been told yet
		pass(time.Minute)
		require.Zero(t, sent())
		stopOne()
		stopAnother()

		again := &rig{store: one.store, hosts: one.hosts}
		again.wire(t, one.store, nil, webhook.DispatcherConfig{})
		stopAgain := again.run(t)
		again.publish(t, "acme", rigRoom, 5)
		pass(time.Minute)
		require.Empty(t, again.times("prompt.example", time.Now()))

		// Somebody resumes who is no dispatcher, as the command line does.
		require.NoError(t, one.store.SetPaused(t.Context(), webhook.SetPausedParams{By: "ann", Now: time.Now()}))
		pass(time.Second)
		require.Len(t, again.times("prompt.example", time.Now()), 10)
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 10}, again.states(t, rigAdmin))
		stopAgain()
	})
}

// What is published while dispatchers are paused does not make them ask the store
// each time.
func TestAPausedDispatcherAsksNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, s := hookedRig(t, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "prompt.example", rigRoom, healthy)
		stop := r.run(t)
		require.NoError(t, r.dispatcher.Pause(t.Context(), "ann"))
		synctest.Wait()
		before := s.claims.Load()
		pass(20 * time.Second)
		idle := s.claims.Load() - before
		require.GreaterOrEqual(t, idle, int64(19))
		require.LessOrEqual(t, idle, int64(21))

		before = s.claims.Load()
		for range 1000 {
			r.publish(t, "acme", rigRoom, 1)
			pass(10 * time.Millisecond)
		}
		require.LessOrEqual(t, s.claims.Load()-before, int64(101), "in ten seconds")
		stop()
	})
}

// Whenever Resume is called, this dispatcher goes on at once.
func TestResumeInterruptsTheWaitOfAPausedDispatcher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "prompt.example", rigRoom, healthy)
		stop := r.run(t)
		require.NoError(t, r.dispatcher.Pause(t.Context(), "ann"))
		r.publish(t, "acme", rigRoom, 1)
		pass(30 * time.Millisecond)
		resumed := time.Now()
		require.NoError(t, r.dispatcher.Resume(t.Context(), "ann"))
		pass(20 * time.Millisecond)
		require.Equal(t, []time.Duration{0}, r.times("prompt.example", resumed))
		stop()
	})
}

// lateInsert lets an insert wait until the store has resumed and a claim has said so.
type lateInsert struct {
	webhook.Store // which wakes nobody
	claimed       chan struct{}
	late          atomic.Bool
}

func (s *lateInsert) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	r, err := s.Store.Claim(ctx, p)
	if s.late.Load() {
		select {
		case s.claimed <- struct{}{}:
		default:
		}
	}
	return r, err
}

func (s *lateInsert) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	if s.late.Load() {
		<-s.claimed
		s.late.Store(false)
		pass(time.Millisecond) // the loop sleeps
	}
	return s.Store.InsertEvents(ctx, p)
}

// What is published by a dispatcher that thinks it is paused, while another process
// resumes, is not left to the next look at the store.
func TestPublishedWhileSomebodyElseResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		s := &lateInsert{Store: r.store, claimed: make(chan struct{}, 1)}
		r.wire(t, s, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "prompt.example", rigRoom, healthy)
		stop := r.run(t)
		require.NoError(t, r.dispatcher.Pause(t.Context(), "ann"))
		synctest.Wait()
		require.NoError(t, r.store.SetPaused(t.Context(), webhook.SetPausedParams{By: "ann", Now: time.Now()}))
		s.late.Store(true)
		r.publish(t, "acme", rigRoom, 1)
		published := time.Now()
		pass(50 * time.Millisecond)
		require.Len(t, r.times("prompt.example", published), 1)
		stop()
	})
}

func TestRunOnceMakesNothingWhilePaused(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	r.register(t, rigAdmin, "prompt.example", rigRoom, healthy)
	r.publish(t, "acme", rigRoom, 2)
	require.NoError(t, r.dispatcher.Pause(t.Context(), "ann"))
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryPending: 2}, r.states(t, rigAdmin))
	require.Zero(t, r.dispatcher.NextDue())
	require.NoError(t, r.dispatcher.Resume(t.Context(), "ann"))
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: 2}, r.states(t, rigAdmin))
}

func TestPauseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r, _ := steppedRig(t, webhook.DispatcherConfig{})
	for _, by := range []string{"", strings.Repeat("a", webhook.MaxIDBytes+1), "a\nb"} {
		for _, do := range []func(context.Context, string) error{r.dispatcher.Pause, r.dispatcher.Resume} {
			var faults webhook.ValidationErrors
			require.ErrorAs(t, do(t.Context(), by), &faults)
			require.Equal(t, "by", faults[0].Field)
		}
	}
	o, err := r.store.Overview(t.Context(), webhook.OverviewParams{})
	require.NoError(t, err)
	require.False(t, o.Paused)
}

func TestStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 64})
		r.register(t, rigAdmin, "prompt.example", rigRoom, healthy)
		hanging := r.register(t, rigAdmin, "hanging.example", roomOf(1), hang)
		s, err := r.dispatcher.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, webhook.Stats{At: time.Now().UTC().Truncate(time.Microsecond), Slots: 64}, s, "before Run")

		stop := r.run(t)
		began := time.Now().UTC()
		r.publish(t, "acme", rigRoom, 2)
		r.publish(t, "acme", roomOf(1), 3)
		pass(100 * time.Millisecond) // the two that were answered are recorded
		s, err = r.dispatcher.Stats(t.Context())
		require.NoError(t, err)
		require.True(t, s.Running)
		require.Equal(t, []int{1, 2, 1}, []int{s.InFlight, s.Overview.Ready, s.Overview.Leased})
		require.Equal(t, []int{2, 1}, []int{s.Known, s.Unproven})
		require.Empty(t, s.Slow)
		require.Equal(t, hanging.ID, s.Overview.Backlog[0].WebhookID)
		require.WithinDuration(t, time.Now(), s.LastClaim, time.Second)

		pass(20 * time.Second) // its first attempt has had its time, and the second one hangs
		s, err = r.dispatcher.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, []webhook.WebhookSince{{
			WebhookID: hanging.ID, OrganizationID: "acme", Since: began.Add(webhook.DefaultAttemptTimeout), InFlight: 1,
		}}, s.Slow)
		require.Empty(t, s.LastError)
		stop()
		s, err = r.dispatcher.Stats(t.Context())
		require.NoError(t, err)
		require.False(t, s.Running)
		require.Zero(t, s.Unrecorded)
	})
}

// A webhook that waits for its rate limit is none whose secret could not be opened.
func TestStatsOfALimitedWebhook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.limit(t, r.register(t, rigAdmin, "limited.example", rigRoom, healthy), 1)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 5)
		pass(100 * time.Millisecond)
		s, err := r.dispatcher.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, 4, s.Overview.Ready)
		require.Empty(t, s.Blocked)
		stop()
	})
}

// awayStore is one that does not answer.
type awayStore struct {
	*memstore.Store
	away func(context.Context) error
}

func (s *awayStore) Overview(ctx context.Context, _ webhook.OverviewParams) (webhook.Overview, error) {
	return webhook.Overview{}, s.away(ctx)
}

func (s *awayStore) Claim(ctx context.Context, _ webhook.ClaimParams) (webhook.ClaimResult, error) {
	return webhook.ClaimResult{}, s.away(ctx)
}

func (s *awayStore) SetPaused(ctx context.Context, _ webhook.SetPausedParams) error {
	return s.away(ctx)
}

// Stats tells of the dispatcher itself when the store does not answer, which is
// when people look.
func TestStatsOfADispatcherWithoutItsStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		store := &awayStore{r.store, func(context.Context) error { return errStore }}
		r.wire(t, store, nil, webhook.DispatcherConfig{})
		stop := r.run(t)
		pass(time.Second)
		s, err := r.dispatcher.Stats(t.Context())
		require.ErrorIs(t, err, errStore)
		require.True(t, s.Running)
		require.Equal(t, 1024, s.Slots)
		require.Contains(t, s.LastError, errStore.Error())
		require.WithinDuration(t, time.Now(), s.LastErrorAt, time.Second)
		require.ErrorIs(t, r.dispatcher.Pause(t.Context(), "ann"), errStore)
		stop()

		store.away = hangs
		began := time.Now()
		s, err = r.dispatcher.Stats(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Equal(t, 1024, s.Slots)
	})
}
