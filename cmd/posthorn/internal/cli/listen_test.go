package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook/cmd/posthorn/internal/cli"
)

// listening is a listen that runs.
type listening struct {
	url   string
	stop  context.CancelFunc
	ended chan ran
}

var addressForm = regexp.MustCompile(`^posthorn listen: listening on (https?://\S+), until Ctrl-C\n$`)

// listen starts one on a free port, and waits until it listens.
func listen(t *testing.T, args ...string) *listening {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &listening{stop: stop, ended: make(chan ran, 1)}
	reader, writer := io.Pipe()
	errs := make(chan string, 1)
	go func() {
		var out bytes.Buffer
		code := cli.Main(ctx, cli.Program{
			Args: append([]string{"listen", "--addr", "127.0.0.1:0"}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: writer,
			Getenv: func(name string) string { return withSecret.env[name] },
		})
		_ = writer.Close()
		l.ended <- ran{code, out.String(), <-errs}
	}()
	lines := bufio.NewReader(reader)
	first, _ := lines.ReadString('\n')
	match := addressForm.FindStringSubmatch(first)
	require.NotNil(t, match, first)
	l.url = match[1]
	go func() {
		rest, _ := io.ReadAll(lines)
		errs <- string(rest)
	}()
	t.Cleanup(stop)
	return l
}

func (l *listening) send(t *testing.T, args ...string) ran {
	t.Helper()
	return withSecret.run(t.Context(), append([]string{"send", l.url}, args...)...)
}

func TestListen(t *testing.T) {
	t.Parallel()
	l := listen(t, "--count", "3")
	require.Zero(t, l.send(t, "--event-type", "order_paid", "--subject", "order:7", "--data", `{"total":12}`).code)
	require.Equal(t, 1, l.send(t, "--tamper", "body").code)
	require.Zero(t, l.send(t, "--live").code)
	got := <-l.ended
	require.Equal(t, 1, got.code)
	require.Equal(t, "posthorn listen: refused 1 of 3 requests\n", got.errors)
	require.Regexp(t, `(?m)^\d\d:\d\d:\d\d  204  verified  order_paid \(test\)  order 7  attempt 1\n`+
		`  webhook-id [0-9a-f-]{36}, signed at \S+Z\n  \{\n(    .*\n)+`+
		`    "data": \{\n      "total": 12\n    \}\n  \}\n`+
		`\d\d:\d\d:\d\d  401  refused   pivot: X-Pivot-Signature does not fit the body.*; standard: .*\n`+
		`\d\d:\d\d:\d\d  204  verified  message_sent  room `, got.out)
	require.NotContains(t, got.out, secret)
}

func TestListenInJSON(t *testing.T) {
	t.Parallel()
	l := listen(t, "--json", "--count", "2")
	require.Zero(t, l.send(t, "--data", `{"a":1}`).code)
	require.Equal(t, 1, l.send(t, "--tamper", "time").code)
	got := <-l.ended
	require.Equal(t, 1, got.code)
	type line struct {
		Verified  bool
		Answered  int
		WebhookID string `json:"webhook_id"`
		EventType string `json:"event_type"`
		Attempt   int
		Test      bool
		Reason    string
		Payload   struct{ Data json.RawMessage }
	}
	var lines []line
	for text := range strings.Lines(got.out) {
		var l line
		require.NoError(t, json.Unmarshal([]byte(text), &l))
		lines = append(lines, l)
	}
	require.Len(t, lines, 2)
	require.NotEmpty(t, lines[0].WebhookID)
	lines[0].WebhookID = ""
	require.Equal(t, line{Verified: true, Answered: 204, EventType: "message_sent", Attempt: 1, Test: true, Payload: lines[0].Payload}, lines[0])
	require.JSONEq(t, `{"a":1}`, string(lines[0].Payload.Data))
	require.Equal(t, line{Answered: 401, Reason: "standard: the signature fits, but webhook-timestamp is 1h old, and 5m is the most"}, lines[1])
}

func TestListenAnswersAsItIsTold(t *testing.T) {
	t.Parallel()
	l := listen(t, "--fail", "2", "--status", "202", "--count", "3", "--delay", "1ms")
	for _, want := range []string{"answered 500", "answered 500", "answered 202"} {
		require.Contains(t, l.send(t).out, want)
	}
	require.Zero(t, (<-l.ended).code, "it did as it was told: all were verified")
}

func TestListenEnds(t *testing.T) {
	t.Parallel()
	t.Run("on Ctrl-C", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		require.Zero(t, l.send(t).code)
		l.stop()
		require.Zero(t, (<-l.ended).code)
	})
	t.Run("on Ctrl-C, having refused one", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		require.Equal(t, 1, l.send(t, "--tamper", "signature").code)
		l.stop()
		require.Equal(t, 1, (<-l.ended).code)
	})
	t.Run("during a delay", func(t *testing.T) {
		t.Parallel()
		l := listen(t, "--delay", "1h")
		sent := make(chan ran, 1)
		go func() { sent <- l.send(t) }()
		l.stop()
		require.Zero(t, (<-l.ended).code)
		<-sent
	})
	t.Run("after its time, with what it was to wait for", func(t *testing.T) {
		t.Parallel()
		l := listen(t, "--timeout", "10ms")
		require.Zero(t, (<-l.ended).code)
	})
	t.Run("after its time, without", func(t *testing.T) {
		t.Parallel()
		got := <-listen(t, "--timeout", "10ms", "--count", "1").ended
		require.Equal(t, 3, got.code)
		require.Equal(t, "posthorn listen: ended after 0 of 1 requests\n", got.errors)
	})
}

