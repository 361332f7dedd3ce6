package httpapi

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

type (
	subject struct {
		SubjectType string `json:"subject_type" enum:"SubjectType"`
		SubjectID   string `json:"subject_id" bound:"ID"`
	}
	explainRequest struct {
		Event draft `json:"event"`
	}
	// draft is an event that is not stored.
	draft struct {
		SubscriptionType string            `json:"subscription_type" enum:"SubscriptionType"`
		SubjectType      string            `json:"subject_type" enum:"SubjectType"`
		SubjectID        string            `json:"subject_id" bound:"ID"`
		Parents          []subject         `json:"parents" bound:"Parents" optional:"yes"`
		Attributes       map[string]string `json:"attributes" bound:"Attributes" optional:"yes"`
	}
	explanationAnswer struct {
		Event    explainedEvent     `json:"event"`
		Webhooks []explainedWebhook `json:"webhooks"`
	}
	explainedEvent struct {
		ID               *uuid.UUID        `json:"id,omitempty"` // of a stored one
		SubscriptionType string            `json:"subscription_type" enum:"SubscriptionType"`
		SubjectType      string            `json:"subject_type" enum:"SubjectType"`
		SubjectID        string            `json:"subject_id"`
		Parents          []subject         `json:"parents"`
		Attributes       map[string]string `json:"attributes,omitempty"`
		OccurredAt       *time.Time        `json:"occurred_at,omitempty"`
		Test             bool              `json:"test"`
	}
	explainedWebhook struct {
		WebhookID  uuid.UUID     `json:"webhook_id"`
		Name       string        `json:"name"`
		Status     string        `json:"status" enum:"Status"`
		Match      string        `json:"match" enum:"Match"`
		Nearest    *subscription `json:"subscription,omitempty"`
		Missing    []string      `json:"missing_attributes,omitempty"`
		DeliveryID *uuid.UUID    `json:"delivery_id,omitempty"`
	}
)

// explainEvent says of a stored event who asks for it.
func (a *api) explainEvent(c *call) (*answer, error) {
	id, err := c.id("event_id")
	if err != nil {
		return nil, err
	}
	x, err := a.manager.Explain(c.Context(), c.actor, webhook.ExplainQuery{EventID: id})
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, explanationOf(&x)}, nil
}

// explainDraft says of an event that is not stored who would ask for it.
func (a *api) explainDraft(c *call) (*answer, error) {
	in, err := decode[explainRequest](c)
	if err != nil {
		return nil, err
	}
	at, faults := place{}.member("event"), words{}
	subjectOf := func(p place, kind, id string) webhook.Subject {
		t, ok := valueOf(subjectTypePrefix, kind, a.names.subjects)
		if !ok {
			faults[p.member("subject_type")] = a.names.notASubject
		}
		return webhook.Subject{Type: t, ID: id}
	}
	e := webhook.Event{Subject: subjectOf(at, in.Event.SubjectType, in.Event.SubjectID), Attributes: in.Event.Attributes}
	for i, p := range in.Event.Parents {
		e.Parents = append(e.Parents, subjectOf(at.member("parents").item(i), p.SubjectType, p.SubjectID))
	}
	var known bool
	if e.Type, known = valueOf(subscriptionPrefix, in.Event.SubscriptionType, a.names.events); !known {
		faults[at.member("subscription_type")] = a.names.notAnEvent
	}
	x, err := a.manager.Explain(c.Context(), c.actor, webhook.ExplainQuery{Draft: e})
	var wrong webhook.ValidationErrors
	if errors.As(err, &wrong) {
		return nil, faults.ofDraft(wrong)
	}
	if err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, explanationOf(&x)}, nil
}

// ofDraftField are the manager's names of what is in a draft. The key of an attribute
// may be any text.
var ofDraftField = regexp.MustCompile(`(?s)^(?:(type)|subject\.(type|id)|parents(?:\[([0-9]+)\]\.(type|id))?|attributes(?:\[(.+)\])?)$`)

// ofDraft says what is wrong with a draft, with our words where the manager knows
// other names.
func (ws words) ofDraft(list webhook.ValidationErrors) problem {
	var faults []fault
	for _, f := range list {
		m := ofDraftField.FindStringSubmatch(f.Field)
		if m == nil { // the organization, which the caller cannot change
			return problem{Status: http.StatusInternalServerError, Detail: "Something went wrong on our side."}
		}
		p := place{}.member("event")
		switch {
		case m[1] != "":
			p = p.member("subscription_type")
		case m[2] != "":
			p = p.member("subject_" + m[2])
		case m[3] != "":
			i, _ := strconv.Atoi(m[3]) // digits
			p = p.member("parents").item(i).member("subject_" + m[4])
		case m[5] != "":
			p = p.member("attributes").key(m[5])
		default:
			p = p.member(f.Field)
		}
		reason := f.Reason
		if ours, ok := ws[p]; ok {
			reason = ours
		}
		faults = append(faults, p.fault(reason))
	}
	return invalid(faults...)
}

func explanationOf(x *webhook.Explanation) explanationAnswer {
	e := &x.Event
	out := explanationAnswer{
		Event: explainedEvent{
			ID: present(e.ID), SubscriptionType: nameOf(subscriptionPrefix, e.Type), SubjectType: nameOf(subjectTypePrefix, e.Subject.Type), SubjectID: e.Subject.ID,
			Parents:    mapped(e.Parents, func(s *webhook.Subject) subject { return subject{nameOf(subjectTypePrefix, s.Type), s.ID} }),
			Attributes: e.Attributes, OccurredAt: present(e.OccurredAt), Test: e.Test,
		},
		Webhooks: []explainedWebhook{},
	}
	for i := range x.Webhooks {
		w := &x.Webhooks[i]
		h := explainedWebhook{
			WebhookID: w.Webhook.ID, Name: w.Webhook.Name, Status: nameOf(statusPrefix, w.Webhook.Status), Match: nameOf(matchPrefix, w.Match),
			Missing: w.Filter, DeliveryID: present(w.DeliveryID),
		}
		if w.Subscription >= 0 {
			s := subscriptionOf(w.Webhook.Subscriptions[w.Subscription])
			h.Nearest = &s
		}
		out.Webhooks = append(out.Webhooks, h)
	}
	return out
}
