package smtpnotify_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/mail"
	"strings"
	"testing"
	texttemplate "text/template"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/smtpnotify"
)

// to is a Config.Recipients that tells everybody of every organization.
func to(addresses ...string) func(context.Context, string) ([]mail.Address, error) {
	var out []mail.Address
	for _, a := range addresses {
		out = append(out, mail.Address{Address: a})
	}
	return func(context.Context, string) ([]mail.Address, error) { return out, nil }
}

func newNotice() webhook.Notice {
	return webhook.Notice{
		ID: uuid.MustParse("019b797c-8e00-7d3a-9f00-5b1c2d3e4f50"), Kind: webhook.NoticeExhausted,
		OrganizationID: "acme", WebhookID: uuid.MustParse("019b797c-8e00-7d3a-9f00-000000000001"),
		WebhookName: "Archive", EndpointHost: "archive.example",
		Deliveries: 12, EventTypes: map[webhook.EventType]int{webhook.EventMessageSent: 9, webhook.EventRoomRecordingTranscriptPublished: 3},
		FirstAt:        time.Date(2026, 1, 1, 12, 0, 0, 123000, time.UTC),
		LastAt:         time.Date(2026, 1, 1, 13, 30, 0, 0, time.UTC),
		LastStatusCode: 502, LastErrorClass: webhook.ErrorStatus, LastError: "answered 502 Bad Gateway",
	}
}

func newNotifier(t *testing.T, cfg smtpnotify.Config) *smtpnotify.Notifier {
	t.Helper()
	n, err := smtpnotify.New(cfg)
	require.NoError(t, err)
	return n
}

// notify sends one notice to a server, as most tests do.
func notify(t *testing.T, cfg smtpnotify.Config, x webhook.Notice) error {
	t.Helper()
	return newNotifier(t, cfg).Notify(t.Context(), x)
}

// requireNotSent checks an error after which the dispatcher tries again for as
// long as it takes.
func requireNotSent(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, webhook.ErrOutcomeUnknown)
}

func TestSends(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		script script
		change func(*smtpnotify.Config)
		tls    bool
		users  []string
	}{
		"StartTLS":    {script{}, func(*smtpnotify.Config) {}, true, nil},
		"ImplicitTLS": {script{implicit: true}, func(c *smtpnotify.Config) { c.TLS = smtpnotify.ImplicitTLS }, true, nil},
		"PlainText":   {script{noTLS: true}, func(c *smtpnotify.Config) { c.TLS = smtpnotify.PlainText }, false, nil},
		"PLAIN": {script{username: "hooks", password: "s3cret"}, func(c *smtpnotify.Config) {
			c.Username, c.Password = "hooks", "s3cret"
		}, true, []string{"hooks"}},
		"LOGIN": {script{username: "hooks", password: "s3cret", login: true, implicit: true}, func(c *smtpnotify.Config) {
			c.TLS, c.Username, c.Password = smtpnotify.ImplicitTLS, "hooks", "s3cret"
		}, true, []string{"hooks"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, tc.script)
			cfg := s.config()
			tc.change(&cfg)
			require.NoError(t, notify(t, cfg, newNotice()))
			got := s.accepted()
			require.Len(t, got, 1)
			require.Equal(t, "hooks@chat.example", got[0].from)
			require.Equal(t, []string{"ada@acme.example"}, got[0].to)
			require.Equal(t, tc.tls, got[0].tls)
			require.False(t, got[0].utf8, "not needed")
			require.Equal(t, tc.users, s.users)
			m := parse(t, got[0].raw)
			require.Equal(t, `"Example Chat" <hooks@chat.example>`, m.header.Get("From"))
			require.Equal(t, "<ada@acme.example>", m.header.Get("To"))
			require.Equal(t, "<webhook-notice-019b797c-8e00-7d3a-9f00-5b1c2d3e4f50@chat.example>", m.header.Get("Message-ID"))
			require.Equal(t, "auto-generated", m.header.Get("Auto-Submitted"))
			_, err := m.header.Date()
			require.NoError(t, err)
		})
	}
}

