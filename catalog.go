package webhook

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"
)

// SubjectType names a kind of entity that events are about: "room". Snake case.
type SubjectType string

// EventType names what happened: "message_sent". Snake case.
type EventType string

// The default catalog's types.
const (
	SubjectRoom  SubjectType = "room"
	SubjectSpace SubjectType = "space"

	EventMessageSent                      EventType = "message_sent"
	EventRoomRecordingTranscriptPublished EventType = "room_recording_transcript_published"
)

// SubjectTypeInfo describes a subject type to people and says which ids it has.
type SubjectTypeInfo struct {
	Type        SubjectType
	Title       string // for people, as in "Room"; required
	Description string // for people; the panel shows it below the field for an id, so say where to find one

	// ParseID checks an id and returns its one canonical form, by which
	// subjects are compared. Its error is shown to the person who typed the
	// id. Defaults to UUIDs in their 36-character form, lower-cased.
	ParseID func(id string) (canonical string, err error)
}

// EventTypeInfo describes an event type to people.
type EventTypeInfo struct {
	Type        EventType
	Title       string // for people, as in "Message Sent"; required
	Description string

	// Sample is the data that a test event carries. Any JSON value; defaults
	// to an empty object.
	Sample any

	// Schema describes the data to receivers: a JSON Schema, 2020-12, in one
	// object. The panel and the API show it; data is not checked against it.
	// Defaults to none.
	Schema json.RawMessage

	// DataType is the Go type of the data, if it has one. [DefineEvent] sets it.
	DataType reflect.Type
}

// Catalog is the subject types and event types that a host offers. It is
// immutable and safe for concurrent use.
type Catalog struct {
	subjects []SubjectTypeInfo
	events   []EventTypeInfo
}

// DefaultCatalog returns the catalog of a team chat product: rooms and spaces,
// sent messages and published transcripts of room recordings.
func DefaultCatalog() *Catalog {
	c, err := NewCatalog(
		[]SubjectTypeInfo{
			{Type: SubjectRoom, Title: "Room", Description: "One chat room."},
			{Type: SubjectSpace, Title: "Space", Description: "A space and every room in it."},
		},
		[]EventTypeInfo{
			{
				Type: EventMessageSent, Title: "Message Sent",
				Description: "A message was sent in the room.",
				Sample: map[string]any{
					"message_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
					"sender_id":  "7c9e6679-7425-40de-944b-e07fc1f90ae7",
					"text":       "Hello, World!",
				},
			},
			{
				Type: EventRoomRecordingTranscriptPublished, Title: "Room Recording Transcript Published",
				Description: "The transcript of a room's recording can be read.",
				Sample: map[string]any{
					"recording_id":   "16fd2706-8baf-433b-82eb-8c7fada847da",
					"transcript_url": "https://example.com/transcripts/16fd2706",
					"language":       "en",
				},
			},
		},
	)
	if err != nil {
		panic("webhook: the default catalog does not validate: " + err.Error())
	}
	return c
}

