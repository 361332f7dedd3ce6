package webhook_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// The secrets of testdata/vectors.
const (
	vectorSecretA = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	vectorSecretB = "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA="
)

var bothSchemes = []webhook.Scheme{webhook.SchemePivot, webhook.SchemeStandard}

// verifierClock stands still, some way into the given second.
type verifierClock int64

func (c verifierClock) Now() time.Time { return time.Unix(int64(c), 999_999_999) }

func newVerifier(t testing.TB, cfg webhook.VerifierConfig) *webhook.Verifier {
	t.Helper()
	v, err := webhook.NewVerifier(cfg)
	require.NoError(t, err)
	return v
}

// signedVector is the vectors' plain valid request: secret A, both schemes.
func signedVector(t testing.TB) (body []byte, h http.Header, now verifierClock) {
	t.Helper()
	for _, v := range loadSignatureVectors(t).Requests {
		if v.Name == "both" {
			h = http.Header{}
			for _, line := range v.Headers {
				h.Add(line[0], line[1])
			}
			return textOrHex(t, v.Body, v.BodyHex), h, verifierClock(v.Now)
		}
	}
	require.Fail(t, "no such vector")
	return nil, nil, 0
}

func TestVerifyDecidesEveryVectorRequest(t *testing.T) {
	t.Parallel()
	for _, r := range loadSignatureVectors(t).Requests {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			cfg := webhook.VerifierConfig{
				Schemes: r.Schemes, Clock: verifierClock(r.Now), Tolerance: time.Duration(r.ToleranceSeconds) * time.Second,
			}
			for _, text := range r.Secrets {
				cfg.Secrets = append(cfg.Secrets, parseSecret(t, text))
			}
			h := http.Header{}
			for _, line := range r.Headers {
				h.Add(line[0], line[1])
			}
			v := newVerifier(t, cfg)
			for range 3 { // the first sum, and those that reuse its state
				err := v.Verify(textOrHex(t, r.Body, r.BodyHex), h)
				if r.Accept {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, webhook.ErrInvalidSignature)
					require.NoError(t, errors.Unwrap(err), "no detail")
				}
			}
		})
	}
}

func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	body, h, now := signedVector(t)
	v := newVerifier(t, webhook.VerifierConfig{Secrets: []webhook.Secret{parseSecret(t, vectorSecretA)}, Clock: now})
	require.NoError(t, v.Verify(body, h))

	for i := range len(body) * 8 {
		flipped := bytes.Clone(body)
		flipped[i/8] ^= 1 << (i % 8)
		require.ErrorIs(t, v.Verify(flipped, h), webhook.ErrInvalidSignature)
	}
	for i := range body {
		require.ErrorIs(t, v.Verify(body[:i], h), webhook.ErrInvalidSignature)
	}
	for name, values := range h {
		for i := range len(values[0]) * 8 {
			flipped := []byte(values[0])
			flipped[i/8] ^= 1 << (i % 8)
			if name == "X-Pivot-Signature" && strings.EqualFold(string(flipped), values[0]) {
				continue // either case is the same digit
			}
			tampered := h.Clone()
			tampered[name] = []string{string(flipped)}
			require.ErrorIs(t, v.Verify(body, tampered), webhook.ErrInvalidSignature, "%s: %s", name, flipped)
		}
		for i := range len(values[0]) {
			tampered := h.Clone()
			tampered[name] = []string{values[0][:i]}
			require.ErrorIs(t, v.Verify(body, tampered), webhook.ErrInvalidSignature, "%s: %s", name, values[0][:i])
		}
		for _, value := range []string{" " + values[0], values[0] + " ", values[0] + "\t", values[0] + "\x00", values[0] + "\n"} {
			if name == "Webhook-Signature" && strings.Trim(value, " ") == values[0] {
				continue // an empty entry in its list
			}
			tampered := h.Clone()
			tampered[name] = []string{value}
			require.ErrorIs(t, v.Verify(body, tampered), webhook.ErrInvalidSignature, "%s: %q", name, value)
		}
	}
}

