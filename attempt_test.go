package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// attemptTimeout is short, so that endpoints which hang cost a test little.
const attemptTimeout = 300 * time.Millisecond

// attemptAgainst makes one attempt over real sockets at a URL, and returns its
// row of the log.
func attemptAgainst(t *testing.T, url string, roots *x509.CertPool, cfg webhook.DispatcherConfig) webhook.Attempt {
	t.Helper()
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback, RootCAs: roots})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	if cfg.HTTPDoer == nil {
		cfg.HTTPDoer = client
	}
	if cfg.AttemptTimeout == 0 {
		cfg.AttemptTimeout = attemptTimeout
	}
	s := memstore.New()
	d, err := webhook.NewDispatcher(s, cfg)
	require.NoError(t, err)
	mgr, err := webhook.NewManager(s, webhook.ManagerConfig{Clock: cfg.Clock, AllowedPrefixes: loopback})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(s, webhook.PublisherConfig{Clock: cfg.Clock})
	require.NoError(t, err)
	_, _, err = mgr.Create(t.Context(), rigAdmin, webhook.WebhookInput{
		Name: "one attempt", EndpointURL: url,
		Subscriptions: []webhook.Subscription{{Subject: rigRoom, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	_, err = pub.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom})
	require.NoError(t, err)
	began := time.Now()
	_, err = d.RunOnce(t.Context())
	require.NoError(t, err)
	require.Less(t, time.Since(began), cfg.AttemptTimeout+5*time.Second)
	page, err := mgr.Attempts(t.Context(), rigAdmin, webhook.AttemptQuery{})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	return page.Items[0]
}

// tlsServer is an HTTPS server and the authority to trust it by.
func tlsServer(t *testing.T, h http.HandlerFunc) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s, pool
}

// rawServer is a TLS server that does with each connection what it likes, once
// the request has been read.
func rawServer(t *testing.T, serve func(net.Conn)) (url string, roots *x509.CertPool) {
	t.Helper()
	s, pool := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		serve(conn)
	})
	return s.URL, pool
}

func TestAttemptOnTheWire(t *testing.T) {
	t.Parallel()
	in := webhooktest.NewInbox(t)
	e := in.Endpoint(webhooktest.Succeed())
	clock := &webhooktest.Clock{}
	s := memstore.New()
	d, err := webhook.NewDispatcher(s, webhook.DispatcherConfig{Clock: clock, HTTPDoer: in.HTTPDoer(), SignatureHeader: "x-acme-signature", UserAgent: "acme/2"})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(s, webhook.ManagerConfig{Clock: clock, AllowedPrefixes: in.Prefixes()})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(s, webhook.PublisherConfig{Clock: clock})
	require.NoError(t, err)
	_, secret, err := mgr.Create(t.Context(), rigAdmin, webhook.WebhookInput{
		Name: "wire", EndpointURL: e.URL(),
		Subscriptions: []webhook.Subscription{{Subject: rigRoom, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	p, err := pub.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom, Data: map[string]int{"n": 1}})
	require.NoError(t, err)
	_, err = d.RunOnce(t.Context())
	require.NoError(t, err)

	got := e.Received()
	require.Len(t, got, 1)
	require.Equal(t, `{"id":"`+p.EventID.String()+`","event_type":"message_sent","subject":{"type":"room","id":"`+rigRoom.ID+
		`"},"timestamp":"2026-01-01T12:00:00Z","data":{"n":1}}`, string(got[0].Payload))
	h := got[0].Header
	require.Equal(t, "application/json", h.Get("Content-Type"))
	require.Equal(t, "acme/2", h.Get("User-Agent"))
	require.Equal(t, "1", h.Get("X-Pivot-Attempt"))
	require.Equal(t, p.EventID.String(), h.Get("Webhook-Id"))
	require.Equal(t, "1767268800", h.Get("Webhook-Timestamp"))
	require.Empty(t, h.Get("X-Pivot-Signature"), "it has another name here")
	require.Empty(t, h.Get("Accept-Encoding"))
	require.Empty(t, h.Get("Idempotency-Key"))
	v, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}, Clock: clock, SignatureHeader: "X-Acme-Signature"})
	require.NoError(t, err)
	require.NoError(t, v.Verify(got[0].Payload, h))
}

