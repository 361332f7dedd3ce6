package webhook

import (
	"fmt"
	"net/netip"
)

// The rules below are broader than "globally reachable": no receiver of
// webhooks lives in a block that IANA registered for a special purpose, so all
// blocks of its two special-purpose address registries are refused, also those
// that packets can reach from anywhere. Only outermost blocks are listed. The
// tests hold every row of the registries (RFC 6890, RFC 8190) against them.
//
// Sources, both as last updated on 2025-10-09:
//
//   - https://www.iana.org/assignments/iana-ipv4-special-registry
//   - https://www.iana.org/assignments/iana-ipv6-special-registry
var (
	// specialIPv4 is what IPv4 has besides public unicast addresses.
	specialIPv4 = prefixes(
		"0.0.0.0/8",        // this network, RFC 791
		"10.0.0.0/8",       // private use, RFC 1918
		"100.64.0.0/10",    // shared address space of carriers, RFC 6598
		"127.0.0.0/8",      // loopback, RFC 1122
		"168.63.129.16/32", // not registered: the host agent of Azure's virtual machines
		"169.254.0.0/16",   // link-local, RFC 3927; metadata services of most clouds
		"172.16.0.0/12",    // private use, RFC 1918
		"192.0.0.0/24",     // IETF protocol assignments, RFC 6890
		"192.0.2.0/24",     // documentation, RFC 5737
		"192.31.196.0/24",  // AS112, RFC 7535
		"192.52.193.0/24",  // automatic multicast tunnels, RFC 7450
		"192.88.99.0/24",   // 6to4 relays, RFC 7526
		"192.168.0.0/16",   // private use, RFC 1918
		"192.175.48.0/24",  // AS112, RFC 7534
		"198.18.0.0/15",    // benchmarks, RFC 2544
		"198.51.100.0/24",  // documentation, RFC 5737
		"203.0.113.0/24",   // documentation, RFC 5737
		"224.0.0.0/4",      // multicast, RFC 5771
		"240.0.0.0/4",      // reserved, RFC 1112; limited broadcast, RFC 8190
	)

	// unicastIPv6 is all that IANA has opened for global unicast (RFC 4291).
	// Outside of it are loopback, link-local, site-local and unique local
	// addresses, multicast, segment identifiers, and the forms that embed an
	// IPv4 address: compatible, mapped, translated (RFC 2765) and NAT64 (RFC
	// 6052, RFC 8215).
	unicastIPv6 = netip.MustParsePrefix("2000::/3")

	// specialIPv6 is what unicastIPv6 has besides public addresses.
	specialIPv6 = prefixes(
		"2001::/23",         // IETF protocol assignments, RFC 2928; Teredo, RFC 4380
		"2001:db8::/32",     // documentation, RFC 3849
		"2002::/16",         // 6to4, RFC 3056
		"2620:4f:8000::/48", // AS112, RFC 7534
		"3fff::/20",         // documentation, RFC 9637
	)

	// namedOnly is what an allowed prefix opens only if it holds nothing but
	// that address: a developer who allows all of 0.0.0.0/0 must not hand out
	// the credentials that a cloud offers to whoever can connect.
	namedOnly = prefixes(
		"169.254.0.0/16",         // link-local; metadata of AWS, Azure, GCP and others, credentials of AWS containers
		"100.100.100.200/32",     // metadata of Alibaba Cloud
		"168.63.129.16/32",       // Azure's host agent
		"192.0.0.192/32",         // metadata of Oracle Cloud
		"fe80::/10",              // link-local
		"fd00:ec2::/32",          // metadata and container credentials of AWS
		"fd20:ce::254/128",       // metadata of GCP
		"fd00:c1::a9fe:a9fe/128", // metadata of Oracle Cloud
		"fd00:a9fe:a9fe::1/128",  // metadata of Linode
		"fd00:42::42/128",        // metadata of Scaleway
		"64:ff9b::/96",           // NAT64: translators turn these three
		"64:ff9b:1::/48",         // into IPv4 addresses,
		"::ffff:0:0:0/96",        // any of the above among them
	)
)

// CheckAddress returns nil if webhooks may be sent to the address, and
// [ErrDestinationNotAllowed] otherwise. The client of [NewHTTPClient] applies it
// to every address that it is about to connect to.
//
// Accepted are public unicast addresses: IPv4 without the blocks of IANA's
// IPv4 Special-Purpose Address Registry, multicast and 168.63.129.16, which
// Azure answers on inside each virtual machine; of IPv6 only 2000::/3 without
// the blocks of IANA's IPv6 registry. An IPv4-mapped address is judged as the
// IPv4 address it is. An address with a zone is refused, and so is the zero
// Addr.
func CheckAddress(a netip.Addr) error { return checkAddress(a, nil) }

// checkAddress is CheckAddress, but accepts what is in allowed, too, which
// validatePrefixes has returned.
func checkAddress(a netip.Addr, allowed []netip.Prefix) error {
	// No prefix contains an address with a zone, nor an IPv4-mapped one, so
	// both have to be dealt with before the tables are asked.
	if !a.IsValid() || a.Zone() != "" {
		return ErrDestinationNotAllowed
	}
	a = a.Unmap()
	if isPublic(a) || isAllowed(a, allowed) {
		return nil
	}
	return ErrDestinationNotAllowed
}

func isPublic(a netip.Addr) bool {
	if a.Is4() {
		return !contain(specialIPv4, a)
	}
	return unicastIPv6.Contains(a) && !contain(specialIPv6, a)
}

func isAllowed(a netip.Addr, allowed []netip.Prefix) bool {
	mustBeNamed := contain(namedOnly, a)
	for _, p := range allowed {
		if p.Contains(a) && (p.IsSingleIP() || !mustBeNamed) {
			return true
		}
	}
	return false
}

// validatePrefixes returns the prefixes with their host bits cleared, in a
// slice of its own, or ValidationErrors that name elements of the field.
func validatePrefixes(field string, ps []netip.Prefix) (masked []netip.Prefix, err error) {
	var faults ValidationErrors
	for i, p := range ps {
		switch at := fmt.Sprintf("%s[%d]", field, i); {
		case !p.IsValid():
			faults.add(at, "must be a valid prefix")
		case p.Addr().Is4In6():
			faults.add(at, "must be written as an IPv4 prefix, for an IPv4-mapped one would match nothing")
		default:
			masked = append(masked, p.Masked())
		}
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	return masked, nil
}

func contain(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func prefixes(texts ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		ps[i] = netip.MustParsePrefix(s)
	}
	return ps
}
