package browser_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/smtpnotify"
	"github.com/posthorn/webhook/webhooktest"
)

// postbox is an SMTP server that takes every mail.
type postbox struct {
	port  int
	roots *x509.CertPool

	mu    sync.Mutex
	mails []letter
}

// letter is a mail that has come.
type letter struct{ to, subject, text string }

func newPostbox(t *testing.T) *postbox {
	t.Helper()
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	b := &postbox{roots: x509.NewCertPool()}
	b.roots.AddCert(certified.Certificate())
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &delivering{box: b}, nil }))
	server.TLSConfig = &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12}
	server.ErrorLog = log.New(io.Discard, "", 0)
	certified.Close()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.port = l.Addr().(*net.TCPAddr).Port
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		_ = l.Close() // which Close does not know of, if Serve has not got so far
		require.NoError(t, <-served)
	})
	return b
}

// all are the mails that have come.
func (b *postbox) all() []letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]letter(nil), b.mails...)
}

// delivering is one connection to the postbox.
type delivering struct {
	box *postbox
	to  string
}

func (s *delivering) Reset()                               { s.to = "" }
func (s *delivering) Logout() error                        { return nil }
func (s *delivering) Mail(string, *smtp.MailOptions) error { return nil }
func (s *delivering) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	return nil
}

func (s *delivering) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(quotedprintable.NewReader(m.Body)) // boundaries come through as they are
	if err != nil {
		return err
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.mails = append(s.box.mails, letter{s.to, subject, string(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))})
	return nil
}

