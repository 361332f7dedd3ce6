package adminui_test

import (
	"errors"
	"html"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
)

var secretText = regexp.MustCompile(`whsec_[A-Za-z0-9+/=]{44}`)

func TestCreate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	page := f.get(t, "/new").is(http.StatusOK)
	form := newForm()
	form.Set("key", page.field("key"))

	page = f.post(t, "/new", form).is(http.StatusCreated)

	ws := f.webhooks(t)
	require.Len(t, ws, 1)
	require.Equal(t, webhook.Webhook{
		ID: ws[0].ID, OrganizationID: "acme", Name: "Bot", Description: "Answers.\nSometimes.", EndpointURL: "https://bot.example.com/hook",
		Status: webhook.StatusActive, Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
		StatusSince: f.clock.Now(), Version: 1, CreatedAt: f.clock.Now(), UpdatedAt: f.clock.Now(), CreatedBy: "admin@acme", UpdatedBy: "admin@acme",
	}, ws[0])

	// The secret that is shown is the one that requests are signed with.
	shown := secretText.FindAllString(html.UnescapeString(page.Body.String()), -1)
	require.Len(t, shown, 1)
	secret, err := webhook.ParseSecret(shown[0])
	require.NoError(t, err)
	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}, Clock: f.clock})
	require.NoError(t, err)
	f.publish(t)
	f.deliver(t, func(r *http.Request) (*http.Response, error) {
		_, err := verifier.VerifyRequest(r)
		require.NoError(t, err)
		return answers(http.StatusOK, "")(r)
	})
	require.Equal(t, webhook.DeliverySucceeded, f.newest(t, ws[0].ID).State)
	require.Contains(t, page.Body.String(), `data-address="./`+ws[0].ID.String()+`"`)
}

func TestSecretIsShownOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	created := f.post(t, "/new", newForm()).is(http.StatusCreated)
	secret := secretText.FindString(html.UnescapeString(created.Body.String()))
	require.NotEmpty(t, secret)
	require.Equal(t, "no-store", created.Header().Get("Cache-Control"))
	w := f.webhooks(t)[0]

	// A browser that reloads the page sends the form again.
	for range 2 {
		again := f.post(t, "/new", newForm())
		again.saysNot("whsec_")
		require.Equal(t, "/"+w.ID.String()+"?said=existed", again.leadsTo())
	}
	require.Equal(t, []webhook.Webhook{w}, f.webhooks(t))
	f.get(t, "/"+w.ID.String()+"?said=existed").is(ok).says("was created already, by the same form").saysNot("whsec_")

	// No process has to remember it: another one on the same store knows, too.
	panel, err := adminui.New(f.manager, adminui.Config{Actor: signedIn, Clock: f.clock})
	require.NoError(t, err)
	elsewhere := *f
	elsewhere.host = http.StripPrefix(mount, panel)
	require.Equal(t, "/"+w.ID.String()+"?said=existed", elsewhere.post(t, "/new", newForm()).leadsTo())

	f.publish(t)
	f.deliver(t, answers(http.StatusOK, ""))
	for _, path := range []string{"/", "/new", "/log", "/" + w.ID.String(), "/" + w.ID.String() + "/edit", "/" + w.ID.String() + "/log.ndjson", "/deliveries/" + f.newest(t, w.ID).ID.String()} {
		f.get(t, path).is(ok).saysNot(secret, secret[len("whsec_"):])
	}

	// Deleted, it does not come back.
	f.post(t, "/"+w.ID.String()+"/delete", nil).leadsTo()
	f.post(t, "/new", newForm()).is(http.StatusConflict).says("deleted since").saysNot("whsec_")
	require.Empty(t, f.webhooks(t))

	// Another form creates another webhook, and a key means nothing elsewhere.
	form := newForm()
	form.Set("key", f.get(t, "/new").field("key"))
	f.post(t, "/new", form).is(http.StatusCreated)
	f.as(t, "owner@rival", "/new", form).is(http.StatusCreated)
	form.Del("key")
	f.post(t, "/new", form).is(http.StatusCreated)
	require.Len(t, f.webhooks(t), 2)
}

func TestSnippetsNameTheHeader(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"X-Pivot-Signature", "X-Acme-Signature"} {
		f := newFixture(t, func(c *adminui.Config) { c.SignatureHeader = header })
		page := f.post(t, "/new", newForm()).is(http.StatusCreated)
		page.says("Go", "Node.js", "Python", "Shell", "SignatureHeader: \""+header+"\"", strings.ToLower(header), "WEBHOOK_SECRET")
		if header != "X-Pivot-Signature" {
			page.saysNot("X-Pivot-Signature", "x-pivot-signature")
		}
	}
}

