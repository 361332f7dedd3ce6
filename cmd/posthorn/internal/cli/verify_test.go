package cli_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vector is a request of testdata/vectors, whose README says what it has.
type vector struct {
	Name             string
	Accept           bool
	Secrets, Schemes []string
	Now              int64
	ToleranceSeconds int         `json:"tolerance_seconds"`
	Headers          [][2]string // name, value
	Body             string
	BodyHex          string `json:"body_hex"`
}

func (v vector) head() string {
	var b strings.Builder
	for _, h := range v.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	return b.String()
}

func (v vector) args() []string {
	args := []string{
		"verify", "--at", strconv.FormatInt(v.Now, 10), "--tolerance", fmt.Sprintf("%ds", v.ToleranceSeconds),
		"--scheme", strings.Join(v.Schemes, ","),
	}
	for _, s := range v.Secrets {
		args = append(args, "--secret", s)
	}
	return args
}

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("../../../../testdata/vectors/vectors.json")
	require.NoError(t, err)
	var file struct{ Requests []vector }
	require.NoError(t, json.Unmarshal(text, &file))
	require.NotEmpty(t, file.Requests)
	for i := range file.Requests {
		if v := &file.Requests[i]; v.BodyHex != "" {
			body, err := hex.DecodeString(v.BodyHex)
			require.NoError(t, err)
			v.Body = string(body)
		}
	}
	return file.Requests
}

func TestVerifyAgainstTheVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			whole := world{stdin: "POST /hooks HTTP/1.1\r\nHost: example.com\r\n" + v.head() + "\r\n" + v.Body}
			apart := append(v.args(), "--headers", write(t, "headers", v.head()), "--body", write(t, "body", v.Body))
			for _, got := range []ran{whole.run(t.Context(), v.args()...), world{}.run(t.Context(), apart...)} {
				if v.Accept {
					require.Equal(t, ran{code: 0, out: got.out}, got)
					require.Contains(t, got.out, "\nverified  ")
				} else {
					require.Equal(t, 1, got.code, got.errors)
					require.NotContains(t, got.out, "verified")
					require.Contains(t, got.out, "invalid: ")
				}
			}
		})
	}
}

func TestVerifyReadsWhatWasSaved(t *testing.T) {
	t.Parallel()
	v := vectors(t)[0]
	require.True(t, v.Accept)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(v.Body))
	chunked := fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
		10, v.Body[:10], len(v.Body)-10, v.Body[10:])
	for _, tc := range []struct {
		name, text string
		code       int
	}{
		{"without a request line", v.head() + "\r\n" + v.Body, 0},
		{"with one", "POST / HTTP/1.1\r\n" + v.head() + "\r\n" + v.Body, 0},
		{"lines without carriage returns", strings.ReplaceAll("POST / HTTP/1.0\r\n"+v.head()+"\r\n", "\r", "") + v.Body, 0},
		{"a line end more, and a length", v.head() + length + "\r\n" + v.Body + "\n", 0},
		{"a line end more, and no length", v.head() + "\r\n" + v.Body + "\n", 1},
		{"in chunks", v.head() + chunked, 0},
		{"chunks that break off", v.head() + chunked[:60], 3},
		{"a body that breaks off", v.head() + length + "\r\n" + v.Body[1:], 3},
		{"a length that is none", v.head() + "Content-Length: many\r\n\r\n" + v.Body, 3},
		{"headers only", v.head(), 3},
		{"a header that is none", "no colon\r\n" + v.head() + "\r\n" + v.Body, 3},
		{"nothing", "", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := world{stdin: tc.text}.run(t.Context(), v.args()...)
			require.Equal(t, tc.code, got.code, got.errors)
			fromFile := world{}.run(t.Context(), append(v.args(), write(t, "request.http", tc.text))...)
			require.Equal(t, tc.code, fromFile.code)
		})
	}
}

