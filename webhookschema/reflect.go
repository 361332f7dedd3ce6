package webhookschema

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// describer is a type that says itself what its values encode as.
type describer interface{ JSONSchema() json.RawMessage }

// schemaOf returns the schema of what encoding/json makes of values of a type.
func schemaOf(t reflect.Type) (json.RawMessage, error) {
	r := reflector{building: map[reflect.Type]bool{}, names: map[reflect.Type]string{}, defs: map[string]*jsonschema.Schema{}}
	s, err := r.schema(t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	if len(r.defs) > 0 {
		s.Defs = r.defs
	}
	out, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	if string(out) == "true" { // anything, as an object
		out = []byte("{}")
	}
	if _, err := resolve(out); err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	return out, nil
}

// reflector makes a schema. Types that contain themselves go to the $defs.
type reflector struct {
	building map[reflect.Type]bool   // types that are being described now
	names    map[reflect.Type]string // among defs, of those that contain themselves
	defs     map[string]*jsonschema.Schema
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// known are types whose own encoding is known.
var known = map[reflect.Type]func() *jsonschema.Schema{
	reflect.TypeFor[time.Time](): func() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Format: "date-time"} },
	reflect.TypeFor[uuid.UUID](): func() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Format: "uuid"} },
	reflect.TypeFor[uuid.NullUUID](): func() *jsonschema.Schema {
		return &jsonschema.Schema{Types: []string{"string", "null"}, Format: "uuid"}
	},
	reflect.TypeFor[json.RawMessage](): func() *jsonschema.Schema { return &jsonschema.Schema{} },
	reflect.TypeFor[json.Number]():     func() *jsonschema.Schema { return &jsonschema.Schema{Type: "number"} },
}

func (r *reflector) schema(t reflect.Type) (*jsonschema.Schema, error) {
	if t.Kind() == reflect.Pointer && !describes(t) {
		s, err := r.schema(t.Elem())
		if err != nil {
			return nil, err
		}
		return nullable(s), nil
	}
	if described, err := r.selfDescribed(t); described != nil || err != nil {
		return described, err
	}
	if t.Name() == "" {
		return r.kind(t)
	}
	if r.building[t] {
		return &jsonschema.Schema{Ref: "#/$defs/" + r.name(t)}, nil
	}
	r.building[t] = true
	s, err := r.kind(t)
	delete(r.building, t)
	if name, ok := r.names[t]; ok && err == nil {
		r.defs[name] = s
		return &jsonschema.Schema{Ref: "#/$defs/" + name}, nil
	}
	return s, err
}

// describes holds for types that say themselves what they are. A nil pointer, whose
// method would be called by way of its element, does not.
func describes(t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && t.Implements(reflect.TypeFor[describer]())
}

// selfDescribed returns the schema of a type that encodes or describes itself, and
// nil for others.
func (r *reflector) selfDescribed(t reflect.Type) (*jsonschema.Schema, error) {
	if describes(t) {
		own, ok := reflect.TypeAssert[describer](reflect.Zero(t))
		if !ok {
			return nil, fmt.Errorf("%s does not describe itself", t)
		}
		text := own.JSONSchema()
		if _, err := resolve(text); err != nil {
			return nil, fmt.Errorf("JSONSchema of %s: %w", t, err)
		}
		s, err := r.placed(t, text)
		if err != nil {
			return nil, fmt.Errorf("JSONSchema of %s: %w", t, err)
		}
		return s, nil
	}
	if schema, ok := known[t]; ok {
		return schema(), nil
	}
	pointer := reflect.PointerTo(t)
	switch {
	case t.Kind() == reflect.Interface:
		return &jsonschema.Schema{}, nil
	case t.Implements(marshaler):
		return &jsonschema.Schema{}, nil
	case t.Implements(textMarshaler):
		return &jsonschema.Schema{Type: "string"}, nil
	case pointer.Implements(marshaler), pointer.Implements(textMarshaler):
		return &jsonschema.Schema{}, nil // by its own methods or without them, as it can be addressed or not
	}
	return nil, nil //nolint:nilnil // neither
}

