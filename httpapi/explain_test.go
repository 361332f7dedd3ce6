package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// explained is a body that asks who would get a message in the room, changed by edits.
func explained(t testing.TB, edits ...func(event map[string]any)) string {
	t.Helper()
	event := map[string]any{
		"subscription_type": "WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT", "subject_type": "WEBHOOK_SUBJECT_TYPE_ROOM", "subject_id": roomID,
	}
	for _, e := range edits {
		e(event)
	}
	return object(t, map[string]any{"event": event})
}

type explanation struct {
	Event struct {
		ID         string            `json:"id"`
		Type       string            `json:"subscription_type"`
		Attributes map[string]string `json:"attributes"`
	} `json:"event"`
	Webhooks []struct {
		WebhookID    uuid.UUID      `json:"webhook_id"`
		Name         string         `json:"name"`
		Status       string         `json:"status"`
		Match        string         `json:"match"`
		Subscription map[string]any `json:"subscription"`
		Missing      []string       `json:"missing_attributes"`
		DeliveryID   uuid.UUID      `json:"delivery_id"`
	} `json:"webhooks"`
}

func TestExplain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	spaceID := uuid.NewString()
	add := func(name string, s webhook.Subscription) webhook.Webhook {
		w, _, err := h.manager.Create(t.Context(), actors[owner], webhook.WebhookInput{Name: name, EndpointURL: endpointURL, Subscriptions: []webhook.Subscription{s}})
		require.NoError(t, err)
		return w
	}
	room2 := webhook.Subject{Type: webhook.SubjectRoom, ID: uuid.NewString()}
	add("elsewhere", webhook.Subscription{Subject: room2, EventType: webhook.EventMessageSent})
	add("recordings", webhook.Subscription{Subject: room, EventType: webhook.EventRoomRecordingTranscriptPublished})
	add("picky", webhook.Subscription{Subject: room, EventType: webhook.EventMessageSent, Filter: map[string]string{"kind": "chat", "size": "2"}})
	off := add("off", webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectSpace, ID: spaceID}, EventType: webhook.EventMessageSent})
	_, err := h.manager.Update(t.Context(), actors[owner], off.ID, webhook.WebhookChange{
		Version: 1, Name: off.Name, EndpointURL: off.EndpointURL, Status: webhook.StatusInactive, Subscriptions: off.Subscriptions,
	})
	require.NoError(t, err)
	add("all", webhook.Subscription{Subject: room, EventType: webhook.EventMessageSent})
	published, err := h.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Parents: []webhook.Subject{{Type: webhook.SubjectSpace, ID: spaceID}},
		Attributes: map[string]string{"size": "2"},
	})
	require.NoError(t, err)
	require.Equal(t, 2, published.Deliveries)

	stored := decode[explanation](t, h.call(t, viewer, http.MethodGet, acme+"/events/"+published.EventID.String()+"/explanation", ""))
	drafted := decode[explanation](t, h.call(t, viewer, http.MethodPost, acme+"/explain", explained(t,
		set("parents", []any{map[string]any{"subject_type": "WEBHOOK_SUBJECT_TYPE_SPACE", "subject_id": spaceID}}),
		set("attributes", map[string]any{"size": "2"}),
	)))

	matches := map[string]string{}
	for i, w := range stored.Webhooks {
		matches[w.Name] = w.Match
		require.Equal(t, w.Name == "all" || w.Name == "off", w.DeliveryID != uuid.Nil, w.Name)
		require.NotEmpty(t, w.Subscription, "the one that comes nearest")
		w.DeliveryID = uuid.Nil
		require.Equal(t, drafted.Webhooks[i], w)
	}
	require.Equal(t, map[string]string{
		"all": "WEBHOOK_MATCH_YES", "off": "WEBHOOK_MATCH_INACTIVE", "picky": "WEBHOOK_MATCH_FILTER",
		"recordings": "WEBHOOK_MATCH_EVENT_TYPE", "elsewhere": "WEBHOOK_MATCH_OTHER_SUBJECT",
	}, matches)
	require.Equal(t, []string{"kind"}, stored.Webhooks[2].Missing)
	require.Equal(t, published.EventID.String(), stored.Event.ID)
	require.Equal(t, map[string]string{"size": "2"}, stored.Event.Attributes)
	require.Empty(t, drafted.Event.ID)

	for _, path := range []string{"/events/" + uuid.NewString() + "/explanation", "/events/nonsense/explanation"} {
		require.Equal(t, http.StatusNotFound, h.call(t, owner, http.MethodGet, acme+path, "").Code)
	}
}

func TestDraftsThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	inEvent := func(field, pointer, detail string) fault { return fault{"event." + field, "/event/" + pointer, detail} }
	nine := make([]any, 9)
	for i := range nine {
		nine[i] = map[string]any{"subject_type": "WEBHOOK_SUBJECT_TYPE_ROOM", "subject_id": uuid.NewString()}
	}
	for name, c := range map[string]struct {
		body   string
		faults []fault
	}{
		"nothing": {`{}`, []fault{{"event", "/event", "is required"}}},
		"an empty one": {`{"event":{}}`, []fault{
			inEvent("subscription_type", "subscription_type", eventTypes), inEvent("subject_type", "subject_type", subjectTypes),
			inEvent("subject_id", "subject_id", "is required"),
		}},
		"an event as it is published": {explained(t, set("data", "x")), []fault{
			inEvent("data", "data", noField+"subscription_type, subject_type, subject_id, parents, attributes"),
		}},
		"wrong values": {explained(t,
			set("subscription_type", "message_sent"), set("subject_id", "7"), set("parents", []any{map[string]any{"subject_type": "room", "subject_id": ""}}),
			set("attributes", map[string]any{"a/b": "\u0000"}),
		), []fault{
			inEvent("subscription_type", "subscription_type", eventTypes), inEvent("subject_id", "subject_id", aUUID),
			inEvent("parents[0].subject_type", "parents/0/subject_type", subjectTypes), inEvent("parents[0].subject_id", "parents/0/subject_id", "is required"),
			inEvent("attributes[a/b]", "attributes/a~1b", "must not contain the control or invisible character U+0000"),
		}},
		"an empty key":     {explained(t, set("attributes", map[string]any{"": "x"})), []fault{inEvent("attributes", "attributes", "must not have an empty key")}},
		"too many parents": {explained(t, set("parents", nine)), []fault{inEvent("parents", "parents", "must have at most 8")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := h.call(t, owner, http.MethodPost, acme+"/explain", c.body)
			require.Equal(t, http.StatusBadRequest, got.Code)
			require.Equal(t, c.faults, problemOf(t, got).Errors)
		})
	}
}
