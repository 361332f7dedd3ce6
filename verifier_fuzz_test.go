package webhook_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// oracleMAC is RFC 2104, section 2, step by step.
func oracleMAC(key, message []byte) []byte {
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	padded := make([]byte, sha256.BlockSize)
	copy(padded, key)
	inner, outer := bytes.Clone(padded), bytes.Clone(padded)
	for i := range padded {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(append(inner, message...))
	sum = sha256.Sum256(append(outer, sum[:]...))
	return sum[:]
}

func oracleV1(key []byte, id, timestamp string, body []byte) string {
	signed := slices.Concat([]byte(id+"."+timestamp+"."), body)
	return "v1," + base64.StdEncoding.EncodeToString(oracleMAC(key, signed))
}

var (
	oraclePivot     = regexp.MustCompile(`\A[0-9a-fA-F]{64}\z`)
	oracleID        = regexp.MustCompile(`(?s)\A[^.]+\z`)
	oracleTimestamp = regexp.MustCompile(`\A(0|[1-9][0-9]{0,11})\z`)
	oracleSecret    = regexp.MustCompile(`\A(whsec_)?([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})\z`)
)

// oracleAccepts decides by what valid values look like, from the rules and not
// from the code.
func oracleAccepts(texts []string, schemes []webhook.Scheme, now, tolerance int64, body []byte, lines map[string][]string) bool {
	for _, scheme := range schemes {
		valid := false
		for _, text := range texts {
			switch scheme {
			case webhook.SchemePivot:
				l := lines["X-Pivot-Signature"]
				valid = valid || len(l) == 1 && oraclePivot.MatchString(l[0]) &&
					strings.ToLower(l[0]) == fmt.Sprintf("%x", oracleMAC([]byte(text), body))
			case webhook.SchemeStandard:
				id, ts, list := lines["Webhook-Id"], lines["Webhook-Timestamp"], lines["Webhook-Signature"]
				if len(id) != 1 || len(ts) != 1 || len(list) != 1 ||
					!oracleID.MatchString(id[0]) || len(id[0]) > 256 || !oracleTimestamp.MatchString(ts[0]) {
					return false
				}
				sent, _ := new(big.Int).SetString(ts[0], 10)
				age := new(big.Int).Sub(big.NewInt(now), sent)
				if age.CmpAbs(big.NewInt(tolerance)) > 0 {
					return false
				}
				key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
				if err != nil {
					panic(err)
				}
				listed := strings.Split(list[0], " ")
				valid = valid || len(listed) <= 16 && slices.Contains(listed, oracleV1(key, id[0], ts[0], body))
			}
		}
		if !valid {
			return false
		}
	}
	return true
}

// FuzzVerify accepts exactly what the oracle accepts. In each header, "|"
// separates lines, and {P}, {p} and {S} stand for valid signatures, so that
// inputs near the border of what is valid are easily found.
func FuzzVerify(f *testing.F) {
	for _, v := range loadSignatureVectors(f).Requests {
		lines := map[string][]string{}
		for _, h := range v.Headers {
			k := http.CanonicalHeaderKey(h[0])
			lines[k] = append(lines[k], h[1])
		}
		join := func(k string) string { return strings.Join(lines[k], "|") }
		mode := byte(0)
		if len(v.Secrets) > 1 {
			mode = 4
		}
		f.Add(textOrHex(f, v.Body, v.BodyHex), join("X-Pivot-Signature"), join("Webhook-Id"), join("Webhook-Timestamp"),
			join("Webhook-Signature"), v.Now, uint16(v.ToleranceSeconds), mode)
	}
	f.Add([]byte("{}"), "{P}", "id", "1000", "{S}", int64(1000), uint16(300), byte(0))
	f.Add([]byte("{}"), "{p}", "id", "1300", "{S} v1,x", int64(1000), uint16(300), byte(1))
	f.Add([]byte(""), "", "id", "700", "v1a,x {S}", int64(1000), uint16(300), byte(2))
	f.Add([]byte("x"), "{P}", "i.d", "01000", "{S}|{S}", int64(1000), uint16(300), byte(6))
	f.Add([]byte("x"), "{P}|{P}", "i|d", "1000|1000", "{S} {S}", int64(-1), uint16(1), byte(5))
	f.Add([]byte("x"), "sha256={P}", "id", "999999999999", strings.Repeat(" ", 15)+"{S}", int64(999999999999), uint16(0), byte(4))

	f.Fuzz(func(t *testing.T, body []byte, pivot, id, timestamp, signature string, now int64, tolerance uint16, mode byte) {
		if now < -1<<40 || now > 1<<40 {
			now %= 1 << 40
		}
		schemes := [][]webhook.Scheme{nil, {webhook.SchemePivot}, {webhook.SchemeStandard}, {webhook.SchemeStandard, webhook.SchemePivot}}[mode&3]
		texts := []string{vectorSecretA}
		if mode&4 != 0 {
			texts = []string{vectorSecretB, vectorSecretA}
		}
		keyA := make([]byte, 32)
		for i := range keyA {
			keyA[i] = byte(i)
		}
		v1 := oracleV1(keyA, strings.Split(id, "|")[0], strings.Split(timestamp, "|")[0], body)
		hexA := hex.EncodeToString(oracleMAC([]byte(vectorSecretA), body))
		pivot = strings.NewReplacer("{P}", hexA, "{p}", strings.ToUpper(hexA)).Replace(pivot)
		signature = strings.ReplaceAll(signature, "{S}", v1)

		lines := map[string][]string{}
		for k, v := range map[string]string{
			"X-Pivot-Signature": pivot, "Webhook-Id": id, "Webhook-Timestamp": timestamp, "Webhook-Signature": signature,
		} {
			lines[k] = strings.Split(v, "|")
		}
		cfg := webhook.VerifierConfig{
			Schemes: schemes, Tolerance: time.Duration(tolerance) * time.Second, Clock: verifierClock(now),
		}
		for _, text := range texts {
			cfg.Secrets = append(cfg.Secrets, parseSecret(t, text))
		}
		before := bytes.Clone(body)
		err := newVerifier(t, cfg).Verify(body, http.Header(lines))

		if schemes == nil {
			schemes = bothSchemes
		}
		limit := int64(tolerance)
		if limit == 0 {
			limit = 300
		}
		want := oracleAccepts(texts, schemes, now, limit, body, lines)
		require.Equal(t, want, err == nil, "%q", lines)
		if err != nil {
			require.ErrorIs(t, err, webhook.ErrInvalidSignature)
		}
		require.Equal(t, before, body)
	})
}

// FuzzParseSecret takes every text within the bounds, gives it back unchanged
// and to nobody else, and finds a Standard Webhooks key exactly in padded
// standard base64.
func FuzzParseSecret(f *testing.F) {
	for _, text := range []string{
		"", "a", "Jefe", "whsec_", "It's a Secret to Everybody", vectorSecretA, strings.TrimRight(vectorSecretA, "="),
		vectorSecretA + "\n", "whsec_whsec_AAAA", "AA==", "AB==", "A===", "whsec_-_-_", "AAAA\r\nAAAA", "\x00", "[redacted]",
		strings.Repeat("k", 1024), strings.Repeat("k", 1025),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := webhook.ParseSecret(text)
		if len(text) < 1 || len(text) > 1024 {
			require.Equal(t, []string{"secret"}, faultFields(t, err))
			require.True(t, s.IsZero())
			return
		}
		require.NoError(t, err)
		require.Equal(t, text, s.Reveal())
		again, err := webhook.ParseSecret(strings.Clone(text))
		require.NoError(t, err)
		require.True(t, s == again)

		encoded, err := json.Marshal(s)
		require.NoError(t, err)
		for _, shown := range []string{
			fmt.Sprint(s), fmt.Sprintf("%#v", s), fmt.Sprintf("%x", s), slog.AnyValue(s).Resolve().String(), strings.Trim(string(encoded), `"`),
		} {
			require.Equal(t, "[redacted]", shown)
		}

		_, err = webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{s}})
		require.Equal(t, oracleSecret.MatchString(text), err == nil)
		signer, err := webhook.NewSigner(s)
		require.NoError(t, err)
		h := http.Header{}
		signer.Sign(h, "id", time.Unix(0, 0), nil)
		require.Equal(t, hex.EncodeToString(oracleMAC([]byte(text), nil)), h.Get("X-Pivot-Signature"))
		require.Equal(t, oracleSecret.MatchString(text), h.Get("webhook-signature") != "")
	})
}
