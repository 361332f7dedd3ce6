// Package webhook gives the customers of a Go service outbound webhooks: they
// register endpoints, and get the service's events there as signed POSTs that
// are retried, logged, and stopped when they say so.
//
// It is a library, not a server: it lives in the service's process and keeps
// its records in a [Store]: sqlstore on the service's own SQL database, or
// memstore in memory.
//
// # Parts
//
// A [Manager] is what an organization's people use: it creates, edits and
// deletes webhooks, reads the delivery log, and sends again what was missed. It
// alone checks what an [Actor] may do.
//
// A [Publisher] stores an [Event] with one delivery for each webhook that asks
// for it, if need be inside a transaction of the host.
//
// A [Dispatcher] makes the attempts: signed by a [Signer], over a client from
// [NewHTTPClient] that keeps away from addresses that are not public, on a
// [Schedule] of six attempts in 14 h 36 m. When the last one has failed, it
// tells a [Notifier].
//
// A [Verifier] is for the other side: receivers check with it what they get.
//
// All of them stand on a [Store]: sqlstore, memstore for tests, or one of your
// own, which storetest checks against the contract.
//
// # Guarantees
//
// An event is delivered at least once to each webhook that was active and
// subscribed when it was published, until an attempt is answered by a 2xx
// status or the schedule ends. Attempts may repeat: after a crash, a lost
// answer or a redelivery. Receivers tell repeats by the webhook-id header, which
// is the event's id on every attempt. Deliveries have no order.
package webhook

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Status says whether a webhook's deliveries are attempted.
type Status string

// The statuses. The zero Status is refused.
const (
	StatusActive   Status = "active"
	StatusInactive Status = "inactive" // deliveries are held
)

// Subject is an entity that events are about.
type Subject struct {
	Type SubjectType
	ID   string
}

// Subscription asks for one event type of one subject.
type Subscription struct {
	Subject   Subject
	EventType EventType

	// Filter narrows the subscription to events whose attributes have every
	// one of these values. Empty means no narrowing. At most 16 entries.
	Filter map[string]string
}

// Matches reports whether the subscription asks for the event. It is the one
// matching rule: of stores at fan-out, and of whoever explains it.
func (s Subscription) Matches(e *EventRecord) bool {
	if s.EventType != e.Type || s.Subject != e.Subject && !slices.Contains(e.Parents, s.Subject) {
		return false
	}
	for k, want := range s.Filter {
		if got, ok := e.Attributes[k]; !ok || got != want {
			return false
		}
	}
	return true
}

// Webhook is an organization's registration of an endpoint.
type Webhook struct {
	ID             uuid.UUID
	OrganizationID string
	Name           string
	Description    string
	EndpointURL    string // normalized, https
	Status         Status
	Subscriptions  []Subscription
	RateLimit      int // attempts a second, see WebhookInput; 0 means no limit

	// StatusSince is when the webhook became what Status says.
	StatusSince time.Time

	// DeactivatedFor is the rule by which the library made an inactive webhook
	// inactive; empty if a person did, and while it is active.
	DeactivatedFor DeactivationReason

	// Version counts the states of the webhook from 1. An update names the
	// version that it was made from.
	Version int64

	CreatedAt, UpdatedAt time.Time // UTC, whole microseconds
	CreatedBy, UpdatedBy string    // ids of actors, or DeactivatedBy
}

// Clone returns a copy that shares nothing with w.
func (w Webhook) Clone() Webhook {
	w.Subscriptions = slices.Clone(w.Subscriptions)
	for i := range w.Subscriptions {
		w.Subscriptions[i].Filter = maps.Clone(w.Subscriptions[i].Filter)
	}
	return w
}

// Matches reports whether any of the webhook's subscriptions asks for the event.
func (w *Webhook) Matches(e *EventRecord) bool {
	return slices.ContainsFunc(w.Subscriptions, func(s Subscription) bool { return s.Matches(e) })
}

// Subscribes reports whether the webhook is still subscribed to the event's
// type for its subject or a parent, whatever its filters say now. A test event
// needs no subscription. By this rule an edit cancels pending deliveries.
func (w *Webhook) Subscribes(e *EventRecord) bool {
	return e.Test || slices.ContainsFunc(w.Subscriptions, func(s Subscription) bool {
		return Subscription{Subject: s.Subject, EventType: s.EventType}.Matches(e)
	})
}

