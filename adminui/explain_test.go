package adminui_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.get(t, "/explain").is(ok).says("Why not?", "An event that was published", "An event that you describe")
	describe := func(pairs ...string) string { return "/explain?" + url.Values(newFormOf(pairs...)).Encode() }
	f.get(t, describe("event_type", "message_sent", "subject_type", "room", "subject_id", roomID)).is(ok).says("There is no webhook")

	other := webhook.Subject{Type: webhook.SubjectRoom, ID: uuid.NewString()}
	asking := func(s webhook.Subscription) func(*webhook.WebhookInput) {
		return func(in *webhook.WebhookInput) { in.Subscriptions = []webhook.Subscription{s} }
	}
	f.create(t, "Elsewhere", asking(webhook.Subscription{Subject: other, EventType: webhook.EventMessageSent}))
	f.create(t, "Recordings", asking(webhook.Subscription{Subject: room, EventType: webhook.EventRoomRecordingTranscriptPublished}))
	f.create(t, "Picky", asking(webhook.Subscription{Subject: room, EventType: webhook.EventMessageSent, Filter: map[string]string{"kind": "chat", "size": "<2>"}}))
	off := f.create(t, "Off", asking(webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectSpace, ID: spaceID}, EventType: webhook.EventMessageSent}))
	form := editForm()
	form.Set("status", "inactive")
	form["event"] = []string{"space:" + spaceID + ":message_sent"}
	f.post(t, "/"+off.ID.String()+"/edit", form).leadsTo()
	all := f.create(t, "All")
	published, err := f.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Parents: []webhook.Subject{{Type: webhook.SubjectSpace, ID: spaceID}},
		Attributes: map[string]string{"size": "3"}, Data: "Hello, World!",
	})
	require.NoError(t, err)
	f.create(t, "Newer")
	words := []string{
		"Elsewhere Other subject It asks neither for the event's subject nor for what that is inside of: only for Room " + other.ID + ".",
		"Recordings Event type It asks for the subject, but not for Message Sent: only for Room Recording Transcript Published.",
		"Picky Filter It asks for this event type and subject, but its filter leaves the event out: kind must be “chat”, and the event has none; size must be “<2>”, and is “3”.",
		"Inactive It asks for the event, but is inactive: what comes for it is held until somebody activates it.",
	}

	stored := f.get(t, "/explain?event="+published.EventID.String()).is(ok)
	stored.says(words...)
	stored.says("3 of 6 webhooks ask for it", "Attributes size = 3", "Inside of Space "+spaceID,
		"Newer Asks for it It asks for the event now, and has no delivery of it: it was created or changed later, or the delivery is no longer kept. none",
		"All Asks for it It asks for the event. Pending", "until somebody activates it. Held")
	require.Contains(t, stored.Body.String(), "deliveries/"+f.newest(t, all.ID).ID.String())
	require.Equal(t, published.EventID.String(), stored.field("event"))
	seen := f.as(t, asViewer, "/explain?event="+published.EventID.String(), nil).is(ok)
	seen.says(words...)
	seen.saysNot("Hello, World!")

	drafted := f.get(t, describe(
		"event_type", "message_sent", "subject_type", "room", "subject_id", " "+roomID+" ", "parents", "\r\n space  "+spaceID+"\r\n", "attributes", "size=3\r\n",
	)).is(ok)
	drafted.says(words...)
	drafted.says("3 of 6 webhooks ask for it", "Newer Asks for it It asks for the event.", "no, this is a description of one")
	drafted.saysNot("deliveries/")

	// The log of a delivery leads here, and so do lists in which there is nothing.
	f.get(t, "/deliveries/"+f.newest(t, all.ID).ID.String()).says("Who asks for it, and who does not")
	for _, path := range []string{"/", "/log", "/deliveries?state=failed", "/troubleshooting", "/" + all.ID.String() + "/log", "/" + all.ID.String() + "/deliveries?state=failed", "/" + all.ID.String() + "/troubleshooting"} {
		page := f.get(t, path).is(ok)
		page.says("sk why not")
		require.Contains(t, page.Body.String(), `href="`+strings.Repeat("../", strings.Count(path, "/")-1))
	}

	// What got the event, and has been changed.
	form = editForm()
	form["event"] = []string{"room:" + roomID + ":room_recording_transcript_published"}
	f.deliver(t, answers(200, ""))
	f.post(t, "/"+all.ID.String()+"/edit", form).leadsTo()
	f.get(t, "/explain?event="+published.EventID.String()).says("only for Room Recording Transcript Published. It got the event all the same: it was changed later. Succeeded")
}

func TestExplainFaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "Archive")
	f.publish(t)
	for _, c := range []struct {
		query string
		says  []string
	}{
		{"event=nonsense", []string{"This is not an event ID such as"}},
		{"event=00000000-0000-0000-0000-000000000000", []string{"This is not an event ID such as"}},
		{"event=" + uuid.NewString(), []string{"There is no such event, or not any more."}},
		{"event_type=made_up&subject_type=floor&subject_id=", []string{`The event type "made_up" is not an event type`, `The type "floor" is not a subject type`, "The ID is required."}},
		{"event_type=message_sent&subject_type=room&subject_id=" + roomID + "&parents=space&attributes=kind", []string{"“space” is not a type and an ID", "“kind” is not of the form name=value."}},
		{"event_type=message_sent&subject_type=room&subject_id=" + roomID + "&parents=space+7&attributes=a=1%0Aa=2", []string{"“a” is there twice."}},
		{"event_type=message_sent&subject_type=room&subject_id=" + roomID + "&parents=space+7&attributes==1", []string{"“space 7”: the ID must be a UUID", "The list must not have an empty key."}},
		{"event_type=message_sent&subject_type=room&subject_id=" + roomID + "&parents=floor+" + roomID + "&attributes=a=%E2%80%AE", []string{
			"“floor " + roomID + "”: the type \"floor\" is not a subject type", "“a” must not contain the control or invisible character U+202E.",
		}},
	} {
		page := f.get(t, "/explain?"+c.query).is(422)
		page.says(c.says...)
		page.saysNot("ask for it", "asks for it")
	}
	f.as(t, "owner@rival", "/explain?event="+f.newest(t, f.webhooks(t)[0].ID).EventID.String(), nil).is(422).says("There is no such event")
}

// A long address does not make a page many times as long.
func TestExplainNamesAFewFaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lines := strings.Repeat("x\n", 10_000)
	page := f.get(t, "/explain?"+url.Values{"event_type": {"message_sent"}, "parents": {lines}, "attributes": {lines}}.Encode()).is(422)
	require.Equal(t, 3, strings.Count(page.Body.String(), "is not a type and an ID"))
	require.Equal(t, 3, strings.Count(page.Body.String(), "is not of the form name=value"))
}
