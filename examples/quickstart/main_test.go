package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer

	err := run(t.Context(), &out, true)

	require.NoError(t, err)
	n := lastLine(t, out.String())
	require.Equal(t, n["attempts"], n["verified"])
	require.Equal(t, n["deliveries"], n["succeeded"]+n["failed"]+n["cancelled"])
	require.Equal(t, map[string]int{
		"events": 3, "deliveries": 7, "attempts": 19, "succeeded": 4, "failed": 2, "cancelled": 1, "verified": 19,
	}, n)
	require.Contains(t, out.String(), "a viewer tries to register one: webhook: forbidden\n")
	require.Contains(t, out.String(), "the admin deletes Prototype; retries pending until now: 1\n")
	require.Contains(t, out.String(), "notice: 2 deliveries to Old CRM at ")
	require.Equal(t, []string{
		"2026-01-01 12:00:00", "2026-01-01 12:01:00", "2026-01-01 12:06:00",
		"2026-01-01 12:36:00", "2026-01-01 14:36:00", "2026-01-02 02:36:00",
	}, timesOf(out.String(), "Old CRM", "room_recording_transcript_published"))
}

func TestServeEndsGracefully(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelAfter{attempts: 4, cancel: cancel}

	err := run(ctx, out, false)

	require.NoError(t, err)
	n := lastLine(t, out.text.String())
	require.GreaterOrEqual(t, n["attempts"], 4)
	require.Equal(t, n["attempts"], n["verified"])
	require.Equal(t, 2*n["events"], n["deliveries"])
	require.NotContains(t, out.text.String(), "interrupted")
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	err := run(ctx, io.Discard, true)

	require.ErrorIs(t, err, context.Canceled)
}

func TestDisagreementIsAnError(t *testing.T) {
	t.Parallel()
	one := []webhook.Attempt{{Number: 1}}
	for _, tc := range []struct {
		name               string
		report             report
		requests, verified int64
	}{
		{"nothing happened", report{}, 0, 0},
		{"a request that is not in the log", report{attempts: one}, 2, 2},
		{"a signature that was refused", report{attempts: one}, 1, 0},
		{"a delivery that did not end", report{attempts: one, deliveries: 1}, 1, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var rcv receiver
			rcv.requests.Store(tc.requests)
			rcv.verified.Store(tc.verified)
			var out bytes.Buffer

			err := tc.report.conclude(&out, &rcv, 0)

			require.Error(t, err)
			require.NotContains(t, out.String(), "quickstart: ok")
		})
	}
}

func TestReceiverRefusesForgeries(t *testing.T) {
	t.Parallel()
	r := newReceiver(nil)
	defer r.server.Close()
	right, err := webhook.NewSecret()
	require.NoError(t, err)
	wrong, err := webhook.NewSecret()
	require.NoError(t, err)
	require.NoError(t, r.expect("/inbox", right, always(http.StatusNoContent)))
	post := func(path string, secret webhook.Secret) int {
		signer, err := webhook.NewSigner(secret)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+path, strings.NewReader("{}"))
		require.NoError(t, err)
		signer.Sign(req.Header, "event", time.Now(), []byte("{}"))
		resp, err := r.server.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode
	}

	require.Equal(t, http.StatusNoContent, post("/inbox", right))
	require.Equal(t, http.StatusUnauthorized, post("/inbox", wrong))
	require.Equal(t, http.StatusNotFound, post("/elsewhere", right))

	require.Equal(t, [3]int64{3, 1, 1}, [3]int64{r.requests.Load(), r.verified.Load(), r.refused.Load()})
}

// cancelAfter is an output that ends the program once it has logged so many
// attempts.
type cancelAfter struct {
	text     bytes.Buffer
	attempts int
	cancel   context.CancelFunc
}

func (w *cancelAfter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`msg="webhook: attempt"`)) {
		if w.attempts--; w.attempts == 0 {
			w.cancel()
		}
	}
	return w.text.Write(p)
}

// lastLine returns the numbers of the output's last line.
func lastLine(t *testing.T, out string) map[string]int {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	text, found := strings.CutPrefix(lines[len(lines)-1], "quickstart: ok ")
	require.True(t, found, "%s", lines[len(lines)-1])
	numbers := map[string]int{}
	for field := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(field, "=")
		n, err := strconv.Atoi(value)
		require.NoError(t, err, "%s", field)
		numbers[name] = n
	}
	return numbers
}

// timesOf returns the times in the rows of the log for a webhook and an event
// type.
func timesOf(out, name, eventType string) []string {
	var times []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "  "+name+"  ") && strings.Contains(line, "  "+eventType+"  ") {
			times = append(times, line[:len(time.DateTime)])
		}
	}
	return times
}
