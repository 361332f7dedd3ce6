package webhook_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// The headers of a request, for senders that are not a Dispatcher and for the
// tests of receivers.
func ExampleSigner_Sign() {
	secret, err := webhook.ParseSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		log.Fatal(err)
	}
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		log.Fatal(err)
	}

	h := http.Header{}
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	signer.Sign(h, "0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f50", at, []byte(`{"text":"Hello, World!"}`))

	for _, name := range []string{"X-Pivot-Signature", "webhook-id", "webhook-timestamp", "webhook-signature"} {
		fmt.Println(name+":", h.Get(name))
	}
	// Output:
	// X-Pivot-Signature: d9e96a9827dddc75d12e6d54dbb1e83cff77a71900b6e5039541ba9790e561b7
	// webhook-id: 0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f50
	// webhook-timestamp: 1767268800
	// webhook-signature: v1,ptkFqWs0x6u8v6Azd+aWn+Cvv7TEjYaEJz+esqcEtvw=
}

// What is not signed, was changed, or is sent again later does not reach the
// handler.
func ExampleVerifier_Middleware_forged() {
	secret, err := webhook.ParseSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		log.Fatal(err)
	}
	clock := &webhooktest.Clock{} // in production, leave it out
	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}, Clock: clock})
	if err != nil {
		log.Fatal(err)
	}
	receiver := verifier.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		fmt.Println("got", string(payload))
		w.WriteHeader(http.StatusNoContent)
	}))

	signer, err := webhook.NewSigner(secret)
	if err != nil {
		log.Fatal(err)
	}
	const body = `{"text":"Hello, World!"}`
	send := func(body string, header http.Header) {
		r := httptest.NewRequest(http.MethodPost, "/webhooks", strings.NewReader(body))
		r.Header = header
		answer := httptest.NewRecorder()
		receiver.ServeHTTP(answer, r)
		fmt.Println(answer.Code)
	}

	h := http.Header{}
	signer.Sign(h, "0199d2a8-7c1e-7d3a-9f00-5b1c2d3e4f50", clock.Now(), []byte(body))
	send(body, h)
	send(`{"text":"Hello, Mallory!"}`, h)
	send(body, http.Header{})
	clock.Advance(6 * time.Minute) // sent again by somebody who overheard it
	send(body, h)
	// Output:
	// got {"text":"Hello, World!"}
	// 204
	// 401
	// 401
	// 401
}
