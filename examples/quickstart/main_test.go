package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
	"github.com/posthorn/webhook/webhooktest"
)

var numbersOfOnce = map[string]int{
	"events": 3, "deliveries": 7, "attempts": 19, "succeeded": 4, "failed": 2, "cancelled": 1, "verified": 19,
}

func TestOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "new", "quick #1%?.db")

	out := runOnce(t, file)

	n := lastLine(t, out)
	require.Equal(t, n["attempts"], n["verified"])
	require.Equal(t, n["deliveries"], n["succeeded"]+n["failed"]+n["cancelled"])
	require.Equal(t, numbersOfOnce, n)
	require.FileExists(t, file)
	require.Contains(t, out, "everything is kept in "+file+"; to begin afresh, delete it\n")
	require.Contains(t, out, "its log is empty")
	require.Contains(t, out, "a viewer tries to register one: webhook: forbidden\n")
	require.Contains(t, out, "the admin deletes Prototype; retries pending until now: 1\n")
	require.Contains(t, out, "notice: 2 deliveries to Old CRM at ")
	times := timesOf(t, out, "Old CRM", "room_recording_transcript_published")
	require.WithinDuration(t, time.Now(), times[0], time.Minute)
	var after []time.Duration
	for _, at := range times {
		after = append(after, at.Sub(times[0]))
	}
	require.Equal(t, []time.Duration{
		0, time.Minute, 6 * time.Minute, 36 * time.Minute, 2*time.Hour + 36*time.Minute, 14*time.Hour + 36*time.Minute,
	}, after)
}

func TestSecondRunShowsTheFirst(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "quickstart.db")
	first := timesOf(t, runOnce(t, file), "Old CRM", "message_sent")

	out := runOnce(t, file)

	require.Equal(t, numbersOfOnce, lastLine(t, out), "the numbers of this run alone")
	require.Contains(t, out, "earlier runs left 7 deliveries and 19 attempts in its log; the newest 7:\n")
	shown := map[string]int{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 7 && strings.HasPrefix(fields[2], "/") {
			require.Equal(t, first[0].Format(time.DateTime), line[:len(time.DateTime)])
			shown[strings.Join(fields[2:], " ")]++
		}
	}
	require.Equal(t, map[string]int{
		"/archive message_sent succeeded 1 204": 2, "/archive room_recording_transcript_published succeeded 1 204": 1,
		"/bot message_sent succeeded 3 200": 1, "/prototype message_sent cancelled 1 502": 1,
		"/crm message_sent failed 6 500": 1, "/crm room_recording_transcript_published failed 6 500": 1,
	}, shown)
	second := timesOf(t, out, "Old CRM", "message_sent")
	require.False(t, second[0].Before(first[5]), "the clock goes back: %v after %v", second[0], first[5])

	require.Contains(t, runOnce(t, file), "earlier runs left 14 deliveries and 38 attempts in its log; the newest 7:\n")
	require.Equal(t, []string{"Old CRM", "Chat bot", "Archive"}, webhooksIn(t, file), "their number must not grow")
}

// What a run leaves that was killed: a webhook whose endpoint is gone, a delivery
// that is due, and one that is leased on a clock that was hours ahead.
func TestRunAfterAKilledOne(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "quickstart.db")
	runOnce(t, file)
	store := openStore(t, file)
	ahead := time.Now().Add(100 * time.Hour)
	manager, err := webhook.NewManager(store, webhook.ManagerConfig{Clock: webhooktest.NewClock(ahead)})
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{Clock: webhooktest.NewClock(ahead)})
	require.NoError(t, err)
	_, _, err = manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Left", EndpointURL: "https://left.example.com/left", Subscriptions: subscribe(space, messageSent),
	})
	require.NoError(t, err)
	for range 2 {
		_, err = publisher.Publish(t.Context(), events[2])
		require.NoError(t, err)
	}
	claimed, err := store.Claim(t.Context(), webhook.ClaimParams{Now: ahead, LeaseFor: time.Hour, Limit: 1})
	require.NoError(t, err)
	require.Len(t, claimed.Claims, 1)

	out := runOnce(t, file)

	require.Equal(t, numbersOfOnce, lastLine(t, out))
	require.Contains(t, out, "earlier runs left 11 deliveries and 19 attempts in its log")
	require.NotContains(t, webhooksIn(t, file), "Left")
	require.Contains(t, runOnce(t, file), "earlier runs left 18 deliveries and 39 attempts in its log", "one was interrupted")
}

