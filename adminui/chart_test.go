package adminui_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	type histogram = [len(webhook.LatencyBounds) + 1]int
	for name, c := range map[string]struct {
		counts   histogram
		p50, p95 time.Duration
	}{
		"Nothing":       {histogram{}, 0, 0},
		"OneBucket":     {histogram{0, 0, 100}, 37500 * time.Microsecond, 48750 * time.Microsecond}, // 25 to 50 ms
		"Two":           {histogram{0, 90, 0, 0, 10}, 10*time.Millisecond + 8333333*time.Nanosecond, 175 * time.Millisecond},
		"One":           {histogram{1}, 5 * time.Millisecond, 9500 * time.Microsecond},
		"BeyondAll":     {histogram{len(webhook.LatencyBounds): 2}, 12500 * time.Millisecond, 14750 * time.Millisecond},
		"ExactlyABound": {histogram{50, 50}, 10 * time.Millisecond, 23500 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.InDelta(t, c.p50, adminui.Percentile(c.counts, 0.50, 15*time.Second), float64(time.Microsecond))
			require.InDelta(t, c.p95, adminui.Percentile(c.counts, 0.95, 15*time.Second), float64(time.Microsecond))
		})
	}
}

// The last bucket ends where attempts do.
func TestPercentileOfTheSlowest(t *testing.T) {
	t.Parallel()
	last := webhook.LatencyBounds[len(webhook.LatencyBounds)-1]
	for timeout, want := range map[time.Duration]time.Duration{time.Minute: 35 * time.Second, last: last, time.Second: last} {
		got := adminui.Percentile([len(webhook.LatencyBounds) + 1]int{len(webhook.LatencyBounds): 2}, 0.5, timeout)
		require.InDelta(t, want, got, float64(time.Microsecond), timeout)
	}
}

func TestAxes(t *testing.T) {
	t.Parallel()
	for v := 4.0; v < 5e6; v = v*1.07 + 1 {
		top := adminui.NiceAbove(v)
		require.GreaterOrEqual(t, top, v)
		require.LessOrEqual(t, top, 2.6*v, "no more than half of the plot is empty")
		require.Zero(t, int(top)%4, "%v has quarters", top)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"–": adminui.Share(0, 0), "100 %": adminui.Share(3, 3), "0 %": adminui.Share(0, 3), "99.9 %": adminui.Share(99_999, 100_000), "66.6 %": adminui.Share(2, 3),
		"0 s": adminui.Roughly(0), "59 s": adminui.Roughly(59 * time.Second), "1 min": adminui.Roughly(90 * time.Second), "2 h": adminui.Roughly(2 * time.Hour),
		"14 h 36 min": adminui.Roughly(14*time.Hour + 36*time.Minute), "1 day": adminui.Roughly(47 * time.Hour), "3 days": adminui.Roughly(80 * time.Hour),
		"0 ms": adminui.Duration(0), "12 µs": adminui.Duration(12 * time.Microsecond), "1.2 ms": adminui.Duration(1234 * time.Microsecond),
		"123 ms": adminui.Duration(123456 * time.Microsecond), "15.0 s": adminui.Duration(15 * time.Second),
	} {
		require.Equal(t, want, got)
	}
	require.Equal(t, "a\n\tb␀␛[31m\ufffd⟨U+202E⟩⟨U+200B⟩é🎺␡⟨U+0085⟩", adminui.Printable([]byte("a\n\tb\x00\x1b[31m\xff\u202e\u200bé🎺\x7f\u0085")))
}

func TestCharts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	path := "/" + w.ID.String()
	f.get(t, path).is(ok).says("Last 24 hours", "– succeeded", "0 attempts", "Nothing has been sent yet.")
	for i, gap := range []time.Duration{0, 370 * time.Hour, 25 * time.Hour, 4 * time.Hour} {
		f.clock.Advance(gap)
		for range i + 1 {
			f.publish(t)
		}
		f.deliver(t, answers(http.StatusOK, ""))
		f.publish(t)
		f.deliver(t, answers(http.StatusInternalServerError, ""))
		p, err := f.manager.Deliveries(t.Context(), admin, webhook.DeliveryQuery{State: webhook.DeliveryPending})
		require.NoError(t, err)
		for _, d := range p.Items {
			require.NoError(t, f.manager.Cancel(t.Context(), admin, d.ID))
		}
	}
	f.clock.Advance(30 * time.Minute)
	row := regexp.MustCompile(`(?s)<tr><th scope="row".*?</tr>`)
	for query, want := range map[string]struct {
		title, total, share string
		rows, bars          int
		some                string // a row of the table
	}{
		"":           {"Last 24 hours", "9 attempts", "77.7 %", 24, 2, "2026-01-18 03:00 4 1 0"},
		"?range=24h": {"Last 24 hours", "9 attempts", "77.7 %", 24, 2, "2026-01-17 23:00 3 1 0"},
		"?range=7d":  {"Last 7 days", "12 attempts", "75.0 %", 28, 3, "2026-01-17 18:00 3 1 0"},
		"?range=30d": {"Last 30 days", "14 attempts", "71.4 %", 30, 4, "2026-01-01 00:00 1 1 0"},
		"?range=x":   {"Last 24 hours", "9 attempts", "77.7 %", 24, 2, ""},
	} {
		page := f.get(t, path+query).is(ok)
		page.says(want.title, want.total, want.share+" succeeded", want.some)
		require.Len(t, row.FindAllString(page.Body.String(), -1), want.rows, query)
		require.Equal(t, want.bars, strings.Count(page.Body.String(), "<g><title>"), query)
		require.Equal(t, 2*want.bars, strings.Count(page.Body.String(), "<circle "), "p50 and p95 of each: %s", query)
		require.Equal(t, 2, strings.Count(page.Body.String(), `role="img" aria-label="`))
	}
	require.Contains(t, f.get(t, path).Body.String(), "2026-01-18 03:00 UTC: 4 succeeded, 1 failed, 0 interrupted")
}
