package adminui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// OperationsConfig configures [NewOperations]. Staff is required.
type OperationsConfig struct {
	// Staff says who makes a request, if it is somebody who may see the work of all
	// organizations and pause it. The id stands beside a pause, with at most
	// webhook.MaxIDBytes. Everybody else gets 404. Required. Called concurrently.
	Staff func(*http.Request) (id string, ok bool)

	// WebhookLink returns where the staff may read about a webhook: https, http, or a
	// path that begins with a slash. An empty one is no link. Defaults to none, because
	// the panel shows an organization's webhooks only to its own people.
	WebhookLink func(organizationID string, id uuid.UUID) string

	// Title stands in the header and in the titles of pages. Defaults to "Webhook
	// operations".
	Title string

	// The others are as in Config.
	LogoURL        string
	AccentColor    string
	Links          []Link
	FrameAncestors []string
	TrustedOrigins []string
	Logger         *slog.Logger
}

// operations is what the host's staff sees.
type operations struct {
	dispatcher *webhook.Dispatcher
	link       func(organizationID string, id uuid.UUID) string

	mu      sync.Mutex
	last    webhook.Stats // to be shown until
	until   time.Time
	changes int // of what a look that has begun before does not show
}

// A look at a queue of a million takes a second, and pages look again every few
// seconds: one that took long is shown for ten times as long.
const (
	longLook  = 200 * time.Millisecond
	lookPause = 10
)

// stats returns what there is to do, as of a moment ago.
func (o *operations) stats(ctx context.Context) (webhook.Stats, error) {
	o.mu.Lock()
	last, until, changes := o.last, o.until, o.changes
	o.mu.Unlock()
	began := time.Now()
	if began.Before(until) {
		return last, nil
	}
	s, err := o.dispatcher.Stats(ctx)
	if took := time.Since(began); err == nil && took > longLook {
		o.keep(s, began.Add(lookPause*took), changes)
	}
	return s, err
}

func (o *operations) keep(s webhook.Stats, until time.Time, changes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if changes == o.changes {
		o.last, o.until = s, until
	}
}

// changed lets the next look be one of what there is now.
func (o *operations) changed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.until = time.Time{}
	o.changes++
}

// errNotStaff is of requests that are not the staff's.
var errNotStaff = errors.New("not of the staff")

// NewOperations returns the page of the host's own staff: how much there is to
// deliver, what the dispatcher of this process does of it, and a button that pauses
// all dispatchers. It shows names of all organizations' webhooks, so it
// belongs apart from the panel, and Staff decides who sees it. It is mounted as the
// panel is, and safe for concurrent use.
//
//	ops, err := adminui.NewOperations(dispatcher, adminui.OperationsConfig{Staff: staffFromSession})
//	mux.Handle("/internal/webhooks/", http.StripPrefix("/internal/webhooks", ops))
func NewOperations(d *webhook.Dispatcher, cfg OperationsConfig) (http.Handler, error) {
	if d == nil {
		return nil, errors.New("adminui: new operations: the dispatcher is nil")
	}
	if cfg.Staff == nil {
		return nil, errors.New("adminui: new operations: staff: is required: there is no such page without authentication")
	}
	if cfg.Title == "" {
		cfg.Title = "Webhook operations"
	}
	shared, err := Config{
		Title: cfg.Title, LogoURL: cfg.LogoURL, AccentColor: cfg.AccentColor, Links: cfg.Links,
		FrameAncestors: cfg.FrameAncestors, TrustedOrigins: cfg.TrustedOrigins, Logger: cfg.Logger,
		Actor: func(r *http.Request) (webhook.Actor, error) {
			id, ok := cfg.Staff(r)
			if !ok || id == "" {
				return webhook.Actor{}, errNotStaff
			}
			return webhook.Actor{ID: id}, nil
		},
	}.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("adminui: new operations: %w", err)
	}
	p := &panel{cfg: shared, staff: &operations{dispatcher: d, link: cfg.WebhookLink}}
	if err := p.prepare(); err != nil {
		return nil, fmt.Errorf("adminui: new operations: %w", err)
	}
	p.general = http.NewServeMux()
	for pattern, r := range map[string]struct{ get, post handler }{
		"/{$}":    {get: (*call).operations},
		"/pause":  {get: (*call).confirmPause, post: (*call).pause},
		"/resume": {get: (*call).confirmPause, post: (*call).resume},
	} {
		p.general.Handle(pattern, p.page(r.get, r.post))
	}
	p.nowhere = p.page(func(*call) error { return webhook.ErrNotFound }, nil)
	p.general.Handle("/", p.nowhere)
	p.single = p.general // there are no pages of one webhook
	return p, nil
}

// operationsData is what the page shows.
type operationsData struct {
	webhook.Stats
	Fault string // why there is nothing of the store
	link  func(organizationID string, id uuid.UUID) string
}

// Link leads to a webhook, or is empty.
func (d operationsData) Link(organizationID string, id uuid.UUID) string {
	if d.link == nil {
		return ""
	}
	return d.link(organizationID, id)
}

// counted is a number that Stats may not have counted to the end.
func counted(n int) string {
	if n >= webhook.StatsCountTo {
		return number(n) + " or more"
	}
	return number(n)
}

func (c *call) stats() operationsData {
	s, err := c.staff.stats(c.r.Context())
	c.now = s.At // the dispatcher's clock says how long ago something was
	d := operationsData{Stats: s, link: c.staff.link}
	if err != nil {
		c.cfg.Logger.ErrorContext(c.r.Context(), "adminui: the store does not answer", "error", err)
		d.Fault = err.Error()
	}
	return d
}

// operations shows how much there is to do.
func (c *call) operations() error {
	return c.ok("operations", &page{Title: "Operations", Data: c.stats()})
}

// confirmPause asks before anything changes for everybody. It does so as well when
// nobody knows how much there is to do: a store that is too busy to count is a reason
// to pause.
func (c *call) confirmPause() error {
	d := c.stats()
	if c.r.URL.Path == "/resume" {
		return c.ok("resume", &page{Title: "Resume all dispatchers", Data: d})
	}
	return c.ok("pause", &page{Title: "Pause all dispatchers", Data: d})
}

func (c *call) pause() error {
	defer c.staff.changed()
	if err := c.staff.dispatcher.Pause(c.r.Context(), c.actor.ID); err != nil {
		return err
	}
	return c.seeOther("?said=paused")
}

func (c *call) resume() error {
	defer c.staff.changed()
	if err := c.staff.dispatcher.Resume(c.r.Context(), c.actor.ID); err != nil {
		return err
	}
	return c.seeOther("?said=resumed")
}
