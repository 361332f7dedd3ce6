package webhook_test

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestEndpointURLsInNormalForm(t *testing.T) {
	t.Parallel()

	label63 := strings.Repeat("a", 63)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	for _, tc := range []struct{ raw, normalized string }{
		{"https://example.com/hook", "https://example.com/hook"},
		{"HTTPS://Hooks.EXAMPLE.com/Path?Q=A", "https://hooks.example.com/Path?Q=A"},
		{"https://example.com", "https://example.com/"},
		{"https://example.com/", "https://example.com/"},
		{"https://example.com?", "https://example.com/?"},
		{"https://example.com?a=1", "https://example.com/?a=1"},
		{"https://example.com:443/", "https://example.com/"},
		{"https://example.com:8443/", "https://example.com:8443/"},
		{"https://example.com:1", "https://example.com:1/"},
		{"https://example.com:65535", "https://example.com:65535/"},
		{"https://receiver.example/", "https://receiver.example/"},
		{"https://xn--bcher-kva.example.com/", "https://xn--bcher-kva.example.com/"},
		{"https://r3---sn-4g5e.example.com/", "https://r3---sn-4g5e.example.com/"},
		{"https://3com.com/", "https://3com.com/"},
		{"https://1.2.3.example.com/", "https://1.2.3.example.com/"},
		{"https://example.0xg/", "https://example.0xg/"},
		{"https://local.example.com/", "https://local.example.com/"},
		{"https://localhost.example.com/", "https://localhost.example.com/"},
		{"https://" + label63 + ".com/", "https://" + label63 + ".com/"},
		{"https://" + name253 + "/", "https://" + name253 + "/"},
		{"https://8.8.8.8/", "https://8.8.8.8/"},
		{"https://[2606:4700:4700:0:0:0:0:1111]:8443/x", "https://[2606:4700:4700::1111]:8443/x"},
		{"https://[2A00:1450::A]/", "https://[2a00:1450::a]/"},
		{"https://example.com//a/./../b//?x=/../", "https://example.com//a/./../b//?x=/../"},
		{"https://example.com/%2e%2E/%C3%BC?x=%20%00", "https://example.com/%2e%2E/%C3%BC?x=%20%00"},
		{"https://example.com/a@b:c?d=http://e@f:1", "https://example.com/a@b:c?d=http://e@f:1"},
		{"https://example.com/übung/日本?q=é", "https://example.com/%C3%BCbung/%E6%97%A5%E6%9C%AC?q=%C3%A9"},
		{"https://example.com/{id}?f[a]=\"<x>\"&p=a|b^`", "https://example.com/%7Bid%7D?f%5Ba%5D=%22%3Cx%3E%22&p=a%7Cb%5E%60"},
		{"https://example.com/!$&'()*+,;=:@-._~", "https://example.com/!$&'()*+,;=:@-._~"},
	} {
		normalized, err := webhook.ValidateEndpointURL(tc.raw)
		require.NoError(t, err, tc.raw)
		require.Equal(t, tc.normalized, normalized)

		again, err := webhook.ValidateEndpointURL(normalized)
		require.NoError(t, err, normalized)
		require.Equal(t, normalized, again)

		u, err := url.Parse(normalized)
		require.NoError(t, err)
		require.Equal(t, normalized, u.String(), "net/url reads it as it stands")
	}
}

