// Package openapi_test holds the JSON API's OpenAPI document against the standard,
// and the API against the document.
package openapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

const (
	organization = "/v1/organizations/acme"
	roomID       = "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"
	maxBody      = 4 << 10

	subscription = `{"subject_type":"WEBHOOK_SUBJECT_TYPE_ROOM","subject_id":"` + roomID + `","subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`
	createBody   = `{"content":{"name":"Archive","endpoint_url":"https://receiver.example.com/hooks","subscriptions":[` + subscription + `]}}`
	testBody     = `{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`
	recoverBody  = `{"since":"2026-01-01T00:00:00Z"}`
	explainBody  = `{"event":` + subscription + `}`
)

// client talks to an API, and holds what is said against its document.
type client struct {
	api        http.Handler
	clock      *webhooktest.Clock
	store      webhook.Store
	dispatcher *webhook.Dispatcher
	manager    *webhook.Manager
	publisher  *webhook.Publisher
	status     int           // that receivers answer with
	begin      func()        // called by a receiver when it gets a request
	end        chan struct{} // if not nil, receivers answer when it is closed

	document *openapi3.T
	router   routers.Router
	seen     map[string][]int // statuses by operation
}

func newClient(t *testing.T, store webhook.Store) *client {
	t.Helper()
	c := &client{clock: &webhooktest.Clock{}, store: store, status: http.StatusOK, seen: map[string][]int{}}
	var err error
	c.dispatcher, err = webhook.NewDispatcher(c.store, webhook.DispatcherConfig{Clock: c.clock, HTTPDoer: c})
	require.NoError(t, err)
	c.manager, err = webhook.NewManager(c.store, webhook.ManagerConfig{Clock: c.clock, MaxWebhooks: 3})
	require.NoError(t, err)
	c.publisher, err = webhook.NewPublisher(c.store, webhook.PublisherConfig{Clock: c.clock})
	require.NoError(t, err)
	c.api, err = httpapi.New(c.manager, httpapi.Config{MaxBodyBytes: maxBody, Actor: func(r *http.Request) (webhook.Actor, error) {
		role, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return webhook.Actor{}, errors.New("no token")
		}
		return webhook.Actor{ID: role, OrganizationID: "acme", Role: webhook.Role(role)}, nil
	}})
	require.NoError(t, err)

	c.document, err = openapi3.NewLoader().LoadFromData(closed(t, c.documentText(t)))
	require.NoError(t, err)
	at, err := url.Parse("/v1/openapi.json")
	require.NoError(t, err)
	server, err := at.Parse(c.document.Servers[0].URL)
	require.NoError(t, err)
	c.document.Servers[0].URL = server.String() // the router takes it as it is
	c.router, err = legacy.NewRouter(c.document)
	require.NoError(t, err)
	return c
}

// closed is the document with no room for fields that it does not name: answers may
// have more one day, but today these are forgotten ones.
func closed(t *testing.T, text []byte) []byte {
	t.Helper()
	var document map[string]any
	require.NoError(t, json.Unmarshal(text, &document))
	components, _ := document["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	require.NotEmpty(t, schemas)
	for _, s := range schemas {
		if s, ok := s.(map[string]any); ok && s["properties"] != nil {
			s["additionalProperties"] = false
		}
	}
	text, err := json.Marshal(document)
	require.NoError(t, err)
	return text
}

func (c *client) documentText(t *testing.T) []byte {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/openapi.json", http.NoBody)
	r.Header.Set("Authorization", "Bearer viewer")
	w := httptest.NewRecorder()
	c.api.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	return w.Body.Bytes()
}

// Do is the dispatcher's HTTPDoer.
func (c *client) Do(*http.Request) (*http.Response, error) {
	if c.end != nil {
		c.begin()
		<-c.end
	}
	return &http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {"60"}}, Body: io.NopCloser(strings.NewReader("\xff\x00"))}, nil
}

// answer is what came back, and what the document says of the request.
type answer struct {
	status  int
	body    []byte
	invalid error // the request is not as the document has it
}

