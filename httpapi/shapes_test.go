package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/webhooktest"
)

// template fills names in braces with what only the run knows.
func template(text string, values map[string]any) string {
	var pairs []string
	for name, v := range values {
		if at, ok := v.(time.Time); ok {
			v = stamp(at)
		}
		pairs = append(pairs, "{"+name+"}", fmt.Sprint(v))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func TestCreateHasTheDocumentedShapes(t *testing.T) {
	t.Parallel()
	h := newHost(t)

	got := h.call(t, admin, http.MethodPost, acme+"/webhooks", `{
		"content": {
			"name": "Archive", "description": "keeps it", "endpoint_url": "https://receiver.example.com/hooks",
			"subscriptions": [{
				"subject_type": "WEBHOOK_SUBJECT_TYPE_ROOM", "subject_id": "3F0C9D1E-8F5B-4C55-9B0E-0F4D2C7A9B11",
				"subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "filter": {"room_type": "chat"}
			}]
		}
	}`, header("Content-Type", "application/json; charset=UTF-8"))

	require.Equal(t, http.StatusCreated, got.Code)
	answer := decode[struct {
		Webhook struct {
			ID uuid.UUID `json:"id"`
		} `json:"webhook"`
		Secret string `json:"secret"`
	}](t, got)
	_, err := webhook.ParseSecret(answer.Secret)
	require.NoError(t, err)
	require.JSONEq(t, template(`{
		"webhook": {
			"id": "{id}", "organization_id": "acme", "name": "Archive", "description": "keeps it",
			"endpoint_url": "https://receiver.example.com/hooks", "status": "WEBHOOK_STATUS_ACTIVE",
			"subscriptions": [{
				"subject_type": "WEBHOOK_SUBJECT_TYPE_ROOM", "subject_id": "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11",
				"subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "filter": {"room_type": "chat"}
			}],
			"version": 1, "created_at": "2026-01-01T12:00:00Z", "created_by": "ada", "updated_at": "2026-01-01T12:00:00Z", "updated_by": "ada"
		},
		"secret": "{secret}"
	}`, map[string]any{"id": answer.Webhook.ID, "secret": answer.Secret}), got.Body.String())
}

const hookShape = `{
	"id": "{id}", "organization_id": "acme", "name": "Archive", "description": "keeps it",
	"endpoint_url": "https://receiver.example.com/hooks", "status": "WEBHOOK_STATUS_ACTIVE",
	"subscriptions": [{
		"subject_type": "WEBHOOK_SUBJECT_TYPE_ROOM", "subject_id": "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11",
		"subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"
	}],
	"version": 1, "created_at": "2026-01-01T12:00:00Z", "created_by": "olga", "updated_at": "2026-01-01T12:00:00Z", "updated_by": "olga"
}`

func TestWebhooksHaveTheDocumentedShapes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	hook := template(hookShape, map[string]any{"id": w.ID})

	got := h.call(t, viewer, http.MethodGet, h.webhookPath(w.ID), "")
	require.Equal(t, http.StatusOK, got.Code)
	require.JSONEq(t, `{"webhook":`+hook+`}`, got.Body.String())

	got = h.call(t, viewer, http.MethodGet, acme+"/webhooks", "")
	require.Equal(t, http.StatusOK, got.Code)
	require.JSONEq(t, `{"webhooks":[`+hook+`]}`, got.Body.String())

	got = h.call(t, viewer, http.MethodGet, acme+"/webhooks?status=WEBHOOK_STATUS_INACTIVE", "")
	require.Equal(t, http.StatusOK, got.Code)
	require.JSONEq(t, `{"webhooks":[]}`, got.Body.String())
}

func TestUpdateLeavesAloneWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	h.clock.Advance(time.Minute)

	got := h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"name":"Store","status":"WEBHOOK_STATUS_INACTIVE"},"version":1}`)

	require.Equal(t, http.StatusOK, got.Code)
	want := strings.NewReplacer(`"Archive"`, `"Store"`, "_ACTIVE", "_INACTIVE", `"version": 1`, `"version": 2`,
		`"updated_at": "2026-01-01T12:00:00Z", "updated_by": "olga"`, `"updated_at": "2026-01-01T12:01:00Z", "updated_by": "ada"`).Replace(hookShape)
	want = template(want, map[string]any{"id": w.ID})
	require.JSONEq(t, `{"webhook":`+want+`}`, got.Body.String())

	// An empty text is one; everything else can be changed, too.
	got = h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), object(t, map[string]any{"version": 2, "content": map[string]any{
		"description": "", "endpoint_url": "https://other.example.com", "subscriptions": []any{map[string]any{
			"subject_type": "WEBHOOK_SUBJECT_TYPE_SPACE", "subject_id": roomID, "subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_ROOM_RECORDING_TRANSCRIPT_PUBLISHED",
		}},
	}}))
	require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
	w, err := h.manager.Webhook(t.Context(), actors[owner], w.ID)
	require.NoError(t, err)
	require.Equal(t, webhook.Webhook{
		ID: w.ID, OrganizationID: "acme", Name: "Store", EndpointURL: "https://other.example.com/", Status: webhook.StatusInactive,
		Subscriptions: []webhook.Subscription{{
			Subject: webhook.Subject{Type: webhook.SubjectSpace, ID: roomID}, EventType: webhook.EventRoomRecordingTranscriptPublished,
		}},
		StatusSince: w.StatusSince, Version: 3, CreatedAt: w.CreatedAt, CreatedBy: "olga", UpdatedAt: h.clock.Now(), UpdatedBy: "ada",
	}, w)
}

func TestUpdateRefusesAStaleVersion(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	require.Equal(t, http.StatusOK, h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"name":"Store"},"version":1}`).Code)
	before := h.state(t)

	for _, version := range []string{"1", "3", "9223372036854775807"} {
		got := h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"description":"new"},"version":`+version+`}`)
		require.Equal(t, http.StatusConflict, got.Code)
		require.Equal(t, "The webhook has changed since that version; read it and make the change again. It is version 2 now.", problemOf(t, got).Detail)
	}
	require.Equal(t, before, h.state(t))
}

// overtaken is a store in which somebody else is faster: right after the first read.
type overtaken struct {
	webhook.ManagerStore
	change func()
}

func (o *overtaken) Webhook(ctx context.Context, s webhook.Scope, id uuid.UUID) (webhook.Webhook, error) {
	w, err := o.ManagerStore.Webhook(ctx, s, id)
	if change := o.change; change != nil {
		o.change = nil
		change()
	}
	return w, err
}

// TestUpdateDoesNotUndoWhatItHasNotRead names the version that another change makes
// while the webhook is being read.
func TestUpdateDoesNotUndoWhatItHasNotRead(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	rival := h.api
	store := &overtaken{h.store, func() {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPatch, h.webhookPath(w.ID), strings.NewReader(`{"content":{"name":"Store"},"version":1}`))
		r.Header.Set("Authorization", "Bearer "+admin)
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		rival.ServeHTTP(rec, r)
		require.Equal(t, http.StatusOK, rec.Code)
	}}
	var err error
	h.manager, err = webhook.NewManager(store, webhook.ManagerConfig{Clock: h.clock})
	require.NoError(t, err)
	h.api, err = httpapi.New(h.manager, httpapi.Config{Actor: authenticate})
	require.NoError(t, err)

	got := h.call(t, owner, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"description":"new"},"version":2}`)

	require.Equal(t, http.StatusConflict, got.Code, "%s", got.Body)
	w, err = h.manager.Webhook(t.Context(), actors[owner], w.ID)
	require.NoError(t, err)
	require.Equal(t, "Store", w.Name)
	require.Equal(t, int64(2), w.Version)
}

