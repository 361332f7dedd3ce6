package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// complaints are what the browser finds fault with on its own: violations of the
// policy, exceptions, dialogs that a script has opened.
type complaints struct {
	mu   sync.Mutex
	list []string
}

func (c *complaints) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, fmt.Sprintf(format, args...))
}

// none requires that there are none.
func (c *complaints) none(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Empty(t, c.list)
}

// hear collects a tab's complaints.
func hear(t *testing.T, ctx context.Context) *complaints { //nolint:revive // chromedp keeps the tab in the context
	t.Helper()
	c := &complaints{}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.EntryLevelError && !strings.Contains(e.Entry.Text, "the server responded with a status of 4") {
				c.add("%s", e.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			c.add("%s", e.ExceptionDetails.Text)
		case *page.EventJavascriptDialogOpening:
			c.add("a script opened a dialog: %s", e.Message)
		}
	}))
	return c
}

// reloads looks at the page anew, as a browser does that sends the form again.
func (p person) reloads() {
	p.t.Helper()
	p.do(chromedp.Reload())
}

// TestBrowserOwner is what the panel is for, from the first webhook to its end.
func TestBrowserOwner(t *testing.T) {
	t.Parallel()
	h, inbox := liveHost(t)
	ctx := start(t)
	complained := hear(t, ctx)
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(ctx, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
			Permission: &cdpbrowser.PermissionDescriptor{Name: name}, Setting: cdpbrowser.PermissionSettingGranted,
		})
		require.NoError(t, err)
	}
	_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	require.NoError(t, err)
	endpoint := inbox.Endpoint(webhooktest.Succeed())
	var shown string
	step := func(name string, do func(person)) {
		if !t.Run(name, func(t *testing.T) { do(person{t, ctx}) }) {
			t.FailNow() // the next one begins where this one ends
		}
	}

	step("SignIn", func(p person) {
		p.do(appearances[0].apply())
		p.opens(h.url + "/sign-in/owner")
		p.sees("No webhooks yet")
	})
	step("AddWithFaults", func(p person) {
		p.clicks("Add Webhook")
		p.fills("Name", "Archive")
		p.fills("Endpoint URL", "ftp://example.com/")
		p.fills("ID", room.ID)
		p.clicks("Add Webhook")
		p.sees("This cannot be saved yet.")
		p.sees("Choose at least one event type.")
	})
	step("Add", func(p person) {
		require.Equal(p.t, "Archive", ask[string](p, `document.getElementById("name").value`), "the input is kept")
		p.fills("Endpoint URL", endpoint.URL())
		p.ticks("Message Sent")
		p.clicks("Add Webhook")
		p.sees("Copy the secret now")
	})
	step("CopyTheSecret", func(p person) {
		shown = ask[string](p, `document.getElementById("secret").value`)
		p.clicks("Copy")
		p.sees("Copied")
		require.Equal(p.t, shown, ask[string](p, `navigator.clipboard.readText()`, chromedp.EvalAwaitPromise))
		secret, err := webhook.ParseSecret(shown)
		require.NoError(p.t, err)
		endpoint.Trust(secret)
	})
	step("ReloadShowsItNoMore", func(p person) {
		p.reloads()
		p.sees("Nothing has been sent yet.")
		p.until("!document.documentElement.outerHTML.includes("+quoted(shown)+")", "the secret is shown again")
		p.opens(h.path(""))
		p.until(`document.querySelectorAll("tbody tr").length === 1`, "there is not one webhook")
	})
	step("SendTestEvent", func(p person) {
		p.clicks("Archive")
		p.clicks("Send test event")
		p.until(`!!document.querySelector("dialog[open]")`, "no dialog opens")
		p.clicks("Send")
		p.sees("It works") // the page has waited for it
		p.sees("204")
		p.clicks("All about this delivery")
		p.sees("Succeeded")
		received, err := endpoint.Await(p.t.Context(), 1)
		require.NoError(p.t, err)
		require.True(p.t, received[0].Verified)
	})
	step("SeeADeliveryArrive", func(p person) {
		p.clicks("Logs")
		p.until(`document.querySelectorAll("tbody tr").length === 1`, "the log has not one attempt")
		h.publish("Hello, World!")
		p.until(`document.querySelectorAll("tbody tr").length === 2`, "the log does not look again") // nobody has reloaded it
		received, err := endpoint.Await(p.t.Context(), 2)
		require.NoError(p.t, err)
		require.True(p.t, received[1].Verified)
	})
	step("StopLookingAgain", func(p person) {
		p.clicks("Live")
		require.Equal(p.t, "false", ask[string](p, `document.querySelector("[data-live-toggle]").getAttribute("aria-pressed")`))
		p.clicks("Live")
	})
	step("WatchAFailingOne", func(p person) {
		endpoint.Script(webhooktest.Always(webhooktest.Answer{Status: http.StatusInternalServerError, Body: []byte("the database is away")}))
		h.publish("Is anybody there?")
		p.until(`document.querySelectorAll("tbody tr").length === 4`, "two attempts do not show")
		p.sees("answered 500 Internal Server Error")
		p.clicks("Message Sent")
		p.sees("Attempt 2")
		p.sees("the database is away")
		p.sees("Failed")
	})
	step("Redeliver", func(p person) {
		endpoint.Script(webhooktest.Succeed())
		p.clicks("Redeliver")
		p.sees("The event is being sent again")
		p.until(`document.querySelector("h1").innerText.includes("Succeeded")`, "it does not arrive")
		received := endpoint.Received()
		require.Equal(p.t, received[len(received)-1].EventID, received[len(received)-2].EventID)
		require.True(p.t, received[len(received)-1].Verified)
		require.Equal(p.t, 1, received[len(received)-1].Attempt)
	})
	step("Edit", func(p person) {
		p.clicks("Archive")
		p.clicks("Edit")
		p.fills("Name", "Message archive")
		p.ticks("Room Recording Transcript Published")
		p.clicks("Save")
		p.sees("Saved.")
		p.sees("Message archive")
		p.sees("Room Recording Transcript Published")
	})
	step("Deactivate", func(p person) {
		p.clicks("Edit")
		p.ticks("Inactive")
		p.clicks("Save")
		p.sees("It is inactive")
		before := len(endpoint.Received())
		h.publish("To nobody")
		p.reloads()
		p.sees("1 delivery is held")
		require.Len(p.t, endpoint.Received(), before)
	})
	step("ActivateAndDeliverWhatWasHeld", func(p person) {
		before := len(endpoint.Received())
		p.clicks("Edit")
		p.ticks("Active")
		p.ticks("When active, deliver what was held")
		p.clicks("Save")
		p.sees("Saved.")
		_, err := endpoint.Await(p.t.Context(), before+1)
		require.NoError(p.t, err)
	})
	step("Recover", func(p person) {
		endpoint.Script(webhooktest.Status(http.StatusBadGateway))
		h.publish("Lost")
		p.clicks("Logs")
		p.sees("502")
		p.clicks("Deliveries")
		p.until(`document.querySelector("tbody tr .pill").innerText === "Failed"`, "it does not fail")
		endpoint.Script(webhooktest.Succeed())
		before := len(endpoint.Received())
		p.clicks("Message archive")
		p.clicks("Recover since…")
		p.clicks("Count first")
		p.sees("1 delivery")
		p.clicks("Recover 1 delivery")
		p.sees("1 failed delivery is being sent again")
		_, err := endpoint.Await(p.t.Context(), before+1)
		require.NoError(p.t, err)
	})
	step("Delete", func(p person) {
		p.clicks("Message archive")
		p.clicks("Delete")
		p.sees("This cannot be undone")
		p.clicks("Cancel")
		p.until(`!document.querySelector("dialog")`, "the dialog does not close")
		p.clicks("Delete")
		p.clicks("Delete Message archive")
		p.sees("The webhook is deleted")
		p.sees("No webhooks yet")
		list, err := h.manager.Webhooks(p.t.Context(), admin, webhook.WebhookQuery{})
		require.NoError(p.t, err)
		require.Empty(p.t, list.Items)
	})
	step("NothingToComplainOf", func(p person) { complained.none(p.t) })
}

