package adminui

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/posthorn/webhook"
)

// form is what somebody has typed about a webhook, with what is wrong with it.
type form struct {
	Name, Description, EndpointURL string
	SubjectType                    webhook.SubjectType
	SubjectID                      string
	Groups                         []group
	Status                         webhook.Status
	Resume                         bool
	Version                        int64
	RateLimit                      string // empty means no limit
	Key                            string // of the form, so that sending it twice creates one webhook
	Filters                        bool   // some subscription has one, which the form keeps

	faults []fault
}

// group is the event types of one subject.
type group struct {
	Subject webhook.Subject
	Choices []choice
}

// choice is an event type to tick.
type choice struct {
	ID, Value          string // of the box; the value says subject and event type
	Type               webhook.EventType
	Title, Description string
	Ticked             bool
	Offered            bool // by the catalog
	Filter             map[string]string
}

// fault is what is wrong with one field of a form.
type fault struct{ Field, Text string }

// Faults are all of them.
func (f *form) Faults() []fault { return f.faults }

// Wrong are the faults of one field.
func (f *form) Wrong(field string) (texts []string) {
	for _, x := range f.faults {
		if x.Field == field {
			texts = append(texts, x.Text)
		}
	}
	return texts
}

// Describes is what describes a field to those who cannot see it: its hint and, if
// there are any, its faults.
func (f *form) Describes(field string, hint bool) string {
	var ids []string
	if len(f.Wrong(field)) > 0 {
		ids = append(ids, field+"-fault")
	}
	if hint {
		ids = append(ids, field+"-hint")
	}
	return strings.Join(ids, " ")
}

// valueOf names a subscription in a form. Ids are any text, so they are escaped.
func valueOf(s webhook.Subject, t webhook.EventType) string {
	return url.QueryEscape(string(s.Type)) + ":" + url.QueryEscape(s.ID) + ":" + url.QueryEscape(string(t))
}

// subscriptionOf is the subscription that valueOf has named.
func subscriptionOf(value string) (s webhook.Subscription, ok bool) {
	parts := strings.Split(value, ":")
	if len(parts) != 3 {
		return s, false
	}
	for i, p := range parts {
		var err error
		if parts[i], err = url.QueryUnescape(p); err != nil {
			return s, false
		}
	}
	return webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectType(parts[0]), ID: parts[1]}, EventType: webhook.EventType(parts[2])}, true
}

// choices returns the boxes of one subject: what the catalog offers, and what the
// webhook has of it beyond that. ofSubject makes the values, ticked says which are.
func choices(c *webhook.Catalog, number int, value func(webhook.EventType) string, ticked func(webhook.EventType) bool, extra ...webhook.EventType) []choice {
	var list []choice
	for _, info := range c.EventTypes() {
		list = append(list, choice{
			Type: info.Type, Value: value(info.Type), Title: info.Title, Description: info.Description, Ticked: ticked(info.Type), Offered: true,
		})
	}
	for _, t := range extra {
		if _, ok := c.EventType(t); !ok {
			list = append(list, choice{
				Type: t, Value: value(t), Title: string(t), Description: "No longer offered. Untick it to save.", Ticked: ticked(t),
			})
		}
	}
	for i := range list {
		list[i].ID = fmt.Sprintf("event-%d-%d", number, i)
	}
	return list
}

// blank is the form for a new webhook.
func (c *call) blank() *form {
	f := &form{Key: c.newKey(), SubjectType: c.catalog.SubjectTypes()[0].Type}
	f.Groups = []group{{Choices: choices(c.catalog, 0, ownName, func(webhook.EventType) bool { return false })}}
	return f
}

func ownName(t webhook.EventType) string { return string(t) }

// readNew reads the form for a new webhook.
func (c *call) readNew() *form {
	v := c.r.PostForm
	f := &form{
		Name: v.Get("name"), Description: unixLines(v.Get("description")), EndpointURL: strings.TrimSpace(v.Get("endpoint_url")),
		SubjectType: webhook.SubjectType(v.Get("subject_type")), SubjectID: strings.TrimSpace(v.Get("subject_id")), Key: v.Get("key"),
		RateLimit: strings.TrimSpace(v.Get("rate_limit")),
	}
	ticked := v["event"]
	f.Groups = []group{{Choices: choices(c.catalog, 0, ownName, func(t webhook.EventType) bool { return slices.Contains(ticked, string(t)) })}}
	return f
}

// unixLines undoes what browsers do to line breaks.
func unixLines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

// limitText is a rate limit in a form.
func limitText(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// limit is the rate limit that was typed; what is no number is out of bounds.
func (f *form) limit() int {
	if f.RateLimit == "" {
		return 0
	}
	n, err := strconv.Atoi(f.RateLimit)
	if err != nil {
		return -1
	}
	return n
}

// input is what the form asks the Manager for. Event types are those that were sent,
// which a form of ours takes from the catalog.
func (f *form) input(sent []string) webhook.WebhookInput {
	in := webhook.WebhookInput{Name: f.Name, Description: f.Description, EndpointURL: f.EndpointURL, RateLimit: f.limit(), IdempotencyKey: f.Key}
	for _, t := range sent {
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{
			Subject: webhook.Subject{Type: f.SubjectType, ID: f.SubjectID}, EventType: webhook.EventType(t),
		})
	}
	if len(in.Subscriptions) == 0 {
		// So that the Manager looks at the subject as well; understand takes the
		// event type's fault for the missing box.
		in.Subscriptions = []webhook.Subscription{{Subject: webhook.Subject{Type: f.SubjectType, ID: f.SubjectID}}}
	}
	return in
}

