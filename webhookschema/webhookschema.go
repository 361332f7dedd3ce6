// Package webhookschema describes events as JSON Schema, 2020-12: for receivers, and
// for tests that tell when a change would break them.
//
// It is a module of its own, because of the library that it is built on
// (github.com/google/jsonschema-go).
//
//	var MessageSent = webhook.DefineEvent("message_sent", "Message Sent", Message{Text: "Hello, World!"})
//
//	catalog, err := webhookschema.NewCatalog(subjects, []webhook.EventTypeInfo{MessageSent.Info()})
//
// A host that gives this catalog to its Publisher and Manager shows the schemas in
// its panel and its API. A test keeps the catalog in a golden file:
//
//	func TestEvents(t *testing.T) { schematest.Golden(t, catalog, "testdata/events.json") }
//
// # Go types
//
// The schema of a Go type is that of what encoding/json makes of its values, with
// all its rules: names and options of tags, embedded structs, pointers, and slices
// and maps that are null when they are nil. A field with omitempty or omitzero is
// optional, and then null is none of its values. Types that encode themselves as
// texts are strings; those that encode themselves in another way can be anything.
//
// A tag names what a field is for: `jsonschema:"The text, as plain text."`. A type
// with the method JSONSchema() json.RawMessage, on values, says itself what it is:
//
//	func (State) JSONSchema() json.RawMessage {
//		return json.RawMessage(`{"type":"string","enum":["open","closed"]}`)
//	}
//
// Objects are open: whoever reads them must put up with properties that are added.
package webhookschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/posthorn/webhook"
)

// Version is the version of JSON Schema, as $schema names it.
const Version = "https://json-schema.org/draft/2020-12/schema"

// For returns the schema of what encoding/json makes of values of T. It is an error
// if T cannot be encoded, or has a schema of its own that is none.
func For[T any]() (json.RawMessage, error) {
	s, err := schemaOf(reflect.TypeFor[T]())
	if err != nil {
		return nil, fmt.Errorf("webhookschema: %w", err)
	}
	return s, nil
}

// NewCatalog is [webhook.NewCatalog] that gives each event type with a Go type
// ([webhook.DefineEvent]) the schema of that type, unless it has one already. Schemas
// must be valid and samples must fit them; every fault is in the
// [webhook.ValidationErrors] that it returns.
func NewCatalog(subjects []webhook.SubjectTypeInfo, events []webhook.EventTypeInfo) (*webhook.Catalog, error) {
	var faults webhook.ValidationErrors
	described := make([]webhook.EventTypeInfo, len(events))
	for i, e := range events {
		field := fmt.Sprintf("event_types[%d]", i)
		if e.Schema == nil && e.DataType != nil {
			var err error
			if e.Schema, err = schemaOf(e.DataType); err != nil {
				faults = append(faults, webhook.ValidationError{Field: field + ".schema", Reason: err.Error()})
			}
		}
		described[i] = e
		if e.Schema == nil {
			continue
		}
		if s, err := resolve(e.Schema); err != nil {
			faults = append(faults, webhook.ValidationError{Field: field + ".schema", Reason: err.Error()})
		} else if err := fits(e.Sample, s); err != nil {
			faults = append(faults, webhook.ValidationError{Field: field + ".sample", Reason: "must fit the schema: " + err.Error()})
		}
	}
	c, err := webhook.NewCatalog(subjects, described)
	var others webhook.ValidationErrors
	if errors.As(err, &others) {
		faults = append(faults, others...)
	} else if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return c, nil
}

// fits validates a sample. One that does not encode is left to the catalog.
func fits(sample any, s *jsonschema.Resolved) error {
	if sample == nil {
		sample = struct{}{}
	}
	encoded, err := json.Marshal(sample)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	var value any
	if err := json.Unmarshal(encoded, &value); err != nil {
		return err
	}
	return s.Validate(value)
}

// resolve reads a schema whose references are all to itself.
func resolve(schema json.RawMessage) (*jsonschema.Resolved, error) {
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		return nil, fmt.Errorf("must be a JSON Schema: %w", err)
	}
	if s.Schema != "" && s.Schema != Version {
		return nil, fmt.Errorf("must be a JSON Schema of %s", Version)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("must be a JSON Schema: %w", err)
	}
	return resolved, nil
}

// Catalog returns the payloads of all event types as one JSON Schema document: one
// of its $defs for each, by the event type's name. Event types without a schema get
// that of their Go type; the data of those that have neither can be anything. The
// same catalog gives the same bytes.
func Catalog(c *webhook.Catalog) (json.RawMessage, error) {
	type object = map[string]any
	var payloads []any
	defs := object{}
	for _, e := range c.EventTypes() {
		if e.Schema == nil && e.DataType != nil {
			var err error
			if e.Schema, err = schemaOf(e.DataType); err != nil {
				return nil, fmt.Errorf("webhookschema: %s: %w", e.Type, err)
			}
		}
		var data any = true
		at := "#/$defs/" + string(e.Type)
		if e.Schema != nil {
			if _, err := resolve(e.Schema); err != nil {
				return nil, fmt.Errorf("webhookschema: %s: schema: %w", e.Type, err)
			}
			data = e.SchemaAt(at + "/properties/data")
		}
		payload := object{
			"title": e.Title, "type": "object",
			"properties": object{
				"id":         object{"type": "string", "format": "uuid"},
				"event_type": object{"const": e.Type},
				"subject": object{
					"type": "object", "required": []string{"type", "id"},
					"properties": object{"type": object{"type": "string"}, "id": object{"type": "string"}},
				},
				"timestamp": object{"type": "string", "format": "date-time"},
				"test":      object{"const": true, "description": "Only in test events, whose data is a sample."},
				"data":      data,
			},
			"required": []string{"id", "event_type", "subject", "timestamp", "data"},
		}
		if e.Description != "" {
			payload["description"] = e.Description
		}
		payloads = append(payloads, object{"$ref": at})
		defs[string(e.Type)] = payload
	}
	document, err := json.MarshalIndent(object{"$schema": Version, "title": "Payloads of webhooks", "oneOf": payloads, "$defs": defs}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("webhookschema: %w", err)
	}
	return append(document, '\n'), nil
}
