package adminui

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// explainData is the page that says which webhooks ask for an event, and why the others
// do not: an event by its id, or a draft of one.
type explainData struct {
	*form      // of the draft: its subject, and what is wrong with either
	EventID    string
	EventType  webhook.EventType
	Parents    string // a line each: type and id
	Attributes string // a line each: name=value
	EventTypes []webhook.EventTypeInfo
	Subjects   []webhook.SubjectTypeInfo

	Answered bool
	Stored   bool // the event, else it is a draft
	Event    webhook.EventRecord
	Rows     []explainRow
	Asking   int
}

// explainRow is a webhook and what it makes of the event.
type explainRow struct {
	webhook.ExplainedWebhook
	Tone, Label, Why string
	State            webhook.DeliveryState // of its delivery, empty if that is not known
}

// Delivered reports whether there is a delivery of the event to the webhook.
func (r explainRow) Delivered() bool { return r.DeliveryID != uuid.Nil }

// explain answers "why not?".
func (c *call) explain() error {
	v := c.r.URL.Query()
	d := &explainData{
		form:    &form{SubjectType: webhook.SubjectType(v.Get("subject_type")), SubjectID: strings.TrimSpace(v.Get("subject_id"))},
		EventID: strings.TrimSpace(v.Get("event")), EventType: webhook.EventType(v.Get("event_type")),
		Parents: unixLines(v.Get("parents")), Attributes: unixLines(v.Get("attributes")),
		EventTypes: c.catalog.EventTypes(), Subjects: c.catalog.SubjectTypes(),
	}
	// Whoever may not read anything sees no form either.
	if _, err := c.manager.Webhooks(c.r.Context(), c.actor, webhook.WebhookQuery{Limit: 1}); err != nil {
		return err
	}
	var q webhook.ExplainQuery
	switch {
	case d.EventID != "":
		d.Stored = true
		var ok bool
		if q.EventID, ok = parseID(d.EventID); !ok || q.EventID == uuid.Nil {
			d.wrong("event", "This is not an event ID such as 3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11.")
		}
	case v.Has("event_type"):
		q.Draft = d.draft()
	default:
		return c.explainPage(http.StatusOK, d)
	}
	if len(d.faults) > 0 {
		return c.explainPage(http.StatusUnprocessableEntity, d)
	}
	x, err := c.manager.Explain(c.r.Context(), c.actor, q)
	var faults webhook.ValidationErrors
	switch {
	case errors.Is(err, webhook.ErrNotFound):
		d.wrong("event", "There is no such event, or not any more. What no webhook asked for was not stored: describe it below.")
	case errors.As(err, &faults):
		for _, f := range faults {
			d.wrongDraft(&q.Draft, f)
		}
	case err != nil:
		return err
	}
	if err != nil {
		return c.explainPage(http.StatusUnprocessableEntity, d)
	}
	if err := c.fillIn(d, &x); err != nil {
		return err
	}
	return c.explainPage(http.StatusOK, d)
}

func (c *call) explainPage(status int, d *explainData) error {
	c.render(status, "explain", &page{Title: "Why not?", Crumbs: c.crumbs(nil), Data: d})
	return nil
}

func (d *explainData) wrong(field, text string) {
	d.faults = append(d.faults, fault{Field: field, Text: text})
}