func TestAttemptRecordsTheAnswer(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("\x00\xff€"), 2000)
	s, roots := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(body)
	})
	a := attemptAgainst(t, s.URL+"/hooks?x=1", roots, webhook.DispatcherConfig{AttemptTimeout: 10 * time.Second})
	require.Equal(t, 1, a.Number)
	require.Equal(t, webhook.OutcomeFailed, a.Outcome)
	require.Equal(t, 503, a.StatusCode)
	require.Equal(t, webhook.ErrorStatus, a.ErrorClass)
	require.Equal(t, "answered 503 Service Unavailable", a.Error)
	require.Equal(t, 2*time.Minute, a.RetryAfter)
	require.Equal(t, body[:webhook.MaxResponseBytes], a.Response)
	require.True(t, a.ResponseTruncated)
	require.Equal(t, s.URL+"/hooks?x=1", a.EndpointURL)
	require.Positive(t, a.Timing.Connect)
	require.Positive(t, a.Timing.TLS)
	require.Positive(t, a.Timing.FirstByte)
	require.GreaterOrEqual(t, a.Duration, a.Timing.FirstByte)
}

// Whatever an endpoint does costs its own attempt and nothing else, is
// described in words, and leaves nothing of the host's network in the log.
func TestAttemptAgainstHostileReceivers(t *testing.T) {
	t.Parallel()
	write := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text) }
	}
	drip := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, text)
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // the endpoint's slowness, not a wait of the test
			}
		}
	}
	flood := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			chunk := strings.Repeat(text, 1+(32<<10)/len(text))
			for {
				if _, err := io.WriteString(c, chunk); err != nil {
					return
				}
			}
		}
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct {
		serve   func(net.Conn)
		outcome webhook.Outcome
		status  int
		class   webhook.ErrorClass
		text    string
	}{
		"Hangs":             {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, webhook.OutcomeFailed, 0, webhook.ErrorTimeout, "timed out while waiting for an answer"},
		"DripsHeaders":      {drip(ok + "X-Long: "), webhook.OutcomeFailed, 0, webhook.ErrorTimeout, "timed out while reading the answer"},
		"DripsItsBody":      {drip(ok + "\r\n"), webhook.OutcomeSucceeded, 200, "", "answered, but the body broke off: timed out while reading the answer"},
		"FloodsHeaders":     {flood("X-Long: 1\r\n"), webhook.OutcomeFailed, 0, webhook.ErrorProtocol, "the answer is not valid HTTP"},
		"FloodsMoreHeaders": {func(c net.Conn) { write(ok)(c); flood("X-Long: 1\r\n")(c) }, webhook.OutcomeFailed, 0, webhook.ErrorProtocol, "the answer's headers exceed 64 KiB"},
		"FloodsItsBody":     {func(c net.Conn) { write(ok + "\r\n")(c); flood("x")(c) }, webhook.OutcomeSucceeded, 200, "", ""},
		"FloodsWith1xx":     {flood("HTTP/1.1 103 Early Hints\r\n\r\n"), webhook.OutcomeFailed, 0, webhook.ErrorProtocol, "the answer's headers exceed 64 KiB"},
		"SwitchesProtocols": {write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), webhook.OutcomeFailed, 101, webhook.ErrorStatus, "answered 101 Switching Protocols"},
		"ClosesAtOnce":      {func(net.Conn) {}, webhook.OutcomeFailed, 0, webhook.ErrorProtocol, "the connection was closed before a complete answer"},
		"Resets": {func(c net.Conn) {
			_ = c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			_ = c.(*tls.Conn).NetConn().Close()
		}, webhook.OutcomeFailed, 0, webhook.ErrorProtocol, "the connection was reset before a complete answer"},
		"SpeaksSomethingElse": {write("220 smtp.example ESMTP\r\n"), webhook.OutcomeFailed, 0, webhook.ErrorProtocol, "the answer is not valid HTTP"},
		"BreaksOffItsBody":    {write(ok + "Content-Length: 10\r\n\r\nabc"), webhook.OutcomeSucceeded, 200, "", "answered, but the body broke off: the connection was closed before a complete answer"},
		"OddReasonPhrase":     {write("HTTP/1.1 599 \x00\xff😀" + strings.Repeat("x", 8000) + "\r\nContent-Length: 0\r\n\r\n"), webhook.OutcomeFailed, 599, webhook.ErrorStatus, "answered 599"},
		"GzipBomb":            {write(ok + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00"), webhook.OutcomeSucceeded, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, roots := rawServer(t, c.serve)
			a := attemptAgainst(t, url, roots, webhook.DispatcherConfig{})
			require.Equal(t, c.outcome, a.Outcome)
			require.Equal(t, c.status, a.StatusCode)
			require.Equal(t, c.class, a.ErrorClass)
			require.Equal(t, c.text, a.Error)
			require.LessOrEqual(t, len(a.Response), webhook.MaxResponseBytes)
			require.Less(t, a.Duration, attemptTimeout+time.Second)
		})
	}
}

func TestAttemptFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	target, _ := tlsServer(t, func(http.ResponseWriter, *http.Request) { seen.Add(1) })
	for _, code := range []int{300, 301, 302, 303, 304, 307, 308} {
		s, roots := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target.URL)
			w.WriteHeader(code)
		})
		roots.AddCert(target.Certificate())
		a := attemptAgainst(t, s.URL, roots, webhook.DispatcherConfig{AttemptTimeout: 10 * time.Second})
		require.Equal(t, code, a.StatusCode)
		require.Equal(t, webhook.ErrorStatus, a.ErrorClass)
		require.Contains(t, a.Error, "redirects are not followed")
	}
	require.Zero(t, seen.Load())
}

func TestAttemptExplainsConnectionFailures(t *testing.T) {
	t.Parallel()
	s, roots := tlsServer(t, healthyHandler)

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := "https://" + l.Addr().String()
	require.NoError(t, l.Close())
	a := attemptAgainst(t, closed, roots, webhook.DispatcherConfig{})
	require.Equal(t, webhook.ErrorConnect, a.ErrorClass)
	require.Equal(t, "connection refused", a.Error)

	a = attemptAgainst(t, s.URL, x509.NewCertPool(), webhook.DispatcherConfig{AttemptTimeout: 10 * time.Second})
	require.Equal(t, webhook.ErrorTLS, a.ErrorClass)
	require.Equal(t, "TLS certificate is not from a known authority, or its chain is incomplete", a.Error)

	plain := httptest.NewServer(http.HandlerFunc(healthyHandler))
	t.Cleanup(plain.Close)
	a = attemptAgainst(t, strings.Replace(plain.URL, "http://", "https://", 1), roots, webhook.DispatcherConfig{AttemptTimeout: 10 * time.Second})
	require.Equal(t, webhook.ErrorTLS, a.ErrorClass)
	require.Equal(t, "the endpoint does not speak TLS on this port", a.Error)

	strict, err := webhook.NewHTTPClient(webhook.TransportConfig{RootCAs: roots})
	require.NoError(t, err)
	a = attemptAgainst(t, s.URL, roots, webhook.DispatcherConfig{HTTPDoer: strict})
	require.Equal(t, webhook.ErrorDestination, a.ErrorClass)
	require.Equal(t, "destination not allowed", a.Error)
}

