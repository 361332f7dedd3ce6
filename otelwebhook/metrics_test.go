package otelwebhook_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/otelwebhook"
	"github.com/posthorn/webhook/webhooktest"
)

// A delivery that succeeds at once and one that fails for good, as the metrics tell it.
func TestMetricsOfDeliveries(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(cfg *webhook.DispatcherConfig) {
		cfg.Notifier = webhook.NewLogNotifier(nil)
	})
	before := h.collect(t)
	for name, v := range before {
		require.Zero(t, v, "%s begins at 0", name)
	}
	h.publish(t.Context(), t)
	webhooktest.Drain(t, h.dispatcher, h.clock)
	h.answer = func(*http.Request) (*http.Response, error) { return status(http.StatusNotFound) }
	h.publish(t.Context(), t)
	unmatched := message()
	unmatched.Type = webhook.EventRoomRecordingTranscriptPublished
	_, err := h.publisher.Publish(t.Context(), unmatched)
	require.NoError(t, err)
	webhooktest.Drain(t, h.dispatcher, h.clock)

	got := h.collect(t)
	for name, want := range map[string]float64{
		"posthorn.attempts{posthorn.outcome=succeeded}":                           1,
		"posthorn.attempts{error.type=4xx,posthorn.outcome=failed}":               2,
		"posthorn.attempts{error.type=5xx,posthorn.outcome=failed}":               0,
		"posthorn.attempt.duration{posthorn.outcome=succeeded}":                   1,
		"posthorn.attempt.duration{posthorn.outcome=failed}":                      2,
		"posthorn.attempt.lag":                                                    3,
		"posthorn.attempt.active":                                                 0,
		"posthorn.deliveries.finished{posthorn.delivery.state=succeeded}":         1,
		"posthorn.deliveries.finished{posthorn.delivery.state=failed}":            1,
		"posthorn.publish.events{posthorn.result=delivering}":                     2,
		"posthorn.publish.events{posthorn.result=unmatched}":                      1,
		"posthorn.publish.events{posthorn.result=duplicate}":                      0,
		"posthorn.publish.deliveries":                                             2,
		"posthorn.claims":                                                         3,
		"posthorn.leases.lost":                                                    0,
		"posthorn.store.duration{posthorn.operation=publish}":                     3,
		"posthorn.store.duration{posthorn.operation=record}":                      3,
		"posthorn.notices{posthorn.notice.kind=exhausted,posthorn.result=sent}":   1,
		"posthorn.notices{posthorn.notice.kind=exhausted,posthorn.result=failed}": 0,
	} {
		require.Contains(t, got, name)
		require.InDelta(t, want, got[name], 0, name)
	}
	for name := range got {
		require.NotContains(t, name, "webhook.id")
		require.NotContains(t, name, "organization")
	}
}