// call makes a request. Its answer must be one that the document has.
func (c *client) call(t *testing.T, role, method, target, kind, body string) answer {
	t.Helper()
	request := func() *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		if role != "" {
			r.Header.Set("Authorization", "Bearer "+role)
		}
		if body != "" {
			r.Header.Set("Content-Type", kind)
		}
		return r
	}
	sent := request()
	route, parameters, err := c.router.FindRoute(sent)
	require.NoError(t, err, "%s %s", method, target)
	in := &openapi3filter.RequestValidationInput{Request: sent, PathParams: parameters, Route: route, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, RejectWhenRequestBodyNotSpecified: true, IncludeResponseStatus: true, MultiError: true,
	}}
	out := answer{invalid: openapi3filter.ValidateRequest(t.Context(), in)}

	w := httptest.NewRecorder()
	c.api.ServeHTTP(w, request())

	out.status, out.body = w.Code, w.Body.Bytes()
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(out.body)), Options: in.Options,
	})
	require.NoError(t, err, "%s %s: %d %s", method, target, w.Code, out.body)
	documented := route.Operation.Responses.Status(w.Code)
	require.NotNil(t, documented, "%s may not answer %d", route.Operation.OperationID, w.Code)
	if len(documented.Value.Content) == 0 {
		require.Empty(t, out.body)
	} else {
		require.Contains(t, documented.Value.Content, w.Header().Get("Content-Type"))
	}
	c.seen[route.Operation.OperationID] = append(c.seen[route.Operation.OperationID], w.Code)
	return out
}

// must makes a request as owner that the document allows, and that is answered with
// a status.
func (c *client) must(t *testing.T, status int, method, target, body string) []byte {
	t.Helper()
	got := c.call(t, "owner", method, target, "application/json", body)
	require.Equal(t, status, got.status, "%s %s: %s", method, target, got.body)
	require.NoError(t, got.invalid, "%s %s %s", method, target, body)
	return got.body
}

func (c *client) publish(t *testing.T) uuid.UUID {
	t.Helper()
	p, err := c.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: roomID},
	})
	require.NoError(t, err)
	page, err := c.manager.Deliveries(t.Context(), webhook.Actor{OrganizationID: "acme", Role: webhook.RoleOwner}, webhook.DeliveryQuery{EventID: p.EventID})
	require.NoError(t, err)
	require.NotEmpty(t, page.Items)
	return page.Items[0].ID
}

// delivers lets a dispatcher work until it has delivered something.
func (c *client) delivers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n, err := 0, error(nil); n == 0 && err == nil && ctx.Err() == nil; {
			if n, err = c.dispatcher.RunOnce(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// eventIn returns the event of a delivery.
func eventIn(t *testing.T, body []byte) string {
	t.Helper()
	var v struct {
		Delivery struct {
			EventID string `json:"event_id"`
		} `json:"delivery"`
	}
	require.NoError(t, json.Unmarshal(body, &v))
	require.NotEmpty(t, v.Delivery.EventID)
	return v.Delivery.EventID
}

// endpointOf returns where a webhook's requests go.
func (c *client) endpointOf(t *testing.T, path string) string {
	t.Helper()
	var body struct {
		Webhook struct {
			EndpointURL string `json:"endpoint_url"`
		} `json:"webhook"`
	}
	require.NoError(t, json.Unmarshal(c.must(t, http.StatusOK, "GET", path, ""), &body))
	return body.Webhook.EndpointURL
}

func idIn(t *testing.T, body []byte, what string) string {
	t.Helper()
	var v map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(body, &v))
	var record struct {
		ID string `json:"id"`
	}
	require.NoError(t, json.Unmarshal(v[what], &record))
	require.NotEmpty(t, record.ID)
	return record.ID
}

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	c := newClient(t, memstore.New())

	document, err := openapi3.NewLoader().LoadFromData(c.documentText(t))

	require.NoError(t, err)
	require.NoError(t, document.Validate(t.Context(), openapi3.EnableSchemaFormatValidation(), openapi3.EnableSchemaPatternValidation()))
	require.True(t, document.IsOpenAPI31OrLater())
	again := newClient(t, memstore.New())
	require.Equal(t, string(c.documentText(t)), string(again.documentText(t)), "the same text each time")
}

