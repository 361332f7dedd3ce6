// Package adminui is the panel: one http.Handler in which an organization's people
// register endpoints, read the delivery log, and send again what was missed.
//
//	panel, err := adminui.New(manager, adminui.Config{Actor: actorFromSession})
//	mux.Handle("/admin/webhooks/", http.StripPrefix("/admin/webhooks", panel))
//
// Everything goes through [webhook.Manager], which alone decides who may do what.
// Pages are rendered on the server from embedded templates, with one style sheet
// and one small script of their own: no build step, no CDN. Whatever can be read
// can be read without JavaScript.
//
// # Mounting
//
// All links are relative, so that the panel works under any prefix, behind
// http.StripPrefix and behind a proxy that takes a prefix away. The prefix ends in
// a slash for the mux, and is stripped without it, as above.
//
// # Security
//
// Requests that change something must come from the panel's own pages
// ([http.CrossOriginProtection]). Browsers say where a request comes from only over
// HTTPS and to localhost, so elsewhere the panel needs HTTPS. Pages carry a
// Content-Security-Policy without inline script or style, may not be framed unless
// [Config].FrameAncestors says so, and are never cached. A secret is in one answer
// only, that to the form that created the webhook.
package adminui

import (
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/posthorn/webhook"
)

// Link is an entry of the panel's header.
type Link struct {
	Title string
	URL   string // https, http, or a path that begins with a slash
}

// Config configures [New]. Actor is required.
type Config struct {
	// Actor says who makes a request, by whatever the host authenticates with. Its
	// error is answered with 401, or with 403 if it is ErrForbidden, and its text
	// goes to the Logger only. Required: there is no panel without authentication.
	// Called concurrently.
	Actor func(*http.Request) (webhook.Actor, error)

	// Title stands in the header and in the titles of pages. Defaults to "Webhooks".
	Title string

	// LogoURL is a picture for the header: https, or a path of this origin that
	// begins with a slash. Defaults to none.
	LogoURL string

	// AccentColor is that of buttons and links, as "#rrggbb". Where it would be
	// hard to read, a darker or a lighter one is used. Defaults to "#4f46e5".
	AccentColor string

	// Links lead from the header to the host's own pages. Defaults to none.
	Links []Link

	// FrameAncestors are the origins whose pages may frame the panel, such as
	// "https://app.example.com", or "'self'". Defaults to none.
	FrameAncestors []string

	// TrustedOrigins are origins whose pages may send the panel's forms. Defaults
	// to the panel's own only.
	TrustedOrigins []string

	// SignatureHeader, UserAgent, Schedule, HonorRetryAfter and AttemptTimeout are
	// those of DispatcherConfig, for pages that speak of them. They default to the same
	// as there; a negative timeout is an error.
	SignatureHeader string
	UserAgent       string
	Schedule        webhook.Schedule
	HonorRetryAfter bool
	AttemptTimeout  time.Duration

	// Clock tells how long ago something was. Defaults to the system's; a test that
	// gives one to the Manager gives it to the panel, too.
	Clock webhook.Clock

	// Logger gets what went wrong inside, which people do not, at Error, and whom
	// Actor refused, at Debug. Defaults to silence.
	Logger *slog.Logger
}

// Defaults of DispatcherConfig.
const (
	defaultSignatureHeader = "X-Pivot-Signature"
	defaultUserAgent       = "posthorn-webhook/1"
	defaultAttemptTimeout  = 15 * time.Second
)

// panel is the handler, of an organization's people or of the host's staff.
type panel struct {
	manager *webhook.Manager // theirs, or nil
	staff   *operations      // what the host's staff sees, or nil
	catalog *webhook.Catalog
	cfg     Config
	origins *http.CrossOriginProtection
	policy  string // Content-Security-Policy
	frames  string // X-Frame-Options, empty if it has no word for it
	pages   map[string]*template.Template
	assets  map[string]asset
	version string // of the assets
	general *http.ServeMux
	single  *http.ServeMux // pages of one webhook, whose path begins with its id
	nowhere http.Handler
	waiting chan struct{} // has an entry of each request that waits for a test event
}

