package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unique"
)

const (
	headerPivotSignature   = "X-Pivot-Signature"
	headerWebhookID        = "Webhook-Id"
	headerWebhookTimestamp = "Webhook-Timestamp"
	headerWebhookSignature = "Webhook-Signature"
	headerAttempt          = "X-Pivot-Attempt"

	secretPrefix   = "whsec_"
	secretKeyBytes = 32
	maxSecretBytes = 1024
	redactedSecret = "[redacted]"

	// standardVersion marks a symmetric signature in webhook-signature.
	standardVersion = "v1,"

	// maxListedSignatures bounds webhook-signature, and with it what a forged
	// request can make a receiver compare.
	maxListedSignatures = 16

	maxHeaderNameBytes = 128
)

// Secret is the key that the requests to one webhook are signed with. It is an
// immutable value, comparable with ==; the zero Secret is none, and refused by
// [NewSigner] and [NewVerifier].
//
// A secret is a text, and has two keys: the bytes of the text itself, prefix
// included, for X-Pivot-Signature; and for Standard Webhooks what the text,
// less an optional "whsec_", decodes to as padded standard base64 (RFC 4648,
// section 4). Unpadded and URL-safe base64 and line breaks do not decode, and
// leave the secret without a Standard Webhooks key. Standard Webhooks 1.0.0
// asks for keys of 24 to 64 bytes; any length but 0 is taken here.
//
// Only Reveal gives the text away. Through fmt with any verb, slog, and JSON
// and text encoding, a secret shows as "[redacted]", or as an address where it
// lies in an unexported field and fmt cannot call its methods. Printers that
// follow pointers in unexported fields, such as go-spew, still reach the text.
// Nothing decodes into a Secret: see [ParseSecret].
type Secret struct {
	// text is a handle because fmt prints its pointer, never what it points
	// to, and because handles of equal texts are equal, which plain pointers
	// are not.
	text unique.Handle[string]
}

// NewSecret returns a new secret: "whsec_" and the base64 of 32 bytes from
// crypto/rand.
func NewSecret() (Secret, error) {
	var key [secretKeyBytes]byte
	if _, err := rand.Read(key[:]); err != nil {
		return Secret{}, fmt.Errorf("webhook: new secret: %w", err)
	}
	return ParseSecret(secretPrefix + base64.StdEncoding.EncodeToString(key[:]))
}

// ParseSecret returns the secret with this text: one that [NewSecret] made, or
// any other of 1 to 1,024 bytes, as other senders let people choose. The text
// is taken as it is, surrounding white space included. Outside those bounds it
// returns ValidationErrors for the field "secret".
func ParseSecret(s string) (Secret, error) {
	if s == "" {
		return Secret{}, ValidationErrors{{"secret", "must not be empty"}}
	}
	if len(s) > maxSecretBytes {
		return Secret{}, ValidationErrors{{"secret", fmt.Sprintf("must have at most %d bytes", maxSecretBytes)}}
	}
	return Secret{text: unique.Make(s)}, nil
}

// Reveal returns the text. It is empty for the zero Secret.
func (s Secret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return s.text.Value()
}

// IsZero reports whether s is the zero Secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// Format writes "[redacted]", whatever the verb and flags.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedSecret) }

// String returns "[redacted]".
func (s Secret) String() string { return redactedSecret }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redactedSecret }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redactedSecret) }

// MarshalJSON returns "[redacted]" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redactedSecret) }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redactedSecret), nil }

// standardKey returns the Standard Webhooks key, or nil if s has none.
func (s Secret) standardKey() []byte {
	text := strings.TrimPrefix(s.Reveal(), secretPrefix)
	// base64 skips line breaks; here one is a sign of a badly read file, and
	// would make the two keys of a secret disagree.
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return key
}

// Signer signs requests with one secret or several. It is safe for concurrent
// use; the zero Signer is not usable. Its results are HMAC-SHA256 as in RFC
// 2104, laid out as [Signer.Sign] describes.
type Signer struct {
	header   string
	pivot    *mac
	standard []*mac
}

