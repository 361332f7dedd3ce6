package webhook_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// catalogOf returns a catalog of one subject type and one event type, edited.
func catalogOf(edit func(*webhook.SubjectTypeInfo, *webhook.EventTypeInfo)) (*webhook.Catalog, error) {
	subject := webhook.SubjectTypeInfo{Type: "order", Title: "Order"}
	event := webhook.EventTypeInfo{Type: "order_paid", Title: "Order Paid"}
	edit(&subject, &event)
	return webhook.NewCatalog([]webhook.SubjectTypeInfo{subject}, []webhook.EventTypeInfo{event})
}

func TestDefaultCatalog(t *testing.T) {
	t.Parallel()
	c := webhook.DefaultCatalog()
	var subjects []webhook.SubjectType
	for _, s := range c.SubjectTypes() {
		subjects = append(subjects, s.Type)
		require.NotEmpty(t, s.Title)
		require.NotEmpty(t, s.Description)
	}
	require.Equal(t, []webhook.SubjectType{"room", "space"}, subjects)
	var events []webhook.EventType
	for _, e := range c.EventTypes() {
		events = append(events, e.Type)
		require.NotEmpty(t, e.Title)
		require.NotEmpty(t, e.Description)
		require.True(t, json.Valid(e.Sample.(json.RawMessage)))
	}
	require.Equal(t, []webhook.EventType{"message_sent", "room_recording_transcript_published"}, events)
}

func TestCatalogKeepsItsOrder(t *testing.T) {
	t.Parallel()
	var subjects []webhook.SubjectTypeInfo
	var events []webhook.EventTypeInfo
	for _, name := range []string{"zebra", "ant", "mole"} {
		subjects = append(subjects, webhook.SubjectTypeInfo{Type: webhook.SubjectType(name), Title: strings.ToUpper(name)})
		events = append(events, webhook.EventTypeInfo{Type: webhook.EventType(name + "_fed"), Title: strings.ToUpper(name)})
	}
	c, err := webhook.NewCatalog(subjects, events)
	require.NoError(t, err)
	for i := range subjects {
		require.Equal(t, subjects[i].Type, c.SubjectTypes()[i].Type)
		require.Equal(t, events[i].Type, c.EventTypes()[i].Type)
		s, ok := c.SubjectType(subjects[i].Type)
		require.True(t, ok)
		require.Equal(t, subjects[i].Title, s.Title)
		e, ok := c.EventType(events[i].Type)
		require.True(t, ok)
		require.Equal(t, events[i].Title, e.Title)
	}
	_, ok := c.SubjectType("zebra_fed")
	require.False(t, ok)
	e, ok := c.EventType("zebra")
	require.False(t, ok)
	require.Equal(t, webhook.EventTypeInfo{}, e)
}

func TestCatalogSamples(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sample any
		want   string
	}{
		"None":   {nil, `{}`},
		"Map":    {map[string]any{"b": 1, "a": "<&>"}, `{"a":"<&>","b":1}`},
		"Raw":    {json.RawMessage(` { "b" : 1, "a" : "\u003c" } `), ` { "b" : 1, "a" : "\u003c" } `},
		"Number": {1.5, `1.5`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			catalog, err := catalogOf(func(_ *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { e.Sample = c.sample })
			require.NoError(t, err)
			info, ok := catalog.EventType("order_paid")
			require.True(t, ok)
			require.Equal(t, c.want, string(info.Sample.(json.RawMessage)))
			require.Equal(t, info, catalog.EventTypes()[0])
		})
	}
}

func TestCatalogIsImmutable(t *testing.T) {
	t.Parallel()
	raw := json.RawMessage(`{"a":1}`)
	subjects := []webhook.SubjectTypeInfo{{Type: "order", Title: "Order"}}
	events := []webhook.EventTypeInfo{{Type: "order_paid", Title: "Order Paid", Sample: raw}}
	c, err := webhook.NewCatalog(subjects, events)
	require.NoError(t, err)
	events[0].Title, subjects[0].Title, raw[2] = "x", "x", 'x' // what was passed in

	c.SubjectTypes()[0].Title = "x" // and what was handed out
	c.EventTypes()[0].Title = "x"
	c.EventTypes()[0].Sample.(json.RawMessage)[2] = 'x'
	info, _ := c.EventType("order_paid")
	info.Sample.(json.RawMessage)[2] = 'x'

	require.Equal(t, "Order", c.SubjectTypes()[0].Title)
	require.Equal(t, []webhook.EventTypeInfo{{Type: "order_paid", Title: "Order Paid", Sample: json.RawMessage(`{"a":1}`)}}, c.EventTypes())
}

