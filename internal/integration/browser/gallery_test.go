package browser_test

import (
	"io"
	"math/rand"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// gallery is a host in which a week has passed and then the time stands still, so that
// its pages are the same each time.
type gallery struct {
	*host
	dispatcher                          *webhook.Dispatcher
	archive, bot, crm, staging, deleted webhook.Webhook
	failed, pending                     webhook.Delivery
}

// pastReceivers answer what is sent in the gallery.
type pastReceivers struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (p *pastReceivers) Do(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	wait, unwell := time.Duration(1+p.random.Intn(12))*time.Millisecond, p.random.Intn(5) == 0
	if p.random.Intn(6) == 0 {
		wait *= 4
	}
	p.mu.Unlock()
	<-time.After(wait)
	status, body := http.StatusOK, `{"stored":true}`
	switch r.URL.Hostname() {
	case "crm.example.net":
		status, body = http.StatusInternalServerError, "<html><body><h1>Internal Server Error</h1></body></html>"
	case "bot.example.org":
		if unwell {
			status, body = http.StatusServiceUnavailable, `{"error":"restarting"}`
		}
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func newGallery(t *testing.T) *gallery {
	t.Helper()
	clock := webhooktest.NewClock(time.Date(2026, 1, 9, 8, 20, 0, 0, time.UTC))
	store := memstore.New()
	random := rand.New(rand.NewSource(7))
	schedule, err := webhook.NewSchedule(time.Minute, 5*time.Minute)
	require.NoError(t, err)
	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: &pastReceivers{random: rand.New(rand.NewSource(8))}, Clock: clock, Schedule: schedule})
	require.NoError(t, err)
	g := &gallery{dispatcher: dispatcher, host: newHost(t, store, webhook.ManagerConfig{Dispatcher: dispatcher, Clock: clock}, adminui.Config{Clock: clock, Schedule: schedule, Title: "Acme Webhooks"})}

	both := []webhook.EventType{webhook.EventMessageSent, webhook.EventRoomRecordingTranscriptPublished}
	register := func(name, about, url string, s webhook.Subject, types ...webhook.EventType) webhook.Webhook {
		in := webhook.WebhookInput{Name: name, Description: about, EndpointURL: url}
		for _, et := range types {
			in.Subscriptions = append(in.Subscriptions, webhook.Subscription{Subject: s, EventType: et})
		}
		w, _, err := g.manager.Create(t.Context(), admin, in)
		require.NoError(t, err)
		clock.Advance(time.Minute)
		return w
	}
	g.deleted = register("Prototype", "", "https://prototype.example.com/", room, both[0])
	g.staging = register("Staging", "For trying things.", "https://staging.example.com/hooks", room, both[0])
	g.crm = register("Old CRM", "", "https://crm.example.net/api/v1/inbound?source=acme", room, both[1])
	g.bot = register("Chat bot", "Answers questions in the room.", "https://bot.example.org:8443/messages", room, both[0])
	g.archive = register("Message archive", "Keeps every message for the legal department.", "https://archive.example.com/webhooks", space, both...)
	require.NoError(t, g.manager.Delete(t.Context(), admin, g.deleted.ID))
	_, err = g.manager.Update(t.Context(), admin, g.staging.ID, webhook.WebhookChange{
		Version: 1, Name: g.staging.Name, Description: g.staging.Description, EndpointURL: g.staging.EndpointURL, Status: webhook.StatusInactive, Subscriptions: g.staging.Subscriptions,
	})
	require.NoError(t, err)

	for hour := range 6 * 24 {
		for range random.Intn(4) {
			g.publish("Shall we record this?")
		}
		if hour%4 == 0 {
			_, err := g.publisher.Publish(t.Context(), webhook.Event{
				OrganizationID: organization, Type: both[1], Subject: room, Parents: []webhook.Subject{space},
				Data: map[string]any{"recording_id": "16fd2706-8baf-433b-82eb-8c7fada847da", "language": "en", "duration_seconds": 1260},
			})
			require.NoError(t, err)
		}
		for range 3 {
			_, err := dispatcher.RunOnce(t.Context())
			require.NoError(t, err)
			clock.Advance(6 * time.Minute)
		}
		clock.Advance(42 * time.Minute)
	}
	_, err = g.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: organization, Type: both[1], Subject: room, Parents: []webhook.Subject{space}, Data: map[string]any{"recording_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "language": "de"},
	})
	require.NoError(t, err)
	_, err = dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	clock.Advance(20 * time.Second)
	g.failed, g.pending = g.newest(g.crm, webhook.DeliveryFailed), g.newest(g.crm, webhook.DeliveryPending)
	return g
}