// What a call reports, and what changes by it.
func TestMetricsOfCalls(t *testing.T) {
	t.Parallel()
	ctx := context.Background() //nolint:usetesting // of a table
	store := func(operation, kind string) string {
		if kind != "" {
			kind = "error.type=" + kind + ","
		}
		return "posthorn.store.duration{" + kind + "posthorn.operation=" + operation + "}"
	}
	failed := func(class webhook.ErrorClass, code int) func(*otelwebhook.Telemetry) {
		return func(tel *otelwebhook.Telemetry) {
			tel.AttemptEnded(tel.AttemptStarted(ctx, webhook.AttemptStarted{}), webhook.AttemptEnded{
				State: webhook.DeliveryPending, Lag: -time.Second,
				Attempt: webhook.Attempt{Outcome: webhook.OutcomeFailed, ErrorClass: class, StatusCode: code},
			})
		}
	}
	attempt := func(kind string) map[string]float64 {
		return map[string]float64{
			"posthorn.attempts{error.type=" + kind + ",posthorn.outcome=failed}": 1,
			"posthorn.attempt.duration{posthorn.outcome=failed}":                 1, "posthorn.attempt.lag": 1,
		}
	}
	for name, tc := range map[string]struct {
		call func(*otelwebhook.Telemetry)
		want map[string]float64
	}{
		"an attempt in flight": {
			func(tel *otelwebhook.Telemetry) { tel.AttemptStarted(ctx, webhook.AttemptStarted{}) },
			map[string]float64{"posthorn.attempt.active": 1},
		},
		"503":     {failed(webhook.ErrorStatus, 503), attempt("5xx")},
		"302":     {failed(webhook.ErrorStatus, 302), attempt("3xx")},
		"199":     {failed(webhook.ErrorStatus, 199), attempt("1xx")},
		"999":     {failed(webhook.ErrorStatus, 999), attempt("status")},
		"timeout": {failed(webhook.ErrorTimeout, 200), attempt("timeout")},
		"interrupted": {
			func(tel *otelwebhook.Telemetry) {
				tel.AttemptEnded(tel.AttemptStarted(ctx, webhook.AttemptStarted{}), webhook.AttemptEnded{
					State:   webhook.DeliveryFailed,
					Attempt: webhook.Attempt{Outcome: webhook.OutcomeInterrupted, ErrorClass: webhook.ErrorInterrupted},
				})
			},
			map[string]float64{
				"posthorn.attempts{error.type=interrupted,posthorn.outcome=interrupted}": 1,
				"posthorn.attempt.duration{posthorn.outcome=interrupted}":                1, "posthorn.attempt.lag": 1,
				"posthorn.deliveries.finished{posthorn.delivery.state=failed}": 1,
			},
		},
		"publishing": {
			func(tel *otelwebhook.Telemetry) {
				tel.Published(ctx, webhook.Publication{Results: []webhook.PublishResult{
					{Published: webhook.Published{Deliveries: 3}}, {Published: webhook.Published{Duplicate: true}},
					{Published: webhook.Published{}}, {Err: errors.New("no")}, {Published: webhook.Published{Deliveries: 2}},
				}})
			},
			map[string]float64{
				"posthorn.publish.events{posthorn.result=delivering}": 2, "posthorn.publish.events{posthorn.result=duplicate}": 1,
				"posthorn.publish.events{posthorn.result=unmatched}": 1, "posthorn.publish.events{posthorn.result=refused}": 1,
				"posthorn.publish.deliveries": 5, store("publish", ""): 1,
			},
		},
		"a claim": {
			func(tel *otelwebhook.Telemetry) { tel.Claimed(ctx, webhook.ClaimCall{Claims: 7}) },
			map[string]float64{"posthorn.claims": 7, store("claim", ""): 1},
		},
		"a claim that fails": {
			func(tel *otelwebhook.Telemetry) {
				tel.Claimed(ctx, webhook.ClaimCall{Err: fmt.Errorf("claim: %w", context.DeadlineExceeded)})
			},
			map[string]float64{store("claim", "timeout"): 1},
		},
		"recording": {
			func(tel *otelwebhook.Telemetry) {
				tel.Recorded(ctx, webhook.RecordCall{Finished: 9, Released: 7, Lost: 2, Unopened: 1, RateLimited: 2})
			},
			map[string]float64{
				"posthorn.leases.lost": 2, "posthorn.releases{posthorn.reason=unopened}": 1,
				"posthorn.releases{posthorn.reason=rate_limited}": 2, "posthorn.releases{posthorn.reason=unstarted}": 4, store("record", ""): 1,
			},
		},
		"settling": {
			func(tel *otelwebhook.Telemetry) { tel.Settled(ctx, webhook.SettleCall{Settled: 3}) },
			map[string]float64{"posthorn.leases.settled": 3, store("settle", ""): 1},
		},
		"a rule that makes a webhook inactive": {
			func(tel *otelwebhook.Telemetry) {
				tel.Deactivated(ctx, webhook.DeactivateCall{Reason: webhook.DeactivatedGone, Deactivated: true})
			},
			map[string]float64{"posthorn.deactivations{posthorn.reason=gone}": 1, store("deactivate", ""): 1},
		},
		"a rule that does not hold": {
			func(tel *otelwebhook.Telemetry) {
				tel.Deactivated(ctx, webhook.DeactivateCall{Reason: webhook.DeactivatedFailing})
			},
			map[string]float64{store("deactivate", ""): 1},
		},
		"a rule that could not be applied": {
			func(tel *otelwebhook.Telemetry) {
				tel.Deactivated(ctx, webhook.DeactivateCall{Reason: webhook.DeactivatedFailing, Err: errors.New("no")})
			},
			map[string]float64{store("deactivate", "_OTHER"): 1},
		},
		"a notice that fails": {
			func(tel *otelwebhook.Telemetry) {
				tel.NoticePassedOn(ctx, webhook.NoticeCall{Notice: webhook.Notice{Kind: webhook.NoticeExhausted}, Err: errors.New("no")})
			},
			map[string]float64{"posthorn.notices{posthorn.notice.kind=exhausted,posthorn.result=failed}": 1},
		},
		"a notice that may have arrived": {
			func(tel *otelwebhook.Telemetry) {
				tel.NoticePassedOn(ctx, webhook.NoticeCall{Notice: webhook.Notice{Kind: webhook.NoticeExhausted}, Err: webhook.ErrOutcomeUnknown})
			},
			map[string]float64{"posthorn.notices{posthorn.notice.kind=exhausted,posthorn.result=unknown}": 1},
		},
		"purging": {
			func(tel *otelwebhook.Telemetry) {
				tel.Purged(ctx, webhook.PurgeCall{Result: webhook.PurgeResult{Payloads: 1, Attempts: 2, Deliveries: 3, Events: 4, HeldCancelled: 5}})
			},
			map[string]float64{
				"posthorn.purged{posthorn.record=payload}": 1, "posthorn.purged{posthorn.record=attempt}": 2, "posthorn.purged{posthorn.record=delivery}": 3,
				"posthorn.purged{posthorn.record=event}": 4, "posthorn.purged{posthorn.record=held}": 5, store("purge", ""): 1,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			tc.call(h.telemetry)
			got := h.collect(t)
			maps.DeleteFunc(got, func(_ string, v float64) bool { return v == 0 })
			require.Equal(t, tc.want, got)
		})
	}
}

