package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhookschema/schematest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()

	checkRun(t, "")
}

func TestSQLiteLeavesNoFile(t *testing.T) {
	t.Parallel()
	db, err := openDatabase(t.Context(), "")
	require.NoError(t, err)
	_, file, _ := strings.Cut(db.place, ", ")
	_, err = open(t.Context(), db, newTestReceiver(t))
	require.NoError(t, err)
	require.FileExists(t, file)

	require.NoError(t, db.remove())

	require.NoFileExists(t, file)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	dsn := postgresDSN(t)

	out := checkRun(t, dsn)

	checkDropped(t, dsn, out)
}

func TestPostgresIsCleanAfterAnEarlyEnd(t *testing.T) {
	t.Parallel()
	dsn := postgresDSN(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelOn{text: "order 2", cancel: cancel}

	err := run(ctx, out, dsn)

	require.ErrorIs(t, err, context.Canceled)
	checkDropped(t, dsn, out.written.String())
}

// The golden file is what receivers have been promised.
func TestEventsBreakNoReceiver(t *testing.T) {
	t.Parallel()
	catalog, err := catalog()
	require.NoError(t, err)
	schematest.Golden(t, catalog, "testdata/events.json")
}

func TestUnusableDSN(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"root@tcp(127.0.0.1:3306)/", "postgres://nobody@127.0.0.1:1/none?connect_timeout=1"} {
		var out bytes.Buffer

		require.Error(t, run(t.Context(), &out, dsn))
		require.Empty(t, out.String())
	}
}

func TestDisagreementIsAnError(t *testing.T) {
	t.Parallel()
	db, err := openDatabase(t.Context(), "")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.remove()) }()
	rcv := newTestReceiver(t)
	s, err := open(t.Context(), db, rcv)
	require.NoError(t, err)
	_, _, err = s.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Warehouse", EndpointURL: rcv.server.URL,
		Subscriptions: []webhook.Subscription{{Subject: branch, EventType: orderPlaced.Type()}},
	})
	require.NoError(t, err)
	placed, err := s.place(t.Context(), orders[0])
	require.NoError(t, err)
	require.Equal(t, 1, placed.Deliveries)

	for name, tc := range map[string][2][]webhook.Published{
		"an order that nobody committed":     {},
		"an order that was not stored":       {{placed, {}}},
		"an event that was not delivered":    {{placed}},
		"an event that was not rolled back":  {nil, {placed}},
		"the same, beside one that was fine": {{placed}, {placed}},
	} {
		var out bytes.Buffer
		require.Error(t, s.conclude(t.Context(), &out, rcv, tc[0], tc[1]), name)
		require.NotContains(t, out.String(), "transactional: ok", name)
	}
}

func TestReceiverRefusesForgeries(t *testing.T) {
	t.Parallel()
	rcv := newTestReceiver(t)
	right, err := webhook.NewSecret()
	require.NoError(t, err)
	wrong, err := webhook.NewSecret()
	require.NoError(t, err)
	require.NoError(t, rcv.trust(right))
	const body = `{"id":"019b797c-8e00-7d3a-9f00-5b1c2d3e4f50","event_type":"order_placed","data":{"number":7,"customer":"Eve","teapots":1}}`
	post := func(secret webhook.Secret) int {
		signer, err := webhook.NewSigner(secret)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, rcv.server.URL, strings.NewReader(body))
		require.NoError(t, err)
		signer.Sign(req.Header, "event", time.Now(), []byte(body))
		resp, err := rcv.server.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode
	}

	require.Equal(t, http.StatusUnauthorized, post(wrong))
	require.Empty(t, rcv.orders)
	require.Equal(t, http.StatusNoContent, post(right))
	require.Equal(t, http.StatusNoContent, post(right), "again")
	require.Equal(t, order{7, "Eve", 1}, <-rcv.orders)
	require.Empty(t, rcv.orders)
}

// checkRun runs the program and returns what it prints.
func checkRun(t *testing.T, dsn string) string {
	t.Helper()
	var out bytes.Buffer

	require.NoError(t, run(t.Context(), &out, dsn))

	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Equal(t, "transactional: ok orders=3 rolled_back=1 delivered=3", lines[len(lines)-1])
	require.Contains(t, out.String(), "order 3, 5 teapots for Cleo: rolled back with its event: there are not enough teapots left\n")
	for _, o := range []string{"1", "2", "4"} {
		require.Contains(t, out.String(), "hears of order "+o+"\n")
	}
	require.NotContains(t, out.String(), "hears of order 3")
	return out.String()
}

func newTestReceiver(t *testing.T) *receiver {
	t.Helper()
	rcv := newReceiver()
	t.Cleanup(rcv.server.Close)
	return rcv
}

// postgresDSN returns the PostgreSQL server that POSTHORN_TEST_POSTGRES names, or
// else the one of this machine. Without one the test is skipped, but not in CI.
func postgresDSN(t *testing.T) string {
	t.Helper()
	dsn := os.Getenv("POSTHORN_TEST_POSTGRES")
	if dsn == "" {
		dsn = "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	switch {
	case err == nil:
		require.NoError(t, conn.Close(ctx))
	case os.Getenv("CI") == "true":
		t.Fatalf("PostgreSQL is missing: %v", err)
	default:
		t.Skipf("not tested: PostgreSQL is missing: %v", err) //nolint:forbidigo // not everybody has it; CI has
	}
	return dsn
}

// checkDropped makes sure that the schema is gone which the output names.
func checkDropped(t *testing.T, dsn, out string) {
	t.Helper()
	_, rest, found := strings.Cut(out, "PostgreSQL, schema ")
	require.True(t, found, "%s", out)
	schema, _, _ := strings.Cut(rest, "\n")
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_namespace where nspname = $1", schema).Scan(&left))
	require.Zero(t, left, "%s is left", schema)
}

// cancelOn is an output that ends the program once a text has been written.
type cancelOn struct {
	text    string
	cancel  context.CancelFunc
	written bytes.Buffer
}

func (w *cancelOn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.cancel()
	}
	return w.written.Write(p)
}
