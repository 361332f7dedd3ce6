package httpapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

const (
	organizationPath = basePath + "/organizations/{organization_id}"
	webhooksPath     = organizationPath + "/webhooks"
	webhookPath      = webhooksPath + "/{webhook_id}"
)

// maxPageBytes is where a page of webhooks ends, whatever its limit: with all that
// its subscriptions may have, one webhook is 2.5 MB. The items of other lists are
// some thirty kilobytes at most.
const maxPageBytes = 2 << 20

// id returns an id of the path. What is no UUID is the id of nothing.
func (c *call) id(name string) (uuid.UUID, error) {
	id, ok := parseID(c.PathValue(name))
	if !ok {
		return id, webhook.ErrNotFound
	}
	return id, nil
}

type (
	createRequest struct {
		Content createContent `json:"content"`
	}
	createContent struct {
		Name          string         `json:"name" bound:"Name"`
		Description   string         `json:"description" bound:"Description" optional:"yes"`
		EndpointURL   string         `json:"endpoint_url" bound:"EndpointURL"`
		Subscriptions []subscription `json:"subscriptions" bound:"Subscriptions"`
		RateLimit     int64          `json:"rate_limit" bound:"RateLimit" optional:"yes"`
	}
	createAnswer struct {
		Webhook hook   `json:"webhook"`
		Secret  string `json:"secret"`
	}
	webhookAnswer struct {
		Webhook hook `json:"webhook"`
	}
	webhooksAnswer struct {
		Webhooks   []hook `json:"webhooks"`
		NextCursor string `json:"next_cursor,omitempty"`
	}
	updateRequest struct {
		Content updateContent `json:"content" optional:"yes"`
		Version int64         `json:"version" bound:"Version"`
		Resume  bool          `json:"resume" optional:"yes"`
	}
	// What is not there stays as it is.
	updateContent struct {
		Name          *string         `json:"name" bound:"Name" optional:"yes"`
		Description   *string         `json:"description" bound:"Description" optional:"yes"`
		EndpointURL   *string         `json:"endpoint_url" bound:"EndpointURL" optional:"yes"`
		Status        *string         `json:"status" enum:"Status" optional:"yes"`
		Subscriptions *[]subscription `json:"subscriptions" bound:"Subscriptions" optional:"yes"`
		RateLimit     *int64          `json:"rate_limit" bound:"RateLimit" optional:"yes"`
	}
	deletionAnswer struct {
		InFlight int `json:"in_flight"`
	}
)

// words are ours for faults, by place, where the manager knows other names.
type words map[place]string

// subscriptions reads what a webhook is to be subscribed to. Names that nothing
// has are refused by the manager, with our words.
func (n *names) subscriptions(list []subscription) (out []webhook.Subscription, faults words) {
	faults = words{}
	at := place{}.member("content").member("subscriptions")
	for i, s := range list {
		subject, ok := valueOf(subjectTypePrefix, s.SubjectType, n.subjects)
		if !ok {
			faults[at.item(i).member("subject_type")] = n.notASubject
		}
		event, ok := valueOf(subscriptionPrefix, s.SubscriptionType, n.events)
		if !ok {
			faults[at.item(i).member("subscription_type")] = n.notAnEvent
		}
		out = append(out, webhook.Subscription{Subject: webhook.Subject{Type: subject, ID: s.SubjectID}, EventType: event, Filter: s.Filter})
	}
	return out, faults
}

// in puts the words for faults in the place of the manager's.
func (ws words) in(err error, o *operation) error {
	var list webhook.ValidationErrors
	if !errors.As(err, &list) {
		return err
	}
	p := problemOfFaults(list, o)
	for i, f := range p.Errors {
		if ours, ok := ws[place{f.Field, f.Pointer}]; ok {
			p.Errors[i].Detail = ours
		}
	}
	return p
}

func (a *api) create(c *call) (*answer, error) {
	in, err := decode[createRequest](c)
	if err != nil {
		return nil, err
	}
	subscriptions, faults := a.names.subscriptions(in.Content.Subscriptions)
	w, secret, err := a.manager.Create(c.Context(), c.actor, webhook.WebhookInput{
		Name: in.Content.Name, Description: in.Content.Description, EndpointURL: in.Content.EndpointURL, Subscriptions: subscriptions,
		RateLimit: rateLimit(in.Content.RateLimit),
	})
	if err != nil {
		return nil, faults.in(err, c.operation)
	}
	return &answer{http.StatusCreated, createAnswer{hookOf(&w), secret.Reveal()}}, nil
}