func TestUpdateResumesWhatWasHeld(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	patch := func(body string) {
		t.Helper()
		got := h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), body)
		require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
	}
	patch(`{"content":{"status":"WEBHOOK_STATUS_INACTIVE"},"version":1}`)
	d := h.publish(t)
	require.Equal(t, webhook.DeliveryHeld, d.State)
	patch(`{"content":{"status":"WEBHOOK_STATUS_ACTIVE"},"version":2}`)
	state := func() webhook.DeliveryState {
		d, err := h.manager.Delivery(t.Context(), actors[owner], d.ID)
		require.NoError(t, err)
		return d.State
	}
	require.Equal(t, webhook.DeliveryHeld, state())
	patch(`{"version":3,"resume":true}`)
	require.Equal(t, webhook.DeliveryPending, state())
}

// TestUpdateSaysWhatTheWebhookHasItself updates one whose event type is no longer
// offered.
func TestUpdateSaysWhatTheWebhookHasItself(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	smaller, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), webhook.DefaultCatalog().EventTypes()[1:])
	require.NoError(t, err)
	h.manager, err = webhook.NewManager(h.store, webhook.ManagerConfig{Catalog: smaller, Clock: h.clock})
	require.NoError(t, err)
	h.api, err = httpapi.New(h.manager, httpapi.Config{Actor: authenticate})
	require.NoError(t, err)

	got := h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"name":"Store"},"version":1}`)

	require.Equal(t, http.StatusBadRequest, got.Code)
	require.Equal(t, []fault{{
		Field:  "content.subscriptions[0].subscription_type",
		Detail: `"message_sent" is not an event type of the catalog (this is what the webhook has; the request leaves it as it is)`,
	}}, problemOf(t, got).Errors)
	got = h.call(t, viewer, http.MethodGet, acme+"/webhooks?subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "")
	require.Contains(t, got.Body.String(), w.ID.String(), "filters know what is no longer offered")

	got = h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"status":"WEBHOOK_STATUS_INACTIVE"},"version":1}`)
	require.Equal(t, http.StatusOK, got.Code, "it can be switched off: %s", got.Body)
}

