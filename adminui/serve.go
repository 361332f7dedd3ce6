package adminui

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// maxFormBytes bounds a form: names, a URL and a hundred event types are far less.
const maxFormBytes = 1 << 20

// call is a request whose sender is known.
type call struct {
	*panel
	w     http.ResponseWriter
	r     *http.Request
	actor webhook.Actor
	now   time.Time
	base  string // leads from the page to the panel's root
}

// handler answers a call, or returns the error that the answer is to say.
type handler func(*call) error

// route tells the two muxes of every page. Patterns have no method, so that a wrong
// one gets an answer of ours.
func (p *panel) route() {
	p.general, p.single = http.NewServeMux(), http.NewServeMux()
	for pattern, r := range map[string]struct{ get, post handler }{
		"/{$}":                       {get: (*call).list},
		"/new":                       {get: (*call).newWebhook, post: (*call).create},
		"/log":                       {get: (*call).log},
		"/log.ndjson":                {get: (*call).export},
		"/deliveries":                {get: (*call).deliveries},
		"/deliveries/{id}":           {get: (*call).delivery},
		"/deliveries/{id}/redeliver": {get: (*call).toDelivery, post: (*call).redeliver},
		"/deliveries/{id}/cancel":    {get: (*call).toDelivery, post: (*call).cancel},
		"/deleted/{id}":              {get: (*call).deleted},
		"/troubleshooting":           {get: (*call).troubleshooting},
	} {
		p.general.Handle(pattern, p.page(r.get, r.post))
	}
	for pattern, r := range map[string]struct{ get, post handler }{
		"/{id}":                 {get: (*call).show},
		"/{id}/edit":            {get: (*call).edit, post: (*call).save},
		"/{id}/log":             {get: (*call).log},
		"/{id}/log.ndjson":      {get: (*call).export},
		"/{id}/deliveries":      {get: (*call).deliveries},
		"/{id}/test":            {get: (*call).test, post: (*call).sendTest},
		"/{id}/recover":         {get: (*call).recovery, post: (*call).recover},
		"/{id}/delete":          {get: (*call).confirmDelete, post: (*call).delete},
		"/{id}/troubleshooting": {get: (*call).troubleshooting},
	} {
		p.single.Handle(pattern, p.page(r.get, r.post))
	}
	p.nowhere = p.page(func(*call) error { return webhook.ErrNotFound }, nil)
	p.general.Handle("/", p.nowhere)
	p.single.Handle("/", p.nowhere)
}

// ServeHTTP answers one request.
func (p *panel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.frames != "" {
		h.Set("X-Frame-Options", p.frames)
	}
	r = rooted(r)
	switch {
	case r.URL.Path == "":
		p.addSlash(w, r)
	case path.Clean(r.URL.Path) != r.URL.Path:
		// A mux would redirect to the clean path, without the prefix it does not know.
		p.nowhere.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, assetsPath):
		p.serveAsset(w, r)
	case p.isSingle(r):
		p.single.ServeHTTP(w, r)
	default:
		p.general.ServeHTTP(w, r)
	}
}

// rooted returns the request with a path that begins with a slash, also if the host has
// stripped a prefix together with its slash. The prefix itself, asked for without one,
// stays empty.
func rooted(r *http.Request) *http.Request {
	original, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(r.URL.Path, "/") || r.URL.Path == "" && !strings.HasSuffix(original, "/") {
		return r
	}
	changed, at := *r, *r.URL
	at.Path = "/" + at.Path
	if at.RawPath != "" {
		at.RawPath = "/" + at.RawPath
	}
	changed.URL = &at
	return &changed
}

// isSingle reports whether the path begins with the id of a webhook.
func (p *panel) isSingle(r *http.Request) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	_, ok := parseID(first)
	return ok
}

// parseID returns an id in its 36-character form; uuid.Parse takes others, too.
func parseID(s string) (uuid.UUID, bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && len(s) == 36
}

