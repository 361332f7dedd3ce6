package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// scrape makes the service do something of everything, and returns what Prometheus
// gets, by name, without the metrics of others.
func scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	rcv := newReceiver()
	t.Cleanup(rcv.Close)
	s, err := newService(rcv, nil)
	require.NoError(t, err)
	require.NoError(t, s.register(t.Context(), rcv.URL))
	require.NoError(t, s.publish(t.Context()))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, s.publish(gone))
	n, err := s.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	_, err = s.store.Purge(t.Context(), webhook.PurgeParams{Now: time.Now(), Limit: 1})
	require.NoError(t, err)

	server := httptest.NewServer(s.metrics)
	t.Cleanup(server.Close)
	return get(t, server.URL)
}

func get(t *testing.T, url string) map[string]*dto.MetricFamily {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	reader := expfmt.NewTextParser(model.LegacyValidation)
	families, err := reader.TextToMetricFamilies(resp.Body)
	require.NoError(t, err)
	require.Contains(t, families, "target_info")
	delete(families, "target_info") // says which program it is
	return families
}

// What the documentation has is there, and nothing else.
func TestEveryDocumentedMetricIsScraped(t *testing.T) {
	t.Parallel()
	type metric struct {
		kind, meaning string
		labels        []string
	}
	documented, scraped := map[string]metric{}, map[string]metric{}
	for _, row := range table(t, "metric | scraped as") {
		m := metric{kind: row[2], meaning: row[5], labels: []string{}}
		for _, attribute := range quoted(row[4]) {
			m.labels = append(m.labels, strings.ReplaceAll(attribute, ".", "_"))
		}
		slices.Sort(m.labels)
		documented[quoted(row[1])[0]] = m
	}
	require.Len(t, documented, 26)
	for name, f := range scrape(t) {
		m := metric{kind: strings.ToLower(f.GetType().String()), meaning: f.GetHelp(), labels: []string{}}
		for _, series := range f.GetMetric() {
			for _, l := range series.GetLabel() {
				if !slices.Contains(m.labels, l.GetName()) {
					m.labels = append(m.labels, l.GetName())
				}
			}
		}
		slices.Sort(m.labels)
		scraped[name] = m
	}
	require.Equal(t, documented, scraped)
}

// And it says what has happened.
func TestWhatIsScraped(t *testing.T) {
	t.Parallel()
	got := scrape(t)
	value := func(name string, want ...string) float64 {
		for _, m := range got[name].GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetName()+"="+l.GetValue())
			}
			if slices.Equal(want, have) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		return -1
	}
	require.InDelta(t, 2, value("posthorn_attempts_total", "posthorn_outcome=succeeded"), 0)
	require.InDelta(t, 1, value("posthorn_attempts_total", "error_type=5xx", "posthorn_outcome=failed"), 0)
	require.InDelta(t, 2, value("posthorn_attempt_duration_seconds", "posthorn_outcome=succeeded"), 0)
	require.InDelta(t, 2, value("posthorn_deliveries_finished_total", "posthorn_delivery_state=succeeded"), 0)
	require.InDelta(t, 1, value("posthorn_publish_events_total", "posthorn_result=delivering"), 0)
	require.InDelta(t, 1, value("posthorn_publish_events_total", "posthorn_result=refused"), 0)
	require.InDelta(t, 3, value("posthorn_publish_deliveries_total"), 0)
	require.InDelta(t, 1, value("posthorn_queue_deliveries", "posthorn_queue_state=waiting"), 0)
	require.InDelta(t, 0, value("posthorn_leases_lost_total"), 0)
	require.InDelta(t, 0, value("posthorn_attempt_active"), 0)
}

// All that the dashboard and the alerts ask for exists: metrics, labels, and the values
// that they are compared with.
func TestQueriesFitTheMetrics(t *testing.T) {
	t.Parallel()
	got := scrape(t)
	queries := alerts(t)
	require.Len(t, queries, 13)
	panels := dashboard(t)
	require.Len(t, panels, 35)
	asked := map[string]bool{}
	for _, query := range append(queries, panels...) {
		// Grafana's variables: what they stand for is of the right kind.
		query = strings.NewReplacer("$__rate_interval", "5m", `=~"$job"`, `=~".*"`, `=~"$instance"`, `=~".*"`).Replace(query)
		require.NotContains(t, query, "$")
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
		require.NoError(t, err, query)
		for _, name := range check(t, got, expr, query) {
			asked[name] = true
		}
	}
	for name := range got {
		require.True(t, asked[name], "%s is on no dashboard and in no alert", name)
	}
}