// What the server refuses has not been sent, whatever it refuses, and at
// whatever step.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		script script
		change func(*smtpnotify.Config)
		says   string
	}{
		"NoTLSOffered": {script: script{noTLS: true}, says: "does not offer STARTTLS"},
		"UnknownCertificate": {change: func(c *smtpnotify.Config) {
			c.TLSConfig = nil
		}, says: "certificate"},
		"CertificateOfAnotherHost": {change: func(c *smtpnotify.Config) {
			c.TLSConfig.ServerName = "mail.elsewhere.test"
		}, says: "certificate"},
		"UnknownCertificateImplicit": {script: script{implicit: true}, change: func(c *smtpnotify.Config) {
			c.TLS, c.TLSConfig = smtpnotify.ImplicitTLS, nil
		}, says: "certificate"},
		"WrongPassword": {script: script{username: "hooks", password: "s3cret"}, change: func(c *smtpnotify.Config) {
			c.Username, c.Password = "hooks", "guessed-wrong"
		}, says: "auth"},
		"NoAuthOffered": {change: func(c *smtpnotify.Config) {
			c.Username, c.Password = "hooks", "guessed-wrong"
		}, says: "auth"},
		"Sender":             {script: script{mail: func(string) error { return errNoSuchUser }}, says: "mail from: 550"},
		"SenderForNow":       {script: script{mail: func(string) error { return errTryLater }}, says: "mail from: 451"},
		"EveryRecipient":     {script: script{rcpt: func(string) error { return errNoSuchUser }}, says: "every recipient"},
		"EveryoneForNow":     {script: script{rcpt: func(string) error { return errTryLater }}, says: "every recipient"},
		"TheMessage":         {script: script{data: func(int, *smtp.Conn) error { return errNoSuchUser }}, says: "data: 550"},
		"TheMessageForNow":   {script: script{data: func(int, *smtp.Conn) error { return errTryLater }}, says: "data: 451"},
		"BrokenOffAtSender":  {script: script{mail: func(string) error { panic("the session dies") }}, says: "mail from"},
		"NobodyListens":      {change: func(c *smtpnotify.Config) { c.Port = 1 }, says: "connect"},
		"RecipientsNotKnown": {change: func(c *smtpnotify.Config) { c.Recipients = unknownRecipients }, says: "the directory is away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, tc.script)
			cfg := s.config()
			if tc.change != nil {
				tc.change(&cfg)
			}
			err := notify(t, cfg, newNotice())
			requireNotSent(t, err)
			require.ErrorContains(t, err, tc.says)
			require.NotContains(t, err.Error(), "guessed-wrong")
			require.Empty(t, s.accepted())
		})
	}
}

func unknownRecipients(context.Context, string) ([]mail.Address, error) {
	return nil, errors.New("the directory is away")
}

func TestARecipientThatIsRefusedKeepsNobodyElseFromTheMail(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{rcpt: func(to string) error {
		return map[string]error{"gone@acme.example": errNoSuchUser, "full@acme.example": errTryLater}[to]
	}})
	cfg := s.config()
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	cfg.Recipients = to("gone@acme.example", "ada@acme.example", "full@acme.example", "bob@acme.example")
	require.NoError(t, notify(t, cfg, newNotice()))
	got := s.accepted()
	require.Len(t, got, 1)
	require.Equal(t, []string{"ada@acme.example", "bob@acme.example"}, got[0].to)
	require.Equal(t, "<ada@acme.example>, <bob@acme.example>", parse(t, got[0].raw).header.Get("To"))
	require.Equal(t, 2, strings.Count(log.String(), "a recipient was left out"))
	require.Contains(t, log.String(), "gone@acme.example")
	require.Contains(t, log.String(), "full@acme.example")
}

func TestManyRecipientsGetOneMail(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	cfg := s.config()
	all := manyAddresses(smtpnotify.MaxRecipients + 20)
	cfg.Recipients = to(append([]string{"ADMIN0@acme.example"}, all...)...) // one of them twice
	require.NoError(t, notify(t, cfg, newNotice()))
	got := s.accepted()
	require.Len(t, got, 1)
	want := append([]string{"ADMIN0@acme.example"}, all[1:smtpnotify.MaxRecipients]...)
	require.Equal(t, want, got[0].to)
	list, err := parse(t, got[0].raw).header.AddressList("To")
	require.NoError(t, err)
	require.Len(t, list, smtpnotify.MaxRecipients)
	for line := range bytes.SplitSeq(got[0].raw, []byte("\r\n")) {
		require.LessOrEqual(t, len(line), 998, "RFC 5322, section 2.1.1")
	}
}

func TestRecipientsAreHidden(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	cfg := s.config()
	cfg.HideRecipients = true
	cfg.Recipients = to("ada@acme.example", "bob@acme.example")
	require.NoError(t, notify(t, cfg, newNotice()))
	got := s.accepted()
	require.Len(t, got, 1)
	require.Equal(t, []string{"ada@acme.example", "bob@acme.example"}, got[0].to)
	require.NotContains(t, string(got[0].raw), "acme.example")
	require.Equal(t, "undisclosed-recipients:;", parse(t, got[0].raw).header.Get("To"))
}

