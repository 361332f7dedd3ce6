package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultTolerance = 5 * time.Minute
	defaultMaxBody   = 1 << 20

	maxWebhookIDBytes = 256

	// maxTimestampDigits reaches to the year 33658 and cannot overflow.
	maxTimestampDigits = 12
)

// Scheme names one of the two signatures that a request carries. The zero
// Scheme is none, and refused.
type Scheme string

const (
	// SchemePivot is X-Pivot-Signature: exactly 64 hex digits of either case,
	// the HMAC-SHA256 of the body, without an algorithm prefix. It covers
	// neither id nor time: on its own it is no protection against replay.
	SchemePivot Scheme = "pivot"

	// SchemeStandard is the symmetric v1 signature of Standard Webhooks 1.0.0:
	// webhook-id, webhook-timestamp and webhook-signature. It covers id, time
	// and body.
	SchemeStandard Scheme = "standard"
)

// VerifierConfig is what a [Verifier] demands of a request.
type VerifierConfig struct {
	// Secrets are the ones a request may be signed with; any of them will do.
	// To change a webhook's secret, list the old and the new one for a while.
	// Required; a zero Secret is an error.
	Secrets []Secret

	// Schemes are the signatures that a request must carry, each present and
	// valid. A value unknown or listed twice is an error, and so is
	// SchemeStandard with a secret that has no Standard Webhooks key.
	// Defaults to SchemePivot and SchemeStandard.
	Schemes []Scheme

	// Tolerance is how far webhook-timestamp may lie before or after the
	// clock, counted in whole seconds, the limit included: with 5 minutes, 300
	// seconds pass and 301 do not. A fraction of a second is dropped, from the
	// clock too. SchemePivot has no timestamp. Defaults to 5 minutes, which
	// the Standard Webhooks libraries have too; negative is an error.
	Tolerance time.Duration

	// Clock tells the time. Defaults to the system's.
	Clock Clock

	// MaxBody bounds the body that VerifyRequest and Middleware read, in
	// bytes; senders keep to 256 KiB unless configured otherwise. Defaults to
	// 1 MiB; negative is an error.
	MaxBody int64

	// SignatureHeader is the header of SchemePivot, under the rules of
	// [Signer.WithHeader]. Defaults to X-Pivot-Signature.
	SignatureHeader string
}

// Verifier tells signed requests from forged ones, on the side of the
// receiver. It is safe for concurrent use; the zero Verifier refuses everything.
//
// # Advice for receivers
//
// Verify the bytes as they came, before they are parsed as JSON: what is
// encoded anew is not what was signed, and until then a stranger may have
// written it. Nothing may have read or changed the body earlier on.
//
// Delivery is at least once. Remember each webhook-id for as long as the
// sender may retry or redeliver, and answer 2xx at once to one that is known.
//
// Keep both schemes, the default. SchemePivot covers neither time nor
// webhook-id, so on its own it lets a request that was seen once be sent
// again, at any time and under another id.
//
// Signatures are compared in constant time, as GitHub's guide to validating
// webhook deliveries asks for, and every listed one with every secret.
type Verifier struct {
	header    string
	pivot     []*mac // nil unless demanded, as is standard
	standard  []*mac
	tolerance int64 // seconds
	clock     Clock
	maxBody   int64
}

// NewVerifier returns a verifier. What is wrong with cfg it reports as
// ValidationErrors, all at once.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	var faults ValidationErrors
	v := &Verifier{
		header:    headerPivotSignature,
		tolerance: int64(cfg.Tolerance / time.Second),
		clock:     clockOr(cfg.Clock, nil, nil),
		maxBody:   cfg.MaxBody,
	}

	schemes := cfg.Schemes
	if len(schemes) == 0 {
		schemes = []Scheme{SchemePivot, SchemeStandard}
	}
	pivot, standard := slices.Contains(schemes, SchemePivot), slices.Contains(schemes, SchemeStandard)

	if len(cfg.Secrets) == 0 {
		faults.add("secrets", "must have at least one secret")
	}
	for i, secret := range cfg.Secrets {
		field := fmt.Sprintf("secrets[%d]", i)
		if secret.IsZero() {
			faults.add(field, "must not be the zero Secret")
			continue
		}
		if pivot {
			v.pivot = append(v.pivot, newMAC([]byte(secret.Reveal())))
		}
		if standard {
			key := secret.standardKey()
			if key == nil {
				faults.add(field, "has no Standard Webhooks key: must be padded base64, with or without whsec_; "+
					"for any other secret set Schemes to SchemePivot only")
				continue
			}
			v.standard = append(v.standard, newMAC(key))
		}
	}

	for i, scheme := range schemes {
		field := fmt.Sprintf("schemes[%d]", i)
		if scheme != SchemePivot && scheme != SchemeStandard {
			faults.add(field, "must be SchemePivot or SchemeStandard")
		} else if slices.Contains(schemes[:i], scheme) {
			faults.add(field, "must not be listed twice")
		}
	}

	switch {
	case cfg.Tolerance < 0:
		faults.add("tolerance", "must not be negative")
	case cfg.Tolerance == 0:
		v.tolerance = int64(defaultTolerance / time.Second)
	}

	switch {
	case cfg.MaxBody < 0:
		faults.add("max_body", "must not be negative")
	case cfg.MaxBody == 0:
		v.maxBody = defaultMaxBody
	}

	if cfg.SignatureHeader != "" {
		canonical, reason := validateHeaderName(cfg.SignatureHeader)
		if reason != "" {
			faults.add("signature_header", reason)
		}
		v.header = canonical
	}

	if err := faults.err(); err != nil {
		return nil, err
	}
	return v, nil
}

