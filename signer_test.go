package webhook_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// signatureVectors is testdata/vectors/vectors.json; its README explains it.
type signatureVectors struct {
	Pivot []struct {
		Name      string
		Secret    string
		SecretHex string `json:"secret_hex"`
		Body      string
		BodyHex   string `json:"body_hex"`
		Signature string
	}
	Standard []struct {
		Name      string
		Secret    string
		ID        string
		Timestamp int64
		Body      string
		BodyHex   string `json:"body_hex"`
		Signature string
	}
	Requests []struct {
		Name             string
		Accept           bool
		Secrets          []string
		Schemes          []webhook.Scheme
		Now              int64
		ToleranceSeconds int `json:"tolerance_seconds"`
		Headers          [][2]string
		Body             string
		BodyHex          string `json:"body_hex"`
	}
}

func loadSignatureVectors(t testing.TB) signatureVectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/vectors.json")
	require.NoError(t, err)
	var v signatureVectors
	require.NoError(t, json.Unmarshal(data, &v))
	require.NotEmpty(t, v.Pivot)
	require.NotEmpty(t, v.Standard)
	require.NotEmpty(t, v.Requests)
	return v
}

func textOrHex(t testing.TB, text, inHex string) []byte {
	t.Helper()
	if inHex == "" {
		return []byte(text)
	}
	b, err := hex.DecodeString(inHex)
	require.NoError(t, err)
	return b
}

func parseSecret(t testing.TB, text string) webhook.Secret {
	t.Helper()
	s, err := webhook.ParseSecret(text)
	require.NoError(t, err)
	return s
}

func newSigner(t testing.TB, texts ...string) *webhook.Signer {
	t.Helper()
	var secrets []webhook.Secret
	for _, text := range texts {
		secrets = append(secrets, parseSecret(t, text))
	}
	s, err := webhook.NewSigner(secrets...)
	require.NoError(t, err)
	return s
}

// faultFields returns the fields that err, a ValidationErrors, complains of.
func faultFields(t testing.TB, err error) []string {
	t.Helper()
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	var fields []string
	for _, f := range faults {
		require.NotEmpty(t, f.Reason)
		fields = append(fields, f.Field)
	}
	return fields
}

func TestSignerMatchesPublishedAndIndependentVectors(t *testing.T) {
	t.Parallel()
	vectors := loadSignatureVectors(t)
	for _, v := range vectors.Pivot {
		t.Run("pivot/"+v.Name, func(t *testing.T) {
			t.Parallel()
			s := newSigner(t, string(textOrHex(t, v.Secret, v.SecretHex)))
			h := http.Header{}
			for range 3 { // the first sum, and those that reuse its state
				s.Sign(h, "id", time.Unix(0, 0), textOrHex(t, v.Body, v.BodyHex))
				require.Equal(t, []string{v.Signature}, h["X-Pivot-Signature"])
			}
		})
	}
	for _, v := range vectors.Standard {
		t.Run("standard/"+v.Name, func(t *testing.T) {
			t.Parallel()
			s := newSigner(t, v.Secret)
			h := http.Header{}
			for range 3 {
				at := time.Unix(v.Timestamp, 999_999_999).In(time.FixedZone("", 5*3600))
				s.Sign(h, v.ID, at, textOrHex(t, v.Body, v.BodyHex))
				require.Equal(t, []string{v.ID}, h["Webhook-Id"])
				require.Equal(t, []string{fmt.Sprint(v.Timestamp)}, h["Webhook-Timestamp"])
				require.Equal(t, []string{v.Signature}, h["Webhook-Signature"])
			}
		})
	}
}

func TestSignerSignsTheVectorsRequestExactly(t *testing.T) {
	t.Parallel()
	for _, v := range loadSignatureVectors(t).Requests {
		if v.Name != "both" && v.Name != "rotation: sent with both, receiver knows the first" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			want := http.Header{}
			for _, h := range v.Headers {
				want.Add(h[0], h[1])
			}
			secrets := v.Secrets
			if v.Name != "both" {
				secrets = []string{vectorSecretA, vectorSecretB}
			}
			got := http.Header{"Webhook-Id": {"stale", "twice"}, "Webhook-Signature": {"stale"}, "X-Pivot-Signature": {"stale"}}
			newSigner(t, secrets...).Sign(got, want.Get("webhook-id"), time.Unix(v.Now, 0), textOrHex(t, v.Body, v.BodyHex))
			require.Equal(t, want, got)
		})
	}
}

