package httpapi

import (
	"errors"
	"fmt"
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

// checkQuery refuses parameters that an operation does not have, or has twice.
func checkQuery(c *call, known []parameter) error {
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return problem{Status: 400, Detail: "The query is not encoded as one."}
	}
	var faults []fault
	for name, v := range values {
		switch {
		case !slices.ContainsFunc(known, func(p parameter) bool { return p.name == name }):
			faults = append(faults, fault{Field: name, Detail: "is not a parameter of this request"})
		case len(v) > 1:
			faults = append(faults, fault{Field: name, Detail: "must not be there twice"})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.SortFunc(faults, func(a, b fault) int { return slices.Compare([]string{a.Field}, []string{b.Field}) })
	return invalid(faults...)
}

// queries reads parameters and collects what is wrong with them.
type queries struct {
	values url.Values
	names  *names
	faults []fault
}

func (c *call) queries() *queries { return &queries{values: c.URL.Query(), names: c.a.names} }

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

// number reads an integer. What is none is -1, which every bound refuses.
func (q *queries) number(name string) int {
	s := q.values.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		q.fault(name, "must be an integer")
		return -1
	}
	return n
}

func (q *queries) limit() int {
	n := q.number("limit")
	if q.values.Has("limit") && (n < 1 || n > webhook.MaxPageSize) {
		q.faults = slices.DeleteFunc(q.faults, func(f fault) bool { return f.Field == "limit" })
		q.fault("limit", fmt.Sprintf("must be an integer from 1 to %d", webhook.MaxPageSize))
	}
	return n
}

func (q *queries) statusClass() int {
	n := q.number("status_class")
	if q.values.Has("status_class") && (n < 1 || n > 5) {
		q.faults = slices.DeleteFunc(q.faults, func(f fault) bool { return f.Field == "status_class" })
		q.fault("status_class", "must be an integer from 1 to 5, the first digit of the status code")
	}
	return n
}

func (q *queries) time(name string) time.Time {
	s := q.values.Get(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		q.fault(name, "must be a time as in 2026-01-31T12:00:00Z (RFC 3339)")
	}
	return t
}

func (q *queries) id(name string) uuid.UUID {
	s := q.values.Get(name)
	if s == "" {
		return uuid.UUID{}
	}
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		q.fault(name, "must be a UUID")
	}
	return id
}

func (q *queries) eventType() webhook.EventType {
	s := q.values.Get("subscription_type")
	if s == "" {
		return ""
	}
	t, err := q.names.eventTypeFilter(s)
	if err != nil {
		q.fault("subscription_type", "must begin with "+subscriptionPrefix)
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
