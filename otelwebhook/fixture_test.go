package otelwebhook_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/otelwebhook"
	"github.com/posthorn/webhook/webhooktest"
)

var (
	admin = webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "0b1d4b5e-52a3-4d8e-9a3c-6d0f4d2c7a9b"}
)

// secretParts are in the endpoint's URL and in the payload, and must not be in any
// telemetry.
const (
	endpointURL = "https://receiver.example.com:8443/path-6b2f?key=query-6b2f"
	secretPart  = "6b2f"
	payloadPart = "text of a person"
)

// host is a program with telemetry, whose endpoint answers by a function.
type host struct {
	store     *memstore.Store
	clock     *webhooktest.Clock
	telemetry *otelwebhook.Telemetry
	spans     *tracetest.InMemoryExporter
	provider  *sdktrace.TracerProvider
	metrics   *sdkmetric.ManualReader
	answer    func(*http.Request) (*http.Response, error)

	dispatcher *webhook.Dispatcher
	publisher  *webhook.Publisher
	manager    *webhook.Manager
	secret     webhook.Secret
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func status(code int) (*http.Response, error) {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("thanks"))}, nil
}

// newHost returns one whose endpoint answers 204.
func newHost(t testing.TB, edits ...func(*webhook.DispatcherConfig)) *host {
	t.Helper()
	h := &host{
		store: memstore.New(), clock: &webhooktest.Clock{}, spans: tracetest.NewInMemoryExporter(), metrics: sdkmetric.NewManualReader(),
		answer: func(*http.Request) (*http.Response, error) { return status(http.StatusNoContent) },
	}
	h.provider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(h.spans))
	var err error
	h.telemetry, err = otelwebhook.New(otelwebhook.Config{
		TracerProvider: h.provider, MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(h.metrics)),
	})
	require.NoError(t, err)
	h.assemble(t, h.store, edits...)
	w, secret, err := h.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Archive", EndpointURL: endpointURL,
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	require.Equal(t, webhook.StatusActive, w.Status)
	h.secret = secret
	return h
}

// assemble makes the parts on a store, as another process would.
func (h *host) assemble(t testing.TB, s webhook.Store, edits ...func(*webhook.DispatcherConfig)) {
	t.Helper()
	twice, err := webhook.NewSchedule(time.Minute)
	require.NoError(t, err)
	cfg := webhook.DispatcherConfig{
		Clock: h.clock, Tracer: h.telemetry, Schedule: twice,
		HTTPDoer: doer(func(r *http.Request) (*http.Response, error) { return h.answer(r) }),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	h.dispatcher, err = webhook.NewDispatcher(s, cfg)
	require.NoError(t, err)
	h.publisher, err = webhook.NewPublisher(s, webhook.PublisherConfig{Clock: h.clock, Tracer: h.telemetry})
	require.NoError(t, err)
	h.manager, err = webhook.NewManager(s, webhook.ManagerConfig{Clock: h.clock})
	require.NoError(t, err)
}

func message() webhook.Event {
	return webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: map[string]string{"text": payloadPart},
	}
}

func (h *host) publish(ctx context.Context, t testing.TB) webhook.Published {
	t.Helper()
	got, err := h.publisher.Publish(ctx, message())
	require.NoError(t, err)
	require.Equal(t, 1, got.Deliveries)
	return got
}

// span returns the only span of a name.
func (h *host) span(t testing.TB, name string) tracetest.SpanStub {
	t.Helper()
	found := h.named(name)
	require.Len(t, found, 1, name)
	return found[0]
}

func (h *host) named(name string) []tracetest.SpanStub {
	var found []tracetest.SpanStub
	for _, s := range h.spans.GetSpans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// attrs are a span's attributes as text.
func attrs(s tracetest.SpanStub) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		out[string(a.Key)] = a.Value.String()
	}
	return out
}

// collect returns the metrics' points by name and attributes: counts of histograms,
// and values of others.
func (h *host) collect(t testing.TB) map[string]float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(t, h.metrics.Collect(t.Context(), &rm))
	require.Len(t, rm.ScopeMetrics, 1)
	require.Equal(t, "github.com/posthorn/webhook/otelwebhook", rm.ScopeMetrics[0].Scope.Name)
	return values(rm)
}

func values(rm metricdata.ResourceMetrics) map[string]float64 {
	out := map[string]float64{}
	for _, s := range rm.ScopeMetrics {
		for _, m := range s.Metrics {
			points(m, func(attrs string, v float64) { out[m.Name+attrs] = v })
		}
	}
	return out
}

// labels are attributes as "{key=value,…}", or nothing.
func labels(set attribute.Set) string {
	if set.Len() == 0 {
		return ""
	}
	return "{" + set.Encoded(attribute.DefaultEncoder()) + "}"
}

func points(m metricdata.Metrics, point func(attrs string, v float64)) {
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			point(labels(p.Attributes), float64(p.Value))
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			point(labels(p.Attributes), p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			point(labels(p.Attributes), float64(p.Count))
		}
	}
}

// spanOfLog is a handler that keeps in which span the lines of attempts are written.
type spanOfLog struct {
	slog.Handler
	mu    sync.Mutex
	spans []trace.SpanContext
}

func (h *spanOfLog) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Message == "webhook: attempt" {
		h.spans = append(h.spans, trace.SpanContextFromContext(ctx))
	}
	return nil
}
