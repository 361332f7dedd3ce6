package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"
)

// EventDefinition is an event type whose data has the Go type T. A definition is
// immutable, and safe for concurrent use; the zero value defines nothing.
type EventDefinition[T any] struct{ info EventTypeInfo }

// DefineEvent defines an event type whose data is a T, with its title for people and
// the data that a test event carries.
//
//	var MessageSent = webhook.DefineEvent("message_sent", "Message Sent", Message{Text: "Hello, World!"})
//
//	catalog, err := webhook.NewCatalog(subjects, []webhook.EventTypeInfo{MessageSent.Info()})
//	published, err := pub.Publish(ctx, MessageSent.New("acme", room, Message{Text: text}))
//
// Data of another type does not compile; only a T that is an interface takes
// anything. The sample is encoded here and may be changed afterwards.
//
// Nothing is checked yet, so that definitions can be variables of a package:
// [NewCatalog] reports what is wrong with them, all at once.
func DefineEvent[T any](t EventType, title string, sample T) EventDefinition[T] {
	info := EventTypeInfo{Type: t, Title: title, Sample: sample, DataType: reflect.TypeFor[T]()}
	if encoded, err := encodeJSON(sample); err == nil {
		info.Sample = json.RawMessage(slices.Clone(encoded))
	} // else NewCatalog meets the same error
	return EventDefinition[T]{info}
}

// WithDescription returns the definition with a description for people.
func (d EventDefinition[T]) WithDescription(description string) EventDefinition[T] {
	d.info.Description = description
	return d
}

// WithSchema returns the definition with a JSON Schema of its data, as
// [EventTypeInfo].Schema has it. The module webhookschema makes one of T.
func (d EventDefinition[T]) WithSchema(schema json.RawMessage) EventDefinition[T] {
	d.info.Schema = slices.Clone(schema)
	return d
}

// Type returns the event type.
func (d EventDefinition[T]) Type() EventType { return d.info.Type }

// Info returns the definition as an entry for [NewCatalog].
func (d EventDefinition[T]) Info() EventTypeInfo { return d.info.clone() }

// New returns an event of this type, ready to be published. Its other fields can be
// set before.
func (d EventDefinition[T]) New(organizationID string, subject Subject, data T) Event {
	return Event{OrganizationID: organizationID, Type: d.info.Type, Subject: subject, Data: data}
}

// Decode returns the data of a payload that was received. It is an error if the
// payload is of another event type, or its data does not fit T; null fits pointers and
// what else can be nil, or decodes itself. What T has no field for is ignored, so that
// senders can add to it.
func (d EventDefinition[T]) Decode(p Payload) (T, error) {
	var data T
	if p.Type != d.info.Type {
		return data, fmt.Errorf("webhook: decode %s: the payload is of %s", d.info.Type, p.Type)
	}
	if string(bytes.TrimSpace(p.Data)) == "null" && !takesNull[T]() {
		return data, fmt.Errorf("webhook: decode %s: the data is null", d.info.Type)
	}
	if err := json.Unmarshal(p.Data, &data); err != nil {
		var zero T // and not what was read before the fault
		return zero, fmt.Errorf("webhook: decode %s: %w", d.info.Type, err)
	}
	return data, nil
}

// takesNull reports whether null is a value of T. To all others encoding/json does
// nothing, as if there were no data.
func takesNull[T any]() bool {
	switch reflect.TypeFor[T]().Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		return true
	default:
		_, own := any(new(T)).(json.Unmarshaler)
		return own
	}
}

// Payload is what a request's body says, for receivers in Go.
type Payload struct {
	ID         uuid.UUID // the event's: the webhook-id to skip repetitions by
	Type       EventType
	Subject    Subject
	OccurredAt time.Time
	Test       bool            // a test event: Data is a sample
	Data       json.RawMessage // see [EventDefinition.Decode]
}

// ParsePayload reads a request's body, which the caller has verified ([Verifier]).
// Members that it does not know are ignored: there may be more one day.
func ParsePayload(body []byte) (Payload, error) {
	var p struct {
		ID      uuid.UUID `json:"id"`
		Type    EventType `json:"event_type"`
		Subject struct {
			Type SubjectType `json:"type"`
			ID   string      `json:"id"`
		} `json:"subject"`
		Timestamp time.Time       `json:"timestamp"`
		Test      bool            `json:"test"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return Payload{}, fmt.Errorf("webhook: parse a payload: %w", err)
	}
	if p.ID == uuid.Nil || p.Type == "" || p.Data == nil {
		return Payload{}, fmt.Errorf("webhook: parse a payload: it has no id, event_type or data")
	}
	return Payload{p.ID, p.Type, Subject(p.Subject), p.Timestamp, p.Test, p.Data}, nil
}
