// Package guides_test has the code of the pages in docs that no other example has, so that
// it is compiled, and does what the pages say.
package guides_test

import (
	"net/http"

	"github.com/posthorn/webhook"
)

var (
	admin = webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
)

// archive is a webhook that asks for what the tests publish.
func archive(endpoint string) webhook.WebhookInput {
	return webhook.WebhookInput{
		Name: "Archive", EndpointURL: endpoint,
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	}
}

// doerFunc is an HTTPDoer without a network.
type doerFunc func(*http.Request) (*http.Response, error)

func (f doerFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }
