package cli_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook/cmd/posthorn/internal/cli"
)

const secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// ran is what a run of the program left behind.
type ran struct {
	code        int
	out, errors string
}

// world is what a run finds.
type world struct {
	stdin string
	env   map[string]string
}

// withSecret is the world of most tests.
var withSecret = world{env: map[string]string{"POSTHORN_SECRET": secret}}

func (w world) run(ctx context.Context, args ...string) ran {
	var out, errs bytes.Buffer
	code := cli.Main(ctx, cli.Program{
		Args: args, Stdin: strings.NewReader(w.stdin), Stdout: &out, Stderr: &errs,
		Getenv: func(name string) string { return w.env[name] },
	})
	return ran{code, out.String(), errs.String()}
}

// write writes a file of the test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	none := write(t, "none", "\n")
	for _, tc := range []struct {
		args []string
		want string // of the one line that is said
	}{
		{[]string{"sned"}, `unknown command "sned"`},
		{[]string{"send"}, "URL: is required"},
		{[]string{"send", "a", "b"}, "URL: is required, and only one"},
		{[]string{"send", "--colour", "x"}, "unknown flag: --colour"},
		{[]string{"send", "-colour", "x"}, "unknown flag: -c"},
		{[]string{"send", "ftp://127.0.0.1"}, "URL: must begin with https://"},
		{[]string{"send", "http://example.com/"}, "URL: must begin with https://, unless it is of this machine"},
		{[]string{"send", "https://10.0.0.1/"}, "URL: must not have a private"},
		{[]string{"send", "http://127.0.0.1/", "--tamper", "all"}, "--tamper: must be body, signature or time"},
		{[]string{"send", "http://127.0.0.1/", "--subject", "room"}, "--subject: must be TYPE:ID"},
		{[]string{"send", "http://127.0.0.1/", "--subject", "room:12"}, "--subject: must be a UUID"},
		{[]string{"send", "http://127.0.0.1/", "--event-type", "Message Sent"}, "--event-type: "},
		{[]string{"send", "http://127.0.0.1/", "--data", "{"}, "--data: must be one JSON value"},
		{[]string{"send", "http://127.0.0.1/", "--event-id", "x", "--live"}, "--event-id: must be a UUID"},
		{[]string{"send", "http://127.0.0.1/", "--event-id", "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"}, "--event-id: needs --live"},
		{[]string{"send", "http://127.0.0.1/", "--allow", "10.0.0.0"}, "--allow: must be addresses with their length"},
		{[]string{"send", "http://127.0.0.1/", "--timeout", "5"}, "--timeout: must be a time with its unit"},
		{[]string{"send", "http://127.0.0.1/", "--timeout", "1ms"}, "--timeout: must be at least 1s"},
		{[]string{"send", "http://127.0.0.1/", "--signature-header", "Cookie"}, "--signature-header: must not be a header with another meaning"},
		{[]string{"send", "http://127.0.0.1/", "--ca-file", none}, "--ca-file: must have a certificate"},
		{[]string{"send", "http://127.0.0.1/", "--secret-file", none}, "--secret-file: has no secret"},
		{[]string{"send", "http://127.0.0.1/", "--secret", "a", "--secret", "b"}, "secret: must be one"},
		{[]string{"send", "http://127.0.0.1/", "--secret", ""}, "--secret: must not be empty"},
		{[]string{"send", "http://127.0.0.1/", "--secret", "a", "--secret-file", none}, "[secret secret-file]"},
		{[]string{"listen", "--count", "x"}, "--count: must be a whole number"},
		{[]string{"listen", "--count", "-1"}, "--count: must not be negative"},
		{[]string{"listen", "--fail", "-1"}, "--fail: must not be negative"},
		{[]string{"listen", "--status", "99"}, "--status: must be from 200 to 599"},
		{[]string{"listen", "--delay", "2h"}, "--delay: must be from 0 to 1h"},
		{[]string{"listen", "--timeout", "-1s"}, "--timeout: must not be negative"},
		{[]string{"listen", "--scheme", "none"}, "--scheme: must be pivot, standard or both"},
		{[]string{"listen", "--scheme="}, "--scheme: must be pivot, standard or both"},
		{[]string{"listen", "--tolerance", "0s"}, "--tolerance: must be at least 1s"},
		{[]string{"listen", "--secret", "not base64"}, "--scheme pivot"},
		{[]string{"listen", "--json=maybe"}, "--json: must be true or false"},
		{[]string{"listen", "--tls-cert", none}, "missing [tls-key]"},
		{[]string{"listen", "now"}, "it takes no arguments"},
		{[]string{"verify", "a", "b"}, "FILE: must be only one"},
		{[]string{"verify", none, "--headers", none, "--body", none}, "--headers: must not be there beside FILE"},
		{[]string{"verify", "--headers", none}, "missing [body]"},
		{[]string{"verify", "--headers", none, "--body", none, "--at", "noon"}, "--at: must be as in 2026-01-01T12:00:00Z"},
		{[]string{"migrate"}, "--dsn: is required"},
		{[]string{"migrate", "--dsn", "nonsense"}, "--dsn: must begin with postgres:"},
		{[]string{"migrate", "--dsn", "x", "--dialect", "oracle"}, "--dialect: must be postgres, mysql or sqlite"},
		{[]string{"migrate", "--dsn", "mysql://h/x", "--dialect", "sqlite"}, "--dialect: must be left out or be mysql"},
		{[]string{"migrate", "--dsn", "postgres://u:hunter2@:x/"}, "--dsn: must be a URL as in postgres:"},
		{[]string{"migrate", "--dsn", "mysql://u:hunter2@h:x/"}, "--dsn: must be a URL as in mysql:"},
		{[]string{"migrate", "--dsn", "mysql://u:hunter2@h/"}, "--dsn: must name a database"},
		{[]string{"migrate", "--dsn", "u:hunter2@tcp(h"}, "--dsn: must be a URL as in mysql:"},
		{[]string{"migrate", "--dsn", ":memory:", "--dialect", "sqlite"}, "--dsn: must name a file"},
		{[]string{"migrate", "--dsn", "sqlite:"}, "--dsn: must name a file"},
		{[]string{"migrate", "--dsn", "file:a%zz.db"}, "--dsn: must be the name of a file"},
		{[]string{"migrate", "--dsn", missing + ".db", "--prefix", "Ärger_"}, "--prefix: must be 1 to 24 lower-case letters"},
		{[]string{"status", "--top", "-1", "--dsn", "x.db"}, "--top: must be from 0 to 1000"},
		{[]string{"status", "--watch", "1ms", "--dsn", "x.db"}, "--watch: must be at least 100ms"},
		{[]string{"status", "--max-age", "-1s", "--dsn", "x.db"}, "--max-age: must not be negative"},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			t.Parallel()
			got := withSecret.run(t.Context(), tc.args...)
			require.Equal(t, 2, got.code, got.errors)
			require.Empty(t, got.out)
			require.Contains(t, got.errors, tc.want)
			require.Equal(t, 1, strings.Count(got.errors, "\n"), "one line: %s", got.errors)
			require.Contains(t, got.errors, "--help")
			require.NotContains(t, got.errors, "hunter2")
		})
	}
}