func TestNobodyToTell(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	cfg := s.config()
	cfg.Recipients = to("", "nobody", "ada@acme.example>\r\nRCPT TO:<eve@evil.example", "a@b\r\nBcc: eve@evil.example")
	require.NoError(t, notify(t, cfg, newNotice()))
	require.Empty(t, s.messages())
}

func TestRecipientsAreOfTheOrganization(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	cfg := s.config()
	cfg.Recipients = func(_ context.Context, organization string) ([]mail.Address, error) {
		return []mail.Address{{Address: "owner@" + organization + ".example"}}, nil
	}
	x := newNotice()
	x.OrganizationID = "umbrella"
	require.NoError(t, notify(t, cfg, x))
	require.Equal(t, []string{"owner@umbrella.example"}, s.accepted()[0].to)
}

func TestNamesBeyondASCII(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	cfg := s.config()
	cfg.From.Name = "Çhat für 世界"
	cfg.Recipients = func(context.Context, string) ([]mail.Address, error) {
		return []mail.Address{{Name: "Zoë 🎺, the \"Owner\"", Address: "zoe@acme.example"}}, nil
	}
	x := newNotice()
	x.WebhookName = strings.Repeat("Архив 世界 😀 ", 9)
	require.NoError(t, notify(t, cfg, x))
	got := s.accepted()
	require.Len(t, got, 1)
	for _, b := range got[0].raw {
		require.Less(t, b, byte(0x80), "any server takes it")
	}
	m := parse(t, got[0].raw)
	list, err := m.header.AddressList("To")
	require.NoError(t, err)
	require.Equal(t, []*mail.Address{{Name: "Zoë 🎺, the \"Owner\"", Address: "zoe@acme.example"}}, list)
	list, err = m.header.AddressList("From")
	require.NoError(t, err)
	require.Equal(t, []*mail.Address{{Name: "Çhat für 世界", Address: "hooks@chat.example"}}, list)
	name := strings.TrimSpace(x.WebhookName)
	require.Contains(t, m.subject, name)
	require.Contains(t, m.text, name)
	require.Contains(t, m.html, name)
}

func TestAddressesBeyondASCII(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		utf8 bool
		to   []string
	}{
		"Offered":    {true, []string{"ada@acme.example", "zoë@acme.example", `"a b"@acme.example`}},
		"NotOffered": {false, []string{"ada@acme.example", `"a b"@acme.example`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, script{utf8: tc.utf8})
			cfg := s.config()
			cfg.Recipients = to("ada@acme.example", "zoë@acme.example", `"a b"@acme.example`)
			require.NoError(t, notify(t, cfg, newNotice()))
			got := s.accepted()
			require.Len(t, got, 1)
			require.Equal(t, tc.utf8, got[0].utf8)
			list, err := parse(t, got[0].raw).header.AddressList("To")
			require.NoError(t, err)
			require.Len(t, list, len(tc.to))
			require.Len(t, got[0].to, len(tc.to))
		})
	}
}

// A server that has read the whole message and then says nothing may have taken
// it.
func TestUnknownOutcomes(t *testing.T) {
	t.Parallel()
	t.Run("BrokenOffAfterTheMessage", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, script{data: breakOff})
		require.ErrorIs(t, notify(t, s.config(), newNotice()), webhook.ErrOutcomeUnknown)
		require.Len(t, s.messages(), 1)
	})
	t.Run("NoAnswerInTime", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		s := newServer(t, script{data: func(int, *smtp.Conn) error {
			cancel() // the message is there
			<-ended
			return errBroken
		}})
		err := newNotifier(t, s.config()).Notify(ctx, newNotice())
		close(ended)
		require.ErrorIs(t, err, webhook.ErrOutcomeUnknown)
	})
	t.Run("AnswerJustInTime", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		s := newServer(t, script{data: func(int, *smtp.Conn) error {
			cancel() // the caller gives up, but listens for a moment
			return nil
		}})
		require.NoError(t, newNotifier(t, s.config()).Notify(ctx, newNotice()))
		require.Len(t, s.accepted(), 1)
	})
}

