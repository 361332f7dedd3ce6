// Receive verifies webhooks, as a receiver in Go does it.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/posthorn/webhook"
)

func main() {
	secret, err := webhook.ParseSecret(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{
		Secrets:         []webhook.Secret{secret},
		SignatureHeader: "X-Pivot-Signature",
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("POST /webhooks", verifier.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, err := io.ReadAll(r.Body) // verified; what is not gets 401 before this
		if err != nil {
			http.Error(w, "the body broke off", http.StatusBadRequest)
			return
		}
		log.Printf("%s: %s", r.Header.Get("webhook-id"), event) // the same id again is a repetition
		w.WriteHeader(http.StatusNoContent)                     // any 2xx, within 15 s
	})))
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second}
	log.Fatal(server.ListenAndServe())
}
