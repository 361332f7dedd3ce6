package webhook_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func newSchedule(t testing.TB, delays ...time.Duration) webhook.Schedule {
	t.Helper()
	s, err := webhook.NewSchedule(delays...)
	require.NoError(t, err)
	return s
}

// delaysOf asks a schedule for all its waits.
func delaysOf(s webhook.Schedule) []time.Duration {
	var out []time.Duration
	for attempt := 1; ; attempt++ {
		d, ok := s.Delay(attempt)
		if !ok {
			return out
		}
		out = append(out, d)
	}
}

func TestScheduleByDefault(t *testing.T) {
	t.Parallel()
	type answer struct {
		wait time.Duration
		ok   bool
	}
	want := map[int]answer{
		math.MinInt: {}, -1: {}, 0: {},
		1: {time.Minute, true},
		2: {5 * time.Minute, true},
		3: {30 * time.Minute, true},
		4: {2 * time.Hour, true},
		5: {12 * time.Hour, true},
		6: {}, 7: {}, math.MaxInt: {},
	}
	for name, s := range map[string]webhook.Schedule{
		"Default":     webhook.DefaultSchedule(),
		"ZeroValue":   {},
		"SpelledOut":  newSchedule(t, time.Minute, 5*time.Minute, 30*time.Minute, 2*time.Hour, 12*time.Hour),
		"OfNewStruct": *new(webhook.Schedule),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[int]answer{}
			for attempt := range want {
				d, ok := s.Delay(attempt)
				got[attempt] = answer{d, ok}
			}
			require.Equal(t, want, got)
			require.Equal(t, 6, s.MaxAttempts())
			var total time.Duration
			for _, d := range delaysOf(s) {
				total += d
			}
			require.Equal(t, 14*time.Hour+36*time.Minute, total)
		})
	}
	require.Equal(t, webhook.Schedule{}, webhook.DefaultSchedule())
}

func TestScheduleHasTheGivenDelays(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = rand.N(24 * time.Hour)
	}
	for name, delays := range map[string][]time.Duration{
		"None":    nil,
		"One":     {time.Second},
		"Zero":    {0, 0},
		"Falling": {time.Hour, time.Minute, time.Nanosecond},
		"Longest": {math.MaxInt64},
		"Hundred": hundred,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSchedule(t, delays...)
			require.Equal(t, delays, delaysOf(s))
			require.Equal(t, len(delays)+1, s.MaxAttempts())
		})
	}
}

func TestScheduleIsImmutable(t *testing.T) {
	t.Parallel()
	delays := []time.Duration{time.Second, time.Minute}
	s := newSchedule(t, delays...)
	delays[0], delays[1] = time.Hour, -1
	require.Equal(t, []time.Duration{time.Second, time.Minute}, delaysOf(s))

	cursor := s.BackOff()
	cursor.NextBackOff()
	require.Equal(t, []time.Duration{time.Second, time.Minute}, delaysOf(s))
}

func TestScheduleRefusesWaits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		delays []time.Duration
		fields []string
	}{
		"Negative":         {[]time.Duration{-1}, []string{"schedule[0]"}},
		"EachNegativeOne":  {[]time.Duration{-1, 0, math.MinInt64, 1}, []string{"schedule[0]", "schedule[2]"}},
		"MoreThanAHundred": {make([]time.Duration, 101), []string{"schedule"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := webhook.NewSchedule(c.delays...)
			require.Equal(t, c.fields, faultFields(t, err))
			require.Equal(t, webhook.Schedule{}, s)
		})
	}
}

func TestScheduleBackOffAgreesWithDelay(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]webhook.Schedule{
		"Default": {},
		"None":    newSchedule(t),
		"Some":    newSchedule(t, time.Second, 0, time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cursor := s.BackOff()
			for range 2 {
				for attempt := 1; attempt < s.MaxAttempts(); attempt++ {
					want, ok := s.Delay(attempt)
					require.True(t, ok)
					require.Equal(t, want, cursor.NextBackOff())
				}
				for range 3 {
					require.Equal(t, backoff.Stop, cursor.NextBackOff(), "it stays at the end")
				}
				cursor.Reset()
			}
		})
	}
}

func TestScheduleBackOffIsFreshEachTime(t *testing.T) {
	t.Parallel()
	s := newSchedule(t, time.Second, time.Minute)
	a, b := s.BackOff(), s.BackOff()
	require.Equal(t, time.Second, a.NextBackOff())
	require.Equal(t, time.Minute, a.NextBackOff())
	require.Equal(t, time.Second, b.NextBackOff())
	require.Equal(t, time.Second, s.BackOff().NextBackOff())
	b.Reset()
	require.Equal(t, backoff.Stop, a.NextBackOff(), "resetting one cursor leaves the other alone")
}

func TestScheduleBackOffDrivesRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		refused := errors.New("refused")
		var at []time.Duration
		err := backoff.Retry(func() error {
			at = append(at, time.Since(began))
			return refused
		}, webhook.DefaultSchedule().BackOff())
		require.ErrorIs(t, err, refused)
		require.Equal(t, []time.Duration{
			0, time.Minute, 6 * time.Minute, 36 * time.Minute,
			2*time.Hour + 36*time.Minute, 14*time.Hour + 36*time.Minute,
		}, at)
	})
}

func TestScheduleAfterAFailure(t *testing.T) {
	t.Parallel()
	ended := time.Date(2026, 3, 1, 13, 30, 0, 1999, time.FixedZone("east", 3600))
	stored := time.Date(2026, 3, 1, 12, 30, 0, 1000, time.UTC)
	for name, c := range map[string]struct {
		attempt int
		test    bool
		state   webhook.DeliveryState
		due     time.Time
	}{
		"First":         {attempt: 1, state: webhook.DeliveryPending, due: stored.Add(time.Minute)},
		"LastButOne":    {attempt: 5, state: webhook.DeliveryPending, due: stored.Add(12 * time.Hour)},
		"Last":          {attempt: 6, state: webhook.DeliveryFailed},
		"BeyondTheLast": {attempt: 7, state: webhook.DeliveryFailed},
		"OfATest":       {attempt: 1, test: true, state: webhook.DeliveryFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, due := webhook.DefaultSchedule().After(c.attempt, ended, c.test)
			require.Equal(t, c.state, state)
			require.Equal(t, c.due, due)
		})
	}
}