const attemptShape = `{
	"delivery_id": "{delivery}", "event_id": "{event}", "webhook_id": "{webhook}", "organization_id": "acme",
	"subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "number": 1, "started_at": "2026-01-01T12:00:00Z", "duration_ms": {duration},
	"endpoint_url": "https://receiver.example.com/hooks", "outcome": "WEBHOOK_ATTEMPT_OUTCOME_FAILED", "status_code": 503,
	"error_class": "WEBHOOK_ERROR_CLASS_STATUS", "error": "{error}",
	"timing": {"dns_ms": {dns}, "connect_ms": {connect}, "tls_ms": {tls}, "first_byte_ms": {first}}{response}
}`

func TestLogsHaveTheDocumentedShapes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	h.answers(http.StatusServiceUnavailable, "<b>\x00\"no\"")
	d := h.publish(t)
	_, err := h.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	log, err := h.manager.Attempts(t.Context(), actors[owner], webhook.AttemptQuery{})
	require.NoError(t, err)
	require.Len(t, log.Items, 1)
	a := log.Items[0]
	millis := func(d time.Duration) string { return fmt.Sprint(float64(d) / 1e6) }
	attempt := func(response string) string {
		return template(attemptShape, map[string]any{
			"delivery": d.ID, "event": d.EventID, "webhook": w.ID, "duration": millis(a.Duration), "error": a.Error, "response": response,
			"dns": millis(a.Timing.DNS), "connect": millis(a.Timing.Connect), "tls": millis(a.Timing.TLS), "first": millis(a.Timing.FirstByte),
		})
	}
	full := attempt(`, "response": {"encoding": "utf-8", "data": "<b>\u0000\"no\""}`)

	for _, c := range []struct{ token, path, want string }{
		{owner, h.webhookPath(w.ID) + "/logs", `{"logs":[` + full + `]}`},
		{viewer, h.webhookPath(w.ID) + "/logs", `{"logs":[` + attempt("") + `]}`},
		{owner, h.deliveryPath(d.ID) + "/attempts", `{"attempts":[` + full + `]}`},
		{viewer, h.deliveryPath(d.ID) + "/attempts", `{"attempts":[` + attempt("") + `]}`},
		{owner, h.webhookPath(w.ID) + "/logs?outcome=WEBHOOK_ATTEMPT_OUTCOME_FAILED&status_class=5", `{"logs":[` + full + `]}`},
		{owner, h.webhookPath(w.ID) + "/logs?status_class=4", `{"logs":[]}`},
		{owner, h.webhookPath(w.ID) + "/logs?outcome=WEBHOOK_ATTEMPT_OUTCOME_LATE", `{"logs":[]}`},
		{owner, h.webhookPath(w.ID) + "/logs?since=2026-01-01T12:00:00Z&before=2026-01-01T13:00:00%2B01:00", ``},
		{owner, h.webhookPath(w.ID) + "/logs?before=2026-01-01T12:00:00Z", `{"logs":[]}`},
		{owner, h.webhookPath(w.ID) + "/logs?subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_GONE", `{"logs":[]}`},
	} {
		got := h.call(t, c.token, http.MethodGet, c.path, "")
		if c.want == "" {
			require.Equal(t, http.StatusBadRequest, got.Code, "since is not before before")
			continue
		}
		require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
		require.JSONEq(t, c.want, got.Body.String(), c.path)
	}
}

