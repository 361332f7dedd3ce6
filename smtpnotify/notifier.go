// Package smtpnotify is a [webhook.Notifier] that sends each notice as one mail
// through an SMTP server: to the people of the webhook's organization, whom the
// host names.
//
// A mail says which webhook it is about and where that leads, how many
// deliveries of which event types have failed for good and since when, what the
// last failure was, and what to do now. It has no secret, no payload, and of the
// endpoint only the host.
//
// # How often a mail is sent
//
// A notice is one mail, however many deliveries it counts, and the same
// Message-ID each time that it is tried. SMTP cannot do it exactly once: between
// the last byte of a message and the server's answer to it, a connection may
// break, and then nobody knows. So Notify tells three outcomes apart:
//
//   - The server has accepted the message. Notify returns nil.
//   - It has not: it could not be reached, refused something on the way, or broke
//     off before the message was complete. The dispatcher tries again, with
//     growing waits, for as long as it takes.
//   - The message was complete, and the server's answer to it never came. Notify
//     returns [webhook.ErrOutcomeUnknown], and the dispatcher tries once more; so
//     does another one if the process dies meanwhile. Whatever becomes of that, if
//     it is unknown again, nothing more is sent. So a mail may arrive twice, and,
//     if a server takes messages, says nothing and forgets them, never.
package smtpnotify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log/slog"
	"net/mail"
	"os"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/posthorn/webhook"
)

// TLSMode says how the connection to the server is encrypted.
type TLSMode string

// The modes. None falls back to another one.
const (
	StartTLS    TLSMode = ""         // by STARTTLS; a server that does not offer it gets nothing
	ImplicitTLS TLSMode = "implicit" // from the first byte
	PlainText   TLSMode = "plain"    // not at all, for a relay on the same host; without credentials
)

// MaxRecipients is how many people get a mail: as many as every server must
// take at once (RFC 5321, section 4.5.3.1.8). Further ones are left out.
const MaxRecipients = 100

const defaultTimeout = 25 * time.Second

// Config configures [New]. Host, From and Recipients are required.
type Config struct {
	// Host is the server's name, which its certificate has to be for. Required.
	Host string

	// Port is the server's. Defaults to 587, with ImplicitTLS 465, with PlainText 25.
	Port int

	// TLS says how the connection is encrypted. Defaults to StartTLS.
	TLS TLSMode

	// TLSConfig is used for it, with Host in place of an empty ServerName and TLS
	// 1.2 in place of no MinVersion. Defaults to the system's authorities.
	TLSConfig *tls.Config

	// Username and Password authenticate, by the best of SCRAM, PLAIN, LOGIN and
	// CRAM-MD5 that the server offers. Defaults to no authentication.
	Username, Password string

	// LocalName is what this host calls itself to the server. Defaults to the system's host name.
	LocalName string

	// From is the sender, also of the envelope. Required.
	From mail.Address

	// Recipients returns whom to tell of an organization's webhooks: its owners
	// and admins. Its error means that the notice is tried again later; nobody at
	// all means that there is nobody to tell. Addresses that are none are left
	// out. Required.
	Recipients func(ctx context.Context, organizationID string) ([]mail.Address, error)

	// HideRecipients leaves the recipients out of the message, so that none learns
	// of the others. Defaults to false: they see who else has been told.
	HideRecipients bool

	// Link returns the address of the page on which people look after the
	// webhook: an absolute https or http URL. Anything else is left out. Defaults to none.
	Link func(n webhook.Notice) string

	// Product is the name under which people know the sender. Defaults to none.
	Product string

	// Catalog has the titles of event types. Defaults to webhook.DefaultCatalog.
	Catalog *webhook.Catalog

	// Subject, Text and HTML are the templates of a mail and its two forms, executed with a
	// [Content]. Defaults to the English ones of this package.
	Subject *texttemplate.Template
	Text    *texttemplate.Template
	HTML    *htmltemplate.Template

	// Timeout bounds one Notify, Recipients included. The longer it is, the rarer are unknown
	// outcomes; it must be below DispatcherConfig.NotifyTimeout, lest that end
	// it. Defaults to 25 s; negative is an error.
	Timeout time.Duration

	// Logger receives a Warn line for each recipient that was left out and for a
	// link that was none. Defaults to silence.
	Logger *slog.Logger
}

// Notifier sends mails. It keeps no connection and is safe for concurrent use.
type Notifier struct {
	cfg    Config
	domain string // of Message-IDs: From's
}

var _ webhook.Notifier = (*Notifier)(nil)

