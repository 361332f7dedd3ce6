package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// SchemaAt returns Schema as a part of another document, in which pointer leads to
// it, such as "#/$defs/message_sent": references within the schema go through the
// pointer, and $schema is left out. It is nil if there is no schema.
func (e EventTypeInfo) SchemaAt(pointer string) json.RawMessage {
	if len(e.Schema) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(e.Schema))
	decoder.UseNumber()
	var schema map[string]any
	if err := decoder.Decode(&schema); err != nil {
		return nil // of a catalog's own, none
	}
	delete(schema, "$schema")
	moveReferences(schema, pointer)
	moved, err := encodeJSON(schema)
	if err != nil {
		panic("webhook: a schema did not encode again: " + err.Error())
	}
	return moved
}

// checkSchema says what is wrong with a schema, as far as that can be told without
// a library for it.
func checkSchema(schema json.RawMessage) error {
	var object map[string]json.RawMessage
	switch {
	case !utf8.Valid(schema):
		return errors.New("must be valid UTF-8")
	case json.Unmarshal(schema, &object) != nil || object == nil:
		return errors.New("must be a JSON object")
	}
	return nil
}

// Keywords of JSON Schema whose values are schemas, lists of them, or objects of them.
// What stands elsewhere, as in const and examples, is data.
var (
	schemaKeywords = []string{
		"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then",
		"unevaluatedItems", "unevaluatedProperties",
	}
	schemaLists   = []string{"allOf", "anyOf", "oneOf", "prefixItems"}
	schemaObjects = []string{"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)

// moveReferences lets a schema's references within itself go through the pointer. A
// schema with an $id is a resource of its own, to which they are relative.
func moveReferences(value any, pointer string) {
	schema, ok := value.(map[string]any)
	if !ok || schema["$id"] != nil {
		return
	}
	if ref, ok := schema["$ref"].(string); ok && (ref == "#" || strings.HasPrefix(ref, "#/")) {
		schema["$ref"] = pointer + ref[1:]
	}
	for _, k := range schemaKeywords {
		moveReferences(schema[k], pointer)
	}
	for _, k := range schemaLists {
		list, _ := schema[k].([]any)
		for _, s := range list {
			moveReferences(s, pointer)
		}
	}
	for _, k := range schemaObjects {
		object, _ := schema[k].(map[string]any)
		for _, s := range object {
			moveReferences(s, pointer)
		}
	}
}