// NewSigner returns a signer that sets X-Pivot-Signature by the first secret,
// and in webhook-signature one v1 for each. A receiver that knows only a later
// secret can therefore verify [SchemeStandard] alone.
//
// A secret without a Standard Webhooks key gets no v1, and if none of them has
// one, webhook-signature is not set at all. No secret, more than 16, or a zero
// one are ValidationErrors.
func NewSigner(secrets ...Secret) (*Signer, error) {
	if len(secrets) == 0 {
		return nil, ValidationErrors{{"secrets", "must have at least one secret"}}
	}
	if len(secrets) > maxListedSignatures {
		return nil, ValidationErrors{{"secrets", fmt.Sprintf("must have at most %d secrets", maxListedSignatures)}}
	}
	var faults ValidationErrors
	s := &Signer{header: headerPivotSignature, pivot: newMAC([]byte(secrets[0].Reveal()))}
	for i, secret := range secrets {
		if secret.IsZero() {
			faults.add(fmt.Sprintf("secrets[%d]", i), "must not be the zero Secret")
		} else if key := secret.standardKey(); key != nil {
			s.standard = append(s.standard, newMAC(key))
		}
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// WithHeader returns a copy of s that sets the named header instead of
// X-Pivot-Signature. The name is a token as in RFC 9110, section 5.6.2, of at
// most 128 bytes, in any case. One that HTTP, Standard Webhooks or this
// library gives a meaning of its own is refused, as is anything else, with
// ValidationErrors for the field "signature_header".
func (s *Signer) WithHeader(name string) (*Signer, error) {
	canonical, reason := validateHeaderName(name)
	if reason != "" {
		return nil, ValidationErrors{{"signature_header", reason}}
	}
	c := *s
	c.header = canonical
	return &c, nil
}

// Sign sets these headers of h, replacing earlier values:
//
//	X-Pivot-Signature   lower-case hex of the HMAC of payload
//	webhook-id          eventID
//	webhook-timestamp   at, in whole seconds since 1970, rounded down
//	webhook-signature   "v1," and the base64 of the HMAC of id.timestamp.payload,
//	                    for each secret, separated by spaces
//
// The last three are those of Standard Webhooks 1.0.0. eventID must not be
// empty, contain a ".", or exceed 256 bytes, nor at be before 1970: Sign does
// not check, but no [Verifier] would accept the request. payload must be the
// body exactly as it is sent.
func (s *Signer) Sign(h http.Header, eventID string, at time.Time, payload []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	h.Set(headerWebhookID, eventID)
	h.Set(headerWebhookTimestamp, timestamp)

	sum := s.pivot.sum("", payload)
	text := make([]byte, 0, 128) // stays on the stack: room for two v1
	h.Set(s.header, string(hex.AppendEncode(text, sum[:])))

	if len(s.standard) == 0 {
		h.Del(headerWebhookSignature)
		return
	}
	prefix := eventID + "." + timestamp + "."
	for i, m := range s.standard {
		if i > 0 {
			text = append(text, ' ')
		}
		sum := m.sum(prefix, payload)
		text = append(text, standardVersion...)
		text = base64.StdEncoding.AppendEncode(text, sum[:])
	}
	h.Set(headerWebhookSignature, string(text))
}

// mac computes HMAC-SHA256 under one key. It is safe for concurrent use.
//
// It keeps one idle state, because setting up a key costs as much as hashing a
// short payload. A sync.Pool would keep more of them, but each pool registers
// itself under a lock of the whole process, which is too much for signers that
// live for one delivery.
type mac struct {
	// newHash holds the key, as a closure because fmt follows the pointers of
	// a Signer when a verb is wrong, but prints functions as addresses.
	newHash func() hash.Hash
	idle    atomic.Pointer[macState]
}

type macState struct {
	hash   hash.Hash
	prefix []byte
	sum    [sha256.Size]byte
}

func newMAC(key []byte) *mac {
	return &mac{newHash: func() hash.Hash { return hmac.New(sha256.New, key) }}
}

// sum returns the HMAC of prefix and payload, one after the other.
func (m *mac) sum(prefix string, payload []byte) [sha256.Size]byte {
	st := m.idle.Swap(nil)
	if st == nil {
		st = &macState{hash: m.newHash()}
	} else {
		st.hash.Reset()
	}
	st.prefix = append(st.prefix[:0], prefix...)
	st.hash.Write(st.prefix)
	st.hash.Write(payload)
	st.hash.Sum(st.sum[:0])
	sum := st.sum
	m.idle.Store(st)
	return sum
}

// validateHeaderName returns the canonical form of a name for the header that
// carries the Pivot signature, or the rule that it breaks.
func validateHeaderName(name string) (canonical, reason string) {
	if name == "" {
		return "", "must not be empty"
	}
	if len(name) > maxHeaderNameBytes {
		return "", fmt.Sprintf("must have at most %d bytes", maxHeaderNameBytes)
	}
	for i := range len(name) {
		if !isTokenByte(name[i]) {
			return "", "must have only letters, digits and !#$%&'*+-.^_`|~"
		}
	}
	canonical = http.CanonicalHeaderKey(name)
	switch canonical {
	case headerWebhookID, headerWebhookTimestamp, headerWebhookSignature, headerAttempt,
		// Framing and connection, RFC 9110 and 9112: net/http sets or drops them.
		"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade",
		// Meaning of the body and of the request.
		"Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Type",
		"Cookie", "Date", "User-Agent",
		// With one of these net/http sends a POST again by itself.
		"Idempotency-Key", "X-Idempotency-Key":
		return "", "must not be a header with another meaning"
	}
	if strings.HasPrefix(canonical, "Proxy-") {
		return "", "must not be a header with another meaning"
	}
	return canonical, ""
}

// isTokenByte reports whether c is a tchar of RFC 9110, section 5.6.2.
func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
