package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxSaved bounds a saved request, in bytes.
const maxSaved = 16 << 20

var requestLine = regexp.MustCompile(`^[!-~]+ \S+ HTTP/[0-9.]+\r?$`)

// savedRequest reads a request as it was on the wire: perhaps a request line,
// headers, an empty line, the body. Lines may have lost their carriage returns, as
// editors do it. The body is taken as it is, but for what Content-Length and
// chunks say about it.
func savedRequest(text []byte) (http.Header, []byte, error) {
	head, body, found := cutHead(text)
	if !found {
		return nil, nil, fmt.Errorf("has no empty line between headers and body")
	}
	if line, rest, _ := bytes.Cut(head, []byte("\n")); requestLine.Match(line) {
		head = rest
	}
	h, err := headersOf(head)
	if err != nil {
		return nil, nil, err
	}
	if strings.EqualFold(h.Get("Transfer-Encoding"), "chunked") {
		decoded, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
		if err != nil {
			return nil, nil, fmt.Errorf("has a body that is not chunked as Transfer-Encoding says: %w", err)
		}
		return h, decoded, nil
	}
	if given := h.Get("Content-Length"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 0 {
			return nil, nil, fmt.Errorf("has a Content-Length that is no number")
		}
		if n > len(body) {
			return nil, nil, fmt.Errorf("is cut off: %d of the %d bytes that Content-Length says are there", len(body), n)
		}
		body = body[:n] // the rest, a line end mostly, came with saving
	}
	return h, body, nil
}

// cutHead cuts at the first empty line.
func cutHead(text []byte) (head, body []byte, found bool) {
	rest := text
	for len(rest) > 0 {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if !ended {
			break
		}
		if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
			return text[:len(text)-len(rest)], after, true
		}
		rest = after
	}
	return nil, nil, false
}

func headersOf(text []byte) (http.Header, error) {
	full := slices.Concat(bytes.TrimRight(text, "\r\n"), []byte("\r\n\r\n"))
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(full))).ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("has a line among its headers that is none%s", oddLine(text)) // the error repeats it, whatever it is
	}
	return http.Header(h), nil
}

// oddLine says which line has no name, as far as that is what is wrong.
func oddLine(text []byte) string {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if number > 1 && (line[0] == ' ' || line[0] == '\t') { // goes on with the one before
			continue
		}
		if bytes.IndexByte(line, ':') < 1 {
			return fmt.Sprintf(": number %d", number)
		}
	}
	return ""
}

// readFile reads a file, or what comes in if its name is "-", unless ctx ends: pipes
// and people may take any time.
func (p Program) readFile(ctx context.Context, name string) ([]byte, error) {
	var (
		text []byte
		err  error
	)
	done := make(chan struct{})
	go func() {
		defer close(done)
		text, err = p.readAll(name)
	}()
	select {
	case <-done:
		return text, err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", name, ctx.Err())
	}
}

func (p Program) readAll(name string) ([]byte, error) {
	in := p.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // read only
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSaved+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSaved {
		return nil, fmt.Errorf("%s: %w", name, errTooLarge)
	}
	return text, nil
}