func TestSamplePayload(t *testing.T) {
	t.Parallel()
	got, ok := webhook.DefaultCatalog().SamplePayload(webhook.EventRoomRecordingTranscriptPublished)
	require.True(t, ok)
	//nolint:testifylint // byte for byte
	require.Equal(t, `{"id":"019b797c-8e00-7d3a-9f00-5b1c2d3e4f50","event_type":"room_recording_transcript_published",`+
		`"subject":{"type":"room","id":"3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"},"timestamp":"2026-01-01T12:00:00Z",`+
		`"data":{"language":"en","recording_id":"16fd2706-8baf-433b-82eb-8c7fada847da","transcript_url":"https://example.com/transcripts/16fd2706"}}`, string(got))

	_, ok = webhook.DefaultCatalog().SamplePayload("order_paid")
	require.False(t, ok)

	// Ids that are no UUIDs are not made up.
	c, err := catalogOf(func(s *webhook.SubjectTypeInfo, _ *webhook.EventTypeInfo) {
		s.ParseID = func(string) (string, error) { return "", errors.New("must be a number") }
	})
	require.NoError(t, err)
	got, ok = c.SamplePayload("order_paid")
	require.True(t, ok)
	p, err := webhook.ParsePayload(got)
	require.NoError(t, err)
	require.Equal(t, webhook.Subject{Type: "order", ID: "…"}, p.Subject)
	require.Equal(t, `{}`, string(p.Data))
}

