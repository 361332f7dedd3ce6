package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
)

func inContent(field, pointer, detail string) fault {
	return fault{"content." + field, "/content/" + pointer, detail}
}

const (
	subjectTypes = "must be one of WEBHOOK_SUBJECT_TYPE_ROOM, WEBHOOK_SUBJECT_TYPE_SPACE"
	eventTypes   = "must be one of WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT, WEBHOOK_SUBSCRIPTION_TYPE_ROOM_RECORDING_TRANSCRIPT_PUBLISHED"
	noField      = "is not a field here; the fields are: "
	aUUID        = `must be a UUID such as "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"`
)

// TestBodiesThatAreWrong creates, updates, tests and recovers with what is wrong in
// every way, and is told so field by field. Nothing is written.
func TestBodiesThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	create, update := "POST "+acme+"/webhooks", "PATCH "+h.webhookPath(w.ID)
	test, recovery := "POST "+h.webhookPath(w.ID)+"/test", "POST "+h.webhookPath(w.ID)+"/recover"
	cancel := "POST " + h.deliveryPath(uuid.New()) + "/cancel"
	before := h.state(t)

	sub := func(subjectType, subjectID, eventType string) map[string]any {
		return map[string]any{"subject_type": subjectType, "subject_id": subjectID, "subscription_type": eventType}
	}
	good := sub("WEBHOOK_SUBJECT_TYPE_ROOM", roomID, "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT")
	filtered := func(filter any) map[string]any {
		s := sub("WEBHOOK_SUBJECT_TYPE_ROOM", roomID, "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT")
		s["filter"] = filter
		return s
	}
	many := make([]any, 101)
	for i := range many {
		many[i] = sub("WEBHOOK_SUBJECT_TYPE_ROOM", uuid.NewString(), "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT")
	}

	for name, c := range map[string]struct {
		request, body string
		edits         []edit
		status        int    // 400 if it is not said
		detail        string // if there are no faults
		faults        []fault
	}{
		"empty":         {request: create, body: " ", detail: "The body is empty; it must be a JSON object."},
		"broken off":    {request: create, body: `{"content":`, detail: "The body is not JSON: unexpected end of JSON input, at byte 11."},
		"no JSON":       {request: create, body: `name=Archive`, detail: "The body is not JSON: invalid character 'a' in literal null (expecting 'u'), at byte 2."},
		"two values":    {request: create, body: created(t) + `{}`, detail: fmt.Sprintf("The body is not JSON: invalid character '{' after top-level value, at byte %d.", len(created(t))+1)},
		"an array":      {request: create, body: ` [1] `, detail: "The body must be a JSON object, and is an array."},
		"null":          {request: create, body: `null`, detail: "The body must be a JSON object, and is null."},
		"a text":        {request: update, body: `"x"`, detail: "The body must be a JSON object, and is a string."},
		"a number":      {request: test, body: `-1`, detail: "The body must be a JSON object, and is a number."},
		"a truth":       {request: recovery, body: `false`, detail: "The body must be a JSON object, and is true or false."},
		"too deep":      {request: create, body: strings.Repeat(`[`, 100_000), detail: "The body is not JSON: invalid character '[' exceeded max depth, at byte 10001."},
		"no UTF-8":      {request: create, body: "{\"content\":{\"name\":\"\xff\"}}", detail: "The body is not UTF-8."},
		"too large":     {request: create, body: `{"content":{"name":"` + strings.Repeat("x", 1<<20) + `"}}`, status: 413, detail: "The body must be at most 1048576 bytes."},
		"a form":        {request: create, body: created(t), edits: []edit{header("Content-Type", "application/x-www-form-urlencoded")}, status: 415, detail: "Content-Type must be application/json."},
		"no type":       {request: create, body: created(t), edits: []edit{header("Content-Type", "")}, status: 415, detail: "Content-Type must be application/json."},
		"a broken type": {request: create, body: created(t), edits: []edit{header("Content-Type", "application/json; charset")}, status: 415, detail: "Content-Type must be application/json."},
		"a merge patch": {request: update, body: `{}`, edits: []edit{header("Content-Type", "application/merge-patch+json")}, status: 415, detail: "Content-Type must be application/json."},
		"Latin-1":       {request: create, body: created(t), edits: []edit{header("Content-Type", "application/json; charset=latin1")}, status: 415, detail: "The charset of Content-Type must be utf-8."},
		"zipped":        {request: create, body: created(t), edits: []edit{header("Content-Encoding", "gzip")}, status: 415, detail: "Content-Encoding must be identity, or not there."},
		"breaks off": {request: create, body: "{", edits: []edit{func(r *http.Request) { r.Body = http.MaxBytesReader(nil, brokenBody{}, 1<<30) }},
			detail: "The body breaks off."},

		"nothing in it": {request: create, body: `{}`, faults: []fault{{"content", "/content", "is required"}}},
		"no content": {request: create, body: `{"content":{}}`, faults: []fault{
			inContent("name", "name", "is required"), inContent("endpoint_url", "endpoint_url", "is required"),
			inContent("subscriptions", "subscriptions", "must have at least one event type"),
		}},
		"null everywhere": {request: create, body: `{"content":{"name":null,"description":null,"subscriptions":[null,{"filter":null}]}}`, faults: []fault{
			inContent("name", "name", "must be a string, and is null"), inContent("description", "description", "must be a string, and is null"),
			inContent("subscriptions[0]", "subscriptions/0", "must be an object, and is null"),
			inContent("subscriptions[1].filter", "subscriptions/1/filter", "must be an object, and is null"),
		}},
		"wrong types": {request: create, body: `{"content":{"name":1,"description":["x"],"endpoint_url":{},"subscriptions":{"subject_type":"x"}}}`, faults: []fault{
			inContent("name", "name", "must be a string, and is a number"), inContent("description", "description", "must be a string, and is an array"),
			inContent("endpoint_url", "endpoint_url", "must be a string, and is an object"),
			inContent("subscriptions", "subscriptions", "must be an array, and is an object"),
		}},
		"a wrong content": {request: create, body: `{"content":"x"}`, faults: []fault{{"content", "/content", "must be an object, and is a string"}}},
		"wrong types, deep": {request: create, body: `{"content":{"subscriptions":["x",{"subject_id":7,"filter":{"a/b~c":true,"x":"y"}}]}}`, faults: []fault{
			inContent("subscriptions[0]", "subscriptions/0", "must be an object, and is a string"),
			inContent("subscriptions[1].subject_id", "subscriptions/1/subject_id", "must be a string, and is a number"),
			inContent("subscriptions[1].filter[a/b~c]", "subscriptions/1/filter/a~1b~0c", "must be a string, and is true or false"),
		}},
		"unknown fields": {request: create, body: `{"id":1,"content":{"Name":"x","secret":"y","subscriptions":[{"event_type":"z"}]}}`, faults: []fault{
			{"id", "/id", noField + "content"},
			inContent("Name", "Name", noField+"name, description, endpoint_url, subscriptions, rate_limit"),
			inContent("secret", "secret", noField+"name, description, endpoint_url, subscriptions, rate_limit"),
			inContent("subscriptions[0].event_type", "subscriptions/0/event_type", noField+"subject_type, subject_id, subscription_type, filter"),
		}},
		"a letter that folds": {request: create, body: `{"content":{"deſcription":"x"}}`, faults: []fault{
			inContent("deſcription", "deſcription", noField+"name, description, endpoint_url, subscriptions, rate_limit"),
		}},
		"a field of a long name": {request: create, body: `{"` + strings.Repeat("é", 200) + `":1,"content":{}}`, faults: []fault{
			{strings.Repeat("é", 100) + "…", "/" + strings.Repeat("é", 200), noField + "content"},
		}},
		"a long key": {request: create, body: created(t, set("subscriptions", []any{filtered(map[string]any{strings.Repeat("k", 128): "\u0000"})})), faults: []fault{
			inContent("subscriptions[0].filter["+strings.Repeat("k", 100)+"…]", "subscriptions/0/filter/"+strings.Repeat("k", 128),
				"must not contain the control or invisible character U+0000"),
		}},
		"fields there twice": {request: create, body: `{"content":{"name":"x","name":"y","subscriptions":[{"filter":{"k":"1","\u006b":"2"}}]},"content":{}}`, faults: []fault{
			inContent("name", "name", "must not be there twice"),
			inContent("subscriptions[0].filter[k]", "subscriptions/0/filter/k", "must not be there twice"),
			{"content", "/content", "must not be there twice"},
		}},
		"wrong values": {request: create, body: created(t, set("name", "a\u202eb"), set("description", strings.Repeat("é", 501)), set("endpoint_url", "http://receiver.example.com")), faults: []fault{
			inContent("name", "name", "must not contain the control or invisible character U+202E"),
			inContent("description", "description", "must have at most 500 characters"),
			inContent("endpoint_url", "endpoint_url", "must begin with https://"),
		}},
		"an endpoint inside": {request: create, body: created(t, set("endpoint_url", "https://169.254.169.254/")), faults: []fault{
			inContent("endpoint_url", "endpoint_url", "must not have a private, local or other special-purpose address as its host"),
		}},
		"wrong subscriptions": {request: create, body: created(t, set("subscriptions", []any{
			good, sub("room", "", "message_sent"), good, filtered(map[string]any{"a.b[0]": "x\u0000"}),
			sub("WEBHOOK_SUBJECT_TYPE_SPACE", "7", "webhook_subscription_type_message_sent"),
		})), faults: []fault{
			inContent("subscriptions[1].subject_type", "subscriptions/1/subject_type", subjectTypes),
			inContent("subscriptions[1].subject_id", "subscriptions/1/subject_id", "is required"),
			inContent("subscriptions[1].subscription_type", "subscriptions/1/subscription_type", eventTypes),
			inContent("subscriptions[2]", "subscriptions/2", "must not repeat the subject and event type of another subscription"),
			inContent("subscriptions[3].filter[a.b[0]]", "subscriptions/3/filter/a.b[0]", "must not contain the control or invisible character U+0000"),
			inContent("subscriptions[3]", "subscriptions/3", "must not repeat the subject and event type of another subscription"),
			inContent("subscriptions[4].subject_id", "subscriptions/4/subject_id", aUUID),
			inContent("subscriptions[4].subscription_type", "subscriptions/4/subscription_type", eventTypes),
		}},
		"too many subscriptions": {request: create, body: created(t, set("subscriptions", many)), faults: []fault{
			inContent("subscriptions", "subscriptions", "must have at most 100"),
		}},

		"too many of what is none": {request: create, body: `{"content":{"subscriptions":[1` + strings.Repeat(",1", 100) + `]}}`, faults: []fault{
			inContent("subscriptions", "subscriptions", "must have at most 100"),
		}},
		"too large a filter": {request: create, body: `{"content":{"subscriptions":[{"filter":{"0":1` + strings.Repeat(`,"1":"x"`, 2) + numbered(`,"k%d":""`, 20) + `}}]}}`, faults: []fault{
			inContent("subscriptions[0].filter[0]", "subscriptions/0/filter/0", "must be a string, and is a number"),
			inContent("subscriptions[0].filter[1]", "subscriptions/0/filter/1", "must not be there twice"),
			inContent("subscriptions[0].filter", "subscriptions/0/filter", "must have at most 16 entries"),
		}},

		"no version":       {request: update, body: `{"content":{"name":"x"}}`, faults: []fault{{"version", "/version", "must be the version that was read"}}},
		"a version text":   {request: update, body: `{"version":"1"}`, faults: []fault{{"version", "/version", "must be an integer, and is a string"}}},
		"a broken version": {request: update, body: `{"version":1.5}`, faults: []fault{{"version", "/version", "must be an integer, without a fraction or an exponent"}}},
		"a whole version":  {request: update, body: `{"version":1.0}`, faults: []fault{{"version", "/version", "must be an integer, without a fraction or an exponent"}}},
		"a large version":  {request: update, body: `{"version":1e400}`, faults: []fault{{"version", "/version", "must be an integer, without a fraction or an exponent"}}},
		"a wrong status": {request: update, body: `{"version":1,"content":{"status":"active"},"resume":"yes"}`, faults: []fault{
			{"resume", "/resume", "must be true or false, and is a string"},
		}},
		"an unknown status": {request: update, body: `{"version":1,"content":{"status":"active","name":""}}`, faults: []fault{
			inContent("name", "name", "is required"),
			inContent("status", "status", "must be one of WEBHOOK_STATUS_ACTIVE, WEBHOOK_STATUS_INACTIVE"),
		}},
		"no subscriptions": {request: update, body: `{"version":1,"content":{"subscriptions":[]}}`, faults: []fault{
			inContent("subscriptions", "subscriptions", "must have at least one event type"),
		}},
		"null in a change": {request: update, body: `{"version":1,"content":{"description":null}}`, faults: []fault{
			inContent("description", "description", "must be a string, and is null"),
		}},
		"the secret": {request: update, body: `{"version":1,"content":{"secret":"whsec_x"}}`, faults: []fault{
			inContent("secret", "secret", noField+"name, description, endpoint_url, status, subscriptions, rate_limit"),
		}},
		"resume what stays inactive": {request: update, body: `{"version":1,"content":{"status":"WEBHOOK_STATUS_INACTIVE"},"resume":true}`, faults: []fault{
			{"resume", "/resume", "needs an active webhook"},
		}},

		"no event type":      {request: test, body: `{}`, faults: []fault{{"subscription_type", "/subscription_type", eventTypes}}},
		"a wrong event type": {request: test, body: `{"subscription_type":"message_sent"}`, faults: []fault{{"subscription_type", "/subscription_type", eventTypes}}},

		"no since":       {request: recovery, body: `{"preview":true}`, faults: []fault{{"since", "/since", "is required; must be a time as in 2026-01-31T12:00:00Z (RFC 3339)"}}},
		"a wrong since":  {request: recovery, body: `{"since":"yesterday"}`, faults: []fault{{"since", "/since", "must be a time as in 2026-01-31T12:00:00Z (RFC 3339)"}}},
		"a number since": {request: recovery, body: `{"since":1}`, faults: []fault{{"since", "/since", "must be a string, and is a number"}}},
		"an early since": {request: recovery, body: `{"since":"0000-01-01T00:00:00Z"}`, faults: []fault{{"since", "/since", "must be in the years 1 to 9999"}}},
		"a wrong preview": {request: recovery, body: `{"since":"2026-01-01T00:00:00Z","preview":1}`, faults: []fault{
			{"preview", "/preview", "must be true or false, and is a number"},
		}},

		"a body where there is none": {request: cancel, body: `{"x":1}`, faults: []fault{{"x", "/x", "is not a field here; the request takes no body, or an object without fields"}}},
		"text where there is none":   {request: cancel, body: `hello`, detail: "The body is not JSON: invalid character 'h' looking for beginning of value, at byte 1."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, target, _ := strings.Cut(c.request, " ")

			got := h.call(t, owner, method, target, c.body, c.edits...)

			if c.status == 0 {
				c.status = http.StatusBadRequest
			}
			if c.faults != nil {
				c.detail = "The request breaks a rule; errors says which."
			}
			require.Equal(t, c.status, got.Code, "%s", got.Body)
			p := problemOf(t, got)
			require.Equal(t, c.detail, p.Detail)
			require.Equal(t, c.faults, p.Errors)
			require.Equal(t, before, h.state(t))
		})
	}
}

