package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// recordingWriter is an EventWriter that keeps what it is given.
type recordingWriter struct {
	params []webhook.InsertParams
}

func (w *recordingWriter) InsertEvents(_ context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	w.params = append(w.params, p)
	r := webhook.InsertResult{Events: make([]webhook.InsertedEvent, len(p.Events))}
	for i, e := range p.Events {
		r.Events[i].EventID = e.ID
	}
	return r, nil
}

// record publishes an event and returns what a store gets of it.
func record(t testing.TB, cfg webhook.PublisherConfig, e webhook.Event) (webhook.EventRecord, error) {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = &webhooktest.Clock{}
	}
	w := &recordingWriter{}
	p, err := webhook.NewPublisher(w, cfg)
	require.NoError(t, err)
	if _, err = p.Publish(t.Context(), e); err != nil {
		require.Empty(t, w.params, "nothing is stored of an event that is refused")
		return webhook.EventRecord{}, err
	}
	require.Len(t, w.params, 1)
	require.Len(t, w.params[0].Events, 1)
	return w.params[0].Events[0], nil
}

var (
	eventID   = uuid.MustParse("01997f4a-1c00-7abc-8def-0123456789ab")
	eventRoom = webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
)

func newEvent() webhook.Event {
	return webhook.Event{ID: eventID, OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: eventRoom}
}

// payloadOf is the wire format, with the timestamp and data as they are given.
func payloadOf(timestamp, data string) string {
	return `{"id":"01997f4a-1c00-7abc-8def-0123456789ab","event_type":"message_sent",` +
		`"subject":{"type":"room","id":"3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"},` +
		`"timestamp":"` + timestamp + `","data":` + data + `}`
}

type message struct {
	Text  string `json:"text"`
	Count *int   `json:"count,omitempty"`
}

func TestEventPayloads(t *testing.T) {
	t.Parallel()
	raw := ` { "z" : 1.0, "a":[ 1,2 ] ,"z": 1e400, "html":"<\/b>&\u003c" }` + "\r\n\t"
	for name, c := range map[string]struct {
		data any
		want string
	}{
		"Nil":                 {nil, `null`},
		"NilRaw":              {json.RawMessage(nil), `null`},
		"NilPointer":          {(*message)(nil), `null`},
		"Struct":              {message{Text: "hi"}, `{"text":"hi"}`},
		"Pointer":             {&message{Text: "hi"}, `{"text":"hi"}`},
		"Map":                 {map[string]any{"b": 2, "a": nil}, `{"a":null,"b":2}`},
		"Slice":               {[]int{1, 2}, `[1,2]`},
		"String":              {"hi", `"hi"`},
		"Number":              {-1.5, `-1.5`},
		"Bool":                {true, `true`},
		"HTMLIsNotEscaped":    {`<a href="x">&</a>`, `"<a href=\"x\">&</a>"`},
		"HTMLInAKey":          {map[string]string{"<": ">"}, `{"<":">"}`},
		"OutsideOfASCII":      {"日本 \U0001F600", `"日本 😀"`},
		"LineBreakInString":   {"a\n", `"a\n"`},
		"Raw":                 {json.RawMessage(raw), raw},
		"RawString":           {json.RawMessage(`"\u0041\/"`), `"\u0041\/"`},
		"RawNull":             {json.RawMessage(`null`), `null`},
		"RawOutsideOfASCII":   {json.RawMessage("\"\u2028é\""), "\"\u2028é\""},
		"RawInsideOfAStruct":  {map[string]any{"a": json.RawMessage(`{"k":"<"}`)}, `{"a":{"k":"<"}}`},
		"NumberBeyondFloat64": {json.RawMessage(`123456789012345678901234567890`), `123456789012345678901234567890`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvent()
			e.Data = c.data
			rec, err := record(t, webhook.PublisherConfig{}, e)
			require.NoError(t, err)
			require.Equal(t, payloadOf("2026-01-01T12:00:00Z", c.want), string(rec.Payload))
			require.True(t, json.Valid(rec.Payload))
		})
	}
}