// TestBrowserViewer sees, and does not touch.
func TestBrowserViewer(t *testing.T) {
	t.Parallel()
	g, ctx := newGallery(t), start(t)
	complained := hear(t, ctx)
	person{t, ctx}.do(appearances[0].apply(), chromedp.Navigate(g.url+"/sign-in/viewer"))
	for _, e := range reads {
		t.Run("See/"+e.name, func(t *testing.T) {
			p := person{t, ctx}
			e.see(p, g)
			for _, control := range []string{"Add Webhook", "Edit", "Delete", "Send test event", "Recover since…", "Redeliver", "Save"} {
				require.False(t, p.has(control), "there is %s", control)
			}
			p.until(`!document.querySelector("form[method=post]")`, "there is a form")
			p.seesNot("Shall we record this?")
			if !strings.HasPrefix(e.name, "event-types") { // whose samples are nobody's data
				p.seesNot("Hello, World!")
			}
		})
	}
	for name, path := range map[string]string{
		"new": "new", "edit": g.bot.ID.String() + "/edit", "delete": g.bot.ID.String() + "/delete", "test": g.bot.ID.String() + "/test", "recover": g.bot.ID.String() + "/recover",
	} {
		t.Run("NotTouch/"+name, func(t *testing.T) {
			p := person{t, ctx}
			p.opens(g.path(path))
			p.sees("You may not do this")
			status := ask[int](p, `fetch(`+quoted(g.path(path))+`, {method: "POST", body: new URLSearchParams({name: "mine", since: "2026-01-01"})}).then(r => r.status)`, chromedp.EvalAwaitPromise)
			require.Equal(t, http.StatusForbidden, status)
		})
	}
	t.Run("NothingToComplainOf", complained.none)
}