// New returns a notifier. It connects to nothing yet. Everything wrong with the
// configuration is in one [webhook.ValidationErrors], templates that fail
// included: each is tried.
func New(cfg Config) (*Notifier, error) {
	var faults webhook.ValidationErrors
	fault := func(field, reason string) {
		faults = append(faults, webhook.ValidationError{Field: field, Reason: reason})
	}
	if cfg.Host == "" {
		fault("host", "is required")
	} else if strings.ContainsFunc(cfg.Host, notOfAHost) {
		fault("host", "must be the name or address of a host, without a port")
	}
	if cfg.Port < 0 || cfg.Port > 65535 {
		fault("port", "must be from 1 to 65535")
	}
	if cfg.Port == 0 {
		cfg.Port = map[TLSMode]int{StartTLS: 587, ImplicitTLS: 465, PlainText: 25}[cfg.TLS]
	}
	switch cfg.TLS {
	case StartTLS, ImplicitTLS:
	case PlainText:
		if cfg.Username != "" || cfg.Password != "" {
			fault("tls", "must not be plain where there are credentials")
		}
	default:
		fault("tls", fmt.Sprintf("must be %q, %q or %q", StartTLS, ImplicitTLS, PlainText))
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		fault("username", "needs a password, and the other way round")
	}
	if cfg.LocalName == "" {
		cfg.LocalName = hostname()
	} else if strings.ContainsFunc(cfg.LocalName, notOfAHost) {
		fault("local_name", "must be the name or address of a host")
	}
	from, ok := cleanAddress(cfg.From)
	if !ok {
		fault("from", "must have an address")
	}
	cfg.From = from
	if cfg.Recipients == nil {
		fault("recipients", "is required")
	}
	if cfg.Timeout < 0 {
		fault("timeout", "must not be negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Catalog == nil {
		cfg.Catalog = webhook.DefaultCatalog()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.TLSConfig = tlsConfig(cfg.TLSConfig, cfg.Host)
	if err := cfg.prepareTemplates(); err != nil {
		fault("templates", err.Error())
	}
	if len(faults) > 0 {
		return nil, faults
	}
	domain := from.Address[strings.LastIndexByte(from.Address, '@')+1:]
	if !isASCII(domain) { // which no Message-ID may have
		domain = "localhost"
	}
	return &Notifier{cfg: cfg, domain: domain}, nil
}

// notOfAHost holds for what is in no name or address of a host.
func notOfAHost(r rune) bool {
	return r <= ' ' || r == 0x7F || strings.ContainsRune(`/@\"<>()[],;`, r)
}

// hostname is the system's name, if a server would take it for one.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" || strings.ContainsFunc(name, notOfAHost) {
		return "localhost"
	}
	return name
}

func tlsConfig(given *tls.Config, host string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if given != nil {
		c = given.Clone()
	}
	if c.ServerName == "" {
		c.ServerName = host
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	return c
}

// Notify sends the mail. Recipients that the server refuses are left out as long
// as it takes one; it returns [webhook.ErrOutcomeUnknown] if the mail may have
// been sent or not, and any other error if it has not.
func (n *Notifier) Notify(ctx context.Context, x webhook.Notice) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	if err := n.notify(ctx, x); err != nil {
		return fmt.Errorf("smtpnotify: %w", err)
	}
	return nil
}

func (n *Notifier) notify(ctx context.Context, x webhook.Notice) error {
	given, err := n.cfg.Recipients(ctx, x.OrganizationID)
	if err != nil {
		return fmt.Errorf("look up recipients: %w", err)
	}
	recipients := n.recipients(x, given)
	if len(recipients) == 0 {
		n.cfg.Logger.Warn("smtpnotify: a notice has nobody to go to", "organization_id", x.OrganizationID,
			"webhook_id", x.WebhookID, "notice_id", x.ID)
		return nil
	}
	l, err := n.render(x)
	if err != nil {
		return err
	}
	s, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	accepted, err := s.address(n.cfg.From, recipients)
	for address, reason := range accepted.refused {
		n.leftOut(x, address, reason)
	}
	if err != nil {
		return err
	}
	return s.send(ctx, n.message(x, l, accepted.taken))
}

// recipients returns those that can be written to, each once.
func (n *Notifier) recipients(x webhook.Notice, given []mail.Address) (out []mail.Address) {
	known := map[string]bool{}
	for _, a := range given {
		a, ok := cleanAddress(a)
		switch key := strings.ToLower(a.Address); {
		case !ok:
			n.leftOut(x, a.Address, errors.New("not an address"))
		case known[key]:
		case len(out) == MaxRecipients:
			n.leftOut(x, a.Address, fmt.Errorf("more than %d recipients", MaxRecipients))
		default:
			known[key] = true
			out = append(out, a)
		}
	}
	return out
}

func (n *Notifier) leftOut(x webhook.Notice, address string, reason error) {
	n.cfg.Logger.Warn("smtpnotify: a recipient was left out", "organization_id", x.OrganizationID,
		"webhook_id", x.WebhookID, "notice_id", x.ID, "address", address, "error", reason)
}
