package webhook_test

import (
	"encoding/csv"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// block is one address block of testdata/addresses. Its bounds are computed
// here from bytes, so that the tests do not lean on netip.Prefix, as the code
// does.
type block struct {
	name        string
	prefix      netip.Prefix
	first, last netip.Addr
}

func (b block) holds(a netip.Addr) bool {
	return a.BitLen() == b.first.BitLen() && b.first.Compare(a) <= 0 && a.Compare(b.last) <= 0
}

// specialBlocks reads every row of the special-purpose registries, and of what
// is refused besides.
func specialBlocks(t testing.TB) []block {
	t.Helper()
	var blocks []block
	for _, file := range []string{"ipv4.csv", "ipv6.csv", "unregistered.csv"} {
		f, err := os.Open(filepath.Join("testdata", "addresses", file))
		require.NoError(t, err)
		rows, err := csv.NewReader(f).ReadAll()
		require.NoError(t, err)
		require.NoError(t, f.Close())
		for _, row := range rows[1:] {
			for cell := range strings.SplitSeq(row[0], ",") {
				text, _, _ := strings.Cut(strings.TrimSpace(cell), " ") // without footnote marks
				p, err := netip.ParsePrefix(text)
				require.NoError(t, err)
				blocks = append(blocks, blockOf(t, row[1], p))
			}
		}
	}
	require.Len(t, blocks, 26+25+9, "rows were added or lost")
	return blocks
}

func blockOf(t testing.TB, name string, p netip.Prefix) block {
	t.Helper()
	first, last := p.Addr().AsSlice(), p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		mask := byte(0x80) >> (bit % 8)
		require.Zero(t, first[bit/8]&mask, "%s has host bits", p)
		last[bit/8] |= mask
	}
	lastAddr, ok := netip.AddrFromSlice(last)
	require.True(t, ok)
	return block{name, p, p.Addr(), lastAddr}
}

// isSpecial is the rule in its plainest form: any row refuses.
func isSpecial(blocks []block, a netip.Addr) bool {
	a = a.Unmap()
	for _, b := range blocks {
		if b.holds(a) {
			return true
		}
	}
	return false
}

// embeddings are the IPv6 addresses that carry an IPv4 address.
func embeddings(a netip.Addr) map[string]netip.Addr {
	v4 := a.As4()
	put := func(prefix string, at int, bytes ...byte) netip.Addr {
		b := netip.MustParseAddr(prefix).As16()
		copy(b[at:], bytes)
		return netip.AddrFrom16(b)
	}
	inverted := []byte{^v4[0], ^v4[1], ^v4[2], ^v4[3]}
	return map[string]netip.Addr{
		"IPv4-mapped":           put("::ffff:0:0", 12, v4[:]...),
		"IPv4-compatible":       put("::", 12, v4[:]...),
		"IPv4-translated":       put("::ffff:0:0:0", 12, v4[:]...),
		"NAT64":                 put("64:ff9b::", 12, v4[:]...),
		"local NAT64, /96":      put("64:ff9b:1::", 12, v4[:]...),
		"local NAT64, RFC 6052": put("64:ff9b:1::", 6, v4[0], v4[1], 0, v4[2], v4[3]),
		"6to4":                  put("2002::1", 2, v4[:]...),
		"Teredo server":         put("2001::", 4, v4[:]...),
		"Teredo client":         put("2001:0:808:808::", 12, inverted...),
	}
}

func TestDestinationsOfEveryRegistryRow(t *testing.T) {
	t.Parallel()

	blocks := specialBlocks(t)
	var refused, accepted, wrong int
	check := func(a netip.Addr, wantRefused bool, what string) {
		err := webhook.CheckAddress(a)
		switch {
		case err != nil && !errors.Is(err, webhook.ErrDestinationNotAllowed), (err != nil) != wantRefused:
			wrong++
			t.Errorf("%v (%s): refused must be %t, got %v", a, what, wantRefused, err)
		case err != nil:
			refused++
		default:
			accepted++
		}
	}
	for _, b := range blocks {
		require.True(t, isSpecial(blocks, b.first), b.name)
		for what, a := range map[string]netip.Addr{
			"first of ": b.first, "last of ": b.last, "before ": b.first.Prev(), "after ": b.last.Next(),
		} {
			if !a.IsValid() {
				continue // the block is at the end of the address space
			}
			want := isSpecial(blocks, a)
			check(a, want, what+b.name)
			if a.Is6() {
				check(a.WithZone("eth0"), true, what+b.name+", with a zone")
				continue
			}
			for form, embedded := range embeddings(a) {
				check(embedded, want || form != "IPv4-mapped", what+b.name+", "+form)
				check(embedded.WithZone("1"), true, what+b.name+", "+form+", with a zone")
			}
		}
	}
	t.Logf("destinations: %d refused, %d accepted, %d wrong", refused, accepted, wrong)
}

func TestDestinationAddresses(t *testing.T) {
	t.Parallel()

	for _, public := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "100.63.255.255", "100.128.0.0", "168.63.129.15",
		"168.63.129.17", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.88.98.255", "223.255.255.255", "::ffff:8.8.8.8",
		"2000::", "2001:200::", "2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "2620:4f:8001::", "2a00:1450::1", "3ffe::1",
	} {
		require.NoError(t, webhook.CheckAddress(netip.MustParseAddr(public)), public)
	}
	for _, special := range []string{
		"0.0.0.0", "127.0.0.1", "10.1.2.3", "100.100.100.200", "168.63.129.16", "169.254.169.254", "172.31.255.255", "192.0.0.9",
		"192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1", "198.19.255.255", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::7f00:1", "::ffff:0:7f00:1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
		"2001::1", "2001:db8::1", "2002:808:808::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
		"fe80::1%eth0", "::1%lo", "2606:4700:4700::1111%eth0", "::ffff:8.8.8.8%eth0", "fec0::1", "ff02::1",
	} {
		require.ErrorIs(t, webhook.CheckAddress(netip.MustParseAddr(special)), webhook.ErrDestinationNotAllowed, special)
	}
	require.ErrorIs(t, webhook.CheckAddress(netip.Addr{}), webhook.ErrDestinationNotAllowed, "the zero Addr")
}