func TestEndpointURLsRefused(t *testing.T) {
	t.Parallel()

	for _, raw := range []string{
		"",
		" https://example.com/",
		"example.com",
		"//example.com/",
		"/hook",
		"https:example.com",
		"https:/example.com/",
		"https:///hook",
		"https://",
		"https://?",
		"https://:8443/",
		"http://example.com/",
		"httpſ://example.com/", // U+017F folds to s
		"ftp://example.com/",
		"javascript:alert(1)",
		"example.com/?to=https://example.com/",

		"https://user@example.com/",
		"https://user:password@example.com/",
		"https://@example.com/",
		"https://:@example.com/",
		"https://a@b@example.com/",
		"https://example.com/#",
		"https://example.com/#top",
		"https://example.com#",
		`https://example.com\@example.org/`,
		`https:\\example.com\`,
		`https://example.com/a\b`,
		`https://example.com/?a\b`,

		"https://example.com:/",
		"https://example.com:0/",
		"https://example.com:65536/",
		"https://example.com:99999999999999999999/",
		"https://example.com:+443/",
		"https://example.com:-1/",
		"https://example.com:0443/",
		"https://example.com:1_0/",
		"https://example.com:https/",
		"https://example.com:４４３/",
		"https://example.com:80:80/",
		"https://example.com: 80/",

		"https://example.com./",
		"https://example..com/",
		"https://.example.com/",
		"https://-example.com/",
		"https://example-.com/",
		"https://example.-com/",
		"https://exa_mple.com/",
		"https://exa,mple.com/",
		"https://$(id).example.com/",
		"https://<script>.example.com/",
		"https://*.example.com/",
		"https://example%2ecom/",
		"https://ex%61mple.com/",
		"https://%65xample.com/",
		"https://" + strings.Repeat("a", 64) + ".com/",
		"https://" + strings.Repeat("a.", 126) + "ab/", // 254
		"https://bücher.example.com/",
		"https://ｅｘａｍｐｌｅ.com/",
		"https://example。com/",
		"https://example．com/",
		"https://exam\u00adple.com/",
		"https://exam\u200bple.com/",
		"https://exam\u202eple.com/",
		"https://exam\u2066ple.com/",
		"https://exam\u200dple.com/",
		"https://exam\ufeffple.com/",
		"https://example.com\u3000/",

		"https://[8.8.8.8]/",
		"https://[::ffff:8.8.8.8]/",
		"https://2606:4700:4700::1111/",
		"https://[2606:4700:4700::1111/",
		"https://[2606:4700:4700::1111]x/",
		"https://[2606:4700:4700::1111]:/",
		"https://[2606:4700:4700::]1111]/",
		"https://[v1.x]/",
		"https://[example.com]/",
		"https://[]/",

		"https://example.com/a b",
		"https://example.com/\t",
		"https://example.com/\n",
		"https://example.com/\r\nX-Injected: 1",
		"https://example.com/\x00",
		"https://example.com/\x1b[31m",
		"https://example.com/\x7f",
		"https://example.com/\u0085",
		"https://example.com/\u00a0",
		"https://example.com/\u00ad",
		"https://example.com/\u034f",
		"https://example.com/\u061c",
		"https://example.com/\u115f",
		"https://example.com/\u180e",
		"https://example.com/\u200b",
		"https://example.com/\u200d",
		"https://example.com/?\u2028",
		"https://example.com/?\u202e",
		"https://example.com/?\u2066",
		"https://example.com/?\u2800",
		"https://example.com/?\u3164",
		"https://example.com/?\ufe0f",
		"https://example.com/?\ufeff",
		"https://example.com/?\U000e0041",
		"https://example.com/?\U000e0100",
		"https://example.com/?\ue000",
		"https://example.com/\xff",
		"https://example.com/?\xc3",
		"https://example.com/\xed\xa0\x80",
		"https://example.com/%",
		"https://example.com/%4",
		"https://example.com/%zz",
		"https://example.com/%4g",
		"https://example.com/?a=%g0",
		"https://example.com/?%u1234",

		"https://example.com/" + strings.Repeat("a", webhook.MaxEndpointURLBytes),
		"https://example.com/" + strings.Repeat("ü", 700), // 1,420 bytes, 4,220 when encoded
	} {
		normalized, err := webhook.ValidateEndpointURL(raw)
		require.Empty(t, normalized)
		requireEndpointFaults(t, err, raw)
		require.NotErrorIs(t, err, webhook.ErrDestinationNotAllowed, raw)
	}
}

