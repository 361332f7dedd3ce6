package cli_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// requireVisible fails if a text could do more on a terminal than be read.
func requireVisible(t *testing.T, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text))
	for _, r := range text {
		require.False(t, unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r), "%q", r)
	}
}

// Whatever is taken for a saved request: nobody without the secret gets a yes, and
// what is said about it is harmless.
func FuzzVerify(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\r\nX-Pivot-Signature: 00\r\nWebhook-Id: a\r\nWebhook-Timestamp: 1\r\nWebhook-Signature: v1,\r\n\r\n{}"))
	f.Add([]byte("Transfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n"))
	f.Add([]byte("Content-Length: 3\n\nab"))
	f.Add([]byte("Content-Length: -1\n\n"))
	f.Add([]byte("\x1b[2J: \u202e\n\n\xff"))
	f.Add([]byte("A: b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		w := withSecret
		w.stdin = string(text)
		for _, age := range []string{"--ignore-age", "--at=1"} {
			got := w.run(t.Context(), "verify", age)
			require.Contains(t, []int{1, 3}, got.code)
			requireVisible(t, got.out)
			requireVisible(t, got.errors)
			require.Equal(t, 1, strings.Count(got.errors, "\n"))
		}
	})
}

// Whatever a signed payload is: it is shown harmlessly, and in JSON it is the same.
func FuzzPayload(f *testing.F) {
	f.Add([]byte(`{"event_type":"a","subject":{"type":"room","id":"1"},"test":true,"data":[1,2.50,null]}`))
	f.Add([]byte(`{"event_type":7}`))
	f.Add([]byte("\"\u009b\u202e\U000e0041\""))
	f.Add([]byte("not \xff JSON\x1b"))
	f.Add([]byte(" "))
	f.Add([]byte("\"\xff\""))
	f.Fuzz(func(t *testing.T, payload []byte) {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(payload)
		w := withSecret
		w.stdin = fmt.Sprintf("X-Pivot-Signature: %s\r\n\r\n%s", hex.EncodeToString(mac.Sum(nil)), payload)
		text := w.run(t.Context(), "verify", "--scheme", "pivot")
		require.Zero(t, text.code, text.errors)
		requireVisible(t, text.out)

		got := w.run(t.Context(), "verify", "--scheme", "pivot", "--json")
		require.Zero(t, got.code, got.errors)
		requireVisible(t, got.out)
		require.Equal(t, 1, strings.Count(got.out, "\n"))
		var doc struct{ Payload json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(got.out), &doc))
		if !json.Valid(payload) || !utf8.Valid(payload) {
			return
		}
		require.Equal(t, decoded(t, payload), decoded(t, doc.Payload))
	})
}

func decoded(t *testing.T, text []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&v))
	return v
}
