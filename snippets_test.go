package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// snippetCall is a call of a function in testdata/snippets: run.mjs and run.py
// read it.
type snippetCall struct {
	Function string            `json:"function"`
	Secret   string            `json:"secret"`
	Headers  map[string]string `json:"headers"` // names in lower case
	Body     []byte            `json:"body"`
	Now      int64             `json:"now,omitempty"` // 0 leaves it to the snippet
}

// What a call came to.
const (
	accepted = "accepted"
	refused  = "refused"
	failed   = "error"
)

// signedCall is a request as the signer made it, and a receiver that gets it at
// once.
func signedCall(t *testing.T, secret string, at time.Time, body string) snippetCall {
	t.Helper()
	s, err := webhook.ParseSecret(secret)
	require.NoError(t, err)
	signer, err := webhook.NewSigner(s)
	require.NoError(t, err)
	h := http.Header{}
	signer.Sign(h, "0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f50", at, []byte(body))
	c := snippetCall{Secret: secret, Headers: map[string]string{}, Body: []byte(body), Now: at.Unix()}
	for name := range h {
		c.Headers[strings.ToLower(name)] = h.Get(name)
	}
	return c
}

func TestSnippetsTellSignedRequestsFromOthers(t *testing.T) {
	t.Parallel()
	const (
		key   = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
		other = "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA="
		body  = `{"id":"0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f50","event_type":"message_sent","data":{"text":"Grüße, 世界 🎺"}}`
	)
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	header := func(name string, change func(string) string) func(*snippetCall) {
		return func(c *snippetCall) { c.Headers[name] = change(c.Headers[name]) }
	}
	signed := func(name string, change func(string) string) func(*snippetCall) { // as the signer never would
		return func(c *snippetCall) {
			c.Headers[name] = change(c.Headers[name])
			decoded, err := base64.StdEncoding.DecodeString(key)
			require.NoError(t, err)
			mac := hmac.New(sha256.New, decoded)
			mac.Write(fmt.Appendf(nil, "%s.%s.%s", c.Headers["webhook-id"], c.Headers["webhook-timestamp"], c.Body))
			c.Headers["webhook-signature"] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		}
	}
	without := func(name string) func(*snippetCall) { return func(c *snippetCall) { delete(c.Headers, name) } }
	to := func(s string) func(string) string { return func(string) string { return s } }
	after := func(s string) func(string) string { return func(old string) string { return s + old } }
	seconds := func(n int64) func(*snippetCall) { return func(c *snippetCall) { c.Now += n } }
	lastChanged := func(s string) string { // in the last place that has all its bits
		i := len(strings.TrimRight(s, "=")) - 2
		if s[i] == '0' {
			return s[:i] + "1" + s[i+1:]
		}
		return s[:i] + "0" + s[i+1:]
	}

	cases := []struct {
		name            string
		change          func(*snippetCall)
		pivot, standard string // what the two functions have to come to
	}{
		{"as it was sent", func(*snippetCall) {}, accepted, accepted},
		{"a secret without prefix", func(c *snippetCall) { *c = signedCall(t, key, at, body) }, accepted, accepted},
		{"another secret", func(c *snippetCall) { c.Secret = other }, refused, refused},
		{"no secret", func(c *snippetCall) { c.Secret = "" }, failed, failed},
		{"a changed body", func(c *snippetCall) { c.Body[len(c.Body)-1] ^= 1 }, refused, refused},
		{"a longer body", func(c *snippetCall) { c.Body = append(c.Body, '\n') }, refused, refused},
		{"no body", func(c *snippetCall) { c.Body = []byte{} }, refused, refused},

		{"no hex signature", without("x-pivot-signature"), refused, accepted},
		{"an empty hex signature", header("x-pivot-signature", to("")), refused, accepted},
		{"a changed hex signature", header("x-pivot-signature", lastChanged), refused, accepted},
		{"a hex signature with GitHub's prefix", header("x-pivot-signature", after("sha256=")), refused, accepted},
		{"a hex signature beyond ASCII", header("x-pivot-signature", to(strings.Repeat("é", 64))), refused, accepted},

		{"no id", without("webhook-id"), accepted, refused},
		{"no id, signed", signed("webhook-id", to("")), accepted, refused},
		{"a changed id", header("webhook-id", lastChanged), accepted, refused},
		{"a changed id, signed", signed("webhook-id", lastChanged), accepted, accepted},
		{"an id with a part of another request's body", func(c *snippetCall) {
			stamp := c.Headers["webhook-timestamp"]
			*c = signedCall(t, c.Secret, at, stamp+"."+body)
			c.Headers["webhook-id"] += "." + stamp
			c.Body = []byte(body) // id.timestamp.body is what it was
		}, refused, refused},
		{"no timestamp", without("webhook-timestamp"), accepted, refused},
		{"no timestamp, signed", signed("webhook-timestamp", to("")), accepted, refused},
		{"a changed timestamp", header("webhook-timestamp", to(strconv.FormatInt(at.Unix()+1, 10))), accepted, refused},
		{"a timestamp that is no number", signed("webhook-timestamp", to("now")), accepted, refused},
		{"a timestamp with a sign", signed("webhook-timestamp", after("+")), accepted, refused},
		{"a timestamp in Arabic digits", signed("webhook-timestamp", to("١٧٦٧٢٦٨٨٠٠")), accepted, refused},
		{"a timestamp of many digits", signed("webhook-timestamp", to(strings.Repeat("9", 5000))), accepted, refused},
		{"no standard signature", without("webhook-signature"), accepted, refused},
		{"an empty standard signature", header("webhook-signature", to("")), accepted, refused},
		{"a changed standard signature", header("webhook-signature", lastChanged), accepted, refused},
		{"a standard signature of another version", header("webhook-signature", func(s string) string {
			return "v1a," + strings.TrimPrefix(s, "v1,")
		}), accepted, refused},
		{"a standard signature beyond ASCII", header("webhook-signature", to("v1,é")), accepted, refused},
		{"a second standard signature", header("webhook-signature", after("v1a,AAAA v1,AAAA ")), accepted, accepted},

		{"five minutes old", seconds(300), accepted, accepted},
		{"older than that", seconds(301), accepted, refused},
		{"five minutes ahead", seconds(-300), accepted, accepted},
		{"further ahead", seconds(-301), accepted, refused},

		{"now, by the clock", func(c *snippetCall) {
			*c = signedCall(t, other, time.Now(), body)
			c.Now = 0
		}, accepted, accepted},
		{"an hour ago, by the clock", func(c *snippetCall) {
			*c = signedCall(t, other, time.Now().Add(-time.Hour), body)
			c.Now = 0
		}, accepted, refused},
	}

	for _, lang := range []struct {
		program, snippet        string
		args                    []string
		pivot, standard, either string // names of functions
	}{
		{"node", "verify.mjs", []string{"run.mjs"}, "verifyPivot", "verifyStandard", "verify"},
		{"python3", "verify.py", []string{"-B", "run.py"}, "verify_pivot", "verify_standard", "verify"},
	} {
		t.Run(lang.program, func(t *testing.T) {
			t.Parallel()
			program := interpreter(t, lang.program)
			// What other programs read is unknown to go test's cache, unless the test looks at it.
			require.FileExists(t, "testdata/snippets/"+lang.snippet)
			require.FileExists(t, "testdata/snippets/"+lang.args[len(lang.args)-1])
			var calls bytes.Buffer
			var names, want []string
			expect := func(function, name, outcome string, c snippetCall) {
				c.Function = function
				require.NoError(t, json.NewEncoder(&calls).Encode(c))
				names, want = append(names, function+": "+name), append(want, outcome)
			}
			for _, tc := range cases {
				c := signedCall(t, "whsec_"+key, at, body)
				tc.change(&c)
				expect(lang.pivot, tc.name, tc.pivot, c)
				expect(lang.standard, tc.name, tc.standard, c)
				expect(lang.either, tc.name, bothOutcomes(tc.pivot, tc.standard), c)
			}

			cmd := exec.CommandContext(t.Context(), program, lang.args...)
			cmd.Dir, cmd.Stdin, cmd.Stderr = "testdata/snippets", &calls, os.Stderr
			out, err := cmd.Output()
			require.NoError(t, err)

			got := strings.Fields(string(out))
			require.Len(t, got, len(want))
			for i := range want {
				require.Equal(t, want[i], got[i], names[i])
			}
		})
	}
}

