package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// world is a host with one record of each kind.
type world struct {
	*host
	webhook          webhook.Webhook
	secret           webhook.Secret
	pending, failed  webhook.Delivery
	theirs           webhook.Webhook // of the other organization
	response, inside string          // what only owners and admins see
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{host: newHost(t), response: "thank you", inside: `\"text\":\"hi\"`}
	w.webhook, w.secret = w.register(t)
	w.failed = w.deliver(t, http.StatusInternalServerError)
	w.pending = w.publish(t)
	var err error
	w.theirs, _, err = w.manager.Create(t.Context(), actors[stranger], webhook.WebhookInput{
		Name: "Theirs", EndpointURL: endpointURL, Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	return w
}

// fill puts the ids of a world into a path.
func (w *world) fill(path string) string {
	return strings.NewReplacer("{webhook}", w.webhook.ID.String(), "{pending}", w.pending.ID.String(), "{failed}", w.failed.ID.String(), "{event}", w.failed.EventID.String()).Replace(path)
}

// TestRolesByRoutes tries every operation of the document in every role, as nobody,
// and across organizations. Each cell is the status; nothing is changed by what is
// refused.
func TestRolesByRoutes(t *testing.T) {
	t.Parallel()
	const (
		ok, made, sent, gone = http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent
		deny, hide, who      = http.StatusForbidden, http.StatusNotFound, http.StatusUnauthorized
	)
	columns := []struct {
		name, token string
		path        func(path string) string // as it is asked for
	}{
		{"owner", owner, nil},
		{"admin", admin, nil},
		{"viewer", viewer, nil},
		{"no role", roleless, nil},
		{"nobody", nobody, nil},
		{"unknown token", "guess", nil},
		{"path of another organization", stranger, nil},
		{"ids of another organization", stranger, func(p string) string { return strings.Replace(p, acme, other, 1) }},
		{"owner, in another organization's path", owner, func(p string) string { return strings.Replace(p, acme, other, 1) }},
	}
	rows := []struct {
		operation, request, body string
		want                     [9]int
	}{
		//                                                                                                              own  adm  view none nob  unkn path ids  away
		{"createWebhook", "POST " + acme + "/webhooks", created(t), [9]int{made, made, deny, deny, who, who, hide, made, hide}},
		{"listWebhooks", "GET " + acme + "/webhooks", "", [9]int{ok, ok, ok, deny, who, who, hide, ok, hide}},
		{"getWebhook", "GET " + acme + "/webhooks/{webhook}", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"updateWebhook", "PATCH " + acme + "/webhooks/{webhook}", `{"content":{"name":"Store"},"version":1}`, [9]int{ok, ok, deny, deny, who, who, hide, hide, hide}},
		{"deleteWebhook", "DELETE " + acme + "/webhooks/{webhook}", "", [9]int{gone, gone, deny, deny, who, who, hide, hide, hide}},
		{"listLogs", "GET " + acme + "/webhooks/{webhook}/logs", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"listWebhookDeliveries", "GET " + acme + "/webhooks/{webhook}/deliveries", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"listCounters", "GET " + acme + "/webhooks/{webhook}/counters", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"getHealth", "GET " + acme + "/webhooks/{webhook}/health", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"sendTest", "POST " + acme + "/webhooks/{webhook}/test", `{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`, [9]int{sent, sent, deny, deny, who, who, hide, hide, hide}},
		{"recoverWebhook", "POST " + acme + "/webhooks/{webhook}/recover", `{"since":"2026-01-01T00:00:00Z"}`, [9]int{ok, ok, deny, deny, who, who, hide, hide, hide}},
		{"listDeliveries", "GET " + acme + "/deliveries", "", [9]int{ok, ok, ok, deny, who, who, hide, ok, hide}},
		{"getDelivery", "GET " + acme + "/deliveries/{failed}", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"listAttempts", "GET " + acme + "/deliveries/{failed}/attempts", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"redeliver", "POST " + acme + "/deliveries/{failed}/redeliver", "", [9]int{sent, sent, deny, deny, who, who, hide, hide, hide}},
		{"cancelDelivery", "POST " + acme + "/deliveries/{pending}/cancel", "", [9]int{gone, gone, deny, deny, who, who, hide, hide, hide}},
		{"explainEvent", "GET " + acme + "/events/{event}/explanation", "", [9]int{ok, ok, ok, deny, who, who, hide, hide, hide}},
		{"explainDraft", "POST " + acme + "/explain", explained(t), [9]int{ok, ok, ok, deny, who, who, hide, ok, hide}},
		{"listEventTypes", "GET " + acme + "/event-types", "", [9]int{ok, ok, ok, deny, who, who, hide, ok, hide}},
		{"getOpenAPI", "GET /v1/openapi.json", "", [9]int{ok, ok, ok, deny, who, who, ok, ok, ok}},
	}

	var tried []string
	for _, row := range rows {
		tried = append(tried, row.operation)
		method, path, _ := strings.Cut(row.request, " ")
		for i, column := range columns {
			t.Run(row.operation+"/"+column.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				before := w.state(t)
				target := w.fill(path)
				if column.path != nil {
					target = column.path(target)
				}

				got := w.call(t, column.token, method, target, row.body)

				require.Equal(t, row.want[i], got.Code, "%s", got.Body)
				if method == http.MethodGet || got.Code >= 400 || row.operation == "explainDraft" {
					require.Equal(t, before, w.state(t))
				} else {
					require.NotEqual(t, before, w.state(t))
				}
				if got.Code == who {
					require.Equal(t, "Bearer", got.Header().Get("WWW-Authenticate"))
				}
				w.requireConcealed(t, column.token, got.Code, got.Body.String())
			})
		}
	}
	require.ElementsMatch(t, operationsOf(t, newHost(t)), tried, "every operation of the document is in this table")
}

// requireConcealed checks that an answer has nothing that its reader may not see.
func (w *world) requireConcealed(t *testing.T, token string, status int, body string) {
	t.Helper()
	require.NotContains(t, body, w.secret.Reveal())
	if token != owner && token != admin {
		require.NotContains(t, body, w.response)
		require.NotContains(t, body, w.inside)
	}
	if token == stranger {
		for _, mine := range []string{w.webhook.ID.String(), w.failed.ID.String(), w.pending.ID.String()} {
			require.NotContains(t, body, mine)
		}
	} else {
		require.NotContains(t, body, w.theirs.ID.String())
	}
	if status >= 400 {
		require.NotContains(t, body, w.webhook.ID.String())
		require.NotContains(t, body, "olga")
	}
}

// operationsOf returns the ids of the operations in the document.
func operationsOf(t *testing.T, h *host) (ids []string) {
	t.Helper()
	doc := decode[struct {
		Paths map[string]map[string]any `json:"paths"`
	}](t, h.call(t, owner, http.MethodGet, "/v1/openapi.json", ""))
	for _, item := range doc.Paths {
		for _, o := range item {
			if o, ok := o.(map[string]any); ok {
				id, _ := o["operationId"].(string)
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// TestWhatIsMissingLooksLikeWhatIsSomebodyElses compares whole answers.
func TestWhatIsMissingLooksLikeWhatIsSomebodyElses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/webhooks/{id}", ""},
		{"PATCH", "/webhooks/{id}", `{"content":{"name":"Store"},"version":1}`},
		{"PATCH", "/webhooks/{id}", `{"content":{"name":""},"version":-1}`},
		{"DELETE", "/webhooks/{id}", ""},
		{"GET", "/webhooks/{id}/logs", ""},
		{"GET", "/webhooks/{id}/logs?limit=1000", ""},
		{"GET", "/webhooks/{id}/deliveries?state=x", ""},
		{"GET", "/webhooks/{id}/counters?since=x", ""},
		{"GET", "/events/{id}/explanation", ""},
		{"POST", "/webhooks/{id}/test", `{"subscription_type":"x"}`},
		{"POST", "/webhooks/{id}/recover", `{"since":"2026-01-01T00:00:00Z"}`},
	} {
		foreign := w.call(t, stranger, c.method, strings.Replace(other+c.path, "{id}", w.webhook.ID.String(), 1), c.body)
		missing := w.call(t, stranger, c.method, strings.Replace(other+c.path, "{id}", roomID, 1), c.body)
		require.Equal(t, missing.Code, foreign.Code, "%s %s", c.method, c.path)
		require.Equal(t, missing.Body.String(), foreign.Body.String(), "%s %s", c.method, c.path)
		require.Equal(t, missing.Header(), foreign.Header())
		require.Equal(t, http.StatusNotFound, missing.Code, "%s %s", c.method, c.path)
	}
	for _, path := range []string{"/webhooks", "/webhooks/" + w.webhook.ID.String(), "/deliveries?x=1", "/event-types"} {
		foreign := w.call(t, stranger, http.MethodGet, acme+path, "")
		missing := w.call(t, stranger, http.MethodGet, "/v1/organizations/none"+path, "")
		require.Equal(t, http.StatusNotFound, foreign.Code)
		require.Equal(t, missing.Body.String(), foreign.Body.String())
	}
}
