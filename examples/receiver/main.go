// Receiver is the other side: a server that takes webhooks, lets through only
// what is signed, drops repetitions, and prints the rest. From the root of the
// repository:
//
//	WEBHOOK_SECRET=whsec_… go run ./examples/receiver -addr localhost:8080
//
// Webhooks are sent over HTTPS only. Give it a certificate by -cert and -key, or
// put a proxy in front of it that ends TLS and passes headers and body on as
// they are.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the `address` to listen on")
	cert := flag.String("cert", "", "a `file` with the TLS certificate; without it, plain HTTP")
	key := flag.String("key", "", "a `file` with the certificate's private key")
	flag.Parse()
	if err := listen(*addr, *cert, *key, os.Getenv("WEBHOOK_SECRET")); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}

func listen(addr, cert, key, secrets string) error {
	if (cert == "") != (key == "") {
		return errors.New("-cert and -key go together")
	}
	receiver, err := newReceiver(secrets, os.Stdout)
	if err != nil {
		return fmt.Errorf("WEBHOOK_SECRET: %w", err)
	}
	// The bounds in time are what keeps strangers from holding connections.
	server := &http.Server{
		Addr: addr, Handler: receiver,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("receiver: listening on", listener.Addr())
	if cert == "" {
		return server.Serve(listener)
	}
	return server.ServeTLS(listener, cert, key)
}

// newReceiver returns a handler that prints each event once. Secrets are
// separated by spaces: while a webhook takes over from another, both are valid.
func newReceiver(secrets string, out io.Writer) (http.Handler, error) {
	var cfg webhook.VerifierConfig
	for text := range strings.FieldsSeq(secrets) {
		secret, err := webhook.ParseSecret(text)
		if err != nil {
			return nil, err
		}
		cfg.Secrets = append(cfg.Secrets, secret)
	}
	verifier, err := webhook.NewVerifier(cfg)
	if err != nil {
		return nil, err
	}

	var mu sync.Mutex
	seen := map[string]bool{} // yours: a table with a unique key, written together with the work
	return verifier.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Type string          `json:"event_type"`
			Data json.RawMessage `json:"data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			http.Error(w, "not an event", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if id := r.Header.Get("webhook-id"); !seen[id] { // the same for every attempt
			_, _ = fmt.Fprintf(out, "%s %s %s\n", id, event.Type, event.Data)
			seen[id] = true // after the work: what failed has to come again
		}
		w.WriteHeader(http.StatusNoContent) // any 2xx, within 15 s
	})), nil
}