func TestEventPayloadIsTheStoresOwn(t *testing.T) {
	t.Parallel()
	data := json.RawMessage(`{"a":1}`)
	e := newEvent()
	e.Data = data
	rec, err := record(t, webhook.PublisherConfig{}, e)
	require.NoError(t, err)
	data[2] = 'x'
	require.Equal(t, payloadOf("2026-01-01T12:00:00Z", `{"a":1}`), string(rec.Payload))
}

func TestEventTimestamps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at   time.Time
		want string
	}{
		"Default":      {time.Time{}, "2026-01-01T12:00:00Z"},
		"WholeSeconds": {time.Date(2026, 7, 3, 4, 5, 6, 0, time.UTC), "2026-07-03T04:05:06Z"},
		"Milliseconds": {time.Date(2026, 7, 3, 4, 5, 6, 120_000_000, time.UTC), "2026-07-03T04:05:06.12Z"},
		"Microseconds": {time.Date(2026, 7, 3, 4, 5, 6, 123_456_000, time.UTC), "2026-07-03T04:05:06.123456Z"},
		"Nanoseconds":  {time.Date(2026, 7, 3, 4, 5, 6, 123_456_999, time.UTC), "2026-07-03T04:05:06.123456Z"},
		"BelowAMicro":  {time.Date(2026, 7, 3, 4, 5, 6, 999, time.UTC), "2026-07-03T04:05:06Z"},
		"Zone":         {time.Date(2026, 7, 3, 1, 0, 0, 0, time.FixedZone("east", 5*3600+1800)), "2026-07-02T19:30:00Z"},
		"Before1970":   {time.Date(1969, 12, 31, 23, 59, 59, 1_500, time.UTC), "1969-12-31T23:59:59.000001Z"},
		"First":        {time.Date(1, 1, 1, 0, 0, 0, 1_000, time.UTC), "0001-01-01T00:00:00.000001Z"},
		"Last":         {time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), "9999-12-31T23:59:59.999999Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvent()
			e.OccurredAt = c.at
			rec, err := record(t, webhook.PublisherConfig{}, e)
			require.NoError(t, err)
			require.Equal(t, payloadOf(c.want, "null"), string(rec.Payload))
			want, err := time.Parse(time.RFC3339Nano, c.want)
			require.NoError(t, err)
			require.Equal(t, want, rec.OccurredAt, "what is stored is what is sent")
		})
	}
}

func TestEventRecord(t *testing.T) {
	t.Parallel()
	e := newEvent()
	space := webhook.Subject{Type: webhook.SubjectSpace, ID: "b7e1f0a2-58c4-4f0d-8f3e-6d1c2b3a4f55"}
	upper := func(s webhook.Subject) webhook.Subject { s.ID = strings.ToUpper(s.ID); return s }
	e.Subject = upper(e.Subject)
	e.Parents = []webhook.Subject{upper(space), eventRoom, space}
	e.Attributes = map[string]string{"room_type": "chat"}
	e.OccurredAt = time.Date(2026, 1, 1, 9, 0, 0, 0, time.FixedZone("west", -3600))
	e.IdempotencyKey = "message-7"
	rec, err := record(t, webhook.PublisherConfig{}, e)
	require.NoError(t, err)
	require.Equal(t, webhook.EventRecord{
		ID: eventID, OrganizationID: "acme", Type: webhook.EventMessageSent,
		Subject: eventRoom, Parents: []webhook.Subject{space}, // canonical, and each once
		Attributes: map[string]string{"room_type": "chat"}, OccurredAt: time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC),
		Payload: []byte(payloadOf("2026-01-01T10:00:00Z", "null")), IdempotencyKey: "message-7",
	}, rec)
	require.Equal(t, upper(space), e.Parents[0], "the caller's slice is left alone")
}

func TestEventIDByDefault(t *testing.T) {
	t.Parallel()
	clock := &webhooktest.Clock{}
	e := newEvent()
	e.ID = uuid.UUID{}
	rec, err := record(t, webhook.PublisherConfig{Clock: clock}, e)
	require.NoError(t, err)
	require.Equal(t, clock.Now().UnixMilli(), requireVersion7(t, rec.ID))
	require.True(t, strings.HasPrefix(string(rec.Payload), `{"id":"`+rec.ID.String()+`",`), "%s", rec.Payload)
}

