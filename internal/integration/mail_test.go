package integration_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestMail lets deliveries fail for good and looks at the mails about them, which
// a real SMTP server gets.
func TestMail(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			t.Run("ManyDeliveriesAreOneMail", func(t *testing.T) { manyDeliveriesAreOneMail(t, s.Migrated(t)) })
			t.Run("KilledBetweenExhaustionAndMail", func(t *testing.T) { killedBeforeTheMail(t, s.Migrated(t)) })
			t.Run("KilledAfterTheMail", func(t *testing.T) { killedAfterTheMail(t, s.Migrated(t)) })
		})
	}
}

// Three dispatchers exhaust 10,000 deliveries and look for notices at the same
// time.
func manyDeliveriesAreOneMail(t *testing.T, space *integration.Space) {
	t.Helper()
	m := newMailing(t, space)
	events := 10_000
	if integration.Raced {
		events = 1_000
	}
	messages, transcripts := events*7/10, events*3/10
	m.publish(t, events, transcripts)
	m.exhaust(t, events)

	var passing sync.WaitGroup
	for range 3 {
		d := m.dispatcher(t, noticesAhead)
		passing.Go(func() {
			for range 3 {
				if _, err := d.RunOnce(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	passing.Wait()
	m.requireMails(t, 1)
	m.requireMail(t, fmt.Sprintf("%d deliveries to webhook “Archive” failed", events), fmt.Sprintf("  %d × Message Sent (message_sent)", messages),
		fmt.Sprintf("  %d × Room Recording Transcript Published (room_recording_transcript_published)", transcripts), "The last failure: answered 503 Service Unavailable.",
		"https://chat.example/webhooks/"+m.webhook.ID.String())
}

// A process is killed once all is on record and before the mail is due, the next
// one when it is about to send it.
func killedBeforeTheMail(t *testing.T, space *integration.Space) {
	t.Helper()
	m := newMailing(t, space)
	m.publish(t, 20, 5)
	first := m.start(t, 0, "")
	require.True(t, first.reach(20))
	require.NoError(t, first.Process.Kill())
	requireKilled(t, first)
	requireKilled(t, m.start(t, noticesAhead, beforeMail))
	m.requireMails(t, 0)

	m.pass(t, leasesAhead)
	m.requireMails(t, 1)
	m.requireMail(t, "20 deliveries to webhook “Archive” failed", "  15 × Message Sent (message_sent)", "  5 × Room Recording")
}

// A process is killed when the server has taken the mail, before that is on
// record, and then another one is. Whoever comes next cannot know: there is one
// more mail, of the same Message-ID, and then no more.
func killedAfterTheMail(t *testing.T, space *integration.Space) {
	t.Helper()
	m := newMailing(t, space)
	m.publish(t, 20, 5)
	m.exhaust(t, 20)
	requireKilled(t, m.start(t, noticesAhead, afterMail))
	m.requireMails(t, 1)
	requireKilled(t, m.start(t, leasesAhead, afterMail))
	m.requireMails(t, 2)
	m.pass(t, 2*leasesAhead)
	m.requireMails(t, 2)
	require.Equal(t, m.mails()[0].header.Get("Message-ID"), m.mails()[1].header.Get("Message-ID"))
}

// mailing is a webhook whose endpoint is out of order, and an SMTP server.
type mailing struct {
	space   *integration.Space
	webhook webhook.Webhook
	plan    mailPlan

	mu  sync.Mutex
	got []arrivedMail
}

type arrivedMail struct {
	to     []string
	header mail.Header
	text   string // everything, decoded
}

func newMailing(t *testing.T, space *integration.Space) *mailing {
	t.Helper()
	m := &mailing{space: space}
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	certificate, ca := certified.TLS.Certificates, certified.Certificate()
	certified.Close()
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{m: m}, nil }))
	srv.TLSConfig = &tls.Config{Certificates: certificate, MinVersion: tls.VersionTLS12}
	srv.ErrorLog = log.New(io.Discard, "", 0) // clients that are killed
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		_ = l.Close() // which Close does not know of, if Serve has not got so far
		require.NoError(t, <-served)
	})
	m.plan = mailPlan{
		Port: l.Addr().(*net.TCPAddr).Port, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}),
	}
	m.webhook, _, err = newManager(t, space.Store(t)).Create(t.Context(), adminOf(acme), webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://archive.example/in?token=hidden", Subscriptions: []webhook.Subscription{
			{Subject: room, EventType: webhook.EventMessageSent}, {Subject: room, EventType: webhook.EventRoomRecordingTranscriptPublished},
		},
	})
	require.NoError(t, err)
	return m
}