func TestVerifyTolerance(t *testing.T) {
	t.Parallel()
	body, h, at := signedVector(t)
	for _, tc := range []struct {
		tolerance time.Duration
		limit     int64 // seconds
	}{
		{0, 300},
		{time.Nanosecond, 0},
		{time.Second, 1},
		{2500 * time.Millisecond, 2},
		{300 * time.Second, 300},
		{time.Hour, 3600},
		{math.MaxInt64, math.MaxInt64 / int64(time.Second)},
	} {
		for offset, ok := range map[int64]bool{
			0: true, tc.limit: true, -tc.limit: true, tc.limit + 1: false, -tc.limit - 1: false,
		} {
			// verifierClock adds most of a second, which must not count.
			v := newVerifier(t, webhook.VerifierConfig{
				Secrets: []webhook.Secret{parseSecret(t, vectorSecretA)}, Tolerance: tc.tolerance, Clock: at + verifierClock(offset),
			})
			err := v.Verify(body, h)
			if ok {
				require.NoError(t, err, "%v %d", tc.tolerance, offset)
			} else {
				require.ErrorIs(t, err, webhook.ErrInvalidSignature, "%v %d", tc.tolerance, offset)
			}
		}
	}
}

func TestVerifyUsesTheSystemClockByDefault(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, webhook.VerifierConfig{Secrets: []webhook.Secret{parseSecret(t, vectorSecretA)}})
	s := newSigner(t, vectorSecretA)
	for offset, ok := range map[time.Duration]bool{0: true, -time.Hour: false, time.Hour: false} {
		h := http.Header{}
		s.Sign(h, "id", time.Now().Add(offset), []byte("{}"))
		require.Equal(t, ok, v.Verify([]byte("{}"), h) == nil, offset)
	}
}

func TestVerifySeesOnlyCanonicalKeys(t *testing.T) {
	t.Parallel()
	body, h, now := signedVector(t)
	v := newVerifier(t, webhook.VerifierConfig{Secrets: []webhook.Secret{parseSecret(t, vectorSecretA)}, Clock: now})
	lower := http.Header{}
	for name, values := range h {
		lower[strings.ToLower(name)] = values
	}
	require.ErrorIs(t, v.Verify(body, lower), webhook.ErrInvalidSignature)
	require.ErrorIs(t, v.Verify(body, nil), webhook.ErrInvalidSignature)
	require.ErrorIs(t, v.Verify(nil, h), webhook.ErrInvalidSignature)
}

func TestVerifyConfiguredHeader(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, webhook.VerifierConfig{
		Secrets: []webhook.Secret{parseSecret(t, "It's a Secret to Everybody")}, Schemes: bothSchemes[:1], SignatureHeader: "x-hub-signature",
	})
	const signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	require.NoError(t, v.Verify([]byte("Hello, World!"), http.Header{"X-Hub-Signature": {signature}}))
	require.ErrorIs(t, v.Verify([]byte("Hello, World!"), http.Header{"X-Pivot-Signature": {signature}}), webhook.ErrInvalidSignature)
}

func TestZeroVerifierRefuses(t *testing.T) {
	t.Parallel()
	body, h, _ := signedVector(t)
	require.ErrorIs(t, new(webhook.Verifier).Verify(body, h), webhook.ErrInvalidSignature)
	require.ErrorIs(t, new(webhook.Verifier).Verify(nil, nil), webhook.ErrInvalidSignature)
}