func TestVerifySaysWhy(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"without x-pivot-signature":      "pivot     invalid: there is no X-Pivot-Signature\nstandard  valid\n",
		"two lines of webhook-id":        "standard  invalid: there are 2 of webhook-id\n",
		"changed body":                   "not the body that was signed",
		"timestamp: -301 s":              "the signature fits, but webhook-timestamp is 5m1s old, and 5m is the most",
		"timestamp: +301 s":              "the signature fits, but webhook-timestamp is 5m1s ahead, and 5m is the most",
		"timestamp: hex":                 "webhook-timestamp is not a number of seconds",
		"pivot: algorithm prefix":        "X-Pivot-Signature is not 64 hex digits",
		"other secret":                   "or not this secret",
		"wrong standard, both demanded":  "pivot     valid\nstandard  invalid",
		"wrong pivot, standard demanded": "standard  valid\nverified  message_sent  room ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, v := range vectors(t) {
				if v.Name == name {
					got := world{stdin: v.head() + "\r\n" + v.Body}.run(t.Context(), v.args()...)
					require.Contains(t, got.out, want)
					return
				}
			}
			require.Fail(t, "there is no such vector")
		})
	}
}

func TestVerifyAges(t *testing.T) {
	t.Parallel()
	v := vectors(t)[0]
	in := world{stdin: v.head() + "\r\n" + v.Body, env: map[string]string{"POSTHORN_SECRET": "whsec_eA== " + v.Secrets[0]}}
	require.Equal(t, 1, in.run(t.Context(), "verify").code, "it is of January")
	require.Equal(t, 0, in.run(t.Context(), "verify", "--ignore-age").code)
	require.Equal(t, 0, in.run(t.Context(), "verify", "--at", "2026-01-01T13:04:59+01:00").code)
	require.Equal(t, 1, in.run(t.Context(), "verify", "--at", "2026-01-01T13:05:01+01:00").code)
	require.Equal(t, 0, in.run(t.Context(), "verify", "--tolerance", "1000000h").code)
}

func TestVerifyInJSON(t *testing.T) {
	t.Parallel()
	v := vectors(t)[0]
	got := world{stdin: v.head() + "\r\n" + v.Body}.run(t.Context(), append(v.args(), "--json")...)
	require.Zero(t, got.code)
	require.JSONEq(t, `{"verified":true,"schemes":[{"scheme":"pivot","valid":true},{"scheme":"standard","valid":true}],
		"webhook_id":"0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","signed_at":"2026-01-01T12:00:00Z","event_type":"message_sent",
		"subject":{"type":"room","id":"5f0c6a4e-2b1d-4c3e-9f8a-7b6c5d4e3f2a"},"payload":`+v.Body+`}`, got.out)

	got = world{stdin: v.head() + "\r\n" + v.Body + " "}.run(t.Context(), append(v.args(), "--json")...)
	require.Equal(t, 1, got.code)
	var doc struct {
		Verified bool
		Payload  any
		Schemes  []struct{ Reason string }
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &doc))
	require.False(t, doc.Verified)
	require.Nil(t, doc.Payload, "of what is not verified nothing is repeated")
	require.NotEmpty(t, doc.Schemes[0].Reason)
}

// What a sender has written must not give orders to the terminal, nor read
// otherwise than it is.
func TestForeignTextIsEscaped(t *testing.T) {
	t.Parallel()
	const esc, csi, bidi, tag = "\x1b[2J", "\u009b31m", "\u202e", "\U000e0041"
	for name, body := range map[string]string{
		"JSON":    `{"event_type":"a\u001b[2J` + csi + `","subject":{"type":"room` + bidi + `","id":"` + tag + `"},"data":"` + csi + bidi + tag + ` 👩‍🚀 é"}`,
		"no JSON": esc + csi + bidi + tag + "\xff\r\x00 👩‍🚀 é",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, asJSON := range []string{"--json=false", "--json=true"} {
				sent := dryRun(t, "--secret", secret, "--live", "--data", "1")
				head, _, _ := strings.Cut(sent, "\r\n\r\n")
				head = resign(t, head, body)
				in := withSecret
				in.stdin = head + "\r\n\r\n" + body
				got := in.run(t.Context(), "verify", "--scheme", "pivot", asJSON)
				require.Zero(t, got.code, got.errors)
				for _, bad := range []string{"\x1b", "\u009b", bidi, tag, "\r", "\x00", "\xff"} {
					require.NotContains(t, got.out, bad)
				}
				require.Contains(t, got.out, "👩‍🚀 é")
				require.Contains(t, got.out, `\u009b`)
				if asJSON == "--json=true" {
					var doc map[string]any
					require.NoError(t, json.Unmarshal([]byte(got.out), &doc))
					require.Contains(t, fmt.Sprint(doc["payload"]), csi+bidi+tag, "it is the same text")
				}
			}
		})
	}
}
