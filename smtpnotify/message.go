package smtpnotify

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Content is what templates are given. Each text in it is one line of valid
// UTF-8 without control, bidirectional and invisible characters; HTML is escaped by
// html/template.
type Content struct {
	webhook.Notice // times are UTC

	// Events are the EventTypes of the notice, the most frequent first.
	Events []EventCount

	// MissedSince is from when on the webhook is to be recovered: the first of the
	// moments that the notice knows. It may be zero.
	MissedSince time.Time

	// LastFailure is the last failure in words; never empty.
	LastFailure string

	Link    string // from Config.Link; may be empty
	Product string // from Config; may be empty
}

// EventCount is how many deliveries of an event type have failed.
type EventCount struct {
	Type       webhook.EventType
	Title      string // the catalog's, or else the type itself
	Deliveries int
}

//go:embed templates
var files embed.FS

// letter is a mail as people read it.
type letter struct {
	subject, text, html string
}

// prepareTemplates puts the package's templates where there are none, and tries
// all of them.
func (c *Config) prepareTemplates() error {
	if c.Subject == nil {
		c.Subject = texttemplate.Must(texttemplate.ParseFS(files, "templates/subject.txt"))
	}
	if c.Text == nil {
		c.Text = texttemplate.Must(texttemplate.ParseFS(files, "templates/notice.txt"))
	}
	if c.HTML == nil {
		c.HTML = htmltemplate.Must(htmltemplate.ParseFS(files, "templates/notice.html"))
	}
	for _, kind := range []webhook.NoticeKind{webhook.NoticeExhausted, webhook.NoticeDeactivated} {
		if _, err := c.execute(c.content(sample(kind), "https://example.com/webhooks")); err != nil {
			return err
		}
	}
	return nil
}

// sample is a notice to try templates with.
func sample(kind webhook.NoticeKind) webhook.Notice {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	x := webhook.Notice{
		ID: uuid.Max, Kind: kind, OrganizationID: "acme", WebhookID: uuid.Max, WebhookName: "Archive", EndpointHost: "archive.example",
		Deliveries: 2, EventTypes: map[webhook.EventType]int{webhook.EventMessageSent: 2}, FirstAt: at, LastAt: at,
		LastStatusCode: http.StatusBadGateway, LastErrorClass: webhook.ErrorStatus, LastError: "answered 502 Bad Gateway",
	}
	if kind == webhook.NoticeDeactivated {
		x.Reason, x.DeactivatedAt, x.FailingSince = webhook.DeactivatedFailing, at, at
	}
	return x
}

// render writes the mail about a notice.
func (n *Notifier) render(x webhook.Notice) (letter, error) {
	return n.cfg.execute(n.cfg.content(x, n.link(x)))
}

// link is where people look after the webhook, or nothing.
func (n *Notifier) link(x webhook.Notice) string {
	if n.cfg.Link == nil {
		return ""
	}
	link := n.cfg.Link(x)
	u, err := url.Parse(link)
	if err == nil && (u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		err = errors.New("not an absolute https or http URL")
	}
	if err == nil && strings.ContainsFunc(link, func(r rune) bool { return unicode.IsSpace(r) || removed(r) }) {
		err = errors.New("has spaces or invisible characters")
	}
	if err != nil {
		n.cfg.Logger.Warn("smtpnotify: a link was left out", "organization_id", x.OrganizationID, "webhook_id", x.WebhookID,
			"notice_id", x.ID, "error", err)
		return ""
	}
	return u.String()
}

