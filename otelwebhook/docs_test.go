package otelwebhook_test

import (
	"context"
	"errors"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/otelwebhook"
	"github.com/posthorn/webhook/webhooktest"
)

// doc is docs/telemetry.md.
func doc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/telemetry.md")
	require.NoError(t, err)
	return string(text)
}

// table returns the rows of the table whose header begins like this.
func table(t *testing.T, header string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(doc(t), "\n| "+header+" |")
	require.True(t, found, header)
	var rows [][]string
	for i, line := range strings.Split(rest, "\n") {
		if i < 2 { // the rest of the header, and the rule below it
			continue
		}
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	require.NotEmpty(t, rows)
	return rows
}

var quoted = regexp.MustCompile("`([^`]+)`")

func words(cell string) (out []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// wired is what the documentation shows first.
func wired(store *memstore.Store, logger *slog.Logger) error {
	telemetry, err := otelwebhook.New(otelwebhook.Config{}) // the global providers
	if err != nil {
		return err
	}
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Tracer: telemetry, Logger: logger})
	if err != nil {
		return err
	}
	// The Publisher reports to the Tracer of its Dispatcher, or to one of its own.
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
	if err != nil {
		return err
	}
	// What waits is looked at whenever metrics are collected.
	registration, err := telemetry.Observe(disp.Stats)
	if err != nil {
		return err
	}
	if pub == nil {
		return errors.New("no publisher")
	}
	return registration.Unregister()
}

// tracedClient tells receivers in which trace a request was made.
type tracedClient struct{ client webhook.HTTPDoer }

func (c tracedClient) Do(r *http.Request) (*http.Response, error) {
	propagation.TraceContext{}.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
	return c.client.Do(r)
}

func TestTheDocumentsCodeCompiles(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("docs_test.go")
	require.NoError(t, err)
	unindented := strings.ReplaceAll(string(source), "\n\t", "\n")
	blocks := strings.Split(doc(t), "```go\n")[1:]
	require.Len(t, blocks, 2)
	for _, b := range blocks {
		b, _, _ = strings.Cut(b, "```")
		require.True(t, strings.Contains(string(source), b) || strings.Contains(unindented, b), "%s", b)
	}
	require.NoError(t, wired(memstore.New(), nil))
}

// Who wants receivers to have the trace context wraps the client.
func TestAHostMayTellReceivers(t *testing.T) {
	t.Parallel()
	var header string
	h := newHost(t, func(cfg *webhook.DispatcherConfig) { cfg.HTTPDoer = tracedClient{cfg.HTTPDoer} })
	h.answer = func(r *http.Request) (*http.Response, error) {
		header = r.Header.Get("Traceparent")
		return status(http.StatusOK)
	}
	h.publish(t.Context(), t)
	webhooktest.Drain(t, h.dispatcher, h.clock)
	span := h.span(t, "attempt message_sent").SpanContext
	require.Equal(t, "00-"+span.TraceID().String()+"-"+span.SpanID().String()+"-01", header)
}

// everything makes each metric, and each attribute of a span, appear.
func everything(t *testing.T, h *host) {
	t.Helper()
	keyed := message()
	keyed.IdempotencyKey = "once"
	refused := message()
	refused.Type = "unheard_of"
	_, err := h.publisher.PublishMany(t.Context(), []webhook.Event{message(), keyed, keyed, refused})
	require.NoError(t, err)
	h.answer = func(*http.Request) (*http.Response, error) { return status(http.StatusServiceUnavailable) }
	webhooktest.Drain(t, h.dispatcher, h.clock)
	page, err := h.manager.Webhooks(t.Context(), admin, webhook.WebhookQuery{})
	require.NoError(t, err)
	_, err = h.manager.SendTest(t.Context(), admin, page.Items[0].ID, webhook.EventMessageSent)
	require.NoError(t, err)
	webhooktest.Drain(t, h.dispatcher, h.clock)

	ctx := h.telemetry.AttemptStarted(t.Context(), webhook.AttemptStarted{EndpointURL: endpointURL})
	h.telemetry.AttemptEnded(ctx, webhook.AttemptEnded{Attempt: webhook.Attempt{
		Timing: webhook.Timing{DNS: 1, Connect: 1, TLS: 1, FirstByte: 1},
	}})
	_, err = h.telemetry.Observe(func(context.Context) (webhook.Stats, error) {
		return webhook.Stats{Slots: 1, LastClaim: time.Now(), Overview: webhook.Overview{LastPurge: time.Now()}}, nil
	})
	require.NoError(t, err)
}

// Who imports this package gets the API of OpenTelemetry, and no SDK.
func TestOnlyTheAPIIsImported(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imported := range parsed.Imports {
			require.Regexp(t, `^"([a-z/]+|github\.com/posthorn/webhook|go\.opentelemetry\.io/otel(/(attribute|codes|metric|propagation|semconv/v[0-9.]+|trace))?)"$`,
				imported.Path.Value, file)
		}
	}
}

func TestTheDocumentHasAllMetrics(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	everything(t, h)
	var rm metricdata.ResourceMetrics
	require.NoError(t, h.metrics.Collect(t.Context(), &rm))
	kinds := func(m metricdata.Metrics) string {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			if data.IsMonotonic {
				return "counter"
			}
			return "gauge"
		case metricdata.Histogram[float64]:
			return "histogram"
		default:
			return "gauge"
		}
	}
	var want, got [][]string
	for _, m := range rm.ScopeMetrics[0].Metrics {
		want = append(want, []string{m.Name, kinds(m), m.Unit, m.Description})
	}
	for _, row := range table(t, "metric | scraped as") {
		got = append(got, []string{words(row[0])[0], row[2], words(row[3])[0], row[5]})
	}
	require.ElementsMatch(t, want, got)
}

func TestTheDocumentHasAllAttributesOfSpans(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	everything(t, h)
	on := map[string]map[string]bool{"publish": {}, "attempt": {}}
	for _, s := range h.spans.GetSpans() {
		operation, _, _ := strings.Cut(s.Name, " ")
		for key := range attrs(s) {
			on[operation][key] = true
		}
	}
	h.spans.Reset()
	wrong := message()
	wrong.Type = "unheard_of"
	_, err := h.publisher.Publish(t.Context(), wrong)
	require.Error(t, err)
	h.publish(t.Context(), t)
	for _, s := range h.spans.GetSpans() {
		for key := range attrs(s) {
			on["publish"][key] = true
		}
	}
	documented := map[string]map[string]bool{"publish": {}, "attempt": {}}
	for _, row := range table(t, "attribute | span") {
		for operation := range documented {
			if row[1] == operation || row[1] == "both" {
				documented[operation][words(row[0])[0]] = true
			}
		}
	}
	require.Equal(t, documented, on)
}

func TestTheDocumentHasTheValuesOfAttributes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	everything(t, h)
	documented := map[string][]string{}
	for _, row := range table(t, "attribute | values") {
		named := words(row[0])[0]
		documented[named] = append(documented[named], words(row[1])...)
	}
	for name := range h.collect(t) {
		_, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		for label := range strings.SplitSeq(labels, ",") {
			key, value, found := strings.Cut(label, "=")
			require.True(t, !found || value == "" || slices.Contains(documented[key], value), "%s of %s", label, name)
		}
	}
}