// TestBrowserWithoutScript reads every page in a browser that runs no scripts, and
// does what can be done.
func TestBrowserWithoutScript(t *testing.T) {
	t.Parallel()
	g, ctx := newGallery(t), start(t)
	plain := appearances[0]
	plain.script = false
	person{t, ctx}.do(plain.apply(), chromedp.Navigate(g.url+"/sign-in/owner"))
	for _, e := range reads {
		t.Run(e.name, func(t *testing.T) {
			p := person{t, ctx}
			e.see(p, g)
			for _, needsScript := range []string{"Copy", "Live"} {
				require.False(t, p.has(needsScript), "there is %s, which does nothing", needsScript)
			}
		})
	}
	t.Run("AddAndReload", func(t *testing.T) {
		p := person{t, ctx}
		p.opens(g.path("new"))
		p.fills("Name", "Without a script")
		p.fills("Endpoint URL", "https://plain.example.com/")
		p.fills("ID", room.ID)
		p.ticks("Message Sent")
		p.clicks("Add Webhook")
		p.sees("Copy the secret now")
		shown := ask[string](p, `document.getElementById("secret").value`)
		require.NotEmpty(t, shown)
		p.reloads() // which sends the form again
		p.sees("This webhook was created already, by the same form.")
		p.until("!document.documentElement.outerHTML.includes("+quoted(shown)+")", "the secret is shown again")
		list, err := g.manager.Webhooks(t.Context(), admin, webhook.WebhookQuery{})
		require.NoError(t, err)
		require.Len(t, list.Items, 6)
	})
	t.Run("SendTestEvent", func(t *testing.T) {
		p := person{t, ctx}
		p.opens(g.path(g.archive.ID.String() + "/test"))
		p.clicks("Send")
		p.sees("It is on its way")
		_, err := g.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		p.clicks("Look again")
		p.sees("It works")
	})
	t.Run("WhyNot", func(t *testing.T) {
		p := person{t, ctx}
		p.opens(g.path(""))
		p.clicks("Ask why not")
		p.fills("Subject ID", room.ID)
		p.clicks("Explain the description")
		p.sees("Message archive")
		p.sees("only for Space " + space.ID)
	})
	t.Run("Delete", func(*testing.T) {
		p := person{t, ctx}
		p.opens(g.path(""))
		p.clicks("Delete Without a script") // a page instead of a dialog
		p.sees("This cannot be undone")
		p.clicks("Delete Without a script")
		p.sees("The webhook is deleted")
	})
}

