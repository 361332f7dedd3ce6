package webhook_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

var (
	loopback4   = netip.MustParsePrefix("127.0.0.0/8")
	loopbackOne = netip.MustParsePrefix("127.0.0.1/32")
)

// receiver is a TLS server on 127.0.0.1 that counts what reaches it. The
// certificate of httptest is for 127.0.0.1, example.com and *.example.com.
type receiver struct {
	*httptest.Server
	connections, requests atomic.Int64
}

func newReceiver(t *testing.T, handler http.HandlerFunc, change ...func(*httptest.Server)) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		if handler != nil {
			handler(w, req)
		}
	}))
	r.Listener = &countingListener{r.Listener, &r.connections}
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(r.Server)
	}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) port(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	require.NoError(t, err)
	return port
}

// client returns a client that trusts the receiver.
func (r *receiver) client(t *testing.T, cfg webhook.TransportConfig, allowed ...netip.Prefix) *http.Client {
	t.Helper()
	cfg.RootCAs = x509.NewCertPool()
	cfg.RootCAs.AddCert(r.Certificate())
	cfg.AllowedPrefixes = allowed
	return newTransportClient(t, cfg)
}

// requireUntouched fails if anyone has connected. The connection that it makes
// itself is accepted after all earlier ones.
func (r *receiver) requireUntouched(t *testing.T) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
	conn, err := d.DialContext(t.Context(), "tcp", r.Listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.EqualValues(t, 1, r.connections.Load())
	require.Zero(t, r.requests.Load())
}

type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

func newTransportClient(t *testing.T, cfg webhook.TransportConfig) *http.Client {
	t.Helper()
	client, err := webhook.NewHTTPClient(cfg)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// answer is what a receiver said.
type answer struct {
	*http.Response // its body was read and closed

	body string
}

// post sends a body and reads the whole answer.
func post(t *testing.T, client *http.Client, endpoint, body string) (answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := client.Do(req)
	if err != nil {
		require.Nil(t, resp)
		return answer{}, err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp, string(read)}, nil
}

// roundTripError sends the request past http.Client's own checks.
func roundTripError(t *testing.T, client *http.Client, req *http.Request) error {
	t.Helper()
	resp, err := client.Transport.RoundTrip(req)
	if resp != nil {
		resp.Body.Close()
	}
	require.Nil(t, resp)
	return err
}

// answering returns a resolver that asks a DNS server on loopback, which gives
// every name the addresses that answers returns at that moment.
func answering(t *testing.T, answers func() []string) *net.Resolver {
	t.Helper()
	var config net.ListenConfig
	server, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		query := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(query)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(dnsAnswer(query[:n], answers()), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// dnsAnswer encodes a response of RFC 1035, section 4, to a query for A (1) or
// AAAA (28) records.
func dnsAnswer(query []byte, addresses []string) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the root label, type and class
	wanted := query[end-3]

	var records []byte
	count := byte(0)
	for _, text := range addresses {
		ip := netip.MustParseAddr(text)
		recordType := byte(1)
		if ip.Is6() {
			recordType = 28
		}
		if recordType != wanted {
			continue
		}
		data := ip.AsSlice()
		// The question's name, type, class IN, a TTL of 0, the address.
		records = append(records, 0xc0, 12, 0, recordType, 0, 1, 0, 0, 0, 0, 0, byte(len(data)))
		records = append(records, data...)
		count++
	}
	header := []byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0}
	return slices.Concat(header, query[12:end], records)
}

func always(addresses ...string) func() []string { return func() []string { return addresses } }

func TestTransportDeliversToAllowedAddress(t *testing.T) {
	t.Parallel()

	var sent *http.Request
	var sentBody []byte
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		sent = req
		sentBody, _ = io.ReadAll(req.Body)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "thanks")
	}, func(s *httptest.Server) { s.EnableHTTP2 = true })
	client := r.client(t, webhook.TransportConfig{}, loopback4)

	got, err := post(t, client, r.URL+"/hook?a=b", `{"id":1}`)

	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, got.StatusCode)
	require.Equal(t, "thanks", got.body)
	require.Equal(t, "HTTP/1.1", got.Proto)
	require.GreaterOrEqual(t, got.TLS.Version, uint16(tls.VersionTLS12))
	require.Equal(t, `{"id":1}`, string(sentBody))
	require.Equal(t, "/hook?a=b", sent.RequestURI)
	require.Empty(t, sent.Header.Values("Accept-Encoding"))
	require.Empty(t, sent.Header.Values("Expect"))
	require.Nil(t, client.Jar)
	require.Zero(t, client.Timeout)
}