func TestCatalogRefuses(t *testing.T) {
	t.Parallel()
	type edit = func(*webhook.SubjectTypeInfo, *webhook.EventTypeInfo)
	long := strings.Repeat("a", webhook.MaxIDBytes+1)
	for name, c := range map[string]struct {
		edit   edit
		fields []string
	}{
		"SubjectWithoutType": {func(s *webhook.SubjectTypeInfo, _ *webhook.EventTypeInfo) { s.Type = "" }, []string{"subject_types[0].type"}},
		"EventWithoutType":   {func(_ *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { e.Type = "" }, []string{"event_types[0].type"}},
		"LongType":           {func(s *webhook.SubjectTypeInfo, _ *webhook.EventTypeInfo) { s.Type = webhook.SubjectType(long) }, []string{"subject_types[0].type"}},
		"WithoutTitle": {func(s *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { s.Title, e.Title = "", "" },
			[]string{"subject_types[0].title", "event_types[0].title"}},
		"LongTitle": {func(_ *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { e.Title = strings.Repeat("é", 101) }, []string{"event_types[0].title"}},
		"TitleWithControl": {func(s *webhook.SubjectTypeInfo, _ *webhook.EventTypeInfo) { s.Title = "Or\nder" },
			[]string{"subject_types[0].title"}},
		"LongDescription": {func(s *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) {
			s.Description, e.Description = strings.Repeat("é", 501), strings.Repeat("é", 501)
		}, []string{"subject_types[0].description", "event_types[0].description"}},
		"DescriptionWithBidi": {func(s *webhook.SubjectTypeInfo, _ *webhook.EventTypeInfo) { s.Description = "a\u202eb" },
			[]string{"subject_types[0].description"}},
		"SampleOfAChannel": {func(_ *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { e.Sample = make(chan int) }, []string{"event_types[0].sample"}},
		"SampleNotANumber": {func(_ *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { e.Sample = math.NaN() }, []string{"event_types[0].sample"}},
		"SampleNotJSON":    {func(_ *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { e.Sample = json.RawMessage(`{}{}`) }, []string{"event_types[0].sample"}},
		"SampleInBadUTF8":  {func(_ *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) { e.Sample = json.RawMessage("\"\xff\"") }, []string{"event_types[0].sample"}},
		"EverythingAtOnce": {func(s *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) {
			*s, *e = webhook.SubjectTypeInfo{}, webhook.EventTypeInfo{}
		}, []string{"subject_types[0].type", "subject_types[0].title", "event_types[0].type", "event_types[0].title"}},
		"TypeWithLineBreak": {func(s *webhook.SubjectTypeInfo, _ *webhook.EventTypeInfo) { s.Type = "order\n" }, []string{"subject_types[0].type"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			catalog, err := catalogOf(c.edit)
			require.Equal(t, c.fields, faultFields(t, err))
			require.Nil(t, catalog)
		})
	}
}

func TestCatalogNeedsOneOfEach(t *testing.T) {
	t.Parallel()
	_, err := webhook.NewCatalog(nil, nil)
	require.Equal(t, []string{"subject_types", "event_types"}, faultFields(t, err))
}

func TestCatalogTypesAreUnique(t *testing.T) {
	t.Parallel()
	order := webhook.SubjectTypeInfo{Type: "order", Title: "Order"}
	paid := webhook.EventTypeInfo{Type: "paid", Title: "Paid"}
	_, err := webhook.NewCatalog([]webhook.SubjectTypeInfo{order, order}, []webhook.EventTypeInfo{paid, paid, paid})
	require.Equal(t, []string{"subject_types[1].type", "event_types[1].type", "event_types[2].type"}, faultFields(t, err))
}

func TestCatalogTypesAreSnakeCase(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"a": true, "order": true, "order_paid": true, "order_2_paid": true, "v2": true, strings.Repeat("a", webhook.MaxIDBytes): true,
		"Order": false, "order-paid": false, "order paid": false, "_order": false, "order_": false, "order__paid": false,
		"2order": false, "ördér": false, "order.paid": false, " order": false,
	} {
		_, err := catalogOf(func(s *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) {
			s.Type, e.Type = webhook.SubjectType(name), webhook.EventType(name)
		})
		if ok {
			require.NoError(t, err, "%q", name)
			continue
		}
		require.Equal(t, []string{"subject_types[0].type", "event_types[0].type"}, faultFields(t, err), "%q", name)
	}
}

func TestCatalogTextAtItsBounds(t *testing.T) {
	t.Parallel()
	_, err := catalogOf(func(s *webhook.SubjectTypeInfo, e *webhook.EventTypeInfo) {
		s.Title, s.Description = strings.Repeat("é", 100), strings.Repeat("é", 500)
		e.Title, e.Description = strings.Repeat("é", 100), "line\n\tand line"
	})
	require.NoError(t, err)
}

func TestCatalogIDsAreUUIDsByDefault(t *testing.T) {
	t.Parallel()
	room, _ := webhook.DefaultCatalog().SubjectType("room")
	const canonical = "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"
	for _, id := range []string{canonical, strings.ToUpper(canonical), "3F0c9d1e-8f5B-4c55-9b0e-0f4d2c7a9b11"} {
		got, err := room.ParseID(id)
		require.NoError(t, err)
		require.Equal(t, canonical, got)
	}
	for _, id := range []string{
		"", "room", "{" + canonical + "}", "urn:uuid:" + canonical, strings.ReplaceAll(canonical, "-", ""),
		canonical + " ", canonical[:35] + "g", "3f0c9d1e8f5b-4c55-9b0e-0f4d-2c7a9b11", "3f0c9d1e-8f5b-4c55-9b0e_0f4d2c7a9b11",
	} {
		got, err := room.ParseID(id)
		require.Error(t, err, "%q", id)
		require.Empty(t, got)
	}
}

func TestCatalogWithIDsOfItsOwn(t *testing.T) {
	t.Parallel()
	catalog, err := catalogOf(func(s *webhook.SubjectTypeInfo, _ *webhook.EventTypeInfo) {
		s.ParseID = func(id string) (string, error) {
			switch {
			case id == "endless":
				return strings.Repeat("x", webhook.MaxIDBytes+1), nil
			case id == "void":
				return "", nil
			case !strings.HasPrefix(strings.ToUpper(id), "ORD-"):
				return "", errors.New("must begin with ORD-")
			}
			return strings.ToUpper(id), nil
		}
	})
	require.NoError(t, err)
	f := newFixture(t)
	m, err := webhook.NewManager(f.store, webhook.ManagerConfig{Catalog: catalog, Clock: f.clock})
	require.NoError(t, err)
	create := func(id string) (webhook.Webhook, error) {
		w, _, err := m.Create(t.Context(), f.admin, webhook.WebhookInput{
			Name: "x", EndpointURL: endpointURL,
			Subscriptions: []webhook.Subscription{{Subject: webhook.Subject{Type: "order", ID: id}, EventType: "order_paid"}},
		})
		return w, err
	}

	w, err := create("ord-7")
	require.NoError(t, err)
	require.Equal(t, webhook.Subject{Type: "order", ID: "ORD-7"}, w.Subscriptions[0].Subject)

	_, err = create("7")
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	require.Equal(t, webhook.ValidationErrors{{Field: "subscriptions[0].subject.id", Reason: "must begin with ORD-"}}, faults)

	for _, id := range []string{"endless", "void"} {
		_, err = create(id)
		require.Equal(t, []string{"subscriptions[0].subject.id"}, faultFields(t, err), "the canonical form of %q is bounded, too", id)
	}
}