func (c *Config) content(x webhook.Notice, link string) Content {
	x.Kind = webhook.NoticeKind(clean(string(x.Kind)))
	x.OrganizationID, x.WebhookName = clean(x.OrganizationID), clean(x.WebhookName)
	x.EndpointHost = hostOf(clean(x.EndpointHost))
	x.FirstAt, x.LastAt, x.DeactivatedAt, x.FailingSince = x.FirstAt.UTC(), x.LastAt.UTC(), x.DeactivatedAt.UTC(), x.FailingSince.UTC()
	x.Reason = webhook.DeactivationReason(clean(string(x.Reason)))
	x.LastErrorClass, x.LastError = webhook.ErrorClass(clean(string(x.LastErrorClass))), redact(clean(x.LastError))
	out := Content{Link: link, Product: clean(c.Product), LastFailure: x.LastError}
	if out.LastFailure == "" {
		out.LastFailure = "the delivery failed without a reason"
		if x.LastStatusCode != 0 {
			out.LastFailure = strings.TrimSpace(fmt.Sprintf("answered %d %s", x.LastStatusCode, http.StatusText(x.LastStatusCode)))
		}
	}
	for _, t := range []time.Time{x.FirstAt, x.FailingSince, x.DeactivatedAt} {
		if out.MissedSince.IsZero() || !t.IsZero() && t.Before(out.MissedSince) {
			out.MissedSince = t
		}
	}
	types := map[webhook.EventType]int{}
	for t, n := range x.EventTypes {
		types[webhook.EventType(clean(string(t)))] += n
	}
	x.EventTypes = types
	for t, n := range types {
		e := EventCount{Type: t, Title: string(t), Deliveries: n}
		if info, ok := c.Catalog.EventType(t); ok {
			e.Title = clean(info.Title)
		}
		out.Events = append(out.Events, e)
	}
	slices.SortFunc(out.Events, func(a, b EventCount) int {
		return cmp.Or(cmp.Compare(b.Deliveries, a.Deliveries), cmp.Compare(a.Type, b.Type))
	})
	out.Notice = x
	return out
}

func (c *Config) execute(x Content) (letter, error) {
	var subject, text, html bytes.Buffer
	if err := c.Subject.Execute(&subject, x); err != nil {
		return letter{}, fmt.Errorf("subject: %w", err)
	}
	if err := c.Text.Execute(&text, x); err != nil {
		return letter{}, fmt.Errorf("text: %w", err)
	}
	if err := c.HTML.Execute(&html, x); err != nil {
		return letter{}, fmt.Errorf("html: %w", err)
	}
	return letter{clean(subject.String()), text.String(), html.String()}, nil
}

// message is the mail as it travels.
func (n *Notifier) message(x webhook.Notice, l letter, to []mail.Address) *gomail.Msg {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(&n.cfg.From)
	if n.cfg.HideRecipients {
		m.SetGenHeaderPreformatted("To", "undisclosed-recipients:;")
	} else {
		for _, a := range to {
			m.AddToMailAddress(&a)
		}
	}
	m.Subject(l.subject)
	m.SetDate()
	m.SetMessageIDWithValue("webhook-notice-" + x.ID.String() + "@" + n.domain)
	// No vacation replies (RFC 3834, and what Exchange knows).
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetGenHeader("X-Auto-Response-Suppress", "All")
	m.SetBodyString(gomail.TypeTextPlain, l.text)
	m.AddAlternativeString(gomail.TypeTextHTML, l.html)
	return m
}

// removed holds for characters that people do not see, or that change how they
// see others. The joiners stay: several scripts and emoji need them.
func removed(r rune) bool {
	switch {
	case r == '\u200C' || r == '\u200D':
		return false
	case r >= 0xFE00 && r <= 0xFE0F: // how to show the emoji before it
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// clean returns s as one line of what people can see.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r) || r == '\u2028' || r == '\u2029':
			return ' '
		case removed(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	return strings.TrimSpace(s)
}

// cleanAddress returns an address that headers and envelopes can have, and false
// if there is none.
func cleanAddress(a mail.Address) (mail.Address, bool) {
	parsed, err := mail.ParseAddress(a.Address)
	if err != nil || strings.ContainsFunc(parsed.Address, removed) {
		return mail.Address{Address: clean(a.Address)}, false
	}
	return mail.Address{Name: clean(a.Name), Address: parsed.Address}, true
}

// hostOf cuts from an endpoint what is no host: notices have none of it, but may
// come from others than this project's stores.
func hostOf(s string) string {
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		return u.Hostname()
	}
	host, _, _ := strings.Cut(s, "?")
	return host
}

var (
	urls    = regexp.MustCompile(`(?i)\b(https?)://(?:[^\s/?#]*@)?([^\s/?#"']+)[^\s"']*`)
	secrets = regexp.MustCompile(`whsec_[A-Za-z0-9+/=_-]+`)
)

// redact does the same with an error's text: of URLs the host stays, of secrets
// nothing.
func redact(s string) string {
	return secrets.ReplaceAllString(urls.ReplaceAllString(s, "$1://$2"), "whsec_…")
}
