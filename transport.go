package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"syscall"
	"time"
)

const (
	defaultSlots = 1024

	// maxResponseHeaderBytes bounds all header blocks of one response together,
	// those of 1xx responses included.
	maxResponseHeaderBytes = 64 << 10

	// idleConnTimeout is short because an idle connection costs the receiver as
	// much as us, and because a receiver that closes it at the moment of its
	// next use costs a failed attempt.
	idleConnTimeout = 30 * time.Second

	// connectTimeout bounds looking up a name and connecting, and again the TLS
	// handshake. Attempts are bounded by their context, long before this; but
	// net/http goes on dialing after a request was given up, in the hope that
	// the next one has a use for the connection, and nothing else would end that.
	connectTimeout = 30 * time.Second
)

// TransportConfig configures [NewHTTPClient]. The zero value is the strict one.
type TransportConfig struct {
	// AllowedPrefixes are addresses to connect to although they are not public,
	// for development and tests: 127.0.0.0/8 and ::1/128, say. Link-local addresses, those
	// of cloud metadata services and those that a NAT64 translates are opened
	// only by a prefix of one address (/32 or /128). IPv4 prefixes must not be
	// in IPv4-mapped form. Defaults to none.
	AllowedPrefixes []netip.Prefix

	// Resolver looks up endpoints' names. Defaults to net.DefaultResolver.
	Resolver *net.Resolver

	// RootCAs are the authorities whose certificates are accepted, instead of
	// the system's (begin with x509.SystemCertPool to keep those). Certificates
	// cannot be left unverified. Defaults to the
	// system's authorities.
	RootCAs *x509.CertPool

	// Slots is how many attempts run at once. As many connections are kept
	// alive for one receiver, and four times as many altogether; requests
	// beyond it work, but have to connect anew. Defaults to 1024; negative is an
	// error.
	Slots int

	// Logger receives, at Warn, each refused connection with host and address,
	// which no error names, and at the start AllowedPrefixes if there are any.
	// Defaults to nil, which is silent.
	Logger *slog.Logger
}

// NewHTTPClient returns a client for sending webhooks to endpoints that
// strangers have chosen.
//
// It connects only to addresses that [CheckAddress] accepts, or that are
// allowed by the configuration. The check is made on the address that the
// socket is about to use, at each connect, so neither a name that resolves to
// something else the second time nor a host's several addresses get round it.
// If an attempt fails for that reason, errors.Is(err, ErrDestinationNotAllowed)
// holds and the error names no address. URLs that are not https get the same
// error before anything is looked up.
//
// It follows no redirects, keeps no cookies, uses no proxy whatever the
// environment says (a proxy would connect on its behalf, unchecked), verifies
// certificates, speaks TLS 1.2 or later and HTTP/1.1 only, reads at most 64 KiB
// of response headers and does not decompress bodies: it asks for no encoding,
// and what comes is passed on as it came.
//
// It has no Timeout: a request is bounded by its context only, up to the last
// byte of the body. Connecting is cut after 30 s, and so is the TLS handshake,
// also for a request without a deadline.
//
// It writes a POST at most once. When a kept-alive connection turns out to be
// dead, net/http sends the request again by itself if not one byte of it was
// written, and otherwise only if it carries the header Idempotency-Key or
// X-Idempotency-Key: never set those.
//
// It returns [ValidationErrors] if cfg is at fault.
func NewHTTPClient(cfg TransportConfig) (*http.Client, error) {
	allowed, err := validatePrefixes("allowed_prefixes", cfg.AllowedPrefixes)
	var faults ValidationErrors
	errors.As(err, &faults)
	if cfg.Slots < 0 {
		faults.add("slots", "must not be negative")
	}
	if err := faults.err(); err != nil {
		return nil, err
	}

	g := &guard{allowed: allowed, resolver: cfg.Resolver, log: loggerOrSilent(cfg.Logger)}
	if len(allowed) > 0 {
		g.log.Warn("webhook: addresses that are not public are allowed as destinations", "allowed_prefixes", allowed)
	}
	slots := cfg.Slots
	if slots == 0 {
		slots = defaultSlots
	}
	// Coming back to a receiver, after a timeout has cost the connection, saves most
	// of the handshake's work on both sides.
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(slots)}
	if cfg.RootCAs != nil {
		tlsConfig.RootCAs = cfg.RootCAs.Clone()
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)

	return &http.Client{
		Transport: &guardedTransport{base: &http.Transport{
			Proxy:                  nil,
			DialContext:            g.dial,
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    connectTimeout,
			Protocols:              &protocols,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxResponseHeaderBytes,
			// net/http's two for each host would make nearly every request to a
			// busy receiver pay for a TLS handshake.
			MaxIdleConnsPerHost: slots,
			MaxIdleConns:        4 * slots,
			IdleConnTimeout:     idleConnTimeout,
		}},
		CheckRedirect: takeRedirectAsAnswer,
	}, nil
}

func takeRedirectAsAnswer(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// withoutDetour returns what a client of NewHTTPClient would come to in the end:
// its transport. On the way it makes itself ready for redirects and cookies, which
// there are none of, at a tenth of a request's cost.
func withoutDetour(doer HTTPDoer) HTTPDoer {
	client, ok := doer.(*http.Client)
	if !ok || client == nil || client.Jar != nil || client.Timeout != 0 ||
		reflect.ValueOf(client.CheckRedirect).Pointer() != reflect.ValueOf(takeRedirectAsAnswer).Pointer() {
		return doer // the host has made it its own
	}
	if t, ok := client.Transport.(*guardedTransport); ok {
		return t
	}
	return doer
}

// guard dials, and refuses to connect to addresses that are not allowed.
type guard struct {
	allowed  []netip.Prefix
	resolver *net.Resolver
	log      *slog.Logger
}

func (g *guard) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	d := net.Dialer{
		Resolver: g.resolver,
		Timeout:  connectTimeout,
		ControlContext: func(ctx context.Context, network, address string, _ syscall.RawConn) error {
			return g.check(ctx, hostPort, network, address)
		},
	}
	return d.DialContext(ctx, network, hostPort)
}

// check is called between the creation of each socket and its connect, with the
// address that it will connect to. What is not understood is refused.
func (g *guard) check(ctx context.Context, hostPort, network, address string) error {
	err := ErrDestinationNotAllowed
	if network == "tcp4" || network == "tcp6" {
		if ap, parseErr := netip.ParseAddrPort(address); parseErr == nil {
			err = checkAddress(ap.Addr(), g.allowed)
		}
	}
	if err != nil {
		g.log.WarnContext(ctx, "webhook: destination refused", "host", hostPort, "network", network, "address", address,
			"hint", "for development, TransportConfig.AllowedPrefixes opens addresses")
	}
	return err
}

// guardedTransport is the only way to the transport that dials through a guard.
type guardedTransport struct {
	base *http.Transport
}

// RoundTrip sends an https request.
func (t *guardedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL == nil || r.URL.Scheme != "https" {
		if r.Body != nil {
			_ = r.Body.Close() // as every RoundTripper must
		}
		return nil, fmt.Errorf("%w: only https", ErrDestinationNotAllowed)
	}
	resp, err := t.base.RoundTrip(r)
	if errors.Is(err, ErrDestinationNotAllowed) {
		return nil, ErrDestinationNotAllowed // without net.OpError, whose text has the address
	}
	return resp, err
}

// Do is RoundTrip for one who needs no more.
func (t *guardedTransport) Do(r *http.Request) (*http.Response, error) { return t.RoundTrip(r) }

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *guardedTransport) CloseIdleConnections() { t.base.CloseIdleConnections() }
