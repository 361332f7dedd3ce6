package webhookschema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhookschema"
	"github.com/posthorn/webhook/webhookschema/schematest"
	"github.com/posthorn/webhook/webhooktest"
)

type status string

func (status) JSONSchema() json.RawMessage {
	return json.RawMessage(`{"type":"string","enum":["open","closed"]}`)
}

type author struct {
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name" jsonschema:"As it is shown."`
}

type comment struct {
	Text    string    `json:"text"`
	Status  status    `json:"status"`
	Author  *author   `json:"author"`
	Editor  *author   `json:"editor,omitempty"`
	Tags    []string  `json:"tags"`
	Replies []comment `json:"replies,omitempty"`
}

type measured struct {
	At     time.Time          `json:"at"`
	Values map[string]float64 `json:"values"`
	Raw    []byte             `json:"raw,omitempty"`
	Count  int32              `json:"count,string"`
}

var (
	commented = webhook.DefineEvent("commented", "Commented", comment{
		Text: "I agree.", Status: "open", Author: &author{uuid.MustParse("3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"), "Ada"},
		Replies: []comment{{Text: "Me too.", Status: "closed"}},
	}).WithDescription("Somebody has commented on a room.")
	measurement = webhook.DefineEvent("measured", "Measured", measured{
		At: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), Values: map[string]float64{"t": 21.5}, Raw: []byte{0, 1}, Count: -3,
	})
	plain = webhook.EventTypeInfo{Type: "pinged", Title: "Pinged"}
	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
)

func newCatalog(t testing.TB) *webhook.Catalog {
	t.Helper()
	c, err := webhookschema.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{commented.Info(), measurement.Info(), plain})
	require.NoError(t, err)
	return c
}

// compile reads a schema with another implementation.
func compile(t testing.TB, schema json.RawMessage) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.AssertContent()
	require.NoError(t, c.AddResource("schema.json", document))
	s, err := c.Compile("schema.json")
	require.NoError(t, err)
	return s
}

func valueOf(t testing.TB, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return v
}

func TestSchemasAreThoseInTheGoldenFile(t *testing.T) {
	t.Parallel()
	schematest.Golden(t, newCatalog(t), "testdata/catalog.json")
}

func TestCatalogIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	first, err := webhookschema.Catalog(newCatalog(t))
	require.NoError(t, err)
	for range 5 {
		again, err := webhookschema.Catalog(newCatalog(t))
		require.NoError(t, err)
		require.Equal(t, string(first), string(again))
	}
}

// What the dispatcher sends, of events and of test events, is what the document says.
func TestPayloadsFitTheCatalog(t *testing.T) {
	t.Parallel()
	catalog := newCatalog(t)
	document, err := webhookschema.Catalog(catalog)
	require.NoError(t, err)
	s := compile(t, document)
	clock, store := &webhooktest.Clock{}, memstore.New()
	admin := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}
	manager, err := webhook.NewManager(store, webhook.ManagerConfig{Clock: clock, Catalog: catalog})
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{Clock: clock, Catalog: catalog})
	require.NoError(t, err)
	in := webhook.WebhookInput{Name: "Archive", EndpointURL: "https://archive.example.com/"}
	for _, e := range catalog.EventTypes() {
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{Subject: room, EventType: e.Type})
	}
	w, _, err := manager.Create(t.Context(), admin, in)
	require.NoError(t, err)
	_, err = publisher.PublishMany(t.Context(), []webhook.Event{
		commented.New("acme", room, comment{Status: "open", Tags: []string{"a"}, Editor: &author{}}),
		measurement.New("acme", room, measured{}),
		{OrganizationID: "acme", Type: plain.Type, Subject: room, Data: []int{1}},
	})
	require.NoError(t, err)
	for _, e := range catalog.EventTypes() {
		_, err := manager.SendTest(t.Context(), admin, w.ID, e.Type)
		require.NoError(t, err)
	}

	page, err := manager.Deliveries(t.Context(), admin, webhook.DeliveryQuery{WebhookID: w.ID})

	require.NoError(t, err)
	require.Len(t, page.Items, 6)
	for _, d := range page.Items {
		d, err := manager.Delivery(t.Context(), admin, d.ID)
		require.NoError(t, err)
		require.NoError(t, s.Validate(valueOf(t, d.Payload)), "%s", d.Payload)
	}
	require.Error(t, s.Validate(valueOf(t, []byte(`{"event_type":"commented"}`))))
}

func TestSamplesFitTheirSchemas(t *testing.T) {
	t.Parallel()
	described := 0
	for _, e := range newCatalog(t).EventTypes() {
		if e.Schema == nil {
			require.Equal(t, plain.Type, e.Type)
			continue
		}
		described++
		sample, ok := e.Sample.(json.RawMessage)
		require.True(t, ok)
		require.NoError(t, compile(t, e.Schema).Validate(valueOf(t, sample)), "%s", e.Schema)
	}
	require.Equal(t, 2, described)
}

func TestNewCatalogTellsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := webhookschema.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{
		webhook.DefineEvent("one", "One", make(chan int)).Info(),
		webhook.DefineEvent("two", "Two", status("lost")).Info(),
		{Type: "three", Title: "Three", Schema: json.RawMessage(`{"type":1}`)},
		{Type: "four", Title: "Four", Schema: json.RawMessage(`{"$ref":"#/$defs/none"}`)},
		{Type: "five", Title: "Five", Schema: json.RawMessage(`{"$schema":"http://json-schema.org/draft-07/schema#"}`)},
		{Type: "six", Title: "", Schema: json.RawMessage(`{"type":"array"}`)},
	})
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	var fields []string
	for _, f := range faults {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []string{
		"event_types[0].schema", "event_types[1].sample", "event_types[2].schema", "event_types[3].schema", "event_types[4].schema", "event_types[5].sample",
		"event_types[0].sample", "event_types[5].title",
	}, fields)
	require.Contains(t, faults[0].Reason, "chan int")
	require.Contains(t, faults[1].Reason, "must fit the schema")
	require.Contains(t, faults[4].Reason, webhookschema.Version)
}

func TestNewCatalogKeepsSchemasOfTheHost(t *testing.T) {
	t.Parallel()
	own := json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema","$ref":"#/$defs/text","$defs":{"text":{"properties":{"text":{"minLength":1}}}}}`)
	c, err := webhookschema.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{commented.WithSchema(own).Info()})
	require.NoError(t, err)
	require.Equal(t, own, c.EventTypes()[0].Schema)

	document, err := webhookschema.Catalog(c)

	require.NoError(t, err)
	s := compile(t, document)
	payload := func(text string) any {
		return valueOf(t, []byte(`{"id":"3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11","event_type":"commented","subject":{"type":"room","id":"1"},`+
			`"timestamp":"2026-01-01T12:00:00Z","data":{"text":"`+text+`"}}`))
	}
	require.NoError(t, s.Validate(payload("a")))
	require.Error(t, s.Validate(payload("")), "the reference leads to where the schema is now")
}

// A catalog of package webhook, as a host has it that leaves this module to its tests.
func TestCatalogOfGoTypes(t *testing.T) {
	t.Parallel()
	c, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{commented.Info(), measurement.Info(), plain})
	require.NoError(t, err)
	got, err := webhookschema.Catalog(c)
	require.NoError(t, err)
	want, err := webhookschema.Catalog(newCatalog(t))
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))

	c, err = webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{webhook.DefineEvent[any]("any", "Any", nil).Info()})
	require.NoError(t, err)
	_, err = webhookschema.Catalog(c)
	require.NoError(t, err)
	c, err = webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{{Type: "a", Title: "A", Schema: json.RawMessage(`{"type":1}`)}})
	require.NoError(t, err)
	_, err = webhookschema.Catalog(c)
	require.ErrorContains(t, err, "webhookschema: a: schema: must be a JSON Schema")
}

// Types of all kinds that encoding/json has rules for.
type (
	base struct {
		ID    int    `json:"id"`
		Kind  string `json:"kind"`
		Both  int
		Deep  bool `json:"deep"`
		Named string
	}
	Exported struct {
		Both  int
		Extra string `json:"extra,omitempty"`
	}
	named     struct{ X int }
	embedding struct {
		base
		*Exported
		named `json:"named"`
		Kind  int `json:"kind"`
	}
	tree   []tree
	graph  map[string]*node
	node   struct{ Next graph }
	pair   struct{ Left, Right *pair }
	hidden struct{ A, b int } //nolint:unused // not exported, so not encoded
	picky  struct{ s string }
	list   []byte
	letter byte
	late   struct{ T time.Time }
)