func TestTransportRefusesDestinationAddresses(t *testing.T) {
	t.Parallel()

	for _, tc := range []struct {
		name    string
		allowed []netip.Prefix
	}{
		{"by default", nil},
		{"outside of the allowed prefixes", []netip.Prefix{netip.MustParsePrefix("127.0.0.2/31"), netip.MustParsePrefix("10.0.0.0/8")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, nil)
			client := r.client(t, webhook.TransportConfig{}, tc.allowed...)
			port := r.port(t)

			for _, host := range []string{
				"127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]", "[::1%25lo]", "0.0.0.0", "[::]", "169.254.169.254",
			} {
				_, err := post(t, client, "https://"+host+":"+port+"/", "{}")
				require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed, host)
				require.NotErrorAs(t, err, new(*net.OpError), "no error that knows the address is left")
			}
			r.requireUntouched(t)
		})
	}
}

// A zone is refused even where its address is allowed, and no allowed prefix
// but its own opens a metadata address.
func TestTransportRefusesDestinationInAllowedPrefixes(t *testing.T) {
	t.Parallel()

	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	client := newTransportClient(t, webhook.TransportConfig{AllowedPrefixes: everything})

	for _, host := range []string{"[::1%25lo]", "169.254.169.254", "[fd00:ec2::254]", "168.63.129.16", "100.100.100.200"} {
		_, err := post(t, client, "https://"+host+"/", "{}")
		require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed, host)
	}
}

func TestTransportRefusesDestinationThatNameResolvesTo(t *testing.T) {
	t.Parallel()

	for _, answers := range [][]string{
		{"127.0.0.1"},
		{"::ffff:127.0.0.1"},
		{"::1"},
		{"127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"},
	} {
		t.Run(strings.Join(answers, " "), func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, nil)
			client := r.client(t, webhook.TransportConfig{Resolver: answering(t, always(answers...))})

			_, err := post(t, client, "https://hooks.example.com:"+r.port(t)+"/", "{}")

			require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
			for _, a := range answers {
				require.NotContains(t, err.Error(), a)
			}
			require.NotContains(t, err.Error(), "127.0.0.1")
			r.requireUntouched(t)
		})
	}
}

func TestTransportLogsRefusedDestination(t *testing.T) {
	t.Parallel()

	var logged bytes.Buffer
	client := newTransportClient(t, webhook.TransportConfig{
		Resolver: answering(t, always("10.1.2.3")),
		Logger:   slog.New(slog.NewTextHandler(&logged, nil)),
	})
	require.Empty(t, logged.String(), "nothing to say about the strict default")

	_, err := post(t, client, "https://hooks.example.com/", "{}")

	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
	require.Equal(t, 1, strings.Count(logged.String(), "\n"))
	for _, part := range []string{"level=WARN", "address=10.1.2.3:443", "host=hooks.example.com:443"} {
		require.Contains(t, logged.String(), part)
	}
}

func TestTransportLogsAllowedAddressesOnce(t *testing.T) {
	t.Parallel()

	var logged bytes.Buffer
	_, err := webhook.NewHTTPClient(webhook.TransportConfig{
		AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")},
		Logger:          slog.New(slog.NewTextHandler(&logged, nil)),
	})

	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(logged.String(), "\n"))
	require.Contains(t, logged.String(), "level=WARN")
	require.Contains(t, logged.String(), "127.0.0.0/8 ::1/128")
}

// The name is the same, the address is not: judged anew at each connect.
func TestTransportRefusesReboundDestination(t *testing.T) {
	t.Parallel()

	r := newReceiver(t, nil)
	var address atomic.Value
	address.Store("127.0.0.1")
	client := r.client(t, webhook.TransportConfig{
		Resolver: answering(t, func() []string { return []string{address.Load().(string)} }),
	}, loopbackOne)
	endpoint := "https://hooks.example.com:" + r.port(t) + "/"
	other := listenBeside(t, r)

	_, err := post(t, client, endpoint, "{}")
	require.NoError(t, err)

	address.Store("127.0.0.2")
	client.CloseIdleConnections()
	_, err = post(t, client, endpoint, "{}")
	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
	require.NotContains(t, err.Error(), "127.0.0.2")

	address.Store("127.0.0.1")
	_, err = post(t, client, endpoint, "{}")
	require.NoError(t, err)
	require.EqualValues(t, 2, r.requests.Load())
	other.requireUntouched(t)
}

