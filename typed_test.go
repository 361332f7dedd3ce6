package webhook_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

type chatMessage struct {
	Text string   `json:"text"`
	Tags []string `json:"tags,omitempty"`
}

var messageSent = webhook.DefineEvent("message_sent", "Message Sent", chatMessage{Text: "Hello, <World>!"}).
	WithDescription("A message was sent.").
	WithSchema(json.RawMessage(`{"type":"object"}`))

// TestWrongDataDoesNotCompile builds a package in which every use has the right
// type, and one in which each line that says "want" has a wrong one.
func TestWrongDataDoesNotCompile(t *testing.T) {
	t.Parallel()
	build := func(folder string) (string, error) {
		// -e: all errors, not the first ten.
		out, err := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-e", "-o", os.DevNull, "./testdata/typed/"+folder).CombinedOutput()
		return string(out), err
	}

	out, err := build("fits")
	require.NoError(t, err, "%s", out)

	out, err = build("wrong")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	said := map[int]string{}
	for _, m := range regexp.MustCompile(`(?m)wrong\.go:(\d+):\d+: (.*)$`).FindAllStringSubmatch(out, -1) {
		line, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.Empty(t, said[line], "one error a line")
		said[line] = m[2]
	}
	source, err := os.ReadFile(filepath.Join("testdata", "typed", "wrong", "wrong.go"))
	require.NoError(t, err)
	wanted := 0
	for i, text := range strings.Split(string(source), "\n") {
		_, want, ok := strings.Cut(text, "// want: ")
		if !ok {
			require.Empty(t, said[i+1], "line %d", i+1)
			continue
		}
		wanted++
		given, takes, ok := strings.Cut(want, " as ")
		require.True(t, ok)
		require.Contains(t, said[i+1], "cannot use", "line %d: %s", i+1, text)
		require.Contains(t, said[i+1], given, "line %d: %s", i+1, text)
		require.Contains(t, said[i+1], "as "+takes+" value", "line %d: %s", i+1, text)
	}
	require.Equal(t, 7, wanted)
}

func TestDefinitionIsACatalogEntry(t *testing.T) {
	t.Parallel()
	require.Equal(t, webhook.EventType("message_sent"), messageSent.Type())
	want := webhook.EventTypeInfo{
		Type: "message_sent", Title: "Message Sent", Description: "A message was sent.",
		Sample: json.RawMessage(`{"text":"Hello, <World>!"}`), Schema: json.RawMessage(`{"type":"object"}`), DataType: reflect.TypeFor[chatMessage](),
	}
	require.Equal(t, want, messageSent.Info())

	c, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{messageSent.Info()})

	require.NoError(t, err)
	require.Equal(t, []webhook.EventTypeInfo{want}, c.EventTypes())
}

func TestDefinitionIsImmutable(t *testing.T) {
	t.Parallel()
	sample, schema := map[string]int{"n": 1}, json.RawMessage(`{"a":1}`)
	d := webhook.DefineEvent("counted", "Counted", sample)
	described := d.WithDescription("x").WithSchema(schema)
	sample["n"], schema[2] = 2, 'x'
	info := described.Info()
	info.Sample.(json.RawMessage)[2], info.Schema[2] = 'x', 'x'

	require.Equal(t, webhook.EventTypeInfo{
		Type: "counted", Title: "Counted", Sample: json.RawMessage(`{"n":1}`), DataType: reflect.TypeFor[map[string]int](),
	}, d.Info())
	require.Equal(t, webhook.EventTypeInfo{
		Type: "counted", Title: "Counted", Description: "x", Sample: json.RawMessage(`{"n":1}`), Schema: json.RawMessage(`{"a":1}`),
		DataType: reflect.TypeFor[map[string]int](),
	}, described.Info())
}