func (letter) MarshalText() ([]byte, error) { return []byte("x"), nil }

func (p *picky) MarshalText() ([]byte, error) { return []byte(p.s), nil }

func schemaFor[T any](t *testing.T) string {
	t.Helper()
	s, err := webhookschema.For[T]()
	require.NoError(t, err)
	return string(s)
}

// fits takes a value through encoding/json and the schema of its type.
func fits[T any](values ...T) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		s := compile(t, json.RawMessage(schemaFor[T](t)))
		for _, v := range values {
			encoded, err := json.Marshal(v)
			require.NoError(t, err)
			require.NoError(t, s.Validate(valueOf(t, encoded)), "%s against %s", encoded, schemaFor[T](t))
		}
	}
}

func TestSchemasAreOfWhatIsEncoded(t *testing.T) {
	t.Parallel()
	one, text := 1, "a"
	for name, check := range map[string]func(*testing.T){
		"bool": fits(true, false),
		"numbers": fits(struct {
			A int8
			B uint16
			C float32
			D uint64
			E int32
		}{-128, 65535, 1.5, 1 << 63, -1 << 31}),
		"pointers": fits(struct {
			A *int
			B **string
			C *int `json:",omitempty"`
		}{}, struct {
			A *int
			B **string
			C *int `json:",omitempty"`
		}{A: &one, B: new(*string)}),
		"quoted": fits(struct {
			A int    `json:",string"`
			B *bool  `json:",string"`
			C []int  `json:",string"` //nolint:staticcheck // it has no effect
			D string `json:",string"`
		}{}),
		"lists": fits(struct {
			A []string
			B [2]int
			C [2]byte
			D []byte
			E list
			F []letter
		}{}, struct {
			A []string
			B [2]int
			C [2]byte
			D []byte
			E list
			F []letter
		}{A: []string{""}, D: []byte("a"), E: list("b"), F: []letter{1}}),
		"maps": fits(struct {
			A map[string]int
			B map[int]string
			C map[uuid.UUID]bool
			D map[netip.Addr]int `json:",omitzero"`
		}{}, struct {
			A map[string]int
			B map[int]string
			C map[uuid.UUID]bool
			D map[netip.Addr]int `json:",omitzero"`
		}{map[string]int{"": 1}, map[int]string{-1: ""}, map[uuid.UUID]bool{{}: true}, nil}),
		"empty": fits(struct {
			A [2]int    `json:",omitempty"`
			B uuid.UUID `json:",omitempty"`
			C late      `json:",omitempty"`
			D time.Time `json:",omitzero"`
			E []int     `json:",omitempty"`
		}{}),
		"embedded": fits(embedding{}, embedding{Exported: &Exported{Extra: "x"}}),
		"tree":     fits(tree{}, tree{{}, {{}}}, nil),
		"graph":    fits(graph{}, graph{"a": {Next: graph{"b": nil}}}),
		"pair":     fits(&pair{Left: &pair{}}, nil),
		"marshalers": fits(struct {
			A big.Int
			B *big.Int
			C picky
			D *picky
			E json.Number
			F json.RawMessage
			G url.URL
			H time.Duration
			I uuid.NullUUID
			J any
		}{E: "1.5"}),
		"names": fits(struct {
			A int `json:"a/b"`
			B int `json:"\u00fc"`
			C int `json:"it's"` //nolint:staticcheck // on purpose
			D int `json:"-"`
			E int `json:"-,"` //nolint:staticcheck // on purpose
			F int `json:"~0"`
		}{}),
		"hidden":  fits(hidden{}),
		"text":    fits(&text, nil),
		"unnamed": fits([]struct{ A *struct{ B int } }{{}, {&struct{ B int }{1}}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t)
		})
	}
}