// TestPayloadsAreAsDocumented has schemas that refer to themselves, which still have to
// when they are a part of the document.
func TestPayloadsAreAsDocumented(t *testing.T) {
	t.Parallel()
	catalog, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{
		{
			Type: "commented", Title: "Commented", Description: "Somebody has commented.",
			Sample: map[string]any{"text": "I agree.", "replies": []any{map[string]any{"text": "Me too."}}},
			Schema: json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","$ref":"#/$defs/comment","$defs":{"comment":{"type":"object",
				"properties":{"text":{"type":"string"},"replies":{"type":["array","null"],"items":{"$ref":"#/$defs/comment"}}},"required":["text"]}}}`),
		},
		{Type: "pinged", Title: "Pinged"},
		{Type: "named", Title: "Named", Schema: json.RawMessage(`{"properties":{"a":{"$ref":"#/$defs/the name"}},"$defs":{"the name":{"type":"string"}}}`)},
		{
			Type: "identified", Title: "Identified", Sample: map[string]any{"a": "x"},
			Schema: json.RawMessage(`{"$id":"https://acme.example/identified","properties":{"a":{"$ref":"#/$defs/x"},"b":{"$ref":"https://acme.example/identified#/$defs/x"}},
				"$defs":{"x":{"type":"string"}}}`),
		},
		{Type: "rooted", Title: "Rooted", Schema: json.RawMessage(`{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#/properties/a"}}}`)},
	})
	require.NoError(t, err)
	store := memstore.New()
	manager, err := webhook.NewManager(store, webhook.ManagerConfig{Catalog: catalog})
	require.NoError(t, err)
	api, err := httpapi.New(manager, httpapi.Config{Actor: func(*http.Request) (webhook.Actor, error) {
		return webhook.Actor{OrganizationID: "acme", Role: webhook.RoleOwner}, nil
	}})
	require.NoError(t, err)
	c := &client{api: api}

	text := c.documentText(t)

	document, err := openapi3.NewLoader().LoadFromData(text)
	require.NoError(t, err)
	require.NoError(t, document.Validate(t.Context(), openapi3.EnableSchemaFormatValidation(), openapi3.EnableSchemaPatternValidation()))
	require.Len(t, document.Webhooks, 5)
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("openapi.json", whole))
	for name, item := range document.Webhooks {
		s, err := compiler.Compile("openapi.json#/components/schemas/Payload." + name)
		require.NoError(t, err)
		sample, ok := catalog.SamplePayload(webhook.EventType(name))
		require.True(t, ok)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(sample))
		require.NoError(t, err)
		require.NoError(t, s.Validate(value), "%s", sample)
		content := item.Post.RequestBody.Value.Content["application/json"]
		require.Equal(t, "#/components/schemas/Payload."+name, content.Schema.Ref)
		example, err := json.Marshal(content.Example)
		require.NoError(t, err)
		require.JSONEq(t, string(sample), string(example))
		if name == "commented" {
			wrong, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.Replace(sample, []byte(`"Me too."`), []byte(`2`), 1)))
			require.NoError(t, err)
			require.Error(t, s.Validate(wrong), "what refers to itself is still looked at")
		}
	}
}

// TestAPIIsAsDocumented makes a run over all operations that sees every answer which
// the document has, faults of the server excepted. Requests that were taken must be
// as the document has them, and so must all answers.
func TestAPIIsAsDocumented(t *testing.T) {
	t.Parallel()
	t.Run("memstore", func(t *testing.T) {
		t.Parallel()
		runEverything(t, newClient(t, memstore.New()))
	})
	t.Run("sqlstore", func(t *testing.T) {
		t.Parallel()
		runEverything(t, newClient(t, integration.SQLite.Migrated(t).Store(t)))
	})
}