// EndpointHost returns the host of the endpoint's URL, without the port: what a
// notice may say of it.
func (w *Webhook) EndpointHost() string {
	u, err := url.Parse(w.EndpointURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// WebhookInput is what a person registers. The secret is not among it: it is
// made for them, and never changes. To rotate it, a new webhook takes over.
type WebhookInput struct {
	Name          string // required, at most 100 characters
	Description   string // at most 500 characters
	EndpointURL   string // https, see [ValidateEndpointURL]
	Subscriptions []Subscription

	// RateLimit is how many attempts a second the receiver takes, from 1 to 1000;
	// 0 means no limit. Each dispatcher keeps to it by itself, so with several
	// processes the receiver may get that many times as much. A tenth of a second's
	// worth may go at once. What has to wait is delayed, which costs it no attempt,
	// and delays nobody else.
	RateLimit int

	// IdempotencyKey makes repeating a Create harmless: within the organization
	// a key creates one webhook, and stays taken when that is deleted, until
	// retention has taken its deliveries, too. At most 128 bytes; empty means
	// that each call creates one.
	IdempotencyKey string
}

// WebhookChange replaces everything of a webhook that can be changed: what is to
// stay is copied from the [Webhook] that was read.
type WebhookChange struct {
	// Version is the one that was read. If the webhook has moved on since,
	// Update returns ErrConflict.
	Version int64

	Name, Description, EndpointURL string
	Status                         Status
	Subscriptions                  []Subscription
	RateLimit                      int

	// Resume delivers what was held. Without it, held deliveries of a webhook
	// that becomes active stay held until Recover takes them.
	Resume bool
}

// checkWebhook validates what a person typed and returns it trimmed and
// normalized. Every fault is reported at once. The endpoint and subscriptions that
// has has already are taken as they are, if it is not nil.
func checkWebhook(in WebhookInput, has *Webhook, c *Catalog, allowed []netip.Prefix) (WebhookInput, ValidationErrors, error) {
	var faults ValidationErrors
	in.Name = strings.TrimSpace(in.Name)
	if strings.Trim(in.Name, "\u200C\u200D") == "" {
		faults.add("name", "is required")
	}
	checkText(&faults, "name", in.Name, MaxNameLength, "")
	checkText(&faults, "description", in.Description, MaxDescriptionLength, "\n\r\t")

	var endpointErr error
	if has == nil || in.EndpointURL != has.EndpointURL {
		in.EndpointURL, endpointErr = validateEndpointURL(in.EndpointURL, allowed)
	}
	var endpointFaults ValidationErrors
	if errors.As(endpointErr, &endpointFaults) {
		faults = append(faults, endpointFaults...)
	}

	if in.RateLimit < 0 || in.RateLimit > MaxRateLimit {
		faults.add("rate_limit", fmt.Sprintf("must be from 1 to %d attempts a second, or 0 for no limit", MaxRateLimit))
	}
	if len(in.Subscriptions) == 0 {
		faults.add("subscriptions", "must have at least one event type")
	}
	if len(in.Subscriptions) > MaxSubscriptions {
		faults.add("subscriptions", fmt.Sprintf("must have at most %d", MaxSubscriptions))
		in.Subscriptions = in.Subscriptions[:MaxSubscriptions]
	}
	in.Subscriptions = slices.Clone(in.Subscriptions)
	for i, s := range in.Subscriptions {
		field := fmt.Sprintf("subscriptions[%d]", i)
		if has == nil || !has.has(s) {
			s.Subject = c.checkSubject(&faults, field+".subject", s.Subject)
			c.checkEventType(&faults, field+".event_type", s.EventType)
			checkAttributes(&faults, field+".filter", s.Filter)
		}
		s.Filter = maps.Clone(s.Filter)
		for _, earlier := range in.Subscriptions[:i] {
			if earlier.Subject == s.Subject && earlier.EventType == s.EventType {
				faults.add(field, "must not repeat the subject and event type of another subscription")
				break
			}
		}
		in.Subscriptions[i] = s
	}
	return in, faults, endpointErr
}

// has reports whether the webhook has this very subscription.
func (w *Webhook) has(s Subscription) bool {
	return slices.ContainsFunc(w.Subscriptions, func(o Subscription) bool {
		return o.Subject == s.Subject && o.EventType == s.EventType && maps.Equal(o.Filter, s.Filter)
	})
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