// A name may have addresses of both kinds; only the allowed ones are connected to.
func TestTransportJudgesEachDestinationAddress(t *testing.T) {
	t.Parallel()

	r := newReceiver(t, nil)
	other := listenBeside(t, r)
	client := r.client(t, webhook.TransportConfig{
		Resolver: answering(t, always("127.0.0.2", "::1", "127.0.0.1", "10.0.0.1")),
	}, loopbackOne)

	_, err := post(t, client, "https://hooks.example.com:"+r.port(t)+"/", "{}")

	require.NoError(t, err)
	require.EqualValues(t, 1, r.requests.Load())
	other.requireUntouched(t)
}

// listenBeside starts a second receiver on 127.0.0.2, at the same port.
func listenBeside(t *testing.T, r *receiver) *receiver {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.2:"+r.port(t))
	if err != nil {
		t.Skipf("this system has only one loopback address: %v", err) //nolint:forbidigo // as macOS does
	}
	return newReceiver(t, nil, func(s *httptest.Server) {
		counting := s.Listener.(*countingListener)
		_ = counting.Listener.Close()
		counting.Listener = l
	})
}

func TestTransportFollowsNoRedirectToAnotherDestination(t *testing.T) {
	t.Parallel()

	next := newReceiver(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
				http.Redirect(w, req, next.URL, status)
			})
			client := r.client(t, webhook.TransportConfig{}, loopback4)

			got, err := post(t, client, r.URL, "{}")

			require.NoError(t, err)
			require.Equal(t, status, got.StatusCode)
			require.Equal(t, next.URL, got.Header.Get("Location"))
			require.EqualValues(t, 1, r.requests.Load())
		})
	}
	next.requireUntouched(t)
}

func TestTransportUsesNoProxyForDestination(t *testing.T) {
	t.Parallel()

	const child = "POSTHORN_TEST_PROXY_CHILD"
	if os.Getenv(child) == "" {
		// net/http reads the environment once a process, so another one it is.
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTransportUsesNoProxyForDestination$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		proxy := newReceiver(t, nil)
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
			cmd.Env = append(cmd.Env, name+"=http://"+proxy.Listener.Addr().String())
		}
		cmd.Env = append(cmd.Env, "NO_PROXY=", "no_proxy=")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: TestTransportUsesNoProxyForDestination")
		proxy.requireUntouched(t)
		return
	}

	r := newReceiver(t, nil)
	endpoint := "https://hooks.example.com:" + r.port(t) + "/"
	u, err := url.Parse(endpoint)
	require.NoError(t, err)
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	require.NoError(t, err)
	require.NotNil(t, proxy, "the default transport would use it")

	resolver := answering(t, always("127.0.0.1"))
	_, err = post(t, r.client(t, webhook.TransportConfig{Resolver: resolver}, loopback4), endpoint, "{}")
	require.NoError(t, err)
	_, err = post(t, r.client(t, webhook.TransportConfig{Resolver: resolver}), endpoint, "{}")
	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
	require.EqualValues(t, 1, r.requests.Load())
}

func TestTransportRefusesDestinationWithoutTLS(t *testing.T) {
	t.Parallel()

	var connections atomic.Int64
	s := httptest.NewUnstartedServer(nil)
	s.Listener = &countingListener{s.Listener, &connections}
	s.Start()
	t.Cleanup(s.Close)
	client := newTransportClient(t, webhook.TransportConfig{AllowedPrefixes: []netip.Prefix{loopback4}})

	for _, u := range []*url.URL{
		{Scheme: "http", Host: s.Listener.Addr().String()},
		{Scheme: "HTTP", Host: s.Listener.Addr().String()},
		{Scheme: "ftp", Host: s.Listener.Addr().String()},
		{Scheme: "file", Path: "/etc/passwd"},
		{Host: s.Listener.Addr().String()},
		nil,
	} {
		body := &closeRecorder{Reader: strings.NewReader("{}")}
		err := roundTripError(t, client, &http.Request{Method: http.MethodPost, URL: u, Header: http.Header{}, Body: body})
		require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
		require.True(t, body.closed)
	}
	err := roundTripError(t, client, &http.Request{URL: &url.URL{Scheme: "http", Host: "example.com"}})
	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
	_, err = post(t, client, s.URL, "{}")
	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)

	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	_, err = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.NoError(t, err)
	require.EqualValues(t, 1, connections.Load(), "only the test's own")
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error {
	c.closed = true
	return nil
}

