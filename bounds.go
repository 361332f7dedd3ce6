package webhook

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Bounds on what callers pass in. Beyond one of them a call returns a
// [ValidationErrors] that names field and bound, and writes nothing.
const (
	MaxNameLength        = 100  // characters of a webhook's name
	MaxDescriptionLength = 500  // characters of a webhook's description
	MaxIDBytes           = 128  // bytes of organization ids, subject ids, type names, keys and attribute values
	MaxSubscriptions     = 100  // subscriptions of one webhook
	MaxRateLimit         = 1000 // attempts a second of a webhook that has a limit
	MaxParents           = 8    // parents of one event's subject
	MaxAttributes        = 16   // attributes of an event, entries of a filter

	DefaultMaxWebhooks     = 100       // webhooks of one organization, see ManagerConfig.MaxWebhooks
	DefaultMaxPayloadBytes = 256 << 10 // bytes of a payload, see PublisherConfig.MaxPayloadBytes
	MaxResponseBytes       = 4 << 10   // bytes kept of a response body
	MaxTraceContextBytes   = 512       // bytes of what a Tracer wants to be kept with an event
)

// checkText reports what is wrong with text that people will read: bad UTF-8,
// control characters, and the bidirectional and invisible format characters by
// which one name can be made to look like another. Characters of allowed are
// exempt.
func checkText(faults *ValidationErrors, field, s string, maxChars int, allowed string) {
	if !utf8.ValidString(s) {
		faults.add(field, "must be valid UTF-8")
		return
	}
	if utf8.RuneCountInString(s) > maxChars {
		faults.add(field, fmt.Sprintf("must have at most %d characters", maxChars))
	}
	for _, r := range s {
		if (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || isInvisible(r)) && !strings.ContainsRune(allowed, r) {
			faults.add(field, fmt.Sprintf("must not contain the control or invisible character U+%04X", r))
			return
		}
	}
}

// isInvisible names the characters that take no room or show nothing, but for
// the joiners, which several scripts and emoji need.
func isInvisible(r rune) bool {
	switch r {
	case '\u200C', '\u200D':
		return false
	case '\u00AD', '\u200B', '\u2028', '\u2029', '\u2060', '\u2800', '\uFEFF':
		return true
	}
	return unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) || r >= 0xFFF9 && r <= 0xFFFB || r >= 0xE0000 && r <= 0xE007F
}

// checkTime reports a time that not every store can keep.
func checkTime(faults *ValidationErrors, field string, t time.Time) {
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		faults.add(field, "must be in the years 1 to 9999")
	}
}

// checkID reports what is wrong with an identifier or key that a host chose:
// it is compared bytewise and travels through URLs, logs and index columns.
func checkID(faults *ValidationErrors, field, s string, required bool) {
	switch {
	case s == "" && required:
		faults.add(field, "is required")
	case len(s) > MaxIDBytes:
		faults.add(field, fmt.Sprintf("must have at most %d bytes", MaxIDBytes))
	default:
		checkText(faults, field, s, MaxIDBytes, "")
	}
}

// checkAttributes reports what is wrong with an event's attributes or a
// subscription's filter.
func checkAttributes(faults *ValidationErrors, field string, m map[string]string) {
	if len(m) > MaxAttributes {
		faults.add(field, fmt.Sprintf("must have at most %d entries", MaxAttributes))
		return
	}
	for _, k := range sortedKeys(m) {
		if k == "" {
			faults.add(field, "must not have an empty key")
			continue
		}
		before := len(*faults)
		checkID(faults, field, k, true)
		if len(*faults) == before { // the key is fit to be shown
			checkID(faults, field+"["+k+"]", m[k], false)
		}
	}
}

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// checkSnakeCase reports a type name that is not words in lower case joined by
// single underscores.
func checkSnakeCase(faults *ValidationErrors, field, s string) {
	switch {
	case s == "":
		faults.add(field, "is required")
	case len(s) > MaxIDBytes:
		faults.add(field, fmt.Sprintf("must have at most %d bytes", MaxIDBytes))
	case !snakeCase.MatchString(s):
		faults.add(field, "must be snake_case: lower-case letters and digits, joined by single underscores, beginning with a letter")
	}
}

// parseUUID returns the canonical form of a UUID in its 36-character form. The
// other forms that uuid.Parse knows are refused, so that one id has one text.
func parseUUID(s string) (string, error) {
	if len(s) == 36 {
		if id, err := uuid.Parse(s); err == nil {
			return id.String(), nil
		}
	}
	return "", fmt.Errorf("must be a UUID such as %q", "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11")
}
