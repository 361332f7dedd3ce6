package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Event is something that happened in the host, as the host publishes it.
type Event struct {
	// ID names the event; receivers see it as webhook-id and de-duplicate on
	// it. Defaults to a fresh UUIDv7. An id that is taken is ErrConflict.
	ID uuid.UUID

	// OrganizationID is the tenant in which the event happened. Required, at
	// most 128 bytes.
	OrganizationID string

	// Type must be in the publisher's catalog.
	Type EventType

	// Subject is what the event is about, Parents are what that is part of:
	// the space around a room. Subscriptions of any of them match. At most 8
	// parents.
	Subject Subject
	Parents []Subject

	// Attributes are what the filters of subscriptions look at. They are not
	// part of the payload. At most 16, keys and values of at most 128 bytes.
	Attributes map[string]string

	// OccurredAt is the payload's timestamp. Defaults to the time of Publish.
	OccurredAt time.Time

	// Data is any JSON value; a json.RawMessage is sent byte for byte as it is,
	// and nil as null.
	Data any

	// IdempotencyKey makes publishing repeatable: within an organization, the
	// second event with a key is not stored, and Publish returns the first
	// one's id. At most 128 bytes; empty means none. A key is free again when
	// its event has been purged.
	IdempotencyKey string
}

// EventRecord is an event as stores keep it.
type EventRecord struct {
	ID             uuid.UUID
	OrganizationID string
	Type           EventType
	Subject        Subject
	Parents        []Subject
	Attributes     map[string]string
	OccurredAt     time.Time
	Payload        []byte // the request body, the same bytes for every attempt
	IdempotencyKey string
	Test           bool // a test event: one attempt, no notice

	// TraceContext is what the Tracer gave for the call that published the event:
	// printable ASCII, at most MaxTraceContextBytes; empty means none.
	TraceContext string
}

// newRecord validates an event, reporting every fault at once, and encodes its
// payload.
func newRecord(e Event, c *Catalog, test bool, maxPayload int) (EventRecord, error) {
	var faults ValidationErrors
	checkID(&faults, "organization_id", e.OrganizationID, true)
	c.checkEventType(&faults, "type", e.Type)
	subject := c.checkSubject(&faults, "subject", e.Subject)
	if len(e.Parents) > MaxParents {
		faults.add("parents", fmt.Sprintf("must have at most %d", MaxParents))
	}
	var parents []Subject
	for i, p := range e.Parents[:min(len(e.Parents), MaxParents)] {
		p = c.checkSubject(&faults, fmt.Sprintf("parents[%d]", i), p)
		if p != subject && !slices.Contains(parents, p) {
			parents = append(parents, p)
		}
	}
	checkAttributes(&faults, "attributes", e.Attributes)
	checkTime(&faults, "occurred_at", e.OccurredAt)
	checkID(&faults, "idempotency_key", e.IdempotencyKey, false)
	data, err := encodeJSON(e.Data)
	if err != nil {
		faults.add("data", err.Error())
	}
	r := EventRecord{
		ID: e.ID, OrganizationID: e.OrganizationID, Type: e.Type, Subject: subject, Parents: parents,
		Attributes: e.Attributes, OccurredAt: storedTime(e.OccurredAt), IdempotencyKey: e.IdempotencyKey, Test: test,
	}
	if len(faults) == 0 {
		r.Payload = encodePayload(&r, data)
		if len(r.Payload) > maxPayload {
			faults.add("data", fmt.Sprintf("must leave the payload within %d bytes; it has %d", maxPayload, len(r.Payload)))
		}
	}
	if err := faults.err(); err != nil {
		return EventRecord{}, err
	}
	return r, nil
}

// encodePayload writes the request body. It is written by hand because
// encoding/json would rewrite the bytes of a json.RawMessage.
func encodePayload(r *EventRecord, data []byte) []byte {
	b := make([]byte, 0, len(data)+256)
	b = append(b, `{"id":"`...)
	b = append(b, r.ID.String()...)
	b = append(b, `","event_type":`...)
	b = appendJSONString(b, string(r.Type))
	b = append(b, `,"subject":{"type":`...)
	b = appendJSONString(b, string(r.Subject.Type))
	b = append(b, `,"id":`...)
	b = appendJSONString(b, r.Subject.ID)
	b = append(b, `},"timestamp":"`...)
	b = r.OccurredAt.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if r.Test {
		b = append(b, `,"test":true`...)
	}
	b = append(b, `,"data":`...)
	b = append(b, data...)
	return append(b, '}')
}

func appendJSONString(b []byte, s string) []byte {
	enc, err := encodeJSON(s)
	if err != nil {
		panic("webhook: a string did not encode: " + err.Error())
	}
	return append(b, enc...)
}

// encodeJSON returns v as JSON without HTML escapes. A json.RawMessage is
// checked and returned as it is.
func encodeJSON(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok && raw != nil {
		if !utf8.Valid(raw) {
			return nil, fmt.Errorf("must be valid UTF-8")
		}
		if !json.Valid(raw) {
			return nil, fmt.Errorf("must be one JSON value")
		}
		return raw, nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("must encode as JSON: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
