package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthorn/webhook"
)

// maxFaults bounds the faults of one answer, which a body of nothing but wrong
// fields would make longer than itself, and maxShown what is shown of a name.
const (
	maxFaults = 100
	maxShown  = 100
)

// noBody refuses a body where none is asked for: nothing is ignored in silence. An
// object without fields, which many clients send with every POST, says nothing.
func (c *call) noBody() error {
	b, err := c.readBody()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	_, err = parse[struct{}](b)
	return err
}

func (c *call) readBody() ([]byte, error) {
	if c.Body == nil { // of a request that no server has read
		return nil, nil
	}
	b, err := io.ReadAll(http.MaxBytesReader(nil, c.Body, c.api.maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("The body must be at most %d bytes.", tooLarge.Limit)}
	case err != nil:
		return nil, problem{Status: http.StatusBadRequest, Detail: "The body breaks off."}
	}
	return b, nil
}

// decode reads the body: one JSON object that is a T.
func decode[T any](c *call) (v T, err error) {
	kind, parameters, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return v, problem{Status: http.StatusUnsupportedMediaType, Detail: "Content-Type must be application/json."}
	}
	if charset := parameters["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return v, problem{Status: http.StatusUnsupportedMediaType, Detail: "The charset of Content-Type must be utf-8."}
	}
	if coding := c.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return v, problem{Status: http.StatusUnsupportedMediaType, Detail: "Content-Encoding must be identity, or not there."}
	}
	b, err := c.readBody()
	if err != nil {
		return v, err
	}
	return parse[T](b)
}

// parse decodes a body, or says everything that is wrong with its form. What is
// wrong with the values, or missing, says the manager, which knows that only of a
// body whose form is right.
func parse[T any](b []byte) (v T, err error) {
	if !utf8.Valid(b) {
		return v, problem{Status: http.StatusBadRequest, Detail: "The body is not UTF-8."}
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil { // which bounds the depth
		return v, notJSON(err, b)
	}
	if kind := kindOf(whole); kind != anObject {
		return v, problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("The body must be a JSON object, and is %s.", kind)}
	}
	var faults faultList
	faults.check(place{}, whole, reflect.TypeFor[T]())
	if len(faults) > 0 {
		return v, invalid(faults...)
	}
	if err := json.Unmarshal(whole, &v); err != nil {
		return v, problem{Status: http.StatusBadRequest, Detail: "The body is not JSON as this request has it."}
	}
	return v, nil
}

// notJSON says why a body is none.
func notJSON(err error, body []byte) problem {
	var syntax *json.SyntaxError
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return problem{Status: http.StatusBadRequest, Detail: "The body is empty; it must be a JSON object."}
	case errors.As(err, &syntax):
		return problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("The body is not JSON: %s, at byte %d.", syntax, syntax.Offset)}
	default:
		return problem{Status: http.StatusBadRequest, Detail: "The body is not JSON."}
	}
}

// What a JSON value can be.
const (
	anObject = "an object"
	anArray  = "an array"
	aString  = "a string"
	aNumber  = "a number"
	aBoolean = "true or false"
	aNull    = "null"
)

// kindOf returns which of them a valid value is.
func kindOf(raw json.RawMessage) string {
	switch raw[0] { // RawMessage has no space around it
	case '{':
		return anObject
	case '[':
		return anArray
	case '"':
		return aString
	case 't', 'f':
		return aBoolean
	case 'n':
		return aNull
	default:
		return aNumber
	}
}

// place is where in a body something is: for people, who are shown the beginning of
// a long name, and for programs, which find the value by all of it.
type place struct{ field, pointer string }

func (p place) member(name string) place {
	return place{strings.TrimPrefix(p.field+"."+shown(name), "."), p.pointer + "/" + escapePointer.Replace(name)}
}

func (p place) item(i int) place {
	return place{fmt.Sprintf("%s[%d]", p.field, i), fmt.Sprintf("%s/%d", p.pointer, i)}
}

// key is an entry of a map, whose keys are the caller's own.
func (p place) key(name string) place {
	return place{p.field + "[" + shown(name) + "]", p.pointer + "/" + escapePointer.Replace(name)}
}

// escapePointer is section 3 of RFC 6901.
var escapePointer = strings.NewReplacer("~", "~0", "/", "~1")

func shown(name string) string {
	if utf8.RuneCountInString(name) <= maxShown {
		return name
	}
	return string([]rune(name)[:maxShown]) + "…"
}

func (p place) fault(detail string) fault {
	return fault{Field: p.field, Pointer: p.pointer, Detail: detail}
}

// faultList collects what is wrong with the form of a body.
type faultList []fault

func (fs *faultList) add(p place, detail string) {
	if len(*fs) < maxFaults {
		*fs = append(*fs, p.fault(detail))
	}
}

