package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// noBody refuses a body where none is read: nothing is ignored in silence.
func (c *call) noBody() error {
	b, err := c.readBody()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) > 0 {
		return problem{Status: http.StatusBadRequest, Detail: "This request takes no body."}
	}
	return nil
}

func (c *call) readBody() ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(nil, c.Body, c.a.maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("The body must be at most %d bytes.", tooLarge.Limit)}
	case err != nil:
		return nil, problem{Status: http.StatusBadRequest, Detail: "The body breaks off."}
	}
	return b, nil
}

// decode reads the body: one JSON object, with no field that is not known.
func decode[T any](c *call) (v T, err error) {
	kind, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return v, problem{Status: http.StatusUnsupportedMediaType, Detail: "Content-Type must be application/json."}
	}
	b, err := c.readBody()
	if err != nil {
		return v, err
	}
	if !utf8.Valid(b) {
		return v, problem{Status: http.StatusBadRequest, Detail: "The body is not UTF-8."}
	}
	if err := unique(b); err != nil {
		return v, badJSON(err, b)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, badJSON(err, b)
	}
	return v, nil
}

// repeatedError is a field that an object has twice: which of them counts is not
// the same everywhere.
type repeatedError struct{ field string }

func (e repeatedError) Error() string { return e.field + " is there twice" }

// unique makes sure that the body is one JSON value whose objects have no field twice.
func unique(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := uniqueValue(d, ""); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the JSON value")
	}
	return nil
}

func uniqueValue(d *json.Decoder, at string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, ok := key.(string)
			if !ok {
				return errors.New("a name is missing")
			}
			// encoding/json finds fields whatever their case.
			folded, field := strings.ToLower(name), strings.TrimPrefix(at+"."+name, ".")
			if seen[folded] {
				return repeatedError{field}
			}
			seen[folded] = true
			if err := uniqueValue(d, field); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if err := uniqueValue(d, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = d.Token() // the closing one
	return err
}

// badJSON says in a problem what is wrong with a body.
func badJSON(err error, body []byte) problem {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var repeated repeatedError
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return problem{Status: http.StatusBadRequest, Detail: "The body is empty; it must be a JSON object."}
	case errors.As(err, &repeated):
		return invalid(inBody(repeated.field, "must not be there twice"))
	case errors.As(err, &syntax):
		return problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("The body is not JSON: %s, at byte %d.", strings.TrimPrefix(syntax.Error(), "json: "), syntax.Offset)}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return problem{Status: http.StatusBadRequest, Detail: "The body is not JSON: it breaks off."}
	case errors.As(err, &kind) && kind.Field == "":
		return problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("The body must be a JSON object, and is a JSON %s.", kind.Value)}
	case errors.As(err, &kind):
		return invalid(inBody(kind.Field, fmt.Sprintf("must be %s, and is a JSON %s", jsonKind(kind.Type.Kind().String()), kind.Value)))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return invalid(inBody(strings.Trim(name, `"`), "is not a field of this request"))
	}
	return problem{Status: http.StatusBadRequest, Detail: "The body is not JSON as this request has it: " + strings.TrimPrefix(err.Error(), "json: ") + "."}
}

// jsonKind is what JSON calls a kind of Go's.
func jsonKind(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "an integer"
	case kind == "struct", kind == "map", kind == "ptr":
		return "an object"
	case kind == "slice":
		return "an array"
	case kind == "bool":
		return "true or false"
	default:
		return "a " + kind
	}
}