func TestPropertiesAreThoseThatAreEncoded(t *testing.T) {
	t.Parallel()
	properties := func(s string) (names []string) {
		var schema struct {
			Properties map[string]any `json:"properties"`
		}
		require.NoError(t, json.Unmarshal([]byte(s), &schema))
		for name := range schema.Properties {
			names = append(names, name)
		}
		return names
	}
	keys := func(v any) (names []string) {
		encoded, err := json.Marshal(v)
		require.NoError(t, err)
		var object map[string]any
		require.NoError(t, json.Unmarshal(encoded, &object))
		for name := range object {
			names = append(names, name)
		}
		return names
	}
	require.ElementsMatch(t, keys(embedding{Exported: &Exported{Extra: "x"}}), properties(schemaFor[embedding](t)))
	require.ElementsMatch(t, keys(hidden{}), properties(schemaFor[hidden](t)))
	type names struct {
		A int `json:"a/b"`
		B int `json:"ü"`
		C int `json:"it's"` //nolint:staticcheck // on purpose
		D int `json:"-"`
		E int `json:"-,"` //nolint:staticcheck // on purpose
	}
	require.ElementsMatch(t, keys(names{}), properties(schemaFor[names](t)))
}

func TestSchemasOfTypes(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		`{"type":"object","properties":{"id":{"type":"string","format":"uuid"},"name":{"type":"string","description":"As it is shown."}},"required":["id","name"]}`: schemaFor[author](t),
		`{"type":["string","null"]}`:                                             schemaFor[*string](t),
		`{"type":"string","format":"date-time"}`:                                 schemaFor[time.Time](t),
		`{"type":["string","null"],"format":"uuid"}`:                             schemaFor[*uuid.UUID](t),
		`{"type":"string","enum":["open","closed"]}`:                             schemaFor[status](t),
		`{"anyOf":[{"type":"string","enum":["open","closed"]},{"type":"null"}]}`: schemaFor[*status](t),
		`{}`: schemaFor[any](t),
		`{"$ref":"#/$defs/tree","$defs":{"tree":{"type":["array","null"],"items":{"$ref":"#/$defs/tree"}}}}`: schemaFor[tree](t),
		`{"type":"object","properties":{"A":{"type":"string"},"B":{"type":["string","null"]},"C":{"type":"string"}},"required":["A","B"]}`: schemaFor[struct {
			A int     `json:",string"`
			B *int    `json:",string"`
			C *string `json:",string,omitempty"`
		}](t),
		`{"type":"object","properties":{"id":{"type":"string","format":"uuid"},"t":{"type":"array","items":{"type":"integer"}}},"required":["id"]}`: schemaFor[struct {
			ID uuid.UUID `json:"id,omitempty"` // an array, which never is empty
			T  []int     `json:"t,omitempty"`
		}](t),
		// What refers to itself goes on to, wherever it is.
		`{"type":"object","properties":{"A":{"$ref":"#/$defs/chain"}},"required":["A"],
			"$defs":{"chain":{"$defs":{"v":{"type":"integer"}},"properties":{"next":{"$ref":"#/$defs/chain"},"v":{"$ref":"#/$defs/chain/$defs/v"}}}}}`: schemaFor[struct{ A chain }](t),
	} {
		require.JSONEq(t, want, got)
	}
}

func TestTypesThatDoNotEncode(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"outer.C: a value of type func() does not encode": errorFor[struct {
			Outer struct{ C func() } `json:"outer"`
		}](),
		"a map with keys of type bool does not encode":                 errorFor[map[bool]int](),
		"a value of type complex128 does not encode":                   errorFor[[]complex128](),
		"JSONSchema of webhookschema_test.liar: must be a JSON Schema": errorFor[*liar](),
	} {
		require.ErrorContains(t, err, strings.Replace(name, "outer.C", "outer: C", 1))
	}
}

type chain struct{ _ int }

func (chain) JSONSchema() json.RawMessage {
	return json.RawMessage(`{"properties":{"v":{"$ref":"#/$defs/v"},"next":{"$ref":"#"}},"$defs":{"v":{"type":"integer"}}}`)
}

type liar struct{}

func (liar) JSONSchema() json.RawMessage { return json.RawMessage(`{"type":"text","$ref":"#/no"}`) }

func errorFor[T any]() error {
	s, err := webhookschema.For[T]()
	if s != nil {
		return errors.New("there is a schema")
	}
	return err
}