// badJSON fails to encode.
type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { return nil, errors.New("out of ink") }

// eventRules are events that each break one rule, and what is at fault then.
var eventRules = map[string]struct {
	edit   func(*webhook.Event)
	fields []string
	bound  string // that the reason names
}{
	"TypeMissing":        {func(e *webhook.Event) { e.Type = "" }, []string{"type"}, "required"},
	"TypeUnknown":        {func(e *webhook.Event) { e.Type = "big_bang" }, []string{"type"}, "big_bang"},
	"SubjectMissing":     {func(e *webhook.Event) { e.Subject = webhook.Subject{} }, []string{"subject.type", "subject.id"}, "required"},
	"SubjectTypeUnknown": {func(e *webhook.Event) { e.Subject.Type = "galaxy" }, []string{"subject.type"}, "galaxy"},
	"SubjectIDNotAUUID":  {func(e *webhook.Event) { e.Subject.ID = "lobby" }, []string{"subject.id"}, "UUID"},
	"ParentsTooMany":     {func(e *webhook.Event) { e.Parents = parents(9) }, []string{"parents"}, "8"},
	"ParentUnknown": {func(e *webhook.Event) { e.Parents = append(parents(1), webhook.Subject{Type: "galaxy", ID: "x"}) },
		[]string{"parents[1].type"}, "galaxy"},
	"AttributesTooMany": {func(e *webhook.Event) { e.Attributes = entries(17) }, []string{"attributes"}, "16 entries"},
	"TooLate":           {func(e *webhook.Event) { e.OccurredAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, []string{"occurred_at"}, "9999"},
	"TooLateInUTC": {func(e *webhook.Event) {
		e.OccurredAt = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("west", -2*3600))
	}, []string{"occurred_at"}, "9999"},
	"TooEarly":        {func(e *webhook.Event) { e.OccurredAt = time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC) }, []string{"occurred_at"}, "1"},
	"DataOfAChannel":  {func(e *webhook.Event) { e.Data = make(chan int) }, []string{"data"}, "JSON"},
	"DataNotANumber":  {func(e *webhook.Event) { e.Data = math.Inf(1) }, []string{"data"}, "JSON"},
	"DataThatRefuses": {func(e *webhook.Event) { e.Data = badJSON{} }, []string{"data"}, "out of ink"},
	"RawEmpty":        {func(e *webhook.Event) { e.Data = json.RawMessage{} }, []string{"data"}, "JSON"},
	"RawBroken":       {func(e *webhook.Event) { e.Data = json.RawMessage(`{"a":`) }, []string{"data"}, "JSON"},
	"RawOfTwoValues":  {func(e *webhook.Event) { e.Data = json.RawMessage(`1 2`) }, []string{"data"}, "one JSON value"},
	"RawThatEscapes":  {func(e *webhook.Event) { e.Data = json.RawMessage(`1},"test":{"a":1`) }, []string{"data"}, "one JSON value"},
	"RawInBadUTF8":    {func(e *webhook.Event) { e.Data = json.RawMessage("\"\xc3\x28\"") }, []string{"data"}, "UTF-8"},
	"PayloadTooBig":   {func(e *webhook.Event) { e.Data = strings.Repeat("a", webhook.DefaultMaxPayloadBytes) }, []string{"data"}, "262144 bytes"},
	"EverythingAtOnce": {func(e *webhook.Event) {
		*e = webhook.Event{
			ID: eventID, OrganizationID: strings.Repeat("o", 129), Type: "x", Subject: webhook.Subject{Type: "y", ID: "\x00"},
			Parents: append(parents(8), parents(1)...), Attributes: map[string]string{"": "", "k": "\n"},
			OccurredAt: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), Data: json.RawMessage("}"), IdempotencyKey: "\xff",
		}
	}, []string{
		"organization_id", "type", "subject.type", "subject.id", "parents", "attributes", "attributes[k]", "occurred_at", "idempotency_key", "data",
	}, ""},
}

