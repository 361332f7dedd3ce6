package adminui

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/posthorn/webhook"
)

// deleteTimeout is how long a deletion's page waits for attempts in flight.
const deleteTimeout = 2 * time.Second

// actionData is a page that asks before it does something to a webhook.
type actionData struct {
	Webhook  webhook.Webhook
	Choices  []choice
	InFlight int
	Held     string
	Fault    string
}

// test shows what a test event may be of.
func (c *call) test() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	w, err := c.webhook()
	if err != nil {
		return err
	}
	return c.testPage(http.StatusOK, w, "", "")
}

func (c *call) testPage(status int, w webhook.Webhook, chosen webhook.EventType, fault string) error {
	subscribed := eventTypesOf(w)
	if chosen == "" && len(subscribed) > 0 {
		chosen = subscribed[0]
	}
	d := actionData{Webhook: w, Fault: fault}
	d.Choices = choices(c.catalog, 0, ownName, func(t webhook.EventType) bool { return t == chosen })
	if !slices.ContainsFunc(d.Choices, func(x choice) bool { return x.Ticked }) {
		d.Choices[0].Ticked = true
	}
	c.render(status, "test", &page{Title: "Send a test event", Crumbs: c.crumbs(&w), Data: d})
	return nil
}

// sendTest sends a test event and leads to its delivery.
func (c *call) sendTest() error {
	id, err := c.id()
	if err != nil {
		return err
	}
	t := webhook.EventType(c.r.PostForm.Get("event_type"))
	d, err := c.manager.SendTest(c.r.Context(), c.actor, id, t)
	var faults webhook.ValidationErrors
	if errors.As(err, &faults) {
		w, readErr := c.webhook()
		if readErr != nil {
			return readErr
		}
		return c.testPage(http.StatusUnprocessableEntity, w, "", sentence("The event type", faults[0].Reason))
	}
	if err != nil {
		return because(err, "The webhook is inactive, and nothing is sent to its endpoint. Activate it first.")
	}
	return c.seeOther("deliveries/" + d.ID.String() + "?said=test")
}

// confirmDelete asks before a webhook is deleted.
func (c *call) confirmDelete() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	w, err := c.webhook()
	if err != nil {
		return err
	}
	d := actionData{Webhook: w}
	if d.InFlight, err = c.manager.InFlight(c.r.Context(), c.actor, w.ID); err != nil {
		return err
	}
	if d.Held, err = c.held(w); err != nil {
		return err
	}
	return c.ok("delete", &page{Title: "Delete " + w.Name, Crumbs: c.crumbs(&w), Data: d})
}

// delete deletes a webhook. If attempts are in flight for longer than a page should
// take, the next page says how many.
func (c *call) delete() error {
	id, err := c.id()
	if err != nil {
		return err
	}
	err = c.manager.DeleteWithin(c.r.Context(), c.actor, id, deleteTimeout)
	switch {
	case errors.Is(err, webhook.ErrStillInFlight):
		return c.seeOther("deleted/" + id.String())
	case err != nil:
		return err
	}
	return c.seeOther("?said=deleted")
}
