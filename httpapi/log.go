package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

const (
	deliveriesPath = organizationPath + "/deliveries"
	deliveryPath   = deliveriesPath + "/{delivery_id}"
)

type (
	logsAnswer struct {
		Logs       []attempt `json:"logs"`
		NextCursor string    `json:"next_cursor,omitempty"`
	}
	attemptsAnswer struct {
		Attempts   []attempt `json:"attempts"`
		NextCursor string    `json:"next_cursor,omitempty"`
	}
	deliveriesAnswer struct {
		Deliveries []delivery `json:"deliveries"`
		NextCursor string     `json:"next_cursor,omitempty"`
	}
	deliveryAnswer struct {
		Delivery delivery `json:"delivery"`
	}
	countersAnswer struct {
		Counters []counter `json:"counters"`
	}
	healthAnswer struct {
		Health health `json:"health"`
	}
	testRequest struct {
		SubscriptionType string `json:"subscription_type" enum:"SubscriptionType"`
	}
	testAnswer struct {
		Delivery delivery `json:"delivery"`
		Attempt  *attempt `json:"attempt,omitempty"` // nil if somebody has cancelled it before
	}
	recoverRequest struct {
		Since   *instant `json:"since"` // nil: it is missing
		Preview bool     `json:"preview" optional:"yes"`
		Cursor  string   `json:"cursor" optional:"yes"`
	}
	recoveryAnswer struct {
		Recovery   recovery `json:"recovery"`
		NextCursor string   `json:"next_cursor,omitempty"`
	}
)

const (
	// maxWait bounds how many seconds the answer to a test event is waited for: twice
	// what an attempt takes by default, and less than most proxies have patience.
	maxWait = 30

	// maxWaiting bounds how many requests wait at a time. Each reads the store up to
	// once a second, and nobody shall keep others from it.
	maxWaiting = 100

	// recoverTimeout is after how long a recovery takes on no further batch, so that
	// no request outlasts what is between it and its sender.
	recoverTimeout = 10 * time.Second
)

// idOr returns an id of the path, or the zero UUID if the operation's path has none.
func (c *call) idOr(name string) (uuid.UUID, error) {
	// Not by the value, which a mux around this one may have set.
	if !strings.Contains(c.operation.path, "{"+name+"}") {
		return uuid.UUID{}, nil
	}
	return c.id(name)
}

// attempts returns a page of the log, by what the path and the query name.
func (a *api) attempts(c *call) (webhook.Page[webhook.Attempt], error) {
	var page webhook.Page[webhook.Attempt]
	ofWebhook, err := c.idOr("webhook_id")
	if err != nil {
		return page, err
	}
	ofDelivery, err := c.idOr("delivery_id")
	if err != nil {
		return page, err
	}
	q := c.queries()
	page, err = a.manager.Attempts(c.Context(), c.actor, webhook.AttemptQuery{
		WebhookID: ofWebhook, DeliveryID: ofDelivery, Outcome: enum(q, "outcome", outcomePrefix, outcomes), EventType: q.eventType(),
		StatusClass: q.statusClass(), Since: q.time("since"), Before: q.time("before"), Limit: q.limit(), Cursor: q.text("cursor"),
	})
	return page, q.or(err)
}

func (a *api) logs(c *call) (*answer, error) {
	page, err := a.attempts(c)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, logsAnswer{mapped(page.Items, attemptOf), page.Next}}, nil
}

func (a *api) attemptsOfDelivery(c *call) (*answer, error) {
	page, err := a.attempts(c)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, attemptsAnswer{mapped(page.Items, attemptOf), page.Next}}, nil
}

func (a *api) deliveries(c *call) (*answer, error) {
	id, err := c.idOr("webhook_id")
	if err != nil {
		return nil, err
	}
	q := c.queries()
	page, err := a.manager.Deliveries(c.Context(), c.actor, webhook.DeliveryQuery{
		WebhookID: id, EventID: q.id("event_id"), State: enum(q, "state", statePrefix, states), EventType: q.eventType(),
		Since: q.time("since"), Before: q.time("before"), Limit: q.limit(), Cursor: q.text("cursor"),
	})
	if err = q.or(err); err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, deliveriesAnswer{mapped(page.Items, deliveryOf), page.Next}}, nil
}

func (a *api) delivery(c *call) (*answer, error) {
	id, err := c.id("delivery_id")
	if err != nil {
		return nil, err
	}
	d, err := a.manager.Delivery(c.Context(), c.actor, id)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, deliveryAnswer{deliveryOf(&d)}}, nil
}

func (a *api) redeliver(c *call) (*answer, error) {
	id, err := c.id("delivery_id")
	if err != nil {
		return nil, err
	}
	d, err := a.manager.Redeliver(c.Context(), c.actor, id)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusAccepted, deliveryAnswer{deliveryOf(&d)}}, nil
}

