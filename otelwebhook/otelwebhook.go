// Package otelwebhook reports what a [webhook.Dispatcher] and its Publisher do to
// OpenTelemetry, as spans and as metrics.
//
//	telemetry, err := otelwebhook.New(otelwebhook.Config{})
//	…
//	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Tracer: telemetry})
//
// docs/telemetry.md has every span, attribute and metric, and alerts that are worth
// having.
//
// # Spans
//
// A call of Publish, PublishMany or PublishTx is a span within that of its context.
// Its own context is stored with the events, so that each attempt is a child of the
// call that published the event, in whatever process and however much later it is
// made. What is sampled is decided where a trace begins, if the TracerProvider's sampler goes
// by the parent, as the SDK's default does.
//
// Nothing of it is sent to receivers: a traceparent header would tell them about the
// inside of the host. A host that wants them to have it gives
// [webhook.DispatcherConfig] an HTTPDoer that adds it.
//
// # Metrics
//
// Their attributes have few values: outcomes, classes of errors, states. Webhooks and
// organizations are attributes of spans only, because each value of a metric's
// attribute is a time series of its own.
package otelwebhook

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/webhook"
)

// scope is the name under which spans and metrics are reported.
const scope = "github.com/posthorn/webhook/otelwebhook"

// Config configures [New]. The zero value works.
type Config struct {
	// TracerProvider makes the spans. Defaults to OpenTelemetry's global one.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the metrics. Defaults to OpenTelemetry's global one. What is
	// set as the global one after New misses the zeros that counters begin with.
	MeterProvider metric.MeterProvider

	// EventTypes adds the event type to the metrics of attempts, which multiplies
	// their time series by the number of types. Defaults to false.
	EventTypes bool
}

// Telemetry is a [webhook.Tracer] that reports to OpenTelemetry. It is safe for
// concurrent use. One can serve several dispatchers and publishers of a process.
type Telemetry struct {
	webhook.NopTracer // for methods that are added later

	tracer     trace.Tracer
	meter      metric.Meter
	eventTypes bool
	metrics    instruments
	queue      queueInstruments
	sets       attributeSets
}

var _ webhook.Tracer = (*Telemetry)(nil)

// New makes the instruments. It fails if the MeterProvider refuses one.
func New(cfg Config) (*Telemetry, error) {
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	t := &Telemetry{
		tracer:     cfg.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		meter:      cfg.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)),
		eventTypes: cfg.EventTypes,
	}
	if err := t.instrument(); err != nil {
		return nil, fmt.Errorf("otelwebhook: new: %w", err)
	}
	return t, nil
}

// Attributes of this library's own, where the conventions have none.
const (
	keyOutcome       = attribute.Key("posthorn.outcome")
	keyState         = attribute.Key("posthorn.delivery.state")
	keyOperation     = attribute.Key("posthorn.operation")
	keyResult        = attribute.Key("posthorn.result")
	keyReason        = attribute.Key("posthorn.reason")
	keyNoticeKind    = attribute.Key("posthorn.notice.kind")
	keyRecord        = attribute.Key("posthorn.record")
	keyEventType     = attribute.Key("posthorn.event_type")
	keyOrganization  = attribute.Key("posthorn.organization.id")
	keyWebhook       = attribute.Key("posthorn.webhook.id")
	keyDelivery      = attribute.Key("posthorn.delivery.id")
	keyAttempt       = attribute.Key("posthorn.attempt.number")
	keyLag           = attribute.Key("posthorn.attempt.lag")
	keyNextDue       = attribute.Key("posthorn.delivery.next_due_at")
	keyTest          = attribute.Key("posthorn.test")
	keyDeliveries    = attribute.Key("posthorn.deliveries")
	keyDuplicates    = attribute.Key("posthorn.duplicates")
	keyRefused       = attribute.Key("posthorn.refused")
	keyTimeDNS       = attribute.Key("posthorn.timing.dns")
	keyTimeConnect   = attribute.Key("posthorn.timing.connect")
	keyTimeTLS       = attribute.Key("posthorn.timing.tls")
	keyTimeFirstByte = attribute.Key("posthorn.timing.first_byte")
)

// errorType is error.type of a call: a few words, which do not depend on the store.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	var faults webhook.ValidationErrors
	switch {
	case errors.As(err, &faults):
		return "validation"
	case errors.Is(err, webhook.ErrConflict):
		return "conflict"
	case errors.Is(err, webhook.ErrNotFound):
		return "not_found"
	case errors.Is(err, webhook.ErrOutcomeUnknown):
		return "outcome_unknown"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	default:
		return semconv.ErrorTypeOther.Value.AsString()
	}
}

// attemptError is error.type of an attempt as a metric has it: receivers choose the
// status, so that only its hundreds are told apart.
func attemptError(a *webhook.Attempt) string {
	if a.ErrorClass != webhook.ErrorStatus {
		return string(a.ErrorClass)
	}
	switch a.StatusCode / 100 {
	case 1:
		return "1xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	case 5:
		return "5xx"
	default:
		return "status"
	}
}