// TestValuesOfOuterPathsAreNotOurs serves inside a mux that has a webhook_id, too.
func TestValuesOfOuterPathsAreNotOurs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.register(t)
	d := h.deliver(t, http.StatusOK)
	outer := func(r *http.Request) {
		r.SetPathValue("webhook_id", roomID)
		r.SetPathValue("delivery_id", roomID)
	}
	for _, path := range []string{acme + "/deliveries", h.deliveryPath(d.ID) + "/attempts", h.webhookPath(d.WebhookID) + "/logs"} {
		got := h.call(t, owner, http.MethodGet, path, "", outer)
		require.Equal(t, http.StatusOK, got.Code, "%s: %s", path, got.Body)
		require.Contains(t, got.Body.String(), d.ID.String())
	}
}

func TestAnswersThatAreNoTextAreBase64(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	for _, c := range []struct{ body, want string }{
		{"\xff\xfe", `{"encoding":"base64","data":"//4="}`},
		{strings.Repeat("é", 3000), `{"encoding":"utf-8","data":"` + strings.Repeat("é", 2048) + `","truncated":true}`},
		{"a" + strings.Repeat("é", 3000), ``}, // cut in the middle of a letter
	} {
		h.answers(http.StatusOK, c.body)
		d := h.publish(t)
		_, err := h.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		got := h.call(t, owner, http.MethodGet, h.deliveryPath(d.ID)+"/attempts", "")
		answer := decode[struct {
			Attempts []struct {
				Response map[string]any `json:"response"`
			} `json:"attempts"`
		}](t, got)
		if c.want == "" {
			require.Equal(t, "base64", answer.Attempts[0].Response["encoding"])
			continue
		}
		require.JSONEq(t, c.want, object(t, answer.Attempts[0].Response))
	}
	require.Equal(t, http.StatusOK, h.call(t, owner, http.MethodGet, h.webhookPath(w.ID)+"/logs", "").Code)
}

func TestRetryAfterIsInTheLog(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.register(t)
	h.respond = func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"90"}}, Body: http.NoBody}, nil
	}
	d := h.publish(t)
	_, err := h.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Contains(t, h.call(t, viewer, http.MethodGet, h.deliveryPath(d.ID)+"/attempts", "").Body.String(), `"retry_after_ms":90000`)
}