func TestASecretIsRequired(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"listen"}, {"send", "http://127.0.0.1/"}, {"verify", write(t, "r", "A: b\n\n")}} {
		got := world{}.run(t.Context(), args...)
		require.Equal(t, 2, got.code)
		require.Contains(t, got.errors, "secret: is required: set POSTHORN_SECRET, or name a file with --secret-file")
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.db")
	for _, args := range [][]string{
		{"verify", missing},
		{"verify", "--headers", missing, "--body", missing},
		{"send", "http://127.0.0.1/", "--secret-file", missing},
		{"send", "http://127.0.0.1/", "--data", "@" + missing},
		{"send", "http://127.0.0.1/", "--ca-file", missing},
		{"listen", "--addr", "127.0.0.1:0", "--tls-cert", missing, "--tls-key", missing},
		{"listen", "--addr", "nowhere"},
		{"status", "--dsn", missing},
		{"migrate", "--dsn", missing + "/x/hooks.db"},
		{"status", "--dsn", "postgres://u:hunter2@127.0.0.1:1/x"},
		{"status", "--dsn", "mysql://u:hunter2@127.0.0.1:1/x"},
		{"status", "--dsn", "mysql://u:hunter2@127.0.0.1:1/x?loc=Europe/Berlin"},
		{"status", "--dsn", "MySQL://u:hunter2@127.0.0.1:1/a%40b?charset=utf8mb4"},
		{"status", "--dsn", "postgres://u:hunter2?x@127.0.0.1:1/x"}, // which pgx reads
		{"status", "--dsn", "postgres://u:hunter2@127.0.0.1:1/a%40b?application_name=a@b"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			got := withSecret.run(t.Context(), args...)
			require.Equal(t, 3, got.code, got.errors)
			require.Empty(t, got.out)
			require.NotContains(t, got.errors, "hunter2")
		})
	}
	require.NoFileExists(t, missing, "looking at a database does not make it")
}

