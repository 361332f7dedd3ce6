package adminui

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// deliveryData is a delivery's page.
type deliveryData struct {
	Delivery  webhook.Delivery
	Webhook   webhook.Webhook
	Gone      bool // the webhook is deleted
	Steps     []step
	More      bool // there are earlier attempts than those
	Next      *nextStep
	Formatted string // the payload, indented; empty if there is nothing to indent
	Raw       string
	Size      int
	Curl      string
	Others    []webhook.Delivery // of the same event
	Names     map[uuid.UUID]string
	MoreThere bool
	Live      bool // it is not finished, so the page looks again
}

// step is an attempt in the timeline.
type step struct {
	webhook.Attempt
	Due      moment
	Started  moment
	Headers  []headerLine
	Phases   []phase
	Response string
}

// waited is how long after it was due by the schedule an attempt begins if nothing keeps
// it. Beyond that, the log does not tell why: whether it was held, say.
const waited = time.Minute

// Late is how long after it was due an attempt began.
func (s step) Late() string {
	switch d := s.Started.At.Sub(s.Due.At); {
	case d > waited:
		return "after it was held or waited"
	case d < time.Millisecond:
		return "at once"
	case d < time.Second:
		return duration(d) + " later"
	default:
		return roughly(d) + " later"
	}
}

// nextStep is what follows the attempts that there were.
type nextStep struct {
	Number   int
	Due      moment
	InFlight bool
	Overdue  bool
	Then     []plannedStep // if it fails, and what follows fails as well
}

// plannedStep is an attempt that the schedule has beyond the next one.
type plannedStep struct {
	Number int
	Wait   string // after the one before has failed
}

// headerLine is a header as it was sent. Signatures are not stored, so they have no
// value.
type headerLine struct {
	Name, Value string
	Computed    bool // anew for each attempt, from the secret
}

// phase is a part of an attempt's time, for a bar of a hundred units.
type phase struct {
	Name, Class string
	Time        time.Duration
	X, Width    float64
}

// othersSize is how many other deliveries of the event are shown.
const othersSize = 10

// delivery shows one delivery with its attempts.
func (c *call) delivery() error {
	id, err := c.id()
	if err != nil {
		return err
	}
	d := deliveryData{}
	if d.Delivery, err = c.manager.Delivery(c.r.Context(), c.actor, id); err != nil {
		return err
	}
	d.Webhook, err = c.manager.Webhook(c.r.Context(), c.actor, d.Delivery.WebhookID)
	if errors.Is(err, webhook.ErrNotFound) {
		d.Gone, err = true, nil
	}
	if err != nil {
		return err
	}
	attempts, err := c.manager.Attempts(c.r.Context(), c.actor, webhook.AttemptQuery{DeliveryID: id, Limit: webhook.MaxPageSize})
	if err != nil {
		return err
	}
	d.More = attempts.Next != ""
	slices.Reverse(attempts.Items)
	d.Steps = c.steps(d.Delivery, attempts.Items)
	d.Next = c.next(d.Delivery)
	d.Live = !d.Delivery.State.Finished() && d.Delivery.State != webhook.DeliveryHeld
	d.Raw, d.Size = string(d.Delivery.Payload), len(d.Delivery.Payload)
	var indented bytes.Buffer
	if json.Indent(&indented, d.Delivery.Payload, "", "  ") == nil {
		d.Formatted = indented.String()
	}
	if len(d.Delivery.Payload) > 0 {
		url := d.Webhook.EndpointURL
		if url == "" && len(d.Steps) > 0 {
			url = d.Steps[len(d.Steps)-1].EndpointURL
		}
		d.Curl = curl(url, c.cfg, d.Delivery)
	}
	others, err := c.manager.Deliveries(c.r.Context(), c.actor, webhook.DeliveryQuery{EventID: d.Delivery.EventID, Limit: othersSize + 1})
	if err != nil {
		return err
	}
	d.MoreThere = others.Next != ""
	d.Others = slices.DeleteFunc(others.Items, func(o webhook.Delivery) bool { return o.ID == id })
	if d.Names, err = c.names(each(d.Others, func(o webhook.Delivery) uuid.UUID { return o.WebhookID })); err != nil {
		return err
	}
	crumbs := c.crumbs(nil)
	if !d.Gone {
		crumbs = append(c.crumbs(&d.Webhook), crumb{"Logs", d.Webhook.ID.String() + "/log"})
	}
	return c.ok("delivery", &page{Title: "Delivery of " + eventTitle(c.catalog, d.Delivery.EventType), Crumbs: crumbs, Data: d})
}

// steps makes the timeline. When an attempt was due is not in the log; the schedule
// says it, from when the one before ended.
func (c *call) steps(d webhook.Delivery, attempts []webhook.Attempt) (steps []step) {
	due := d.CreatedAt
	for _, a := range attempts {
		s := step{
			Attempt: a, Due: moment{due, c.now}, Started: moment{a.StartedAt, c.now},
			Headers: headersOf(c.cfg, d, a), Phases: phases(a), Response: printable(a.Response),
		}
		if s.Due.At.After(a.StartedAt) { // another schedule than the one we know
			s.Due.At = a.StartedAt
		}
		steps = append(steps, s)
		due = a.StartedAt.Add(a.Duration)
		if wait, ok := c.cfg.Schedule.Delay(a.Number); ok {
			due = due.Add(wait)
			if c.cfg.HonorRetryAfter {
				due = due.Add(c.cfg.Schedule.Extra(a.Number, a.RetryAfter))
			}
		}
	}
	return steps
}

