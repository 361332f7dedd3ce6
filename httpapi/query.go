package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// parameter is one of a query's.
type parameter struct {
	name, about string
	schema      schema
}

const (
	mustBeTime = "must be a time as in 2026-01-31T12:00:00Z (RFC 3339)"
	mustBeUUID = "must be a UUID as in 3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"
)

// checkQuery refuses parameters that an operation does not have, has twice, or
// without a value. An empty cursor is the first page's.
func checkQuery(c *call, known []parameter) error {
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return problem{Status: http.StatusBadRequest, Detail: "The query is not encoded as one."}
	}
	var faults []fault
	for name, v := range values {
		switch {
		case !slices.ContainsFunc(known, func(p parameter) bool { return p.name == name }):
			faults = append(faults, fault{Field: shown(name), Detail: "is not a parameter of this request"})
		case len(v) > 1:
			faults = append(faults, fault{Field: name, Detail: "must not be there twice"})
		case v[0] == "" && name != "cursor":
			faults = append(faults, fault{Field: name, Detail: "must not be empty"})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.SortFunc(faults, func(a, b fault) int { return cmp.Compare(a.Field, b.Field) })
	return invalid(faults[:min(len(faults), maxFaults)]...)
}

// queries reads parameters and collects what is wrong with them. An operation asks
// the manager all the same, with what could be read: first of all comes what this
// actor may see.
type queries struct {
	values url.Values
	faults []fault
}

func (c *call) queries() *queries { return &queries{values: c.URL.Query()} }

func (q *queries) fault(name, detail string) {
	q.faults = append(q.faults, fault{Field: name, Detail: detail})
}

// or returns all that is wrong with the parameters, or the error that the call has
// come back with, which comes first if there is nothing for this actor.
func (q *queries) or(err error) error {
	if len(q.faults) == 0 || errors.Is(err, webhook.ErrForbidden) || errors.Is(err, webhook.ErrNotFound) {
		return err
	}
	return invalid(q.faults...)
}

func (q *queries) text(name string) string { return q.values.Get(name) }

// number reads an integer from 1 to a bound, or 0 if there is none.
func (q *queries) number(name string, bound int, what string) int {
	s := q.values.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > bound {
		q.fault(name, fmt.Sprintf("must be an integer from 1 to %d%s", bound, what))
		return 0
	}
	return n
}

func (q *queries) limit() int { return q.number("limit", webhook.MaxPageSize, "") }

func (q *queries) statusClass() int {
	return q.number("status_class", 5, ", the first digit of the status code")
}

func (q *queries) time(name string) (t time.Time) {
	s := q.values.Get(name)
	if s == "" {
		return t
	}
	if err := t.UnmarshalText([]byte(s)); err != nil {
		q.fault(name, mustBeTime)
		return time.Time{}
	}
	if t.IsZero() { // which the manager would take for no bound
		q.fault(name, "must be later than 0001-01-01T00:00:00Z")
	}
	return t
}

func (q *queries) id(name string) uuid.UUID {
	s := q.values.Get(name)
	if s == "" {
		return uuid.UUID{}
	}
	id, ok := parseID(s)
	if !ok {
		q.fault(name, mustBeUUID)
	}
	return id
}

// parseID reads a UUID in its 36-character form. The zero UUID, which a query of
// the manager's takes for no id, is nobody's.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 { // Parse takes other forms as well
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil && id != uuid.UUID{}
}

func (q *queries) eventType() webhook.EventType {
	s := q.values.Get("subscription_type")
	if s == "" {
		return ""
	}
	t, ok := eventTypeFilter(s)
	if !ok {
		q.fault("subscription_type", "must be "+subscriptionPrefix+" and an event type in upper case")
	}
	return t
}

// enum reads one of the names with a prefix.
func enum[T ~string](q *queries, name, prefix string, known []T) T {
	s := q.values.Get(name)
	if s == "" {
		return ""
	}
	v, ok := valueOf(prefix, s, known)
	if !ok {
		q.fault(name, oneOf(prefix, known))
		return ""
	}
	return v
}
