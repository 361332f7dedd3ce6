package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// recordingTracer keeps what it is told.
type recordingTracer struct {
	mu    sync.Mutex
	calls []string
	ended []webhook.AttemptEnded
	seen  []any // of the contexts of requests and ends
	panic bool
	trace string // what PublishStarted gives to be stored
}

type spanKey struct{}

func (r *recordingTracer) told(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	if r.panic {
		panic("no exporter")
	}
}

func (r *recordingTracer) AttemptStarted(ctx context.Context, d webhook.AttemptStarted) context.Context {
	r.told("started %d", d.Number)
	return context.WithValue(ctx, spanKey{}, d.Number)
}

func (r *recordingTracer) AttemptEnded(ctx context.Context, d webhook.AttemptEnded) {
	r.mu.Lock()
	r.ended, r.seen = append(r.ended, d), append(r.seen, ctx.Value(spanKey{}))
	r.mu.Unlock()
	r.told("ended %d %s", d.Attempt.Number, d.State)
}

func (r *recordingTracer) PublishStarted(ctx context.Context, d webhook.PublishStarted) (context.Context, string) {
	r.told("publishing %d %s %s", d.Events, d.OrganizationID, d.EventType)
	return context.WithValue(ctx, spanKey{}, "publishing"), r.trace
}

func (r *recordingTracer) Published(ctx context.Context, d webhook.Publication) {
	r.mu.Lock()
	r.seen = append(r.seen, ctx.Value(spanKey{}))
	r.mu.Unlock()
	r.told("published %d %v", len(d.Results), d.Err)
}

func (r *recordingTracer) Claimed(_ context.Context, d webhook.ClaimCall) {
	if d.Claims > 0 {
		r.told("claimed %d", d.Claims)
	}
}

func (r *recordingTracer) Recorded(_ context.Context, d webhook.RecordCall) {
	r.told("recorded %d, released %d, lost %d, %v", d.Finished, d.Released, d.Lost, d.Err)
}

func (r *recordingTracer) Settled(_ context.Context, d webhook.SettleCall) {
	if d.Settled > 0 {
		r.told("settled %d", d.Settled)
	}
}

func (r *recordingTracer) Deactivated(_ context.Context, d webhook.DeactivateCall) {
	r.told("deactivated %s %s %t %v", d.OrganizationID, d.Reason, d.Deactivated, d.Err)
}

func (r *recordingTracer) NoticePassedOn(_ context.Context, d webhook.NoticeCall) {
	r.told("notice %d %v", d.Notice.Deliveries, d.Err)
}

func (r *recordingTracer) Purged(_ context.Context, d webhook.PurgeCall) {
	r.told("purged %d, %v", d.Result.Deliveries, d.Err)
}

func TestTracerIsToldOfEverything(t *testing.T) {
	t.Parallel()
	var tr recordingTracer
	twice, err := webhook.NewSchedule(time.Minute)
	require.NoError(t, err)
	r, clock := steppedRig(t, webhook.DispatcherConfig{Tracer: &tr, Notifier: &notifier{}, Schedule: twice})
	var inRequest []any
	r.register(t, rigAdmin, "failing.example", rigRoom, func(req *http.Request) (*http.Response, error) {
		inRequest = append(inRequest, req.Context().Value(spanKey{}))
		return respond(500)
	})
	r.publish(t, "acme", rigRoom, 1)
	_, err = r.store.Claim(t.Context(), webhook.ClaimParams{Now: clock.Now(), LeaseFor: time.Second, Limit: 1}) // and never finished
	require.NoError(t, err)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, []string{
		"publishing 1 acme message_sent", "published 1 <nil>", "settled 1", "claimed 1", "started 2", "ended 2 failed",
		"recorded 1, released 0, lost 0, <nil>", "notice 1 <nil>",
	}, tr.calls)
	require.Equal(t, []any{2}, inRequest)
	require.Equal(t, []any{"publishing", 2}, tr.seen)
	require.Equal(t, 500, tr.ended[0].Attempt.StatusCode)
	require.Zero(t, tr.ended[0].Lag)
}

func TestTracerMayPanic(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r, clock := steppedRig(t, webhook.DispatcherConfig{
		Tracer: &recordingTracer{panic: true}, Logger: slog.New(slog.NewTextHandler(&log, nil)), Notifier: &notifier{}, Schedule: once(t),
	})
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 1)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, map[webhook.DeliveryState]int{webhook.DeliveryFailed: 1}, r.states(t, rigAdmin))
	require.Len(t, r.attempts(t, rigAdmin), 1)
	require.Equal(t, 7, strings.Count(log.String(), "the Tracer panicked"), "publishing, published, claimed, started, ended, recorded, notice")
}