func TestTransportClosesBodyOfRefusedDestination(t *testing.T) {
	t.Parallel()

	client := newTransportClient(t, webhook.TransportConfig{})
	body := &closeRecorder{Reader: strings.NewReader("{}")}
	err := roundTripError(t, client, &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: "127.0.0.1:1"}, Header: http.Header{}, Body: body,
	})
	require.Equal(t, webhook.ErrDestinationNotAllowed, err)
	require.True(t, body.closed)
}

func TestTransportVerifiesDestinationCertificate(t *testing.T) {
	t.Parallel()

	now := time.Now()
	for _, tc := range []struct {
		name    string
		cert    tls.Certificate
		trusted bool
		fault   any // what errors.As finds
	}{
		{"good", certificate(t, now.Add(-time.Hour), now.Add(time.Hour), "hooks.example.com"), true, nil},
		{"expired", certificate(t, now.Add(-2*time.Hour), now.Add(-time.Hour), "hooks.example.com"), true, new(x509.CertificateInvalidError)},
		{"not yet valid", certificate(t, now.Add(time.Hour), now.Add(2*time.Hour), "hooks.example.com"), true, new(x509.CertificateInvalidError)},
		{"self-signed", certificate(t, now.Add(-time.Hour), now.Add(time.Hour), "hooks.example.com"), false, new(x509.UnknownAuthorityError)},
		{"another name's", certificate(t, now.Add(-time.Hour), now.Add(time.Hour), "other.example.com"), true, new(x509.HostnameError)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, nil, func(s *httptest.Server) { s.TLS = &tls.Config{Certificates: []tls.Certificate{tc.cert}} })
			pool := x509.NewCertPool()
			if tc.trusted {
				pool.AddCert(tc.cert.Leaf)
			}
			client := newTransportClient(t, webhook.TransportConfig{
				AllowedPrefixes: []netip.Prefix{loopback4}, RootCAs: pool, Resolver: answering(t, always("127.0.0.1")),
			})

			_, err := post(t, client, "https://hooks.example.com:"+r.port(t)+"/", "{}")

			if tc.fault == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorAs(t, err, tc.fault)
			r.Close() // waits for its handlers
			require.EqualValues(t, 1, r.connections.Load())
			require.Zero(t, r.requests.Load(), "no request, and so no body, was sent")
		})
	}
}

func certificate(t *testing.T, notBefore, notAfter time.Time, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: notBefore, NotAfter: notAfter, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestTransportRefusesDestinationWithOldTLS(t *testing.T) {
	t.Parallel()

	r := newReceiver(t, nil, func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // a receiver as it should not be
	})
	client := r.client(t, webhook.TransportConfig{}, loopback4)

	_, err := post(t, client, r.URL, "{}")

	require.Error(t, err)
	require.NotErrorIs(t, err, webhook.ErrDestinationNotAllowed)
	require.Zero(t, r.requests.Load())
}

func TestTransportBoundsHeaders(t *testing.T) {
	t.Parallel()

	const endless = 256 << 20 // more than all buffers on the way hold
	fill := strings.Repeat("a", 1024)
	for name, response := range map[string]struct{ begin, repeat string }{
		"one header":    {"HTTP/1.1 200 OK\r\nX-Fill: ", fill},
		"many headers":  {"HTTP/1.1 200 OK\r\n", "X-Fill: " + fill + "\r\n"},
		"1xx responses": {"", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		"reason phrase": {"HTTP/1.1 200 ", fill},
		"no protocol":   {"", fill},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var written atomic.Int64
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				_, err = io.WriteString(conn, response.begin)
				chunk := []byte(strings.Repeat(response.repeat, 64))
				for err == nil && written.Load() < endless {
					_, err = conn.Write(chunk)
					written.Add(int64(len(chunk)))
				}
			})
			client := r.client(t, webhook.TransportConfig{}, loopback4)

			_, err := post(t, client, r.URL, "{}")

			require.Error(t, err)
			r.Close()
			require.Less(t, written.Load(), int64(endless))
		})
	}
}

