package main

import (
	"context"
	"crypto/x509"
	"database/sql"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

// receiver is the other side: the customers' HTTPS servers behind all endpoints.
type receiver struct {
	server *httptest.Server
	db     *sql.DB

	mu        sync.Mutex
	verifiers map[string]*webhook.Verifier // by path
}

// newReceiver starts it. It knows the secrets that it was told in earlier runs.
func newReceiver(ctx context.Context, db *sql.DB) (*receiver, error) {
	r := &receiver{db: db, verifiers: map[string]*webhook.Verifier{}}
	if _, err := db.ExecContext(ctx, "create table if not exists receiver_secrets (path text primary key, secret text not null)"); err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "select path, secret from receiver_secrets")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var path, text string
		if err := rows.Scan(&path, &text); err != nil {
			return nil, err
		}
		secret, err := webhook.ParseSecret(text)
		if err != nil {
			return nil, err
		}
		if err := r.trust(path, secret); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, e := range samples {
		mux.HandleFunc("POST "+e.path, func(w http.ResponseWriter, req *http.Request) {
			if !r.verifies(e.path, req) {
				http.Error(w, "invalid signature", http.StatusUnauthorized)
				return
			}
			e.answer(w)
		})
	}
	// For webhooks that people create: it has no secret to check with.
	mux.HandleFunc("POST /try", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, `{"received":true}`) })
	r.server = httptest.NewUnstartedServer(mux)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // it would report handshakes that were given up
	r.server.StartTLS()
	return r, nil
}

func (r *receiver) url() string { return r.server.URL }

func (r *receiver) close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// rootCAs is what a sender must trust: no system knows the authority of the test
// server's certificate.
func (r *receiver) rootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.server.Certificate())
	return pool
}

// remember keeps a secret, as the receiver's administrator would.
func (r *receiver) remember(ctx context.Context, path string, secret webhook.Secret) error {
	_, err := r.db.ExecContext(ctx, "insert into receiver_secrets (path, secret) values (?, ?) on conflict (path) do update set secret = excluded.secret", path, secret.Reveal())
	if err != nil {
		return err
	}
	return r.trust(path, secret)
}

func (r *receiver) trust(path string, secret webhook.Secret) error {
	v, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verifiers[path] = v
	return nil
}

func (r *receiver) verifies(path string, req *http.Request) bool {
	r.mu.Lock()
	v := r.verifiers[path]
	r.mu.Unlock()
	if v == nil {
		return false
	}
	_, err := v.VerifyRequest(req)
	return err == nil
}

// say answers with a status and a body.
func say(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// dice returns a number below n.
func dice[T ~int | ~int64](n T) T {
	return rand.N(n) //nolint:gosec // nothing depends on nobody guessing it
}

// work takes its time.
func work(from, to time.Duration) {
	<-time.After(from + dice(to-from))
}

// sample is a webhook that is there from the start.
type sample struct {
	name, description, path string
	inactive, wrongSecret   bool
	subscriptions           []webhook.Subscription
	answer                  func(http.ResponseWriter)
}

var samples = []sample{
	{
		name: "Message archive", description: "Keeps every message for the legal department.", path: "/archive",
		subscriptions: subscribe(space, messageSent, transcript),
		answer: func(w http.ResponseWriter) {
			work(5*time.Millisecond, 60*time.Millisecond)
			say(w, http.StatusOK, `{"stored":true}`)
		},
	},
	{
		name: "Chat bot", description: "Answers questions. Restarts now and then.", path: "/bot", subscriptions: subscribe(room, messageSent),
		answer: func(w http.ResponseWriter) {
			work(20*time.Millisecond, 200*time.Millisecond)
			if dice(4) == 0 {
				w.Header().Set("Retry-After", "30")
				say(w, http.StatusServiceUnavailable, `{"error":"restarting","retry":true}`)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		},
	},
	{
		name: "Old CRM", path: "/crm", subscriptions: subscribe(room, transcript),
		answer: func(w http.ResponseWriter) {
			work(100*time.Millisecond, 400*time.Millisecond)
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "<html><body><h1>Internal Server Error</h1><p>ORA-01034: ORACLE not available</p></body></html>")
		},
	},
	{
		name: "Reports", description: "Slow, but it gets there.", path: "/reports", subscriptions: subscribe(space, transcript),
		answer: func(w http.ResponseWriter) {
			work(1200*time.Millisecond, 2600*time.Millisecond)
			say(w, http.StatusAccepted, `{"queued":1}`)
		},
	},
	{
		name: "Partner", description: "Copied the secret of another webhook.", path: "/partner", wrongSecret: true, subscriptions: subscribe(room, transcript),
		answer: func(w http.ResponseWriter) { say(w, http.StatusOK, "{}") },
	},
	{
		name: "Staging", description: "For trying things. Its events are held.", path: "/staging", inactive: true, subscriptions: subscribe(room, messageSent),
		answer: func(w http.ResponseWriter) { say(w, http.StatusOK, "{}") },
	},
}