// Definitions are variables of packages, where nobody could handle an error.
func TestNewCatalogTellsWhatIsWrongWithDefinitions(t *testing.T) {
	t.Parallel()
	var none webhook.EventDefinition[chatMessage]
	_, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{
		none.Info(),
		webhook.DefineEvent("NoSnake", "", func() {}).Info(),
		messageSent.WithSchema(json.RawMessage(`[]`)).Info(),
		messageSent.WithSchema(json.RawMessage(`null`)).Info(),
		messageSent.WithSchema(json.RawMessage("{\"a\":\"\xff\"}")).Info(),
		messageSent.WithSchema(json.RawMessage(``)).Info(),
	})
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	var list []string
	for _, f := range faults {
		list = append(list, f.Field+" "+f.Reason)
	}
	require.Equal(t, []string{
		"event_types[0].type is required",
		"event_types[0].title is required",
		"event_types[1].type must be snake_case: lower-case letters and digits, joined by single underscores, beginning with a letter",
		"event_types[1].title is required",
		"event_types[1].sample must encode as JSON: json: unsupported type: func()",
		"event_types[2].schema must be a JSON object",
		"event_types[3].type must be unique",
		"event_types[3].schema must be a JSON object",
		"event_types[4].type must be unique",
		"event_types[4].schema must be valid UTF-8",
		"event_types[5].type must be unique",
		"event_types[5].schema must be a JSON object",
	}, list)
}

func TestTypedEventIsPublishedAndReceived(t *testing.T) {
	t.Parallel()
	c, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{messageSent.Info()})
	require.NoError(t, err)
	e := messageSent.New("acme", eventRoom, chatMessage{"1 < 2", []string{"a"}})
	require.Equal(t, webhook.Event{OrganizationID: "acme", Type: "message_sent", Subject: eventRoom, Data: chatMessage{"1 < 2", []string{"a"}}}, e)
	e.ID = eventID

	r, err := record(t, webhook.PublisherConfig{Catalog: c}, e)
	require.NoError(t, err)
	p, err := webhook.ParsePayload(r.Payload)
	require.NoError(t, err)

	require.Equal(t, webhook.Payload{
		ID: eventID, Type: "message_sent", Subject: eventRoom, OccurredAt: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC),
		Data: json.RawMessage(`{"text":"1 < 2","tags":["a"]}`),
	}, p)
	data, err := messageSent.Decode(p)
	require.NoError(t, err)
	require.Equal(t, chatMessage{"1 < 2", []string{"a"}}, data)
}

func TestTestEventIsReceivedAsOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	d, err := f.manager.SendTest(t.Context(), f.admin, w.ID, webhook.EventMessageSent)
	require.NoError(t, err)
	d, err = f.manager.Delivery(t.Context(), f.admin, d.ID)
	require.NoError(t, err)

	p, err := webhook.ParsePayload(d.Payload)

	require.NoError(t, err)
	require.True(t, p.Test)
	require.Equal(t, d.EventID, p.ID)
	data, err := messageSent.Decode(p)
	require.NoError(t, err)
	require.Equal(t, "Hello, World!", data.Text, "members that the type has no field for are ignored")
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	data, err := messageSent.Decode(webhook.Payload{Type: "order_placed", Data: json.RawMessage(`{"text":"a"}`)})
	require.EqualError(t, err, "webhook: decode message_sent: the payload is of order_placed")
	require.Equal(t, chatMessage{}, data)

	data, err = messageSent.Decode(webhook.Payload{Type: "message_sent", Data: json.RawMessage(`{"text":"a","tags":1}`)})
	var wrong *json.UnmarshalTypeError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, chatMessage{}, data)

	// encoding/json takes null for anything, and would make a message without a text of it.
	null := webhook.Payload{Type: "message_sent", Data: json.RawMessage(" null\n")}
	_, err = messageSent.Decode(null)
	require.EqualError(t, err, "webhook: decode message_sent: the data is null")
	pointer, err := webhook.DefineEvent("message_sent", "Message Sent", &chatMessage{}).Decode(null)
	require.NoError(t, err)
	require.Nil(t, pointer)
	raw, err := webhook.DefineEvent("message_sent", "Message Sent", json.RawMessage(`{}`)).Decode(null)
	require.NoError(t, err)
	require.Equal(t, "null", string(raw))
	id, err := webhook.DefineEvent("message_sent", "Message Sent", uuid.NullUUID{}).Decode(null)
	require.NoError(t, err)
	require.Equal(t, uuid.NullUUID{}, id)
}

