package webhook_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// noticeList is a notifier that keeps what it gets.
type noticeList struct {
	mu  sync.Mutex
	all []webhook.Notice
}

func (l *noticeList) Notify(_ context.Context, n webhook.Notice) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, n)
	return nil
}

func (l *noticeList) of(kind webhook.NoticeKind) (out []webhook.Notice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.all {
		if n.Kind == kind {
			out = append(out, n)
		}
	}
	return out
}

func (r *rig) webhook(t *testing.T, w webhook.Webhook) webhook.Webhook {
	t.Helper()
	got, err := r.manager.Webhook(t.Context(), rigAdmin, w.ID)
	require.NoError(t, err)
	return got
}

// gone is an endpoint that says so.
func gone(*http.Request) (*http.Response, error) { return respond(http.StatusGone) }

func TestDeactivateConfig(t *testing.T) {
	t.Parallel()
	for after, ok := range map[time.Duration]bool{0: true, 24 * time.Hour: true, 24*time.Hour - 1: false, -time.Hour: false} {
		_, err := webhook.NewDispatcher(newFixture(t).store, webhook.DispatcherConfig{DeactivateAfter: after})
		if ok {
			require.NoError(t, err)
			continue
		}
		require.Equal(t, []string{"deactivate_after"}, faultFields(t, err))
	}
}

// A webhook that does nothing but fail is made inactive after the given time, and
// again only after that time if it is activated unmended. One that answers, one that
// has nothing to do, and one that fails among successes stay.
func TestDeactivateAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		notices := &noticeList{}
		r := newRig(t, nil, webhook.DispatcherConfig{DeactivateAfter: 72 * time.Hour, Notifier: notices})
		broken := r.register(t, rigAdmin, "broken.example", roomOf(1), failing)
		well := r.register(t, rigAdmin, "healthy.example", roomOf(2), healthy)
		quiet := r.register(t, rigAdmin, "quiet.example", roomOf(3), failing)
		var flips atomic.Int64
		flaky := r.register(t, rigAdmin, "flaky.example", roomOf(4), func(q *http.Request) (*http.Response, error) {
			if flips.Add(1)%20 == 0 {
				return healthy(q)
			}
			return failing(q)
		})
		stop := r.run(t)
		start := time.Now()
		r.publish(t, "acme", roomOf(3), 1)
		day := func(n int) {
			for range n * 24 {
				for _, room := range []int{1, 2, 4} {
					r.publish(t, "acme", roomOf(room), 1)
				}
				pass(time.Hour)
			}
		}
		day(3)
		require.Equal(t, webhook.StatusActive, r.webhook(t, broken).Status, "not yet")
		pass(2 * time.Hour)
		got := r.webhook(t, broken)
		require.Equal(t, webhook.StatusInactive, got.Status)
		require.Equal(t, webhook.DeactivatedFailing, got.DeactivatedFor)
		require.Equal(t, webhook.DeactivatedBy, got.UpdatedBy)
		for _, w := range []webhook.Webhook{well, quiet, flaky} {
			require.Equal(t, webhook.StatusActive, r.webhook(t, w).Status, w.Name)
		}
		pass(time.Minute)
		told := notices.of(webhook.NoticeDeactivated)
		require.Len(t, told, 1)
		require.Equal(t, broken.ID, told[0].WebhookID)
		require.Equal(t, webhook.DeactivatedFailing, told[0].Reason)
		require.WithinDuration(t, start, told[0].FailingSince, time.Hour)
		require.Equal(t, got.StatusSince, told[0].DeactivatedAt)

		h, err := r.manager.Health(t.Context(), rigAdmin, broken.ID)
		require.NoError(t, err)
		require.Equal(t, webhook.DeactivatedFailing, h.DeactivatedFor)
		require.Equal(t, got.StatusSince, h.StatusSince)
		require.Greater(t, h.ConsecutiveFailures, 72)
		require.Zero(t, h.LastSuccessAt)
		require.WithinDuration(t, start, h.FailingSince, time.Hour)

		// What is published meanwhile is held.
		before := len(r.times("broken.example", start))
		day(1)
		require.Len(t, r.times("broken.example", start), before)

		// After it is activated, the time begins anew.
		change := sameAs(got)
		change.Status = webhook.StatusActive
		active, err := r.manager.Update(t.Context(), rigAdmin, broken.ID, change)
		require.NoError(t, err)
		require.Empty(t, active.DeactivatedFor)
		day(3)
		require.Equal(t, webhook.StatusActive, r.webhook(t, broken).Status)
		day(1)
		require.Equal(t, webhook.StatusInactive, r.webhook(t, broken).Status)
		require.Len(t, notices.of(webhook.NoticeDeactivated), 2)

		// Mended, it stays.
		r.mu.Lock()
		r.hosts["broken.example"] = healthy
		r.mu.Unlock()
		change = sameAs(r.webhook(t, broken))
		change.Status, change.Resume = webhook.StatusActive, true
		_, err = r.manager.Update(t.Context(), rigAdmin, broken.ID, change)
		require.NoError(t, err)
		day(5)
		require.Equal(t, webhook.StatusActive, r.webhook(t, broken).Status)
		require.Empty(t, r.webhook(t, quiet).DeactivatedFor)
		stop()
	})
}

