package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Tracer is told of what a [Dispatcher] and its Publisher do, for spans and
// metrics. Its methods are called by many goroutines at once, on the path of
// deliveries: they must be quick and must not block. A panic in one of them is
// logged and changes nothing else.
//
// Embed [NopTracer], so that methods which are added later break nothing.
type Tracer interface {
	// AttemptStarted is called before a request is built; the request and
	// AttemptEnded see the values of the context that it returns. An attempt that a
	// panic of the Logger or the Clock breaks off has no end.
	AttemptStarted(ctx context.Context, d AttemptStarted) context.Context
	AttemptEnded(ctx context.Context, d AttemptEnded)

	// PublishStarted is called when Publish, PublishMany or PublishTx begins; the
	// store and Published see the values of the context that it returns. The text
	// is stored with the call's events and comes back in AttemptStarted, be it days
	// later and in another process: printable ASCII, at most MaxTraceContextBytes.
	// Any other is dropped, with a line in the log at level Debug.
	PublishStarted(ctx context.Context, d PublishStarted) (out context.Context, traceContext string)
	Published(ctx context.Context, d Publication) // the call has ended

	Claimed(ctx context.Context, d ClaimCall)          // deliveries have been claimed, perhaps none
	Recorded(ctx context.Context, d RecordCall)        // outcomes have been written
	Settled(ctx context.Context, d SettleCall)         // leases that ran out have been dealt with
	Deactivated(ctx context.Context, d DeactivateCall) // a rule has been applied to a webhook
	NoticePassedOn(ctx context.Context, d NoticeCall)  // the Notifier has been called
	Purged(ctx context.Context, d PurgeCall)           // what was old has been deleted, perhaps nothing
}

// AttemptStarted describes an attempt that begins.
type AttemptStarted struct {
	DeliveryID     uuid.UUID
	EventID        uuid.UUID
	WebhookID      uuid.UUID
	OrganizationID string
	EventType      EventType
	Number         int // from 1
	DueAt          time.Time
	EndpointURL    string // may hold secrets in its path and query: not for telemetry as a whole
	Test           bool
	TraceContext   string // what PublishStarted gave when the event was published; empty if nothing
}

// AttemptEnded describes an attempt that has ended.
type AttemptEnded struct {
	Attempt Attempt
	State   DeliveryState // what follows, unless it was decided otherwise meanwhile
	DueAt   time.Time     // of the next attempt, if pending
	Lag     time.Duration // from when it was due to its start
}

// PublishStarted describes a call that is about to publish events, which have not
// been validated.
type PublishStarted struct {
	Events         int
	OrganizationID string    // empty if they are not all of one
	EventType      EventType // empty if they are not all of one
}

// Publication describes a call that published events.
type Publication struct {
	Results  []PublishResult
	Duration time.Duration
	Err      error // the store's
}

// ClaimCall describes a claim.
type ClaimCall struct {
	Claims   int
	NextDue  time.Time
	Duration time.Duration
	Err      error
}

// RecordCall describes outcomes that were written to the store, or were not.
type RecordCall struct {
	Finished, Released int
	Lost               int // of those finished, the ones whose lease had been lost
	Unopened           int // of those released, the ones whose secret did not open
	RateLimited        int // of those released, the ones that have to wait for their webhook's rate limit
	Duration           time.Duration
	Err                error
}

// SettleCall describes a settlement.
type SettleCall struct {
	Settled  int
	Duration time.Duration
	Err      error
}

// DeactivateCall describes a rule that was applied to a webhook, which is inactive now
// unless the rule did not hold any more.
type DeactivateCall struct {
	WebhookID      uuid.UUID
	OrganizationID string
	Reason         DeactivationReason
	Deactivated    bool
	Duration       time.Duration
	Err            error
}

// NoticeCall describes a call of the Notifier.
type NoticeCall struct {
	Notice   Notice
	Attempt  int // from 1
	Duration time.Duration
	Err      error
}

// PurgeCall describes a batch of retention.
type PurgeCall struct {
	Result   PurgeResult
	Duration time.Duration
	Err      error
}

// NopTracer is a [Tracer] that does nothing.
type NopTracer struct{}

