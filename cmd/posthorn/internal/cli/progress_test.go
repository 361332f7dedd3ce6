package cli_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook/cmd/posthorn/internal/cli"
)

// watched is a terminal that somebody watches.
type watched struct {
	text bytes.Buffer
	seen chan struct{} // closed when there is something
}

// Write keeps it.
func (w *watched) Write(p []byte) (int, error) {
	if w.text.Len() == 0 {
		close(w.seen)
	}
	return w.text.Write(p)
}

func TestWhatTakesLongIsShownOnATerminal(t *testing.T) {
	t.Parallel()
	terminal := &watched{seen: make(chan struct{})}
	in := newInbox(t, (*httptest.Server).Start, func(http.ResponseWriter, *http.Request) { <-terminal.seen })
	send := func(p cli.Program) int {
		p.Args, p.Stdin, p.Stdout = []string{"send", in.URL}, strings.NewReader(""), io.Discard
		p.Getenv = func(name string) string { return withSecret.env[name] }
		return cli.Main(t.Context(), p)
	}
	require.Zero(t, send(cli.Program{Stderr: terminal, Terminal: true}))
	require.Regexp(t, `^\r\x1b\[Kwaiting for the answer, 1 s(\r\x1b\[K.*)?\r\x1b\[K$`, terminal.text.String(), "and taken away")

	var elsewhere bytes.Buffer
	require.Zero(t, send(cli.Program{Stderr: &elsewhere}))
	require.Empty(t, elsewhere.String())
}