// Without the options nothing of it happens.
func TestNothingIsDeactivatedByDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		notices := &noticeList{}
		r := newRig(t, nil, webhook.DispatcherConfig{Notifier: notices})
		w := r.register(t, rigAdmin, "gone.example", rigRoom, gone)
		stop := r.run(t)
		for range 30 {
			r.publish(t, "acme", rigRoom, 1)
			pass(12 * time.Hour)
		}
		require.Equal(t, int64(1), r.webhook(t, w).Version)
		require.Empty(t, notices.of(webhook.NoticeDeactivated))
		require.NotEmpty(t, notices.of(webhook.NoticeExhausted))
		stop()
	})
}

// The first 410 deactivates the webhook; its deliveries are held, the one that was
// answered so as well.
func TestDeactivateOnGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		notices := &noticeList{}
		r := newRig(t, nil, webhook.DispatcherConfig{DeactivateOnGone: true, Notifier: notices})
		w := r.register(t, rigAdmin, "gone.example", rigRoom, gone)
		other := r.register(t, rigAdmin, "failing.example", roomOf(1), failing)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 3)
		r.publish(t, "acme", roomOf(1), 1)
		pass(time.Second)
		got := r.webhook(t, w)
		require.Equal(t, webhook.StatusInactive, got.Status)
		require.Equal(t, webhook.DeactivatedGone, got.DeactivatedFor)
		require.Equal(t, webhook.StatusActive, r.webhook(t, other).Status)
		require.Len(t, notices.of(webhook.NoticeDeactivated), 1)
		pass(24 * time.Hour)
		page, err := r.manager.Deliveries(t.Context(), rigAdmin, webhook.DeliveryQuery{WebhookID: w.ID})
		require.NoError(t, err)
		for _, d := range page.Items {
			require.Equal(t, webhook.DeliveryHeld, d.State)
		}
		require.Len(t, notices.of(webhook.NoticeDeactivated), 1)

		// Activated too early, it is deactivated again, by the first attempt.
		change := sameAs(got)
		change.Status, change.Resume = webhook.StatusActive, true
		_, err = r.manager.Update(t.Context(), rigAdmin, w.ID, change)
		require.NoError(t, err)
		pass(time.Second)
		require.Equal(t, webhook.DeactivatedGone, r.webhook(t, w).DeactivatedFor)
		require.Len(t, notices.of(webhook.NoticeDeactivated), 2)
		stop()
	})
}

// RunOnce does it as well, in the round of the answer.
func TestDeactivateOnGoneStepped(t *testing.T) {
	t.Parallel()
	notices := &noticeList{}
	r, _ := steppedRig(t, webhook.DispatcherConfig{DeactivateOnGone: true, Notifier: notices})
	w := r.register(t, rigAdmin, "gone.example", rigRoom, gone)
	r.publish(t, "acme", rigRoom, 3)
	n, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, webhook.DeactivatedGone, r.webhook(t, w).DeactivatedFor)
	require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 3}, r.states(t, rigAdmin))
	require.Len(t, notices.of(webhook.NoticeDeactivated), 1)
	require.Zero(t, r.dispatcher.NextDue())
}

// reluctant is a store that refuses to deactivate for a while.
type reluctant struct {
	webhook.Store
	left atomic.Int64
}

func (s *reluctant) Deactivate(ctx context.Context, p webhook.DeactivateParams) (webhook.DeactivateResult, error) {
	if s.left.Add(-1) >= 0 {
		return webhook.DeactivateResult{}, errStore
	}
	return s.Store.Deactivate(ctx, p)
}

