package otelwebhook

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/webhook"
)

var (
	system        = semconv.MessagingSystemKey.String("posthorn")
	publishing    = semconv.MessagingOperationName("publish")
	publishingAs  = semconv.MessagingOperationTypeSend
	attempting    = semconv.MessagingOperationName("attempt")
	requestMethod = semconv.HTTPRequestMethodPost
)

// spanKey finds the span that a method with Started in its name has begun. The
// context's current span may be the host's: it is not ours to end.
type spanKey struct{}

// begin starts a span whose end finds it in the context.
func (t *Telemetry) begin(ctx context.Context, name string, opts ...trace.SpanStartOption) context.Context {
	ctx, span := t.tracer.Start(ctx, name, opts...)
	return context.WithValue(ctx, spanKey{}, span)
}

// begun returns the context's span, or one that does nothing.
func begun(ctx context.Context) trace.Span {
	if span, ok := ctx.Value(spanKey{}).(trace.Span); ok {
		return span
	}
	return trace.SpanFromContext(context.Background())
}

// name is "publish message_sent", or "publish" for events of several types.
func name(operation string, t webhook.EventType) string {
	if t == "" {
		return operation
	}
	return operation + " " + string(t)
}

// checked returns a text of an event that has not been validated, and nothing if it
// cannot be valid: exporters drop all spans of a batch over one that is no UTF-8.
func checked(s string) string {
	if len(s) > webhook.MaxIDBytes || strings.ToValidUTF8(s, "") != s {
		return ""
	}
	return s
}

// describe says what was wrong with a call. Of events that were refused it names the
// fields only, as an encoder's complaint may quote the payload.
func describe(err error) string {
	var faults webhook.ValidationErrors
	if !errors.As(err, &faults) {
		return strings.ToValidUTF8(err.Error(), "\uFFFD")
	}
	fields := make([]string, 0, len(faults))
	for _, f := range faults {
		fields = append(fields, f.Field)
	}
	return "refused: " + strings.Join(fields, ", ")
}

// PublishStarted begins the span of a call that publishes, whose context is stored
// with the events.
func (t *Telemetry) PublishStarted(ctx context.Context, d webhook.PublishStarted) (context.Context, string) {
	d.EventType, d.OrganizationID = webhook.EventType(checked(string(d.EventType))), checked(d.OrganizationID)
	attrs := append(make([]attribute.KeyValue, 0, 8), system, publishing, publishingAs)
	if d.EventType != "" {
		attrs = append(attrs, semconv.MessagingDestinationName(string(d.EventType)))
	}
	if d.OrganizationID != "" {
		attrs = append(attrs, keyOrganization.String(d.OrganizationID))
	}
	if d.Events != 1 {
		attrs = append(attrs, semconv.MessagingBatchMessageCount(d.Events))
	}
	ctx = t.begin(ctx, name("publish", d.EventType), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...))
	return ctx, encode(ctx)
}

// Published ends the span of a call that published.
func (t *Telemetry) Published(ctx context.Context, d webhook.Publication) {
	n := countResults(d.Results)
	t.measurePublication(ctx, &d, &n)
	span := begun(ctx)
	defer span.End()
	if !span.IsRecording() {
		return
	}
	attrs := append(make([]attribute.KeyValue, 0, 6), keyDeliveries.Int(n.deliveries))
	if n.duplicates > 0 {
		attrs = append(attrs, keyDuplicates.Int(n.duplicates))
	}
	if n.refused > 0 {
		attrs = append(attrs, keyRefused.Int(n.refused))
	}
	err := d.Err
	if len(d.Results) == 1 {
		err = d.Results[0].Err
		if err == nil {
			attrs = append(attrs, semconv.MessagingMessageID(d.Results[0].EventID.String()))
		}
	}
	if err != nil {
		attrs = append(attrs, semconv.ErrorTypeKey.String(errorType(err)))
		span.SetStatus(codes.Error, describe(err))
	}
	span.SetAttributes(attrs...)
}

