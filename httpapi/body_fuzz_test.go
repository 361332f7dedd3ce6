package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// FuzzBodies sends bodies to every operation that takes one. The answer is never a
// fault of the server (requireSound). What is refused changes nothing, and is
// pointed at: each pointer leads to a value of the body, or to a field that is
// missing from an object of it. What is accepted is what is stored: sending the
// answer's own fields back is accepted, and changes nothing but the version.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		created(f), created(f, set("name", "")), created(f, set("subscriptions", []any{})), `{"content":{}}`, `{}`, ``, `[`, `null`, `{"content":{"name":null}}`,
		`{"content":{"name":"a","name":"b"}}`, `{"content":{"subscriptions":[{"filter":{"a/b":1,"~":"x"}}]}}`, `{"Content":{}}`, `{"content":{"deſcription":"x"}}`,
		`{"version":1}`, `{"version":1,"content":{"status":"WEBHOOK_STATUS_INACTIVE"}}`, `{"version":1e1000}`, `{"version":1,"content":{"rate_limit":1001}}`, `{"version":1,"resume":true}`,
		`{"version":1,"content":{"name":"\ud800","description":"\u0000"}}`, ` {"version" : 1 , "content" : { "name" : "x" } } `,
		`{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`, `{"subscription_type":"?message_sent"}`,
		`{"since":"2026-01-01T00:00:00Z"}`, `{"since":"2026-01-01T00:00:00.000000001+23:59","preview":true}`, `{"since":"9999-12-31T23:59:59-23:59"}`,
		`{"":0}`, `{"/":0,"~1":{}}`, `{"` + strings.Repeat("~", 110) + `":0}`, `{"a.b[0]":0}`, "\xef\xbb\xbf{}", "{\"\xff\":1}",
	} {
		for operation := range uint8(5) {
			f.Add(operation, body)
		}
	}
	f.Fuzz(func(t *testing.T, operation uint8, body string) {
		h := newHost(t)
		w, _ := h.register(t)
		d := h.publish(t)
		request := []string{
			"POST " + acme + "/webhooks", "PATCH " + h.webhookPath(w.ID), "POST " + h.webhookPath(w.ID) + "/test",
			"POST " + h.webhookPath(w.ID) + "/recover", "POST " + h.deliveryPath(d.ID) + "/cancel",
		}[operation%5]
		method, target, _ := strings.Cut(request, " ")
		before := h.state(t)

		got := h.call(t, owner, method, target, body, header("Content-Type", "application/json"))

		if got.Code >= 400 {
			require.Equal(t, before, h.state(t))
			faults := problemOf(t, got).Errors
			if strings.Contains(got.Body.String(), "must not be there twice") {
				return // pointers are into the first field of a name, and maps have the last
			}
			for _, fault := range faults {
				requirePointsInto(t, body, fault)
			}
			return
		}
		if method == http.MethodPost && target == acme+"/webhooks" || method == http.MethodPatch {
			requireAcceptedAgain(t, h, got.Body.Bytes())
		}
	})
}

// requirePointsInto checks where the pointer of a fault leads.
func requirePointsInto(t *testing.T, body string, f fault) {
	t.Helper()
	if f.Pointer == "" {
		return
	}
	var at any
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	require.NoError(t, d.Decode(&at), "a body with a fault in a field is JSON")
	steps := strings.Split(f.Pointer, "/")[1:]
	for i, step := range steps {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		last := i == len(steps)-1
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[step]
			require.True(t, ok || last || step == "content", "%s has no %q on the way: %s", body, step, f.Pointer)
			at = next
		case []any:
			n, err := strconv.Atoi(step)
			require.NoError(t, err, f.Pointer)
			require.Less(t, n, len(v), f.Pointer)
			at = v[n]
		case nil: // content that is missing
			require.True(t, last, f.Pointer)
		default:
			require.Fail(t, "a pointer goes on behind a value", "%s: %s", body, f.Pointer)
		}
	}
}

// requireAcceptedAgain sends a webhook back as a change.
func requireAcceptedAgain(t *testing.T, h *host, body []byte) {
	t.Helper()
	var answer struct {
		Webhook struct {
			ID            string          `json:"id"`
			Name          string          `json:"name"`
			Description   string          `json:"description"`
			EndpointURL   string          `json:"endpoint_url"`
			Status        string          `json:"status"`
			Subscriptions json.RawMessage `json:"subscriptions"`
			RateLimit     int64           `json:"rate_limit"`
			Version       int64           `json:"version"`
		} `json:"webhook"`
	}
	require.NoError(t, json.Unmarshal(body, &answer))
	a := answer.Webhook
	before := hookOf(t, h, a.ID)
	got := h.call(t, owner, http.MethodPatch, acme+"/webhooks/"+a.ID, object(t, map[string]any{"version": a.Version, "content": map[string]any{
		"name": a.Name, "description": a.Description, "endpoint_url": a.EndpointURL, "status": a.Status, "subscriptions": a.Subscriptions,
		"rate_limit": a.RateLimit,
	}}))
	require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
	after := hookOf(t, h, a.ID)
	require.Equal(t, before.Version+1, after.Version)
	after.Version, after.UpdatedAt, after.UpdatedBy = before.Version, before.UpdatedAt, before.UpdatedBy
	require.Equal(t, before, after)
}

func hookOf(t *testing.T, h *host, id string) webhook.Webhook {
	t.Helper()
	page, err := h.manager.Webhooks(t.Context(), actors[owner], webhook.WebhookQuery{})
	require.NoError(t, err)
	for _, w := range page.Items {
		if w.ID.String() == id {
			return w
		}
	}
	require.Fail(t, fmt.Sprintf("no webhook %s", id))
	return webhook.Webhook{}
}

// FuzzQueries sends query strings to every list. The answer is a page or says what
// is wrong, and never a fault of the server.
func FuzzQueries(f *testing.F) {
	for _, q := range []string{
		"", "limit=1", "limit=0", "cursor=", "cursor=AAAA", "status=WEBHOOK_STATUS_ACTIVE", "since=2026-01-01T00:00:00Z&before=2026-02-01T00:00:00%2B01:00",
		"subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "outcome=WEBHOOK_ATTEMPT_OUTCOME_LATE", "status_class=5", "state=WEBHOOK_DELIVERY_STATE_HELD",
		"event_id=" + roomID, "a=1;b=2", "%", "%ff=%ff", "limit=1&limit=2", "since=0000-01-01T00:00:00Z", "before=9999-12-31T23:59:59-23:59",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		h := newHost(t)
		w, _ := h.register(t)
		h.publish(t)
		for _, path := range []string{acme + "/webhooks", acme + "/deliveries", h.webhookPath(w.ID) + "/logs", h.webhookPath(w.ID) + "/deliveries", h.webhookPath(w.ID) + "/counters"} {
			got := h.call(t, viewer, http.MethodGet, path, "", func(r *http.Request) { r.URL.RawQuery = query })
			require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, got.Code)
			if strings.Trim(query, "&") == "" {
				require.Equal(t, http.StatusOK, got.Code)
			}
		}
	})
}
