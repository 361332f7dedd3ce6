//go:build unix

package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestQuickstartPage does what docs/quickstart.md says, by a shell, with this program as
// the application. What it changes is the database, ports, and the secret.
func TestQuickstartPage(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	for _, program := range []string{"sh", "openssl", "curl", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			require.NotEqual(t, "true", os.Getenv("CI"), "%s is not installed", program)
			t.Skipf("%s is not installed: docs/quickstart.md is not tested", program) //nolint:forbidigo // says so, and CI never skips
		}
	}
	page, err := os.ReadFile("../../docs/quickstart.md")
	require.NoError(t, err)
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.Contains(t, string(page), "```go\n"+string(source)+"```\n", "the page has the whole program")
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)<!-- run by: TestQuickstartPage -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		blocks = append(blocks, m[1])
	}
	require.Len(t, blocks, 6)
	module, certificate, host, receiver, message, mailbox := blocks[0], blocks[1], blocks[2], blocks[3], blocks[4], blocks[5]

	folder := t.TempDir()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(root, filepath.Join(folder, "webhook")))
	finish(t, folder, module)
	chat := filepath.Join(folder, "chat")
	require.FileExists(t, filepath.Join(chat, "go.mod"))
	said, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(folder, "host"), ".").CombinedOutput()
	require.NoError(t, err, "%s", said)

	finish(t, chat, certificate)
	app := begin(t, chat, replaced(t, host,
		"postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable", database, "go run .", "exec ../host -addr 127.0.0.1:0"))
	at := "http://" + app.says(`the panel is at http://(\S+)/admin/webhooks/ for ada`)
	require.FileExists(t, filepath.Join(chat, "keys.txt"))

	// The port has to be known before the receiver, whose secret is made here, is started.
	port := freePort(t)
	status, text := asAda(t, at+"/admin/webhooks/new", webhookForm("https://localhost:"+port+"/").Encode())
	require.Equal(t, http.StatusCreated, status)
	rcv := begin(t, chat, replaced(t, receiver, "whsec_…", secretOf(t, text).Reveal(), "8443", port))
	rcv.says(`receiver: listening on (\S+)`)

	finish(t, chat, replaced(t, message, "http://127.0.0.1:8080", at))
	require.JSONEq(t, `{"text":"Hello"}`, rcv.says(`message_sent (.*)$`))

	begin(t, chat, replaced(t, mailbox, "127.0.0.1:1025", "127.0.0.1:0")).says(`mailbox: listening on (\S+)`)
}

// replaced makes each replacement, which the text has to have something for.
func replaced(t *testing.T, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(t, text, oldnew[i])
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}

// finish runs a block that ends.
func finish(t *testing.T, folder, block string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", block)
	cmd.Dir = folder
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
}

// process is what a block has started, with its output line by line.
type process struct {
	t     *testing.T
	lines chan string
}

// begin runs a block that goes on until the test ends.
func begin(t *testing.T, folder, block string) process {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-e", "-c", block)
	cmd.Dir, cmd.Stderr = folder, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run has a child
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := process{t, make(chan string, 100)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM))
		for range p.lines { // until it has ended
		}
		_ = cmd.Wait() // it was told to end
	})
	return p
}

// says waits for a line, and returns what is in its parentheses.
func (p process) says(pattern string) string {
	p.t.Helper()
	for line := range p.lines {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	require.Fail(p.t, "it ended, and never said", pattern)
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "localhost:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return port
}

func asAda(t *testing.T, at, form string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(form))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("ada", "teapot")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}