// brokenBody is of a connection that is lost.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("reset by peer") }
func (brokenBody) Close() error             { return nil }

func TestFaultsOfOneAnswerAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var fields []string
	for i := range 10_000 {
		fields = append(fields, fmt.Sprintf(`"x%d":1`, i))
	}
	for _, body := range []string{
		`{` + strings.Join(fields, ",") + `}`,
		`{"content":{"subscriptions":[` + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + `],"x":1}}`,
		`{"content":{"subscriptions":[{"filter":{` + strings.TrimSuffix(strings.Repeat(`"k":"v",`, 100_000), ",") + `}}]}}`,
	} {
		got := h.call(t, owner, http.MethodPost, acme+"/webhooks", body)
		require.Equal(t, http.StatusBadRequest, got.Code)
		require.Len(t, problemOf(t, got).Errors, 100)
	}
	var query []string
	for i := range 1000 {
		query = append(query, fmt.Sprintf("x%d=1", i))
	}
	got := h.call(t, owner, http.MethodGet, acme+"/webhooks?"+strings.Join(query, "&"), "")
	require.Len(t, problemOf(t, got).Errors, 100)
}

func TestQueriesThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	hooks, logs := acme+"/webhooks", h.webhookPath(w.ID)+"/logs"
	const (
		pageSize = "must be an integer from 1 to 200"
		aStart   = "must be later than 0001-01-01T00:00:00Z"
		aTime    = "must be a time as in 2026-01-31T12:00:00Z (RFC 3339)"
		aCursor  = "is not one that this list has given, with these filters"
		aType    = "must be WEBHOOK_SUBSCRIPTION_TYPE_ and an event type in upper case"
	)
	for query, want := range map[string][]fault{
		hooks + "?limit=0":                                      {{Field: "limit", Detail: pageSize}},
		hooks + "?limit=-1":                                     {{Field: "limit", Detail: pageSize}},
		hooks + "?limit=201":                                    {{Field: "limit", Detail: pageSize}},
		hooks + "?limit=1e1":                                    {{Field: "limit", Detail: pageSize}},
		hooks + "?limit=99999999999999999999":                   {{Field: "limit", Detail: pageSize}},
		hooks + "?limit=":                                       {{Field: "limit", Detail: "must not be empty"}},
		hooks + "?cursor=x":                                     {{Field: "cursor", Detail: aCursor}},
		hooks + "?cursor=%00%ff":                                {{Field: "cursor", Detail: aCursor}},
		hooks + "?cursor=" + longText:                           {{Field: "cursor", Detail: aCursor}},
		hooks + "?status=active":                                {{Field: "status", Detail: "must be one of WEBHOOK_STATUS_ACTIVE, WEBHOOK_STATUS_INACTIVE"}},
		hooks + "?subscription_type=%3Cscript":                  {{Field: "subscription_type", Detail: aType}},
		hooks + "?subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_": {{Field: "subscription_type", Detail: aType}},
		hooks + "?subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_message_sent": {{Field: "subscription_type", Detail: aType}},
		hooks + "?subscription_type=WEBHOOK_SUBSCRIPTION_TYPE_" + longText:  {{Field: "subscription_type", Detail: aType}},
		hooks + "?page=2&Limit=1":                                        {{Field: "Limit", Detail: "is not a parameter of this request"}, {Field: "page", Detail: "is not a parameter of this request"}},
		hooks + "?limit=1&limit=2":                                       {{Field: "limit", Detail: "must not be there twice"}},
		hooks + "?state=WEBHOOK_DELIVERY_STATE_HELD":                     {{Field: "state", Detail: "is not a parameter of this request"}},
		h.webhookPath(w.ID) + "?limit=1":                                 {{Field: "limit", Detail: "is not a parameter of this request"}},
		logs + "?since=yesterday":                                        {{Field: "since", Detail: aTime}},
		logs + "?since=2026-01-01T12:00:00+01:00":                        {{Field: "since", Detail: aTime}}, // the + is a space
		logs + "?since=0000-01-01T12:00:00Z":                             {{Field: "since", Detail: "must be in the years 1 to 9999"}},
		logs + "?since=2026-01-02T00:00:00Z&before=2026-01-01T00:00:00Z": {{Field: "since", Detail: "must be earlier than before"}},
		logs + "?status_class=0":                                         {{Field: "status_class", Detail: "must be an integer from 1 to 5, the first digit of the status code"}},
		logs + "?status_class=6":                                         {{Field: "status_class", Detail: "must be an integer from 1 to 5, the first digit of the status code"}},
		logs + "?status_class=5xx":                                       {{Field: "status_class", Detail: "must be an integer from 1 to 5, the first digit of the status code"}},
		logs + "?outcome=succeeded":                                      {{Field: "outcome", Detail: "must be one of WEBHOOK_ATTEMPT_OUTCOME_SUCCEEDED, WEBHOOK_ATTEMPT_OUTCOME_FAILED, WEBHOOK_ATTEMPT_OUTCOME_INTERRUPTED, WEBHOOK_ATTEMPT_OUTCOME_LATE"}},
		logs + "?limit=x&before=x&cursor=x&outcome=x": {
			{Field: "outcome", Detail: "must be one of WEBHOOK_ATTEMPT_OUTCOME_SUCCEEDED, WEBHOOK_ATTEMPT_OUTCOME_FAILED, WEBHOOK_ATTEMPT_OUTCOME_INTERRUPTED, WEBHOOK_ATTEMPT_OUTCOME_LATE"},
			{Field: "before", Detail: aTime}, {Field: "limit", Detail: pageSize},
		},
		logs + "?before=0001-01-01T00:00:00Z":                                                    {{Field: "before", Detail: aStart}},
		acme + "/deliveries?since=0001-01-01T00:00:00Z":                                          {{Field: "since", Detail: aStart}},
		h.webhookPath(w.ID) + "/counters?before=0001-01-01T01:00:00%2B01:00":                     {{Field: "before", Detail: aStart}},
		h.webhookPath(w.ID) + "/counters?since=2026-01-02T00:00:00Z&before=2026-01-01T00:00:00Z": {{Field: "since", Detail: "must be earlier than before"}},
		acme + "/deliveries?event_id=7":                                                          {{Field: "event_id", Detail: "must be a UUID as in " + roomID}},
		acme + "/deliveries?event_id={" + roomID + "}":                                           {{Field: "event_id", Detail: "must be a UUID as in " + roomID}},
		acme + "/deliveries?event_id=00000000-0000-0000-0000-000000000000":                       {{Field: "event_id", Detail: "must be a UUID as in " + roomID}},
		acme + "/deliveries?state=pending":                                                       {{Field: "state", Detail: "must be one of WEBHOOK_DELIVERY_STATE_PENDING, WEBHOOK_DELIVERY_STATE_HELD, WEBHOOK_DELIVERY_STATE_SUCCEEDED, WEBHOOK_DELIVERY_STATE_FAILED, WEBHOOK_DELIVERY_STATE_CANCELLED"}},
		h.webhookPath(w.ID) + "/counters?since=x":                                                {{Field: "since", Detail: aTime}},
		acme + "/event-types?x=1":                                                                {{Field: "x", Detail: "is not a parameter of this request"}},
		"/v1/openapi.json?x=1":                                                                   {{Field: "x", Detail: "is not a parameter of this request"}},
	} {
		got := h.call(t, viewer, http.MethodGet, query, "")
		require.Equal(t, http.StatusBadRequest, got.Code, query)
		require.Equal(t, want, problemOf(t, got).Errors, query)
	}
	for _, query := range []string{"?limit=%zz", "?a=1;b=2"} {
		got := h.call(t, viewer, http.MethodGet, hooks+query, "")
		require.Equal(t, http.StatusBadRequest, got.Code, query)
		require.Equal(t, "The query is not encoded as one.", problemOf(t, got).Detail)
	}
	got := h.call(t, admin, http.MethodPost, hooks+"?dry_run=true", created(t))
	require.Equal(t, []fault{{Field: "dry_run", Detail: "is not a parameter of this request"}}, problemOf(t, got).Errors)
}