// publish publishes n events, some of them transcripts.
func (m *mailing) publish(t *testing.T, n, transcripts int) {
	t.Helper()
	publisher, err := webhook.NewPublisher(m.space.Store(t), webhook.PublisherConfig{})
	require.NoError(t, err)
	for from := 0; from < n; from += 500 {
		var batch []webhook.Event
		for i := from; i < min(n, from+500); i++ {
			e := message(acme, room)
			if i < transcripts {
				e.Type = webhook.EventRoomRecordingTranscriptPublished
			}
			batch = append(batch, e)
		}
		results, err := publisher.PublishMany(t.Context(), batch)
		require.NoError(t, err)
		for _, r := range results {
			require.NoError(t, r.Err)
			require.Equal(t, 1, r.Deliveries)
		}
	}
}

// dispatcher makes one by a clock that is ahead.
func (m *mailing) dispatcher(t *testing.T, ahead time.Duration, tick ...func()) *webhook.Dispatcher {
	t.Helper()
	plan := m.plan
	plan.Ahead = ahead
	store := &mailStore{Store: m.space.Store(t), plan: &plan, tick: func() {
		for _, f := range tick {
			f()
		}
	}}
	d, err := newMailDispatcher(store, &plan)
	require.NoError(t, err)
	return d
}

// exhaust runs dispatchers until n deliveries have failed for good.
func (m *mailing) exhaust(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	failed := 0
	tick := func() {
		mu.Lock()
		defer mu.Unlock()
		if failed++; failed == n {
			cancel()
		}
	}
	var running sync.WaitGroup
	for range 3 {
		d := m.dispatcher(t, 0, tick)
		running.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	require.Equal(t, n, failed)
	require.Equal(t, n, count(t, m.space, "select count(*) from posthorn_deliveries where state = 2"))
}

// pass looks for notices as of a later time, until none is left.
func (m *mailing) pass(t *testing.T, ahead time.Duration) {
	t.Helper()
	_, err := m.dispatcher(t, ahead).RunOnce(t.Context())
	require.NoError(t, err)
	require.Zero(t, count(t, m.space, "select count(*) from posthorn_notices"))
}

func (m *mailing) start(t *testing.T, ahead time.Duration, die string) *process {
	t.Helper()
	plan := m.plan
	plan.Ahead, plan.Die = ahead, die
	return start(t, m.space, task{Kind: "mail", Mail: &plan})
}

func (m *mailing) mails() []arrivedMail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]arrivedMail(nil), m.got...)
}

func (m *mailing) requireMails(t *testing.T, n int) {
	t.Helper()
	got := m.mails()
	require.Len(t, got, n)
	for _, x := range got {
		require.Equal(t, []string{"owner@acme.example", "admin@acme.example"}, x.to)
		require.NotContains(t, x.text, "hidden")
	}
}

// requireMail checks what the only mail says.
func (m *mailing) requireMail(t *testing.T, subject string, says ...string) {
	t.Helper()
	got := m.mails()[0]
	text, err := new(mime.WordDecoder).DecodeHeader(got.header.Get("Subject"))
	require.NoError(t, err)
	require.Equal(t, subject, text)
	for _, s := range says {
		require.Contains(t, got.text, s)
	}
	t.Logf("%s: mails: %d, Message-ID %s, subject: %s", m.space.Name, len(m.mails()), got.header.Get("Message-ID"), text)
}

// mailSession is one connection to the SMTP server, which takes everything.
type mailSession struct {
	m  *mailing
	to []string
}

func (s *mailSession) Reset()                               { s.to = nil }
func (s *mailSession) Logout() error                        { return nil }
func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	got, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(quotedprintable.NewReader(got.Body)) // boundaries come through as they are
	if err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.got = append(s.m.got, arrivedMail{s.to, got.Header, string(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))})
	return nil
}