// draft reads the description of an event.
func (d *explainData) draft() webhook.Event {
	e := webhook.Event{Type: d.EventType, Subject: webhook.Subject{Type: d.SubjectType, ID: d.SubjectID}}
	for line := range strings.Lines(d.Parents) {
		if len(d.Wrong("parents")) >= namedAtMost {
			break // lines are as many as the address has room for
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 2 {
			d.wrong("parents", fmt.Sprintf("“%s” is not a type and an ID, with a space between them.", strings.TrimSpace(line)))
			continue
		}
		e.Parents = append(e.Parents, webhook.Subject{Type: webhook.SubjectType(words[0]), ID: words[1]})
	}
	for line := range strings.Lines(d.Attributes) {
		if len(d.Wrong("attributes")) >= namedAtMost {
			break
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		_, twice := e.Attributes[name]
		switch {
		case !ok:
			d.wrong("attributes", fmt.Sprintf("“%s” is not of the form name=value.", line))
			continue
		case twice:
			d.wrong("attributes", fmt.Sprintf("“%s” is there twice.", name))
			continue
		}
		if e.Attributes == nil {
			e.Attributes = map[string]string{}
		}
		e.Attributes[name] = strings.TrimSpace(value)
	}
	return e
}

// wrongDraft puts one of the manager's faults beside the field that it is about.
func (d *explainData) wrongDraft(e *webhook.Event, f webhook.ValidationError) {
	field, title := "event_type", "The event type"
	switch {
	case f.Field == "subject.type":
		field, title = "subject_type", "The type"
	case f.Field == "subject.id":
		field, title = "subject_id", "The ID"
	case strings.HasPrefix(f.Field, "parents"):
		field, title = "parents", "The list"
		var i int
		var part string
		if n, _ := fmt.Sscanf(f.Field, "parents[%d].%s", &i, &part); n == 2 {
			p := e.Parents[i]
			title = fmt.Sprintf("“%s %s”: the %s", p.Type, p.ID, map[string]string{"type": "type", "id": "ID"}[part])
		}
	case strings.HasPrefix(f.Field, "attributes"):
		field, title = "attributes", "The list"
		if name, ok := strings.CutPrefix(f.Field, "attributes["); ok {
			title = "“" + strings.TrimSuffix(name, "]") + "”"
		}
	}
	d.wrong(field, sentence(title, f.Reason))
}

// fillIn puts the answer into the page.
func (c *call) fillIn(d *explainData, x *webhook.Explanation) error {
	d.Answered, d.Event = true, x.Event
	states := map[uuid.UUID]webhook.DeliveryState{}
	if d.Stored {
		p, err := c.manager.Deliveries(c.r.Context(), c.actor, webhook.DeliveryQuery{EventID: x.Event.ID, Limit: webhook.MaxPageSize})
		if err != nil {
			return err
		}
		for i := range p.Items {
			states[p.Items[i].ID] = p.Items[i].State
		}
	}
	for _, w := range x.Webhooks {
		r := explainRow{ExplainedWebhook: w, State: states[w.DeliveryID]}
		r.Tone, r.Label, r.Why = c.why(w, &d.Event, d.Stored)
		if w.Match.Asks() {
			d.Asking++
		}
		d.Rows = append(d.Rows, r)
	}
	return nil
}

// why is a webhook's answer in words.
func (c *call) why(x webhook.ExplainedWebhook, e *webhook.EventRecord, stored bool) (tone, label, text string) {
	has := x.DeliveryID != uuid.Nil
	switch x.Match {
	case webhook.MatchYes:
		tone, label, text = "ok", "Asks for it", "It asks for the event."
		if stored && !has {
			text = "It asks for the event now, and has no delivery of it: it was created or changed later, or the delivery is no longer kept."
		}
	case webhook.MatchInactive:
		tone, label, text = "wait", "Inactive", "It asks for the event, but is inactive: what comes for it is held until somebody activates it."
		if stored && !has {
			text += " It has no delivery of this one: it was created or changed later, or the delivery is no longer kept."
		}
	case webhook.MatchFilter:
		tone, label, text = "off", "Filter", "It asks for this event type and subject, but its filter leaves the event out: "+c.unmet(x, e)+"."
	case webhook.MatchEventType:
		tone, label, text = "off", "Event type", "It asks for the subject, but not for "+eventTitle(c.catalog, e.Type)+": only for "+c.typesOf(x)+"."
	case webhook.MatchOtherSubject:
		tone, label, text = "off", "Other subject", "It asks neither for the event's subject nor for what that is inside of: only for "+c.subjectsNamed(x)+"."
	case webhook.MatchOtherTest:
		tone, label, text = "off", "Test", "The event is a test of another webhook."
	}
	if has && !x.Match.Asks() {
		text += " It got the event all the same: it was changed later."
	}
	return tone, label, text
}

// unmet says what of the filter the event does not have.
func (c *call) unmet(x webhook.ExplainedWebhook, e *webhook.EventRecord) string {
	var parts []string
	filter := x.Webhook.Subscriptions[x.Subscription].Filter
	for _, key := range x.Filter {
		is, ok := e.Attributes[key]
		if ok {
			is = fmt.Sprintf("and is “%s”", is)
		} else {
			is = "and the event has none"
		}
		parts = append(parts, fmt.Sprintf("%s must be “%s”, %s", key, filter[key], is))
	}
	return strings.Join(parts, "; ")
}

// namedAtMost bounds what a sentence names.
const namedAtMost = 3

// typesOf names what the webhook asks for of the subject.
func (c *call) typesOf(x webhook.ExplainedWebhook) string {
	subject := x.Webhook.Subscriptions[x.Subscription].Subject
	var names []string
	for _, s := range x.Webhook.Subscriptions {
		if s.Subject == subject {
			names = append(names, eventTitle(c.catalog, s.EventType))
		}
	}
	return someOf(names)
}

// subjectsNamed names what the webhook asks for.
func (c *call) subjectsNamed(x webhook.ExplainedWebhook) string {
	var names []string
	for _, s := range subjectsOf(x.Webhook) {
		names = append(names, subjectTitle(c.catalog, s.Type)+" "+s.ID)
	}
	return someOf(names)
}

func someOf(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	if more := len(names) - namedAtMost; more > 0 {
		names = append(names[:namedAtMost:namedAtMost], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
