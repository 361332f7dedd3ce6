package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxEndpointURLBytes bounds an endpoint URL, both as it was given and normalized.
const MaxEndpointURLBytes = 2048

// ValidateEndpointURL returns the URL in its normal form, or every fault that
// it has as [ValidationErrors] of the field "endpoint_url". If its host is a
// special-purpose address or name, or a number that could be read as one, the
// error is an [ErrDestinationNotAllowed], too. It looks nothing up: what a name
// resolves to is judged when an attempt connects (see [NewHTTPClient]).
//
// An endpoint URL
//
//   - begins with https://, in any case;
//   - has neither a user name nor a password, a fragment or a backslash, and no
//     space, control, bidirectional or other invisible character;
//   - has as its host a name of ASCII letters, digits, hyphens and dots, or a
//     public IPv4 address, or a public IPv6 address in brackets (see
//     [CheckAddress]). International names are written in their xn-- form;
//   - has a name of at least two labels of 1 to 63 characters, 253 at most
//     altogether, that does not belong to a domain for local or private use
//     such as localhost or internal;
//   - has no host that ends in a number, except for an IPv4 address of four
//     decimal numbers. That is how browsers decide whether a host is an
//     address (the "ends in a number" check of the WHATWG URL Standard), and
//     leaves out 127.1, 0x7f000001, 2130706433 and 0177.0.0.1;
//   - has no dot at the end of its host: receivers seldom know themselves by
//     that name, and one endpoint should have one spelling;
//   - has, if any, a port from 1 to 65535 without sign or leading zeros;
//   - has at most [MaxEndpointURLBytes] bytes before and after normalization.
//
// The normal form has scheme and host in lower case, an IPv6 address as RFC
// 5952 writes it, no port 443, and the path "/" if there was none (RFC 3986,
// section 6.2.3). Characters in path and query that RFC 3986 does not permit
// there, such as letters outside of ASCII, are percent-encoded; everything else
// of them, dot segments and double slashes included, stays as it was given.
// Validating the normal form gives the normal form.
func ValidateEndpointURL(raw string) (normalized string, err error) {
	return validateEndpointURL(raw, nil)
}

// validateEndpointURL is ValidateEndpointURL, but accepts addresses in allowed,
// too. If there are any, it also accepts special names: they can only lead to
// what is allowed, since the address is checked again when an attempt connects.
func validateEndpointURL(raw string, allowed []netip.Prefix) (string, error) {
	c := endpointCheck{allowed: allowed}
	normalized := c.url(raw)
	if len(c.faults) == 0 && len(normalized) > MaxEndpointURLBytes {
		c.fault("must have at most 2,048 bytes after percent-encoding")
	}
	switch {
	case len(c.faults) == 0:
		return normalized, nil
	case c.denied:
		return "", fmt.Errorf("%w: %w", ErrDestinationNotAllowed, c.faults)
	default:
		return "", c.faults
	}
}

// endpointCheck collects the faults of one URL. Its methods return parts in
// normal form, which are worth nothing once there is a fault.
type endpointCheck struct {
	allowed []netip.Prefix
	faults  ValidationErrors
	denied  bool // one of the faults is that the host is special
}

func (c *endpointCheck) fault(reason string) { c.faults.add("endpoint_url", reason) }

func (c *endpointCheck) deny(reason string) {
	c.fault(reason)
	c.denied = true
}