// placed returns a type's own schema. One that refers to itself goes to the $defs, where
// it is known what its references have to be.
func (r *reflector) placed(t reflect.Type, text json.RawMessage) (*jsonschema.Schema, error) {
	own := webhook.EventTypeInfo{Schema: text}
	s := &jsonschema.Schema{}
	if bytes.Equal(own.SchemaAt("#"), own.SchemaAt("#/elsewhere")) {
		return s, json.Unmarshal(text, s)
	}
	at := "#/$defs/" + r.name(t)
	r.defs[r.name(t)] = s
	return &jsonschema.Schema{Ref: at}, json.Unmarshal(own.SchemaAt(at), s)
}

// name is what a type is called among the $defs.
func (r *reflector) name(t reflect.Type) string {
	if name, ok := r.names[t]; ok {
		return name
	}
	base, _, _ := strings.Cut(cmp.Or(t.Name(), "Unnamed"), "[") // without type arguments
	name := base
	for n := 2; slices.Contains(names(r.names), name); n++ {
		name = base + strconv.Itoa(n)
	}
	r.names[t] = name
	return name
}

func names(m map[reflect.Type]string) (list []string) {
	for _, name := range m {
		list = append(list, name)
	}
	return list
}

// kind describes a type that leaves its encoding to encoding/json.
func (r *reflector) kind(t reflect.Type) (*jsonschema.Schema, error) {
	switch t.Kind() {
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}, nil
	case reflect.String:
		return &jsonschema.Schema{Type: "string"}, nil
	case reflect.Float32, reflect.Float64:
		return &jsonschema.Schema{Type: "number"}, nil
	case reflect.Int, reflect.Int64:
		return &jsonschema.Schema{Type: "integer"}, nil
	case reflect.Uint, reflect.Uint64, reflect.Uintptr:
		return &jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(0.0)}, nil
	case reflect.Int8, reflect.Int16, reflect.Int32:
		top := math.Ldexp(1, t.Bits()-1)
		return &jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(-top), Maximum: jsonschema.Ptr(top - 1)}, nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return &jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(0.0), Maximum: jsonschema.Ptr(math.Ldexp(1, t.Bits()) - 1)}, nil
	case reflect.Array:
		items, err := r.schema(t.Elem())
		return &jsonschema.Schema{Type: "array", Items: items, MinItems: jsonschema.Ptr(t.Len()), MaxItems: jsonschema.Ptr(t.Len())}, err
	case reflect.Slice:
		if isBytes(t) {
			return &jsonschema.Schema{Types: []string{"string", "null"}, ContentEncoding: "base64"}, nil
		}
		items, err := r.schema(t.Elem())
		return &jsonschema.Schema{Types: []string{"array", "null"}, Items: items}, err
	case reflect.Map:
		if !isKey(t.Key()) {
			return nil, fmt.Errorf("a map with keys of type %s does not encode", t.Key())
		}
		values, err := r.schema(t.Elem())
		return &jsonschema.Schema{Types: []string{"object", "null"}, AdditionalProperties: values}, err
	case reflect.Struct:
		return r.object(t)
	default:
		return nil, fmt.Errorf("a value of type %s does not encode", t)
	}
}

// isBytes holds for slices that encode as base64.
func isBytes(t reflect.Type) bool {
	element := reflect.PointerTo(t.Elem())
	return t.Elem().Kind() == reflect.Uint8 && !element.Implements(marshaler) && !element.Implements(textMarshaler)
}

// isKey holds for types whose values can be the keys of a map.
func isKey(t reflect.Type) bool {
	k := t.Kind()
	return k == reflect.String || reflect.Int <= k && k <= reflect.Uintptr || t.Implements(textMarshaler)
}

func (r *reflector) object(t reflect.Type) (*jsonschema.Schema, error) {
	s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}}
	for _, f := range fieldsOf(t) {
		property, err := r.property(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if f.about != "" {
			property.Description = f.about
		}
		s.Properties[f.name] = property
		s.PropertyOrder = append(s.PropertyOrder, f.name)
		if !f.optional {
			s.Required = append(s.Required, f.name)
		}
	}
	return s, nil
}

