package httpapi

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/posthorn/webhook"
)

// Prefixes of the names of enums: the rest is the value in upper case, as in
// WEBHOOK_STATUS_ACTIVE.
const (
	subjectTypePrefix  = "WEBHOOK_SUBJECT_TYPE_"
	subscriptionPrefix = "WEBHOOK_SUBSCRIPTION_TYPE_"
	statusPrefix       = "WEBHOOK_STATUS_"
	statePrefix        = "WEBHOOK_DELIVERY_STATE_"
	outcomePrefix      = "WEBHOOK_ATTEMPT_OUTCOME_"
	errorPrefix        = "WEBHOOK_ERROR_CLASS_"
	matchPrefix        = "WEBHOOK_MATCH_"
	reasonPrefix       = "WEBHOOK_DEACTIVATION_REASON_"
)

var (
	statuses = []webhook.Status{webhook.StatusActive, webhook.StatusInactive}
	states   = []webhook.DeliveryState{
		webhook.DeliveryPending, webhook.DeliveryHeld, webhook.DeliverySucceeded, webhook.DeliveryFailed, webhook.DeliveryCancelled,
	}
	reasons  = []webhook.DeactivationReason{webhook.DeactivatedFailing, webhook.DeactivatedGone}
	outcomes = []webhook.Outcome{webhook.OutcomeSucceeded, webhook.OutcomeFailed, webhook.OutcomeInterrupted, webhook.OutcomeLate}
	matches  = []webhook.Match{
		webhook.MatchYes, webhook.MatchInactive, webhook.MatchFilter, webhook.MatchEventType, webhook.MatchOtherSubject, webhook.MatchOtherTest,
	}
)

// nameOf is a value's name in the API.
func nameOf[T ~string](prefix string, v T) string { return prefix + strings.ToUpper(string(v)) }

// unknown begins what nothing in a catalog is called, so that the manager refuses
// it along with everything else that is wrong.
const unknown = "?"

// valueOf returns the value that has a name, or one that nothing has.
func valueOf[T ~string](prefix, name string, known []T) (T, bool) {
	for _, v := range known {
		if nameOf(prefix, v) == name {
			return v, true
		}
	}
	return T(unknown + name), false
}

// oneOf says which names there are.
func oneOf[T ~string](prefix string, known []T) string {
	return fmt.Sprintf("must be one of %s", strings.Join(namesOf(prefix, known), ", "))
}

func namesOf[T ~string](prefix string, known []T) []string {
	list := make([]string, len(known))
	for i, v := range known {
		list[i] = nameOf(prefix, v)
	}
	return list
}

// names are what a catalog offers. Its types are in snake case and no two of them
// are equal, so that neither are their names here.
type names struct {
	catalog  *webhook.Catalog
	subjects []webhook.SubjectType
	events   []webhook.EventType

	// What is said of a name that there is not: lists, made once.
	notASubject, notAnEvent string
}

func newNames(c *webhook.Catalog) *names {
	n := &names{catalog: c}
	for _, s := range c.SubjectTypes() {
		n.subjects = append(n.subjects, s.Type)
	}
	for _, e := range c.EventTypes() {
		n.events = append(n.events, e.Type)
	}
	n.notASubject, n.notAnEvent = oneOf(subjectTypePrefix, n.subjects), oneOf(subscriptionPrefix, n.events)
	return n
}

// upperSnake is what a name has behind its prefix.
const upperSnake = `[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`

var eventTypeName = regexp.MustCompile("^" + subscriptionPrefix + upperSnake)

// eventTypeFilter reads the name of an event type in a filter: of any, because the
// log may have types that the catalog no longer offers.
func eventTypeFilter(name string) (webhook.EventType, bool) {
	if !eventTypeName.MatchString(name) || len(name) > len(subscriptionPrefix)+webhook.MaxIDBytes {
		return "", false
	}
	return webhook.EventType(strings.ToLower(strings.TrimPrefix(name, subscriptionPrefix))), true
}
