package httpapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// Tokens of the people that the host knows, and paths and ids of what there is.
const (
	owner    = "owner-token"
	admin    = "admin-token"
	viewer   = "viewer-token"
	roleless = "roleless-token"
	stranger = "stranger-token" // owner of another organization
	nobody   = ""

	acme  = "/v1/organizations/acme"
	other = "/v1/organizations/other"

	roomID      = "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"
	endpointURL = "https://receiver.example.com/hooks"
)

var (
	actors = map[string]webhook.Actor{
		owner:    {ID: "olga", OrganizationID: "acme", Role: webhook.RoleOwner},
		admin:    {ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin},
		viewer:   {ID: "vic", OrganizationID: "acme", Role: webhook.RoleViewer},
		roleless: {ID: "rob", OrganizationID: "acme"},
		stranger: {ID: "stan", OrganizationID: "other", Role: webhook.RoleOwner},
	}
	room = webhook.Subject{Type: webhook.SubjectRoom, ID: roomID}
)

// authenticate is a host's Actor.
func authenticate(r *http.Request) (webhook.Actor, error) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	actor, ok := actors[token]
	if !ok {
		return webhook.Actor{}, http.ErrNoCookie
	}
	return actor, nil
}

// host is an application with the API, on a store of its own.
type host struct {
	store      *memstore.Store
	clock      *webhooktest.Clock
	dispatcher *webhook.Dispatcher
	manager    *webhook.Manager
	publisher  *webhook.Publisher
	api        http.Handler
	log        *bytes.Buffer

	respond func(*http.Request) (*http.Response, error) // what receivers do
}

// option changes how a host is set up.
type option func(*webhook.ManagerConfig, *httpapi.Config)

func newHost(t testing.TB, options ...option) *host {
	t.Helper()
	h := &host{store: memstore.New(), clock: &webhooktest.Clock{}, log: &bytes.Buffer{}}
	h.answers(http.StatusOK, "thank you")
	logger := slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	h.dispatcher, err = webhook.NewDispatcher(h.store, webhook.DispatcherConfig{Clock: h.clock, HTTPDoer: h, Logger: logger})
	require.NoError(t, err)
	managing := webhook.ManagerConfig{Clock: h.clock, Dispatcher: h.dispatcher, Logger: logger}
	serving := httpapi.Config{Actor: authenticate, Logger: logger}
	for _, o := range options {
		o(&managing, &serving)
	}
	h.manager, err = webhook.NewManager(h.store, managing)
	require.NoError(t, err)
	h.publisher, err = webhook.NewPublisher(h.store, webhook.PublisherConfig{Clock: h.clock, Catalog: managing.Catalog})
	require.NoError(t, err)
	h.api, err = httpapi.New(h.manager, serving)
	require.NoError(t, err)
	return h
}

// Do is the dispatcher's HTTPDoer.
func (h *host) Do(r *http.Request) (*http.Response, error) { return h.respond(r) }

// answers makes receivers answer with a status.
func (h *host) answers(status int, body string) {
	h.respond = func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// register creates a webhook for messages in the room.
func (h *host) register(t testing.TB) (webhook.Webhook, webhook.Secret) {
	t.Helper()
	w, secret, err := h.manager.Create(t.Context(), actors[owner], webhook.WebhookInput{
		Name: "Archive", Description: "keeps it", EndpointURL: endpointURL,
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	return w, secret
}

// publish publishes a message in the room, and returns its delivery.
func (h *host) publish(t testing.TB) webhook.Delivery {
	t.Helper()
	published, err := h.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: map[string]string{"text": "hi"},
	})
	require.NoError(t, err)
	page, err := h.manager.Deliveries(t.Context(), actors[owner], webhook.DeliveryQuery{EventID: published.EventID})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	return page.Items[0]
}

// deliver publishes a message, lets receivers answer its attempts with a status, and
// carries it to its end.
func (h *host) deliver(t testing.TB, status int) webhook.Delivery {
	t.Helper()
	h.answers(status, "thank you")
	d := h.publish(t)
	webhooktest.Drain(t, h.dispatcher, h.clock)
	return d
}

// edit changes a request before it is sent.
type edit func(*http.Request)

func header(name, value string) edit {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// call makes a request, with a JSON body if there is one.
func (h *host) call(t testing.TB, token, method, target, body string, edits ...edit) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if token != nobody {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edits {
		e(r)
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	requireSound(t, w)
	return w
}

// requireSound checks what holds for every answer.
func requireSound(t testing.TB, w *httptest.ResponseRecorder) {
	t.Helper()
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
	require.Equal(t, "default-src 'none'; frame-ancestors 'none'", w.Header().Get("Content-Security-Policy"))
	require.Less(t, w.Code, 500, "%s", w.Body)
	require.NotContains(t, w.Body.String(), "<", "answers are escaped")
	switch {
	case w.Code == http.StatusNoContent:
		require.Empty(t, w.Body.String())
	case w.Code >= 400:
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		p := problemOf(t, w)
		require.Equal(t, "about:blank", p.Type)
		require.Equal(t, w.Code, p.Status)
		require.Equal(t, http.StatusText(w.Code), p.Title)
		require.NotEmpty(t, p.Detail)
	default:
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.True(t, json.Valid(w.Body.Bytes()))
	}
}

// problem and fault are what clients decode errors into.
type problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Errors []fault `json:"errors"`
}

type fault struct {
	Field   string `json:"field"`
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func problemOf(t testing.TB, w *httptest.ResponseRecorder) (p problem) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&p))
	return p
}

// decode reads an answer.
func decode[T any](t testing.TB, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), "%s", w.Body)
	return v
}

// object makes a body.
func object(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// created is a body that creates a webhook, changed by edits of its content.
func created(t testing.TB, edits ...func(content map[string]any)) string {
	t.Helper()
	content := map[string]any{
		"name": "Archive", "description": "keeps it", "endpoint_url": endpointURL,
		"subscriptions": []any{map[string]any{
			"subject_type": "WEBHOOK_SUBJECT_TYPE_ROOM", "subject_id": roomID,
			"subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "filter": map[string]any{"room_type": "chat"},
		}},
	}
	for _, e := range edits {
		e(content)
	}
	return object(t, map[string]any{"content": content})
}

func set(name string, v any) func(map[string]any) {
	return func(content map[string]any) { content[name] = v }
}

// state is all that can be seen of a host's records, to compare it.
func (h *host) state(t testing.TB) (s []any) {
	t.Helper()
	for _, token := range []string{owner, stranger} {
		hooks, err := h.manager.Webhooks(t.Context(), actors[token], webhook.WebhookQuery{Limit: 200})
		require.NoError(t, err)
		deliveries, err := h.manager.Deliveries(t.Context(), actors[token], webhook.DeliveryQuery{Limit: 200})
		require.NoError(t, err)
		s = append(s, hooks.Items, deliveries.Items)
	}
	return s
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

func (h *host) webhookPath(id uuid.UUID) string { return acme + "/webhooks/" + id.String() }
func (h *host) deliveryPath(id uuid.UUID) string {
	return acme + "/deliveries/" + id.String()
}

// serve makes a request as owner of a host whose manager has been exchanged. Its
// answer may be a fault of the server.
func (h *host) serve(t testing.TB, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	api, err := httpapi.New(h.manager, httpapi.Config{Actor: authenticate, Logger: slog.New(slog.NewJSONHandler(h.log, nil))})
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody)
	r.Header.Set("Authorization", "Bearer "+owner)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}