// A message that is not complete is not sent: servers drop it.
func TestBrokenOffWithinTheMessage(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{noTLS: true, cut: func(c *smtp.Conn) { _ = c.Conn().Close() }})
	cfg := s.config()
	cfg.TLS = smtpnotify.PlainText
	// More than the buffers of a connection hold.
	cfg.Text = texttemplate.Must(texttemplate.New("").Parse(strings.Repeat(strings.Repeat("All of it. ", 6)+"\n", 1<<18)))
	requireNotSent(t, notify(t, cfg, newNotice()))
	require.Empty(t, s.messages())
}

// Slow servers are given up before the dispatcher gives up.
func TestSlowServers(t *testing.T) {
	t.Parallel()
	t.Run("SaysNothing", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		cfg := newServer(t, script{}).config()
		cfg.Port, cfg.Timeout = l.Addr().(*net.TCPAddr).Port, 50*time.Millisecond
		err = notify(t, cfg, newNotice())
		requireNotSent(t, err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("NoTLSHandshake", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		cfg := newServer(t, script{}).config()
		cfg.TLS, cfg.Port, cfg.Timeout = smtpnotify.ImplicitTLS, l.Addr().(*net.TCPAddr).Port, 50*time.Millisecond
		requireNotSent(t, notify(t, cfg, newNotice()))
	})
	t.Run("HangsAtTheRecipient", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		s := newServer(t, script{rcpt: func(string) error {
			cancel()
			<-ended
			return nil
		}})
		err := newNotifier(t, s.config()).Notify(ctx, newNotice())
		close(ended)
		requireNotSent(t, err)
		require.Empty(t, s.messages())
	})
	t.Run("Timeout", func(t *testing.T) {
		t.Parallel()
		ended := make(chan struct{})
		s := newServer(t, script{data: func(int, *smtp.Conn) error {
			<-ended
			return errBroken
		}})
		cfg := s.config()
		cfg.Timeout = 300 * time.Millisecond
		err := notify(t, cfg, newNotice())
		close(ended)
		require.Error(t, err)
		if len(s.messages()) > 0 { // else the machine was slower than the server
			require.ErrorIs(t, err, webhook.ErrOutcomeUnknown)
		}
	})
}

func TestNewReportsEveryFault(t *testing.T) {
	t.Parallel()
	_, err := smtpnotify.New(smtpnotify.Config{})
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	require.Equal(t, webhook.ValidationErrors{
		{Field: "host", Reason: "is required"}, {Field: "from", Reason: "must have an address"}, {Field: "recipients", Reason: "is required"},
	}, faults)

	for name, tc := range map[string]struct {
		change func(*smtpnotify.Config)
		field  string
	}{
		"HostWithPort":     {func(c *smtpnotify.Config) { c.Host = "mail.example/x" }, "host"},
		"HostWithLines":    {func(c *smtpnotify.Config) { c.Host = "mail.example\r\n" }, "host"},
		"Port":             {func(c *smtpnotify.Config) { c.Port = 70000 }, "port"},
		"TLS":              {func(c *smtpnotify.Config) { c.TLS = "none" }, "tls"},
		"PlainCredentials": {func(c *smtpnotify.Config) { c.TLS, c.Username, c.Password = smtpnotify.PlainText, "a", "b" }, "tls"},
		"NoPassword":       {func(c *smtpnotify.Config) { c.Username = "a" }, "username"},
		"LocalName":        {func(c *smtpnotify.Config) { c.LocalName = "here\r\nMAIL FROM:<a>" }, "local_name"},
		"From":             {func(c *smtpnotify.Config) { c.From.Address = "a@b\r\nBcc: eve@evil.example" }, "from"},
		"Timeout":          {func(c *smtpnotify.Config) { c.Timeout = -1 }, "timeout"},
		"Template":         {func(c *smtpnotify.Config) { c.Text = texttemplate.Must(texttemplate.New("").Parse("{{.Secret}}")) }, "templates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := smtpnotify.Config{Host: "mail.example", From: mail.Address{Address: "hooks@chat.example"}, Recipients: to()}
			_, err := smtpnotify.New(cfg)
			require.NoError(t, err)
			tc.change(&cfg)
			_, err = smtpnotify.New(cfg)
			var faults webhook.ValidationErrors
			require.ErrorAs(t, err, &faults)
			require.Len(t, faults, 1)
			require.Equal(t, tc.field, faults[0].Field)
		})
	}
}

func TestTLSIsNotWeakened(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	cfg := s.config()
	given := &tls.Config{RootCAs: s.roots} // without MinVersion
	cfg.TLSConfig = given
	require.NoError(t, notify(t, cfg, newNotice()))
	require.Zero(t, given.MinVersion, "it is the caller's")
	require.Empty(t, given.ServerName)
}
