package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// visible returns text with everything escaped by which it could move a
// terminal's cursor, give it orders or change the order of what is read: control
// characters but for line ends and tabs, bidirectional and invisible ones, and
// bytes that are no UTF-8. The escapes are those of JSON, where the characters
// can only be inside of strings.
func visible(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' || r == '\t' || r == ' ' || shown(r):
			b.WriteString(s[i : i+size])
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// shown holds for what leaves a mark of its own, and for the joiners, which
// several scripts and emoji need.
func shown(r rune) bool {
	switch r {
	case '\u200C', '\u200D', '\uFE0F':
		return true
	case '\u2800':
		return false
	}
	return unicode.IsGraphic(r) && !unicode.IsSpace(r) && !unicode.In(r, unicode.Bidi_Control, unicode.Other_Default_Ignorable_Code_Point)
}

// oneLine is visible for what has to be a single line, without what is nobody's
// business: secrets and passwords that were typed in the wrong place.
func oneLine(s string) string {
	return visible(strings.Join(strings.Fields(redact(s)), " "))
}

var (
	secretForm   = regexp.MustCompile(`whsec_[A-Za-z0-9+/=_-]+`)
	passwordForm = regexp.MustCompile(`(?i)(password\s*=\s*)('[^']*'|\S+)`)
	userinfoForm = regexp.MustCompile(`://\S*@`)
	nativeForm   = regexp.MustCompile(`[^\s"']+@(tcp|unix)\(`)
)

func redact(s string) string {
	s = secretForm.ReplaceAllString(s, "whsec_…")
	s = userinfoForm.ReplaceAllString(s, "://…@")
	s = nativeForm.ReplaceAllString(s, "…@$1(")
	return passwordForm.ReplaceAllString(s, "${1}…")
}

// indented returns foreign text for people: JSON laid out, anything else as it
// is, every line indented.
func indented(text []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		b.Reset()
		b.Write(text)
	}
	return "  " + strings.ReplaceAll(visible(strings.TrimRight(b.String(), "\n")), "\n", "\n  ") + "\n"
}

// writeJSON writes one JSON value on a line of its own. What is not to be on a
// terminal is escaped.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, visible(b.String()))
	return err
}

// textOf is what of foreign bytes can stand in a JSON string.
func textOf(b []byte) string { return strings.ToValidUTF8(string(b), string(utf8.RuneError)) }

// milliseconds is a duration in JSON.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// short is a duration in whole seconds for people: 5m and not 5m0s.
func short(d time.Duration) string {
	s := d.Truncate(time.Second).String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

// waiting tells whoever watches, from one second on, what is going on and for
// how long. The caller ends it before it writes anything else.
func (p Program) waiting(what string) (end func()) {
	if !p.Terminal {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for seconds := 1; ; seconds++ {
			select {
			case <-tick.C:
				_, _ = fmt.Fprintf(p.Stderr, "\r\x1b[K%s, %d s", what, seconds)
			case <-stop:
				if seconds > 1 {
					_, _ = io.WriteString(p.Stderr, "\r\x1b[K")
				}
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-stopped })
}
