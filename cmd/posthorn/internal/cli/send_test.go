package cli_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// dryRun returns the request that send would send.
func dryRun(t *testing.T, args ...string) string {
	t.Helper()
	got := withSecret.run(t.Context(), append([]string{"send", "http://127.0.0.1:4000/in", "--dry-run"}, args...)...)
	require.Zero(t, got.code, got.errors)
	return got.out
}

var pivotHeader = regexp.MustCompile(`(?m)(X-Pivot-Signature: )[0-9a-f]+`)

// resign signs another body.
func resign(t *testing.T, head, body string) string {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	head = regexp.MustCompile(`(?m)Content-Length: .*\r\n`).ReplaceAllString(head, "")
	return pivotHeader.ReplaceAllString(head, "${1}"+hex.EncodeToString(mac.Sum(nil)))
}

// inbox is a receiver that keeps what it gets.
type inbox struct {
	*httptest.Server
	verifier *webhook.Verifier
	requests chan request
	answer   http.HandlerFunc
}

type request struct {
	header   http.Header
	path     string
	payload  string
	verified error
}

func newInbox(t *testing.T, start func(*httptest.Server), answer http.HandlerFunc) *inbox {
	t.Helper()
	parsed, err := webhook.ParseSecret(secret)
	require.NoError(t, err)
	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{parsed}})
	require.NoError(t, err)
	in := &inbox{verifier: verifier, requests: make(chan request, 10), answer: answer}
	in.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(r.Body)
		if err == nil {
			err = in.verifier.Verify(payload, r.Header)
		}
		in.requests <- request{r.Header, r.URL.RequestURI(), string(payload), err}
		in.answer(w, r)
	}))
	start(in.Server)
	t.Cleanup(in.Close)
	return in
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestSend(t *testing.T) {
	t.Parallel()
	in := newInbox(t, (*httptest.Server).Start, status(http.StatusAccepted))
	got := withSecret.run(t.Context(), "send", in.URL+"/hooks?a=b")
	require.Equal(t, ran{code: 0, out: got.out}, got)
	require.Contains(t, got.out, "answered 202 Accepted in ")
	r := <-in.requests
	require.NoError(t, r.verified)
	require.Equal(t, "/hooks?a=b", r.path)
	require.Equal(t, "1", r.header.Get("X-Pivot-Attempt"))
	require.Equal(t, "posthorn-webhook/1", r.header.Get("User-Agent"))
	require.Contains(t, got.out, "webhook-id "+r.header.Get("webhook-id"))
	var payload struct {
		EventType string `json:"event_type"`
		Test      bool
		Data      struct{ Text string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.payload), &payload))
	require.Equal(t, "message_sent", payload.EventType)
	require.True(t, payload.Test)
	require.Equal(t, "Hello, World!", payload.Data.Text, "the catalog's sample")

	// A real event of a host's own types, sent twice under one id.
	const id = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
	for _, data := range []string{`{"total": 12}`, "@" + write(t, "data.json", `{"total": 12}`+"\n"), "-"} {
		w := withSecret
		w.stdin = ` {"total": 12} `
		got = w.run(t.Context(), "send", in.URL, "--live", "--event-id", id, "--event-type", "order_paid",
			"--subject", "order:nr:7", "--data", data, "--json")
		require.Zero(t, got.code, got.errors)
		r = <-in.requests
		require.NoError(t, r.verified)
		require.Regexp(t, `^\{"id":"`+id+`","event_type":"order_paid","subject":\{"type":"order","id":"nr:7"\},"timestamp":"[^"]+","data":\{"total": 12\}\}$`, r.payload)
		var doc map[string]any
		require.NoError(t, json.Unmarshal([]byte(got.out), &doc))
		delete(doc, "duration_ms")
		require.Equal(t, map[string]any{
			"url": in.URL + "/", "event_id": id, "event_type": "order_paid", "subject": map[string]any{"type": "order", "id": "nr:7"},
			"test": false, "payload_bytes": float64(len(r.payload)), "outcome": "succeeded", "status_code": 202.0,
		}, doc)
	}
}