func TestAddressesThatAllowedPrefixesOpen(t *testing.T) {
	t.Parallel()

	allow := func(texts ...string) (ps []netip.Prefix) {
		for _, s := range texts {
			ps = append(ps, netip.MustParsePrefix(s))
		}
		return ps
	}
	everything := allow("0.0.0.0/0", "::/0")
	for _, tc := range []struct {
		address string
		allowed []netip.Prefix
		open    bool
	}{
		{"127.0.0.1", nil, false},
		{"127.0.0.1", allow("127.0.0.0/8"), true},
		{"::ffff:127.0.0.1", allow("127.0.0.0/8"), true},
		{"::1", allow("127.0.0.0/8"), false},
		{"::1", allow("127.0.0.0/8", "::1/128"), true},
		{"::1%lo", allow("::1/128"), false},
		{"10.0.0.1", allow("127.0.0.0/8"), false},
		{"10.0.0.1", everything, true},
		{"8.8.8.8", allow("127.0.0.0/8"), true},
		{"fd12::1", everything, true},

		{"169.254.169.254", everything, false},
		{"169.254.169.254", allow("169.254.0.0/16"), false},
		{"169.254.169.254", allow("169.254.169.254/31"), false},
		{"169.254.169.254", allow("0.0.0.0/0", "169.254.169.254/32"), true},
		{"::ffff:169.254.169.254", everything, false},
		{"169.254.170.2", everything, false},
		{"169.254.170.2", allow("169.254.170.2/32"), true},
		{"168.63.129.16", everything, false},
		{"168.63.129.16", allow("168.63.129.16/32"), true},
		{"100.100.100.200", allow("100.64.0.0/10"), false},
		{"100.100.100.200", allow("100.100.100.200/32"), true},
		{"100.100.100.201", allow("100.64.0.0/10"), true},
		{"192.0.0.192", everything, false},
		{"fd00:ec2::254", allow("fc00::/7"), false},
		{"fd00:ec2::254", allow("fd00:ec2::254/128"), true},
		{"fd00:ec2::23", everything, false},
		{"fd20:ce::254", everything, false},
		{"fd00:c1::a9fe:a9fe", everything, false},
		{"fd00:a9fe:a9fe::1", everything, false},
		{"fd00:42::42", everything, false},
		{"fe80::a9fe:a9fe", everything, false},
		{"64:ff9b::a9fe:a9fe", everything, false},
		{"64:ff9b:1::a9fe:a9fe", everything, false},
		{"::ffff:0:a9fe:a9fe", everything, false},
	} {
		err := webhook.CheckAddressAllowing(netip.MustParseAddr(tc.address), tc.allowed)
		if tc.open {
			require.NoError(t, err, "%s of %v", tc.address, tc.allowed)
		} else {
			require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed, "%s of %v", tc.address, tc.allowed)
		}
	}
}

func TestAddressPrefixesAreValidated(t *testing.T) {
	t.Parallel()

	given := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("fd12::1/16")}
	masked, err := webhook.ValidatePrefixes("allowed_prefixes", given)
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd12::/16")}, masked)
	require.Equal(t, netip.MustParsePrefix("127.0.0.1/8"), given[0], "the caller's slice is its own")

	none, err := webhook.ValidatePrefixes("allowed_prefixes", nil)
	require.NoError(t, err)
	require.Empty(t, none)

	masked, err = webhook.ValidatePrefixes("allowed_prefixes", []netip.Prefix{
		{},
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33),
		netip.MustParsePrefix("::ffff:10.0.0.0/104"),
	})
	require.Nil(t, masked)
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	require.Len(t, faults, 3)
	for i, field := range []string{"allowed_prefixes[0]", "allowed_prefixes[2]", "allowed_prefixes[3]"} {
		require.Equal(t, field, faults[i].Field)
		require.NotEmpty(t, faults[i].Reason)
	}
}

func TestAddressesOfSocketsAreParsedOrRefused(t *testing.T) {
	t.Parallel()

	require.NoError(t, webhook.CheckDial(t.Context(), "tcp4", "8.8.8.8:443"))
	require.NoError(t, webhook.CheckDial(t.Context(), "tcp6", "[2606:4700:4700::1111]:443"))
	require.NoError(t, webhook.CheckDialAllowing(t.Context(), "tcp4", "127.0.0.1:443", netip.MustParsePrefix("127.0.0.0/8")))
	for _, tc := range []struct{ network, address string }{
		{"tcp4", "127.0.0.1:443"},
		{"tcp6", "[::1]:443"},
		{"tcp6", "[::ffff:127.0.0.1]:443"},
		{"tcp6", "[fe80::1%eth0]:443"},
		{"tcp4", ""},
		{"tcp4", "8.8.8.8"},
		{"tcp4", "dns.google:443"},
		{"tcp4", "8.8.8.8:https"},
		{"tcp", "8.8.8.8:443"},
		{"udp4", "8.8.8.8:443"},
		{"unix", "/run/docker.sock"},
		{"ip4:icmp", "8.8.8.8"},
	} {
		err := webhook.CheckDial(t.Context(), tc.network, tc.address)
		require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed, "%s %s", tc.network, tc.address)
	}
}