func TestFaultsStandBesideTheirFields(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	page := f.post(t, "/new", url.Values{
		"key": {"k"}, "name": {" "}, "description": {strings.Repeat("d", 501)}, "endpoint_url": {"http://10.0.0.1/"}, "subject_type": {"room"}, "subject_id": {"the red one"},
	}).is(http.StatusUnprocessableEntity)
	for field, text := range map[string]string{
		"name": "Name is required.", "description": "Description must have at most 500 characters.", "endpoint_url": "Endpoint URL must ",
		"subject_id": "Subject ID must be a UUID", "events": "Choose at least one event type.",
	} {
		beside := regexp.MustCompile(`(?s)id="` + field + `-fault">(.*?)</p>`).FindStringSubmatch(page.Body.String())
		require.NotNil(t, beside, field)
		require.Contains(t, beside[1], text)
		require.Contains(t, page.Body.String(), `<a href="#`+field+`">`, "the list on top leads there")
		require.Regexp(t, `id="`+field+`"[^>]*aria-describedby="`+field+`-fault`, page.Body.String())
	}
	require.NotContains(t, page.text(), "is not an event type")
	require.Empty(t, f.webhooks(t))

	// What was typed is still there.
	page = f.post(t, "/new", url.Values{
		"key": {"key-7"}, "name": {"My “bot” & more"}, "description": {"line 1\r\nline 2"}, "endpoint_url": {"http://example.com/"}, "subject_type": {"space"},
		"subject_id": {spaceID}, "event": {"message_sent"},
	}).is(http.StatusUnprocessableEntity)
	require.Equal(t, "key-7", page.field("key"))
	require.Equal(t, "My “bot” &amp; more", page.field("name"))
	require.Equal(t, "http://example.com/", page.field("endpoint_url"))
	require.Equal(t, spaceID, page.field("subject_id"))
	require.Contains(t, page.Body.String(), "line 1\nline 2</textarea>")
	require.Contains(t, page.Body.String(), `<option value="space" selected>`)
	require.Regexp(t, `value="message_sent" checked`, page.Body.String())

	// Types that nobody offers are told as what they are.
	form := newForm()
	form["event"] = []string{"message_sent", "<made_up>"}
	form.Set("subject_type", "planet")
	f.post(t, "/new", form).is(http.StatusUnprocessableEntity).says(`"<made_up>" is not an event type`, `"planet" is not a subject type`)
}

// With none ticked, and only then, the fault of the event types is that there are none.
func TestTooManyEventTypes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	form := newForm()
	form["event"] = make([]string, webhook.MaxSubscriptions+1)
	for i := range form["event"] {
		form["event"][i] = "message_sent"
	}
	f.post(t, "/new", form).is(http.StatusUnprocessableEntity).says("Event types must have at most 100.").saysNot("Choose at least one")
}

func TestEndpointsAreValidatedAsByDelivery(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, bad := range []string{"", "http://example.com/", "https://localhost/", "https://169.254.169.254/", "https://[::1]/", "ftp://example.com/", "https://user:pw@example.com/", "https://0x7f.1/", "https://example.com/#x"} {
		form := newForm()
		form.Set("endpoint_url", bad)
		page := f.post(t, "/new", form).is(http.StatusUnprocessableEntity)
		require.Contains(t, page.Body.String(), `id="endpoint_url-fault"`, bad)
	}
	require.Empty(t, f.webhooks(t))
}

func TestTooManyWebhooks(t *testing.T) {
	t.Parallel()
	f := newFixtureOn(t, webhook.ManagerConfig{MaxWebhooks: 1})
	f.create(t, "Archive")
	f.post(t, "/new", newForm()).is(http.StatusUnprocessableEntity).says("Webhooks must be at most 1 in an organization.")
}

func TestStoresErrorsAreNotShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *adminui.Config) {
		c.Actor = func(r *http.Request) (webhook.Actor, error) {
			if r.Header.Get("Test-Actor") == "broken" {
				return webhook.Actor{}, errors.New("pq: password authentication failed")
			}
			return webhook.Actor{ID: strings.Repeat("x", 300), OrganizationID: "acme", Role: webhook.RoleOwner}, nil
		}
	})
	f.as(t, "broken", "/", nil).is(http.StatusUnauthorized).saysNot("pq:")
	f.post(t, "/new", newForm()).is(http.StatusUnprocessableEntity).says("Actor ID must have at most 128 bytes.") // the host's fault, said rather than hidden
}

