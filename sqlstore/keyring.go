package sqlstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// keyBytes is the size of a key of AES-256.
const keyBytes = 32

var keyIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// Key is a key that webhooks' secrets are sealed under. Keep it where the
// database's backups are not.
type Key struct {
	ID    string // 1 to 32 letters, digits, "_" and "-"; stored with what is sealed
	Bytes []byte // 32, from a random source
}

// Keyring seals webhooks' secrets with AES-256-GCM: with the first of its keys,
// and opens what was sealed with any of them. It is immutable and safe for
// concurrent use; it does not print its keys.
//
// What is sealed is bound to its webhook and organization: moved to another row
// it does not open.
type Keyring struct {
	primary string
	ciphers map[string]cipher.AEAD
}

// NewKeyring returns a keyring. The first key seals, the others are those from
// before it, until [Store.Reseal] has made them needless. It returns
// webhook.ValidationErrors for keys that are not keys, and does not retain them.
//
// To change keys: give all processes the new one as another, then as the first,
// call Reseal, and take the old one away.
func NewKeyring(first Key, others ...Key) (*Keyring, error) {
	k := &Keyring{primary: first.ID, ciphers: map[string]cipher.AEAD{}}
	var faults webhook.ValidationErrors
	for i, key := range append([]Key{first}, others...) {
		field := fmt.Sprintf("keys[%d]", i)
		switch {
		case !keyIDForm.MatchString(key.ID):
			faults = append(faults, webhook.ValidationError{Field: field + ".id", Reason: `must be 1 to 32 letters, digits, "_" and "-"`})
			continue
		case k.ciphers[key.ID] != nil:
			faults = append(faults, webhook.ValidationError{Field: field + ".id", Reason: "must not be that of another key"})
			continue
		case len(key.Bytes) != keyBytes:
			faults = append(faults, webhook.ValidationError{Field: field + ".bytes", Reason: "must be 32"})
			continue
		}
		block, err := aes.NewCipher(key.Bytes)
		if err == nil {
			k.ciphers[key.ID], err = cipher.NewGCM(block)
		}
		if err != nil {
			return nil, fmt.Errorf("sqlstore: new keyring: %w", err)
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("sqlstore: new keyring: %w", faults)
	}
	return k, nil
}

// ParseKeyring returns the keyring of a text, as it fits into an environment
// variable: keys separated by commas, each its id, a colon, and the base64 of its
// 32 bytes. The first one seals.
//
//	2026-11:Zm9vYmFyYmF6cXV1eGZvb2JhcmJhenF1dXhmb29iYXI=
//
// The second part is what "openssl rand -base64 32" prints. Errors do not show
// the keys.
func ParseKeyring(text string) (*Keyring, error) {
	var keys []Key
	for i, part := range strings.Split(text, ",") {
		id, encoded, found := strings.Cut(strings.TrimSpace(part), ":")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !found || err != nil {
			return nil, fmt.Errorf("sqlstore: parse keyring: %w", webhook.ValidationErrors{{
				Field: fmt.Sprintf("keys[%d]", i), Reason: "must be an id, a colon and the base64 of 32 bytes",
			}})
		}
		keys = append(keys, Key{ID: id, Bytes: key})
	}
	return NewKeyring(keys[0], keys[1:]...)
}

// String says which keys there are.
func (k *Keyring) String() string {
	return fmt.Sprintf("keyring of %d, first %s", len(k.ciphers), k.primary)
}

// GoString is String.
func (k *Keyring) GoString() string { return k.String() }

// The first byte of what is stored says how it is.
const (
	plain0  byte = iota // the text follows
	sealed1             // the key's id, a colon, the nonce and what is sealed follow
)

// bindingOf is what a sealed secret is bound to.
func bindingOf(organization string, webhookID uuid.UUID) []byte {
	return append(append([]byte("posthorn secret 1:"), webhookID[:]...), organization...)
}

// seal returns a secret as it is stored.
func (s *Store) seal(secret webhook.Secret, organization string, webhookID uuid.UUID) ([]byte, error) {
	text := []byte(secret.Reveal())
	k := s.keyring
	if k == nil {
		return append([]byte{plain0}, text...), nil
	}
	out := append([]byte{sealed1}, k.primary+":"...)
	aead := k.ciphers[k.primary]
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("nonce: %w", err)
	}
	return aead.Seal(append(out, nonce...), nonce, text, bindingOf(organization, webhookID)), nil
}

// Why a secret does not open. None of these shows it.
var (
	errPlaintext = errors.New("it is not sealed, and InsecurePlaintextSecrets is not set")
	errNoKeyring = errors.New("it is sealed, and there is no keyring")
	errMalformed = errors.New("it is malformed")
	errOther     = errors.New("it was not sealed under this key for this webhook")
)

// unseal returns the secret of what is stored.
func (s *Store) unseal(stored []byte, organization string, webhookID uuid.UUID) (webhook.Secret, error) {
	if len(stored) == 0 {
		return webhook.Secret{}, errMalformed
	}
	switch how, rest := stored[0], stored[1:]; how {
	case plain0:
		if !s.plaintext {
			return webhook.Secret{}, errPlaintext
		}
		return webhook.ParseSecret(string(rest))
	case sealed1:
		if s.keyring == nil {
			return webhook.Secret{}, errNoKeyring
		}
		id, rest, found := strings.Cut(string(rest), ":")
		aead := s.keyring.ciphers[id]
		switch {
		case !found:
			return webhook.Secret{}, errMalformed
		case aead == nil:
			return webhook.Secret{}, fmt.Errorf("it is sealed under the key %q, which is not in the keyring", id)
		case len(rest) < aead.NonceSize():
			return webhook.Secret{}, errMalformed
		}
		text, err := aead.Open(nil, []byte(rest[:aead.NonceSize()]), []byte(rest[aead.NonceSize():]), bindingOf(organization, webhookID))
		if err != nil {
			return webhook.Secret{}, errOther
		}
		return webhook.ParseSecret(string(text))
	default:
		return webhook.Secret{}, errMalformed
	}
}

// openOrLog returns a webhook's secret; the zero Secret if it does not open, so
// that nothing is sent.
func (s *Store) openOrLog(stored []byte, organization string, webhookID uuid.UUID) webhook.Secret {
	secret, err := s.unseal(stored, organization, webhookID)
	if err != nil {
		s.log.Error("sqlstore: a webhook's secret does not open", "webhook_id", webhookID, "error", err)
	}
	return secret
}

// current reports whether what is stored would be stored in the same way today.
func (s *Store) current(stored []byte) bool {
	if s.keyring == nil {
		return len(stored) > 0 && stored[0] == plain0
	}
	return strings.HasPrefix(string(stored), string(sealed1)+s.keyring.primary+":")
}