// check holds a value against the type it is to be decoded into. It is stricter
// than encoding/json, which takes names in any case, null for anything and the last
// of several fields of one name, and stops at the first fault. It goes no deeper
// than the type does.
func (fs *faultList) check(at place, raw json.RawMessage, t reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	want := aString
	switch {
	case t == reflect.TypeFor[instant]():
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		want = anObject
	case t.Kind() == reflect.Slice:
		want = anArray
	case t.Kind() == reflect.Bool:
		want = aBoolean
	case t.Kind() == reflect.Int64:
		want = aNumber
	}
	if kind := kindOf(raw); kind != want {
		if want == aNumber {
			want = "an integer"
		}
		fs.add(at, fmt.Sprintf("must be %s, and is %s", want, kind))
		return
	}
	switch {
	case t == reflect.TypeFor[instant]():
		if new(instant).UnmarshalJSON(raw) != nil {
			fs.add(at, mustBeTime)
		}
	case t.Kind() == reflect.Struct:
		fs.checkFields(at, raw, t)
	case t.Kind() == reflect.Map:
		n := 0
		for m := range fs.members(raw, at.key) {
			if n++; n > webhook.MaxAttributes {
				fs.add(at, fmt.Sprintf("must have at most %d entries", webhook.MaxAttributes))
				return
			}
			fs.check(at.key(m.name), m.value, t.Elem())
		}
	case t.Kind() == reflect.Slice:
		fs.checkItems(at, raw, t.Elem())
	case t.Kind() == reflect.Int64:
		if json.Unmarshal(raw, new(int64)) != nil {
			fs.add(at, "must be an integer, without a fraction or an exponent")
		}
	}
}

// checkItems looks at as many as there may be: the rest of a large body is not worth
// the time. The lists in requests are subscriptions and parents, the maps filters and attributes;
// what is too long for its own bound says the manager.
func (fs *faultList) checkItems(at place, raw json.RawMessage, t reflect.Type) {
	var items []json.RawMessage
	d := json.NewDecoder(bytes.NewReader(raw))
	_, _ = d.Token() // the bracket; the value has been parsed before, so that there are no errors
	for d.More() {
		if len(items) == webhook.MaxSubscriptions {
			fs.add(at, fmt.Sprintf("must have at most %d", webhook.MaxSubscriptions))
			return
		}
		var item json.RawMessage
		_ = d.Decode(&item)
		items = append(items, item)
	}
	for i, item := range items {
		fs.check(at.item(i), item, t)
	}
}

func (fs *faultList) checkFields(at place, raw json.RawMessage, t reflect.Type) {
	fields := reflect.VisibleFields(t)
	var there []string
	for m := range fs.members(raw, at.member) {
		i := slices.IndexFunc(fields, func(f reflect.StructField) bool { return jsonName(f) == m.name })
		if i < 0 {
			fs.add(at.member(m.name), "is not a field here; "+fieldsThereAre(fields))
			continue
		}
		there = append(there, m.name)
		fs.check(at.member(m.name), m.value, fields[i].Type)
	}
	// A missing object would be reported as all that is missing in it.
	for _, f := range fields {
		if name := jsonName(f); f.Type.Kind() == reflect.Struct && !optional(f) && !slices.Contains(there, name) {
			fs.add(at.member(name), "is required")
		}
	}
}

func fieldsThereAre(fields []reflect.StructField) string {
	if len(fields) == 0 {
		return "the request takes no body, or an object without fields"
	}
	var names []string
	for _, f := range fields {
		names = append(names, jsonName(f))
	}
	return "the fields are: " + strings.Join(names, ", ")
}

// jsonName is a field's name in JSON, and optional says that it may be left out.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func optional(f reflect.StructField) bool {
	return strings.Contains(f.Tag.Get("json"), ",omitempty") || f.Tag.Get("optional") != ""
}

// instant is a time in a request. By itself time.Time takes no escapes in its text.
type instant struct{ time.Time }

// UnmarshalJSON reads a time of RFC 3339.
func (i *instant) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	return i.UnmarshalText([]byte(text))
}

// member is a field of an object.
type member struct {
	name  string
	value json.RawMessage
}

// members yields the fields of an object in their order, until there are too many
// faults. Of those of one name it yields the first, and reports the others: which of
// them counts is not the same for every parser.
func (fs *faultList) members(raw json.RawMessage, placeOf func(string) place) iter.Seq[member] {
	return func(yield func(member) bool) {
		seen := map[string]bool{}
		d := json.NewDecoder(bytes.NewReader(raw))
		_, _ = d.Token() // the brace; the value has been parsed before, so that there are no errors
		for d.More() && len(*fs) < maxFaults {
			token, _ := d.Token()
			m := member{}
			m.name, _ = token.(string)
			_ = d.Decode(&m.value)
			if seen[m.name] {
				fs.add(placeOf(m.name), "must not be there twice")
				continue
			}
			seen[m.name] = true
			if !yield(m) {
				return
			}
		}
	}
}