func TestSignerWithoutStandardKeys(t *testing.T) {
	t.Parallel()
	const undecodable = "It's a Secret to Everybody"
	body := []byte("Hello, World!")

	h := http.Header{"Webhook-Signature": {"stale"}}
	newSigner(t, undecodable).Sign(h, "id", time.Unix(7, 0), body)
	require.Equal(t, http.Header{
		"X-Pivot-Signature": {"757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		"Webhook-Id":        {"id"},
		"Webhook-Timestamp": {"7"},
	}, h)

	published := loadSignatureVectors(t).Standard[0]
	newSigner(t, undecodable, published.Secret).Sign(h, published.ID, time.Unix(published.Timestamp, 0), []byte(published.Body))
	require.Equal(t, []string{published.Signature}, h["Webhook-Signature"], "the second secret's only")
}

func TestNewSignerRefuses(t *testing.T) {
	t.Parallel()
	good := parseSecret(t, "Jefe")
	for _, tc := range []struct {
		name    string
		secrets []webhook.Secret
		fields  []string
	}{
		{"none", nil, []string{"secrets"}},
		{"zero", []webhook.Secret{{}}, []string{"secrets[0]"}},
		{"zero ones among others", []webhook.Secret{{}, good, {}}, []string{"secrets[0]", "secrets[2]"}},
		{"more than a verifier reads", slicesRepeat(good, 17), []string{"secrets"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, err := webhook.NewSigner(tc.secrets...)
			require.Nil(t, s)
			require.Equal(t, tc.fields, faultFields(t, err))
		})
	}
	_, err := webhook.NewSigner(slicesRepeat(good, 16)...)
	require.NoError(t, err)
}

func slicesRepeat(s webhook.Secret, n int) []webhook.Secret {
	var out []webhook.Secret
	for range n {
		out = append(out, s)
	}
	return out
}

func TestSignerWithHeader(t *testing.T) {
	t.Parallel()
	original := newSigner(t, "It's a Secret to Everybody")
	renamed, err := original.WithHeader("x-hub-SIGNATURE")
	require.NoError(t, err)

	const want = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	h := http.Header{}
	renamed.Sign(h, "id", time.Unix(0, 0), []byte("Hello, World!"))
	require.Equal(t, []string{want}, h["X-Hub-Signature"])
	require.NotContains(t, h, "X-Pivot-Signature")

	h = http.Header{}
	original.Sign(h, "id", time.Unix(0, 0), []byte("Hello, World!"))
	require.Equal(t, []string{want}, h["X-Pivot-Signature"])
	require.NotContains(t, h, "X-Hub-Signature")
}

func TestSignatureHeaderNames(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"X-Pivot-Signature": true, "x-pivot-signature": true, "S": true, "!#$%&'*+-.^_`|~09azAZ": true,
		"X-Hub-Signature-256": true, "Signature": true, strings.Repeat("a", 128): true,

		"": false, " ": false, " X-A": false, "X-A ": false, "X A": false, "X-A:": false, "X-A\r\nB": false,
		"X-A\x00": false, "X-Ä": false, "X-A\x7f": false, "(X)": false, strings.Repeat("a", 129): false,
		"webhook-id": false, "Webhook-Timestamp": false, "WEBHOOK-SIGNATURE": false, "X-Pivot-Attempt": false,
		"content-type": false, "Content-Length": false, "Content-Encoding": false, "Transfer-Encoding": false,
		"TE": false, "Trailer": false, "Host": false, "Connection": false, "Upgrade": false, "Keep-Alive": false,
		"Expect": false, "User-Agent": false, "Accept-Encoding": false, "Authorization": false, "Cookie": false,
		"Proxy-Authorization": false, "proxy-connection": false, "Idempotency-Key": false, "X-Idempotency-Key": false,
	} {
		s, err := newSigner(t, "Jefe").WithHeader(name)
		if ok {
			require.NoError(t, err, "%q", name)
		} else {
			require.Nil(t, s)
			require.Equal(t, []string{"signature_header"}, faultFields(t, err), "%q", name)
		}
		if name == "" {
			continue // the default, in a verifier
		}
		_, err = webhook.NewVerifier(webhook.VerifierConfig{
			Secrets: []webhook.Secret{parseSecret(t, "Jefe")}, Schemes: []webhook.Scheme{webhook.SchemePivot}, SignatureHeader: name,
		})
		if ok {
			require.NoError(t, err, "%q", name)
		} else {
			require.Equal(t, []string{"signature_header"}, faultFields(t, err), "%q", name)
		}
	}
}

