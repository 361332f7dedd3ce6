package smtpnotify_test

import (
	"bytes"
	"flag"
	htmltemplate "html/template"
	"log/slog"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	texttemplate "text/template"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/smtpnotify"
)

var updateMails = flag.Bool("update-mails", false, "write testdata anew")

// sent returns the mail about a notice, as a mail program has it.
func sent(t *testing.T, x webhook.Notice, change func(*smtpnotify.Config)) parsed {
	t.Helper()
	s := newServer(t, script{})
	cfg := s.config()
	if change != nil {
		change(&cfg)
	}
	require.NoError(t, notify(t, cfg, x))
	got := s.accepted()
	require.Len(t, got, 1)
	return parse(t, got[0].raw)
}

func linked(c *smtpnotify.Config) {
	c.Product = "Example Chat"
	c.Link = func(n webhook.Notice) string {
		return "https://chat.example/admin/webhooks/" + n.WebhookID.String() + "?since=" + n.FirstAt.Format("2006-01-02T15:04Z") + "&tab=log"
	}
}

// TestMails compares whole mails with testdata.
func TestMails(t *testing.T) {
	t.Parallel()
	one := newNotice()
	one.Deliveries, one.EventTypes, one.LastAt = 1, map[webhook.EventType]int{"invoice_paid": 1}, one.FirstAt
	deactivated := newNotice()
	deactivated.Kind, deactivated.Reason = webhook.NoticeDeactivated, webhook.DeactivatedFailing
	deactivated.FailingSince, deactivated.DeactivatedAt = deactivated.FirstAt.Add(-72*time.Hour), deactivated.LastAt
	gone := webhook.Notice{
		ID: one.ID, Kind: webhook.NoticeDeactivated, Reason: webhook.DeactivatedGone, DeactivatedAt: one.FirstAt,
		OrganizationID: "acme", WebhookID: one.WebhookID, WebhookName: "Archive", EndpointHost: "archive.example",
	}
	other := webhook.Notice{ID: one.ID, Kind: "renamed", OrganizationID: "acme", WebhookID: one.WebhookID, WebhookName: "Archive", EndpointHost: "archive.example"}
	for name, tc := range map[string]struct {
		notice webhook.Notice
		change func(*smtpnotify.Config)
	}{
		"exhausted":   {newNotice(), linked},
		"one":         {one, nil},
		"deactivated": {deactivated, linked},
		"gone":        {gone, nil},
		"other":       {other, linked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := sent(t, tc.notice, tc.change)
			for ext, got := range map[string]string{".txt": "Subject: " + m.subject + "\n\n" + m.text, ".html": m.html} {
				file := filepath.Join("testdata", name+ext)
				if *updateMails {
					require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				}
				want, err := os.ReadFile(file)
				require.NoError(t, err)
				require.Equal(t, string(want), got, "%s; if that is meant, run go test . -run Mails -update-mails", file)
			}
		})
	}
}

// TestNothingIsInjected puts what does harm into everything that others choose.
func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	const (
		lines  = "x\r\nBcc: eve@evil.example\r\n\r\n.\r\nMAIL FROM:<eve@evil.example>\n"
		hidden = "a\u202Eb\u2066c\u200Bd\x1b[31me\x07f\u0085g\u2028h\uFEFFi\x00j\u00ADk"
		markup = `<script>alert(1)</script><img src=x onerror="alert(2)">{{.Secret}}`
	)
	for name, text := range map[string]string{"Lines": lines, "Hidden": hidden, "Markup": markup, "BadUTF8": "a\xffb\xc3", "Long": strings.Repeat("long ", 500)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, script{})
			cfg := s.config()
			cfg.Product, cfg.From.Name = text, text
			cfg.Recipients = to("ada@acme.example")
			x := newNotice()
			x.OrganizationID, x.WebhookName, x.EndpointHost, x.LastError = text, text, text, text
			x.LastErrorClass, x.Kind, x.Reason = webhook.ErrorClass(text), webhook.NoticeKind(text), webhook.DeactivationReason(text)
			x.EventTypes = map[webhook.EventType]int{webhook.EventType(text): 12}
			for _, kind := range []webhook.NoticeKind{x.Kind, webhook.NoticeExhausted} {
				x.Kind = kind
				require.NoError(t, notify(t, cfg, x))
			}
			got := s.messages()
			require.Len(t, got, 2)
			for _, a := range got {
				require.Equal(t, "hooks@chat.example", a.from)
				require.Equal(t, []string{"ada@acme.example"}, a.to)
				m := parse(t, a.raw)
				var names []string
				for name := range m.header {
					names = append(names, name)
				}
				require.ElementsMatch(t, []string{
					"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To", "X-Auto-Response-Suppress",
				}, names)
				from, err := m.header.AddressList("From")
				require.NoError(t, err)
				require.Len(t, from, 1)
				require.Equal(t, "hooks@chat.example", from[0].Address)
				for _, part := range []string{m.subject, from[0].Name, m.text, m.html} {
					require.NotContains(t, strings.ReplaceAll(part, "\n", ""), "\r")
					for _, r := range "\u202E\u2066\u200B\x1b\x07\u0085\u2028\uFEFF\x00\u00AD" {
						require.NotContains(t, part, string(r))
					}
				}
				require.NotContains(t, m.subject, "\n")
				require.NotContains(t, m.text, "\nBcc:")
				require.NotContains(t, m.html, "<script")
				require.NotContains(t, m.html, "<img")
				for line := range bytes.SplitSeq(a.raw, []byte("\r\n")) {
					require.LessOrEqual(t, len(line), 998)
				}
			}
		})
	}
}

