// Package httpapi is the JSON API of webhooks: one http.Handler that a host mounts
// for its customers' programs.
//
//	api, err := httpapi.New(manager, httpapi.Config{Actor: actorFromToken})
//	mux.Handle("/v1/", api)
//
// Everything goes through [webhook.Manager], so that the API knows no other rules
// than the panel does: its roles, its bounds, its words for what is wrong. What it
// adds is the wire: paths, names of enums, pages, and errors.
//
// # Requests
//
// Bodies are JSON objects of at most [Config].MaxBodyBytes, as application/json in
// UTF-8. Unknown fields and parameters, names in another case, fields or parameters
// that are there twice, and null are refused: nothing is ignored in silence. PATCH
// leaves alone what its content leaves out, and carries the version of the webhook
// that the caller has read; if the webhook has moved on, it is answered with 409.
//
// # Answers
//
// Errors are problem documents (RFC 9457, application/problem+json). One about a
// request that breaks a rule has the faults in its errors, each with the field, and
// for a field of the body with a JSON pointer: all faults of form, such as unknown
// fields and wrong types, or if there are none, all that is wrong with the values. Somebody else's organization, and its
// records, are 404, as if they did not exist. A webhook's secret is in the answer to
// its creation and nowhere else.
//
// An OpenAPI 3.1 document, for this host's catalog, is served at /v1/openapi.json to
// everybody who may read.
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

// deleteTimeout is how long a deletion waits for attempts in flight. Those of this
// process are aborted at once; those of others may take the 15 s that an attempt has,
// which is more than a client should be kept waiting.
const deleteTimeout = 2 * time.Second

// Config configures [New]. Actor is required.
type Config struct {
	// Actor says who makes a request, by whatever the host authenticates with: a
	// bearer token, a session. It is asked before anything else, also for paths that
	// there are not. Its error is answered with 401; with 403 if it is ErrForbidden;
	// and with 503 if it is [webhook.ErrUnavailable] or one of a context, which say
	// that it could not be found out. Its text goes to the Logger only. Required:
	// there is no API without authentication. Called concurrently; it leaves the
	// body alone.
	Actor func(*http.Request) (webhook.Actor, error)

	// TrustedOrigins are origins, such as "https://app.example.com", whose pages may
	// call what changes something. Browsers of all others are refused, in case
	// Actor reads a cookie; programs that are no browsers are not concerned. For
	// calls from another origin the host also has to answer preflight requests.
	// Defaults to the API's own origin only.
	TrustedOrigins []string

	// MaxBodyBytes bounds a request's body. Defaults to 1 MiB; negative is an error.
	MaxBodyBytes int64

	// Logger gets what went wrong inside, which callers do not, and when Actor could
	// not find out, at Error, and whom Actor refused, at Debug. Defaults to silence.
	Logger *slog.Logger
}

// api is the handler.
type api struct {
	manager  *webhook.Manager
	actor    func(*http.Request) (webhook.Actor, error)
	origins  *http.CrossOriginProtection
	maxBody  int64
	log      *slog.Logger
	names    *names
	mux      *http.ServeMux
	document schema
	waiting  chan struct{} // has an entry of each request that waits for a test event
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
		manager: m, actor: cfg.Actor, origins: http.NewCrossOriginProtection(), maxBody: cfg.MaxBodyBytes, log: cfg.Logger,
		names: newNames(m.Catalog()), mux: http.NewServeMux(), waiting: make(chan struct{}, maxWaiting),
	}
	for i, o := range cfg.TrustedOrigins {
		if err := a.origins.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("httpapi: new: trusted_origins[%d]: %w", i, err)
		}
	}
	a.document = document(a.names)
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
	conflict     string // what a caller is told of ErrConflict; empty means that there is none
	serve        func(*api, *call) (*answer, error)
}

func (o *operation) reads() bool { return o.method == http.MethodGet }

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
	actor     webhook.Actor
	api       *api
	operation *operation // nil if there is none
}