func healthyHandler(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// Errors of an HTTPDoer may hold addresses and URLs; what the organization
// reads holds neither, and a panic is an attempt like any other.
func TestAttemptSurvivesTheHTTPDoer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doer  doerFunc
		class webhook.ErrorClass
		text  string
	}{
		"Panics":  {func(*http.Request) (*http.Response, error) { panic("10.0.0.1") }, webhook.ErrorInternal, "internal error of the sender"},
		"Nothing": {func(*http.Request) (*http.Response, error) { return nil, nil }, webhook.ErrorInternal, "internal error of the sender"},
		"Fails":   {func(*http.Request) (*http.Response, error) { return nil, errors.New("10.0.0.1") }, webhook.ErrorConnect, "no connection to the endpoint"},
		"NoName": {func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "x", Server: "10.0.0.1:53", IsNotFound: true}
		}, webhook.ErrorDNS, "the name of the endpoint does not exist"},
		"SlowName": {func(*http.Request) (*http.Response, error) { return nil, &net.DNSError{IsTimeout: true} }, webhook.ErrorDNS, "the look-up of the endpoint's name timed out"},
		"BadName":  {func(*http.Request) (*http.Response, error) { return nil, &net.DNSError{} }, webhook.ErrorDNS, "the name of the endpoint could not be looked up"},
		"NoBody":   {func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 204}, nil }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := attemptAgainst(t, "https://127.0.0.1/", nil, webhook.DispatcherConfig{HTTPDoer: c.doer})
			require.Equal(t, c.class, a.ErrorClass)
			require.Equal(t, c.text, a.Error)
		})
	}
}

// One line an attempt, with everything, and no secret, signature or payload.
func TestAttemptIsOneLineOfTheLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r, clock := steppedRig(t, webhook.DispatcherConfig{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 1)
	webhooktest.Drain(t, r.dispatcher, clock)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Len(t, lines, 6)
	for i, line := range lines {
		require.Contains(t, line, fmt.Sprintf("attempt=%d", i+1))
		for _, want := range []string{`msg="webhook: attempt"`, "organization_id=acme", "webhook_id=", "delivery_id=", "event_id=", "event_type=message_sent",
			"outcome=failed", "status_code=500", "duration=", "error_class=status", `error="answered 500 Internal Server Error"`} {
			require.Contains(t, line, want)
		}
	}
	require.NotContains(t, log.String(), "whsec_")
	require.NotContains(t, log.String(), "hello")
}

// docs/telemetry.md has the fields of that line, in their order, and no others.
func TestTheLogsFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	_, rest, found := strings.Cut(readText(t, "docs/telemetry.md"), "\n| field | meaning |\n|---|---|\n")
	require.True(t, found)
	var documented []string
	for line := range strings.Lines(rest) {
		field, _, isRow := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if !isRow {
			break
		}
		documented = append(documented, field)
	}
	var fields []string
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		fields = append(fields, a.Key)
		return a
	}}))
	r, _ := steppedRig(t, webhook.DispatcherConfig{Logger: log})
	r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 1)
	_, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, slices.Concat([]string{slog.TimeKey, slog.LevelKey, slog.MessageKey}, documented), fields)
}

func TestAttemptReadsRetryAfter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"120":                           2 * time.Minute,
		" 5 ":                           5 * time.Second,
		"Thu, 01 Jan 2026 12:01:30 GMT": 90 * time.Second,
		"Thu, 01 Jan 2015 12:01:30 GMT": 0,
		"-5":                            0,
		"1e9":                           0,
		"99999999999999999999":          0,
		"NaN":                           0,
		"":                              0,
	} {
		doer := doerFunc(func(*http.Request) (*http.Response, error) {
			resp, err := respond(503)
			resp.Header.Set("Retry-After", text)
			return resp, err
		})
		a := attemptAgainst(t, "https://127.0.0.1/", nil, webhook.DispatcherConfig{Clock: &webhooktest.Clock{}, HTTPDoer: doer})
		require.Equal(t, want, a.RetryAfter, text)
	}
}

func TestRunOnceInterruptsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		r.register(t, rigAdmin, "hanging.example", rigRoom, hang)
		r.publish(t, "acme", rigRoom, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		n, err := r.dispatcher.RunOnce(ctx)
		require.Equal(t, 1, n)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		attempts := r.attempts(t, rigAdmin)
		require.Len(t, attempts, 1, "what happened is recorded all the same")
		require.Equal(t, webhook.OutcomeInterrupted, attempts[0].Outcome, "the endpoint had more time")
		require.Equal(t, 2*time.Second, attempts[0].Duration)
	})
}
