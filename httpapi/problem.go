package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/posthorn/webhook"
)

// problem is an error as RFC 9457 has it.
type problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Errors []fault `json:"errors,omitempty"`
}

// fault is what is wrong with one field of a body, or one parameter.
type fault struct {
	Field   string `json:"field"`             // as in "content.subscriptions[2].subject_id"
	Pointer string `json:"pointer,omitempty"` // into the body, RFC 6901; of a field of it only
	Detail  string `json:"detail"`
}

// Error makes a problem an error that an operation may return.
func (p problem) Error() string { return fmt.Sprintf("%d: %s", p.Status, p.Detail) }

var errNoSuchPath = problem{Status: http.StatusNotFound, Detail: "There is nothing at this path."}

// invalid is a problem of the body, or of the query.
func invalid(faults ...fault) problem {
	return problem{Status: http.StatusBadRequest, Detail: "The request breaks a rule; errors says which.", Errors: faults}
}

// problemOf says what an error of an operation means to a caller, and nothing of
// the inside.
func problemOf(err error, o *operation) problem {
	var p problem
	var faults webhook.ValidationErrors
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &faults):
		return problemOfFaults(faults, o)
	case errors.Is(err, webhook.ErrInvalidCursor):
		return invalid(fault{Field: "cursor", Detail: "is not one that this list has given, with these filters"})
	case errors.Is(err, webhook.ErrNotFound):
		return problem{Status: http.StatusNotFound, Detail: "There is no such record in this organization."}
	case errors.Is(err, webhook.ErrForbidden):
		return problem{Status: http.StatusForbidden, Detail: "Your role does not allow this."}
	case errors.Is(err, webhook.ErrConflict):
		return problem{Status: http.StatusConflict, Detail: o.conflict}
	case errors.Is(err, webhook.ErrOutcomeUnknown):
		return problem{Status: http.StatusServiceUnavailable, Detail: "It is not known whether this took effect. Look before you try again."}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem{Status: http.StatusServiceUnavailable, Detail: "It took too long. Try again."}
	default:
		return problem{Status: http.StatusInternalServerError, Detail: "Something went wrong on our side."}
	}
}

// problemOfFaults says the manager's faults in the words of a request.
func problemOfFaults(faults webhook.ValidationErrors, o *operation) problem {
	var list []fault
	for _, f := range faults {
		switch f.Field {
		case "actor_id", "organization_id": // the host's, and nothing that the caller could change
			return problem{Status: http.StatusInternalServerError, Detail: "Something went wrong on our side."}
		case "webhooks":
			return problem{Status: http.StatusConflict, Detail: "The organization has no room for another webhook: there " + f.Reason + "."}
		}
		if o.request != "" {
			list = append(list, placeOf(f.Field).fault(f.Reason))
		} else {
			list = append(list, fault{Field: parameterOf(f.Field), Detail: f.Reason})
		}
	}
	return invalid(list...)
}

// The manager's names of what is in a request's content. The key of a filter may
// be any text.
var (
	ofWebhook      = regexp.MustCompile(`^(?:name|description|endpoint_url|status|subscriptions|rate_limit)$`)
	ofSubscription = regexp.MustCompile(`(?s)^subscriptions\[([0-9]+)\](?:\.(subject\.type|subject\.id|event_type|filter)(?:\[(.+)\])?)?$`)

	renamed = map[string]string{"subject.type": "subject_type", "subject.id": "subject_id", "event_type": "subscription_type", "filter": "filter"}
)

// placeOf says where in the body a field of the manager's is.
func placeOf(field string) place {
	content := place{}.member("content")
	if ofWebhook.MatchString(field) {
		return content.member(field)
	}
	m := ofSubscription.FindStringSubmatch(field)
	if m == nil {
		return place{}.member(field) // beside content
	}
	i, _ := strconv.Atoi(m[1]) // digits
	p := content.member("subscriptions").item(i)
	if m[2] != "" {
		p = p.member(renamed[m[2]])
	}
	if m[3] != "" {
		p = p.key(m[3])
	}
	return p
}

// parameterOf is the name of a query's field as a parameter.
func parameterOf(field string) string {
	if field == "event_type" {
		return "subscription_type"
	}
	return field
}
