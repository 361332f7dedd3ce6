package adminui

import (
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// logSize is how many attempts or deliveries a page has.
const logSize = 50

// filter is what a log is narrowed to, as it was typed.
type filter struct {
	State         string // a delivery's state, or an attempt's outcome
	EventType     webhook.EventType
	Class         string
	Since, Before string

	since, before time.Time
	class         int
	fault         string
}

// Fault is what is wrong with it, empty if nothing is.
func (f filter) Fault() string { return f.fault }

// Set reports whether it leaves anything out.
func (f filter) Set() bool { return f.values().Encode() != "" }

// Query is the filter as the query of a URL.
func (f filter) Query() string {
	if q := f.values().Encode(); q != "" {
		return "?" + q
	}
	return ""
}

// Shared is the part of the filter that attempts and deliveries share, as the query of
// a URL.
func (f filter) Shared() string {
	f.State, f.Class = "", ""
	return f.Query()
}

func (f filter) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"state": f.State, "event_type": string(f.EventType), "class": f.Class, "since": f.Since, "before": f.Before,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

func (c *call) filter() filter {
	q := c.r.URL.Query()
	f := filter{
		State: q.Get("state"), EventType: webhook.EventType(q.Get("event_type")), Class: q.Get("class"), Since: q.Get("since"), Before: q.Get("before"),
	}
	var ok bool
	if f.since, ok = parseTime(f.Since); !ok {
		f.fault = "“From” is not a time such as 2026-01-31T12:00."
	}
	if f.before, ok = parseTime(f.Before); !ok {
		f.fault = "“To” is not a time such as 2026-01-31T12:00."
	}
	if f.Class != "" {
		var err error
		if f.class, err = strconv.Atoi(f.Class); err != nil || f.class < 1 || f.class > 5 {
			f.fault = "There is no such class of response codes."
		}
	}
	if f.fault == "" && f.Since != "" && f.Before != "" && !f.since.Before(f.before) {
		f.fault = "“From” must be earlier than “To”."
	}
	return f
}

// timeLayouts are what browsers send from a field for date and time, and what
// people write.
var timeLayouts = []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02T15:04:05.999999999", time.RFC3339Nano, "2006-01-02 15:04", "2006-01-02 15:04:05", time.DateOnly}

// parseTime reads a time, in UTC unless it says otherwise. Nothing is no bound.
func parseTime(s string) (time.Time, bool) {
	if s == "" {
		return time.Time{}, true
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// fieldTime is a time in a field for date and time.
func fieldTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05") }

// logData is a page of attempts or of deliveries.
type logData struct {
	About       about
	Filter      filter
	States      []string
	Classes     []string // of response codes; none for deliveries
	EventTypes  []webhook.EventTypeInfo
	Shortcuts   []shortcut
	Attempts    []webhook.Attempt
	Deliveries  []webhook.Delivery
	Names       map[uuid.UUID]string
	Next, First string
}

// shortcut is a span of time to look at.
type shortcut struct{ Title, Query string }

func (c *call) shortcuts(f filter) (list []shortcut) {
	for _, s := range []struct {
		title string
		span  time.Duration
	}{{"Last hour", time.Hour}, {"24 hours", 24 * time.Hour}, {"7 days", 7 * 24 * time.Hour}} {
		f.Since, f.Before = fieldTime(c.now.Add(-s.span)), ""
		list = append(list, shortcut{s.title, f.Query()})
	}
	return list
}

func (c *call) attemptQuery(a about, f filter) webhook.AttemptQuery {
	return webhook.AttemptQuery{
		WebhookID: a.ID, Outcome: webhook.Outcome(f.State), EventType: f.EventType, StatusClass: f.class, Since: f.since, Before: f.before,
	}
}

// log shows the attempts of a webhook, or of all.
func (c *call) log() error {
	a, err := c.about()
	if err != nil {
		return err
	}
	f := c.filter()
	d := logData{
		About: a, Filter: f, EventTypes: c.eventTypes(f.EventType), Shortcuts: c.shortcuts(f),
		States: []string{
			string(webhook.OutcomeSucceeded), string(webhook.OutcomeFailed), string(webhook.OutcomeInterrupted), string(webhook.OutcomeLate),
		},
		Classes: []string{"1", "2", "3", "4", "5"},
	}
	if f.fault == "" {
		q := c.attemptQuery(a, f)
		q.Limit, q.Cursor = logSize, c.r.URL.Query().Get("cursor")
		p, err := c.manager.Attempts(c.r.Context(), c.actor, q)
		if err != nil {
			return err
		}
		d.Attempts = p.Items
		d.Next, d.First = pages(f.values(), q.Cursor, p.Next)
		if a.ID == uuid.Nil {
			if d.Names, err = c.names(each(d.Attempts, func(x webhook.Attempt) uuid.UUID { return x.WebhookID })); err != nil {
				return err
			}
		}
	} else if err := c.exists(a); err != nil {
		return err
	}
	return c.ok("log", &page{Title: "Logs", Crumbs: c.crumbsAbout(a), Data: d})
}

// deliveries shows the deliveries of a webhook, or of all: also those that have not
// been attempted yet.
func (c *call) deliveries() error {
	a, err := c.about()
	if err != nil {
		return err
	}
	f := c.filter()
	f.Class, f.class = "", 0
	d := logData{
		About: a, Filter: f, EventTypes: c.eventTypes(f.EventType), Shortcuts: c.shortcuts(f),
		States: []string{
			string(webhook.DeliveryPending), string(webhook.DeliveryHeld), string(webhook.DeliverySucceeded),
			string(webhook.DeliveryFailed), string(webhook.DeliveryCancelled),
		},
	}
	if f.fault == "" {
		q := webhook.DeliveryQuery{
			WebhookID: a.ID, State: webhook.DeliveryState(f.State), EventType: f.EventType, Since: f.since, Before: f.before,
			Limit: logSize, Cursor: c.r.URL.Query().Get("cursor"),
		}
		p, err := c.manager.Deliveries(c.r.Context(), c.actor, q)
		if err != nil {
			return err
		}
		d.Deliveries = p.Items
		d.Next, d.First = pages(f.values(), q.Cursor, p.Next)
		if a.ID == uuid.Nil {
			if d.Names, err = c.names(each(d.Deliveries, func(x webhook.Delivery) uuid.UUID { return x.WebhookID })); err != nil {
				return err
			}
		}
	} else if err := c.exists(a); err != nil {
		return err
	}
	return c.ok("deliveries", &page{Title: "Deliveries", Crumbs: c.crumbsAbout(a), Data: d})
}

// exists returns the error of a page about a webhook that the organization never
// had, or that the actor may not see, where no list has been asked for.
func (c *call) exists(a about) error {
	_, err := c.manager.Attempts(c.r.Context(), c.actor, webhook.AttemptQuery{WebhookID: a.ID, Limit: 1})
	return err
}

func each[T, R any](list []T, of func(T) R) []R {
	out := make([]R, len(list))
	for i, x := range list {
		out[i] = of(x)
	}
	return out
}
