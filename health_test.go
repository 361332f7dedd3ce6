package webhook_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestHealthOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC)
	hour := func(n int) time.Time { return now.Truncate(time.Hour).Add(time.Duration(-n) * time.Hour) }
	failed := func(ago, n int) webhook.Counter { return webhook.Counter{Hour: hour(ago), Failed: n, FailedSince: n} }
	mixed := func(ago, succeeded, n, since int, last time.Duration) webhook.Counter {
		return webhook.Counter{Hour: hour(ago), Succeeded: succeeded, Failed: n, FailedSince: since, LastSuccessAt: hour(ago).Add(last)}
	}
	w := webhook.Webhook{
		Status: webhook.StatusInactive, StatusSince: hour(3), DeactivatedFor: webhook.DeactivatedGone, CreatedAt: hour(1000).Add(20 * time.Minute),
	}
	for name, tc := range map[string]struct {
		counters []webhook.Counter
		want     webhook.Health
		rate     float64
		none     bool
	}{
		"Nothing": {nil, webhook.Health{}, 0, true},
		"Well": {
			[]webhook.Counter{mixed(30, 7, 0, 0, 0), mixed(2, 3, 1, 0, time.Minute)},
			webhook.Health{Succeeded: 3, Failed: 1, LastSuccessAt: hour(2).Add(time.Minute)}, 0.75, false,
		},
		"FailingSinceTheLastSuccess": {
			[]webhook.Counter{mixed(26, 1, 1, 0, 0), mixed(25, 9, 3, 2, 40*time.Minute), failed(24, 4), failed(1, 5)},
			webhook.Health{
				Failed: 9, ConsecutiveFailures: 11, LastSuccessAt: hour(25).Add(40 * time.Minute), FailingSince: hour(25).Add(40 * time.Minute),
			}, 0, false,
		},
		"FailingSinceALaterHour": {
			[]webhook.Counter{mixed(25, 9, 3, 0, 40*time.Minute), failed(20, 4), {Hour: hour(3), Interrupted: 6}, failed(1, 5)},
			webhook.Health{
				Failed: 9, Interrupted: 6, ConsecutiveFailures: 9, LastSuccessAt: hour(25).Add(40 * time.Minute), FailingSince: hour(20),
			}, 0, false,
		},
		"NeverSucceeded": {
			[]webhook.Counter{failed(1000, 1), failed(0, 1)},
			webhook.Health{Failed: 1, ConsecutiveFailures: 2, FailingSince: hour(1000).Add(20 * time.Minute)}, 0, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.want.Since, tc.want.Status, tc.want.StatusSince, tc.want.DeactivatedFor = hour(24), w.Status, w.StatusSince, w.DeactivatedFor
			got := webhook.HealthOf(&w, tc.counters, now)
			require.Equal(t, tc.want, got)
			rate, ok := got.SuccessRate()
			require.InDelta(t, tc.rate, rate, 0)
			require.Equal(t, !tc.none, ok)
		})
	}
}

// Manager.Health is that of the webhook's counters, for viewers too.
func TestHealth(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.publish(t)
	f.deliver(t, answers(http.StatusOK, ""))
	succeeded := f.clock.Now()
	f.clock.Advance(2 * time.Hour)
	f.publish(t)
	f.publish(t)
	f.fail(t)
	got, err := f.manager.Health(t.Context(), f.viewer, w.ID)
	require.NoError(t, err)
	require.Equal(t, webhook.Health{
		Since: f.clock.Now().Add(-24 * time.Hour).Truncate(time.Hour), Succeeded: 1, Failed: 2, ConsecutiveFailures: 2,
		LastSuccessAt: succeeded, FailingSince: f.clock.Now().Truncate(time.Hour), Status: webhook.StatusActive, StatusSince: w.CreatedAt,
	}, got)
}