// New returns the panel of a manager. It is safe for concurrent use.
func New(m *webhook.Manager, cfg Config) (http.Handler, error) {
	if m == nil {
		return nil, errors.New("adminui: new: the manager is nil")
	}
	if cfg.Actor == nil {
		return nil, errors.New("adminui: new: actor: is required: there is no panel without authentication")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("adminui: new: %w", err)
	}
	p := &panel{manager: m, catalog: m.Catalog(), cfg: cfg, waiting: make(chan struct{}, maxWaiting)}
	if err := p.prepare(); err != nil {
		return nil, fmt.Errorf("adminui: new: %w", err)
	}
	p.route()
	return p, nil
}

// prepare makes what all pages share.
func (p *panel) prepare() (err error) {
	p.origins = http.NewCrossOriginProtection()
	for i, o := range p.cfg.TrustedOrigins {
		if err := p.origins.AddTrustedOrigin(o); err != nil {
			return fmt.Errorf("trusted_origins[%d]: %w", i, err)
		}
	}
	p.policy, p.frames = policies(p.cfg)
	if p.assets, p.version, err = newAssets(p.cfg.AccentColor); err != nil {
		return err
	}
	p.pages, err = parsePages()
	return err
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Title == "" {
		cfg.Title = "Webhooks"
	}
	if cfg.AccentColor == "" {
		cfg.AccentColor = defaultAccent
	}
	if cfg.SignatureHeader == "" {
		cfg.SignatureHeader = defaultSignatureHeader
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = defaultUserAgent
	}
	if cfg.AttemptTimeout == 0 {
		cfg.AttemptTimeout = defaultAttemptTimeout
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.AttemptTimeout < 0 {
		return cfg, errors.New("attempt_timeout: must not be negative")
	}
	if strings.ContainsFunc(cfg.SignatureHeader, notInHeaderName) {
		return cfg, errors.New("signature_header: must be the name of a header")
	}
	if cfg.LogoURL != "" && !isPath(cfg.LogoURL) && !strings.HasPrefix(cfg.LogoURL, "https://") {
		return cfg, errors.New("logo_url: must begin with https:// or with a single slash")
	}
	if _, err := url.Parse(cfg.LogoURL); err != nil {
		return cfg, errors.New("logo_url: is not a URL")
	}
	for i, l := range cfg.Links {
		if l.Title == "" || !isPath(l.URL) && !strings.HasPrefix(l.URL, "https://") && !strings.HasPrefix(l.URL, "http://") {
			return cfg, fmt.Errorf("links[%d]: must have a title, and a URL that begins with https://, http:// or a single slash", i)
		}
	}
	for i, a := range cfg.FrameAncestors {
		if a != "'self'" && !isOrigin(a) {
			return cfg, fmt.Errorf("frame_ancestors[%d]: must be an origin such as https://app.example.com, or 'self'", i)
		}
	}
	return cfg, nil
}

// isPath holds for paths of the same origin; "//host/" is none.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") && !strings.HasPrefix(s, `/\`)
}

// isOrigin holds for what may stand in a policy as the source of frames.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && s == u.Scheme+"://"+u.Host &&
		!strings.ContainsAny(u.Host, " ;,'*@")
}

func notInHeaderName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// policies returns the values of Content-Security-Policy and X-Frame-Options.
func policies(cfg Config) (csp, frameOptions string) {
	images := "'self'"
	if u, err := url.Parse(cfg.LogoURL); err == nil && u.Host != "" {
		images += " https://" + u.Host
	}
	ancestors := "'none'"
	switch {
	case len(cfg.FrameAncestors) == 0:
		frameOptions = "DENY"
	default:
		ancestors = strings.Join(cfg.FrameAncestors, " ")
		if ancestors == "'self'" {
			frameOptions = "SAMEORIGIN"
		}
	}
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src " + images, "connect-src 'self'",
		"form-action 'self'", "base-uri 'none'", "frame-ancestors " + ancestors,
	}, "; "), frameOptions
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }
