package adminui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/posthorn/webhook"
)

// printable returns foreign bytes as text that shows what is in them: bytes that are
// no UTF-8 as U+FFFD, control characters as their pictures, and characters that
// turn the direction of writing, or show nothing, by their number. html/template
// escapes the rest.
func printable(b any) string {
	var s string
	switch b := b.(type) {
	case []byte:
		s = string(b)
	default:
		s = fmt.Sprint(b)
	}
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t':
			out.WriteRune(r)
		case r == utf8.RuneError:
			out.WriteRune(utf8.RuneError)
		case r < ' ':
			out.WriteRune('\u2400' + r) // its picture
		case r == 0x7f:
			out.WriteRune('\u2421')
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d' || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&out, "⟨U+%04X⟩", r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// reasonLabel is the same in a word or two.
func reasonLabel(r webhook.DeactivationReason) string {
	if r == webhook.DeactivatedGone {
		return "410 Gone"
	}
	return printable(string(r))
}

// reasonText says why a webhook was made inactive without a person: "because …".
func reasonText(r webhook.DeactivationReason) string {
	switch r {
	case webhook.DeactivatedFailing:
		return "all that was sent to it has failed for too long"
	case webhook.DeactivatedGone:
		return "its endpoint says that it is gone for good (410 Gone)"
	default:
		return "of a rule (" + printable(string(r)) + ")"
	}
}

// fieldTitle is a field of a fault, such as "endpoint_url", for people.
func fieldTitle(field string) string {
	words := strings.NewReplacer("_", " ", ".", ", ").Replace(field)
	if words == "" {
		return words
	}
	words = strings.ToUpper(words[:1]) + words[1:]
	return strings.NewReplacer(" url", " URL", " id", " ID").Replace(words)
}

// sentence is a reason that follows a field's name, as a sentence.
func sentence(title, reason string) string {
	s := title + " " + reason
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
