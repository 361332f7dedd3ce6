package webhook_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// limit changes a webhook's rate limit.
func (r *rig) limit(t *testing.T, w webhook.Webhook, perSecond int) webhook.Webhook {
	t.Helper()
	change := sameAs(r.webhook(t, w))
	change.RateLimit = perSecond
	got, err := r.manager.Update(t.Context(), rigAdmin, w.ID, change)
	require.NoError(t, err)
	return got
}

func TestRateLimitIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for limit, ok := range map[int]bool{-1: false, 0: true, 1: true, webhook.MaxRateLimit: true, webhook.MaxRateLimit + 1: false} {
		in := webhook.WebhookInput{Name: "Limited", EndpointURL: endpointURL, RateLimit: limit, Subscriptions: rooms(1)}
		w, _, err := f.manager.Create(t.Context(), f.admin, in)
		if !ok {
			require.Equal(t, []string{"rate_limit"}, faultFields(t, err))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, limit, w.RateLimit)
		change := sameAs(w)
		change.RateLimit = -1
		_, err = f.manager.Update(t.Context(), f.admin, w.ID, change)
		require.Equal(t, []string{"rate_limit"}, faultFields(t, err))
	}
}

// requireRate checks that no span of a second has more requests than the limit and
// what may gather while the dispatcher is late.
func requireRate(t *testing.T, times []time.Duration, limit int) {
	t.Helper()
	most := limit + 2*max(1, limit/10)
	for i := range times {
		n := 0
		for _, at := range times[i:] {
			if at-times[i] >= time.Second {
				break
			}
			n++
		}
		require.LessOrEqual(t, n, most, "in the second after %s", times[i])
	}
}

// A burst takes as long as the limit says, costs no attempts, and keeps nobody
// waiting; however it has come to the dispatcher.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		events, limit int
		queued        bool // published before the dispatcher runs
		want          time.Duration
	}{
		"Published":    {1000, 10, false, 100 * time.Second},
		"Queued":       {1000, 10, true, 100 * time.Second},
		"One a second": {30, 1, true, 29 * time.Second},
		"Many":         {5000, 500, true, 10 * time.Second},
		"Odd":          {70, 7, false, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil, webhook.DispatcherConfig{})
				claims := &countedClaims{Store: r.store}
				r.wire(t, claims, nil, webhook.DispatcherConfig{})
				w := r.register(t, rigAdmin, "limited.example", roomOf(1), healthy)
				r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
				r.limit(t, w, tc.limit)
				var stop func()
				start := time.Now()
				if tc.queued {
					r.publish(t, "acme", roomOf(1), tc.events)
					stop = r.run(t)
				} else {
					stop = r.run(t)
					r.publish(t, "acme", roomOf(1), tc.events)
				}
				for range 40 { // others are not delayed
					pass(250 * time.Millisecond)
					published := time.Now()
					r.publish(t, "acme", rigRoom, 1)
					pass(15 * time.Millisecond)
					times := r.times("healthy.example", published)
					require.Less(t, times[len(times)-1], 15*time.Millisecond)
				}
				pass(2*tc.want - time.Since(start))
				times := r.times("limited.example", start)
				require.Len(t, times, tc.events)
				requireRate(t, times, tc.limit)
				require.InDelta(t, tc.want.Seconds(), times[len(times)-1].Seconds(), 0.03*tc.want.Seconds()+0.2)
				for _, d := range r.deliveries(t, rigAdmin) {
					require.Equal(t, webhook.DeliverySucceeded, d.State)
					require.Equal(t, 1, d.Attempts)
				}
				require.Less(t, claims.n.Load(), int64(4*tc.events+400), "no busy loop")
				stop()
			})
		})
	}
}

// countedClaims counts the calls of Claim.
type countedClaims struct {
	webhook.Store
	n atomic.Int64
}

func (s *countedClaims) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	s.n.Add(1)
	return s.Store.Claim(ctx, p)
}

// While nothing is left in the bucket, publishing costs no claims either.
func TestPublishingForALimitedWebhookCostsNoClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		claims := &countedClaims{Store: r.store}
		r.wire(t, claims, nil, webhook.DispatcherConfig{})
		w := r.register(t, rigAdmin, "limited.example", roomOf(1), healthy)
		r.limit(t, w, 1)
		stop := r.run(t)
		r.publish(t, "acme", roomOf(1), 1)
		pass(100 * time.Millisecond)
		before := claims.n.Load()
		for range 500 {
			r.publish(t, "acme", roomOf(1), 1)
			pass(time.Millisecond)
		}
		require.LessOrEqual(t, claims.n.Load()-before, int64(5))
		require.Len(t, r.times("limited.example", time.Now()), 1)
		stop()
	})
}