func TestDeliveriesHaveTheDocumentedShapes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	d := h.publish(t)
	values := map[string]any{"delivery": d.ID, "event": d.EventID, "webhook": w.ID}
	pending := template(`"id": "{delivery}", "event_id": "{event}", "webhook_id": "{webhook}", "organization_id": "acme",
		"subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "subject_type": "WEBHOOK_SUBJECT_TYPE_ROOM",
		"subject_id": "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11", "state": "WEBHOOK_DELIVERY_STATE_PENDING", "attempts": 0,
		"due_at": "2026-01-01T12:00:00Z", "created_at": "2026-01-01T12:00:00Z", "test": false`, values)
	payload := template(`{"id":"{event}","event_type":"message_sent","subject":{"type":"room","id":"3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"},`+
		`"timestamp":"2026-01-01T12:00:00Z","data":{"text":"hi"}}`, values)

	for _, path := range []string{
		acme + "/deliveries", h.webhookPath(w.ID) + "/deliveries", acme + "/deliveries?event_id=" + d.EventID.String(),
		acme + "/deliveries?state=WEBHOOK_DELIVERY_STATE_PENDING&subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT&limit=1&cursor=",
	} {
		got := h.call(t, owner, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
		require.JSONEq(t, `{"deliveries":[{`+pending+`}]}`, got.Body.String(), path)
	}
	got := h.call(t, owner, http.MethodGet, h.deliveryPath(d.ID), "")
	require.JSONEq(t, `{"delivery":{`+pending+`,"payload":{"encoding":"utf-8","data":`+object(t, payload)+`}}}`, got.Body.String())
	got = h.call(t, viewer, http.MethodGet, h.deliveryPath(d.ID), "")
	require.JSONEq(t, `{"delivery":{`+pending+`}}`, got.Body.String())

	// Cancelled, and then sent again.
	got = h.call(t, owner, http.MethodPost, h.deliveryPath(d.ID)+"/cancel", "")
	require.Equal(t, http.StatusNoContent, got.Code)
	got = h.call(t, owner, http.MethodPost, h.deliveryPath(d.ID)+"/cancel", "")
	require.Equal(t, http.StatusConflict, got.Code)
	require.Equal(t, "The delivery is finished.", problemOf(t, got).Detail)
	h.clock.Advance(time.Second)
	got = h.call(t, owner, http.MethodPost, h.deliveryPath(d.ID)+"/redeliver", " {} ")
	require.Equal(t, http.StatusAccepted, got.Code)
	again := decode[struct {
		Delivery struct {
			ID uuid.UUID `json:"id"`
		} `json:"delivery"`
	}](t, got)
	require.JSONEq(t, `{"delivery":{`+strings.NewReplacer(d.ID.String(), again.Delivery.ID.String(), ":00Z", ":01Z").Replace(pending)+
		`,"redelivery_of":"`+d.ID.String()+`"}}`, got.Body.String())
	got = h.call(t, owner, http.MethodPost, h.deliveryPath(again.Delivery.ID)+"/redeliver", "")
	require.Equal(t, http.StatusConflict, got.Code)

	webhooktest.Drain(t, h.dispatcher, h.clock)
	got = h.call(t, owner, http.MethodGet, h.deliveryPath(again.Delivery.ID), "")
	require.Contains(t, got.Body.String(), `"finished_at":"2026-01-01T12:00:01Z"`)
	require.NotContains(t, got.Body.String(), "due_at")
}

