package main

import (
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/posthorn/webhook"
)

// receiver is the other side: the customer's HTTPS server behind all of the
// endpoints. It shares nothing with the sender but the secrets.
type receiver struct {
	server *httptest.Server
	mux    http.ServeMux
	clock  webhook.Clock

	requests, verified, refused atomic.Int64
}

// newReceiver starts a receiver. The clock is the one by which the sender
// stamps its requests; nil is the system's, as in every real receiver.
func newReceiver(clock webhook.Clock) *receiver {
	r := &receiver{clock: clock}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		r.mux.ServeHTTP(w, req)
	}))
	// It would report connections that a client was still opening at the end.
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.server.StartTLS()
	return r
}

// rootCAs is what a sender must trust to connect: no system knows the authority
// of the test server's certificate.
func (r *receiver) rootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.server.Certificate())
	return pool
}

// answer is the status for an endpoint's nth verified request, from 1.
type answer func(n int64) int

func always(status int) answer { return func(int64) int { return status } }

func failingTwice(n int64) int {
	if n <= 2 {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// expect opens an endpoint for requests that are signed with the secret.
//
// It verifies first and believes afterwards. A receiver that counts nothing
// puts the verifier's Middleware in front of its handler instead; and it skips
// a webhook-id that it has handled before, because events may repeat.
func (r *receiver) expect(path string, secret webhook.Secret, a answer) error {
	v, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}, Clock: r.clock})
	if err != nil {
		return err
	}
	var n atomic.Int64
	r.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
		if _, err := v.VerifyRequest(req); err != nil {
			r.refused.Add(1)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		r.verified.Add(1)
		w.WriteHeader(a(n.Add(1)))
	})
	return nil
}