// As many series as there are kinds of things, however many webhooks there are.
func TestSeriesDoNotGrowWithCustomers(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ids := webhook.IDSource{}
	series := map[int]int{}
	for n := range 200 {
		id := ids.New(time.Now())
		for _, code := range []int{200, 400 + n, 300 + n%100} {
			a := webhook.Attempt{
				DeliveryID: id, WebhookID: id, OrganizationID: id.String(), EventType: webhook.EventType(fmt.Sprint("type_", n)),
				EndpointURL: "https://" + id.String() + ".example", Outcome: webhook.OutcomeFailed, ErrorClass: webhook.ErrorStatus, StatusCode: code,
			}
			ctx := h.telemetry.AttemptStarted(t.Context(), webhook.AttemptStarted{WebhookID: id, OrganizationID: id.String(), EventType: a.EventType})
			h.telemetry.AttemptEnded(ctx, webhook.AttemptEnded{Attempt: a, State: webhook.DeliveryPending})
		}
		series[n] = len(h.collect(t))
	}
	require.Equal(t, series[199], series[198])
	require.Less(t, series[199], series[0]+3, "3xx, 4xx, 5xx, and codes that are none")
}

func TestEventTypesAreAttributesIfTheHostWants(t *testing.T) {
	t.Parallel()
	h, reader := newHost(t), sdkmetric.NewManualReader()
	var err error
	h.telemetry, err = otelwebhook.New(otelwebhook.Config{
		TracerProvider: nooptrace.NewTracerProvider(), MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), EventTypes: true,
	})
	require.NoError(t, err)
	h.metrics = reader
	h.assemble(t, h.store)
	h.publish(t.Context(), t)
	webhooktest.Drain(t, h.dispatcher, h.clock)
	got := h.collect(t)
	for _, name := range []string{
		"posthorn.attempts{posthorn.event_type=message_sent,posthorn.outcome=succeeded}",
		"posthorn.attempt.duration{posthorn.event_type=message_sent,posthorn.outcome=succeeded}",
		"posthorn.attempt.lag{posthorn.event_type=message_sent}",
	} {
		require.InDelta(t, 1, got[name], 0, name)
	}
}