func (a *api) cancel(c *call) (*answer, error) {
	id, err := c.id("delivery_id")
	if err != nil {
		return nil, err
	}
	if err := a.manager.Cancel(c.Context(), c.actor, id); err != nil {
		return nil, err
	}
	return &answer{http.StatusNoContent, nil}, nil
}

func (a *api) counters(c *call) (*answer, error) {
	id, err := c.id("webhook_id")
	if err != nil {
		return nil, err
	}
	q := c.queries()
	list, err := a.manager.Counters(c.Context(), c.actor, webhook.CounterQuery{WebhookID: id, Since: q.time("since"), Before: q.time("before")})
	if err = q.or(err); err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, countersAnswer{mapped(list, counterOf)}}, nil
}

func (a *api) health(c *call) (*answer, error) {
	id, err := c.id("webhook_id")
	if err != nil {
		return nil, err
	}
	h, err := a.manager.Health(c.Context(), c.actor, id)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, healthAnswer{healthOf(&h)}}, nil
}

func (a *api) test(c *call) (*answer, error) {
	id, err := c.id("webhook_id")
	if err != nil {
		return nil, err
	}
	in, err := decode[testRequest](c)
	if err != nil {
		return nil, err
	}
	q := c.queries()
	wait := q.number("wait", maxWait, ", in seconds")
	if err := q.or(nil); err != nil {
		return nil, err
	}
	// An unknown type is refused by the manager, after roles and ids.
	t, known := valueOf(subscriptionPrefix, in.SubscriptionType, a.names.events)
	d, err := a.manager.SendTest(c.Context(), c.actor, id, t)
	var faults webhook.ValidationErrors
	switch {
	case errors.As(err, &faults) && !known:
		return nil, invalid(place{}.member("subscription_type").fault(a.names.notAnEvent))
	case errors.As(err, &faults): // the catalog has changed since the webhook was registered, or the sample is too large
		return nil, problem{Status: http.StatusConflict, Detail: "No sample of this type can be sent for the webhook's first subscription."}
	case err != nil:
		return nil, err
	}
	if wait > 0 {
		select {
		case a.waiting <- struct{}{}:
			defer func() { <-a.waiting }()
			return a.awaitTest(c, d.ID, time.Duration(wait)*time.Second)
		default: // there are enough
		}
	}
	return &answer{http.StatusAccepted, deliveryAnswer{deliveryOf(&d)}}, nil
}

// awaitTest answers with what became of a test event, or with how it stands.
func (a *api) awaitTest(c *call, id uuid.UUID, wait time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeout(c.Context(), wait)
	defer cancel()
	d, err := a.manager.Await(ctx, c.actor, id)
	d.Payload = nil // which the answer without waiting does not have either
	switch {
	case errors.Is(err, webhook.ErrUnfinished) && c.Context().Err() == nil:
		return &answer{http.StatusAccepted, deliveryAnswer{deliveryOf(&d)}}, nil
	case err != nil:
		return nil, err
	}
	page, err := a.manager.Attempts(c.Context(), c.actor, webhook.AttemptQuery{DeliveryID: id, Limit: 1})
	if err != nil {
		return nil, err
	}
	out := testAnswer{Delivery: deliveryOf(&d)}
	if len(page.Items) > 0 {
		x := attemptOf(&page.Items[0])
		out.Attempt = &x
	}
	return &answer{http.StatusOK, out}, nil
}

func (a *api) recover(c *call) (*answer, error) {
	id, err := c.id("webhook_id")
	if err != nil {
		return nil, err
	}
	in, err := decode[recoverRequest](c)
	if err != nil {
		return nil, err
	}
	if in.Since == nil {
		return nil, invalid(place{}.member("since").fault("is required; " + mustBeTime))
	}
	if in.Preview {
		if in.Cursor != "" {
			return nil, invalid(place{}.member("cursor").fault("must not be there with preview, which counts everything"))
		}
		r, err := a.manager.RecoverPreview(c.Context(), c.actor, id, in.Since.Time)
		if err != nil {
			return nil, err
		}
		return &answer{http.StatusOK, recoveryAnswer{recovery(r), ""}}, nil
	}
	out := recoveryAnswer{NextCursor: in.Cursor}
	for end := time.Now().Add(recoverTimeout); ; {
		r, next, err := a.manager.RecoverBatch(c.Context(), c.actor, id, in.Since.Time, out.NextCursor)
		if errors.Is(err, webhook.ErrInvalidCursor) {
			return nil, invalid(place{}.member("cursor").fault("is not one that a recovery of this webhook since this time has given"))
		}
		if err != nil {
			return nil, err
		}
		out.Recovery.Redelivered += r.Redelivered
		out.Recovery.Released += r.Released
		out.Recovery.Purged += r.Purged
		if out.NextCursor = next; next == "" || time.Now().After(end) {
			return &answer{http.StatusOK, out}, nil
		}
	}
}