func TestEndpointURLsWithSpecialDestination(t *testing.T) {
	t.Parallel()

	hosts := []string{
		"127.0.0.1", "127.0.0.1.", "10.0.0.1", "169.254.169.254", "168.63.129.16", "0.0.0.0", "255.255.255.255", "192.88.99.1",
		"127.1", "127.0.1", "0", "0.0", "2130706433", "0x7f000001", "0X7F000001", "0x7f.0.0.1", "0x7f.1", "0x", "0X", "127.0.0.0x1",
		"0177.0.0.1", "017700000001", "127.000.000.001", "127.0.0.01", "00000127.0.0.1", "10.0.258", "127.0.0.1.0", "256.256.256.256",
		"1.2.3.4.5", "example.1", "example.com.0x7f", "99999999999999999999", "example.0x",
		"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:a9fe:a9fe]", "[::ffff:0:7f00:1]",
		"[64:ff9b::7f00:1]", "[64:ff9b::8.8.8.8]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001::1]", "[2001:db8::1]", "[fc00::1]",
		"[fd00:ec2::254]", "[fe80::1]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[2606:4700:4700::1111%25eth0]", "[ff02::1]", "[127.0.0.1]",
		"localhost", "LOCALHOST", "localhost.", "LocalHost.LocalDomain", "a.localhost", "intranet", "com", "metadata", ".",
		"printer.local", "metadata.google.internal", "a.test", "a.invalid", "router.lan", "a.corp", "a.home", "a.mail", "a.private", "a.intranet",
		"nas.home.arpa", "1.0.0.127.in-addr.arpa", "ipv4only.arpa", "a.onion", "a.alt", "a.b.c.INTERNAL",
	}
	for _, b := range specialBlocks(t) {
		for _, a := range []netip.Addr{b.first, b.last} {
			if a.Is6() {
				hosts = append(hosts, "["+a.String()+"]")
				continue
			}
			hosts = append(hosts, a.String())
			for _, embedded := range embeddings(a) {
				hosts = append(hosts, "["+embedded.String()+"]", "["+embedded.StringExpanded()+"]")
			}
		}
	}
	for _, host := range hosts {
		for _, raw := range []string{"https://" + host, "https://" + host + ":8443/hook?a=b"} {
			normalized, err := webhook.ValidateEndpointURL(raw)
			require.Empty(t, normalized)
			requireEndpointFaults(t, err, raw)
			require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed, raw)
		}
	}
	t.Logf("destinations: %d endpoint URLs refused", 2*len(hosts))
}

// What Unicode's compatibility forms turn into an address or localhost is no
// host name to begin with.
func TestEndpointURLsWithDestinationInDisguise(t *testing.T) {
	t.Parallel()

	for _, host := range []string{
		"１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "127．0．0．1", "１２７。０。０。１", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "loc\u00adalhost", "local\u200bhost",
		"local\u2060host", "\u202elocalhost", "ＬＯＣＡＬＨＯＳＴ", "localhoſt", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "٠x7f000001", "%31%32%37.0.0.1", "[：：1]",
		"0x7f\uff0e1", "127.0.0.1\u2024example.com", "example.com@127.0.0.1", `example.com\@127.0.0.1`,
		"127.0.0.1:80:443", "localhost%00.example.com", "localhost\x00.example.com",
	} {
		normalized, err := webhook.ValidateEndpointURL("https://" + host + "/")
		require.Empty(t, normalized)
		requireEndpointFaults(t, err, host)
	}
}

func TestEndpointURLFaultsAreReportedTogether(t *testing.T) {
	t.Parallel()

	_, err := webhook.ValidateEndpointURL("http://me@-a.local:0/ \\%#x")

	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	require.Len(t, faults, 9, "%v", err)
	reasons := make([]string, len(faults))
	for i, f := range faults {
		require.Equal(t, "endpoint_url", f.Field)
		reasons[i] = f.Reason
	}
	slices.Sort(reasons)
	require.Len(t, slices.Compact(reasons), 9)
	var fault webhook.ValidationError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, faults[0], fault)
	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
}