// NewCatalog returns a catalog of these types, in this order. At least one of
// each is required, names must be snake_case and unique, titles must be
// present, samples must encode as JSON, schemas must be JSON objects; every fault
// is in the [ValidationErrors] that it returns.
func NewCatalog(subjects []SubjectTypeInfo, events []EventTypeInfo) (*Catalog, error) {
	var faults ValidationErrors
	c := &Catalog{}
	if len(subjects) == 0 {
		faults.add("subject_types", "must have at least one")
	}
	if len(events) == 0 {
		faults.add("event_types", "must have at least one")
	}
	for i, s := range subjects {
		field := fmt.Sprintf("subject_types[%d]", i)
		checkTypeInfo(&faults, field, string(s.Type), s.Title, s.Description)
		if _, ok := c.SubjectType(s.Type); ok {
			faults.add(field+".type", "must be unique")
		}
		if s.ParseID == nil {
			s.ParseID = parseUUID
		}
		c.subjects = append(c.subjects, s)
	}
	for i, e := range events {
		field := fmt.Sprintf("event_types[%d]", i)
		checkTypeInfo(&faults, field, string(e.Type), e.Title, e.Description)
		if _, ok := c.EventType(e.Type); ok {
			faults.add(field+".type", "must be unique")
		}
		if e.Sample == nil {
			e.Sample = struct{}{}
		}
		sample, err := encodeJSON(e.Sample)
		if err != nil {
			faults.add(field+".sample", err.Error())
		}
		e.Sample = json.RawMessage(slices.Clone(sample)) // encodeJSON returns the caller's own raw bytes
		if e.Schema != nil {
			if err := checkSchema(e.Schema); err != nil {
				faults.add(field+".schema", err.Error())
			}
			e.Schema = slices.Clone(e.Schema)
		}
		c.events = append(c.events, e)
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func checkTypeInfo(faults *ValidationErrors, field, name, title, description string) {
	checkSnakeCase(faults, field+".type", name)
	if title == "" {
		faults.add(field+".title", "is required")
	}
	checkText(faults, field+".title", title, MaxNameLength, "")
	checkText(faults, field+".description", description, MaxDescriptionLength, "\n\t")
}

// SubjectTypes returns the subject types in the catalog's order.
func (c *Catalog) SubjectTypes() []SubjectTypeInfo { return slices.Clone(c.subjects) }

// EventTypes returns the event types in the catalog's order. Their samples are
// json.RawMessage.
func (c *Catalog) EventTypes() []EventTypeInfo {
	out := slices.Clone(c.events)
	for i := range out {
		out[i] = out[i].clone()
	}
	return out
}

// clone keeps callers from changing the bytes of a sample or a schema.
func (e EventTypeInfo) clone() EventTypeInfo {
	if raw, ok := e.Sample.(json.RawMessage); ok {
		e.Sample = slices.Clone(raw)
	}
	e.Schema = slices.Clone(e.Schema)
	return e
}

// SubjectType returns what the catalog says of a subject type.
func (c *Catalog) SubjectType(t SubjectType) (SubjectTypeInfo, bool) {
	i := slices.IndexFunc(c.subjects, func(s SubjectTypeInfo) bool { return s.Type == t })
	if i < 0 {
		return SubjectTypeInfo{}, false
	}
	return c.subjects[i], true
}

// EventType returns what the catalog says of an event type.
func (c *Catalog) EventType(t EventType) (EventTypeInfo, bool) {
	i := slices.IndexFunc(c.events, func(e EventTypeInfo) bool { return e.Type == t })
	if i < 0 {
		return EventTypeInfo{}, false
	}
	return c.events[i].clone(), true
}

// SamplePayload returns what the body of a request of an event type looks like, with
// the sample as its data. Id, time and subject are examples; the subject is of the
// catalog's first subject type.
func (c *Catalog) SamplePayload(t EventType) (json.RawMessage, bool) {
	info, ok := c.EventType(t)
	if !ok {
		return nil, false
	}
	r := EventRecord{
		ID: uuid.MustParse("019b797c-8e00-7d3a-9f00-5b1c2d3e4f50"), Type: t,
		Subject:    Subject{c.subjects[0].Type, "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"},
		OccurredAt: time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC),
	}
	if id, err := c.subjects[0].ParseID(r.Subject.ID); err != nil {
		r.Subject.ID = "…" // what ids of this host look like is not known
	} else {
		r.Subject.ID = id
	}
	sample, _ := info.Sample.(json.RawMessage)
	return encodePayload(&r, sample), true
}

func catalogOrDefault(c *Catalog) *Catalog {
	if c == nil {
		return DefaultCatalog()
	}
	return c
}

// checkSubject reports what is wrong with a subject and returns its canonical
// form.
func (c *Catalog) checkSubject(faults *ValidationErrors, field string, s Subject) Subject {
	info, ok := c.SubjectType(s.Type)
	if !ok {
		faults.add(field+".type", notOffered("a subject type", string(s.Type)))
	}
	before := len(*faults)
	checkID(faults, field+".id", s.ID, true)
	if !ok || len(*faults) > before {
		return s
	}
	id, err := info.ParseID(s.ID)
	if err != nil {
		faults.add(field+".id", err.Error())
		return s
	}
	checkID(faults, field+".id", id, true)
	s.ID = id
	return s
}

// checkEventType reports an event type that the catalog does not have.
func (c *Catalog) checkEventType(faults *ValidationErrors, field string, t EventType) {
	if _, ok := c.EventType(t); !ok {
		faults.add(field, notOffered("an event type", string(t)))
	}
}

// notOffered is the reason given for a type, such as "an event type", that the
// catalog does not have.
func notOffered(what, name string) string {
	if name == "" {
		return "is required"
	}
	if len(name) > MaxIDBytes {
		name = name[:MaxIDBytes]
	}
	return fmt.Sprintf("%+q is not %s of the catalog", name, what)
}