// What waits is looked at with each collection.
func TestMetricsOfTheQueue(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	now := time.Now()
	stats := webhook.Stats{
		At: now, Slots: 1024, InFlight: 7, Unrecorded: 8, Slow: make([]webhook.WebhookSince, 9), Blocked: make([]webhook.WebhookSince, 10),
		LastClaim: now.Add(-3 * time.Second),
		Overview: webhook.Overview{
			Ready: 5, Waiting: 4, Leased: 3, Held: 2, OldestDue: now.Add(-time.Hour), NoticesWaiting: 6,
			Paused: true, LastPurge: now.Add(-time.Minute),
		},
	}
	var fault error
	registration, err := h.telemetry.Observe(func(context.Context) (webhook.Stats, error) { return stats, fault })
	require.NoError(t, err)
	store := map[string]float64{
		"posthorn.queue.deliveries{posthorn.queue.state=ready}": 5, "posthorn.queue.deliveries{posthorn.queue.state=waiting}": 4,
		"posthorn.queue.deliveries{posthorn.queue.state=leased}": 3, "posthorn.queue.deliveries{posthorn.queue.state=held}": 2,
		"posthorn.queue.age": 3600, "posthorn.queue.notices": 6, "posthorn.queue.paused": 1, "posthorn.retention.age": 60,
	}
	dispatcher := map[string]float64{
		"posthorn.slots.limit": 1024, "posthorn.slots.used": 7, "posthorn.attempt.unrecorded": 8,
		"posthorn.webhooks.slow": 9, "posthorn.webhooks.blocked": 10, "posthorn.claim.age": 3,
	}
	collect := func() (map[string]float64, error) {
		t.Helper()
		var rm metricdata.ResourceMetrics
		err := h.metrics.Collect(t.Context(), &rm)
		got := values(rm)
		maps.DeleteFunc(got, func(name string, _ float64) bool {
			return slices.ContainsFunc([]string{"attempts", "attempt.active", "deliveries", "publish", "claims", "releases", "deactivations", "leases", "notices", "purged", "store"}, func(s string) bool {
				return strings.HasPrefix(name, "posthorn."+s)
			})
		})
		return got, err
	}
	want := maps.Clone(store)
	maps.Copy(want, dispatcher)
	got, err := collect()
	require.NoError(t, err)
	require.Equal(t, want, got)

	// An error is the host's to hear, and no wrong number. What the dispatcher knows by itself stays.
	fault = errors.New("the database is away")
	got, err = collect()
	require.ErrorIs(t, err, fault)
	require.Equal(t, dispatcher, got)
	fault = nil

	// An empty queue is 0, also by a clock that is ahead; and there may be no dispatcher,
	// no purge yet, and nobody who says what time it is.
	stats = webhook.Stats{Overview: webhook.Overview{OldestDue: now.Add(time.Hour)}}
	got, err = collect()
	require.NoError(t, err)
	require.Equal(t, map[string]float64{
		"posthorn.queue.deliveries{posthorn.queue.state=ready}": 0, "posthorn.queue.deliveries{posthorn.queue.state=waiting}": 0,
		"posthorn.queue.deliveries{posthorn.queue.state=leased}": 0, "posthorn.queue.deliveries{posthorn.queue.state=held}": 0,
		"posthorn.queue.age": 0, "posthorn.queue.notices": 0, "posthorn.queue.paused": 0,
	}, got)

	require.NoError(t, registration.Unregister())
	got, err = collect()
	require.NoError(t, err)
	require.Empty(t, got)
	_, err = h.telemetry.Observe(nil)
	require.Error(t, err)
}