// AttemptStarted begins the span of an attempt, within that of the call which
// published the event.
func (t *Telemetry) AttemptStarted(ctx context.Context, d webhook.AttemptStarted) context.Context {
	t.metrics.active.Add(ctx, 1)
	// These a sampler may look at. The others are worth their making once it has decided.
	opts := append(make([]trace.SpanStartOption, 0, 3), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		system, attempting, requestMethod, semconv.MessagingDestinationName(string(d.EventType)),
		keyOrganization.String(d.OrganizationID), keyAttempt.Int(d.Number)))
	if parent := decode(d.TraceContext); parent.IsValid() {
		// What the dispatcher runs in, if that is traced at all, did not cause the attempt.
		if around := trace.SpanContextFromContext(ctx); around.IsValid() {
			opts = append(opts, trace.WithLinks(trace.Link{SpanContext: around}))
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	ctx = t.begin(ctx, name("attempt", d.EventType), opts...)
	span := begun(ctx)
	if !span.IsRecording() {
		return ctx
	}
	attrs := append(make([]attribute.KeyValue, 0, 8),
		semconv.MessagingMessageID(d.EventID.String()), keyWebhook.String(d.WebhookID.String()), keyDelivery.String(d.DeliveryID.String()))
	if d.Number > 1 {
		attrs = append(attrs, semconv.HTTPRequestResendCount(d.Number-1))
	}
	if d.Test {
		attrs = append(attrs, keyTest.Bool(true))
	}
	span.SetAttributes(appendServer(attrs, d.EndpointURL)...)
	return ctx
}

// appendServer adds where a request goes: never the path and the query, which are
// secrets for some receivers, nor a user's name.
func appendServer(attrs []attribute.KeyValue, endpoint string) []attribute.KeyValue {
	u, err := url.Parse(endpoint)
	if err != nil {
		return attrs
	}
	port := 443
	if u.Scheme == "http" {
		port = 80
	}
	if own, err := strconv.Atoi(u.Port()); err == nil {
		port = own
	}
	return append(attrs, semconv.URLScheme(u.Scheme), semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port))
}

// AttemptEnded ends the span of an attempt.
func (t *Telemetry) AttemptEnded(ctx context.Context, d webhook.AttemptEnded) {
	t.measureAttempt(ctx, &d)
	span := begun(ctx)
	defer span.End()
	if !span.IsRecording() {
		return
	}
	a := &d.Attempt
	attrs := append(make([]attribute.KeyValue, 0, 10),
		keyOutcome.String(string(a.Outcome)), keyState.String(string(d.State)), keyLag.Float64(max(0, d.Lag.Seconds())))
	if a.StatusCode != 0 {
		attrs = append(attrs, semconv.HTTPResponseStatusCode(a.StatusCode))
	}
	if !d.DueAt.IsZero() {
		attrs = append(attrs, keyNextDue.String(d.DueAt.Format(time.RFC3339Nano)))
	}
	for _, phase := range [...]struct {
		key  attribute.Key
		took time.Duration
	}{
		{keyTimeDNS, a.Timing.DNS}, {keyTimeConnect, a.Timing.Connect}, {keyTimeTLS, a.Timing.TLS}, {keyTimeFirstByte, a.Timing.FirstByte},
	} {
		if phase.took > 0 {
			attrs = append(attrs, phase.key.Float64(phase.took.Seconds()))
		}
	}
	if a.Outcome != webhook.OutcomeSucceeded {
		kind := string(a.ErrorClass)
		if a.ErrorClass == webhook.ErrorStatus {
			kind = strconv.Itoa(a.StatusCode) // as HTTP's conventions have it
		}
		attrs = append(attrs, semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, a.Error) // which is for people outside, too
	}
	span.SetAttributes(attrs...)
}