// A dispatcher that learns of the limit by what it has claimed gives back what is
// too much, without an attempt. Steps of a clock show when it goes on.
func TestRateLimitStepped(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	w := r.register(t, rigAdmin, "limited.example", rigRoom, healthy)
	r.limit(t, w, 10)
	r.publish(t, "acme", rigRoom, 50)
	began := clock.Now()
	n, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n, "of the 16 that it has claimed")
	n, err = r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, began.Add(100*time.Millisecond), r.dispatcher.NextDue())
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, 4900*time.Millisecond, clock.Now().Sub(began))
	for _, d := range r.deliveries(t, rigAdmin) {
		require.Equal(t, 1, d.Attempts)
		require.Equal(t, webhook.DeliverySucceeded, d.State)
	}
}

// Changes of the limit hold for the next claims.
func TestRateLimitChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		w := r.register(t, rigAdmin, "limited.example", rigRoom, healthy)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 100)
		pass(time.Second)
		require.Len(t, r.times("limited.example", time.Now()), 100)
		r.limit(t, w, 2)
		r.publish(t, "acme", rigRoom, 200)
		pass(10 * time.Second)
		require.InDelta(t, 120, len(r.times("limited.example", time.Now())), 3)
		r.limit(t, w, 0)
		pass(2 * time.Second)
		require.Len(t, r.times("limited.example", time.Now()), 300)
		stop()
	})
}

// A limited endpoint that fails, or hangs, is retried by the schedule all the same.
func TestRateLimitOfAFailingEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		w := r.register(t, rigAdmin, "limited.example", rigRoom, failing)
		var hung atomic.Int64
		h := r.register(t, rigAdmin, "hanging.example", roomOf(1), func(q *http.Request) (*http.Response, error) {
			hung.Add(1)
			return hang(q)
		})
		r.limit(t, w, 5)
		r.limit(t, h, 5)
		stop := r.run(t)
		start := time.Now()
		r.publish(t, "acme", rigRoom, 50)
		r.publish(t, "acme", roomOf(1), 2)
		pass(20 * time.Hour)
		times := r.times("limited.example", start)
		require.Len(t, times, 300)
		requireRate(t, times, 5)
		require.EqualValues(t, 12, hung.Load())
		require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryFailed: 52}, r.states(t, rigAdmin))
		stop()
	})
}

// lateClaims makes each claim take a while.
type lateClaims struct {
	*memstore.Store // which wakes, so that nobody polls
	takes           atomic.Int64
}

func (s *lateClaims) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	defer pass(time.Duration(s.takes.Load()))
	return s.Store.Claim(ctx, p)
}

// A token that comes while a claim is under way, which has left the webhook out,
// is not left to the next look at the store.
func TestATokenThatComesDuringAClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		s := &lateClaims{Store: r.store}
		r.wire(t, s, nil, webhook.DispatcherConfig{})
		r.limit(t, r.register(t, rigAdmin, "limited.example", rigRoom, healthy), 1)
		stop := r.run(t)
		synctest.Wait()
		start := time.Now()
		r.publish(t, "acme", rigRoom, 1)
		pass(500 * time.Millisecond)
		r.publish(t, "acme", rigRoom, 1)
		pass(499 * time.Millisecond)
		require.Len(t, r.times("limited.example", start), 1)
		s.takes.Store(int64(2 * time.Millisecond))
		r.dispatcher.Wake()
		pass(200 * time.Millisecond)
		require.Len(t, r.times("limited.example", start), 2)
		stop()
	})
}

// While more is published than the limit allows, what was published first goes
// first: hand-offs do not take every token as it comes.
func TestRateLimitKeepsTheOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		claims := &countedClaims{Store: r.store}
		r.wire(t, claims, nil, webhook.DispatcherConfig{})
		r.limit(t, r.register(t, rigAdmin, "limited.example", rigRoom, healthy), 100)
		stop := r.run(t)
		start := time.Now()
		for range 1000 {
			r.publish(t, "acme", rigRoom, 1)
			pass(5 * time.Millisecond)
		}
		sent := len(r.times("limited.example", start))
		require.InDelta(t, 500, sent, 25)
		for _, d := range r.deliveries(t, rigAdmin) {
			if d.State == webhook.DeliveryPending {
				require.Greater(t, d.CreatedAt.Sub(start), 2*time.Second, "it has waited for too long")
			}
		}
		require.Less(t, claims.n.Load(), int64(300), "no claim for each that is published")
		stop()
	})
}

// Webhooks that have spent their tokens, and for which nothing waits, make nobody
// ask the store for each of them.
func TestIdleLimitedWebhooksCostFewClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		claims := &countedClaims{Store: r.store}
		r.wire(t, claims, nil, webhook.DispatcherConfig{})
		const hooks = 90
		for i := range hooks {
			r.limit(t, r.register(t, rigAdmin, "limited.example", roomOf(i), healthy), 10)
		}
		stop := r.run(t)
		before := claims.n.Load()
		start := time.Now()
		for range 20 {
			for i := range hooks {
				pass(200 * time.Millisecond / hooks)
				r.publish(t, "acme", roomOf(i), 1)
			}
		}
		took := time.Since(start)
		pass(100 * time.Millisecond)
		require.Len(t, r.times("limited.example", start), 20*hooks)
		require.Less(t, claims.n.Load()-before, int64(took/(15*time.Millisecond)), "in %s", took)
		stop()
	})
}