func TestParsePayloadRefuses(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing":        ``,
		"no object":      `[]`,
		"null":           `null`,
		"no id":          `{"event_type":"a","data":1}`,
		"no event type":  `{"id":"01997f4a-1c00-7abc-8def-0123456789ab","data":1}`,
		"no data":        `{"id":"01997f4a-1c00-7abc-8def-0123456789ab","event_type":"a"}`,
		"no UUID":        `{"id":"1","event_type":"a","data":1}`,
		"no time":        `{"id":"01997f4a-1c00-7abc-8def-0123456789ab","event_type":"a","timestamp":"today","data":1}`,
		"something else": `{"id":"01997f4a-1c00-7abc-8def-0123456789ab","event_type":"a","data":1} 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := webhook.ParsePayload([]byte(body))
			require.Error(t, err)
			require.Equal(t, webhook.Payload{}, p)
		})
	}
	p, err := webhook.ParsePayload([]byte(`{"id":"01997f4a-1c00-7abc-8def-0123456789ab","event_type":"a","new":[],"data":null}`))
	require.NoError(t, err)
	require.Equal(t, webhook.Payload{ID: eventID, Type: "a", Data: json.RawMessage(`null`)}, p)
}

// What is published comes back as it was, and foreign bytes are refused or become
// a payload whose data is one JSON value.
func FuzzParsePayload(f *testing.F) {
	for _, seed := range []string{
		``, `{"id":"01997f4a-1c00-7abc-8def-0123456789ab","event_type":"a","subject":{"type":"b","id":"c"},"timestamp":"2026-01-01T12:00:00Z","test":true,"data":{"x":[1]}}`,
		`{"ID":"01997f4a-1c00-7abc-8def-0123456789ab","event_type":"a","data":null}`, `{"id":{},"data":1}`, `[[[[`, `{"data":1,"data":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := webhook.ParsePayload(body)
		if err != nil {
			require.Equal(t, webhook.Payload{}, p)
		} else {
			require.NotEqual(t, uuid.Nil, p.ID)
			require.NotEmpty(t, p.Type)
			require.True(t, json.Valid(p.Data))
		}
		e := newEvent()
		e.Data = json.RawMessage(body)
		if r, err := record(t, webhook.PublisherConfig{}, e); body != nil && err == nil {
			p, err := webhook.ParsePayload(r.Payload)
			require.NoError(t, err)
			require.Equal(t, e.ID, p.ID)
			require.Equal(t, e.Subject, p.Subject)
			require.Equal(t, strings.Trim(string(body), " \t\r\n"), string(p.Data))
		}
	})
}

func TestSchemaAtMovesReferences(t *testing.T) {
	t.Parallel()
	const schema = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","maximum":12345678901234567890,
		"properties":{"$ref":{"$ref":"#/$defs/a"},"own":{"$id":"https://example.com/own","$ref":"#/x"},"other":{"$ref":"https://example.com/a#/b"},
			"list":{"type":"array","items":{"$ref":"#"},"prefixItems":[{"$ref":"#/$defs/a"},true]},
			"data":{"const":{"$ref":"#/$defs/a"},"enum":[{"$ref":"#"}],"examples":[{"$ref":"#"}]}},
		"additionalProperties":{"anyOf":[{"not":{"$ref":"#/$defs/a"}}]},
		"$defs":{"a":{"dependentSchemas":{"b":{"$ref":"#anchor"}}}}}`
	info := messageSent.WithSchema(json.RawMessage(schema)).Info()

	require.JSONEq(t, `{"type":"object","maximum":12345678901234567890,
		"properties":{"$ref":{"$ref":"#/over/there/$defs/a"},"own":{"$id":"https://example.com/own","$ref":"#/x"},"other":{"$ref":"https://example.com/a#/b"},
			"list":{"type":"array","items":{"$ref":"#/over/there"},"prefixItems":[{"$ref":"#/over/there/$defs/a"},true]},
			"data":{"const":{"$ref":"#/$defs/a"},"enum":[{"$ref":"#"}],"examples":[{"$ref":"#"}]}},
		"additionalProperties":{"anyOf":[{"not":{"$ref":"#/over/there/$defs/a"}}]},
		"$defs":{"a":{"dependentSchemas":{"b":{"$ref":"#anchor"}}}}}`, string(info.SchemaAt("#/over/there")))
	require.Contains(t, string(info.SchemaAt("#")), "12345678901234567890", "numbers as they are")
	require.Equal(t, schema, string(info.Schema)) //nolint:testifylint // byte for byte
	require.Nil(t, webhook.EventTypeInfo{}.SchemaAt("#"))
}