func TestEndpointURLErrorsDoNotNameTheAddress(t *testing.T) {
	t.Parallel()

	for _, host := range []string{"169.254.169.254", "2852039166", "[fd00:ec2::254]"} {
		_, err := webhook.ValidateEndpointURL("https://" + host + "/")
		require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
		require.NotContains(t, err.Error(), strings.Trim(host, "[]"))
	}
}

func TestEndpointURLsLengthIsBounded(t *testing.T) {
	t.Parallel()

	longest := "https://example.com/"
	longest += strings.Repeat("a", webhook.MaxEndpointURLBytes-len(longest))
	normalized, err := webhook.ValidateEndpointURL(longest)
	require.NoError(t, err)
	require.Equal(t, longest, normalized)

	_, err = webhook.ValidateEndpointURL(longest + "a")
	requireEndpointFaults(t, err, "a byte too long")
	_, err = webhook.ValidateEndpointURL(longest[:len(longest)-2] + "ü")
	requireEndpointFaults(t, err, "too long once encoded")
	bare := "https://example.com?" + longest[len("https://example.com/"):]
	_, err = webhook.ValidateEndpointURL(bare)
	requireEndpointFaults(t, err, "too long with its path")
}

func TestEndpointURLsWithAllowedAddresses(t *testing.T) {
	t.Parallel()

	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for raw, normalized := range map[string]string{
		"https://127.0.0.1:8443/hook":  "https://127.0.0.1:8443/hook",
		"https://[::1]:8443/":          "https://[::1]:8443/",
		"https://LOCALHOST:8443":       "https://localhost:8443/",
		"https://receiver/":            "https://receiver/",
		"https://receiver.internal/":   "https://receiver.internal/",
		"https://receiver.test/":       "https://receiver.test/",
		"https://receiver.home.arpa/":  "https://receiver.home.arpa/",
		"https://hooks.example.com/":   "https://hooks.example.com/",
		"https://[2606:4700:4700::1]/": "https://[2606:4700:4700::1]/",
	} {
		got, err := webhook.ValidateEndpointURLAllowing(raw, loopback)
		require.NoError(t, err, raw)
		require.Equal(t, normalized, got)
		again, err := webhook.ValidateEndpointURLAllowing(got, loopback)
		require.NoError(t, err, got)
		require.Equal(t, got, again)
	}
	for raw, denied := range map[string]bool{
		"http://127.0.0.1/":            false,
		"https://me@127.0.0.1/":        false,
		"https://localhost./":          false,
		"https://-localhost/":          false,
		"https://127.0.0.1:0/":         false,
		"https://[127.0.0.1]/":         false,
		"https://[::ffff:127.0.0.1]/":  false,
		"https://127.1/":               true,
		"https://2130706433/":          true,
		"https://0x7f000001/":          true,
		"https://10.0.0.1/":            true,
		"https://[::1%25lo]/":          true,
		"https://169.254.169.254/":     true,
		"https://[::ffff:10.0.0.1]/":   true,
		"https://[64:ff9b::7f00:1]/":   true,
		"https://[::ffff:0:127.0.0.1]": true,
	} {
		got, err := webhook.ValidateEndpointURLAllowing(raw, loopback)
		require.Empty(t, got)
		requireEndpointFaults(t, err, raw)
		require.Equal(t, denied, errors.Is(err, webhook.ErrDestinationNotAllowed), raw)
	}
}

func requireEndpointFaults(t *testing.T, err error, of string) {
	t.Helper()
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults, "%q", of)
	require.NotEmpty(t, faults)
	for _, f := range faults {
		require.Equal(t, "endpoint_url", f.Field)
		require.NotEmpty(t, f.Reason)
	}
}