func TestRunsTakeTurns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "quickstart.db")
	const runs = 3
	outputs, errs := make([]bytes.Buffer, runs), make([]error, runs)
	var all sync.WaitGroup

	for i := range runs {
		all.Go(func() { errs[i] = run(t.Context(), &outputs[i], file, true) })
	}
	all.Wait()

	for i := range runs {
		require.NoError(t, errs[i])
		require.Equal(t, numbersOfOnce, lastLine(t, outputs[i].String()))
	}
	require.Contains(t, runOnce(t, file), "earlier runs left 21 deliveries and 57 attempts in its log")
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "quickstart.db")
	full, release, err := take(t.Context(), io.Discard, file)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelOn{text: "this one waits until it ends", times: 1, cancel: cancel}

	err = run(ctx, out, file, true)

	require.ErrorIs(t, err, context.Canceled)
	require.Contains(t, out.written.String(), "another quickstart works on "+full)
	release()
	runOnce(t, file)
}

func TestFileThatCannotBe(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("no database ", 100)), 0o600))

	require.ErrorContains(t, run(t.Context(), io.Discard, "", true), "-db")
	require.Error(t, run(t.Context(), io.Discard, text, true))
	require.Error(t, run(t.Context(), io.Discard, filepath.Join(text, "quickstart.db"), true))
}

func TestServeEndsGracefully(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	file := filepath.Join(t.TempDir(), "quickstart.db")
	out := &cancelOn{text: `msg="webhook: attempt"`, times: 4, cancel: cancel}

	err := run(ctx, out, file, false)

	require.NoError(t, err)
	n := lastLine(t, out.written.String())
	require.GreaterOrEqual(t, n["attempts"], 4)
	require.Equal(t, n["attempts"], n["verified"])
	require.Equal(t, 2*n["events"], n["deliveries"])
	require.NotContains(t, out.written.String(), "interrupted")
	require.Contains(t, runOnce(t, file), fmt.Sprintf("earlier runs left %d deliveries and %d attempts in its log", 7+n["deliveries"], 19+n["attempts"]))
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "quickstart.db")
	for _, text := range []string{"everything is kept in", "published", "the admin deletes", "attempts: 2"} {
		ctx, cancel := context.WithCancel(t.Context())

		err := run(ctx, &cancelOn{text: text, times: 1, cancel: cancel}, file, true)

		cancel()
		require.ErrorIs(t, err, context.Canceled, "%s", text)
	}
	require.Equal(t, numbersOfOnce, lastLine(t, runOnce(t, file)))
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

// runOnce returns what a run with -once prints.
func runOnce(t *testing.T, file string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, file, true))
	return out.String()
}

// openStore opens the store of an earlier run.
func openStore(t *testing.T, file string) *sqlstore.Store {
	t.Helper()
	db, err := sql.Open("sqlite", uri(file)+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	store, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{InsecurePlaintextSecrets: true})
	require.NoError(t, err)
	return store
}

// webhooksIn returns the names of the webhooks in a file.
func webhooksIn(t *testing.T, file string) (names []string) {
	t.Helper()
	manager, err := webhook.NewManager(openStore(t, file), webhook.ManagerConfig{})
	require.NoError(t, err)
	page, err := manager.Webhooks(t.Context(), viewer, webhook.WebhookQuery{})
	require.NoError(t, err)
	for _, w := range page.Items {
		names = append(names, w.Name)
	}
	return names
}

// cancelOn is an output that ends the program once a text has been written so
// many times.
type cancelOn struct {
	text    string
	times   int
	cancel  context.CancelFunc
	written bytes.Buffer
}

func (w *cancelOn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		if w.times--; w.times == 0 {
			w.cancel()
		}
	}
	return w.written.Write(p)
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
func timesOf(t *testing.T, out, name, eventType string) []time.Time {
	t.Helper()
	var times []time.Time
	for line := range strings.Lines(out) {
		if strings.Contains(line, "  "+name+"  ") && strings.Contains(line, "  "+eventType+"  ") {
			at, err := time.Parse(time.DateTime, line[:len(time.DateTime)])
			require.NoError(t, err)
			times = append(times, at)
		}
	}
	require.Len(t, times, 6)
	return times
}
