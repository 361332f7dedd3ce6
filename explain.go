package webhook

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// ExplainQuery names the event that [Manager.Explain] is about: one that is
// stored, or a draft of one that is not.
type ExplainQuery struct {
	// EventID is a stored event's; then Draft does not count.
	EventID uuid.UUID

	// Draft is an event as it would be published. Its type, subject, parents and
	// attributes matter, its data is not looked at, and its organization may be
	// left empty: it is the actor's.
	Draft Event
}

// Match says whether a webhook asks for an event, and if not, why.
type Match string

// The answers. Of several subscriptions the one that comes nearest decides, so
// the reasons are in the order in which a person would mend them.
const (
	MatchYes          Match = "yes"           // it asks for the event
	MatchInactive     Match = "inactive"      // it asks for the event, but is inactive: the delivery is held
	MatchFilter       Match = "filter"        // it asks for the type and subject, but its filter leaves the event out
	MatchEventType    Match = "event_type"    // it asks for the subject, but not for this type
	MatchOtherSubject Match = "other_subject" // it asks for neither the event's subject nor a parent
	MatchOtherTest    Match = "other_test"    // the event is a test of another webhook
)

// Asks reports whether the webhook gets a delivery of the event, held or not.
func (m Match) Asks() bool { return m == MatchYes || m == MatchInactive }

// Explanation says which webhooks of an organization ask for an event.
type Explanation struct {
	// Event is what was looked at, without payload and idempotency key. A
	// draft's ID is zero unless the draft has one.
	Event EventRecord

	// Webhooks are all of the organization's, newest first.
	Webhooks []ExplainedWebhook
}

// ExplainedWebhook is a webhook as it is now, and what it makes of an event.
type ExplainedWebhook struct {
	Webhook Webhook
	Match   Match

	// Subscription is the index of the webhook's subscription that asks for the
	// event, or comes nearest; -1 if none has to do with it.
	Subscription int

	// Filter has the keys, sorted, of that subscription's filter whose values
	// the event does not have. Only with MatchFilter.
	Filter []string

	// DeliveryID is the newest delivery of the event to the webhook; zero if it
	// has none. A webhook that asks for a stored event without having one was
	// created or changed later; one that has one without asking was changed.
	DeliveryID uuid.UUID
}

// Explain says which of the organization's webhooks ask for an event, and for
// each of the others why it does not. It goes by the rule of publishing itself,
// [Subscription.Matches], and by the webhooks as they are now.
//
// An event that no webhook asked for was not stored; a draft of it explains why.
// It returns ErrNotFound for an event that is not stored, or not any more, and
// [ValidationErrors] for a draft that could not be published.
func (m *Manager) Explain(ctx context.Context, a Actor, q ExplainQuery) (Explanation, error) {
	scope, _, err := mayRead(a)
	if err != nil {
		return Explanation{}, err
	}
	var e EventRecord
	if q.EventID == (uuid.UUID{}) {
		e, err = m.draft(scope, q.Draft)
	} else if e, err = m.store.Event(ctx, scope, q.EventID); err != nil {
		err = fmt.Errorf("webhook: explain: %w", err)
	}
	if err != nil {
		return Explanation{}, err
	}
	e.Payload, e.IdempotencyKey, e.TraceContext = nil, "", ""
	out := Explanation{Event: e}
	hooks, err := all(ctx, scope, WebhookQuery{Limit: MaxPageSize}, m.store.Webhooks,
		func(q *WebhookQuery, next string) { q.Cursor = next })
	if err != nil {
		return Explanation{}, fmt.Errorf("webhook: explain: list webhooks: %w", err)
	}
	delivered := map[uuid.UUID]uuid.UUID{} // by webhook
	if q.EventID != (uuid.UUID{}) {
		deliveries, err := all(ctx, scope, DeliveryQuery{EventID: e.ID, Limit: MaxPageSize}, m.store.Deliveries,
			func(q *DeliveryQuery, next string) { q.Cursor = next })
		if err != nil {
			return Explanation{}, fmt.Errorf("webhook: explain: list deliveries: %w", err)
		}
		for _, d := range slices.Backward(deliveries) { // the newest comes first
			delivered[d.WebhookID] = d.ID
		}
	}
	for _, w := range hooks {
		x := explainWebhook(&w, &e, delivered[w.ID])
		out.Webhooks = append(out.Webhooks, x)
	}
	return out, nil
}

// draft is the record that publishing an event would store.
func (m *Manager) draft(scope Scope, e Event) (EventRecord, error) {
	if e.OrganizationID == "" {
		e.OrganizationID = scope.OrganizationID
	}
	if e.OrganizationID != scope.OrganizationID {
		return EventRecord{}, ErrNotFound
	}
	e.Data = nil
	return newRecord(e, m.catalog, false, DefaultMaxPayloadBytes)
}

// all reads every page of a list.
func all[Q, T any](
	ctx context.Context, s Scope, q Q, read func(context.Context, Scope, Q) (Page[T], error), turn func(*Q, string),
) (items []T, err error) {
	for {
		page, err := read(ctx, s, q)
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		turn(&q, page.Next)
	}
}

// explainWebhook compares the webhook's subscriptions with the event, each with
// less and less of its demands.
func explainWebhook(w *Webhook, e *EventRecord, deliveryID uuid.UUID) ExplainedWebhook {
	x := ExplainedWebhook{Webhook: *w, DeliveryID: deliveryID, Subscription: -1}
	asks := MatchYes
	if w.Status != StatusActive {
		asks = MatchInactive
	}
	if e.Test { // which no subscription decides about
		x.Match = MatchOtherTest
		if deliveryID != (uuid.UUID{}) {
			x.Match = asks
		}
		return x
	}
	for _, step := range []struct {
		match  Match
		demand func(s Subscription) Subscription
	}{
		{asks, func(s Subscription) Subscription { return s }},
		{MatchFilter, func(s Subscription) Subscription { return Subscription{Subject: s.Subject, EventType: s.EventType} }},
		{MatchEventType, func(s Subscription) Subscription { return Subscription{Subject: s.Subject, EventType: e.Type} }},
		{MatchOtherSubject, func(s Subscription) Subscription { return Subscription{Subject: e.Subject, EventType: s.EventType} }},
	} {
		x.Match = step.match
		x.Subscription = slices.IndexFunc(w.Subscriptions, func(s Subscription) bool { return step.demand(s).Matches(e) })
		if x.Subscription >= 0 {
			break
		}
	}
	if x.Match == MatchFilter {
		s := w.Subscriptions[x.Subscription]
		for _, key := range sortedKeys(s.Filter) {
			if !(Subscription{Subject: s.Subject, EventType: s.EventType, Filter: map[string]string{key: s.Filter[key]}}).Matches(e) {
				x.Filter = append(x.Filter, key)
			}
		}
	}
	return x
}