// url takes the URL apart by itself, since url.Parse accepts far more than an
// endpoint may be and stops at the first fault.
func (c *endpointCheck) url(raw string) string {
	switch {
	case raw == "":
		c.fault("is required")
		return ""
	case len(raw) > MaxEndpointURLBytes:
		c.fault("must have at most 2,048 bytes")
		return ""
	}
	c.characters(raw)

	scheme, rest, found := strings.Cut(raw, "://")
	if strings.ToLower(scheme) != "https" || !found { // strings.EqualFold would take httpſ for https
		c.fault("must begin with https://")
	}
	if !found || strings.ContainsAny(scheme, "/?#") {
		return "" // nothing says where the host would begin
	}
	rest, _, hasFragment := strings.Cut(rest, "#")
	if hasFragment {
		c.fault("must not have a fragment (#)")
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	return "https://" + c.authority(rest[:end]) + c.pathAndQuery(rest[end:])
}

// characters reports what may stand nowhere in the URL.
func (c *endpointCheck) characters(raw string) {
	if !utf8.ValidString(raw) {
		c.fault("must be valid UTF-8")
	}
	if strings.Contains(raw, `\`) {
		c.fault("must not contain a backslash")
	}
	if i := strings.IndexFunc(raw, isUnseen); i >= 0 {
		r, _ := utf8.DecodeRuneInString(raw[i:])
		c.fault(fmt.Sprintf("must not contain the space, control or invisible character U+%04X", r))
	}
}

// isUnseen holds for what leaves no mark of its own on a page, joiners and
// variation selectors included: a URL can have them percent-encoded.
func isUnseen(r rune) bool {
	return r == ' ' || !unicode.IsPrint(r) || r == '\u2800' || // the braille pattern without dots
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func (c *endpointCheck) authority(s string) string {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		c.fault("must not have a user name or password (@)")
		s = s[at+1:]
	}
	if literal, ok := strings.CutPrefix(s, "["); ok {
		literal, after, closed := strings.Cut(literal, "]")
		port, hasPort := strings.CutPrefix(after, ":")
		if !closed || after != "" && !hasPort {
			c.fault("must have nothing but a port after an IPv6 address in brackets")
			return ""
		}
		return c.ipv6(literal) + c.port(port, hasPort)
	}
	if strings.Count(s, ":") > 1 {
		c.fault("must have an IPv6 address in brackets")
		return ""
	}
	host, port, hasPort := strings.Cut(s, ":")
	return c.host(host) + c.port(port, hasPort)
}

const specialAddress = "must not have a private, local or other special-purpose address as its host"

func (c *endpointCheck) ipv6(s string) string {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		c.fault("must have an IPv6 address between [ and ]")
	case a.Zone() != "":
		c.deny("must not have an IPv6 address with a zone")
	case checkAddress(a, c.allowed) != nil:
		c.deny(specialAddress)
	case a.Is4() || a.Is4In6():
		c.fault("must have an IPv4 address without brackets and ::ffff:")
	}
	return "[" + a.String() + "]"
}

func (c *endpointCheck) host(s string) string {
	switch {
	case s == "":
		c.fault("must have a host")
		return ""
	case strings.Contains(s, "%"):
		c.fault("must not have a percent-encoded host")
		return ""
	case strings.ContainsFunc(s, func(r rune) bool { return r != '-' && r != '.' && !isAlphanumeric(r) }):
		c.fault("must have a host of ASCII letters, digits, hyphens and dots (an international name in its xn-- form)")
		return ""
	}
	s = strings.ToLower(s)
	s, dotted := strings.CutSuffix(s, ".")
	if dotted {
		c.fault("must not have a dot at the end of its host")
	}
	labels := strings.Split(s, ".")
	if isNumber(labels[len(labels)-1]) {
		return c.ipv4(s)
	}
	if len(s) > 253 {
		c.fault("must have a host of at most 253 characters")
	}
	if slices.ContainsFunc(labels, isBadLabel) {
		c.fault("must have a host whose parts between dots have 1 to 63 characters and neither begin nor end with a hyphen")
	}
	if len(c.allowed) == 0 && isSpecialName(labels) {
		c.deny("must have a public host name, not one for local, private or other special use")
	}
	return s
}

func (c *endpointCheck) ipv4(s string) string {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		// A name look-up may read it as an address by the rules of inet_aton.
		c.deny("must not have a host that ends in a number, unless it is an IPv4 address of four decimal numbers")
	case checkAddress(a, c.allowed) != nil:
		c.deny(specialAddress)
	}
	return s
}

func (c *endpointCheck) port(s string, given bool) string {
	if !given {
		return ""
	}
	n, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err != nil || n == 0 || s[0] == '0':
		c.fault("must have a port from 1 to 65535, without leading zeros, or none")
		return ""
	case n == 443:
		return ""
	}
	return ":" + s
}

func (c *endpointCheck) pathAndQuery(s string) string {
	var b strings.Builder
	if !strings.HasPrefix(s, "/") {
		b.WriteByte('/')
	}
	badEscape := false
	for i := range len(s) {
		switch ch := s[i]; {
		case ch == '%':
			badEscape = badEscape || i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])
			b.WriteByte(ch)
		case isAlphanumeric(rune(ch)) || strings.IndexByte("-._~!$&'()*+,;=:@/?", ch) >= 0:
			b.WriteByte(ch)
		default:
			fmt.Fprintf(&b, "%%%02X", ch)
		}
	}
	if badEscape {
		c.fault("must have two hexadecimal digits after each % in path and query")
	}
	return b.String()
}

// isNumber holds for a last label in lower case that makes browsers parse the
// whole host as an IPv4 address: decimal digits, or 0x and hexadecimal digits
// if any.
func isNumber(label string) bool {
	if digits, ok := strings.CutPrefix(label, "0x"); ok {
		return !strings.ContainsFunc(digits, func(r rune) bool { return r > 'f' || !isHex(byte(r)) })
	}
	return label != "" && !strings.ContainsFunc(label, func(r rune) bool { return r < '0' || r > '9' })
}

func isBadLabel(s string) bool {
	return s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-'
}

// specialDomains are top-level domains under which no public receiver can be:
// they lead into a network of one's own, or nowhere.
//
// The documentation names (example, and the likes of example.com) are not among
// them, for RFC 6761 asks applications to treat those as any other name.
var specialDomains = []string{
	"localhost", "test", "invalid", // RFC 6761; networks serve test to their own machines
	"local",                                                  // multicast DNS, RFC 6762
	"intranet", "internal", "private", "corp", "home", "lan", // in private networks, RFC 6762, appendix G; internal also reserved by ICANN in 2024
	"mail",        // with corp and home never to be delegated, ICANN resolution 2018.02.04.12
	"localdomain", // not registered: in the hosts file of many systems
	"onion",       // Tor, RFC 7686
	"alt",         // not in the DNS, RFC 9476
	"arpa",        // the DNS's own, RFC 3172, and home.arpa, RFC 8375
}

// isSpecialName holds for names in special domains and for names of one label,
// which only a search list or a hosts file can resolve.
func isSpecialName(labels []string) bool {
	return len(labels) == 1 || slices.Contains(specialDomains, labels[len(labels)-1])
}

func isAlphanumeric(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