// What the store refuses is tried again, and keeps nobody from delivering.
func TestDeactivationOutlivesTheStoresErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		s := &reluctant{Store: r.store}
		s.left.Store(5)
		r.wire(t, s, nil, webhook.DispatcherConfig{DeactivateOnGone: true})
		w := r.register(t, rigAdmin, "gone.example", rigRoom, gone)
		r.register(t, rigAdmin, "healthy.example", roomOf(1), healthy)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		pass(15 * time.Millisecond)
		published := time.Now()
		r.publish(t, "acme", roomOf(1), 1)
		pass(10 * time.Millisecond)
		require.Len(t, r.times("healthy.example", published), 1)
		require.Equal(t, webhook.StatusActive, r.webhook(t, w).Status)
		pass(time.Minute)
		require.Equal(t, webhook.DeactivatedGone, r.webhook(t, w).DeactivatedFor)
		stop()
	})

	// RunOnce says so.
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	s := &reluctant{Store: r.store}
	s.left.Store(1)
	r.wire(t, s, clock, webhook.DispatcherConfig{DeactivateOnGone: true})
	w := r.register(t, rigAdmin, "gone.example", rigRoom, gone)
	r.publish(t, "acme", rigRoom, 1)
	_, err := r.dispatcher.RunOnce(t.Context())
	require.ErrorIs(t, err, errStore)
	_, err = r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, webhook.DeactivatedGone, r.webhook(t, w).DeactivatedFor)
}

// A Retry-After puts the next attempt off within bounds, if it is to be honored.
func TestHonorRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		honor  bool
		header string
		status int
		want   time.Duration // after the end of the first attempt, whose wait is a minute
	}{
		{"ignored by default", false, "90", 503, time.Minute},
		{"without the header", true, "", 503, time.Minute},
		{"sooner than the schedule", true, "10", 503, time.Minute},
		{"between", true, "90", 429, 90 * time.Second},
		{"just twice", true, "120", 503, 2 * time.Minute},
		{"much later", true, "86400", 503, 2 * time.Minute},
		{"a redirect", true, "90", 302, 90 * time.Second},
		{"nonsense", true, "soon", 503, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, clock := steppedRig(t, webhook.DispatcherConfig{HonorRetryAfter: tc.honor})
			r.register(t, rigAdmin, "busy.example", rigRoom, func(*http.Request) (*http.Response, error) {
				resp, err := respond(tc.status)
				if tc.header != "" {
					resp.Header.Set("Retry-After", tc.header)
				}
				return resp, err
			})
			r.publish(t, "acme", rigRoom, 1)
			_, err := r.dispatcher.RunOnce(t.Context())
			require.NoError(t, err)
			require.Equal(t, clock.Now().Add(tc.want), r.dispatcher.NextDue())
			webhooktest.Drain(t, r.dispatcher, clock)
			d := r.deliveries(t, rigAdmin)[0]
			require.Equal(t, webhook.DeliveryFailed, d.State)
			require.Equal(t, 6, d.Attempts)
		})
	}
}

// awayDeactivator is a store that cannot deactivate for a while.
type awayDeactivator struct {
	*memstore.Store
	away atomic.Bool
}

func (s *awayDeactivator) Deactivate(ctx context.Context, p webhook.DeactivateParams) (webhook.DeactivateResult, error) {
	if s.away.Load() {
		return webhook.DeactivateResult{}, errStore
	}
	return s.Store.Deactivate(ctx, p)
}

// A late answer of an endpoint that the webhook no longer has does not take the
// place of one that the new endpoint has given.
func TestGoneOfTheNewEndpointOutlivesALateAnswerOfTheOldOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		s := &awayDeactivator{Store: r.store}
		r.wire(t, s, nil, webhook.DispatcherConfig{DeactivateOnGone: true})
		var slow atomic.Bool
		w := r.register(t, rigAdmin, "old.example", rigRoom, func(q *http.Request) (*http.Response, error) {
			if !slow.Load() {
				return healthy(q)
			}
			pass(3 * time.Second)
			return gone(q)
		})
		other := r.register(t, rigAdmin, "new.example", roomOf(9), gone)
		stop := r.run(t)
		for range 3 { // so that it may have several at a time
			r.publish(t, "acme", rigRoom, 1)
			pass(10 * time.Millisecond)
		}
		slow.Store(true)
		r.publish(t, "acme", rigRoom, 1)
		pass(10 * time.Millisecond)
		change := sameAs(r.webhook(t, w))
		change.EndpointURL = other.EndpointURL
		_, err := r.manager.Update(t.Context(), rigAdmin, w.ID, change)
		require.NoError(t, err)
		s.away.Store(true)
		r.publish(t, "acme", rigRoom, 1)
		pass(4 * time.Second)
		require.Len(t, r.attempts(t, rigAdmin), 5)
		s.away.Store(false)
		pass(10 * time.Second)
		require.Equal(t, webhook.StatusInactive, r.webhook(t, w).Status)
		stop()
	})
}