// addSlash leads from the prefix itself, which StripPrefix leaves nothing of, to
// where relative links begin.
func (p *panel) addSlash(w http.ResponseWriter, r *http.Request) {
	original, _, _ := strings.Cut(r.RequestURI, "?")
	location := "./"
	if last := path.Base(original); last != "." && last != "/" {
		location = "./" + last + "/"
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

// page is what all pages have in common: who is asking, from where, and how.
func (p *panel) page(get, post handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{panel: p, w: w, r: r, now: p.cfg.Clock.Now().UTC(), base: baseOf(r)}
		if err := p.origins.Check(r); err != nil {
			c.refuse(http.StatusForbidden, "This came from another page", "The panel takes forms only from its own pages, over HTTPS. Open it again and repeat what you did.")
			return
		}
		actor, err := p.cfg.Actor(r)
		switch {
		case errors.Is(err, errNotStaff):
			c.fail(webhook.ErrNotFound)
			return
		case errors.Is(err, webhook.ErrForbidden):
			p.cfg.Logger.DebugContext(r.Context(), "adminui: refused", "error", err)
			c.fail(webhook.ErrForbidden)
			return
		case err != nil:
			p.cfg.Logger.DebugContext(r.Context(), "adminui: not authenticated", "error", err)
			c.refuse(http.StatusUnauthorized, "You are not signed in", "Sign in, then open this page again.")
			return
		}
		c.actor = actor
		serve, ok := get, r.Method == http.MethodGet || r.Method == http.MethodHead
		if r.Method == http.MethodPost && post != nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
			if err := r.ParseForm(); err != nil {
				c.refuse(http.StatusBadRequest, "The form could not be read", "It is not one of the panel's, or too large.")
				return
			}
			serve, ok = post, true
		}
		if !ok {
			allow := "GET, HEAD"
			if post != nil {
				allow += ", POST"
			}
			w.Header().Set("Allow", allow)
			c.refuse(http.StatusMethodNotAllowed, "This is not possible here", "The page cannot be asked for in this way.")
			return
		}
		if err := serve(c); err != nil {
			c.fail(err)
		}
	})
}

// baseOf returns the relative path to the panel's root. It goes by the path as
// browsers see it, in which an escaped slash is none.
func baseOf(r *http.Request) string {
	if depth := strings.Count(r.URL.EscapedPath(), "/") - 1; depth > 0 {
		return strings.Repeat("../", depth)
	}
	return "./"
}

// id returns the id in the path. What is no UUID is the id of nothing.
func (c *call) id() (uuid.UUID, error) {
	id, ok := parseID(c.r.PathValue("id"))
	if !ok {
		return uuid.UUID{}, webhook.ErrNotFound
	}
	return id, nil
}

// mayChange reports whether controls are shown. The Manager decides by itself.
func (c *call) mayChange() bool {
	return c.actor.Role == webhook.RoleOwner || c.actor.Role == webhook.RoleAdmin
}

// mustChange keeps the forms of controls from those who may not use them.
func (c *call) mustChange() error {
	if !c.mayChange() {
		return webhook.ErrForbidden
	}
	return nil
}

// webhook returns the webhook of the path.
func (c *call) webhook() (webhook.Webhook, error) {
	id, err := c.id()
	if err != nil {
		return webhook.Webhook{}, err
	}
	return c.manager.Webhook(c.r.Context(), c.actor, id)
}

// seeOther leads to a page after a change, so that reloading repeats nothing. The
// path is from the panel's root.
func (c *call) seeOther(to string) error {
	c.w.Header().Set("Location", c.base+to)
	c.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// fail answers with what an error means to people.
func (c *call) fail(err error) {
	var conflict conflictError
	var faults webhook.ValidationErrors
	switch {
	case errors.As(err, &conflict):
		c.refuse(http.StatusConflict, "This is not possible now", conflict.reason)
	case errors.As(err, &faults):
		var reasons []string
		for _, f := range faults {
			reasons = append(reasons, fieldTitle(f.Field)+" "+f.Reason+".")
		}
		c.refuse(http.StatusBadRequest, "This cannot be", reasons...)
	case errors.Is(err, webhook.ErrInvalidCursor):
		c.refuse(http.StatusBadRequest, "This part of the list is not there", "The link belongs to other filters. Begin at the newest entries again.")
	case errors.Is(err, webhook.ErrNotFound):
		c.refuse(http.StatusNotFound, "There is nothing here", "It was deleted, or the link is not right.")
	case errors.Is(err, webhook.ErrForbidden):
		c.refuse(http.StatusForbidden, "You may not do this", "Your role in this organization does not allow it. Ask an owner or an admin.")
	case errors.Is(err, webhook.ErrConflict):
		c.refuse(http.StatusConflict, "This is not possible now", "Somebody or something has changed it meanwhile.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		c.refuse(http.StatusServiceUnavailable, "It took too long", "Try again in a moment.")
	default:
		c.cfg.Logger.ErrorContext(c.r.Context(), "adminui: failed", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
		c.refuse(http.StatusInternalServerError, "Something went wrong", "It is our fault, not yours. Try again in a moment.")
	}
}

// conflictError is an ErrConflict whose reason people are told.
type conflictError struct{ reason string }

func (e conflictError) Error() string { return e.reason }

// because gives a conflict its reason.
func because(err error, reason string) error {
	if errors.Is(err, webhook.ErrConflict) {
		return conflictError{reason}
	}
	return err
}

// refuse answers with a page that says why there is nothing else.
func (c *call) refuse(status int, heading string, reasons ...string) {
	c.render(status, "refusal", &page{Title: heading, Data: reasons})
}