// check holds a query against what is scraped, and returns the metrics it is about.
func check(t *testing.T, got map[string]*dto.MetricFamily, expr parser.Expr, query string) (names []string) {
	t.Helper()
	known := map[string]bool{"job": true, "instance": true} // which Prometheus adds
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		name := v.Name
		f := got[name]
		if f == nil {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base, found := strings.CutSuffix(v.Name, suffix); found && got[base].GetType() == dto.MetricType_HISTOGRAM {
					name, f = base, got[base]
					known["le"] = known["le"] || suffix == "_bucket"
				}
			}
		}
		require.NotNil(t, f, "%s is not there: %s", v.Name, query)
		names = append(names, name)
		values := map[string][]string{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				known[l.GetName()] = true
				values[l.GetName()] = append(values[l.GetName()], l.GetValue())
			}
		}
		for _, m := range v.LabelMatchers {
			switch {
			case m.Name == model.MetricNameLabel, m.Name == "job", m.Name == "instance":
				continue
			case m.Value == "":
				require.Contains(t, values, m.Name, query)
			default:
				require.Contains(t, values[m.Name], m.Value, query)
			}
		}
		return nil
	})
	require.NotEmpty(t, names, query)
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			for _, label := range a.Grouping {
				require.True(t, known[label], "%s is no label: %s", label, query)
			}
		}
		return nil
	})
	return names
}

// dashboard returns the queries of docs/grafana-dashboard.json.
func dashboard(t *testing.T) (queries []string) {
	t.Helper()
	var board struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr, LegendFormat string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	text, err := os.ReadFile("../../docs/grafana-dashboard.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &board))
	ids := map[int]bool{}
	for i, p := range board.Panels {
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for _, o := range board.Panels[:i] {
			a, b := p.GridPos, o.GridPos
			apart := a.X >= b.X+b.W || b.X >= a.X+a.W || a.Y >= b.Y+b.H || b.Y >= a.Y+a.H
			require.True(t, apart, "%s and %s overlap", p.Title, o.Title)
		}
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			// What a legend names, the query leaves there.
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				require.Regexp(t, `by \([^)]*\b`+m[1]+`\b`, target.Expr, p.Title)
			}
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

// alerts returns the expressions of the documentation's alerts.
func alerts(t *testing.T) (queries []string) {
	t.Helper()
	for _, row := range table(t, "when | expression") {
		queries = append(queries, quoted(row[1])[0])
	}
	return queries
}

// table returns the rows of the table of docs/telemetry.md whose header begins so.
func table(t *testing.T, header string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/telemetry.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n| "+header+" |")
	require.True(t, found, header)
	for _, line := range strings.Split(rest, "\n")[2:] {
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

func quoted(cell string) (out []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// The program itself, until it has made some attempts.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &watched{text: `msg="webhook: attempt"`, times: 6, seen: make(chan string, 1)}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, out, "127.0.0.1:0") }()
	var got map[string]*dto.MetricFamily
	select {
	case written := <-out.seen:
		got = get(t, regexp.MustCompile(`http://\S+/metrics`).FindString(written))
		cancel()
	case err := <-ended:
		require.NoError(t, err, "too early")
	}
	require.NoError(t, <-ended)
	require.NotZero(t, got["posthorn_attempts_total"].GetMetric()[0].GetCounter().GetValue())

	require.Error(t, run(t.Context(), io.Discard, "127.0.0.1:-1"))
}

// watched says what has been written once it has a text so many times.
type watched struct {
	text  string
	times int
	seen  chan string

	mu      sync.Mutex
	written bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written.Write(p)
	if bytes.Contains(p, []byte(w.text)) {
		if w.times--; w.times == 0 {
			w.seen <- w.written.String()
		}
	}
	return len(p), nil
}