// parents returns n distinct subjects.
func parents(n int) []webhook.Subject {
	out := make([]webhook.Subject, n)
	for i := range out {
		out[i] = webhook.Subject{Type: webhook.SubjectSpace, ID: fmt.Sprintf("b7e1f0a2-58c4-4f0d-8f3e-%012x", i)}
	}
	return out
}

func TestEventRules(t *testing.T) {
	t.Parallel()
	for name, c := range eventRules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvent()
			c.edit(&e)
			_, err := record(t, webhook.PublisherConfig{}, e)
			require.Equal(t, c.fields, faultFields(t, err))
			require.ErrorContains(t, err, c.bound)
		})
	}
}

func TestEventAtItsBounds(t *testing.T) {
	t.Parallel()
	e := newEvent()
	e.OrganizationID = strings.Repeat("o", 128)
	e.Parents = parents(8)
	e.Attributes = entries(16)
	e.IdempotencyKey = strings.Repeat("k", 128)
	rec, err := record(t, webhook.PublisherConfig{}, e)
	require.NoError(t, err)
	require.Equal(t, parents(8), rec.Parents)
	require.Equal(t, entries(16), rec.Attributes)
}

func TestEventPayloadBound(t *testing.T) {
	t.Parallel()
	frame := len(payloadOf("2026-01-01T12:00:00Z", ""))
	for name, c := range map[string]struct {
		configured, max int
	}{
		"Default":    {0, 256 << 10},
		"Configured": {1000, 1000},
		"Tight":      {frame + 4, frame + 4}, // "null"
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := webhook.PublisherConfig{MaxPayloadBytes: c.configured}
			e := newEvent()
			e.Data = json.RawMessage(strings.Repeat("1", c.max-frame))
			rec, err := record(t, cfg, e)
			require.NoError(t, err)
			require.Len(t, rec.Payload, c.max)

			e.Data = json.RawMessage(strings.Repeat("1", c.max-frame+1))
			_, err = record(t, cfg, e)
			require.Equal(t, []string{"data"}, faultFields(t, err))
		})
	}
}

func TestTestEventPayload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.clock.Advance(1500 * time.Microsecond)
	catalog, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(),
		[]webhook.EventTypeInfo{{Type: "room_closed", Title: "Room Closed", Sample: json.RawMessage(`{ "why": "<late>" }`)}})
	require.NoError(t, err)
	m, err := webhook.NewManager(f.store, webhook.ManagerConfig{Clock: f.clock, Catalog: catalog})
	require.NoError(t, err)
	d, err := m.SendTest(t.Context(), f.admin, w.ID, "room_closed")
	require.NoError(t, err)
	d, err = m.Delivery(t.Context(), f.admin, d.ID)
	require.NoError(t, err)
	require.Equal(t, `{"id":"`+d.EventID.String()+`","event_type":"room_closed",`+
		`"subject":{"type":"room","id":"`+f.room.ID+`"},"timestamp":"2026-01-01T12:00:00.0015Z","test":true,"data":{ "why": "<late>" }}`,
		string(d.Payload))
}

// Raw data goes out as it came in or not at all, and cannot reach beyond its
// place in the payload.
func FuzzEventData(f *testing.F) {
	for _, seed := range []string{
		``, `null`, ` {"a" : [1, "b"]} `, `{"a":1}{"b":2}`, `1},"test":true,"x":{"y":1`, "\"\xff\"", `"\ud800"`, `[[[[`, "\ufeff1", "1\x00", `{"data":2,"data":3}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := newEvent()
		e.Data = json.RawMessage(data)
		if data == nil {
			e.Data = json.RawMessage{}
		}
		rec, err := record(t, webhook.PublisherConfig{}, e)
		if err != nil {
			require.Equal(t, []string{"data"}, faultFields(t, err))
			require.False(t, json.Valid(data) && utf8.Valid(data) && len(data) < 200_000, "%q is one JSON value", data)
			return
		}
		require.Equal(t, payloadOf("2026-01-01T12:00:00Z", string(data)), string(rec.Payload))
		var fields map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(rec.Payload, &fields))
		require.Len(t, fields, 5)
		require.Equal(t, strings.Trim(string(data), " \t\r\n"), string(fields["data"]))
	})
}