func (a *api) list(c *call) (*answer, error) {
	q := c.queries()
	query := webhook.WebhookQuery{
		Status: enum(q, "status", statusPrefix, statuses), EventType: q.eventType(), Limit: q.limit(), Cursor: q.text("cursor"),
	}
	page, err := a.manager.Webhooks(c.Context(), c.actor, query)
	if err = q.or(err); err != nil {
		return nil, err
	}
	out := webhooksAnswer{[]hook{}, page.Next}
	size := 0
	for i := range page.Items {
		w := &page.Items[i]
		h := hookOf(w)
		out.Webhooks = append(out.Webhooks, h)
		if size += len(encode(h)); size > maxPageBytes && i < len(page.Items)-1 {
			out.NextCursor = webhook.NextCursor(webhook.Scope{OrganizationID: w.OrganizationID}, query, webhook.Position{At: w.CreatedAt, ID: w.ID})
			break
		}
	}
	return &answer{http.StatusOK, out}, nil
}

func (a *api) read(c *call) (*answer, error) {
	id, err := c.id("webhook_id")
	if err != nil {
		return nil, err
	}
	w, err := a.manager.Webhook(c.Context(), c.actor, id)
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, webhookAnswer{hookOf(&w)}}, nil
}

func (a *api) update(c *call) (*answer, error) {
	id, err := c.id("webhook_id")
	if err != nil {
		return nil, err
	}
	in, err := decode[updateRequest](c)
	if err != nil {
		return nil, err
	}
	w, err := a.manager.Webhook(c.Context(), c.actor, id)
	if err != nil {
		return nil, err
	}
	// A version is of all fields: those that the request leaves out must not have
	// changed either since the caller has read them. What we have read may be older
	// than the version that is named, and must not be written as that one's.
	if w.Version < in.Version {
		in.Version = math.MaxInt64 // which no webhook reaches
	}
	ch := webhook.WebhookChange{
		Version: in.Version, Name: or(in.Content.Name, w.Name), Description: or(in.Content.Description, w.Description),
		EndpointURL: or(in.Content.EndpointURL, w.EndpointURL), Status: w.Status, Subscriptions: w.Subscriptions, RateLimit: w.RateLimit,
		Resume: in.Resume,
	}
	if in.Content.RateLimit != nil {
		ch.RateLimit = rateLimit(*in.Content.RateLimit)
	}
	faults := words{}
	if in.Content.Subscriptions != nil {
		ch.Subscriptions, faults = a.names.subscriptions(*in.Content.Subscriptions)
	}
	if in.Content.Status != nil {
		var ok bool
		if ch.Status, ok = valueOf(statusPrefix, *in.Content.Status, statuses); !ok {
			faults[place{}.member("content").member("status")] = oneOf(statusPrefix, statuses)
		}
	}
	changed, err := a.manager.Update(c.Context(), c.actor, id, ch)
	if errors.Is(err, webhook.ErrConflict) {
		return nil, problem{Status: http.StatusConflict, Detail: a.stale(c, id)}
	}
	if err != nil {
		return nil, in.Content.ofStored(faults.in(err, c.operation))
	}
	return &answer{http.StatusOK, webhookAnswer{hookOf(&changed)}}, nil
}

// ofStored says of faults that they are of fields which the request leaves out:
// what was accepted once may not be any more, for another catalog or by other
// bounds.
func (u *updateContent) ofStored(err error) error {
	var p problem
	if !errors.As(err, &p) {
		return err
	}
	for i, f := range p.Errors {
		step, _, _ := strings.Cut(strings.TrimPrefix(f.Pointer, "/content/"), "/")
		if step == "name" && u.Name == nil || step == "description" && u.Description == nil ||
			step == "endpoint_url" && u.EndpointURL == nil || step == "subscriptions" && u.Subscriptions == nil ||
			step == "rate_limit" && u.RateLimit == nil {
			p.Errors[i].Pointer = ""
			p.Errors[i].Detail += " (this is what the webhook has; the request leaves it as it is)"
		}
	}
	return p
}

// stale says which version a webhook has reached.
func (a *api) stale(c *call, id uuid.UUID) string {
	w, err := a.manager.Webhook(c.Context(), c.actor, id)
	if err != nil {
		return c.operation.conflict
	}
	return fmt.Sprintf("%s It is version %d now.", c.operation.conflict, w.Version)
}

// rateLimit is a limit as the manager takes it. What no int has is out of bounds all the
// same.
func rateLimit(n int64) int { return int(max(-1, min(n, webhook.MaxRateLimit+1))) }

func or[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

func (a *api) remove(c *call) (*answer, error) {
	id, err := c.id("webhook_id")
	if err != nil {
		return nil, err
	}
	err = a.manager.DeleteWithin(c.Context(), c.actor, id, deleteTimeout)
	if errors.Is(err, webhook.ErrStillInFlight) {
		n, countErr := a.manager.InFlight(c.Context(), c.actor, id)
		if countErr == nil && n > 0 {
			return &answer{http.StatusAccepted, deletionAnswer{n}}, nil
		}
		if countErr != nil && !errors.Is(countErr, webhook.ErrNotFound) {
			return nil, countErr
		}
		err = nil // they have ended meanwhile
	}
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusNoContent, nil}, nil
}