// ofWebhook is the form that shows a webhook as it is.
func (c *call) ofWebhook(w webhook.Webhook) *form {
	f := &form{
		Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL, Status: w.Status, Version: w.Version,
		RateLimit: limitText(w.RateLimit),
	}
	has := func(s webhook.Subject) func(webhook.EventType) bool {
		return func(t webhook.EventType) bool { return subscription(w, s, t) != nil }
	}
	c.group(f, w, has)
	return f
}

// readChange reads the form for a webhook that there is.
func (c *call) readChange(w webhook.Webhook) *form {
	v := c.r.PostForm
	f := &form{
		Name: v.Get("name"), Description: unixLines(v.Get("description")), EndpointURL: strings.TrimSpace(v.Get("endpoint_url")),
		Status: webhook.Status(v.Get("status")), Resume: v.Get("resume") != "", RateLimit: limitText(w.RateLimit),
	}
	if typed, there := v["rate_limit"]; there {
		f.RateLimit = strings.TrimSpace(typed[0])
	}
	f.Version, _ = strconv.ParseInt(v.Get("version"), 10, 64) // 0 is a fault
	f.Resume = f.Resume && f.Status == webhook.StatusActive
	ticked := v["event"]
	c.group(f, w, func(s webhook.Subject) func(webhook.EventType) bool {
		return func(t webhook.EventType) bool { return slices.Contains(ticked, valueOf(s, t)) }
	})
	return f
}

// group makes the boxes of a webhook's subjects.
func (c *call) group(f *form, w webhook.Webhook, ticked func(webhook.Subject) func(webhook.EventType) bool) {
	for i, s := range subjectsOf(w) {
		g := group{Subject: s, Choices: choices(c.catalog, i, func(t webhook.EventType) string { return valueOf(s, t) }, ticked(s), eventTypesOf(w)...)}
		g.Choices = slices.DeleteFunc(g.Choices, func(x choice) bool { return !x.Offered && subscription(w, s, x.Type) == nil })
		for j, x := range g.Choices {
			if had := subscription(w, s, x.Type); had != nil {
				g.Choices[j].Filter = had.Filter
				f.Filters = f.Filters || len(had.Filter) > 0
			}
		}
		f.Groups = append(f.Groups, g)
	}
}

// subscription returns a webhook's subscription of a subject's event type, or nil.
func subscription(w webhook.Webhook, s webhook.Subject, t webhook.EventType) *webhook.Subscription {
	for i := range w.Subscriptions {
		if w.Subscriptions[i].Subject == s && w.Subscriptions[i].EventType == t {
			return &w.Subscriptions[i]
		}
	}
	return nil
}

// change is what the form asks the Manager for. Subjects stay, and so do the filters
// of what is still ticked, which the form does not show.
func (f *form) change() webhook.WebhookChange {
	ch := webhook.WebhookChange{
		Version: f.Version, Name: f.Name, Description: f.Description, EndpointURL: f.EndpointURL, Status: f.Status, RateLimit: f.limit(), Resume: f.Resume,
	}
	for _, g := range f.Groups {
		for _, x := range g.Choices {
			if x.Ticked {
				ch.Subscriptions = append(ch.Subscriptions, webhook.Subscription{Subject: g.Subject, EventType: x.Type, Filter: x.Filter})
			}
		}
	}
	return ch
}

// Fields of the forms, by what begins the Manager's names for them.
var fields = []struct {
	pattern     *regexp.Regexp
	field, name string
}{
	{regexp.MustCompile(`^name$`), "name", "Name"},
	{regexp.MustCompile(`^description$`), "description", "Description"},
	{regexp.MustCompile(`^endpoint_url$`), "endpoint_url", "Endpoint URL"},
	{regexp.MustCompile(`^rate_limit$`), "rate_limit", "Rate limit"},
	{regexp.MustCompile(`^subscriptions\[\d+\]\.subject\.type$`), "subject_type", "Subject type"},
	{regexp.MustCompile(`^subscriptions\[\d+\]\.subject\.id$`), "subject_id", "Subject ID"},
	{regexp.MustCompile(`^subscriptions`), "events", "Event types"},
	{regexp.MustCompile(`^status$`), "status", "Status"},
}

// understand puts an error's faults beside their fields, and reports whether it was
// about what somebody typed.
func (f *form) understand(err error, noneTicked bool) bool {
	var list webhook.ValidationErrors
	if !errors.As(err, &list) {
		return false
	}
	for _, x := range list {
		at, title := "form", fieldTitle(x.Field)
		for _, known := range fields {
			if known.pattern.MatchString(x.Field) {
				at, title = known.field, known.name
				break
			}
		}
		text := sentence(title, x.Reason)
		switch {
		case at == "events" && noneTicked:
			text = "Choose at least one event type."
		case f.Key == "" && (at == "subject_type" || at == "subject_id"): // a change, which has no fields for it
			at, text = "events", text+" Untick its event types to save. If there are no others, delete the webhook."
		}
		if added := (fault{at, text}); !slices.Contains(f.faults, added) { // each subscription has the same subject
			f.faults = append(f.faults, added)
		}
	}
	return true
}