// bothOutcomes is what comes of a request that has to pass both checks.
func bothOutcomes(pivot, standard string) string {
	if pivot == accepted {
		return standard
	}
	return pivot
}

func TestShellSnippetTellsSignedRequestsFromOthers(t *testing.T) {
	t.Parallel()
	shell := interpreter(t, "sh")
	interpreter(t, "openssl")
	require.FileExists(t, "testdata/snippets/verify.sh") // for go test's cache, as above
	const secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	signed := signedCall(t, secret, time.Now(), `{"data":{"text":"Grüße, 世界 🎺"}}`)
	signature := signed.Headers["x-pivot-signature"]

	for _, tc := range []struct {
		name, secret, signature, body string
		want                          string
	}{
		{"as it was sent", secret, signature, string(signed.Body), "valid\n"},
		{"a changed body", secret, signature, string(signed.Body) + "\n", "invalid\n"},
		{"a changed signature", secret, "0" + signature, string(signed.Body), "invalid\n"},
		{"another secret", secret + "=", signature, string(signed.Body), "invalid\n"},
		{"no secret", "", signature, string(signed.Body), "invalid\n"},
		{"no signature", secret, "", string(signed.Body), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), shell, "testdata/snippets/verify.sh")
			cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+tc.secret, "SIGNATURE="+tc.signature)
			cmd.Stdin = strings.NewReader(tc.body)
			out, err := cmd.Output()
			require.Equal(t, tc.want, string(out))
			require.Equal(t, tc.want == "valid\n", err == nil, "the exit status says the same")
		})
	}
}

// interpreter returns the path of a program. Where it is missing, the test is
// skipped, except in CI.
func interpreter(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	require.NotEqual(t, "true", os.Getenv("CI"), "%s is not installed", name)
	t.Skipf("%s is not installed: its snippet of README is not tested", name) //nolint:forbidigo // says so, and CI never skips
	return ""
}