// AttemptStarted returns ctx.
func (NopTracer) AttemptStarted(ctx context.Context, _ AttemptStarted) context.Context { return ctx }

// AttemptEnded does nothing.
func (NopTracer) AttemptEnded(context.Context, AttemptEnded) {}

// PublishStarted returns ctx, and nothing to be stored.
func (NopTracer) PublishStarted(ctx context.Context, _ PublishStarted) (context.Context, string) {
	return ctx, ""
}

// Published does nothing.
func (NopTracer) Published(context.Context, Publication) {}

// Claimed does nothing.
func (NopTracer) Claimed(context.Context, ClaimCall) {}

// Recorded does nothing.
func (NopTracer) Recorded(context.Context, RecordCall) {}

// Settled does nothing.
func (NopTracer) Settled(context.Context, SettleCall) {}

// Deactivated does nothing.
func (NopTracer) Deactivated(context.Context, DeactivateCall) {}

// NoticePassedOn does nothing.
func (NopTracer) NoticePassedOn(context.Context, NoticeCall) {}

// Purged does nothing.
func (NopTracer) Purged(context.Context, PurgeCall) {}

// safeTracer keeps the panics of a host's tracer from doing harm.
type safeTracer struct {
	tracer Tracer
	log    *slog.Logger
}

// tracerOrNop returns a tracer that can be called without care.
func tracerOrNop(t Tracer, log *slog.Logger) Tracer {
	if t == nil {
		return NopTracer{}
	}
	return safeTracer{t, loggerOrSilent(log)}
}

func (t safeTracer) contain() {
	if p := recover(); p != nil {
		t.log.Error("webhook: the Tracer panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

func (t safeTracer) AttemptStarted(ctx context.Context, d AttemptStarted) (out context.Context) {
	out = ctx
	defer t.contain()
	if values := t.tracer.AttemptStarted(ctx, d); values != nil {
		out = tracedContext{ctx, values}
	}
	return out
}

// tracedContext takes values from the tracer's context, and everything else from
// the attempt's: no tracer keeps an attempt from being ended.
type tracedContext struct {
	context.Context //nolint:containedctx // it is one
	values          context.Context
}

func (c tracedContext) Value(key any) any { return c.values.Value(key) }

func (t safeTracer) AttemptEnded(ctx context.Context, d AttemptEnded) {
	defer t.contain()
	t.tracer.AttemptEnded(ctx, d)
}

func (t safeTracer) PublishStarted(ctx context.Context, d PublishStarted) (out context.Context, traceContext string) {
	out = ctx
	defer t.contain()
	values, traceContext := t.tracer.PublishStarted(ctx, d)
	if values != nil {
		out = tracedContext{ctx, values}
	}
	if len(traceContext) > MaxTraceContextBytes || strings.ContainsFunc(traceContext, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.log.Debug("webhook: a trace context is not kept: it must be printable ASCII of limited length", "bytes", len(traceContext), "max", MaxTraceContextBytes)
		return out, ""
	}
	return out, traceContext
}

func (t safeTracer) Published(ctx context.Context, d Publication) {
	defer t.contain()
	d.Results = slices.Clone(d.Results)
	t.tracer.Published(ctx, d)
}

func (t safeTracer) Claimed(ctx context.Context, d ClaimCall) {
	defer t.contain()
	t.tracer.Claimed(ctx, d)
}

func (t safeTracer) Recorded(ctx context.Context, d RecordCall) {
	defer t.contain()
	t.tracer.Recorded(ctx, d)
}

func (t safeTracer) Settled(ctx context.Context, d SettleCall) {
	defer t.contain()
	t.tracer.Settled(ctx, d)
}

func (t safeTracer) Deactivated(ctx context.Context, d DeactivateCall) {
	defer t.contain()
	t.tracer.Deactivated(ctx, d)
}

func (t safeTracer) NoticePassedOn(ctx context.Context, d NoticeCall) {
	defer t.contain()
	t.tracer.NoticePassedOn(ctx, d)
}

func (t safeTracer) Purged(ctx context.Context, d PurgeCall) {
	defer t.contain()
	t.tracer.Purged(ctx, d)
}
