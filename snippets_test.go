package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// snippetCall is a call of a function in testdata/snippets, for run.mjs and the others
// beside it.
type snippetCall struct {
	Function string            `json:"function"`
	Secret   string            `json:"secret"`
	Headers  map[string]string `json:"headers"` // names in lower case
	Body     []byte            `json:"body"`
	Now      int64             `json:"now,omitempty"` // 0 leaves it to the snippet
}

func (c snippetCall) json() string {
	line, err := json.Marshal(c)
	if err != nil {
		panic(err) // of texts and numbers
	}
	return string(line)
}

// words is the form for Run.java: Java has no JSON of its own.
func (c snippetCall) words() string {
	fields := []string{c.Function, c.Secret, string(c.Body), strconv.FormatInt(c.Now, 10)}
	for name, value := range c.Headers {
		fields = append(fields, name, value)
	}
	for i, f := range fields {
		fields[i] = "-" + base64.StdEncoding.EncodeToString([]byte(f))
	}
	return strings.Join(fields, " ")
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
	c := snippetCall{Secret: secret, Body: []byte(body)}
	c.sign(t, "0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f50", at)
	return c
}

// sign gives the request the headers of this event and time.
func (c *snippetCall) sign(t *testing.T, id string, at time.Time) {
	t.Helper()
	s, err := webhook.ParseSecret(c.Secret)
	require.NoError(t, err)
	signer, err := webhook.NewSigner(s)
	require.NoError(t, err)
	h := http.Header{}
	signer.Sign(h, id, at, c.Body)
	c.Headers, c.Now = map[string]string{}, at.Unix()
	for name := range h {
		c.Headers[strings.ToLower(name)] = h.Get(name)
	}
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
		{"ruby", "verify.rb", []string{"run.rb"}, "verify_pivot", "verify_standard", "verify"},
		{"php", "verify.php", []string{"run.php"}, "verifyPivot", "verifyStandard", "verify"},
		{"java", "Verify.java", []string{"Run"}, "verifyPivot", "verifyStandard", "verify"},
	} {
		t.Run(lang.program, func(t *testing.T) {
			t.Parallel()
			program := interpreter(t, lang.program)
			// What other programs read is unknown to go test's cache, unless the test looks at it.
			require.FileExists(t, "testdata/snippets/"+lang.snippet)
			args, encode := lang.args, snippetCall.json
			if lang.program == "java" {
				args, encode = append([]string{"-cp", compiledJava(t)}, args...), snippetCall.words
			} else {
				require.FileExists(t, "testdata/snippets/"+args[len(args)-1])
			}
			var calls bytes.Buffer
			var names, want []string
			expect := func(function, name, outcome string, c snippetCall) {
				c.Function = function
				_, _ = fmt.Fprintln(&calls, encode(c))
				names, want = append(names, function+": "+name), append(want, outcome)
			}
			for _, tc := range cases {
				c := signedCall(t, "whsec_"+key, at, body)
				tc.change(&c)
				expect(lang.pivot, tc.name, tc.pivot, c)
				expect(lang.standard, tc.name, tc.standard, c)
				expect(lang.either, tc.name, bothOutcomes(tc.pivot, tc.standard), c)
			}

			cmd := exec.CommandContext(t.Context(), program, args...)
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

// compiledJava returns the folder with the classes of testdata/snippets.
func compiledJava(t *testing.T) string {
	t.Helper()
	compiler, folder := interpreter(t, "javac"), t.TempDir()
	sources, err := filepath.Glob("testdata/snippets/*.java")
	require.NoError(t, err)
	require.Len(t, sources, 3)
	said, err := exec.CommandContext(t.Context(), compiler, append([]string{"-Xlint:all", "-Werror", "-d", folder}, sources...)...).CombinedOutput()
	require.NoError(t, err, "%s", said)
	return folder
}

// TestReceiversOfSnippets starts each receiver of testdata/snippets as its page says,
// and sends it what a receiver gets over the years.
func TestReceiversOfSnippets(t *testing.T) {
	t.Parallel()
	const (
		first  = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
		second = "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA="
		third  = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
		body   = `{"id":"0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f50","event_type":"message_sent","data":{"text":"hello"}}`
	)
	for _, lang := range []struct {
		program, file string
		args          []string
	}{
		{"node", "receive.mjs", []string{"receive.mjs"}},
		{"python3", "receive.py", []string{"-B", "receive.py"}},
		{"ruby", "receive.rb", []string{"receive.rb"}},
		{"php", "receive.php", []string{"-S", "127.0.0.1:0", "receive.php"}},
		{"java", "Receive.java", []string{"Receive"}},
	} {
		t.Run(lang.program, func(t *testing.T) {
			t.Parallel()
			program, args := interpreter(t, lang.program), lang.args
			require.FileExists(t, "testdata/snippets/"+lang.file)
			database := filepath.Join(t.TempDir(), "received.db")
			switch lang.program {
			case "java":
				args = append([]string{"-cp", compiledJava(t)}, args...)
			case "php":
				database = "sqlite:" + database
			}
			r := startReceiver(t, program, args, "WEBHOOK_SECRET="+first+" "+second, "PORT=0", "DATABASE="+database)

			now := time.Now()
			good := signedCall(t, first, now, body)
			require.Equal(t, http.StatusNoContent, r.post(good))
			require.Equal(t, http.StatusNoContent, r.post(good), "it comes again, and is taken again")
			later := signedCall(t, second, now, body)
			require.Equal(t, http.StatusNoContent, r.post(later), "the other secret, while both are valid")

			require.Equal(t, http.StatusUnauthorized, r.post(signedCall(t, third, now, body)), "a secret it does not know")
			tampered := signedCall(t, first, now, body)
			tampered.Body = bytes.Replace(tampered.Body, []byte("hello"), []byte("HELLO"), 1)
			require.Equal(t, http.StatusUnauthorized, r.post(tampered), "tampered")
			require.Equal(t, http.StatusUnauthorized, r.post(signedCall(t, first, now.Add(-6*time.Minute), body)), "old")
			require.Equal(t, http.StatusUnauthorized, r.post(snippetCall{Body: []byte(body)}), "unsigned")

			other := signedCall(t, first, now, strings.Replace(body, "hello", "goodbye", 1))
			other.sign(t, "0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f51", now)
			require.Equal(t, http.StatusNoContent, r.post(other), "another event")
			require.Equal(t, []string{"hello", "goodbye"}, r.end(), "the work is done once for each event")
		})
	}
}

// receiverProcess is a program that takes webhooks on a port of its own choice.
type receiverProcess struct {
	t      *testing.T
	url    string
	cancel func()
	texts  chan []string // once it has ended: what it has done, in order
}

var (
	listensOn = regexp.MustCompile(`listening on port (\d+)|http://127\.0\.0\.1:(\d+)\) started`)
	didWork   = regexp.MustCompile(`0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f5.*message_sent.*(hello|goodbye)`)
)

func startReceiver(t *testing.T, program string, args []string, env ...string) *receiverProcess {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &receiverProcess{t: t, cancel: cancel, texts: make(chan []string, 1)}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = "testdata/snippets", append(os.Environ(), env...)
	out, in, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = in, in
	require.NoError(t, cmd.Start())
	require.NoError(t, in.Close())

	port, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		var did, all []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			all = append(all, lines.Text())
			if m := listensOn.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case port <- m[1] + m[2]:
				default: // WEBrick says it as well
				}
			}
			if m := didWork.FindStringSubmatch(lines.Text()); m != nil {
				did = append(did, m[1])
			}
		}
		_ = cmd.Wait() // it was told to end
		r.texts <- did
		if t.Failed() {
			t.Logf("%s said:\n%s", program, strings.Join(all, "\n"))
		}
	}()
	t.Cleanup(func() { cancel(); <-ended; _ = out.Close() })
	select {
	case p := <-port:
		r.url = "http://127.0.0.1:" + p + "/"
	case <-ended:
		require.Fail(t, "it ended before it listened", program)
	}
	return r
}

// post sends a request and returns the answer's status.
func (r *receiverProcess) post(c snippetCall) int {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url, bytes.NewReader(c.Body))
	require.NoError(r.t, err)
	request.Header.Set("Content-Type", "application/json")
	for name, value := range c.Headers {
		request.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(request)
	require.NoError(r.t, err)
	require.NoError(r.t, resp.Body.Close())
	return resp.StatusCode
}

// end stops the program and returns what it has done.
func (r *receiverProcess) end() []string {
	r.cancel()
	return <-r.texts
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
	t.Skipf("%s is not installed: what the documents show for it is not tested", name) //nolint:forbidigo // says so, and CI never skips
	return ""
}