// exhibit is a page of the panel, and how people come to see it.
type exhibit struct {
	name string
	see  func(person, *gallery)
}

// visit is a page with an address, and something that is on it.
func visit(path func(*gallery) string, text string) func(person, *gallery) {
	return func(p person, g *gallery) {
		p.t.Helper()
		p.opens(g.path(path(g)))
		p.sees(text)
	}
}

func at(path string) func(*gallery) string { return func(*gallery) string { return path } }

// reads are the pages that everybody may see, and that need no script.
var reads = []exhibit{
	{"list", visit(at(""), "Message archive")},
	{"list-searched", visit(at("?q=bot&status=active"), "Chat bot")},
	{"list-nothing-found", visit(at("?q=unheard-of"), "Nothing found")},
	{"webhook", visit(func(g *gallery) string { return g.archive.ID.String() }, "Keeps every message")},
	{"webhook-7d", visit(func(g *gallery) string { return g.bot.ID.String() + "?range=7d" }, "Last 7 days")},
	{"webhook-30d", visit(func(g *gallery) string { return g.crm.ID.String() + "?range=30d" }, "Last 30 days")},
	{"webhook-inactive", visit(func(g *gallery) string { return g.staging.ID.String() }, "It is inactive")},
	{"log", visit(func(g *gallery) string { return g.bot.ID.String() + "/log" }, "answered 503 Service Unavailable")},
	{"log-filtered", visit(func(g *gallery) string { return g.bot.ID.String() + "/log?state=failed&class=5" }, "503")},
	{"log-nothing", visit(func(g *gallery) string { return g.bot.ID.String() + "/log?class=3" }, "No attempt is like that")},
	{"log-wrong-filter", visit(func(g *gallery) string { return g.bot.ID.String() + "/log?since=2026-02-01&before=2026-01-01" }, "must be earlier")},
	{"log-of-all", visit(at("log"), "of all webhooks")},
	{"log-of-deleted", visit(func(g *gallery) string { return g.deleted.ID.String() + "/log" }, "of a webhook that was deleted")},
	{"deliveries", visit(func(g *gallery) string { return g.archive.ID.String() + "/deliveries" }, "Room Recording Transcript Published")},
	{"deliveries-of-all", visit(at("deliveries"), "Pending")},
	{"delivery-failed", visit(func(g *gallery) string { return "deliveries/" + g.failed.ID.String() }, "Attempt 3")},
	{"delivery-pending", visit(func(g *gallery) string { return "deliveries/" + g.pending.ID.String() }, "next attempt in")},
	{"troubleshooting", visit(at("troubleshooting"), "The usual causes")},
	{"troubleshooting-webhook", visit(func(g *gallery) string { return g.crm.ID.String() + "/troubleshooting" }, "answered 500")},
	{"deleted", visit(func(g *gallery) string { return "deleted/" + g.deleted.ID.String() }, "The webhook is deleted")},
	{"not-found", visit(at("nothing"), "There is nothing here")},
}