var longText = strings.Repeat("A", 10_000)

func TestPathsThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	d := h.publish(t)
	none := uuid.Nil.String()
	for _, path := range []string{
		"/", "/v1", "/v1/", "/v2/organizations/acme/webhooks", "/v1/organizations", "/v1/organizations/acme", "/v1/organizations/acme/",
		"/v1/organizations//webhooks", "//v1/organizations/acme/webhooks", "/v1/organizations/acme/webhooks/", "/v1/../v1/organizations/acme/webhooks",
		"/v1/organizations/acme/%2E%2E/acme/webhooks", "/v1/organizations/ACME/webhooks", "/v1/organizations/acme%20/webhooks", "/v1/organizations/acme%2Fx/webhooks",
		"/v1/organizations/acme%00/webhooks", "/v1/openapi.json/", "/v1/openapi.yaml",
		acme + "/webhooks/x", acme + "/webhooks/" + none, acme + "/webhooks/" + none + "/logs", acme + "/webhooks/" + none + "/deliveries", acme + "/webhooks/" + none + "/counters",
		acme + "/webhooks/{" + w.ID.String() + "}", acme + "/webhooks/urn:uuid:" + w.ID.String(), acme + "/webhooks/" + strings.ReplaceAll(w.ID.String(), "-", ""),
		acme + "/webhooks/" + longText, acme + "/webhooks/'%20OR%201=1--", acme + "/webhooks/%3Cscript%3E", acme + "/webhooks/" + d.ID.String(),
		acme + "/deliveries/x", acme + "/deliveries/" + none, acme + "/deliveries/" + none + "/attempts", acme + "/deliveries/" + w.ID.String(),
	} {
		got := h.call(t, owner, http.MethodGet, path, "")
		require.Equal(t, http.StatusNotFound, got.Code, path)
		require.Empty(t, got.Header().Get("Location"))
	}
	require.Equal(t, http.StatusOK, h.call(t, owner, http.MethodGet, acme+"/webhooks/"+strings.ToUpper(w.ID.String()), "").Code, "a UUID may be upper case")
}

