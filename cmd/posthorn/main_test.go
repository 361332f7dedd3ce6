package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// These tests are about the program as it is run; what it does is tested in
// internal/cli.

const secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// posthorn is the program, built once, in a folder of its own.
var posthorn string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "posthorn")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(folder) }()
		posthorn = filepath.Join(folder, "posthorn")
		if out, err := exec.Command("go", "build", "-o", posthorn, ".").CombinedOutput(); err != nil { //nolint:noctx // go test's own time limit is the bound
			fmt.Fprintf(os.Stderr, "building posthorn: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), posthorn, args...)
	cmd.Env = append(os.Environ(), "POSTHORN_SECRET="+secret)
	return cmd
}

// run runs the program to its end.
func run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := command(t, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return codeOf(t, cmd.Run()), stdout.String(), stderr.String()
}

func codeOf(t *testing.T, err error) int {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

// listener is a posthorn listen that runs.
type listener struct {
	*exec.Cmd
	url    string
	stdout printed
}

// printed is what a process has printed, to be read when it has ended, and says
// when that begins.
type printed struct {
	text  bytes.Buffer
	begun chan struct{}
}

// Write keeps it.
func (p *printed) Write(b []byte) (int, error) {
	if p.text.Len() == 0 {
		close(p.begun)
	}
	return p.text.Write(b)
}

var address = regexp.MustCompile(`listening on (http://\S+),`)

func listen(t *testing.T, args ...string) *listener {
	t.Helper()
	l := &listener{Cmd: command(t, append([]string{"listen", "--addr", "127.0.0.1:0"}, args...)...)}
	l.stdout.begun = make(chan struct{})
	l.Stdout = &l.stdout
	stderr, err := l.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, l.Start())
	t.Cleanup(func() { _ = l.Process.Kill() })
	first, err := bufio.NewReader(stderr).ReadString('\n')
	require.NoError(t, err)
	match := address.FindStringSubmatch(first)
	require.NotNil(t, match, first)
	l.url = match[1]
	return l
}

// end waits for its end.
func (l *listener) end(t *testing.T) int {
	t.Helper()
	return codeOf(t, l.Wait())
}

func TestListenBesideSend(t *testing.T) {
	t.Parallel()
	l := listen(t, "--count", "2")

	code, out, errs := run(t, "send", l.url, "--data", `{"text":"Hello, World!"}`)
	require.Zero(t, code, errs)
	require.Contains(t, out, "answered 204 No Content")

	code, out, errs = run(t, "send", l.url, "--tamper", "body")
	require.Equal(t, 1, code)
	require.Contains(t, out, "answered 401 Unauthorized")
	require.Equal(t, "posthorn send: refused: the receiver answered 401, and only 2xx is a success\n", errs)

	require.Equal(t, 1, l.end(t), "it has refused one")
	printed := l.stdout.text.String()
	require.Regexp(t, `^\d\d:\d\d:\d\d  204  verified  message_sent \(test\)  room `, printed)
	require.Contains(t, printed, `      "text": "Hello, World!"`)
	require.Contains(t, printed, "401  refused   pivot: X-Pivot-Signature does not fit the body")
	require.Equal(t, 1, strings.Count(printed, "Hello, World!"), "of what is refused nothing is printed")
	require.NotContains(t, printed+out+errs, secret)
}

func TestVerifyASavedRequest(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "request.http")
	code, saved, errs := run(t, "send", "http://127.0.0.1:4000", "--dry-run")
	require.Zero(t, code, errs)
	require.NoError(t, os.WriteFile(file, []byte(saved), 0o600))
	code, out, _ := run(t, "verify", file)
	require.Zero(t, code)
	require.Contains(t, out, "pivot     valid\nstandard  valid\nverified  message_sent (test)")

	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(saved, "Hello", "Hallo", 1)), 0o600))
	code, out, errs = run(t, "verify", file)
	require.Equal(t, 1, code)
	require.Contains(t, out, "pivot     invalid: ")
	require.Equal(t, "posthorn verify: refused: the request is not signed as it should be\n", errs)
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		l := listen(t)
		code, _, errs := run(t, "send", l.url)
		require.Zero(t, code, errs)
		require.NoError(t, l.Process.Signal(signal))
		require.Zero(t, l.end(t), "%v ends it cleanly", signal)
	}

	// A sender that waits for an answer.
	l := listen(t, "--delay", "1h", "--json")
	sender := command(t, "send", l.url)
	out, err := sender.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, sender.Start())
	<-l.stdout.begun // it prints before it answers: now the sender waits
	require.NoError(t, sender.Process.Signal(os.Interrupt))
	said, err := io.ReadAll(out)
	require.NoError(t, err)
	require.Equal(t, 3, codeOf(t, sender.Wait()))
	require.Contains(t, string(said), "posthorn send: no answer: ")
	require.NoError(t, l.Process.Signal(os.Interrupt))
	require.Zero(t, l.end(t))
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for want, args := range map[int][]string{
		0: {"version"},
		1: {"verify", "--ignore-age", "testdata/unsigned.http"},
		2: {"send"},
		3: {"status", "--dsn", "sqlite:testdata/missing.db"},
	} {
		code, _, errs := run(t, args...)
		require.Equal(t, want, code, errs)
	}
}