// Notices have none of it. Should somebody's store put it there all the same, it
// does not go further.
func TestNoSecretsAndNoQueryStrings(t *testing.T) {
	t.Parallel()
	x := newNotice()
	x.EndpointHost = "https://user:hidden1@archive.example:8443/in?token=hidden2"
	x.LastError = `Post "https://user:hidden3@archive.example/services/hidden4?token=hidden5": signed with whsec_hidden6Zm9v: refused`
	for _, host := range []string{x.EndpointHost, "archive.example?token=hidden2"} {
		x.EndpointHost = host
		m := sent(t, x, nil)
		for _, part := range []string{m.subject, m.text, m.html} {
			require.NotContains(t, part, "hidden")
			require.NotContains(t, part, "8443")
		}
		require.Contains(t, m.text, "to archive.example is failing")
		require.Contains(t, m.text, `Post "https://archive.example": signed with whsec_…: refused`)
	}
}

func TestTemplatesOfTheHost(t *testing.T) {
	t.Parallel()
	m := sent(t, newNotice(), func(c *smtpnotify.Config) {
		linked(c)
		c.Subject = texttemplate.Must(texttemplate.New("").Parse("Zustellung an {{.WebhookName}}\ngescheitert"))
		c.Text = texttemplate.Must(texttemplate.New("").Parse("{{range .Events}}{{.Deliveries}} {{.Type}};{{end}} {{.LastFailure}} {{.Link}} {{.Product}}"))
		c.HTML = htmltemplate.Must(htmltemplate.New("").Parse(`<p lang="de">{{.EndpointHost}}</p><a href="{{.Link}}">los</a>`))
	})
	require.Equal(t, "Zustellung an Archive gescheitert", m.subject)
	const link = "https://chat.example/admin/webhooks/019b797c-8e00-7d3a-9f00-000000000001?since=2026-01-01T12:00Z&tab=log"
	require.Equal(t, "9 message_sent;3 room_recording_transcript_published; answered 502 Bad Gateway "+link+" Example Chat", m.text)
	require.Equal(t, `<p lang="de">archive.example</p><a href="`+strings.ReplaceAll(link, "&", "&amp;")+`">los</a>`, m.html)
}

func TestATemplateThatFailsSendsNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t, script{})
	cfg := s.config()
	cfg.Text = texttemplate.Must(texttemplate.New("").Parse(`{{if gt .Deliveries 10}}{{index .Events 99}}{{end}}`)) // not with the sample
	requireNotSent(t, notify(t, cfg, newNotice()))
	require.Empty(t, s.messages())
}

func TestLinks(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]bool{
		"https://chat.example/admin":             true,
		"http://localhost:8080/admin?a=1&b=2":    true,
		"https://chat.example/räume/世界":          true,
		"":                                       false,
		"/admin":                                 false,
		"javascript:alert(1)":                    false,
		"mailto:ada@acme.example":                false,
		"https://":                               false,
		"https://chat.example/\r\nBcc: e@e.test": false,
		"https://chat.example/\u202Egnp":         false,
		"https://chat.example/a b":               false,
	} {
		var log bytes.Buffer
		m := sent(t, newNotice(), func(c *smtpnotify.Config) {
			c.Link = func(webhook.Notice) string { return link }
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		require.Equal(t, want, strings.Contains(m.html, "Open the webhook"), "%q", link)
		require.Equal(t, !want, strings.Contains(log.String(), "a link was left out"), "%q", link)
		require.Equal(t, want, strings.Contains(m.text, "://"), "%q", link)
	}
}

func TestTheCatalogHasTheTitles(t *testing.T) {
	t.Parallel()
	catalog, err := webhook.NewCatalog([]webhook.SubjectTypeInfo{{Type: "account", Title: "Account"}},
		[]webhook.EventTypeInfo{{Type: "invoice_paid", Title: "Invoice <paid>"}})
	require.NoError(t, err)
	x := newNotice()
	x.EventTypes = map[webhook.EventType]int{"invoice_paid": 5, "invoice_lost": 7}
	m := sent(t, x, func(c *smtpnotify.Config) { c.Catalog = catalog })
	require.Contains(t, m.text, "\n  7 × invoice_lost\n  5 × Invoice <paid> (invoice_paid)\n")
	require.Contains(t, m.html, "Invoice &lt;paid&gt;")
}

func TestMessageIDIsTheNoticesOwn(t *testing.T) {
	t.Parallel()
	first := newNotice()
	again := first
	again.Deliveries, again.LastAt = first.Deliveries+100, first.LastAt.Add(1e9) // counted meanwhile
	next := first
	next.ID[0]++
	id := func(x webhook.Notice) string { return sent(t, x, nil).header.Get("Message-ID") }
	require.Equal(t, id(first), id(again))
	require.NotEqual(t, id(first), id(next))
}

func TestRecipientNames(t *testing.T) {
	t.Parallel()
	m := sent(t, newNotice(), func(c *smtpnotify.Config) {
		c.From = mail.Address{Name: "Chat\r\nBcc: eve@evil.example", Address: "hooks@chat.example"}
	})
	require.Equal(t, `"Chat  Bcc: eve@evil.example" <hooks@chat.example>`, m.header.Get("From"))
}
