// Package httpapi is the JSON API of webhooks: one http.Handler that a host mounts
// for its customers' programs.
//
//	api, err := httpapi.New(manager, httpapi.Config{Actor: actorFromToken})
//	mux.Handle("/v1/", api)
//
// Everything goes through [webhook.Manager], so that the API knows no other rules
// than the panel does: its roles, its bounds, its words for what is wrong. What it
// adds is the wire: names of enums, pages, and errors as problem documents (RFC
// 9457, application/problem+json). An OpenAPI 3.1 document is served at
// /v1/openapi.json.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/posthorn/webhook"
)

// DefaultMaxBodyBytes bounds a request's body.
const DefaultMaxBodyBytes = 1 << 20

// deleteTimeout is how long a deletion waits for attempts in flight, which an
// answer may keep busy for the 15 s that an attempt has.
const deleteTimeout = 10 * time.Second

// Config configures [New]. Actor is required.
type Config struct {
	// Actor says who makes a request, by whatever the host authenticates with: a
	// bearer token, a session. Its error is answered with 401, or with 403 if it is
	// ErrForbidden, and its text goes to the Logger only. Required: there is no API
	// without authentication. Called concurrently.
	Actor func(*http.Request) (webhook.Actor, error)

	// TrustedOrigins are origins, such as "https://app.example.com", whose pages may
	// call what changes something. Browsers of all others are refused, in case
	// Actor reads a cookie; programs that are no browsers are not concerned.
	// Defaults to the API's own origin only.
	TrustedOrigins []string

	// MaxBodyBytes bounds a request's body. Defaults to 1 MiB; negative is an error.
	MaxBodyBytes int64

	// Logger gets what went wrong inside, which callers do not, at Error, and whom
	// Actor refused, at Debug. Defaults to silence.
	Logger *slog.Logger
}

// api is the handler.
type api struct {
	manager *webhook.Manager
	actor   func(*http.Request) (webhook.Actor, error)
	origins *http.CrossOriginProtection
	maxBody int64
	log     *slog.Logger
	names   *names
	mux     *http.ServeMux
	openAPI json.RawMessage
}

// New returns the API of a manager. It may be mounted under a prefix with
// http.StripPrefix, and is safe for concurrent use.
func New(m *webhook.Manager, cfg Config) (http.Handler, error) {
	switch {
	case m == nil:
		return nil, errors.New("httpapi: new: the manager is nil")
	case cfg.Actor == nil:
		return nil, errors.New("httpapi: new: actor: is required: there is no API without authentication")
	case cfg.MaxBodyBytes < 0:
		return nil, errors.New("httpapi: new: max_body_bytes: must not be negative")
	case cfg.MaxBodyBytes == 0:
		cfg.MaxBodyBytes = DefaultMaxBodyBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &api{
		manager: m, actor: cfg.Actor, origins: http.NewCrossOriginProtection(), maxBody: cfg.MaxBodyBytes, log: cfg.Logger, mux: http.NewServeMux(),
	}
	for i, o := range cfg.TrustedOrigins {
		if err := a.origins.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("httpapi: new: trusted_origins[%d]: %w", i, err)
		}
	}
	var err error
	if a.names, err = newNames(m.Catalog()); err != nil {
		return nil, fmt.Errorf("httpapi: new: %w", err)
	}
	if a.openAPI, err = json.Marshal(document(a.names)); err != nil {
		return nil, fmt.Errorf("httpapi: new: openapi: %w", err)
	}
	a.route()
	return a, nil
}

// operation is one method of one path.
type operation struct {
	method, path string
	id, summary  string
	query        []parameter
	request      string // name of the body's schema; empty means that there is none
	answers      []reply
	serve        func(*api, *call) (*answer, error)
}

// reply is an answer that an operation has, other than a problem.
type reply struct {
	status int
	schema string // empty means no body
	about  string
}

// answer is what an operation answers.
type answer struct {
	status int
	body   any // nil means none
}

// call is a request whose sender is known.
type call struct {
	*http.Request
	actor webhook.Actor
	a     *api
}

// route tells the mux of every operation, and of what is wrong elsewhere.
func (a *api) route() {
	allowed := map[string][]string{}
	for _, o := range operations {
		a.mux.HandleFunc(o.method+" "+o.path, func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, o) })
		allowed[o.path] = append(allowed[o.path], o.method)
		if o.method == http.MethodGet {
			allowed[o.path] = append(allowed[o.path], http.MethodHead)
		}
	}
	for p, methods := range allowed {
		slices.Sort(methods)
		a.mux.HandleFunc(p, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			a.refuse(w, problem{Status: http.StatusMethodNotAllowed, Detail: fmt.Sprintf("%s is not allowed here; %s is.", r.Method, strings.Join(methods, ", "))})
		})
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { a.refuse(w, errNoSuchPath) })
}

// ServeHTTP answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := a.origins.Check(r); err != nil {
		a.refuse(w, problem{Status: http.StatusForbidden, Detail: "The request comes from a page of another origin."})
		return
	}
	// The mux would redirect to the clean path, without the prefix it does not know.
	if r.URL.Path != path.Clean(r.URL.Path) {
		a.refuse(w, errNoSuchPath)
		return
	}
	a.mux.ServeHTTP(w, r)
}

func (a *api) serve(w http.ResponseWriter, r *http.Request, o operation) {
	actor, err := a.actor(r)
	switch {
	case errors.Is(err, webhook.ErrForbidden):
		a.log.DebugContext(r.Context(), "httpapi: refused", "error", err)
		a.refuse(w, problem{Status: http.StatusForbidden, Detail: "You may not do this."})
		return
	case err != nil:
		a.log.DebugContext(r.Context(), "httpapi: not authenticated", "error", err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		a.refuse(w, problem{Status: http.StatusUnauthorized, Detail: "The request does not say who you are, or not so that it can be believed."})
		return
	}
	c := &call{Request: r, actor: actor, a: a}
	answer, err := a.answer(c, o)
	if err != nil {
		a.fail(w, c, err)
		return
	}
	write(w, answer.status, "application/json", answer.body)
}

func (a *api) answer(c *call, o operation) (*answer, error) {
	// Somebody else's organization is not there, whatever is asked of it.
	if id := c.PathValue("organization_id"); strings.Contains(o.path, "{organization_id}") && id != c.actor.OrganizationID {
		return nil, webhook.ErrNotFound
	}
	if err := checkQuery(c, o.query); err != nil {
		return nil, err
	}
	if o.request == "" && c.Method != http.MethodGet && c.Method != http.MethodHead {
		if err := c.noBody(); err != nil {
			return nil, err
		}
	}
	return o.serve(a, c)
}

// fail answers with what an error means to the caller.
func (a *api) fail(w http.ResponseWriter, c *call, err error) {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		a.log.ErrorContext(c.Context(), "httpapi: failed", "method", c.Method, "path", c.URL.Path, "error", err)
	}
	if c.Method == http.MethodGet || c.Method == http.MethodHead {
		for i := range p.Errors {
			p.Errors[i].Pointer = "" // it is a parameter
		}
	}
	a.refuse(w, p)
}

func (a *api) refuse(w http.ResponseWriter, p problem) {
	if p.Type == "" {
		p.Type = "about:blank"
	}
	p.Title = http.StatusText(p.Status)
	write(w, p.Status, "application/problem+json", p)
}

// write sends an answer. What is written to a connection that is gone cannot be
// helped.
func write(w http.ResponseWriter, status int, kind string, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	b, err := json.Marshal(body)
	if err != nil { // these are structs of texts and numbers
		panic(fmt.Errorf("httpapi: encode an answer: %w", err))
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