// keptCalls keeps what it is told of claims given back and of rules applied.
type keptCalls struct {
	webhook.NopTracer
	recorded    webhook.RecordCall // the sums
	deactivates []webhook.DeactivateCall
}

func (k *keptCalls) Recorded(_ context.Context, d webhook.RecordCall) {
	k.recorded.Finished += d.Finished
	k.recorded.Released += d.Released
	k.recorded.Unopened += d.Unopened
	k.recorded.RateLimited += d.RateLimited
}

func (k *keptCalls) Deactivated(_ context.Context, d webhook.DeactivateCall) {
	d.Duration = 0
	k.deactivates = append(k.deactivates, d)
}

// The tracer learns why claims were given back: what waits for a rate limit is
// nobody's fault.
func TestTracerIsToldOfRateLimits(t *testing.T) {
	t.Parallel()
	var tr keptCalls
	r, _ := steppedRig(t, webhook.DispatcherConfig{Tracer: &tr})
	r.limit(t, r.register(t, rigAdmin, "limited.example", rigRoom, healthy), 10)
	r.publish(t, "acme", rigRoom, 5)
	_, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, webhook.RecordCall{Finished: 1, Released: 4, RateLimited: 4}, tr.recorded)
}

// And of each webhook that a rule makes inactive, or does not because the store fails.
func TestTracerIsToldOfDeactivations(t *testing.T) {
	t.Parallel()
	var tr keptCalls
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	s := &reluctant{Store: r.store}
	s.left.Store(1)
	r.wire(t, s, clock, webhook.DispatcherConfig{DeactivateOnGone: true, Tracer: &tr})
	w := r.register(t, rigAdmin, "gone.example", rigRoom, gone)
	r.publish(t, "acme", rigRoom, 3)
	_, err := r.dispatcher.RunOnce(t.Context())
	require.ErrorIs(t, err, errStore)
	_, err = r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	call := webhook.DeactivateCall{WebhookID: w.ID, OrganizationID: "acme", Reason: webhook.DeactivatedGone}
	refused, done := call, call
	refused.Err, done.Deactivated = errStore, true
	require.Equal(t, []webhook.DeactivateCall{refused, done}, tr.deactivates)
}

// A Tracer that panics keeps no rule from being applied.
func TestTracerMayPanicAtADeactivation(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r, _ := steppedRig(t, webhook.DispatcherConfig{
		Tracer: &recordingTracer{panic: true}, Logger: slog.New(slog.NewTextHandler(&log, nil)), DeactivateOnGone: true,
	})
	w := r.register(t, rigAdmin, "gone.example", rigRoom, gone)
	r.publish(t, "acme", rigRoom, 1)
	_, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, webhook.DeactivatedGone, r.webhook(t, w).DeactivatedFor)
	require.Contains(t, log.String(), "safeTracer.Deactivated")
}

var tracedEvent = webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom, Data: "hello"}

// What the tracer gives at a call of Publish comes back with each attempt, and in
// no other's.
func TestTraceContextComesBackWithAttempts(t *testing.T) {
	t.Parallel()
	twice, err := webhook.NewSchedule(time.Minute)
	require.NoError(t, err)
	tr := contextTracer{attempts: map[uuid.UUID][]string{}}
	r, clock := steppedRig(t, webhook.DispatcherConfig{Tracer: &tr, Schedule: twice})
	w := r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	want := map[uuid.UUID][]string{}
	for _, name := range []string{"a", "b", ""} {
		got, err := r.publisher.Publish(context.WithValue(t.Context(), spanKey{}, name), tracedEvent)
		require.NoError(t, err)
		want[got.EventID] = []string{name, name}
	}
	many, err := r.publisher.PublishMany(context.WithValue(t.Context(), spanKey{}, "c"), []webhook.Event{tracedEvent, tracedEvent})
	require.NoError(t, err)
	for _, got := range many {
		want[got.EventID] = []string{"c", "c"}
	}
	tx := r.store.Begin()
	inTx, err := r.publisher.PublishTx(context.WithValue(t.Context(), spanKey{}, "d"), tx, tracedEvent)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	want[inTx.EventID] = []string{"d", "d"}
	test, err := r.manager.SendTest(t.Context(), rigAdmin, w.ID, webhook.EventMessageSent)
	require.NoError(t, err)
	want[test.EventID] = []string{""}

	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, want, tr.attempts)

	page, err := r.manager.Deliveries(t.Context(), rigAdmin, webhook.DeliveryQuery{EventID: inTx.EventID})
	require.NoError(t, err)
	_, err = r.manager.Redeliver(t.Context(), rigAdmin, page.Items[0].ID)
	require.NoError(t, err)
	want[inTx.EventID] = []string{"d", "d", "d", "d"}
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, want, tr.attempts, "a redelivery's attempts too")
}