// Verify returns nil if payload, the body as it came, and h are signed as the
// configuration demands, and otherwise ErrInvalidSignature and nothing more: a
// forger learns as little as possible.
//
// The keys of h must be canonical, as net/http makes them; values under other
// keys are not seen. Each header must have exactly one value. For
// SchemeStandard these are refused beyond what the signature itself decides,
// so that one request has one reading only:
//
//   - a webhook-id that is empty, has more than 256 bytes, or contains a "."
//   - a webhook-timestamp other than 1 to 12 decimal digits without a leading
//     zero, or outside of Tolerance
//   - a webhook-signature that lists more than 16 signatures, separated by
//     single spaces; those that do not begin "v1," are ignored, and base64
//     counts only in the one form that a sender writes
func (v *Verifier) Verify(payload []byte, h http.Header) error {
	if len(v.pivot)+len(v.standard) == 0 {
		return ErrInvalidSignature // the zero Verifier
	}
	pivot := v.pivot == nil || v.pivotValid(payload, h)
	standard := v.standard == nil || v.standardValid(payload, h)
	if !pivot || !standard {
		return ErrInvalidSignature
	}
	return nil
}

func (v *Verifier) pivotValid(payload []byte, h http.Header) bool {
	text, ok := onlyValue(h, v.header)
	if !ok || len(text) != hex.EncodedLen(sha256.Size) {
		return false
	}
	given, err := hex.DecodeString(text)
	if err != nil {
		return false
	}
	valid := false
	for _, m := range v.pivot {
		want := m.sum("", payload)
		valid = hmac.Equal(want[:], given) || valid
	}
	return valid
}

func (v *Verifier) standardValid(payload []byte, h http.Header) bool {
	id, okID := onlyValue(h, headerWebhookID)
	timestamp, okTimestamp := onlyValue(h, headerWebhookTimestamp)
	list, okList := onlyValue(h, headerWebhookSignature)
	if !okID || !okTimestamp || !okList {
		return false
	}
	if id == "" || len(id) > maxWebhookIDBytes || strings.Contains(id, ".") {
		return false
	}
	sent, ok := parseTimestamp(timestamp)
	if !ok {
		return false
	}
	if now := v.clock.Now().Unix(); now-sent > v.tolerance || sent-now > v.tolerance {
		return false
	}
	if strings.Count(list, " ") >= maxListedSignatures {
		return false
	}

	prefix := id + "." + timestamp + "."
	valid := false
	for _, m := range v.standard {
		sum := m.sum(prefix, payload)
		// Encoded, because several texts decode to the same bytes.
		want := base64.StdEncoding.AppendEncode(nil, sum[:])
		for signature := range strings.SplitSeq(list, " ") {
			if given, ok := strings.CutPrefix(signature, standardVersion); ok {
				valid = hmac.Equal(want, []byte(given)) || valid
			}
		}
	}
	return valid
}

// onlyValue returns the value of a header that has exactly one.
func onlyValue(h http.Header, name string) (string, bool) {
	values := h.Values(name)
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

// parseTimestamp reads whole seconds since 1970 in the only form that
// strconv.FormatInt writes them: what is signed is the text, not the number.
func parseTimestamp(s string) (int64, bool) {
	if s == "" || len(s) > maxTimestampDigits || s[0] == '0' && s != "0" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// VerifyRequest reads r's body, verifies it with r's headers, and returns it.
//
// Whether or not the signature is valid, r.Body is then a fresh reader of the
// same bytes, so that another verifier can have its turn; it shares them with
// payload, and closing it closes the original. r.ContentLength is left as it
// is. A nil r.Body is an empty one.
//
// Beyond MaxBody, nothing more is read and the error is the
// *http.MaxBytesError; any other failure to read is wrapped. After both,
// r.Body goes on failing: a part of a body is not to be taken for all of it.
// An invalid signature is ErrInvalidSignature, as from [Verifier.Verify].
func (v *Verifier) VerifyRequest(r *http.Request) (payload []byte, err error) {
	return v.verifyRequest(nil, r)
}

// verifyRequest takes the response for http.MaxBytesReader, which then closes
// the connection instead of draining it.
func (v *Verifier) verifyRequest(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	original := r.Body
	if original == nil {
		original = http.NoBody
	}
	r.Body = http.MaxBytesReader(w, original, v.maxBody)
	payload, err := io.ReadAll(r.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, fmt.Errorf("webhook: read body: %w", err)
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(payload), original}
	if err := v.Verify(payload, r.Header); err != nil {
		return nil, err
	}
	return payload, nil
}

// Middleware returns a handler that calls next for requests whose signature is
// valid, with the body to be read again, and for no others. It answers 401 to
// an invalid signature, 413 to a body beyond MaxBody and 400 to one that could
// not be read, none of them with details. It panics if next is nil, as
// net/http does.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	if next == nil {
		panic("webhook: nil handler")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verified := *r // a handler must not change its request
		_, err := v.verifyRequest(w, &verified)
		var tooLarge *http.MaxBytesError
		switch {
		case err == nil:
			next.ServeHTTP(w, &verified)
		case errors.Is(err, ErrInvalidSignature):
			http.Error(w, "unauthorized", http.StatusUnauthorized)
		case errors.As(err, &tooLarge):
			http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
		default:
			http.Error(w, "bad request", http.StatusBadRequest)
		}
	})
}
