package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The paths of endpoints, to which the webhook's number is added.
const (
	promptPath  = "/prompt/"  // answers at once
	timedPath   = "/timed/"   // likewise, and notes how long the event was under way
	hangingPath = "/hanging/" // takes the request and never answers
	stormyPath  = "/stormy/"  // likewise, until the receiver is told to be calm
)

// sentField precedes, in payloads for timedPath, the time by the wall clock in
// nanoseconds.
const sentField = `"sent_ns":`

// greeting is the first line of the receiver's output.
type greeting struct {
	Address   string `json:"address"`
	Authority []byte `json:"authority"` // certificate, PEM
}

// question is a line of its input.
type question struct {
	Reset   bool `json:"reset,omitempty"`   // begin to count anew after the answer
	Samples bool `json:"samples,omitempty"` // the answer is to have the latencies
	Calm    bool `json:"calm,omitempty"`    // stormy endpoints answer from now on
}

// answer is the line with which it responds.
type answer struct {
	Received  int64         `json:"received"` // answered requests
	Hanging   int64         `json:"hanging"`  // requests to hanging endpoints, so far
	CPU       time.Duration `json:"cpu"`      // of the process
	LastNS    int64         `json:"last_ns"`  // when the last timed one came, wall clock
	Latencies []int64       `json:"latencies,omitempty"`
}

// receiver is the server behind all the endpoints. It verifies no signature, so
// that what is measured is the sender.
type receiver struct {
	received, hanging atomic.Int64

	mu        sync.Mutex
	lastNS    int64
	latencies []int64
	calm      chan struct{} // closed when stormy endpoints are to answer
}

// serveReceiver is the receiver's process.
func serveReceiver(ctx context.Context, in io.Reader, out io.Writer) error {
	// Ctrl-C reaches both processes; this one ends with its input.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	authority, certificate, err := newAuthority()
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	r := &receiver{calm: make(chan struct{})}
	server := &http.Server{
		Handler:           r,
		Protocols:         &protocols,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // handshakes that a sender gave up
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()

	answers := json.NewEncoder(out)
	if err := answers.Encode(greeting{Address: listener.Addr().String(), Authority: authority}); err != nil {
		return err
	}
	if err := answerAll(json.NewDecoder(in), answers, r.answer); err != nil {
		return err
	}
	err = server.Close()
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// ServeHTTP answers by the path.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch {
	case strings.HasPrefix(req.URL.Path, hangingPath):
		r.hanging.Add(1)
		_, _ = io.Copy(io.Discard, req.Body) // the server sees the sender hang up only once the body is read
		<-req.Context().Done()
	case strings.HasPrefix(req.URL.Path, stormyPath):
		_, _ = io.Copy(io.Discard, req.Body)
		select {
		case <-r.untilCalm():
			r.received.Add(1)
		case <-req.Context().Done():
		}
	case strings.HasPrefix(req.URL.Path, timedPath):
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		if sent, ok := sentAt(body); ok {
			r.sample(sent, time.Now().UnixNano())
		}
		r.received.Add(1)
	default:
		r.received.Add(1)
	}
}

// sentAt finds the time in a payload.
func sentAt(body []byte) (ns int64, ok bool) {
	_, rest, ok := bytes.Cut(body, []byte(sentField))
	if !ok {
		return 0, false
	}
	digits := len(rest) - len(bytes.TrimLeft(rest, "0123456789"))
	ns, err := strconv.ParseInt(string(rest[:digits]), 10, 64)
	return ns, err == nil
}

func (r *receiver) sample(sentNS, nowNS int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastNS = nowNS
	r.latencies = append(r.latencies, nowNS-sentNS)
}

func (r *receiver) untilCalm() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calm
}

// answer says how it is, and then does what is asked.
func (r *receiver) answer(q question) (answer, error) {
	cpu, err := ownCPU()
	if err != nil {
		return answer{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := answer{Received: r.received.Load(), Hanging: r.hanging.Load(), CPU: cpu, LastNS: r.lastNS}
	if q.Samples {
		a.Latencies = append(a.Latencies, r.latencies...)
	}
	if q.Reset {
		r.received.Add(-a.Received)
		r.hanging.Store(0)
		r.lastNS, r.latencies, r.calm = 0, nil, make(chan struct{})
	}
	if q.Calm {
		close(r.calm)
	}
	return a, nil
}

// newAuthority makes an authority, and a certificate of it for 127.0.0.1.
func newAuthority() (authority []byte, certificate tls.Certificate, err error) {
	from := time.Now().Add(-time.Hour)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: from, NotAfter: from.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, certificate, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, certificate, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "receiver"},
		NotBefore: from, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, certificate, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, certificate, err
	}
	authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return authority, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
