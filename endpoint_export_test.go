package webhook

import (
	"context"
	"log/slog"
	"net/netip"
)

// What hosts reach only through the AllowedPrefixes of a Config.
var (
	CheckAddressAllowing        = checkAddress
	ValidateEndpointURLAllowing = validateEndpointURL
	ValidatePrefixes            = validatePrefixes
)

// CheckDial is what the strict guard says to a socket's network and address.
func CheckDial(ctx context.Context, network, address string) error {
	g := &guard{log: slog.New(slog.DiscardHandler)}
	return g.check(ctx, "example.com:443", network, address)
}

// CheckDialAllowing is CheckDial with allowed prefixes.
func CheckDialAllowing(ctx context.Context, network, address string, allowed ...netip.Prefix) error {
	g := &guard{allowed: allowed, log: slog.New(slog.DiscardHandler)}
	return g.check(ctx, "example.com:443", network, address)
}