// next says what follows, or nil if nothing does.
func (c *call) next(d webhook.Delivery) *nextStep {
	if d.State != webhook.DeliveryPending {
		return nil
	}
	n := &nextStep{Number: d.Attempts + 1, Due: moment{d.DueAt, c.now}}
	if d.LeasedUntil.After(c.now) {
		n.Number, n.InFlight = d.Attempts, true
	}
	n.Overdue = !n.InFlight && !d.DueAt.After(c.now)
	if d.Test {
		return n
	}
	for number := n.Number; ; number++ {
		wait, ok := c.cfg.Schedule.Delay(number)
		if !ok || number > n.Number+20 {
			return n
		}
		n.Then = append(n.Then, plannedStep{number + 1, roughly(wait)})
	}
}

// headersOf are the headers of an attempt, computed anew but for what the secret
// makes.
func headersOf(cfg Config, d webhook.Delivery, a webhook.Attempt) []headerLine {
	return []headerLine{
		{"Content-Type", "application/json", false},
		{"User-Agent", cfg.UserAgent, false},
		{"X-Pivot-Attempt", strconv.Itoa(a.Number), false},
		{cfg.SignatureHeader, "", true},
		{"webhook-id", d.EventID.String(), false},
		{"webhook-timestamp", strconv.FormatInt(a.StartedAt.Unix(), 10), false},
		{"webhook-signature", "", true},
	}
}

// phases cuts an attempt's time into what it went into.
func phases(a webhook.Attempt) (list []phase) {
	t := a.Timing
	waiting, waited := "First byte", t.FirstByte-t.DNS-t.Connect-t.TLS
	rest := a.Duration - t.FirstByte
	if t.FirstByte == 0 { // there was no answer, or nobody has measured it
		waiting, waited, rest = "Waiting", a.Duration-t.DNS-t.Connect-t.TLS, 0
	}
	x := 0.0
	for _, p := range []phase{
		{Name: "DNS", Class: "dns", Time: t.DNS},
		{Name: "Connect", Class: "connect", Time: t.Connect},
		{Name: "TLS", Class: "tls", Time: t.TLS},
		{Name: waiting, Class: "wait", Time: waited},
		{Name: "Rest of the answer", Class: "rest", Time: rest},
	} {
		if p.Time <= 0 || a.Duration <= 0 {
			continue
		}
		p.X, p.Width = x, min(100*float64(p.Time)/float64(a.Duration), 100-x)
		x += p.Width
		list = append(list, p)
	}
	return list
}

// toDelivery leads a link to one of the forms' addresses, which people may reload or
// come back to after they have signed in, to where the form is.
func (c *call) toDelivery() error {
	id, err := c.id()
	if err != nil {
		return err
	}
	if _, err := c.manager.Delivery(c.r.Context(), c.actor, id); err != nil {
		return err
	}
	return c.seeOther("deliveries/" + id.String())
}

// redeliver sends a delivery's event again.
func (c *call) redeliver() error {
	id, err := c.id()
	if err != nil {
		return err
	}
	d, err := c.manager.Redeliver(c.r.Context(), c.actor, id)
	if err != nil {
		return because(err, "A delivery can be sent again when it is finished, as long as its payload is kept and its webhook is not deleted.")
	}
	return c.seeOther("deliveries/" + d.ID.String() + "?said=" + redelivered(d))
}

func redelivered(d webhook.Delivery) string {
	if d.State == webhook.DeliveryHeld {
		return "held"
	}
	return "redelivered"
}

// cancel ends a delivery that is not finished.
func (c *call) cancel() error {
	id, err := c.id()
	if err != nil {
		return err
	}
	if err := c.manager.Cancel(c.r.Context(), c.actor, id); err != nil {
		return because(err, "The delivery is finished, so there is nothing to cancel.")
	}
	return c.seeOther("deliveries/" + id.String() + "?said=cancelled")
}

// deletedData is the page of a webhook that has been deleted.
type deletedData struct {
	ID       uuid.UUID
	InFlight int
	Live     bool
}

// deleted says how many attempts of a deleted webhook are still in flight.
func (c *call) deleted() error {
	id, err := c.id()
	if err != nil {
		return err
	}
	_, err = c.manager.Webhook(c.r.Context(), c.actor, id)
	switch {
	case err == nil: // it is there
		return c.seeOther(id.String())
	case !errors.Is(err, webhook.ErrNotFound):
		return err
	}
	n, err := c.manager.InFlight(c.r.Context(), c.actor, id)
	if err != nil {
		return err
	}
	c.render(http.StatusOK, "deleted", &page{Title: "Webhook deleted", Crumbs: c.crumbs(nil), Data: deletedData{ID: id, InFlight: n, Live: n > 0}})
	return nil
}
