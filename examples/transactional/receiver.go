package main

import (
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/posthorn/webhook"
)

// receiver is the warehouse's HTTPS server. It shares nothing with the shop but
// the secret and the definition of the event.
type receiver struct {
	server *httptest.Server
	mux    http.ServeMux
	orders chan order // one for each event, however often that comes
}

func newReceiver() *receiver {
	r := &receiver{orders: make(chan order, 100)}
	r.server = httptest.NewUnstartedServer(&r.mux)
	// It would report connections that a client was still opening at the end.
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.server.StartTLS()
	return r
}

// rootCAs is what a sender must trust to connect.
func (r *receiver) rootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.server.Certificate())
	return pool
}

// trust lets in what is signed with the secret, and nothing else.
func (r *receiver) trust(secret webhook.Secret) error {
	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	r.mux.Handle("POST /", verifier.Middleware(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		o, err := readOrder(req.Body)
		if err != nil {
			http.Error(w, "not an order", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if id := req.Header.Get("webhook-id"); !seen[id] {
			r.orders <- o
			seen[id] = true
		}
		w.WriteHeader(http.StatusNoContent)
	})))
	return nil
}

// readOrder reads a payload that has been verified.
func readOrder(body io.Reader) (order, error) {
	payload, err := io.ReadAll(body)
	if err != nil {
		return order{}, err
	}
	event, err := webhook.ParsePayload(payload)
	if err != nil {
		return order{}, err
	}
	return orderPlaced.Decode(event)
}