// TestOrganizationsWithUnusualIDs are reached by their ids, encoded.
func TestOrganizationsWithUnusualIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a/b", "a//b", "ä <b>", "100%", "a?b#c", ";,"} {
		h := newHost(t, func(_ *webhook.ManagerConfig, c *httpapi.Config) {
			c.Actor = func(*http.Request) (webhook.Actor, error) {
				return webhook.Actor{OrganizationID: id, Role: webhook.RoleOwner}, nil
			}
		})
		path := "/v1/organizations/" + strings.NewReplacer("%", "%25", "/", "%2F", " ", "%20", "<", "%3C", ">", "%3E", "?", "%3F", "#", "%23", "ä", "%C3%A4").Replace(id) + "/webhooks"
		got := h.call(t, owner, http.MethodPost, path, created(t))
		require.Equal(t, http.StatusCreated, got.Code, "%s: %s", id, got.Body)
		require.Equal(t, http.StatusOK, h.call(t, owner, http.MethodGet, path, "").Code)
	}
}

func TestMethodsThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	d := h.publish(t)
	for path, allowed := range map[string]string{
		acme + "/webhooks":                  "GET, HEAD, POST",
		h.webhookPath(w.ID):                 "DELETE, GET, HEAD, PATCH",
		h.webhookPath(w.ID) + "/logs":       "GET, HEAD",
		h.webhookPath(w.ID) + "/test":       "POST",
		h.webhookPath(w.ID) + "/recover":    "POST",
		acme + "/deliveries":                "GET, HEAD",
		h.deliveryPath(d.ID):                "GET, HEAD",
		h.deliveryPath(d.ID) + "/attempts":  "GET, HEAD",
		h.deliveryPath(d.ID) + "/cancel":    "POST",
		h.deliveryPath(d.ID) + "/redeliver": "POST",
		"/v1/openapi.json":                  "GET, HEAD",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "BREW"} {
			if strings.Contains(", "+allowed+",", " "+method+",") {
				continue
			}
			before := h.state(t)
			got := h.call(t, owner, method, path, "")
			require.Equal(t, http.StatusMethodNotAllowed, got.Code, "%s %s", method, path)
			require.Equal(t, allowed, got.Header().Get("Allow"))
			require.Equal(t, method+" is not allowed here; there are "+allowed+".", problemOf(t, got).Detail)
			require.Equal(t, before, h.state(t))
		}
	}
	for _, path := range []string{acme + "/webhooks", h.webhookPath(w.ID), "/v1/openapi.json"} {
		require.Equal(t, http.StatusOK, h.call(t, owner, http.MethodHead, path, "").Code)
	}
}

func TestWebhooksOfAnOrganizationAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(m *webhook.ManagerConfig, _ *httpapi.Config) { m.MaxWebhooks = 1 })
	require.Equal(t, http.StatusCreated, h.call(t, owner, http.MethodPost, acme+"/webhooks", created(t)).Code)
	got := h.call(t, owner, http.MethodPost, acme+"/webhooks", created(t))
	require.Equal(t, http.StatusConflict, got.Code)
	require.Equal(t, "The organization has no room for another webhook: there must be at most 1 in an organization.", problemOf(t, got).Detail)
}

func TestASampleThatCannotBeSentIsAConflict(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(m *webhook.ManagerConfig, _ *httpapi.Config) { m.MaxPayloadBytes = 10 })
	w, _ := h.register(t)
	got := h.call(t, owner, http.MethodPost, h.webhookPath(w.ID)+"/test", `{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`)
	require.Equal(t, http.StatusConflict, got.Code)
}

func TestRedeliveryOfWhatIsPurgedIsAConflict(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.register(t)
	d := h.deliver(t, http.StatusOK)
	_, err := h.store.Purge(t.Context(), webhook.PurgeParams{Now: h.clock.Now(), PayloadsBefore: h.clock.Now().Add(1e9), Limit: 10})
	require.NoError(t, err)
	require.NotContains(t, h.call(t, owner, http.MethodGet, h.deliveryPath(d.ID), "").Body.String(), "payload")
	got := h.call(t, owner, http.MethodPost, h.deliveryPath(d.ID)+"/redeliver", "")
	require.Equal(t, http.StatusConflict, got.Code)
	require.Equal(t, "The delivery is not finished, its payload is no longer kept, or its webhook has been deleted.", problemOf(t, got).Detail)
}