// staffs is what the host's own staff sees.
var staffs = []exhibit{
	{"operations", inOperations("", "Pause all dispatchers")},
	{"operations-busy", func(p person, g *gallery) {
		for range 3 {
			g.publish("Is anybody there?")
		}
		inOperations("", "Message archive")(p, g)
		p.sees("Last claim")
	}},
	{"operations-pause", inOperations("pause", "for any organization")},
	{"operations-paused", func(p person, g *gallery) {
		require.NoError(p.t, g.dispatcher.Pause(p.t.Context(), "sam@example.com"))
		inOperations("", "All dispatchers are paused.")(p, g)
	}},
	{"operations-resume-dialog", func(p person, g *gallery) {
		inOperations("", "All dispatchers are paused.")(p, g)
		p.clicks("Resume")
		p.sees("will be attempted at once")
	}},
	{"operations-not-for-customers", func(p person, g *gallery) {
		require.NoError(p.t, g.dispatcher.Resume(p.t.Context(), "sam@example.com"))
		p.opens(g.operations(""))
		p.sees("There is nothing here")
	}},
}

// inOperations is a page of the staff's, and something that is on it.
func inOperations(path, text string) func(person, *gallery) {
	return func(p person, g *gallery) {
		p.t.Helper()
		p.opens(g.url + "/sign-in/staff@host")
		p.opens(g.operations(path))
		p.sees(text)
	}
}

// controls are those of owners and admins. Some need a script.
var changes = []exhibit{
	{"list-empty", func(p person, g *gallery) {
		p.opens(g.url + "/sign-in/owner@new-customer")
		p.sees("No webhooks yet")
		p.opens(g.url + "/sign-in/owner")
		p.opens(g.url + "/sign-in/owner@new-customer")
	}},
	{"new", visit(at("new"), "Add a webhook")},
	{"new-faults", func(p person, g *gallery) {
		p.opens(g.path("new"))
		p.fills("Name", "Archive")
		p.fills("Endpoint URL", "http://10.0.0.1/")
		p.fills("ID", "the red room")
		p.clicks("Add Webhook")
		p.sees("This cannot be saved yet.")
	}},
	{"edit", visit(func(g *gallery) string { return g.archive.ID.String() + "/edit" }, "To rotate it")},
	{"edit-inactive", visit(func(g *gallery) string { return g.staging.ID.String() + "/edit" }, "deliver what was held")},
	{"edit-stale", func(p person, g *gallery) {
		p.opens(g.path(g.bot.ID.String() + "/edit"))
		p.fills("Name", "Chat robot")
		w, err := g.manager.Webhook(p.t.Context(), admin, g.bot.ID)
		require.NoError(p.t, err)
		_, err = g.manager.Update(p.t.Context(), admin, w.ID, webhook.WebhookChange{
			Version: w.Version, Name: w.Name, Description: w.Description + "!", EndpointURL: w.EndpointURL, Status: w.Status, Subscriptions: w.Subscriptions,
		})
		require.NoError(p.t, err)
		p.clicks("Save")
		p.sees("was ahead of you")
	}},
	{"test", visit(func(g *gallery) string { return g.archive.ID.String() + "/test" }, "A signed sample goes to")},
	{"test-dialog", func(p person, g *gallery) {
		p.opens(g.path(g.archive.ID.String()))
		p.clicks("Send test event")
		p.sees("A signed sample goes to")
	}},
	{"recover", visit(func(g *gallery) string { return g.crm.ID.String() + "/recover" }, "Since (UTC)")},
	{"recover-counted", visit(func(g *gallery) string { return g.crm.ID.String() + "/recover?since=2026-01-01" }, "Recover")},
	{"delete", visit(func(g *gallery) string { return g.crm.ID.String() + "/delete" }, "This cannot be undone")},
	{"delete-dialog", func(p person, g *gallery) {
		p.opens(g.path(""))
		p.clicks("Delete Old CRM")
		p.sees("This cannot be undone")
	}},
	{"created", func(p person, g *gallery) {
		p.opens(g.path("new"))
		p.fills("Name", "Reports")
		p.fills("Endpoint URL", "https://reports.example.com/")
		p.fills("ID", room.ID)
		p.ticks("Message Sent")
		p.clicks("Add Webhook")
		p.sees("Copy the secret now")
		p.seesNot("undefined")
	}},
	{"signed-out", func(p person, g *gallery) {
		p.opens(g.url + "/sign-in/nobody@")
		p.opens(g.path(""))
		p.sees("You may not do this")
	}},
}