func TestNewVerifierRefuses(t *testing.T) {
	t.Parallel()
	good, other := []webhook.Secret{parseSecret(t, vectorSecretA)}, parseSecret(t, "It's a Secret to Everybody")
	for _, tc := range []struct {
		name   string
		cfg    webhook.VerifierConfig
		fields []string
	}{
		{"no secret", webhook.VerifierConfig{}, []string{"secrets"}},
		{"zero secret", webhook.VerifierConfig{Secrets: []webhook.Secret{good[0], {}}}, []string{"secrets[1]"}},
		{"no standard key, by default", webhook.VerifierConfig{Secrets: []webhook.Secret{other, good[0], other}}, []string{"secrets[0]", "secrets[2]"}},
		{"no standard key", webhook.VerifierConfig{Secrets: []webhook.Secret{other}, Schemes: bothSchemes[1:]}, []string{"secrets[0]"}},
		{"unknown scheme", webhook.VerifierConfig{Secrets: good, Schemes: []webhook.Scheme{"pivot", "v1a"}}, []string{"schemes[1]"}},
		{"zero scheme", webhook.VerifierConfig{Secrets: good, Schemes: []webhook.Scheme{""}}, []string{"schemes[0]"}},
		{"scheme twice", webhook.VerifierConfig{Secrets: good, Schemes: []webhook.Scheme{"pivot", "standard", "pivot"}}, []string{"schemes[2]"}},
		{"negative tolerance", webhook.VerifierConfig{Secrets: good, Tolerance: -1}, []string{"tolerance"}},
		{"negative bound", webhook.VerifierConfig{Secrets: good, MaxBody: -1}, []string{"max_body"}},
		{"header", webhook.VerifierConfig{Secrets: good, SignatureHeader: "webhook-signature"}, []string{"signature_header"}},
		{"everything", webhook.VerifierConfig{Schemes: []webhook.Scheme{"x"}, Tolerance: -1, MaxBody: -1, SignatureHeader: "a b"},
			[]string{"secrets", "schemes[0]", "tolerance", "max_body", "signature_header"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v, err := webhook.NewVerifier(tc.cfg)
			require.Nil(t, v)
			require.Equal(t, tc.fields, faultFields(t, err))
			require.NotContains(t, err.Error(), other.Reveal())
		})
	}
}

func TestStandardKeyOfASecret(t *testing.T) {
	t.Parallel()
	encoded := strings.TrimPrefix(vectorSecretA, "whsec_")
	for text, ok := range map[string]bool{
		vectorSecretA: true, encoded: true, "whsec_AA==": true, "Jefe": true,

		"whsec_": false, "whsec_=": false, "It's a Secret to Everybody": false,
		strings.TrimRight(vectorSecretA, "="): false, // no padding
		vectorSecretA + "=":                   false,
		"whsec_" + vectorSecretA:              false,
		"WHSEC_" + encoded:                    false,
		"whsk_" + encoded:                     false, // an asymmetric key
		vectorSecretA + "\n":                  false,
		"whsec_AAEC\r\nAwQF":                  false,
		" " + vectorSecretA:                   false,
		"whsec_-_-_":                          false, // URL alphabet
	} {
		secrets := []webhook.Secret{parseSecret(t, text)}
		_, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: secrets})
		if ok {
			require.NoError(t, err, "%q", text)
		} else {
			require.Equal(t, []string{"secrets[0]"}, faultFields(t, err), "%q", text)
			require.ErrorContains(t, err, "SchemePivot", "must say the way out")
		}
		_, err = webhook.NewVerifier(webhook.VerifierConfig{Secrets: secrets, Schemes: bothSchemes[:1]})
		require.NoError(t, err, "%q", text)
	}
}

func TestVerifierKeepsNoReferenceToItsConfig(t *testing.T) {
	t.Parallel()
	body, h, now := signedVector(t)
	cfg := webhook.VerifierConfig{Secrets: []webhook.Secret{parseSecret(t, vectorSecretA)}, Schemes: []webhook.Scheme{"pivot"}, Clock: now}
	v := newVerifier(t, cfg)
	cfg.Secrets[0], cfg.Schemes[0] = parseSecret(t, vectorSecretB), "standard"
	h.Del("webhook-signature")
	require.NoError(t, v.Verify(body, h))
}

// countingBody counts what is read, and whether it was closed.
type countingBody struct {
	io.Reader
	read   int
	closed bool
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += n
	return n, err
}

func (b *countingBody) Close() error { b.closed = true; return nil }

func signedRequest(t testing.TB, body io.ReadCloser, payload []byte) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Body = body
	r.ContentLength = int64(len(payload))
	newSigner(t, vectorSecretA).Sign(r.Header, "id", time.Unix(1_000_000, 0), payload)
	return r
}

func requestVerifier(t testing.TB, maxBody int64) *webhook.Verifier {
	t.Helper()
	return newVerifier(t, webhook.VerifierConfig{
		Secrets: []webhook.Secret{parseSecret(t, vectorSecretA)}, Clock: verifierClock(1_000_000), MaxBody: maxBody,
	})
}

