package webhook

import (
	"time"

	"github.com/google/uuid"
)

// DeliveryState is where a delivery stands.
//
//	            ┌──────── failed attempt, another one left ────────┐
//	            ▼                                                  │
//	publish ─▶ pending ── claimed, sent ─▶ 2xx ─▶ succeeded        │
//	            │  ▲                   └─▶ anything else ──────────┤
//	 deactivate │  │ resume, recover                              └─▶ failed
//	            ▼  │
//	           held        pending or held ── cancel, edit, delete ─▶ cancelled
type DeliveryState string

// The states of a delivery. While an attempt is in flight LeasedUntil is set;
// the state stays pending, unless it has been decided meanwhile that the
// delivery is to be held or cancelled.
const (
	DeliveryPending   DeliveryState = "pending"
	DeliveryHeld      DeliveryState = "held"      // kept, not attempted: the webhook is or was inactive
	DeliverySucceeded DeliveryState = "succeeded" // an attempt was answered by a 2xx status
	DeliveryFailed    DeliveryState = "failed"    // the last attempt failed
	DeliveryCancelled DeliveryState = "cancelled" // by a person, by an edit, by deletion of the webhook
)

// Finished reports whether nothing more will be attempted in this state.
func (s DeliveryState) Finished() bool {
	return s == DeliverySucceeded || s == DeliveryFailed || s == DeliveryCancelled
}

// Delivery is one event for one webhook. Times are UTC, whole microseconds.
type Delivery struct {
	ID             uuid.UUID
	EventID        uuid.UUID
	WebhookID      uuid.UUID
	OrganizationID string
	EventType      EventType
	Subject        Subject
	State          DeliveryState

	Attempts    int       // begun so far, one in flight included
	DueAt       time.Time // of the next attempt; zero once finished
	LeasedUntil time.Time // until when an attempt may be in flight; otherwise zero
	CreatedAt   time.Time
	FinishedAt  time.Time // zero until finished

	RedeliveryOf uuid.UUID // the delivery that this one repeats, or the zero UUID
	Test         bool      // of a test event: one attempt, no notice

	// Payload is the request body. Only [Manager.Delivery] fills it, and only
	// for owners and admins; nil also after retention has purged it.
	Payload []byte
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes of attempts.
const (
	OutcomeSucceeded   Outcome = "succeeded"   // a 2xx status
	OutcomeFailed      Outcome = "failed"      // anything else; see ErrorClass
	OutcomeInterrupted Outcome = "interrupted" // no answer: the lease ran out, the dispatcher stopped, or the webhook was deleted
	OutcomeLate        Outcome = "late"        // interrupted, and reported afterwards: the rest of the row is what happened
)

// ErrorClass says what kind of failure an attempt met. It is stable, for
// filters and programs; [Attempt.Error] is for people.
type ErrorClass string

// The classes of failures. The zero ErrorClass means none.
const (
	ErrorStatus      ErrorClass = "status"      // an answer other than 2xx, redirects included
	ErrorTimeout     ErrorClass = "timeout"     // no complete answer within the attempt's time
	ErrorDNS         ErrorClass = "dns"         // the endpoint's name did not resolve
	ErrorConnect     ErrorClass = "connect"     // no connection
	ErrorTLS         ErrorClass = "tls"         // handshake or certificate
	ErrorDestination ErrorClass = "destination" // an address that webhooks may not be sent to
	ErrorProtocol    ErrorClass = "protocol"    // connected, but no valid HTTP answer
	ErrorInterrupted ErrorClass = "interrupted" // the dispatcher stopped, or the webhook was deleted
	ErrorInternal    ErrorClass = "internal"    // a fault on the sender's side, such as a panic in a callback
)

// Timing is how an attempt's time was spent. Phases that did not happen, such
// as a handshake on a kept-alive connection, are zero.
type Timing struct {
	DNS       time.Duration // name look-up
	Connect   time.Duration // TCP connection
	TLS       time.Duration // TLS handshake
	FirstByte time.Duration // from the attempt's start to the first byte of the answer
}

// Attempt is one HTTP request of a delivery, as the log has it.
type Attempt struct {
	DeliveryID     uuid.UUID
	EventID        uuid.UUID
	WebhookID      uuid.UUID
	OrganizationID string
	EventType      EventType

	Number      int // from 1
	StartedAt   time.Time
	Duration    time.Duration
	EndpointURL string // as it was for this attempt
	Outcome     Outcome
	StatusCode  int // 0 if there was no answer
	ErrorClass  ErrorClass
	Error       string // in words; never an address inside the host's network
	Timing      Timing

	// RetryAfter is what the answer's Retry-After header asked for, for the
	// record: the schedule stands. Zero if absent or unreadable.
	RetryAfter time.Duration

	// Response is the beginning of the answer's body as it came, at most 4
	// KiB, any bytes. Only owners and admins see it.
	Response          []byte
	ResponseTruncated bool
}

// interruptedText is the error of attempts that nobody reported.
const interruptedText = "the sender stopped before it could record an answer"

// Interrupted returns the log row of an attempt whose lease ran out: what is
// known of it, when it was claimed and when its lease ended.
func (c *Claim) Interrupted(claimedAt time.Time) Attempt {
	return Attempt{
		DeliveryID: c.DeliveryID, EventID: c.EventID, WebhookID: c.WebhookID, OrganizationID: c.OrganizationID,
		EventType: c.EventType, Number: c.Attempt, StartedAt: storedTime(claimedAt),
		Duration: c.LeasedUntil.Sub(claimedAt), EndpointURL: c.EndpointURL,
		Outcome: OutcomeInterrupted, ErrorClass: ErrorInterrupted, Error: interruptedText,
	}
}

// After says how a delivery goes on when the given attempt has failed and ended
// at the given time: pending until the next one is due, or failed. A test
// delivery has a single attempt.
func (s Schedule) After(attempt int, ended time.Time, test bool) (DeliveryState, time.Time) {
	wait, ok := s.Delay(attempt)
	if !ok || test {
		return DeliveryFailed, time.Time{}
	}
	return DeliveryPending, storedTime(ended.Add(wait))
}