func runEverything(t *testing.T, c *client) {
	t.Helper()
	hooks := organization + "/webhooks"

	// What is taken.
	first := hooks + "/" + idIn(t, c.must(t, http.StatusCreated, "POST", hooks, createBody), "webhook")
	second := hooks + "/" + idIn(t, c.must(t, http.StatusCreated, "POST", hooks, replaced(t, `MESSAGE_SENT"}`, `MESSAGE_SENT","filter":{"a":"b"}}`)), "webhook")
	c.must(t, http.StatusCreated, "POST", hooks, createBody)
	c.must(t, http.StatusConflict, "POST", hooks, createBody)
	c.must(t, http.StatusOK, "GET", hooks+"?limit=2&status=WEBHOOK_STATUS_ACTIVE&subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "")
	c.must(t, http.StatusOK, "GET", first, "")
	c.must(t, http.StatusOK, "PATCH", first, `{"version":1,"content":{"name":"Store","description":"new","status":"WEBHOOK_STATUS_INACTIVE"}}`)
	c.must(t, http.StatusConflict, "PATCH", first, `{"version":1,"content":{"subscriptions":[`+subscription+`]}}`)
	held := organization + "/deliveries/" + c.publish(t).String()
	c.must(t, http.StatusOK, "GET", held, "")
	c.must(t, http.StatusConflict, "POST", first+"/test", testBody)
	c.must(t, http.StatusConflict, "POST", first+"/recover", recoverBody)
	c.must(t, http.StatusOK, "PATCH", first, `{"version":2,"content":{"status":"WEBHOOK_STATUS_ACTIVE"},"resume":true}`)
	c.status = http.StatusServiceUnavailable
	webhooktest.Drain(t, c.dispatcher, c.clock)
	failed := c.publish(t).String()
	webhooktest.Drain(t, c.dispatcher, c.clock)
	failed = organization + "/deliveries/" + failed
	c.must(t, http.StatusOK, "GET", first+"/logs?outcome=WEBHOOK_ATTEMPT_OUTCOME_FAILED&status_class=5&since=2026-01-01T00:00:00Z&before=2027-01-01T00:00:00Z&limit=3", "")
	c.must(t, http.StatusOK, "GET", first+"/deliveries?state=WEBHOOK_DELIVERY_STATE_FAILED", "")
	c.must(t, http.StatusOK, "GET", first+"/counters?since=2026-01-01T00:00:00Z", "")
	c.must(t, http.StatusOK, "GET", first+"/health", "")
	c.must(t, http.StatusOK, "PATCH", second, `{"version":1,"content":{"rate_limit":1000}}`)
	c.must(t, http.StatusOK, "GET", second, "")
	c.must(t, http.StatusOK, "GET", organization+"/deliveries?limit=200&cursor=", "")
	c.must(t, http.StatusOK, "GET", failed, "")
	c.must(t, http.StatusOK, "GET", failed+"/attempts", "")
	c.must(t, http.StatusConflict, "POST", failed+"/cancel", "")
	again := organization + "/deliveries/" + idIn(t, c.must(t, http.StatusAccepted, "POST", failed+"/redeliver", ""), "delivery")
	c.must(t, http.StatusConflict, "POST", again+"/redeliver", "")
	c.must(t, http.StatusNoContent, "POST", again+"/cancel", "")
	c.must(t, http.StatusAccepted, "POST", first+"/test", testBody)
	webhooktest.Drain(t, c.dispatcher, c.clock)
	c.delivers(t)
	c.must(t, http.StatusOK, "POST", first+"/test?wait=30", testBody)
	c.must(t, http.StatusOK, "POST", first+"/recover", `{"since":"2026-01-01T00:00:00Z","preview":true}`)
	c.must(t, http.StatusOK, "POST", first+"/recover", recoverBody)
	event := organization + "/events/" + eventIn(t, c.must(t, http.StatusOK, "GET", failed, "")) + "/explanation"
	c.must(t, http.StatusOK, "GET", event, "")
	c.must(t, http.StatusOK, "POST", organization+"/explain", explainBody)
	c.must(t, http.StatusOK, "POST", organization+"/explain", strings.Replace(explainBody, `"}}`, `","parents":[{"subject_type":"WEBHOOK_SUBJECT_TYPE_SPACE","subject_id":"`+roomID+`"}],"attributes":{"a":"b"}}}`, 1))
	c.must(t, http.StatusOK, "GET", organization+"/event-types", "")
	c.must(t, http.StatusOK, "GET", "/v1/openapi.json", "")

	// Viewers see less of the same.
	for _, path := range []string{hooks, first, first + "/logs", first + "/health", failed, failed + "/attempts", event} {
		got := c.call(t, "viewer", "GET", path, "", "")
		require.Equal(t, http.StatusOK, got.status)
	}

	// What is refused, in every operation that may.
	for path, item := range c.document.Paths.Map() {
		for method, o := range item.Operations() {
			target := strings.NewReplacer("{organization_id}", "acme", "{webhook_id}", first[len(hooks)+1:], "{delivery_id}", failed[len(organization+"/deliveries/"):], "{event_id}", uuid.NewString()).Replace("/v1" + path)
			body := map[string]string{"createWebhook": createBody, "updateWebhook": `{"version":1}`, "sendTest": testBody, "recoverWebhook": recoverBody, "explainDraft": explainBody}[o.OperationID]
			const json = "application/json"
			refusals := map[int]func() answer{
				http.StatusBadRequest:   func() answer { return c.call(t, "owner", method, target+"?unknown=1", json, body) },
				http.StatusUnauthorized: func() answer { return c.call(t, "", method, target, json, body) },
				http.StatusForbidden:    func() answer { return c.call(t, "nothing", method, target, json, body) },
				http.StatusNotFound: func() answer {
					return c.call(t, "owner", method, strings.Replace(target, "/acme", "/other", 1), json, body)
				},
				http.StatusRequestEntityTooLarge: func() answer {
					return c.call(t, "owner", method, target, json, body+strings.Repeat(" ", maxBody+1))
				},
				http.StatusUnsupportedMediaType: func() answer { return c.call(t, "owner", method, target, "text/plain", body) },
			}
			for code := range o.Responses.Map() {
				status, err := strconv.Atoi(code)
				require.NoError(t, err)
				if refusal, ok := refusals[status]; ok {
					require.Equal(t, status, refusal().status, "%s: %d", o.OperationID, status)
				}
			}
		}
	}

	// What a rule has deactivated.
	done, err := c.store.Deactivate(t.Context(), webhook.DeactivateParams{
		Scope: webhook.Scope{OrganizationID: "acme"}, WebhookID: uuid.MustParse(second[len(hooks)+1:]), Reason: webhook.DeactivatedGone, Now: c.clock.Now(),
		EndpointURL: c.endpointOf(t, second), StartedAt: c.clock.Now(),
	})
	require.NoError(t, err)
	require.True(t, done.Deactivated)
	for _, path := range []string{second, second + "/health"} {
		require.Contains(t, string(c.must(t, http.StatusOK, "GET", path, "")), "WEBHOOK_DEACTIVATION_REASON_GONE")
	}

	// Deletion, while an attempt is on its way, and then again.
	begun := make(chan struct{})
	c.begin, c.end = sync.OnceFunc(func() { close(begun) }), make(chan struct{})
	c.publish(t)
	var running sync.WaitGroup
	running.Go(func() {
		_, err := c.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
	})
	<-begun
	c.must(t, http.StatusAccepted, "DELETE", first, "")
	close(c.end)
	running.Wait()
	c.must(t, http.StatusNoContent, "DELETE", second, "")

	for _, item := range c.document.Paths.Map() {
		for _, o := range item.Operations() {
			for code := range o.Responses.Map() {
				status, err := strconv.Atoi(code)
				require.NoError(t, err)
				require.True(t, status >= 500 || slices.Contains(c.seen[o.OperationID], status), "%s is said to answer %s, and did not", o.OperationID, code)
			}
		}
	}
}

// replaced is the body that creates a webhook, with something else in it.
func replaced(t *testing.T, old, instead string) string {
	t.Helper()
	require.Contains(t, createBody, old)
	return strings.Replace(createBody, old, instead, 1)
}

// TestRequestsThatTheDocumentRefuses are refused by the API as well, as 400.
func TestRequestsThatTheDocumentRefuses(t *testing.T) {
	t.Parallel()
	c := newClient(t, memstore.New())
	hooks := organization + "/webhooks"
	id := hooks + "/" + idIn(t, c.must(t, http.StatusCreated, "POST", hooks, createBody), "webhook")
	for _, r := range [][2]string{
		{"POST " + hooks, `{}`},
		{"POST " + hooks, `[]`},
		{"POST " + hooks, replaced(t, `"name":"Archive",`, ``)},
		{"POST " + hooks, replaced(t, `"Archive"`, `""`)},
		{"POST " + hooks, replaced(t, `"Archive"`, `7`)},
		{"POST " + hooks, replaced(t, `"Archive"`, `null`)},
		{"POST " + hooks, replaced(t, `"Archive"`, `"`+strings.Repeat("é", 101)+`"`)},
		{"POST " + hooks, replaced(t, `"name"`, `"Name"`)},
		{"POST " + hooks, replaced(t, `[`+subscription+`]`, `[]`)},
		{"POST " + hooks, replaced(t, `[`+subscription+`]`, subscription)},
		{"POST " + hooks, replaced(t, `WEBHOOK_SUBJECT_TYPE_ROOM`, `room`)},
		{"POST " + hooks, replaced(t, `WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT`, `message_sent`)},
		{"POST " + hooks, replaced(t, roomID, ``)},
		{"POST " + hooks, replaced(t, `"subject_id"`, `"filter":{"k":1},"subject_id"`)},
		{"PATCH " + id, `{"content":{"name":"x"}}`},
		{"PATCH " + id, `{"version":0}`},
		{"PATCH " + id, `{"version":1,"content":{"rate_limit":-1}}`},
		{"PATCH " + id, `{"version":1,"content":{"rate_limit":1001}}`},
		{"PATCH " + id, `{"version":1,"content":{"rate_limit":"7"}}`},
		{"POST " + hooks, replaced(t, `"name":"Archive",`, `"name":"Archive","rate_limit":1001,`)},
		{"PATCH " + id, `{"version":"1"}`},
		{"PATCH " + id, `{"version":1,"content":{"status":"active"}}`},
		{"PATCH " + id, `{"version":1,"content":{"secret":"x"}}`},
		{"POST " + id + "/test", `{}`},
		{"POST " + id + "/recover", `{}`},
		{"POST " + id + "/recover", `{"since":1}`},
		{"POST " + id + "/recover", `{"since":"2026-01-01T00:00:00Z","cursor":1}`},
		{"POST " + id + "/test?wait=0", testBody},
		{"POST " + id + "/test?wait=31", testBody},
		{"POST " + organization + "/explain", `{}`},
		{"POST " + organization + "/explain", `{"event":{}}`},
		{"POST " + organization + "/explain", strings.Replace(explainBody, `"}}`, `","data":1}}`, 1)},
		{"POST " + organization + "/explain", strings.Replace(explainBody, `"}}`, `","parents":[{"subject_id":"x"}]}}`, 1)},
		{"POST " + organization + "/explain", strings.Replace(explainBody, `"}}`, `","attributes":{"a":1}}}`, 1)},
		{"GET " + hooks + "?limit=0", ``},
		{"GET " + hooks + "?limit=201", ``},
		{"GET " + hooks + "?limit=x", ``},
		{"GET " + hooks + "?status=active", ``},
		{"GET " + id + "/logs?status_class=6", ``},
		{"GET " + id + "/logs?outcome=failed", ``},
		{"GET " + id + "/logs?subscription_type=message_sent", ``},
	} {
		method, target, _ := strings.Cut(r[0], " ")
		got := c.call(t, "owner", method, target, "application/json", r[1])
		require.Error(t, got.invalid, "the document allows %s %s", r[0], r[1])
		require.Equal(t, http.StatusBadRequest, got.status, "%s %s: %s", r[0], r[1], got.body)
	}
}
