package httpapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/posthorn/webhook"
)

// Prefixes of the names of enums, which are upper case: WEBHOOK_STATUS_ACTIVE.
const (
	subjectTypePrefix  = "WEBHOOK_SUBJECT_TYPE_"
	subscriptionPrefix = "WEBHOOK_SUBSCRIPTION_TYPE_"
	statusPrefix       = "WEBHOOK_STATUS_"
	statePrefix        = "WEBHOOK_DELIVERY_STATE_"
	outcomePrefix      = "WEBHOOK_ATTEMPT_OUTCOME_"
	errorPrefix        = "WEBHOOK_ERROR_"
)

var (
	statuses = []webhook.Status{webhook.StatusActive, webhook.StatusInactive}
	states   = []webhook.DeliveryState{
		webhook.DeliveryPending, webhook.DeliveryHeld, webhook.DeliverySucceeded, webhook.DeliveryFailed, webhook.DeliveryCancelled,
	}
	outcomes = []webhook.Outcome{webhook.OutcomeSucceeded, webhook.OutcomeFailed, webhook.OutcomeInterrupted, webhook.OutcomeLate}
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

// names are what a catalog offers.
type names struct {
	catalog  *webhook.Catalog
	subjects []webhook.SubjectType
	events   []webhook.EventType
}

func newNames(c *webhook.Catalog) (*names, error) {
	n := &names{catalog: c}
	for _, s := range c.SubjectTypes() {
		n.subjects = append(n.subjects, s.Type)
	}
	for _, e := range c.EventTypes() {
		n.events = append(n.events, e.Type)
	}
	if err := distinct(namesOf(subjectTypePrefix, n.subjects)); err != nil {
		return nil, err
	}
	return n, distinct(namesOf(subscriptionPrefix, n.events))
}

// distinct refuses a catalog of names that upper case makes equal.
func distinct(list []string) error {
	for i, name := range list {
		if slices.Contains(list[:i], name) {
			return fmt.Errorf("catalog: two of its types would be called %s", name)
		}
	}
	return nil
}

// eventTypeFilter reads the name of an event type in a filter. The log may have
// types that the catalog no longer offers.
func (n *names) eventTypeFilter(name string) (webhook.EventType, error) {
	if v, ok := valueOf(subscriptionPrefix, name, n.events); ok {
		return v, nil
	}
	v, ok := strings.CutPrefix(name, subscriptionPrefix)
	if !ok {
		return "", invalid(fault{Field: "subscription_type", Detail: "must begin with " + subscriptionPrefix})
	}
	return webhook.EventType(strings.ToLower(v)), nil
}