func TestTransportBoundsHeadersAt64KiB(t *testing.T) {
	t.Parallel()

	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		size, _ := strconv.Atoi(req.URL.RawQuery)
		w.Header().Set("X-Fill", strings.Repeat("a", size))
	})
	client := r.client(t, webhook.TransportConfig{}, loopback4)

	got, err := post(t, client, r.URL+"?60000", "{}")
	require.NoError(t, err)
	require.Len(t, got.Header.Get("X-Fill"), 60_000)

	_, err = post(t, client, r.URL+"?80000", "{}")
	require.Error(t, err)
}

func TestTransportDoesNotDecompress(t *testing.T) {
	t.Parallel()

	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err := z.Write(make([]byte, 10<<20))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})

	got, err := post(t, r.client(t, webhook.TransportConfig{}, loopback4), r.URL, "{}")

	require.NoError(t, err)
	require.False(t, got.Uncompressed)
	require.Equal(t, "gzip", got.Header.Get("Content-Encoding"))
	require.Equal(t, bomb.String(), got.body)
}

// The receiver takes the second request on a kept-alive connection and hangs up
// without a word: net/http must not decide by itself to send it again.
func TestTransportSendsNoRequestTwice(t *testing.T) {
	t.Parallel()

	var served atomic.Int64
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		if served.Add(1) == 1 {
			return
		}
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	})
	client := r.client(t, webhook.TransportConfig{}, loopback4)

	_, err := post(t, client, r.URL, "{}")
	require.NoError(t, err)
	_, err = post(t, client, r.URL, "{}")

	require.Error(t, err)
	require.EqualValues(t, 1, r.connections.Load(), "it was the reused connection that died")
	require.EqualValues(t, 2, r.requests.Load())
}

func TestTransportKeepsAConnectionForEachSlot(t *testing.T) {
	t.Parallel()

	const slots = 32
	var waiting sync.WaitGroup
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		waiting.Done()
		waiting.Wait() // so that all requests of a round are in flight together
		w.WriteHeader(http.StatusNoContent)
	})
	client := r.client(t, webhook.TransportConfig{Slots: slots}, loopback4)

	for range 3 {
		waiting.Add(slots)
		var round sync.WaitGroup
		for range slots {
			round.Go(func() {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL, strings.NewReader("{}"))
				if err != nil {
					panic(err)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("post: %v", err)
					return
				}
				resp.Body.Close()
			})
		}
		round.Wait()
	}
	require.EqualValues(t, slots, r.connections.Load())
	require.EqualValues(t, 3*slots, r.requests.Load())

	client.CloseIdleConnections()
	waiting.Add(1)
	_, err := post(t, client, r.URL, "{}")
	require.NoError(t, err)
	require.EqualValues(t, slots+1, r.connections.Load())
}

func TestTransportIsBoundedByTheContext(t *testing.T) {
	t.Parallel()

	release := make(chan struct{})
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) }) // before the receiver's own
	client := r.client(t, webhook.TransportConfig{}, loopback4)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, strings.NewReader("{}"))
	require.NoError(t, err)

	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	cancel()
	_, err = io.ReadAll(resp.Body)

	require.ErrorIs(t, err, context.Canceled)
}

func TestTransportConfigIsValidated(t *testing.T) {
	t.Parallel()

	client, err := webhook.NewHTTPClient(webhook.TransportConfig{Slots: -1, AllowedPrefixes: []netip.Prefix{{}}})

	require.Nil(t, client)
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	require.Len(t, faults, 2)
	require.Equal(t, "allowed_prefixes[0]", faults[0].Field)
	require.Equal(t, "slots", faults[1].Field)
}

func TestTransportConfigIsCopied(t *testing.T) {
	t.Parallel()

	r := newReceiver(t, nil)
	cfg := webhook.TransportConfig{AllowedPrefixes: []netip.Prefix{loopback4}, RootCAs: x509.NewCertPool()}
	client := newTransportClient(t, cfg)
	cfg.RootCAs.AddCert(r.Certificate())
	_, err := post(t, client, r.URL, "{}")
	require.ErrorAs(t, err, new(x509.UnknownAuthorityError))

	client = newTransportClient(t, cfg)
	cfg.AllowedPrefixes[0] = netip.MustParsePrefix("10.0.0.0/8")
	_, err = post(t, client, r.URL, "{}")
	require.NoError(t, err)
}