func TestVerifyRequest(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"a":1}`)

	t.Run("gives the body back", func(t *testing.T) {
		t.Parallel()
		body := &countingBody{Reader: iotest.OneByteReader(bytes.NewReader(payload))}
		r := signedRequest(t, body, payload)
		for range 2 {
			got, err := requestVerifier(t, 0).VerifyRequest(r)
			require.NoError(t, err)
			require.Equal(t, payload, got)
		}
		again, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, payload, again)
		require.Equal(t, int64(len(payload)), r.ContentLength)
		require.False(t, body.closed)
		require.NoError(t, r.Body.Close())
		require.True(t, body.closed)
	})

	t.Run("gives the body back also when the signature is wrong", func(t *testing.T) {
		t.Parallel()
		r := signedRequest(t, io.NopCloser(bytes.NewReader(payload)), payload)
		r.Header.Set("webhook-id", "other")
		got, err := requestVerifier(t, 0).VerifyRequest(r)
		require.ErrorIs(t, err, webhook.ErrInvalidSignature)
		require.Nil(t, got)
		again, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, payload, again)
	})

	t.Run("unknown length", func(t *testing.T) {
		t.Parallel()
		r := signedRequest(t, io.NopCloser(bytes.NewReader(payload)), payload)
		r.ContentLength = -1
		got, err := requestVerifier(t, 0).VerifyRequest(r)
		require.NoError(t, err)
		require.Equal(t, payload, got)
		require.Equal(t, int64(-1), r.ContentLength)
	})

	t.Run("no body", func(t *testing.T) {
		t.Parallel()
		for _, body := range []io.ReadCloser{nil, http.NoBody} {
			r := signedRequest(t, body, nil)
			got, err := requestVerifier(t, 0).VerifyRequest(r)
			require.NoError(t, err)
			require.Empty(t, got)
			again, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			require.Empty(t, again)
		}
	})

	t.Run("bounds", func(t *testing.T) {
		t.Parallel()
		for _, tc := range []struct {
			maxBody int64
			size    int
			ok      bool
		}{
			{0, 1 << 20, true}, {0, 1<<20 + 1, false}, {10, 10, true}, {10, 11, false}, {1, 0, true}, {10, 1 << 16, false},
			{math.MaxInt64, 1 << 16, true},
		} {
			payload := bytes.Repeat([]byte("x"), tc.size)
			body := &countingBody{Reader: bytes.NewReader(payload)}
			r := signedRequest(t, body, payload)
			got, err := requestVerifier(t, tc.maxBody).VerifyRequest(r)
			if tc.ok {
				require.NoError(t, err)
				require.Len(t, got, len(payload))
				continue
			}
			limit := tc.maxBody
			if limit == 0 {
				limit = 1 << 20
			}
			require.Equal(t, &http.MaxBytesError{Limit: limit}, err, "unchanged")
			require.Nil(t, got)
			require.LessOrEqual(t, int64(body.read), limit+1)
			n, err := r.Body.Read(make([]byte, 1))
			require.Zero(t, n, "nothing more is to be had")
			require.Error(t, err)
		}
	})

	t.Run("a smaller bound of the host's", func(t *testing.T) {
		t.Parallel()
		r := signedRequest(t, http.MaxBytesReader(nil, io.NopCloser(bytes.NewReader(payload)), 3), payload)
		_, err := requestVerifier(t, 0).VerifyRequest(r)
		require.Equal(t, &http.MaxBytesError{Limit: 3}, err)
	})

	t.Run("broken body", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("connection lost")
		r := signedRequest(t, io.NopCloser(io.MultiReader(bytes.NewReader(payload), iotest.ErrReader(broken))), payload)
		got, err := requestVerifier(t, 0).VerifyRequest(r)
		require.ErrorIs(t, err, broken)
		require.NotErrorIs(t, err, webhook.ErrInvalidSignature)
		require.Nil(t, got)
		_, err = io.ReadAll(r.Body)
		require.Error(t, err, "a part must not pass for the whole")
	})
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"text":"Grüße"}`)
	for _, tc := range []struct {
		name   string
		change func(r *http.Request)
		code   int
		body   string
	}{
		{"valid", func(*http.Request) {}, http.StatusAccepted, ""},
		{"no signature", func(r *http.Request) { r.Header.Del("webhook-signature") }, http.StatusUnauthorized, "unauthorized\n"},
		{"other body", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{}")) }, http.StatusUnauthorized, "unauthorized\n"},
		{"too old", func(r *http.Request) {
			newSigner(t, vectorSecretA).Sign(r.Header, "id", time.Unix(999_699, 0), payload)
		}, http.StatusUnauthorized, "unauthorized\n"},
		{"too large", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 101))) },
			http.StatusRequestEntityTooLarge, "request body too large\n"},
		{"broken", func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) },
			http.StatusBadRequest, "bad request\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got []byte
			calls := 0
			next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls++
				got, _ = io.ReadAll(r.Body)
				w.WriteHeader(http.StatusAccepted)
			})
			r := signedRequest(t, io.NopCloser(bytes.NewReader(payload)), payload)
			tc.change(r)
			body := r.Body
			w := httptest.NewRecorder()
			requestVerifier(t, 100).Middleware(next).ServeHTTP(w, r)

			require.Equal(t, tc.code, w.Code)
			require.Equal(t, tc.body, w.Body.String())
			require.True(t, body == r.Body, "the caller's request is left alone")
			if tc.code == http.StatusAccepted {
				require.Equal(t, 1, calls)
				require.Equal(t, payload, got)
			} else {
				require.Zero(t, calls)
			}
		})
	}
	require.PanicsWithValue(t, "webhook: nil handler", func() { requestVerifier(t, 0).Middleware(nil) })
}

