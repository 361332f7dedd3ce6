package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const page = "../../docs/cli.md"

// example is a command of the page, with what it says that comes back.
type example struct{ line, output string }

func examples(t *testing.T) (list []example) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		for part := range strings.SplitSeq("\n"+block[1], "\n$ ") {
			line, output, _ := strings.Cut(part, "\n")
			if line != "" {
				list = append(list, example{line, strings.TrimSpace(output)})
			}
		}
	}
	require.NotEmpty(t, list)
	return list
}

// alike replaces what differs from run to run.
func alike(text string) string {
	for _, r := range []struct{ form, with string }{
		{`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`, "ID"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "TIME"},
		{`(?m)^\d\d:\d\d:\d\d `, "TIME "},
		{`in \d\S*s\b`, "in DURATION"},
		{`\d+ bytes`, "N bytes"},
		{`127\.0\.0\.1:\d+`, "ADDRESS"},
		{`posthorn devel.*`, "BUILD"},
	} {
		text = regexp.MustCompile(r.form).ReplaceAllString(text, r.with)
	}
	return strings.TrimSpace(text)
}

// TestThePageShowsWhatHappens runs the commands of docs/cli.md by a shell, in their
// order; listen runs beside the others, and is looked at in the end.
func TestThePageShowsWhatHappens(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sh")
	require.NoError(t, err)
	folder := t.TempDir()
	var (
		exports, want string
		listener      *listener
		code          int
	)
	for _, ex := range examples(t) {
		switch {
		case strings.HasPrefix(ex.line, "export POSTHORN_SECRET="): // the tests have one
		case strings.HasPrefix(ex.line, "export "):
			exports += ex.line + "\n"
		case ex.line == "echo $?":
			require.Equal(t, ex.output, string(rune('0'+code)))
		case strings.HasPrefix(ex.line, "posthorn listen"):
			_, want, _ = strings.Cut(ex.output, "\n") // the first line goes to standard error
			listener = listen(t)
		default:
			script := exports + ex.line
			if listener != nil {
				script = strings.ReplaceAll(script, "http://127.0.0.1:4000", listener.url)
			}
			if strings.Contains(script, "--at ") { // the page's time is not this one
				script = regexp.MustCompile(`--at \S+`).ReplaceAllString(script, "--ignore-age")
			}
			cmd := exec.CommandContext(t.Context(), shell, "-c", script)
			cmd.Dir = folder
			cmd.Env = append(os.Environ(), "POSTHORN_SECRET="+secret, "PATH="+filepath.Dir(posthorn)+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			code = codeOf(t, err)
			require.Equal(t, alike(ex.output), alike(string(out)), ex.line)
		}
	}
	require.NotNil(t, listener)
	require.NoError(t, listener.Process.Signal(syscall.SIGINT))
	require.Equal(t, 1, listener.end(t))
	require.Equal(t, alike(want), alike(listener.stdout.text.String()))
}

var flagForm = regexp.MustCompile(`--[a-z][a-z-]*`)

// TestThePageHasEveryFlag compares the page's tables with what --help says.
func TestThePageHasEveryFlag(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, command := range []string{"listen", "send", "verify", "migrate", "status"} {
		_, section, found := strings.Cut(string(text), "\n## "+command+"\n")
		require.True(t, found, command)
		section, _, _ = strings.Cut(section, "\n## ")
		_, table, found := strings.Cut(section, "\n| flag | |\n|---|---|\n")
		require.True(t, found, command)
		var onPage []string
		for line := range strings.Lines(table) {
			if first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | "); strings.HasPrefix(line, "| ") {
				onPage = append(onPage, flagForm.FindAllString(first, -1)...)
			}
		}
		_, help, _ := run(t, command, "--help")
		_, help, _ = strings.Cut(help, "\nFlags:\n")
		var offered []string
		for line := range strings.Lines(help) {
			if flag := flagForm.FindString(line); flag != "" && flag != "--help" {
				offered = append(offered, flag)
			}
		}
		slices.Sort(onPage)
		slices.Sort(offered)
		require.Equal(t, offered, onPage, command)
	}
}