// A URL is shown as it is: it has no user name, and an @ of its path is none.
func TestSendShowsTheURL(t *testing.T) {
	t.Parallel()
	in := newInbox(t, (*httptest.Server).Start, status(http.StatusOK))
	got := withSecret.run(t.Context(), "send", in.URL+"/users/@me")
	require.Zero(t, got.code, got.errors)
	require.Contains(t, got.out, " to "+in.URL+"/users/@me\n")
}

func TestSendTampered(t *testing.T) {
	t.Parallel()
	in := newInbox(t, (*httptest.Server).Start, status(http.StatusUnauthorized))
	for _, how := range []string{"body", "signature", "time"} {
		got := withSecret.run(t.Context(), "send", in.URL, "--tamper", how)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.out, "tampered with: "+how)
		require.Contains(t, got.out, "answered 401 Unauthorized")
		require.Equal(t, "posthorn send: refused: the receiver answered 401, and only 2xx is a success\n", got.errors)
		r := <-in.requests
		require.ErrorIs(t, r.verified, webhook.ErrInvalidSignature)
		require.True(t, json.Valid([]byte(r.payload)))
	}
}

func TestSendAnswers(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(status(http.StatusOK))
	gone.Close()
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		code   int
		out    string
		errors string
	}{
		{"an error", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "out of \x1b[31mpaper")
		}, 1, "answered 500 Internal Server Error in ", "answered 500"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, 1, "answered 302 Found", "answered 302"},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 3, "", "no answer: "},
		{"none in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 3, "", "no answer: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := newInbox(t, (*httptest.Server).Start, tc.answer)
			got := withSecret.run(t.Context(), "send", in.URL, "--timeout", "1s")
			require.Equal(t, tc.code, got.code)
			require.Contains(t, got.out, tc.out)
			require.NotContains(t, got.out, "\x1b")
			require.Contains(t, got.errors, tc.errors)
		})
	}
	got := withSecret.run(t.Context(), "send", gone.URL)
	require.Equal(t, 3, got.code)
	require.Equal(t, "posthorn send: no answer: connection refused\n", got.errors)
}

func TestSendOverHTTPS(t *testing.T) {
	t.Parallel()
	in := newInbox(t, (*httptest.Server).StartTLS, status(http.StatusNoContent))
	ca := write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: in.Certificate().Raw})))
	got := withSecret.run(t.Context(), "send", in.URL)
	require.Equal(t, 3, got.code, "the certificate is nobody's")
	got = withSecret.run(t.Context(), "send", in.URL, "--ca-file", ca)
	require.Zero(t, got.code, got.errors)
	require.NoError(t, (<-in.requests).verified)
}

func TestSendDryRun(t *testing.T) {
	t.Parallel()
	raw := dryRun(t, "--signature-header", "X-Acme-Signature", "--secret", secret)
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, "127.0.0.1:4000", r.Host)
	require.Len(t, r.Header.Get("X-Acme-Signature"), 64)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix([]byte(raw), body))

	w := withSecret
	w.stdin = raw
	require.Zero(t, w.run(t.Context(), "verify", "--signature-header", "X-Acme-Signature").code)
	require.Equal(t, 1, w.run(t.Context(), "verify").code, "there is no X-Pivot-Signature")
	for _, how := range []string{"body", "signature", "time"} {
		w.stdin = dryRun(t, "--tamper", how)
		require.Equal(t, 1, w.run(t.Context(), "verify").code)
	}
}

func TestSendSecretFromAFile(t *testing.T) {
	t.Parallel()
	file := write(t, "secret", secret+"\r\n")
	raw := world{}.run(t.Context(), "send", "http://[::1]:4000", "--secret-file", file, "--dry-run")
	require.Zero(t, raw.code, raw.errors)
	require.Zero(t, world{stdin: raw.out}.run(t.Context(), "verify", "--secret-file", file).code)
}