func TestDelete(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	d := h.publish(t)

	require.Equal(t, http.StatusNoContent, h.call(t, owner, http.MethodDelete, h.webhookPath(w.ID), "").Code)

	require.Equal(t, http.StatusNotFound, h.call(t, owner, http.MethodDelete, h.webhookPath(w.ID), "").Code)
	require.Equal(t, http.StatusNotFound, h.call(t, owner, http.MethodGet, h.webhookPath(w.ID), "").Code)
	got := h.call(t, owner, http.MethodGet, h.deliveryPath(d.ID), "")
	require.Contains(t, got.Body.String(), `"state":"WEBHOOK_DELIVERY_STATE_CANCELLED"`)
	require.Equal(t, http.StatusOK, h.call(t, owner, http.MethodGet, h.webhookPath(w.ID)+"/logs", "").Code, "the log stays")
}

// leaving is a store whose deletions have attempts in flight, and that cannot say at
// first how many.
type leaving struct {
	webhook.ManagerStore
	asked *int
	then  int
	err   error
}

func (leaving) DeleteWebhook(context.Context, webhook.DeleteWebhookParams) error { return nil }

func (l leaving) Leased(context.Context, webhook.Scope, uuid.UUID, time.Time) (int, error) {
	*l.asked++
	if *l.asked == 1 {
		return 0, errors.New("the connection is lost")
	}
	return l.then, l.err
}

func TestDeletionsStandWhateverTheCountSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		then   int
		err    error
		status int
	}{
		{0, nil, http.StatusNoContent},
		{3, nil, http.StatusAccepted},
		{0, webhook.ErrNotFound, http.StatusNoContent},
		{0, errors.New("still lost"), http.StatusInternalServerError},
	} {
		h := newHost(t)
		var err error
		h.manager, err = webhook.NewManager(leaving{h.store, new(int), c.then, c.err}, webhook.ManagerConfig{})
		require.NoError(t, err)
		require.Equal(t, c.status, h.serve(t, http.MethodDelete, h.webhookPath(uuid.New())).Code)
	}
}

// failing is a store that fails in the middle of what it is asked.
type failing struct {
	webhook.ManagerStore
	err error
}

func (f failing) Webhook(context.Context, webhook.Scope, uuid.UUID) (webhook.Webhook, error) {
	return webhook.Webhook{}, f.err
}

// TestFaultsInsideSayNothing is also where 500 and 503 come from, which no request
// can bring about.
func TestFaultsInsideSayNothing(t *testing.T) {
	t.Parallel()
	const inside = "dial tcp 10.0.0.7:5432: connection refused"
	for _, c := range []struct {
		err    error
		status int
		detail string
		logged bool
	}{
		{errors.New(inside), http.StatusInternalServerError, "Something went wrong on our side.", true},
		{fmt.Errorf("%s: %w", inside, webhook.ErrOutcomeUnknown), http.StatusServiceUnavailable, "It is not known whether this took effect. Look before you try again.", true},
		{fmt.Errorf("%s: %w", inside, context.DeadlineExceeded), http.StatusServiceUnavailable, "It took too long. Try again.", true},
		{fmt.Errorf("%s: %w", inside, context.Canceled), http.StatusServiceUnavailable, "It took too long. Try again.", false},
		{webhook.ValidationErrors{{Field: "actor_id", Reason: inside}}, http.StatusInternalServerError, "Something went wrong on our side.", true},
	} {
		h := newHost(t)
		var err error
		h.manager, err = webhook.NewManager(failing{h.store, c.err}, webhook.ManagerConfig{})
		require.NoError(t, err)
		rec := h.serve(t, http.MethodGet, h.webhookPath(uuid.New()))
		require.Equal(t, c.status, rec.Code)
		p := problemOf(t, rec)
		require.Equal(t, c.detail, p.Detail)
		require.Empty(t, p.Errors)
		require.NotContains(t, rec.Body.String(), "10.0.0.7")
		require.Equal(t, c.logged, bytes.Contains(h.log.Bytes(), []byte(inside)), "%s", h.log)
	}
}