// Secrets and passwords that were typed where they do not belong are not repeated.
func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"send", "-secret=" + secret, "http://127.0.0.1/"},
		{secret},
		{"migrate", "-dsn=postgres://u:hunter2@h/x"},
		{"postgres://u:hunter2@h/x"},
		{"migrate", "-dsn=u:hunter2@tcp(h)/x"},
		{"migrate", "-dsn=host=h password=hunter2 dbname=x"},
		{"migrate", "-dsn=host=h password='hunter2 x' dbname=x"},
		{"migrate", "mysql://u:hunter2/a@h/x"},
		{"migrate", "-dsn=mysql://u:hun ter2/hunter2@h/x"},
		{"migrate", "host=h password = hunter2"},
		{"migrate", "u:p hunter2@tcp(h)/x"},
		{"migrate", "hunter2"},
		{"send", "-xhunter2", "http://127.0.0.1/"},
		{"mysql://u:hunter2/a@h/x"},
		{"my hunter2"},
		{"my\"hunter2"},
		{"send", "--my hunter2", "http://127.0.0.1/"},
		{"migrate", "--dsn", "mysql://h/x?a;b=hunter2"},
		// A password that is not percent-encoded is neither taken for a name nor looked up.
		{"migrate", "--dsn", "postgres://u:p@ss/hunter2@127.0.0.1:1/x"},
		{"migrate", "--dsn", "postgres://u:p@h/x?hunter2@127.0.0.1:1/x"},
		{"migrate", "--dsn", "mysql://u:p@ss/hunter2@127.0.0.1:1/x"},
		{"migrate", "--dsn", "mysql://u:p@h/x?hunter2@127.0.0.1:1/x"},
		{"migrate", "--dsn", "mysql://u:p@h/x#hunter2@127.0.0.1:1/x"},
		{"migrate", "--dsn", "MySQL://u:p@ss/hunter2@127.0.0.1:1/x"},
	} {
		got := world{}.run(t.Context(), args...)
		require.Equal(t, 2, got.code)
		require.NotContains(t, got.errors, "hunter2")
		require.NotContains(t, got.errors, secret[6:])
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	commands := []string{"migrate", "status", "send", "listen", "verify", "version"}
	root := world{}.run(t.Context())
	require.Zero(t, root.code)
	for _, command := range commands {
		require.Contains(t, root.out, "\n  "+command+" ")
		help := world{}.run(t.Context(), command, "--help")
		require.Zero(t, help.code)
		require.Empty(t, help.errors)
		require.Contains(t, help.out, "posthorn "+command)
		for line := range strings.Lines(help.out) {
			require.LessOrEqual(t, len([]rune(line)), 132, "%q", line)
		}
	}
	version := world{}.run(t.Context(), "version")
	require.Regexp(t, `^posthorn .+ go1\.\S+ \S+/\S+\n$`, version.out)
	require.Equal(t, version, world{}.run(t.Context(), "--version"))
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			got := world{}.run(t.Context(), "completion", shell)
			require.Zero(t, got.code)
			require.Positive(t, strings.Count(got.out, "__complete "), "its script") // which is too long to be shown
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Logf("%s is not here to read its script", shell)
				return
			}
			check := exec.CommandContext(t.Context(), path, "-n") // reads, and runs nothing
			check.Stdin = strings.NewReader(got.out)
			said, err := check.CombinedOutput()
			require.NoError(t, err, "%s", said)
		})
	}
	for _, tc := range []struct{ line, want string }{
		{"l", "listen\tReceive webhooks"},
		{"send --tamper ", "body\nsignature\ntime\n:4"},
		{"send --event-type ", "message_sent\n"},
		{"listen --scheme ", "pivot\nstandard\n:4"},
		{"migrate --dialect ", "postgres\nmysql\nsqlite\n:4"},
		{"send --secret ", ":4"},      // nothing, not even files
		{"send --secret-file ", ":0"}, // files
		{"status ", ":4"},
		{"verify ", ":0"},
	} {
		args := append([]string{"__complete"}, strings.Split(tc.line, " ")...)
		got := world{}.run(t.Context(), args...)
		require.Zero(t, got.code)
		require.Contains(t, got.out, tc.want, tc.line)
	}
}