// TestBrowserMended is the story of an endpoint that fails: a mail tells its people, its
// link leads them to the webhook, they mend the endpoint, recover, and all arrives.
func TestBrowserMended(t *testing.T) {
	t.Parallel()
	const events = 5
	inbox, store, box := webhooktest.NewInbox(t), memstore.New(), newPostbox(t)
	clock := webhooktest.NewClock(time.Date(2026, 1, 9, 8, 20, 0, 0, time.UTC))
	schedule, err := webhook.NewSchedule(time.Minute, 5*time.Minute)
	require.NoError(t, err)
	var h *host
	mailer, err := smtpnotify.New(smtpnotify.Config{
		Host: "127.0.0.1", Port: box.port, TLSConfig: &tls.Config{RootCAs: box.roots, MinVersion: tls.VersionTLS12},
		From: mail.Address{Name: "Example Chat", Address: "hooks@chat.example"},
		Recipients: func(context.Context, string) ([]mail.Address, error) {
			return []mail.Address{{Address: "admin@example.com"}}, nil
		},
		Link: func(n webhook.Notice) string { return h.path(n.WebhookID.String()) },
	})
	require.NoError(t, err)
	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: inbox.HTTPDoer(), Schedule: schedule, Clock: clock, Notifier: mailer})
	require.NoError(t, err)
	h = newHost(t, store, webhook.ManagerConfig{Dispatcher: dispatcher, AllowedPrefixes: inbox.Prefixes()}, adminui.Config{Schedule: schedule, Clock: clock})
	endpoint := inbox.Endpoint(webhooktest.Always(webhooktest.Answer{Status: http.StatusServiceUnavailable, Body: []byte("the database is away")}))
	w, secret, err := h.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Archive", EndpointURL: endpoint.URL(), Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	endpoint.Trust(secret)

	ctx := start(t)
	complained := hear(t, ctx)
	var link string
	step := func(name string, do func(person)) {
		if !t.Run(name, func(t *testing.T) { do(person{t, ctx}) }) {
			t.FailNow() // the next one begins where this one ends
		}
	}
	statesOf := func() map[webhook.DeliveryState]int {
		page, err := h.manager.Deliveries(t.Context(), admin, webhook.DeliveryQuery{WebhookID: w.ID, Limit: webhook.MaxPageSize})
		require.NoError(t, err)
		n := map[webhook.DeliveryState]int{}
		for _, d := range page.Items {
			n[d.State]++
		}
		return n
	}

	step("EverythingFails", func(p person) {
		for range events {
			h.publish("Is anybody there?")
			clock.Advance(time.Second)
		}
		webhooktest.Drain(p.t, dispatcher, clock)
		require.Equal(p.t, map[webhook.DeliveryState]int{webhook.DeliveryFailed: events}, statesOf())
		require.Len(p.t, endpoint.Received(), 3*events)
	})
	step("AMailComes", func(p person) {
		mails := box.all()
		require.Len(p.t, mails, 1)
		require.Equal(p.t, "admin@example.com", mails[0].to)
		require.Equal(p.t, "5 deliveries to webhook “Archive” failed", mails[0].subject)
		require.Contains(p.t, mails[0].text, "The last failure: answered 503 Service Unavailable.")
		link = regexp.MustCompile(`http://[^\s"<>]+`).FindString(mails[0].text)
		require.Equal(p.t, h.path(w.ID.String()), link)
	})
	step("ItsLinkAsksWhoItIs", func(p person) {
		p.do(appearances[0].apply())
		p.opens(link)
		p.sees("You are not signed in")
		p.seesNot("Archive")
		p.opens(h.url + "/sign-in/admin")
	})
	step("ItsLinkLeadsToTheWebhook", func(p person) {
		p.opens(link)
		p.sees("Archive")
		p.sees("answered 503 Service Unavailable")
		p.sees("0 % succeeded")
	})
	step("MendTheEndpointAndTryIt", func(p person) {
		endpoint.Script(webhooktest.Succeed())
		p.clicks("Send test event")
		p.until(`!!document.querySelector("dialog[open]")`, "no dialog opens")
		p.clicks("Send")
		p.sees("It is on its way") // the dispatcher is in another process, as it were
		_, err := dispatcher.RunOnce(p.t.Context())
		require.NoError(p.t, err)
		p.sees("It works") // the page looks again
		p.opens(link)
	})
	step("CountAndRecover", func(p person) {
		p.clicks("Recover since…")
		p.clicks("Count first")
		p.sees("5 deliveries")
		require.Equal(p.t, "5", ask[string](p, `document.querySelector("#count ~ dl dd").innerText`))
		p.clicks("Recover 5 deliveries")
		p.sees("5 failed deliveries are being sent again, 0 held ones are released.")
		require.Equal(p.t, events, statesOf()[webhook.DeliveryPending])
	})
	step("AllAreDelivered", func(p person) {
		before := endpoint.Received()
		webhooktest.Drain(p.t, dispatcher, clock)
		lost, arrived := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
		for _, r := range before[:3*events] {
			lost[r.EventID] = true
		}
		for _, r := range endpoint.Received()[len(before):] {
			require.True(p.t, r.Verified)
			require.False(p.t, arrived[r.EventID], "twice")
			arrived[r.EventID] = true
		}
		require.Equal(p.t, lost, arrived)
		require.Equal(p.t, map[webhook.DeliveryState]int{webhook.DeliveryFailed: events, webhook.DeliverySucceeded: events + 1}, statesOf(), "with the test event")
		p.clicks("Watch the deliveries")
		p.until(`[...document.querySelectorAll("tbody .pill")].filter(e => e.innerText === "Succeeded").length === 6`, "they are not shown as succeeded")
		require.Equal(p.t, 5, ask[int](p, `[...document.querySelectorAll("tbody tr")].filter(e => e.innerText.includes("Redelivery")).length`))
	})
	step("NothingIsLeft", func(p person) {
		p.opens(link)
		p.clicks("Recover since…")
		p.clicks("Count first")
		p.sees("There is nothing to recover since then.")
		require.Len(p.t, box.all(), 1, "and there is no other mail")
		t.Logf("browser: %d deliveries failed after %d requests; mails: %d; link opened, endpoint mended, recovered: %d, delivered: %d, left: 0",
			events, 3*events, len(box.all()), events, statesOf()[webhook.DeliverySucceeded]-1)
	})
	step("NothingToComplainOf", func(p person) { complained.none(p.t) })
}