// Calls that share a commit keep each their own.
func TestTraceContextsOfCallsThatShareACommit(t *testing.T) {
	t.Parallel()
	tr := contextTracer{attempts: map[uuid.UUID][]string{}}
	r, clock := steppedRig(t, webhook.DispatcherConfig{Tracer: &tr})
	r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		want = map[uuid.UUID][]string{}
		errs []error
	)
	for i := range 32 {
		wg.Go(func() {
			name := fmt.Sprint("call ", i)
			got, err := r.publisher.Publish(context.WithValue(t.Context(), spanKey{}, name), tracedEvent)
			mu.Lock()
			defer mu.Unlock()
			want[got.EventID], errs = []string{name}, append(errs, err)
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, want, tr.attempts)
}

// A trace context that no store could keep is no reason not to publish.
func TestTraceContextHasBounds(t *testing.T) {
	t.Parallel()
	for text, kept := range map[string]bool{
		"":                           true,
		"00-0af7651916cd43dd8448-01": true,
		" ~":                         true,
		strings.Repeat("x", webhook.MaxTraceContextBytes):   true,
		strings.Repeat("x", webhook.MaxTraceContextBytes+1): false,
		"a\x00b": false, "a\nb": false, "\x7f": false, "é": false, "\xff": false,
	} {
		var log bytes.Buffer
		tr := contextTracer{attempts: map[uuid.UUID][]string{}}
		r, clock := steppedRig(t, webhook.DispatcherConfig{
			Tracer: &tr, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		got, err := r.publisher.Publish(context.WithValue(t.Context(), spanKey{}, text), tracedEvent)
		require.NoError(t, err)
		webhooktest.Drain(t, r.dispatcher, clock)
		want := ""
		if kept {
			want = text
		}
		require.Equal(t, []string{want}, tr.attempts[got.EventID], "%q", text)
		require.Equal(t, !kept, strings.Contains(log.String(), "a trace context is not kept"), "%q", text)
	}
}

// contextTracer wants the context's value to be stored, and keeps what comes back.
type contextTracer struct {
	webhook.NopTracer
	mu       sync.Mutex
	attempts map[uuid.UUID][]string // by event
}

func (*contextTracer) PublishStarted(ctx context.Context, _ webhook.PublishStarted) (context.Context, string) {
	name, _ := ctx.Value(spanKey{}).(string)
	return ctx, name
}

func (c *contextTracer) AttemptStarted(ctx context.Context, d webhook.AttemptStarted) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts[d.EventID] = append(c.attempts[d.EventID], d.TraceContext)
	return ctx
}

// NopTracer has every method, so that embedding it suffices.
func TestNopTracerDoesNothing(t *testing.T) {
	t.Parallel()
	v := reflect.ValueOf(webhook.NopTracer{})
	for i := range v.NumMethod() {
		m := v.Method(i)
		args := []reflect.Value{reflect.ValueOf(t.Context()), reflect.Zero(m.Type().In(1))}
		for i, out := range m.Call(args) {
			require.Equal(t, []any{t.Context(), ""}[i], out.Interface())
		}
	}
}

func TestLogNotifierWritesOneLine(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r, clock := steppedRig(t, webhook.DispatcherConfig{
		Notifier: webhook.NewLogNotifier(slog.New(slog.NewTextHandler(&log, nil))), Schedule: once(t),
	})
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 3)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	for _, want := range []string{"level=WARN", "kind=exhausted", "organization_id=acme", "endpoint_host=failing.example", "deliveries=3", "last_status_code=500"} {
		require.Contains(t, log.String(), want)
	}

	// One of a deactivation says why, and nothing of deliveries if there are none.
	log.Reset()
	require.NoError(t, webhook.NewLogNotifier(slog.New(slog.NewTextHandler(&log, nil))).Notify(t.Context(), webhook.Notice{
		Kind: webhook.NoticeDeactivated, Reason: webhook.DeactivatedFailing, DeactivatedAt: clock.Now(), FailingSince: clock.Now(),
	}))
	for _, want := range []string{"a webhook was made inactive", "kind=deactivated", "reason=failing", "deactivated_at=", "failing_since=", "deliveries=0"} {
		require.Contains(t, log.String(), want)
	}
	require.NotContains(t, log.String(), "last_")
	require.NoError(t, webhook.NewLogNotifier(nil).Notify(t.Context(), webhook.Notice{}))
}
