package adminui

import (
	"context"
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
	Result   *testResult
}

// testTimeout is how long the page of a test event waits for the endpoint's answer.
// Most come sooner; what takes longer is seen by looking again.
const testTimeout = 3 * time.Second

// maxWaiting bounds how many pages wait at a time; another one shows what there is.
const maxWaiting = 100

// testResult is what became of a test event.
type testResult struct {
	Delivery webhook.Delivery
	Attempt  *webhook.Attempt // nil if there is none yet
	Response string
	Live     bool // it is not finished, so the page looks again
}

// Heading says it in a sentence.
func (r *testResult) Heading() string {
	switch {
	case r.Delivery.State == webhook.DeliverySucceeded:
		return "It works"
	case r.Delivery.State == webhook.DeliveryFailed:
		return "It did not work"
	case r.Delivery.State == webhook.DeliveryHeld:
		return "It is held, because the webhook has become inactive"
	case r.Delivery.State == webhook.DeliveryCancelled:
		return "It was cancelled"
	default:
		return "It is on its way"
	}
}

// test shows what a test event may be of, and what became of the one that was sent.
func (c *call) test() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	w, err := c.webhook()
	if err != nil {
		return err
	}
	if !c.r.URL.Query().Has("delivery") {
		return c.testPage(http.StatusOK, w, "", "", nil)
	}
	r, err := c.testResult(w)
	if err != nil {
		return err
	}
	return c.testPage(http.StatusOK, w, r.Delivery.EventType, "", r)
}

// testResult waits a little for what becomes of a test event. The request that has
// sent it does not, so that the page may be reloaded without sending another one.
func (c *call) testResult(w webhook.Webhook) (*testResult, error) {
	id, ok := parseID(c.r.URL.Query().Get("delivery"))
	if !ok {
		return nil, webhook.ErrNotFound
	}
	d, err := c.manager.Delivery(c.r.Context(), c.actor, id)
	if err != nil {
		return nil, err
	}
	if d.WebhookID != w.ID || !d.Test {
		return nil, webhook.ErrNotFound
	}
	if d, err = c.await(d); err != nil {
		return nil, err
	}
	r := &testResult{Delivery: d, Live: !d.State.Finished() && d.State != webhook.DeliveryHeld}
	attempts, err := c.manager.Attempts(c.r.Context(), c.actor, webhook.AttemptQuery{DeliveryID: id, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(attempts.Items) > 0 {
		r.Attempt = &attempts.Items[0]
		r.Response = printable(r.Attempt.Response)
	}
	return r, nil
}

// await waits for a delivery, and returns it also when it is not finished by then.
func (c *call) await(d webhook.Delivery) (webhook.Delivery, error) {
	select {
	case c.waiting <- struct{}{}:
		defer func() { <-c.waiting }()
	default:
		return d, nil
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), testTimeout)
	defer cancel()
	d, err := c.manager.Await(ctx, c.actor, d.ID)
	if errors.Is(err, webhook.ErrUnfinished) && c.r.Context().Err() == nil {
		err = nil
	}
	return d, err
}

func (c *call) testPage(status int, w webhook.Webhook, chosen webhook.EventType, fault string, result *testResult) error {
	subscribed := eventTypesOf(w)
	if chosen == "" && len(subscribed) > 0 {
		chosen = subscribed[0]
	}
	d := actionData{Webhook: w, Fault: fault, Result: result}
	d.Choices = choices(c.catalog, 0, ownName, func(t webhook.EventType) bool { return t == chosen })
	if !slices.ContainsFunc(d.Choices, func(x choice) bool { return x.Ticked }) {
		d.Choices[0].Ticked = true
	}
	c.render(status, "test", &page{Title: "Send a test event", Crumbs: c.crumbs(&w), Data: d})
	return nil
}

// sendTest sends a test event and leads to what becomes of it.
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
		return c.testPage(http.StatusUnprocessableEntity, w, "", sentence("The event type", faults[0].Reason), nil)
	}
	if err != nil {
		return because(err, "The webhook is inactive, and nothing is sent to its endpoint. Activate it first.")
	}
	return c.seeOther(id.String() + "/test?delivery=" + d.ID.String())
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
