package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

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

// problemOf says what an error means to a caller: nothing of the inside.
func problemOf(err error) problem {
	var p problem
	var faults webhook.ValidationErrors
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &faults):
		var list []fault
		for _, f := range faults {
			list = append(list, faultIn(f.Field, f.Reason))
		}
		return invalid(list...)
	case errors.Is(err, webhook.ErrInvalidCursor):
		return invalid(fault{Field: "cursor", Detail: "is not one that this list has given, with these filters"})
	case errors.Is(err, webhook.ErrNotFound):
		return problem{Status: http.StatusNotFound, Detail: "There is no such record in this organization."}
	case errors.Is(err, webhook.ErrForbidden):
		return problem{Status: http.StatusForbidden, Detail: "Your role does not allow this."}
	case errors.Is(err, webhook.ErrConflict):
		return problem{Status: http.StatusConflict, Detail: reasonOf(err)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem{Status: http.StatusServiceUnavailable, Detail: "It took too long. Try again."}
	default:
		return problem{Status: http.StatusInternalServerError, Detail: "Something went wrong on our side."}
	}
}

// conflicts are the conflicts that the manager's methods document.
var conflicts = []struct{ operation, detail string }{
	{"recover", "The webhook is inactive; activate it first."},
	{"redeliver", "The delivery is not finished, its payload is no longer kept, or its webhook has been deleted."},
	{"cancel", "The delivery is finished."},
	{"send test", "The webhook is inactive, or has no subscription."},
}

func reasonOf(err error) string {
	for _, c := range conflicts {
		if strings.HasPrefix(err.Error(), "webhook: "+c.operation+":") {
			return c.detail
		}
	}
	return "The record is not in a state that allows this."
}

// inContent finds the manager's names of what is in a request's content.
var inContent = regexp.MustCompile(`^(name|description|endpoint_url|status|subscriptions)\b`)

var renamed = strings.NewReplacer(".subject.type", ".subject_type", ".subject.id", ".subject_id", ".event_type", ".subscription_type")

// faultIn says a manager's fault in a request's words.
func faultIn(field, reason string) fault {
	if inContent.MatchString(field) {
		field = "content." + renamed.Replace(field)
	}
	return inBody(field, reason)
}

// inBody is a fault of a field of the body.
func inBody(field, reason string) fault {
	return fault{Field: field, Pointer: pointer(field), Detail: reason}
}

// pointer is a field's path as a JSON pointer.
func pointer(field string) string {
	var b strings.Builder
	for _, step := range strings.FieldsFunc(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
	}
	return b.String()
}
