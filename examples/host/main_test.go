package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// newDatabase returns a PostgreSQL database URL whose tables are in a schema of the test's own.
func newDatabase(t *testing.T) string {
	t.Helper()
	dsn := os.Getenv("POSTHORN_TEST_POSTGRES")
	if dsn == "" {
		dsn = "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatalf("PostgreSQL is missing: %v", err)
	case err != nil:
		t.Skipf("not tested: PostgreSQL is missing: %v", err) //nolint:forbidigo // not everybody has it; CI has
	}
	schema := "posthorn_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = conn.Exec(ctx, "create schema "+schema)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 15*time.Second)
		defer cancel()
		_, err := conn.Exec(ctx, "drop schema "+schema+" cascade")
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

var aKey = "test:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

// newApp returns an application whose dispatcher does not run.
func newApp(t *testing.T, cfg config) *app {
	t.Helper()
	cfg.keys, cfg.password = aKey, "teapot"
	db, err := sql.Open("pgx", newDatabase(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.ExecContext(t.Context(), "create table messages (id bigserial primary key, text text not null)")
	require.NoError(t, err)
	a, err := wire(t.Context(), db, cfg)
	require.NoError(t, err)
	return a
}

// post sends a form as ada, and returns the answer's status and text.
func (a *app) post(t *testing.T, path string, form url.Values) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("ada", "teapot")
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// addWebhook uses the panel's form.
func (a *app) addWebhook(t *testing.T, endpoint string) webhook.Secret {
	t.Helper()
	status, page := a.post(t, "/admin/webhooks/new", webhookForm(endpoint))
	require.Equal(t, http.StatusCreated, status)
	return secretOf(t, page)
}

func webhookForm(endpoint string) url.Values {
	return url.Values{
		"key": {uuid.NewString()}, "name": {"Archive"}, "endpoint_url": {endpoint},
		"subject_type": {"room"}, "subject_id": {room}, "event": {"message_sent"},
	}
}

func secretOf(t *testing.T, page string) webhook.Secret {
	t.Helper()
	secret, err := webhook.ParseSecret(regexp.MustCompile(`whsec_[A-Za-z0-9+/]{43}=`).FindString(strings.ReplaceAll(page, "&#43;", "+")))
	require.NoError(t, err)
	return secret
}

func TestMessageIsDelivered(t *testing.T) {
	t.Parallel()
	inbox := webhooktest.NewInbox(t)
	endpoint := inbox.Endpoint(webhooktest.Succeed())
	a := newApp(t, config{loopback: inbox.Prefixes(), client: inbox.HTTPDoer()})
	endpoint.Trust(a.addWebhook(t, endpoint.URL()))

	status, _ := a.post(t, "/messages", url.Values{"text": {"Hello"}})
	require.Equal(t, http.StatusNoContent, status)
	n, err := a.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)

	received := endpoint.Received()
	require.Len(t, received, 1)
	require.True(t, received[0].Verified)
	require.Contains(t, string(received[0].Payload), `"data":{"text":"Hello"}`)
}

func TestNobodyElseComesIn(t *testing.T) {
	t.Parallel()
	a := newApp(t, config{})
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/admin/webhooks/", nil),
		httptest.NewRequest(http.MethodPost, "/messages", nil),
	} {
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusUnauthorized, w.Code)
		require.NotEmpty(t, w.Header().Get("WWW-Authenticate"))

		r.SetBasicAuth("ada", "teapot")
		r.Method = http.MethodPost
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w = httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusForbidden, w.Code, "a form of another page")
	}
}

// TestFailureIsMailed turns the notice's ten minutes into none, in the database, whose
// clock the dispatcher goes by.
func TestFailureIsMailed(t *testing.T) {
	t.Parallel()
	relay, mails := newRelay(t)
	mail, err := mailer(relay)
	require.NoError(t, err)
	schedule, err := webhook.NewSchedule(time.Microsecond)
	require.NoError(t, err)
	inbox := webhooktest.NewInbox(t)
	endpoint := inbox.Endpoint(webhooktest.Status(http.StatusServiceUnavailable))
	a := newApp(t, config{mail: mail, schedule: schedule, loopback: inbox.Prefixes(), client: inbox.HTTPDoer()})
	a.addWebhook(t, endpoint.URL())
	status, _ := a.post(t, "/messages", url.Values{"text": {"Hello"}})
	require.Equal(t, http.StatusNoContent, status)

	for made := 0; made < 2; {
		n, err := a.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		made += n
	}
	changed, err := a.db.ExecContext(t.Context(), "update posthorn_notices set due_at = 0")
	require.NoError(t, err)
	n, err := changed.RowsAffected()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	_, err = a.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)

	sent := mails()
	require.Len(t, sent, 1)
	require.Contains(t, sent[0], "To: \"Ada\" <ada@acme.example>")
	require.Contains(t, sent[0], "Archive")
	require.Contains(t, sent[0], "http://127.0.0.1:8080/admin/webhooks/")
}

// newRelay starts an SMTP server, and returns its address and what it has got.
func newRelay(t *testing.T) (address string, mails func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return relaySession(func(text string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, text)
		}), nil
	}))
	server.ErrorLog = log.New(io.Discard, "", 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		_ = listener.Close() // which Close does not know of, if Serve has not got so far
		require.NoError(t, <-served)
	})
	return listener.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), got...)
	}
}

// relaySession takes every mail.
type relaySession func(text string)

func (relaySession) Reset()                               {}
func (relaySession) Logout() error                        { return nil }
func (relaySession) Mail(string, *smtp.MailOptions) error { return nil }
func (relaySession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (take relaySession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	take(string(text))
	return err
}