func (r *reflector) property(f field) (*jsonschema.Schema, error) {
	t, pointer := f.t, false
	if t.Name() == "" && t.Kind() == reflect.Pointer {
		t, pointer = t.Elem(), true
	}
	if own, err := r.selfDescribed(t); f.quoted && own == nil && err == nil {
		if k := t.Kind(); k == reflect.String || reflect.Bool <= k && k <= reflect.Float64 {
			s := &jsonschema.Schema{Type: "string"}
			if pointer && !f.omitted {
				s = nullable(s)
			}
			return s, nil
		}
	}
	if !f.omitted {
		return r.schema(f.t)
	}
	s, err := r.schema(t) // a nil pointer is left out
	if err == nil && !pointer && s.Ref == "" && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && !describes(t) {
		s = notNull(s)
	}
	return s, err
}

// nullable is a schema that also takes null.
func nullable(s *jsonschema.Schema) *jsonschema.Schema {
	switch {
	case slices.Contains(s.Types, "null"), reflect.ValueOf(*s).IsZero():
		return s
	case s.Type != "" && s.Enum == nil && s.Const == nil:
		s.Types, s.Type = []string{s.Type, "null"}, ""
		return s
	default:
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Type: "null"}}}
	}
}

// notNull undoes it for slices and maps.
func notNull(s *jsonschema.Schema) *jsonschema.Schema {
	if len(s.Types) == 2 && s.Types[1] == "null" {
		s.Type, s.Types = s.Types[0], nil
	}
	return s
}

// field is a property of a struct.
type field struct {
	name, about string
	t           reflect.Type
	index       []int
	tagged      bool // by name
	quoted      bool // its option is string
	omitted     bool // when it is nil, among others
	optional    bool // it, or a pointer around it, may be left out
}

// fieldsOf returns the fields that encoding/json encodes, in its order: those of
// embedded structs are fields of the outer one, and of several with one name that
// of the outermost counts, or else the one with a tag, or else none.
func fieldsOf(t reflect.Type) []field {
	var all []field
	collect(&all, t, nil, false, map[reflect.Type]bool{t: true})
	var fields []field
	for _, f := range all {
		dominant := true
		for _, other := range all {
			if other.name != f.name || slices.Equal(other.index, f.index) {
				continue
			}
			if len(other.index) < len(f.index) || len(other.index) == len(f.index) && (other.tagged || !f.tagged) {
				dominant = false
			}
		}
		if dominant {
			fields = append(fields, f)
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return slices.Compare(a.index, b.index) })
	return fields
}

// collect appends the fields of a struct and of those that it embeds.
func collect(all *[]field, t reflect.Type, index []int, optional bool, outer map[reflect.Type]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		element := f.Type
		if element.Name() == "" && element.Kind() == reflect.Pointer {
			element = element.Elem()
		}
		if !f.IsExported() && (!f.Anonymous || element.Kind() != reflect.Struct) {
			continue
		}
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if strings.ContainsFunc(name, notInName) {
			name = ""
		}
		at := append(slices.Clone(index), i)
		has := func(option string) bool { return slices.Contains(strings.Split(options, ","), option) }
		if name == "" && f.Anonymous && element.Kind() == reflect.Struct {
			if !outer[element] { // else its fields are deeper than these, and never count
				outer[element] = true
				collect(all, element, at, optional || f.Type.Kind() == reflect.Pointer, outer)
				delete(outer, element)
			}
			continue
		}
		omitted := has("omitzero") || has("omitempty") && canBeEmpty(f.Type)
		*all = append(*all, field{
			name: cmp.Or(name, f.Name), about: f.Tag.Get("jsonschema"), t: f.Type, index: at, tagged: name != "",
			quoted: has("string"), omitted: omitted, optional: optional || omitted,
		})
	}
}

// notInName holds for what encoding/json does not take in a field's name, which then
// is that of Go.
func notInName(r rune) bool {
	return !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

// canBeEmpty holds for types on which omitempty has an effect. Structs never are
// empty, and neither are arrays, such as UUIDs.
func canBeEmpty(t reflect.Type) bool {
	return t.Kind() != reflect.Struct && (t.Kind() != reflect.Array || t.Len() == 0)
}