// TestBrowserHostileTexts shows texts that would like to be scripts, everywhere.
func TestBrowserHostileTexts(t *testing.T) {
	t.Parallel()
	const script = `"><script>window.hacked = 1; alert(1)</script><img src=x onerror="window.hacked = 1"><svg onload="window.hacked = 1">'`
	schema, err := json.Marshal(map[string]string{"description": script})
	require.NoError(t, err)
	catalog, err := webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{Type: "room", Title: "Room " + script[:60], ParseID: func(id string) (string, error) { return id, nil }}},
		[]webhook.EventTypeInfo{{Type: "message_sent", Title: "Message " + script[:60], Description: script, Sample: script, Schema: schema}},
	)
	require.NoError(t, err)
	store := memstore.New()
	answer := pastAnswer{http.StatusBadRequest, script}
	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: answer})
	require.NoError(t, err)
	h := newHost(t, store, webhook.ManagerConfig{Dispatcher: dispatcher, Catalog: catalog}, adminui.Config{})
	hostile := webhook.Subject{Type: "room", ID: script[:60]}
	w, _, err := h.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: script[:90], Description: script, EndpointURL: "https://example.com/" + strings.NewReplacer("<", "%3C", ">", "%3E", `"`, "%22", " ", "%20").Replace(script),
		Subscriptions: []webhook.Subscription{{Subject: hostile, EventType: "message_sent", Filter: map[string]string{"k" + script[:60]: script[:60]}}},
	})
	require.NoError(t, err)
	for range 2 {
		_, err = h.publisher.Publish(t.Context(), webhook.Event{
			OrganizationID: organization, Type: "message_sent", Subject: hostile, Data: script, Attributes: map[string]string{"k" + script[:60]: script[:60]},
		})
		require.NoError(t, err)
	}
	_, err = dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	d := h.newest(w, webhook.DeliveryPending)

	ctx := start(t)
	complained := hear(t, ctx)
	person{t, ctx}.do(appearances[0].apply(), chromedp.Navigate(h.url+"/sign-in/owner"))
	id := w.ID.String()
	for name, path := range map[string]string{
		"list": "", "search": "?q=" + strings.ReplaceAll(script, " ", "+"), "webhook": id, "edit": id + "/edit", "log": id + "/log", "filter": id + "/log?since=" + strings.ReplaceAll(script, " ", "+"),
		"deliveries": id + "/deliveries", "delivery": "deliveries/" + d.ID.String(), "test": id + "/test", "recover": id + "/recover?since=" + strings.ReplaceAll(script, " ", "+"),
		"explain": "explain?event=" + d.EventID.String(), "explain-id": "explain?event=" + strings.ReplaceAll(script, " ", "+"),
		"explain-draft": "explain?event_type=message_sent&subject_type=room&subject_id=7&parents=" + strings.ReplaceAll(script, " ", "+") + "&attributes=" + strings.ReplaceAll(script, " ", "+"),
		"delete":        id + "/delete", "troubleshooting": id + "/troubleshooting", "event types": "event-types", "notice": id + "?said=" + strings.ReplaceAll(script, " ", "+"),
	} {
		t.Run(name, func(t *testing.T) {
			p := person{t, ctx}
			p.opens(h.path(strings.NewReplacer("<", "%3C", ">", "%3E", `"`, "%22").Replace(path)))
			p.until(`document.readyState === "complete"`, "it does not load")
			require.Equal(t, "undefined", ask[string](p, "typeof window.hacked"))
			require.Zero(t, ask[int](p, `document.querySelectorAll("main script, main img, main [onload], main [onerror]").length`))
		})
	}
	t.Run("dialog", func(t *testing.T) {
		p := person{t, ctx}
		p.opens(h.path(id))
		p.clicks("Delete")
		p.until(`!!document.querySelector("dialog[open]")`, "no dialog opens")
		require.Zero(t, ask[int](p, `document.querySelectorAll("main script, dialog script, dialog img, dialog [onload]").length`))
		p.sees("<script>")
	})
	t.Run("NothingToComplainOf", complained.none)
}

// pastAnswer answers everything in the same way.
type pastAnswer struct {
	status int
	body   string
}

func (a pastAnswer) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}