// lines counts lines, and does something after so many.
type lines struct {
	n, after int
	then     func()
}

// Write counts.
func (l *lines) Write(p []byte) (int, error) {
	l.n += bytes.Count(p, []byte("\n"))
	if l.n == l.after {
		l.then()
	}
	return len(p), nil
}

func mainWith(ctx context.Context, out io.Writer, args ...string) int {
	return cli.Main(ctx, cli.Program{
		Args: args, Stdin: strings.NewReader(""), Stdout: out, Stderr: io.Discard, Getenv: func(string) string { return "" },
	})
}

// full is a disk that is full.
type full struct{}

// Write writes nothing.
func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What could not be printed is no wrong usage, and not done well.
func TestWithoutOutput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "app.db")
	saved := write(t, "request", dryRun(t))
	for _, args := range [][]string{
		{"version"}, {"--version"}, {"--help"}, {"completion", "bash"}, {"migrate", "--dsn", file}, {"migrate", "--dsn", file, "--json"},
		{"status", "--dsn", file}, {"status", "--dsn", file, "--json"}, {"send", "http://127.0.0.1/", "--dry-run"}, {"verify", saved}, {"verify", "--json", saved},
	} {
		var errs bytes.Buffer
		code := cli.Main(t.Context(), cli.Program{
			Args: args, Stdin: strings.NewReader(""), Stdout: full{}, Stderr: &errs, Getenv: func(name string) string { return withSecret.env[name] },
		})
		require.Equal(t, 3, code, "%s: %s", args, &errs)
		require.Regexp(t, `^posthorn[a-z ]*: .*no space left on device\n$`, errs.String())
	}
}

// Ctrl-C ends what waits for its input.
func TestInputThatDoesNotCome(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"verify"}, {"send", "http://127.0.0.1/", "--data", "-"}} {
		reader, writer := io.Pipe()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		var errs bytes.Buffer
		go func() {
			ended <- cli.Main(ctx, cli.Program{
				Args: args, Stdin: reader, Stdout: io.Discard, Stderr: &errs, Getenv: func(name string) string { return withSecret.env[name] },
			})
		}()
		_, err := writer.Write([]byte("A")) // which is read when it waits for more
		require.NoError(t, err)
		stop()
		select {
		case code := <-ended:
			require.Equal(t, 3, code, errs.String())
			require.Contains(t, errs.String(), "context canceled")
		case <-time.After(10 * time.Second):
			require.Fail(t, "it waits on")
		}
		require.NoError(t, writer.Close())
	}
}

// A saved request may be something else altogether.
func TestALineThatIsNoHeaderIsNotRepeated(t *testing.T) {
	t.Parallel()
	w := withSecret
	w.stdin = "A: b\nhunter2\n\n"
	got := w.run(t.Context(), "verify")
	require.Equal(t, 3, got.code)
	require.NotContains(t, got.errors, "hunter2")
}
