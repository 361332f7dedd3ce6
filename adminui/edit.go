package adminui

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/posthorn/webhook"
)

// edit shows the form of a webhook.
func (c *call) edit() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	w, err := c.webhook()
	if err != nil {
		return err
	}
	return c.editPage(http.StatusOK, w, c.ofWebhook(w), nil)
}

func (c *call) editPage(status int, w webhook.Webhook, f *form, a *ahead) error {
	held, err := c.held(w)
	if err != nil {
		return err
	}
	c.render(status, "edit", &page{
		Title: "Edit " + w.Name, Crumbs: c.crumbs(&w), Data: formData{form: f, Webhook: w, Held: held, Ahead: a},
	})
	return nil
}

// heldPages is how many pages are read to count what is held. A store may look at so
// many deliveries in other states that a page has few or none, and is not the last; on
// a busy webhook each costs some milliseconds, and its page looks again every few seconds.
const heldPages = 4

// held says how many of a webhook's deliveries are held, in words: empty if none, and
// for an active webhook also if none was found.
func (c *call) held(w webhook.Webhook) (string, error) {
	q := webhook.DeliveryQuery{WebhookID: w.ID, State: webhook.DeliveryHeld, Limit: webhook.MaxPageSize}
	n, more := 0, true
	for pages := 0; more && pages < heldPages && n < webhook.MaxPageSize; pages++ {
		p, err := c.manager.Deliveries(c.r.Context(), c.actor, q)
		if err != nil {
			return "", err
		}
		n += len(p.Items)
		q.Cursor, more = p.Next, p.Next != ""
	}
	switch {
	case more && n > 0:
		return number(n) + " deliveries or more are held", nil
	case more && w.Status != webhook.StatusActive:
		return "Deliveries may be held", nil
	case n == 0:
		return "", nil
	case n == 1:
		return "1 delivery is held", nil
	default:
		return number(n) + " deliveries are held", nil
	}
}

// save changes a webhook.
func (c *call) save() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	w, err := c.webhook()
	if err != nil {
		return err
	}
	f := c.readChange(w)
	ch := f.change()
	_, err = c.manager.Update(c.r.Context(), c.actor, w.ID, ch)
	switch {
	case errors.Is(err, webhook.ErrConflict):
		return c.stale(f.Version)
	case f.understand(err, len(ch.Subscriptions) == 0):
		return c.editPage(http.StatusUnprocessableEntity, w, f, nil)
	case err != nil:
		return err
	}
	return c.seeOther(w.ID.String() + "?said=saved")
}

// stale shows the form as it was sent, and who was ahead of it. Sent again, it
// replaces what they did.
func (c *call) stale(version int64) error {
	w, err := c.webhook()
	if err != nil {
		return err
	}
	f := c.readChange(w)
	f.Version = w.Version
	a := &ahead{By: w.UpdatedBy, At: moment{w.UpdatedAt, c.now}, Changes: c.differences(f, w), Gone: c.gone(f)}
	if version >= w.Version { // not a version that there was
		a.By = ""
	}
	return c.editPage(http.StatusConflict, w, f, a)
}

// differences lists what a form would change of a webhook as it is now.
func (c *call) differences(f *form, w webhook.Webhook) (list []difference) {
	add := func(field, mine, now string) {
		if mine != now {
			list = append(list, difference{field, now})
		}
	}
	add("Name", f.Name, w.Name)
	add("Description", f.Description, w.Description)
	add("Endpoint URL", f.EndpointURL, w.EndpointURL)
	add("Rate limit", f.RateLimit, limitText(w.RateLimit))
	add("Status", stateLabel(f.Status), stateLabel(w.Status))
	add("Event types", c.subscribed(f.change().Subscriptions), c.subscribed(w.Subscriptions))
	return list
}

// gone lists what was ticked in a form and is not in it any more, since somebody has
// taken its subject away.
func (c *call) gone(f *form) (titles []string) {
	for _, value := range c.r.PostForm["event"] {
		if slices.ContainsFunc(f.Groups, func(g group) bool {
			return slices.ContainsFunc(g.Choices, func(x choice) bool { return x.Value == value })
		}) {
			continue
		}
		if s, ok := subscriptionOf(value); ok {
			titles = append(titles, c.subscribed([]webhook.Subscription{s}))
		}
	}
	return titles
}

// subscribed lists subscriptions in words.
func (c *call) subscribed(list []webhook.Subscription) string {
	var titles []string
	for _, s := range list {
		titles = append(titles, eventTitle(c.catalog, s.EventType)+" ("+subjectTitle(c.catalog, s.Subject.Type)+" "+s.Subject.ID+")")
	}
	slices.Sort(titles)
	return strings.Join(titles, ", ")
}
