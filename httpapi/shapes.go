package httpapi

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// subscription is a subscription in requests and answers.
type subscription struct {
	SubjectType      string            `json:"subject_type" enum:"SubjectType"`
	SubjectID        string            `json:"subject_id" bound:"ID"`
	SubscriptionType string            `json:"subscription_type" enum:"SubscriptionType"`
	Filter           map[string]string `json:"filter,omitempty" bound:"Filter"`
}

// hook is a webhook in answers.
type hook struct {
	ID             uuid.UUID      `json:"id"`
	OrganizationID string         `json:"organization_id"`
	Name           string         `json:"name"`
	Description    string         `json:"description"`
	EndpointURL    string         `json:"endpoint_url"`
	Status         string         `json:"status" enum:"Status"`
	Subscriptions  []subscription `json:"subscriptions"`
	RateLimit      int            `json:"rate_limit,omitempty"`
	Reason         string         `json:"deactivation_reason,omitempty" enum:"DeactivationReason"`
	Version        int64          `json:"version"`
	CreatedAt      time.Time      `json:"created_at"`
	CreatedBy      string         `json:"created_by,omitempty"`
	UpdatedAt      time.Time      `json:"updated_at"`
	UpdatedBy      string         `json:"updated_by,omitempty"`
}

func hookOf(w *webhook.Webhook) hook {
	h := hook{
		ID: w.ID, OrganizationID: w.OrganizationID, Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL,
		Status: nameOf(statusPrefix, w.Status), Subscriptions: []subscription{}, RateLimit: w.RateLimit,
		Reason: reasonName(w.DeactivatedFor), Version: w.Version,
		CreatedAt: w.CreatedAt, CreatedBy: w.CreatedBy, UpdatedAt: w.UpdatedAt, UpdatedBy: w.UpdatedBy,
	}
	for _, s := range w.Subscriptions {
		h.Subscriptions = append(h.Subscriptions, subscriptionOf(s))
	}
	return h
}

func subscriptionOf(s webhook.Subscription) subscription {
	return subscription{
		SubjectType: nameOf(subjectTypePrefix, s.Subject.Type), SubjectID: s.Subject.ID,
		SubscriptionType: nameOf(subscriptionPrefix, s.EventType), Filter: s.Filter,
	}
}

// reasonName is the name of a reason, or nothing.
func reasonName(r webhook.DeactivationReason) string {
	if r == "" {
		return ""
	}
	return nameOf(reasonPrefix, r)
}

// health is how a webhook does.
type health struct {
	Status      string    `json:"status" enum:"Status"`
	StatusSince time.Time `json:"status_since"`
	Reason      string    `json:"deactivation_reason,omitempty" enum:"DeactivationReason"`

	Since       time.Time `json:"since"` // of the next four
	Succeeded   int       `json:"succeeded"`
	Failed      int       `json:"failed"`
	Interrupted int       `json:"interrupted"`
	SuccessRate *float64  `json:"success_rate,omitempty"` // without any, if nothing succeeded or failed

	ConsecutiveFailures int        `json:"consecutive_failures"`
	LastSuccessAt       *time.Time `json:"last_success_at,omitempty"`
	FailingSince        *time.Time `json:"failing_since,omitempty"`
}

func healthOf(h *webhook.Health) health {
	out := health{
		Status: nameOf(statusPrefix, h.Status), StatusSince: h.StatusSince, Reason: reasonName(h.DeactivatedFor),
		Since: h.Since, Succeeded: h.Succeeded, Failed: h.Failed, Interrupted: h.Interrupted,
		ConsecutiveFailures: h.ConsecutiveFailures, LastSuccessAt: present(h.LastSuccessAt), FailingSince: present(h.FailingSince),
	}
	if rate, ok := h.SuccessRate(); ok {
		out.SuccessRate = &rate
	}
	return out
}

// content is bytes: as a text if they are one, else in base64.
type content struct {
	Encoding  string `json:"encoding"` // "utf-8" or "base64"
	Data      string `json:"data"`
	Truncated bool   `json:"truncated,omitempty"`
}

func contentOf(b []byte, truncated bool) *content {
	switch {
	case len(b) == 0:
		return nil
	case utf8.Valid(b):
		return &content{"utf-8", string(b), truncated}
	default:
		return &content{"base64", base64.StdEncoding.EncodeToString(b), truncated}
	}
}