// TestLargeBodiesAreCheapToRefuse allocates little more than the body has, whoever
// sends it, and whatever it is full of.
func TestLargeBodiesAreCheapToRefuse(t *testing.T) { //nolint:paralleltest // measures what is allocated
	var events []webhook.EventTypeInfo
	for i := range 100 {
		events = append(events, webhook.EventTypeInfo{Type: webhook.EventType(fmt.Sprintf("event_%d", i)), Title: "x"})
	}
	catalog, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), events)
	require.NoError(t, err)
	h := newHost(t, func(m *webhook.ManagerConfig, _ *httpapi.Config) { m.Catalog = catalog })
	for name, body := range map[string]string{
		"subscriptions":         `{"content":{"subscriptions":[{}` + strings.Repeat(`,{}`, 340_000) + `]}}`,
		"as many as may be":     `{"content":{"subscriptions":[{}` + strings.Repeat(`,{}`, 99) + `]}}`,
		"what is none":          `{"content":{"subscriptions":[1` + strings.Repeat(`,1`, 500_000) + `]}}`,
		"a filter":              `{"content":{"subscriptions":[{"filter":{"x":""` + numbered(`,"%d":""`, 80_000) + `}}]}}`,
		"fields that are not":   `{"x":1` + numbered(`,"%d":1`, 90_000) + `}`,
		"fields of the content": `{"content":{"x":1` + numbered(`,"%d":1`, 90_000) + `}}`,
	} {
		for _, token := range []string{owner, roleless} {
			require.Less(t, len(body), 1<<20)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := h.call(t, token, http.MethodPost, acme+"/webhooks", body)
			runtime.ReadMemStats(&after)
			require.Contains(t, []int{http.StatusBadRequest, http.StatusForbidden}, got.Code)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "%s, %s", name, token)
		}
	}
}

// numbered repeats a text with numbers in it.
func numbered(text string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(text, "%d", strconv.Itoa(i)))
	}
	return b.String()
}
