package webhook_test

import (
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/posthorn/webhook"
)

// numberAtEnd is what makes a WHATWG URL parser take the host for an IPv4 address.
var numberAtEnd = regexp.MustCompile(`(^|\.)([0-9]+|0[xX][0-9a-fA-F]*)\.?$`)

// FuzzValidateEndpointURL holds what is accepted against net/url, which is what
// the client will read it with.
func FuzzValidateEndpointURL(f *testing.F) {
	for _, seed := range []string{
		"", "https://", "https://example.com", "https://example.com/", "HTTPS://EXAMPLE.com:443?a=%20&b=ü#c", "https://u:p@example.com/",
		"https://example.com:8443//a/../b", "https://[2606:4700:4700::1111]:1/", "https://[::1%25lo]/", "https://[::ffff:8.8.8.8]/",
		"https://127.1/", "https://0x7f000001/", "https://0177.0.0.1/", "https://1.1.1.1/", "https://localhost./", "https://xn--a.com/",
		"https://１２７.0.0.1/", "https://exam\u00adple.com/", "https://a.b/\u202e", `https://a.b\c/`, "https://a.b/%zz", "https://a.b/\xff",
		"https://a.b/{x}?[y]='\"", "https://a.b:065/", "httpſ://a.b/", "https://a.b?", "https://a.b/?://c@d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		normalized, err := webhook.ValidateEndpointURL(raw)
		if err != nil {
			var faults webhook.ValidationErrors
			if normalized != "" || !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("%q: got %q and %v", raw, normalized, err)
			}
			return
		}

		if again, err := webhook.ValidateEndpointURL(normalized); err != nil || again != normalized {
			t.Fatalf("%q became %q, which became %q, %v", raw, normalized, again, err)
		}
		u, err := url.Parse(normalized)
		if err != nil {
			t.Fatalf("%q: %v", normalized, err)
		}
		if u.String() != normalized || "https://"+u.Host+u.RequestURI() != normalized {
			t.Fatalf("%q is read as %q", normalized, u)
		}
		if u.Scheme != "https" || u.User != nil || u.Opaque != "" || u.Fragment != "" || len(normalized) > webhook.MaxEndpointURLBytes {
			t.Fatalf("%q has parts that it must not have", normalized)
		}
		for i := range len(normalized) {
			if c := normalized[i]; c <= ' ' || c > '~' || c == '\\' || c == '@' && i < strings.IndexByte(normalized[8:], '/')+8 {
				t.Fatalf("%q has %q", normalized, c)
			}
		}
		if p := u.Port(); p != "" {
			if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 || n == 443 {
				t.Fatalf("%q has port %q", normalized, p)
			}
		}
		host := u.Hostname()
		if a, err := netip.ParseAddr(host); err == nil {
			if err := webhook.CheckAddress(a); err != nil {
				t.Fatalf("%q: %v", normalized, err)
			}
			return
		}
		if numberAtEnd.MatchString(host) || !strings.Contains(host, ".") || host != strings.ToLower(host) {
			t.Fatalf("%q has a host that may be read as an address, or is local", normalized)
		}
	})
}
