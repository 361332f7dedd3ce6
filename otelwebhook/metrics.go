package otelwebhook

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/posthorn/webhook"
)

// The buckets of the histograms, in seconds. Those of attempts are what HTTP's
// conventions advise, and one for what runs into the timeout of 15 s.
var (
	attemptBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 30}
	lagBuckets     = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}
	storeBuckets   = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}
)

// instruments are the metrics of what is done. Those of what waits are in queue.go.
type instruments struct {
	active             metric.Int64UpDownCounter
	duration, lag      metric.Float64Histogram
	store              metric.Float64Histogram
	attempts, finished metric.Int64Counter
	events, deliveries metric.Int64Counter
	claimed, released  metric.Int64Counter
	lost, settled      metric.Int64Counter
	notices, purged    metric.Int64Counter
	deactivated        metric.Int64Counter
}

// instrument makes the instruments.
func (t *Telemetry) instrument() error {
	var errs []error
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := t.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	histogram := func(name, description string, buckets []float64) metric.Float64Histogram {
		h, err := t.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		return h
	}
	m := &t.metrics
	m.attempts = counter("posthorn.attempts", "{attempt}", "Attempts that have ended.")
	m.duration = histogram("posthorn.attempt.duration", "How long attempts took, from their start to the last byte kept of the answer.", attemptBuckets)
	m.lag = histogram("posthorn.attempt.lag", "How long attempts had been due when they began.", lagBuckets)
	m.finished = counter("posthorn.deliveries.finished", "{delivery}", "Deliveries that an attempt has finished: it succeeded, or was the last one.")
	m.events = counter("posthorn.publish.events", "{event}", "Events given to the Publisher.")
	m.deliveries = counter("posthorn.publish.deliveries", "{delivery}", "Deliveries that published events have led to.")
	m.store = histogram("posthorn.store.duration", "How long calls of the store took. A call of Publish counts as one, with all that it waited for.", storeBuckets)
	m.claimed = counter("posthorn.claims", "{delivery}", "Deliveries claimed from the store. What went to a slot right when it was published is not among them.")
	m.released = counter("posthorn.releases", "{delivery}", "Claims given back without an attempt.")
	m.lost = counter("posthorn.leases.lost", "{lease}", "Attempts that were reported after their lease had been lost.")
	m.settled = counter("posthorn.leases.settled", "{lease}", "Leases that ran out, whose attempts are logged as interrupted.")
	m.deactivated = counter("posthorn.deactivations", "{webhook}", "Webhooks that a rule has made inactive.")
	m.notices = counter("posthorn.notices", "{notice}", "Calls of the Notifier.")
	m.purged = counter("posthorn.purged", "{record}", "Records that retention has deleted, and held deliveries that it has cancelled.")
	var err error
	m.active, err = t.meter.Int64UpDownCounter("posthorn.attempt.active", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts in flight in this process."))
	if err := errors.Join(append(errs, err, t.instrumentQueue())...); err != nil {
		return err
	}
	t.startAtZero()
	return nil
}

// startAtZero gives counters a 0 to begin with. The first lost lease is otherwise the first
// value of its series, and no increase of anything.
func (t *Telemetry) startAtZero() {
	m, ctx := &t.metrics, context.Background()
	zero := func(c metric.Int64Counter, keys *[4]attribute.Key, values ...string) {
		c.Add(ctx, 0, t.sets.of(keys, values...).add...)
	}
	for _, c := range []metric.Int64Counter{m.deliveries, m.claimed, m.lost, m.settled} {
		zero(c, noKeys)
	}
	m.active.Add(ctx, 0)
	for _, result := range []string{resultDelivering, resultUnmatched, resultDuplicate, resultRefused} {
		zero(m.events, resultKeys, result)
	}
	for _, reason := range []string{reasonUnopened, reasonRateLimited, reasonUnstarted} {
		zero(m.released, reasonKeys, reason)
	}
	for _, reason := range []webhook.DeactivationReason{webhook.DeactivatedFailing, webhook.DeactivatedGone} {
		zero(m.deactivated, reasonKeys, string(reason))
	}
	for _, record := range []string{recordPayload, recordAttempt, recordDelivery, recordEvent, recordHeld} {
		zero(m.purged, recordKeys, record)
	}
	for _, state := range []webhook.DeliveryState{webhook.DeliverySucceeded, webhook.DeliveryFailed} {
		zero(m.finished, stateKeys, string(state))
	}
	for _, kind := range []webhook.NoticeKind{webhook.NoticeExhausted, webhook.NoticeDeactivated} {
		for _, result := range []string{resultSent, resultFailed, resultUnknown} {
			zero(m.notices, noticeKeys, string(kind), result)
		}
	}
	if t.eventTypes { // which are not known
		return
	}
	zero(m.attempts, attemptKeys, string(webhook.OutcomeSucceeded))
	zero(m.attempts, attemptKeys, string(webhook.OutcomeInterrupted), string(webhook.ErrorInterrupted))
	for _, kind := range []string{
		"3xx", "4xx", "5xx", string(webhook.ErrorTimeout), string(webhook.ErrorDNS), string(webhook.ErrorConnect), string(webhook.ErrorTLS),
		string(webhook.ErrorDestination), string(webhook.ErrorProtocol), string(webhook.ErrorInternal),
	} {
		zero(m.attempts, attemptKeys, string(webhook.OutcomeFailed), kind)
	}
}

// What the attributes of counters say.
const (
	resultDelivering, resultUnmatched, resultDuplicate, resultRefused = "delivering", "unmatched", "duplicate", "refused"
	resultSent, resultFailed, resultUnknown                           = "sent", "failed", "unknown"

	reasonUnopened, reasonRateLimited, reasonUnstarted                    = "unopened", "rate_limited", "unstarted"
	recordPayload, recordAttempt, recordDelivery, recordEvent, recordHeld = "payload", "attempt", "delivery", "event", "held"
)

// attributeSets keeps the sets that have been used, as options, so that measuring
// builds none. There are as many as combinations of values, which are few.
type attributeSets struct {
	mu    sync.RWMutex
	known map[setKey]*options
}

// setKey is what tells sets apart: the values of up to four keys.
type setKey struct {
	keys   *[4]attribute.Key
	values [4]string
}

// options are a set as both kinds of instruments want it.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

// of returns the set of the keys' values. Empty values are left out.
func (s *attributeSets) of(keys *[4]attribute.Key, values ...string) *options {
	k := setKey{keys: keys}
	copy(k.values[:], values)
	s.mu.RLock()
	o := s.known[k]
	s.mu.RUnlock()
	if o != nil {
		return o
	}
	var attrs []attribute.KeyValue
	for i, v := range k.values {
		if v != "" {
			attrs = append(attrs, keys[i].String(v))
		}
	}
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	o = &options{[]metric.AddOption{set}, []metric.RecordOption{set}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[setKey]*options{}
	}
	s.known[k] = o
	return o
}

// The attributes of the metrics.
var (
	noKeys       = &[4]attribute.Key{}
	attemptKeys  = &[4]attribute.Key{keyOutcome, semconv.ErrorTypeKey, keyEventType}
	stateKeys    = &[4]attribute.Key{keyState}
	durationKeys = &[4]attribute.Key{keyOutcome, keyEventType}
	lagKeys      = &[4]attribute.Key{keyEventType}
	storeKeys    = &[4]attribute.Key{keyOperation, semconv.ErrorTypeKey}
	resultKeys   = &[4]attribute.Key{keyResult}
	reasonKeys   = &[4]attribute.Key{keyReason}
	noticeKeys   = &[4]attribute.Key{keyNoticeKind, keyResult}
	recordKeys   = &[4]attribute.Key{keyRecord}
)

func (t *Telemetry) measureAttempt(ctx context.Context, d *webhook.AttemptEnded) {
	a := &d.Attempt
	eventType := ""
	if t.eventTypes {
		eventType = string(a.EventType)
	}
	outcome, kind := string(a.Outcome), ""
	if a.Outcome != webhook.OutcomeSucceeded {
		kind = attemptError(a)
	}
	m := &t.metrics
	m.active.Add(ctx, -1)
	m.attempts.Add(ctx, 1, t.sets.of(attemptKeys, outcome, kind, eventType).add...)
	if d.State != webhook.DeliveryPending {
		t.add(ctx, m.finished, 1, stateKeys, string(d.State))
	}
	m.duration.Record(ctx, a.Duration.Seconds(), t.sets.of(durationKeys, outcome, eventType).record...)
	m.lag.Record(ctx, max(0, d.Lag.Seconds()), t.sets.of(lagKeys, eventType).record...) // below 0 if clocks differ
}

// measureStore counts a call of the store by its duration.
func (t *Telemetry) measureStore(ctx context.Context, operation string, took time.Duration, err error) {
	t.metrics.store.Record(ctx, took.Seconds(), t.sets.of(storeKeys, operation, errorType(err)).record...)
}

// published counts what became of events.
type published struct {
	delivering, unmatched, duplicates, refused, deliveries int
}

func countResults(results []webhook.PublishResult) (n published) {
	for i := range results {
		switch r := &results[i]; {
		case r.Err != nil:
			n.refused++
		case r.Duplicate:
			n.duplicates++
		case r.Deliveries == 0:
			n.unmatched++
		default:
			n.delivering++
			n.deliveries += r.Deliveries
		}
	}
	return n
}

func (t *Telemetry) measurePublication(ctx context.Context, d *webhook.Publication, n *published) {
	for _, r := range [...]struct {
		result string
		n      int
	}{
		{resultDelivering, n.delivering}, {resultUnmatched, n.unmatched}, {resultDuplicate, n.duplicates}, {resultRefused, n.refused},
	} {
		t.add(ctx, t.metrics.events, r.n, resultKeys, r.result)
	}
	t.add(ctx, t.metrics.deliveries, n.deliveries, noKeys)
	t.measureStore(ctx, "publish", d.Duration, d.Err)
}

// add counts n, and nothing at all if that is 0.
func (t *Telemetry) add(ctx context.Context, c metric.Int64Counter, n int, keys *[4]attribute.Key, values ...string) {
	if n > 0 {
		c.Add(ctx, int64(n), t.sets.of(keys, values...).add...)
	}
}

// Claimed counts a claim.
func (t *Telemetry) Claimed(ctx context.Context, d webhook.ClaimCall) {
	t.measureStore(ctx, "claim", d.Duration, d.Err)
	t.add(ctx, t.metrics.claimed, d.Claims, noKeys)
}

// Recorded counts outcomes that were written.
func (t *Telemetry) Recorded(ctx context.Context, d webhook.RecordCall) {
	t.measureStore(ctx, "record", d.Duration, d.Err)
	t.add(ctx, t.metrics.lost, d.Lost, noKeys)
	t.add(ctx, t.metrics.released, d.Unopened, reasonKeys, reasonUnopened)
	t.add(ctx, t.metrics.released, d.RateLimited, reasonKeys, reasonRateLimited)
	t.add(ctx, t.metrics.released, d.Released-d.Unopened-d.RateLimited, reasonKeys, reasonUnstarted)
}

// Settled counts leases that ran out.
func (t *Telemetry) Settled(ctx context.Context, d webhook.SettleCall) {
	t.measureStore(ctx, "settle", d.Duration, d.Err)
	t.add(ctx, t.metrics.settled, d.Settled, noKeys)
}

// Deactivated counts a webhook that a rule has made inactive.
func (t *Telemetry) Deactivated(ctx context.Context, d webhook.DeactivateCall) {
	t.measureStore(ctx, "deactivate", d.Duration, d.Err)
	if d.Deactivated {
		t.add(ctx, t.metrics.deactivated, 1, reasonKeys, string(d.Reason))
	}
}

// NoticePassedOn counts a call of the Notifier.
func (t *Telemetry) NoticePassedOn(ctx context.Context, d webhook.NoticeCall) {
	result := resultSent
	switch {
	case errors.Is(d.Err, webhook.ErrOutcomeUnknown):
		result = resultUnknown
	case d.Err != nil:
		result = resultFailed
	}
	t.add(ctx, t.metrics.notices, 1, noticeKeys, string(d.Notice.Kind), result)
}

// Purged counts what retention did.
func (t *Telemetry) Purged(ctx context.Context, d webhook.PurgeCall) {
	t.measureStore(ctx, "purge", d.Duration, d.Err)
	for _, r := range [...]struct {
		record string
		n      int
	}{
		{recordPayload, d.Result.Payloads}, {recordAttempt, d.Result.Attempts}, {recordDelivery, d.Result.Deliveries},
		{recordEvent, d.Result.Events}, {recordHeld, d.Result.HeldCancelled},
	} {
		t.add(ctx, t.metrics.purged, r.n, recordKeys, r.record)
	}
}