// route tells the mux of every operation, and of what is wrong elsewhere.
func (a *api) route() {
	handle := func(pattern string, serve func(http.ResponseWriter, *call)) {
		a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if actor, ok := a.identify(w, r); ok {
				serve(w, &call{r, actor, a, nil})
			}
		})
	}
	allowed := map[string][]string{}
	for _, o := range operations {
		handle(o.method+" "+o.path, func(w http.ResponseWriter, c *call) { a.serve(w, c, &o) })
		allowed[o.path] = append(allowed[o.path], o.method)
		if o.reads() {
			allowed[o.path] = append(allowed[o.path], http.MethodHead)
		}
	}
	for p, methods := range allowed {
		slices.Sort(methods)
		list := strings.Join(methods, ", ")
		handle(p, func(w http.ResponseWriter, c *call) {
			w.Header().Set("Allow", list)
			refuse(w, problem{Status: http.StatusMethodNotAllowed, Detail: fmt.Sprintf("%s is not allowed here; there are %s.", shown(c.Method), list)})
		})
	}
	handle("/", func(w http.ResponseWriter, _ *call) { refuse(w, errNoSuchPath) })
}

// ServeHTTP answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := a.origins.Check(r); err != nil {
		refuse(w, problem{Status: http.StatusForbidden, Detail: "The request comes from a page of another origin."})
		return
	}
	// The mux would redirect to the clean path, without the prefix that it does not
	// know, and answer "*" by itself.
	if p := r.URL.EscapedPath(); p != path.Clean(p) || p == "*" {
		if _, ok := a.identify(w, r); ok {
			refuse(w, errNoSuchPath)
		}
		return
	}
	a.mux.ServeHTTP(w, r)
}

// identify asks the host who makes a request, and answers it if that fails.
func (a *api) identify(w http.ResponseWriter, r *http.Request) (webhook.Actor, bool) {
	actor, err := a.actor(r)
	switch {
	case errors.Is(err, webhook.ErrForbidden):
		a.log.DebugContext(r.Context(), "httpapi: refused", "error", err)
		refuse(w, problem{Status: http.StatusForbidden, Detail: "You may not do this."})
	case errors.Is(err, webhook.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if r.Context().Err() == nil { // else it is the caller who has gone
			a.log.ErrorContext(r.Context(), "httpapi: cannot authenticate", "error", err)
		}
		refuse(w, problem{Status: http.StatusServiceUnavailable, Detail: "It cannot be found out who you are. Try again."})
	case err != nil:
		a.log.DebugContext(r.Context(), "httpapi: not authenticated", "error", err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, problem{Status: http.StatusUnauthorized, Detail: "The request does not say who you are, or not so that it can be believed."})
	}
	return actor, err == nil
}

func (a *api) serve(w http.ResponseWriter, c *call, o *operation) {
	c.operation = o
	answer, err := a.answer(c, o)
	if err == nil {
		write(w, answer.status, "application/json", answer.body)
		return
	}
	p := problemOf(err, o)
	if p.Status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		a.log.ErrorContext(c.Context(), "httpapi: failed", "operation", o.id, "path", c.URL.Path, "error", err)
	}
	refuse(w, p)
}

func (a *api) answer(c *call, o *operation) (*answer, error) {
	// Somebody else's organization is not there, whatever is asked of it.
	if id := c.PathValue("organization_id"); strings.HasPrefix(o.path, organizationPath) && id != c.actor.OrganizationID {
		return nil, webhook.ErrNotFound
	}
	if err := checkQuery(c, o.query); err != nil {
		return nil, err
	}
	if o.request == "" && !o.reads() {
		if err := c.noBody(); err != nil {
			return nil, err
		}
	}
	return o.serve(a, c)
}

func refuse(w http.ResponseWriter, p problem) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	write(w, p.Status, "application/problem+json", p)
}

// write sends an answer. What is written to a connection that is gone cannot be
// helped.
func write(w http.ResponseWriter, status int, kind string, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	b := encode(body)
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // these are structs of texts and numbers
		panic(fmt.Errorf("httpapi: encode an answer: %w", err))
	}
	return b
}