// TestSignerConcurrently is for the race detector, and for states that would
// be shared by mistake.
func TestSignerConcurrently(t *testing.T) {
	t.Parallel()
	vectors := loadSignatureVectors(t).Standard
	v := vectors[2]
	s := newSigner(t, v.Secret)
	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{
		Secrets: []webhook.Secret{parseSecret(t, v.Secret)}, Clock: verifierClock(v.Timestamp),
	})
	require.NoError(t, err)

	got := make([][]string, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			for range 200 {
				h := http.Header{}
				s.Sign(h, v.ID, time.Unix(v.Timestamp, 0), []byte(v.Body))
				if h.Get("webhook-signature") != v.Signature {
					got[i] = append(got[i], h.Get("webhook-signature"))
				}
				if err := verifier.Verify([]byte(v.Body), h); err != nil {
					got[i] = append(got[i], err.Error())
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, make([][]string, len(got)), got)
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	seen := map[webhook.Secret]bool{}
	for range 100 {
		s, err := webhook.NewSecret()
		require.NoError(t, err)
		encoded, ok := strings.CutPrefix(s.Reveal(), "whsec_")
		require.True(t, ok)
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		require.NoError(t, err)
		require.Len(t, key, 32)
		seen[s] = true
	}
	require.Len(t, seen, 100)
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"a", "Jefe", "It's a Secret to Everybody", vectorSecretA, " " + vectorSecretA + "\n", "whsec_", "\x00\xff",
		strings.Repeat("k", 1024),
	} {
		s, err := webhook.ParseSecret(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, text, s.Reveal())
		require.False(t, s.IsZero())
	}
	for _, text := range []string{"", strings.Repeat("k", 1025)} {
		s, err := webhook.ParseSecret(text)
		require.Equal(t, []string{"secret"}, faultFields(t, err))
		require.NotContains(t, err.Error(), "kkk")
		require.True(t, s.IsZero())
		require.Empty(t, s.Reveal())
	}
}

func TestSecretIsComparedByValue(t *testing.T) {
	t.Parallel()
	a, again, b := parseSecret(t, vectorSecretA), parseSecret(t, strings.Clone(vectorSecretA)), parseSecret(t, vectorSecretB)
	require.True(t, a == again)
	require.False(t, a == b)
	require.Equal(t, a, again)
	require.NotEqual(t, a, b)
	require.True(t, webhook.Secret{} == (webhook.Secret{}))
}