type delivery struct {
	ID               uuid.UUID  `json:"id"`
	EventID          uuid.UUID  `json:"event_id"`
	WebhookID        uuid.UUID  `json:"webhook_id"`
	OrganizationID   string     `json:"organization_id"`
	SubscriptionType string     `json:"subscription_type" enum:"SubscriptionType"`
	SubjectType      string     `json:"subject_type" enum:"SubjectType"`
	SubjectID        string     `json:"subject_id"`
	State            string     `json:"state" enum:"DeliveryState"`
	Attempts         int        `json:"attempts"`
	DueAt            *time.Time `json:"due_at,omitempty"`
	CreatedAt        time.Time  `json:"created_at"`
	FinishedAt       *time.Time `json:"finished_at,omitempty"`
	RedeliveryOf     *uuid.UUID `json:"redelivery_of,omitempty"`
	Test             bool       `json:"test"`
	Payload          *content   `json:"payload,omitempty"`
}

func deliveryOf(d *webhook.Delivery) delivery {
	return delivery{
		ID: d.ID, EventID: d.EventID, WebhookID: d.WebhookID, OrganizationID: d.OrganizationID,
		SubscriptionType: nameOf(subscriptionPrefix, d.EventType), SubjectType: nameOf(subjectTypePrefix, d.Subject.Type), SubjectID: d.Subject.ID,
		State: nameOf(statePrefix, d.State), Attempts: d.Attempts, DueAt: present(d.DueAt), CreatedAt: d.CreatedAt, FinishedAt: present(d.FinishedAt),
		RedeliveryOf: present(d.RedeliveryOf), Test: d.Test, Payload: contentOf(d.Payload, false),
	}
}

// present is nil for a zero value.
func present[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// timing is how an attempt's time was spent, in milliseconds.
type timing struct {
	DNS       float64 `json:"dns_ms"`
	Connect   float64 `json:"connect_ms"`
	TLS       float64 `json:"tls_ms"`
	FirstByte float64 `json:"first_byte_ms"`
}

type attempt struct {
	DeliveryID       uuid.UUID `json:"delivery_id"`
	EventID          uuid.UUID `json:"event_id"`
	WebhookID        uuid.UUID `json:"webhook_id"`
	OrganizationID   string    `json:"organization_id"`
	SubscriptionType string    `json:"subscription_type" enum:"SubscriptionType"`
	Number           int       `json:"number"`
	StartedAt        time.Time `json:"started_at"`
	Duration         float64   `json:"duration_ms"`
	EndpointURL      string    `json:"endpoint_url"`
	Outcome          string    `json:"outcome" enum:"Outcome"`
	StatusCode       int       `json:"status_code,omitempty"`
	ErrorClass       string    `json:"error_class,omitempty" enum:"ErrorClass"`
	Error            string    `json:"error,omitempty"`
	Timing           timing    `json:"timing"`
	RetryAfter       float64   `json:"retry_after_ms,omitempty"`
	Response         *content  `json:"response,omitempty"`
}

func attemptOf(a *webhook.Attempt) attempt {
	out := attempt{
		DeliveryID: a.DeliveryID, EventID: a.EventID, WebhookID: a.WebhookID, OrganizationID: a.OrganizationID,
		SubscriptionType: nameOf(subscriptionPrefix, a.EventType), Number: a.Number, StartedAt: a.StartedAt, Duration: millis(a.Duration),
		EndpointURL: a.EndpointURL, Outcome: nameOf(outcomePrefix, a.Outcome), StatusCode: a.StatusCode, Error: a.Error,
		Timing:     timing{millis(a.Timing.DNS), millis(a.Timing.Connect), millis(a.Timing.TLS), millis(a.Timing.FirstByte)},
		RetryAfter: millis(a.RetryAfter), Response: contentOf(a.Response, a.ResponseTruncated),
	}
	if a.ErrorClass != "" {
		out.ErrorClass = nameOf(errorPrefix, a.ErrorClass)
	}
	return out
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// counter is an hour of a webhook.
type counter struct {
	Hour        time.Time `json:"hour"`
	Succeeded   int       `json:"succeeded"`
	Failed      int       `json:"failed"`
	Interrupted int       `json:"interrupted"`
	Latency     []bucket  `json:"latency"`
}

// bucket counts attempts that took longer than the bucket before it and at most UpTo.
type bucket struct {
	UpTo  *float64 `json:"up_to_ms" null:"yes"` // without a bound
	Count int      `json:"count"`
}

func counterOf(c *webhook.Counter) counter {
	out := counter{Hour: c.Hour, Succeeded: c.Succeeded, Failed: c.Failed, Interrupted: c.Interrupted}
	for i, n := range c.Latency {
		b := bucket{Count: n}
		if i < len(webhook.LatencyBounds) {
			b.UpTo = present(millis(webhook.LatencyBounds[i]))
		}
		out.Latency = append(out.Latency, b)
	}
	return out
}

type recovery struct {
	Redelivered int `json:"redelivered"`
	Released    int `json:"released"`
	Purged      int `json:"purged"`
}

// mapped converts the items of a page.
func mapped[A, B any](items []A, f func(*A) B) []B {
	out := make([]B, len(items))
	for i := range items {
		out[i] = f(&items[i])
	}
	return out
}