func TestMiddlewareOnTheWire(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, webhook.VerifierConfig{Secrets: []webhook.Secret{parseSecret(t, vectorSecretA)}, MaxBody: 1000})
	server := httptest.NewServer(v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})))
	t.Cleanup(server.Close)
	signer := newSigner(t, vectorSecretA)

	for _, tc := range []struct {
		size, code int
		chunked    bool
	}{
		{0, 200, false}, {1000, 200, false}, {1000, 200, true}, {1001, 413, false}, {1001, 413, true},
	} {
		payload := bytes.Repeat([]byte("x"), tc.size)
		var body io.Reader = bytes.NewReader(payload)
		if tc.chunked {
			body = io.NopCloser(body) // hides the length
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
		require.NoError(t, err)
		signer.Sign(r.Header, "id", time.Now(), payload)
		res, err := server.Client().Do(r)
		require.NoError(t, err)
		got, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, tc.code, res.StatusCode)
		if tc.code == http.StatusOK {
			require.Equal(t, string(payload), string(got))
		} else {
			require.True(t, res.Close, "an oversized body is not drained")
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	body, h, now := signedVector(b)
	for n := range 2 {
		secrets := []webhook.Secret{parseSecret(b, vectorSecretA), parseSecret(b, vectorSecretB)}[:n+1]
		v := newVerifier(b, webhook.VerifierConfig{Secrets: secrets, Clock: now})
		b.Run(fmt.Sprintf("Secrets%d", n+1), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Verify(body, h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleVerifier_Middleware() {
	// Shown once when the webhook was created; kept in the receiver's environment.
	secret, err := webhook.ParseSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		panic(err)
	}
	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}})
	if err != nil {
		panic(err)
	}
	handler := verifier.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// The body is what the sender signed; the same id may come again.
		fmt.Println("event", r.Header.Get("webhook-id"))
	}))

	request := func(body string) *http.Request {
		return httptest.NewRequest(http.MethodPost, "/webhooks", strings.NewReader(body))
	}
	signer, _ := webhook.NewSigner(secret)
	signed := request(`{"event_type":"message_sent"}`)
	signer.Sign(signed.Header, "0199a1b2", time.Now(), []byte(`{"event_type":"message_sent"}`))

	for _, r := range []*http.Request{signed, request(`{"event_type":"message_sent"}`)} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// event 0199a1b2
	// 200
	// 401
}