func TestSecretIsRedacted(t *testing.T) {
	t.Parallel()
	const redacted = "[redacted]"
	secret := parseSecret(t, vectorSecretA)
	signer := newSigner(t, vectorSecretA, vectorSecretB)
	config := webhook.VerifierConfig{Secrets: []webhook.Secret{secret, parseSecret(t, vectorSecretB)}}
	verifier, err := webhook.NewVerifier(config)
	require.NoError(t, err)
	used := http.Header{} // so that both hold keyed states
	signer.Sign(used, "id", time.Now(), nil)
	require.NoError(t, verifier.Verify(nil, used))

	type exported struct {
		Secret  webhook.Secret
		Pointer *webhook.Secret
		List    []webhook.Secret
		Map     map[webhook.Secret]webhook.Secret
		Any     any
	}
	type unexported struct {
		secret  webhook.Secret
		pointer *webhook.Secret
		list    []webhook.Secret
		array   [1]webhook.Secret
		mapped  map[webhook.Secret]webhook.Secret
		any     any
	}
	type embedded struct{ webhook.Secret }
	type hidden struct{ pointer *unexported }
	mapped := map[webhook.Secret]webhook.Secret{secret: secret}
	list := []webhook.Secret{secret}
	values := map[string]any{
		"value":      secret,
		"pointer":    &secret,
		"slice":      list,
		"map":        mapped,
		"exported":   exported{secret, &secret, list, mapped, secret},
		"unexported": unexported{secret, &secret, list, [1]webhook.Secret{secret}, mapped, secret},
		"nested":     struct{ inner *exported }{&exported{secret, &secret, list, mapped, secret}},
		"deep":       struct{ Outer struct{ inner unexported } }{struct{ inner unexported }{unexported{secret: secret, any: &secret}}},
		"embedded":   embedded{secret},
		"hidden":     &hidden{&unexported{secret: secret, pointer: &secret, list: list}},
		"reflected":  reflect.ValueOf(unexported{secret: secret}).Field(0),
		"error":      fmt.Errorf("with %v and %s", secret, secret),
		"signer":     signer,
		"*signer":    *signer,
		"verifier":   verifier,
		"*verifier":  *verifier,
		"config":     config,
	}
	key := func(text string) []byte {
		b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
		require.NoError(t, err)
		return b
	}
	// What a print of the text or of the decoded key would contain, as text,
	// hex in any spelling, or lists of numbers.
	var leaks []string
	for _, text := range []string{vectorSecretA, vectorSecretB} {
		for _, b := range [][]byte{[]byte(text)[:8], []byte(text)[8:16], key(text)[:8], key(text)[8:16]} {
			leaks = append(leaks, string(b), fmt.Sprintf("%x", b), fmt.Sprintf("%X", b), fmt.Sprintf("% x", b),
				fmt.Sprintf("% X", b), fmt.Sprintf("%# x", b), strings.Trim(fmt.Sprint(b), "[]"),
				strings.Trim(fmt.Sprintf("%o", b), "[]"), strings.Trim(fmt.Sprintf("%b", b), "[]"))
		}
	}
	requireRedacted := func(t *testing.T, what, got string) {
		t.Helper()
		for _, leak := range leaks {
			if strings.Contains(got, leak) {
				require.Fail(t, "secret leaked", "%s: %s", what, got)
			}
		}
	}

	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, verb := range "vTtbcdoOqxXUeEfFgGspw!" {
				for _, flags := range []string{"", "+", "#", "-40", " ", "0", "# ", "+#", ".3", "[1]"} {
					format := "%" + flags + string(verb)
					requireRedacted(t, format, fmt.Sprintf(format, value))
				}
			}
			requireRedacted(t, "extra", fmt.Sprintf(strings.Clone("none"), value))

			var text, inJSON bytes.Buffer
			slog.New(slog.NewTextHandler(&text, nil)).Info("m", "k", value, slog.Group("g", "k", value))
			slog.New(slog.NewJSONHandler(&inJSON, nil)).Info("m", "k", value, slog.Group("g", "k", value))
			requireRedacted(t, "slog text", text.String())
			requireRedacted(t, "slog json", inJSON.String())

			if encoded, err := json.Marshal(value); err == nil {
				requireRedacted(t, "json", string(encoded))
			}
			if encoded, err := xml.Marshal(value); err == nil {
				requireRedacted(t, "xml", string(encoded))
			}
			var page bytes.Buffer
			_ = template.Must(template.New("").Parse(`{{.}}<script>{{.}}</script><a href="?{{.}}">`)).Execute(&page, value)
			requireRedacted(t, "template", page.String())
		})
	}

	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%50v"} {
		require.Equal(t, redacted, fmt.Sprintf(format, secret), format)
		require.Equal(t, redacted, fmt.Sprintf(format, &secret), format)
		require.Equal(t, redacted, fmt.Sprintf(format, webhook.Secret{}), format)
	}
	require.Equal(t, redacted, secret.String())
	require.Equal(t, redacted, secret.GoString())
	require.Equal(t, redacted, secret.LogValue().String())
	encoded, err := json.Marshal(map[webhook.Secret]webhook.Secret{secret: secret})
	require.NoError(t, err)
	require.JSONEq(t, `{"[redacted]":"[redacted]"}`, string(encoded))
	marshaled, err := secret.MarshalText()
	require.NoError(t, err)
	require.Equal(t, redacted, string(marshaled))
}

func TestSecretDecodesFromNothing(t *testing.T) {
	t.Parallel()
	var holder struct{ Secret webhook.Secret }
	require.Error(t, json.Unmarshal([]byte(`{"Secret":"whsec_AAECAwQFBgc="}`), &holder))
	require.NoError(t, json.Unmarshal([]byte(`{"Secret":{"text":"whsec_AAECAwQFBgc="}}`), &holder))
	require.True(t, holder.Secret.IsZero())
}

func BenchmarkSign(b *testing.B) {
	at := time.Unix(1767268800, 0)
	const id = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
	for _, size := range []int{300, 4 << 10, 256 << 10} {
		payload := bytes.Repeat([]byte("x"), size)
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s, h := newSigner(b, vectorSecretA), http.Header{}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				s.Sign(h, id, at, payload)
			}
		})
	}
	payload := bytes.Repeat([]byte("x"), 300)
	b.Run("300B/TwoSecrets", func(b *testing.B) {
		s, h := newSigner(b, vectorSecretA, vectorSecretB), http.Header{}
		b.ReportAllocs()
		for b.Loop() {
			s.Sign(h, id, at, payload)
		}
	})
	b.Run("300B/Parallel", func(b *testing.B) {
		s := newSigner(b, vectorSecretA)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			h := http.Header{}
			for pb.Next() {
				s.Sign(h, id, at, payload)
			}
		})
	})
	// A signer for one delivery only, from the text as a store returns it.
	b.Run("300B/NewSigner", func(b *testing.B) {
		h := http.Header{}
		b.ReportAllocs()
		for b.Loop() {
			secret, _ := webhook.ParseSecret(vectorSecretA)
			s, _ := webhook.NewSigner(secret)
			s.Sign(h, id, at, payload)
		}
	})
}