func TestSendTestAndRecoverHaveTheDocumentedShapes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	h.deliver(t, http.StatusInternalServerError)

	got := h.call(t, admin, http.MethodPost, h.webhookPath(w.ID)+"/test", `{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`)
	require.Equal(t, http.StatusAccepted, got.Code)
	require.Contains(t, got.Body.String(), `"test":true`)
	require.Contains(t, got.Body.String(), `"state":"WEBHOOK_DELIVERY_STATE_PENDING"`)

	for _, c := range []struct{ body, want string }{
		{`{"since":"2026-01-01T00:00:00Z","preview":true}`, `{"recovery":{"redelivered":1,"released":0,"purged":0}}`},
		{`{"since":"2027-01-01T00:00:00Z"}`, `{"recovery":{"redelivered":0,"released":0,"purged":0}}`},
		{`{"since":"2026-01-01T00:00:00Z"}`, `{"recovery":{"redelivered":1,"released":0,"purged":0}}`},
		{`{"since":"2026-01-01T00:00:00\u002B02:00","preview":true}`, `{"recovery":{"redelivered":0,"released":0,"purged":0}}`},
		{`{"since":"2026-01-01T00:00:00+02:00"}`, `{"recovery":{"redelivered":0,"released":0,"purged":0}}`},
	} {
		got = h.call(t, admin, http.MethodPost, h.webhookPath(w.ID)+"/recover", c.body)
		require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
		require.JSONEq(t, c.want, got.Body.String(), c.body)
	}

	require.Equal(t, http.StatusOK, h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"status":"WEBHOOK_STATUS_INACTIVE"},"version":1}`).Code)
	got = h.call(t, admin, http.MethodPost, h.webhookPath(w.ID)+"/recover", `{"since":"2026-01-01T00:00:00Z"}`)
	require.Equal(t, http.StatusConflict, got.Code)
	require.Equal(t, "The webhook is inactive; activate it first.", problemOf(t, got).Detail)
	got = h.call(t, admin, http.MethodPost, h.webhookPath(w.ID)+"/test", `{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`)
	require.Equal(t, http.StatusConflict, got.Code)
	require.Equal(t, "The webhook is inactive, or has no subscription.", problemOf(t, got).Detail)
}

func TestCountersHaveTheDocumentedShape(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	h.deliver(t, http.StatusOK)

	got := h.call(t, viewer, http.MethodGet, h.webhookPath(w.ID)+"/counters?since=2026-01-01T00:00:00Z", "")

	require.Equal(t, http.StatusOK, got.Code)
	require.JSONEq(t, `{"counters":[{"hour":"2026-01-01T12:00:00Z","succeeded":1,"failed":0,"interrupted":0,"latency":[
		{"up_to_ms":10,"count":1},{"up_to_ms":25,"count":0},{"up_to_ms":50,"count":0},{"up_to_ms":100,"count":0},{"up_to_ms":250,"count":0},
		{"up_to_ms":500,"count":0},{"up_to_ms":1000,"count":0},{"up_to_ms":2500,"count":0},{"up_to_ms":5000,"count":0},{"up_to_ms":10000,"count":0},
		{"up_to_ms":null,"count":0}]}]}`, got.Body.String())
	got = h.call(t, viewer, http.MethodGet, h.webhookPath(w.ID)+"/counters?before=2026-01-01T00:00:00Z", "")
	require.JSONEq(t, `{"counters":[]}`, got.Body.String())
}

func TestHealthHasTheDocumentedShape(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	path := h.webhookPath(w.ID) + "/health"
	require.JSONEq(t, `{"health":{"status":"WEBHOOK_STATUS_ACTIVE","status_since":"2026-01-01T12:00:00Z",
		"since":"2025-12-31T12:00:00Z","succeeded":0,"failed":0,"interrupted":0,"consecutive_failures":0}}`, h.call(t, viewer, http.MethodGet, path, "").Body.String())

	h.deliver(t, http.StatusOK)
	h.clock.Advance(time.Hour)
	h.deliver(t, http.StatusGone)
	got, err := h.store.Deactivate(t.Context(), webhook.DeactivateParams{
		Scope: webhook.Scope{OrganizationID: "acme"}, WebhookID: w.ID, Reason: webhook.DeactivatedGone, Now: h.clock.Now(),
		EndpointURL: w.EndpointURL, StartedAt: h.clock.Now(),
	})
	require.NoError(t, err)
	require.True(t, got.Deactivated)
	answer := h.call(t, viewer, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, answer.Code)
	require.Contains(t, answer.Body.String(), `"last_success_at":"2026-01-01T12:00:00Z"`)
	var body struct{ Health map[string]any }
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &body))
	delete(body.Health, "failed")
	delete(body.Health, "consecutive_failures")
	delete(body.Health, "success_rate")
	require.Equal(t, map[string]any{
		"status": "WEBHOOK_STATUS_INACTIVE", "status_since": h.clock.Now().Format(time.RFC3339), "deactivation_reason": "WEBHOOK_DEACTIVATION_REASON_GONE",
		"since": h.clock.Now().Add(-24 * time.Hour).Truncate(time.Hour).Format(time.RFC3339), "succeeded": 1.0, "interrupted": 0.0,
		"last_success_at": "2026-01-01T12:00:00Z", "failing_since": "2026-01-01T13:00:00Z",
	}, body.Health)

	// The webhook says why, too.
	answer = h.call(t, viewer, http.MethodGet, h.webhookPath(w.ID), "")
	require.Contains(t, answer.Body.String(), `"deactivation_reason":"WEBHOOK_DEACTIVATION_REASON_GONE"`)
	require.Contains(t, answer.Body.String(), `"updated_by":"posthorn"`)
	answer = h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"status":"WEBHOOK_STATUS_ACTIVE"},"version":2}`)
	require.Equal(t, http.StatusOK, answer.Code)
	require.NotContains(t, answer.Body.String(), "deactivation_reason")
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	patch := func(version, limit string) *httptest.ResponseRecorder {
		return h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"rate_limit":`+limit+`},"version":`+version+`}`)
	}
	require.Contains(t, patch("1", "25").Body.String(), `"rate_limit":25,`)
	got := h.call(t, admin, http.MethodPatch, h.webhookPath(w.ID), `{"content":{"name":"Store"},"version":2}`)
	require.Contains(t, got.Body.String(), `"rate_limit":25,`, "what is left out stays")
	require.NotContains(t, patch("3", "0").Body.String(), "rate_limit")
	for _, limit := range []string{"-1", "1001", "9223372036854775807"} {
		got := patch("4", limit)
		require.Equal(t, http.StatusBadRequest, got.Code)
		require.Equal(t, []fault{{"content.rate_limit", "/content/rate_limit", "must be from 1 to 1000 attempts a second, or 0 for no limit"}}, problemOf(t, got).Errors)
	}
	require.Equal(t, http.StatusBadRequest, patch("4", "1.5").Code)
	require.Equal(t, http.StatusBadRequest, patch("4", `"1"`).Code)
	got = h.call(t, owner, http.MethodPost, acme+"/webhooks", strings.Replace(created(t), `"name"`, `"rate_limit":7,"name"`, 1))
	require.Equal(t, http.StatusCreated, got.Code, "%s", got.Body)
	require.Contains(t, got.Body.String(), `"rate_limit":7,`)
}

func TestEventTypesHaveTheNamesOfTheHostsCatalog(t *testing.T) {
	t.Parallel()
	catalog, err := webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{Type: "branch_office", Title: "Branch", ParseID: func(id string) (string, error) {
			if id == "<moon>" {
				return "", errors.New("must be on <earth>")
			}
			return id, nil
		}}},
		[]webhook.EventTypeInfo{{Type: "order_placed2", Title: "Order", Description: "An order & more.", Sample: map[string]int{"n": 1}, Schema: json.RawMessage(` {"type": "object"} `)}})
	require.NoError(t, err)
	h := newHost(t, func(m *webhook.ManagerConfig, _ *httpapi.Config) { m.Catalog = catalog })

	got := h.call(t, viewer, http.MethodGet, acme+"/event-types", "")
	require.JSONEq(t, `{
		"subject_types": [{"name": "WEBHOOK_SUBJECT_TYPE_BRANCH_OFFICE", "title": "Branch", "description": ""}],
		"event_types": [{"name": "WEBHOOK_SUBSCRIPTION_TYPE_ORDER_PLACED2", "title": "Order", "description": "An order & more.",
			"sample": {"n": 1}, "schema": {"type": "object"}}]
	}`, got.Body.String())

	subscription := func(id string) func(map[string]any) {
		return set("subscriptions", []any{map[string]any{
			"subject_type": "WEBHOOK_SUBJECT_TYPE_BRANCH_OFFICE", "subject_id": id, "subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_ORDER_PLACED2",
		}})
	}
	got = h.call(t, owner, http.MethodPost, acme+"/webhooks", created(t, subscription("vienna")))
	require.Equal(t, http.StatusCreated, got.Code, "%s", got.Body)
	got = h.call(t, owner, http.MethodPost, acme+"/webhooks", created(t, subscription("<moon>")))
	require.Equal(t, []fault{{"content.subscriptions[0].subject_id", "/content/subscriptions/0/subject_id", "must be on <earth>"}}, problemOf(t, got).Errors)
	got = h.call(t, owner, http.MethodPost, acme+"/webhooks", created(t))
	require.Equal(t, []fault{
		{"content.subscriptions[0].subject_type", "/content/subscriptions/0/subject_type", "must be one of WEBHOOK_SUBJECT_TYPE_BRANCH_OFFICE"},
		{"content.subscriptions[0].subscription_type", "/content/subscriptions/0/subscription_type", "must be one of WEBHOOK_SUBSCRIPTION_TYPE_ORDER_PLACED2"},
	}, problemOf(t, got).Errors)
}

func TestPages(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	for range 5 {
		h.deliver(t, http.StatusOK)
		h.clock.Advance(time.Minute)
	}
	type page struct {
		Logs []struct {
			DeliveryID uuid.UUID `json:"delivery_id"`
		} `json:"logs"`
		Next string `json:"next_cursor"`
	}
	var seen []uuid.UUID
	cursor := ""
	for range 3 {
		got := h.call(t, viewer, http.MethodGet, h.webhookPath(w.ID)+"/logs?limit=2&cursor="+cursor, "")
		require.Equal(t, http.StatusOK, got.Code, "%s", got.Body)
		p := decode[page](t, got)
		for _, a := range p.Logs {
			seen = append(seen, a.DeliveryID)
		}
		cursor = p.Next
	}
	require.Empty(t, cursor)
	deliveries, err := h.manager.Deliveries(t.Context(), actors[owner], webhook.DeliveryQuery{})
	require.NoError(t, err)
	var want []uuid.UUID
	for _, d := range deliveries.Items {
		want = append(want, d.ID)
	}
	require.Equal(t, want, seen)

	// A cursor is good for its own list, filters and organization only.
	first := decode[page](t, h.call(t, viewer, http.MethodGet, h.webhookPath(w.ID)+"/logs?limit=2", "")).Next
	require.NotEmpty(t, first)
	for _, c := range []struct{ token, path string }{
		{viewer, h.webhookPath(w.ID) + "/logs?status_class=2&cursor="},
		{viewer, h.webhookPath(w.ID) + "/deliveries?cursor="},
		{viewer, acme + "/webhooks?cursor="},
		{viewer, acme + "/deliveries?cursor="},
		{stranger, other + "/deliveries?cursor="},
		{stranger, other + "/webhooks?cursor="},
	} {
		got := h.call(t, c.token, http.MethodGet, c.path+first, "")
		require.Equal(t, http.StatusBadRequest, got.Code, c.path)
		require.Equal(t, []fault{{Field: "cursor", Detail: "is not one that this list has given, with these filters"}}, problemOf(t, got).Errors)
	}
}

// TestPagesOfLargeWebhooksAreShort lists webhooks that have all that they may have,
// in the form that takes the most room.
func TestPagesOfLargeWebhooksAreShort(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	text := strings.Repeat("<", webhook.MaxIDBytes-2)
	filter := map[string]string{}
	for i := range webhook.MaxAttributes {
		filter[fmt.Sprintf("%02d", i)+text] = "<<" + text
	}
	in := webhook.WebhookInput{Name: "Archive", EndpointURL: endpointURL}
	for range webhook.MaxSubscriptions {
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{
			Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: uuid.NewString()}, EventType: webhook.EventMessageSent, Filter: filter,
		})
	}
	var want []uuid.UUID
	for range 4 {
		w, _, err := h.manager.Create(t.Context(), actors[owner], in)
		require.NoError(t, err)
		want = append([]uuid.UUID{w.ID}, want...)
		h.clock.Advance(time.Minute)
	}
	small, _ := h.register(t)
	want = append([]uuid.UUID{small.ID}, want...)
	var seen []uuid.UUID
	for cursor, more := "", true; more; more = cursor != "" {
		got := h.call(t, viewer, http.MethodGet, acme+"/webhooks?limit=200&status=WEBHOOK_STATUS_ACTIVE&cursor="+cursor, "")
		require.Equal(t, http.StatusOK, got.Code)
		require.Less(t, got.Body.Len(), 6<<20)
		p := decode[struct {
			Webhooks []struct {
				ID uuid.UUID `json:"id"`
			} `json:"webhooks"`
			Next string `json:"next_cursor"`
		}](t, got)
		require.NotEmpty(t, p.Webhooks)
		for _, w := range p.Webhooks {
			seen = append(seen, w.ID)
		}
		cursor = p.Next
	}
	require.Equal(t, want, seen)
}