func TestListenToOthers(t *testing.T) {
	t.Parallel()
	l := listen(t)
	client := &http.Client{Timeout: time.Minute}
	do := func(method string, body io.Reader) int {
		r, err := http.NewRequestWithContext(t.Context(), method, l.url, body)
		require.NoError(t, err)
		resp, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 405, do(http.MethodGet, nil))
	l.stop()
	require.Zero(t, (<-l.ended).code, "a GET is no webhook, and none that was refused")

	l = listen(t, "--count", "2", "--json")
	require.Equal(t, 401, do(http.MethodPost, strings.NewReader("\x1b[2J")))
	require.Equal(t, 413, do(http.MethodPost, strings.NewReader(strings.Repeat("x", 1<<20+1))))
	got := <-l.ended
	require.Equal(t, 1, got.code)
	require.Contains(t, got.out, "pivot: there is no X-Pivot-Signature; standard: there is no webhook-id")
	require.Contains(t, got.out, "the body has more than 1 MiB")
	require.NotContains(t, got.out, "[2J", "of what is not verified nothing is repeated")
}

// What cannot be printed is not received.
func TestListenWithoutOutput(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Main(t.Context(), cli.Program{
			Args: []string{"listen", "--addr", "127.0.0.1:0"}, Stdin: strings.NewReader(""), Stdout: closed{}, Stderr: writer,
			Getenv: func(name string) string { return withSecret.env[name] },
		})
		_ = writer.Close()
	}()
	lines := bufio.NewReader(reader)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	url := addressForm.FindStringSubmatch(first)[1]
	require.Equal(t, 1, withSecret.run(t.Context(), "send", url).code)
	require.Equal(t, 3, <-ended)
}

type closed struct{}

// Write writes nothing.
func (closed) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A stranger's headers take no more memory than a webhook's could.
func TestListenBoundsHeaders(t *testing.T) {
	t.Parallel()
	l := listen(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.url, http.NoBody)
	require.NoError(t, err)
	r.Header.Set("A", strings.Repeat("x", 100<<10))
	resp, err := (&http.Client{Timeout: time.Minute}).Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
	l.stop()
	require.Zero(t, (<-l.ended).code)
}