func TestEdit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive", func(in *webhook.WebhookInput) { in.Description = "Old" })
	f.clock.Advance(time.Hour)
	path := "/" + w.ID.String() + "/edit"
	page := f.get(t, path).is(ok)
	require.Equal(t, "1", page.field("version"))
	require.Equal(t, "Archive", page.field("name"))
	require.Regexp(t, `id="status-active" value="active" checked`, page.Body.String())
	require.Regexp(t, `value="room:`+roomID+`:message_sent" checked`, page.Body.String())
	require.NotContains(t, page.Body.String(), `name="subject_id"`)
	page.says("To rotate it", "add a second webhook").saysNot(`name="resume"`)

	form := editForm()
	form["event"] = []string{"room:" + roomID + ":room_recording_transcript_published", "room:" + roomID + ":message_sent"}
	form.Set("status", "inactive")
	form.Set("resume", "yes") // left over in a browser; it means nothing here
	require.Equal(t, "/"+w.ID.String()+"?said=saved", f.post(t, path, form).leadsTo())

	got := f.webhooks(t)[0]
	require.Equal(t, webhook.StatusInactive, got.Status)
	require.Equal(t, "Archive 2", got.Name)
	require.Empty(t, got.Description)
	require.Len(t, got.Subscriptions, 2)
	require.Equal(t, "admin@acme", got.UpdatedBy)
	f.get(t, "/"+w.ID.String()+"?said=saved").says("Saved.", "It is inactive")
}

func TestActivationAsksForWhatWasHeld(t *testing.T) {
	t.Parallel()
	for _, resume := range []bool{true, false} {
		f := newFixture(t)
		w := f.create(t, "Archive")
		path := "/" + w.ID.String() + "/edit"
		form := editForm()
		form.Set("status", "inactive")
		f.post(t, path, form).leadsTo()
		f.publish(t)
		f.publish(t)
		page := f.get(t, path).is(ok)
		page.says("2 deliveries are held.", "When active, deliver what was held")

		form.Set("version", page.field("version"))
		form.Set("status", "active")
		want := webhook.DeliveryHeld
		if resume {
			form.Set("resume", "yes")
			want = webhook.DeliveryPending
		}
		f.post(t, path, form).leadsTo()
		require.Equal(t, want, f.newest(t, w.ID).State)
		if !resume {
			f.get(t, "/"+w.ID.String()).says("2 deliveries are held from when it was inactive.")
			f.get(t, path).says("deliver what was held") // there is still something to deliver
		}
	}
}

// The API makes webhooks with several subjects and with filters. The panel shows them
// by subject, and leaves alone what it does not show.
func TestEditOfSeveralSubjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	space := webhook.Subject{Type: webhook.SubjectSpace, ID: spaceID}
	filter := map[string]string{"room_type": "chat"}
	w := f.create(t, "Archive", func(in *webhook.WebhookInput) {
		in.Subscriptions = []webhook.Subscription{
			{Subject: room, EventType: webhook.EventMessageSent, Filter: filter},
			{Subject: space, EventType: webhook.EventMessageSent},
			{Subject: space, EventType: webhook.EventRoomRecordingTranscriptPublished},
		}
	})
	path := "/" + w.ID.String() + "/edit"
	f.get(t, path).is(ok).says("Room "+roomID, "Space "+spaceID, "only if room_type = chat", "Filters stay as they are.")

	form := editForm()
	form["event"] = []string{
		"room:" + roomID + ":message_sent", "space:" + spaceID + ":room_recording_transcript_published",
		"room:" + spaceID + ":message_sent", "planet:earth:message_sent", // subjects that it does not have
	}
	f.post(t, path, form).leadsTo()
	require.Equal(t, []webhook.Subscription{
		{Subject: room, EventType: webhook.EventMessageSent, Filter: filter},
		{Subject: space, EventType: webhook.EventRoomRecordingTranscriptPublished},
	}, f.webhooks(t)[0].Subscriptions)

	form.Set("version", "2")
	form.Del("event")
	f.post(t, path, form).is(http.StatusUnprocessableEntity).says("Choose at least one event type.")
}

func TestStaleEdit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	path := "/" + w.ID.String() + "/edit"
	page := f.get(t, path)
	f.clock.Advance(time.Minute)
	theirs := editForm()
	theirs.Set("name", "Theirs")
	theirs.Set("status", "inactive")
	f.as(t, asOwner, path, theirs).leadsTo()
	f.clock.Advance(3 * time.Minute)

	mine := editForm()
	mine.Set("version", page.field("version"))
	mine.Set("name", "Mine")
	page = f.post(t, path, mine).is(http.StatusConflict)

	page.says("owner@acme was ahead of you", "3 min ago", "Name Theirs", "Status Inactive")
	require.Equal(t, "Mine", page.field("name"), "the input is kept")
	require.Equal(t, "2", page.field("version"))
	require.Equal(t, "Theirs", f.webhooks(t)[0].Name, "nothing is lost")

	mine.Set("version", page.field("version"))
	f.post(t, path, mine).leadsTo()
	require.Equal(t, "Mine", f.webhooks(t)[0].Name)

	mine.Set("version", "99")
	f.post(t, path, mine).is(http.StatusConflict).says("has been changed meanwhile")
	f.post(t, "/"+w.ID.String()+"/delete", nil).leadsTo()
	f.post(t, path, mine).is(http.StatusNotFound)
}

func TestStaleEditOfASubjectThatIsGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive", func(in *webhook.WebhookInput) {
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectSpace, ID: spaceID}, EventType: webhook.EventMessageSent})
	})
	path := "/" + w.ID.String() + "/edit"
	f.as(t, asOwner, path, editForm()).leadsTo() // without the space
	mine := editForm()
	mine["event"] = append(mine["event"], "space:"+spaceID+":message_sent", "nonsense", "%:%:%")
	page := f.post(t, path, mine).is(http.StatusConflict)
	page.says("was ahead of you", "left out of your input: Message Sent (Space "+spaceID+") Save again").saysNot("It is the same as", "nonsense")
	mine.Set("version", page.field("version"))
	f.post(t, path, mine).leadsTo()
}

// An event type that the host no longer offers can only be taken away.
func TestEventTypesThatAreNoLongerOffered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive", func(in *webhook.WebhookInput) {
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{Subject: room, EventType: webhook.EventRoomRecordingTranscriptPublished})
	})
	catalog, err := webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{Type: webhook.SubjectRoom, Title: "Room"}}, []webhook.EventTypeInfo{{Type: webhook.EventMessageSent, Title: "Message Sent"}},
	)
	require.NoError(t, err)
	m, err := webhook.NewManager(f.store, webhook.ManagerConfig{Catalog: catalog, Clock: f.clock})
	require.NoError(t, err)
	panel, err := adminui.New(m, adminui.Config{Actor: signedIn, Clock: f.clock})
	require.NoError(t, err)
	f.host = http.StripPrefix(mount, panel)
	path := "/" + w.ID.String() + "/edit"

	f.get(t, path).is(ok).says("No longer offered. Untick it to save.")
	f.get(t, "/"+w.ID.String()+"/troubleshooting").is(ok).says("which there is no longer")
	f.get(t, "/"+w.ID.String()+"/log?event_type=gone").is(ok)
	form := editForm()
	form["event"] = append(form["event"], "room:"+roomID+":room_recording_transcript_published")
	f.post(t, path, form).is(http.StatusUnprocessableEntity).says("is not an event type of the catalog")
	form["event"] = form["event"][:1]
	f.post(t, path, form).leadsTo()
	require.Len(t, f.webhooks(t)[0].Subscriptions, 1)
}

// So can those of a subject of a type that the host no longer has.
func TestSubjectTypesThatAreNoLongerOffered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive", func(in *webhook.WebhookInput) {
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectSpace, ID: spaceID}, EventType: webhook.EventMessageSent})
	})
	catalog, err := webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{Type: webhook.SubjectRoom, Title: "Room"}}, []webhook.EventTypeInfo{{Type: webhook.EventMessageSent, Title: "Message Sent"}},
	)
	require.NoError(t, err)
	m, err := webhook.NewManager(f.store, webhook.ManagerConfig{Catalog: catalog, Clock: f.clock})
	require.NoError(t, err)
	panel, err := adminui.New(m, adminui.Config{Actor: signedIn, Clock: f.clock})
	require.NoError(t, err)
	f.host = http.StripPrefix(mount, panel)
	path := "/" + w.ID.String() + "/edit"
	form := editForm()
	form["event"] = append(form["event"], "space:"+spaceID+":message_sent")
	form.Set("name", "") // some other fault, so that the form comes back whatever is made of the subject
	page := f.post(t, path, form).is(http.StatusUnprocessableEntity)
	page.saysNot(`href="#subject_type"`, `href="#subject_id"`)
	if strings.Contains(page.text(), "is not a subject type") {
		require.Contains(t, page.Body.String(), `<a href="#events">`)
		page.says("Untick its event types to save.")
	}
	form.Set("name", "Archive")
	form["event"] = form["event"][:1]
	f.post(t, path, form).leadsTo()
}

// The snippets are the ones that the root package tests against other
// implementations.
func TestSnippetsAreTheTestedOnes(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"verify.mjs", "verify.py", "verify.sh"} {
		want, err := os.ReadFile("../testdata/snippets/" + file)
		require.NoError(t, err)
		got, err := os.ReadFile("snippets/" + file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), file)
	}
}