// A dispatcher's own Stats fit.
func TestMetricsOfADispatcher(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	_, err := h.telemetry.Observe(h.dispatcher.Stats)
	require.NoError(t, err)
	h.publish(t.Context(), t)
	got := h.collect(t)
	require.InDelta(t, 1, got["posthorn.queue.deliveries{posthorn.queue.state=ready}"], 0)
	require.NotContains(t, got, "posthorn.claim.age")
	h.answer = func(*http.Request) (*http.Response, error) { return status(http.StatusNotFound) }
	_, err = h.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	got = h.collect(t)
	require.InDelta(t, 0, got["posthorn.queue.deliveries{posthorn.queue.state=ready}"], 0)
	require.InDelta(t, 1, got["posthorn.queue.deliveries{posthorn.queue.state=waiting}"], 0)
	require.Contains(t, got, "posthorn.claim.age")
	require.Positive(t, got["posthorn.slots.limit"])
}

// Many goroutines at once, as a dispatcher has them; the race detector looks on.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				ctx, _ := h.telemetry.PublishStarted(t.Context(), webhook.PublishStarted{Events: 1})
				h.telemetry.Published(ctx, webhook.Publication{Results: []webhook.PublishResult{{}}})
				ctx = h.telemetry.AttemptStarted(t.Context(), webhook.AttemptStarted{})
				h.telemetry.AttemptEnded(ctx, webhook.AttemptEnded{Attempt: webhook.Attempt{Outcome: webhook.OutcomeSucceeded}})
				h.telemetry.Claimed(ctx, webhook.ClaimCall{Claims: 1})
			}
		})
	}
	wg.Wait()
	got := h.collect(t)
	require.InDelta(t, 800, got["posthorn.attempts{posthorn.outcome=succeeded}"], 0)
	require.InDelta(t, 800, got["posthorn.claims"], 0)
	require.Len(t, h.spans.GetSpans(), 1600)
}

// Measuring alone, without spans, allocates nothing besides what the context of an
// attempt takes.
func TestMeasuringAllocatesLittle(t *testing.T) { //nolint:paralleltest // allocations of other tests would count
	tel, err := otelwebhook.New(otelwebhook.Config{
		TracerProvider: nooptrace.NewTracerProvider(), MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
	})
	require.NoError(t, err)
	record := webhook.RecordCall{Finished: 100, Released: 3, Lost: 1, Duration: time.Millisecond}
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() { tel.Recorded(ctx, record) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { tel.Claimed(ctx, webhook.ClaimCall{Claims: 100}) }))
	ended := anAttempt()
	require.Zero(t, testing.AllocsPerRun(100, func() { tel.AttemptEnded(ctx, ended) }))
}

func anAttempt() webhook.AttemptEnded {
	return webhook.AttemptEnded{State: webhook.DeliverySucceeded, Lag: time.Millisecond, Attempt: webhook.Attempt{
		EventType: webhook.EventMessageSent, Number: 1, Duration: 20 * time.Millisecond, EndpointURL: endpointURL,
		Outcome: webhook.OutcomeSucceeded, StatusCode: 204,
	}}
}

// BenchmarkAttempt is what telemetry adds to an attempt, in CPU time and allocations:
// metrics alone, with spans that are not sampled, and with such that are, without export.
func BenchmarkAttempt(b *testing.B) {
	for _, mode := range []struct {
		name string
		cfg  otelwebhook.Config
	}{
		{"metrics", otelwebhook.Config{TracerProvider: nooptrace.NewTracerProvider()}},
		{"unsampled", otelwebhook.Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))}},
		{"sampled", otelwebhook.Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))}},
	} {
		b.Run(mode.name, func(b *testing.B) {
			mode.cfg.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
			tel, err := otelwebhook.New(mode.cfg)
			require.NoError(b, err)
			ctx, text := tel.PublishStarted(b.Context(), webhook.PublishStarted{Events: 1, EventType: webhook.EventMessageSent})
			tel.Published(ctx, webhook.Publication{})
			started := webhook.AttemptStarted{EventType: webhook.EventMessageSent, OrganizationID: "acme", Number: 1, EndpointURL: endpointURL, TraceContext: text}
			ended := anAttempt()
			b.ReportAllocs()
			for b.Loop() {
				tel.AttemptEnded(tel.AttemptStarted(b.Context(), started), ended)
			}
		})
	}
}
