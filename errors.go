package webhook

import (
	"errors"
	"strings"
)

// Sentinels that callers branch on with errors.Is.
var (
	// ErrNotFound says that the organization has no such record. A record of
	// another organization gives the same error as one that never was.
	ErrNotFound = errors.New("webhook: not found")

	// ErrForbidden says that the actor's role does not allow the call.
	ErrForbidden = errors.New("webhook: forbidden")

	// ErrConflict says that the call does not fit the record's present state:
	// a stale Version, an id that is taken, a delivery that is not finished,
	// a payload that was purged.
	ErrConflict = errors.New("webhook: conflict")

	// ErrLeaseLost says that a delivery, or a notice, was no longer leased
	// under the token that was given.
	ErrLeaseLost = errors.New("webhook: lease lost")

	// ErrOutcomeUnknown says that the answer to a commit was lost, and that the
	// store could not find out whether it took effect. What was published with
	// an idempotency key can safely be published again. A [Notifier] returns it,
	// wrapped, if it cannot tell whether its message went out.
	ErrOutcomeUnknown = errors.New("webhook: outcome unknown")

	// ErrInvalidCursor says that a page cursor is malformed or belongs to
	// another query.
	ErrInvalidCursor = errors.New("webhook: invalid cursor")

	// ErrInvalidSignature says that a request is not signed as the verifier
	// demands. It deliberately does not say why.
	ErrInvalidSignature = errors.New("webhook: invalid signature")

	// ErrDestinationNotAllowed says that an endpoint, or the address that its
	// name resolved to, is not one that webhooks may be sent to. It never
	// names the address.
	ErrDestinationNotAllowed = errors.New("webhook: destination not allowed")

	// ErrStillInFlight says that a deletion stands, but that attempts which
	// had begun before it were still running when the caller's context ended.
	ErrStillInFlight = errors.New("webhook: attempts still in flight")

	// ErrUnfinished says that a delivery which is waited for is not finished: it is
	// held, or the caller's context has ended.
	ErrUnfinished = errors.New("webhook: delivery not finished")

	// ErrUnavailable is for hosts: their Actor functions return it when it could
	// not be found out who makes a request, because what knows is out of order.
	// Nothing in this package returns it.
	ErrUnavailable = errors.New("webhook: unavailable")
)

// ValidationError is one fault in what a caller passed in. Field is a path in
// snake_case such as "subscriptions[2].subject.id"; Reason is the rule that was
// broken, in words that may be shown to the person who typed the value.
type ValidationError struct {
	Field, Reason string
}

// Error returns the field and the rule.
func (e ValidationError) Error() string { return "webhook: " + e.Field + ": " + e.Reason }

// ValidationErrors are all faults of one input, in the order of its fields.
// It is never empty when returned as an error. Both errors.As with a
// *ValidationErrors and with a *ValidationError find what they look for.
type ValidationErrors []ValidationError

// Error returns every fault, separated by semicolons.
func (es ValidationErrors) Error() string {
	var b strings.Builder
	b.WriteString("webhook: invalid input: ")
	for i, e := range es {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(e.Field + ": " + e.Reason)
	}
	return b.String()
}

// Unwrap returns the single faults.
func (es ValidationErrors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// add appends a fault.
func (es *ValidationErrors) add(field, reason string) {
	*es = append(*es, ValidationError{Field: field, Reason: reason})
}

// err returns es as an error, or nil when it is empty.
func (es ValidationErrors) err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}
