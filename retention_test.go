package webhook_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// purges adds up what retention has done.
type purges struct {
	webhook.NopTracer
	mu    sync.Mutex
	calls int
	most  int // deliveries of one batch
	sum   webhook.PurgeResult
	err   error
}

func (p *purges) Purged(_ context.Context, c webhook.PurgeCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	p.most = max(p.most, c.Result.Deliveries)
	p.sum.Payloads += c.Result.Payloads
	p.sum.Attempts += c.Result.Attempts
	p.sum.Deliveries += c.Result.Deliveries
	p.sum.Events += c.Result.Events
	p.sum.HeldCancelled += c.Result.HeldCancelled
	p.err = c.Err
}

func (p *purges) total() webhook.PurgeResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum
}

// last returns how often it was called, the most deliveries of one call, and the
// last call's error.
func (p *purges) last() (calls, most int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, p.most, p.err
}

// Each kind goes when its age has come, and what is pending stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p purges
		r := newRig(t, nil, webhook.DispatcherConfig{Tracer: &p, Retention: webhook.Retention{
			Payloads: time.Hour, Attempts: 2 * time.Hour, Deliveries: 4 * time.Hour, Held: 3 * time.Hour,
		}})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		r.register(t, rigAdmin, "failing.example", roomOf(1), failing) // pending for 14 hours
		inactive := r.register(t, rigAdmin, "inactive.example", roomOf(2), healthy)
		change := sameAs(inactive)
		deactivate(&change)
		_, err := r.manager.Update(t.Context(), rigAdmin, inactive.ID, change)
		require.NoError(t, err)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1200)
		r.publish(t, "acme", roomOf(1), 1)
		r.publish(t, "acme", roomOf(2), 3)
		for _, step := range []struct {
			after time.Duration
			want  webhook.PurgeResult
		}{
			{time.Hour - time.Minute, webhook.PurgeResult{}},
			{10 * time.Minute, webhook.PurgeResult{Payloads: 1200}},
			{time.Hour, webhook.PurgeResult{Payloads: 1200, Attempts: 1200}},
			{time.Hour, webhook.PurgeResult{Payloads: 1200, Attempts: 1200, HeldCancelled: 3}},
			{time.Hour, webhook.PurgeResult{Payloads: 1203, Attempts: 1200, HeldCancelled: 3, Deliveries: 1200, Events: 1200}},
		} {
			pass(step.after)
			require.Equal(t, step.want, p.total())
		}
		_, most, _ := p.last()
		require.LessOrEqual(t, most, 1000, "in a batch")
		left := r.deliveries(t, rigAdmin)
		require.Len(t, left, 4)
		require.Equal(t, webhook.DeliveryPending, left[0].State)
		stop()
	})
}

// By default everything is kept for 30 days. RunOnce deletes nothing.
func TestRetentionDefaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p purges
		r := newRig(t, nil, webhook.DispatcherConfig{Tracer: &p})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		r.publish(t, "acme", rigRoom, 1)
		_, err := r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		pass(webhook.DefaultRetention - time.Hour)
		_, err = r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		calls, _, _ := p.last()
		require.Zero(t, calls)
		stop := r.run(t)
		pass(30 * time.Minute)
		require.Len(t, r.deliveries(t, rigAdmin), 1)
		pass(time.Hour)
		require.Empty(t, r.deliveries(t, rigAdmin))
		stop()
	})
}

// Negative ages keep things for ever; with nothing to do, nobody asks the store.
func TestRetentionForEver(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		retention webhook.Retention
		asks      bool
	}{
		"Everything": {webhook.Retention{Payloads: -1, Attempts: -1, Deliveries: -1, Held: -1}, false},
		"Deliveries": {webhook.Retention{Payloads: time.Minute, Attempts: time.Minute, Deliveries: -1, Held: -1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var p purges
				r := newRig(t, nil, webhook.DispatcherConfig{Tracer: &p, Retention: tc.retention})
				r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
				stop := r.run(t)
				r.publish(t, "acme", rigRoom, 1)
				pass(time.Hour)
				require.Len(t, r.deliveries(t, rigAdmin), 1)
				calls, _, _ := p.last()
				require.Equal(t, tc.asks, calls > 0)
				require.Equal(t, tc.asks, p.total().Attempts == 1)
				stop()
			})
		})
	}
}

// unpurgeable is a store whose Purge fails.
type unpurgeable struct {
	webhook.Store
	works atomic.Bool
}

func (s *unpurgeable) Purge(ctx context.Context, p webhook.PurgeParams) (webhook.PurgeResult, error) {
	if !s.works.Load() {
		return webhook.PurgeResult{}, errStore
	}
	return s.Store.Purge(ctx, p)
}

// A store that fails is asked again in the next round, and keeps nobody from
// delivering.
func TestRetentionOutlivesTheStoresErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p purges
		r := newRig(t, nil, webhook.DispatcherConfig{})
		s := &unpurgeable{Store: r.store}
		r.wire(t, s, nil, webhook.DispatcherConfig{Tracer: &p, Retention: webhook.Retention{Deliveries: time.Hour}})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 1)
		pass(2 * time.Hour)
		calls, _, err := p.last()
		require.ErrorIs(t, err, errStore)
		require.Less(t, calls, 30)
		s.works.Store(true)
		r.publish(t, "acme", rigRoom, 1)
		pass(70 * time.Minute)
		require.Len(t, r.times("healthy.example", time.Now()), 2)
		require.Empty(t, r.deliveries(t, rigAdmin))
		stop()
	})
}
