package browser_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
)

// TestBrowserLooksAgain uses parts of a page that are replaced meanwhile.
func TestBrowserLooksAgain(t *testing.T) {
	t.Parallel()
	store := memstore.New()
	schedule, err := webhook.NewSchedule(time.Millisecond, time.Millisecond, time.Millisecond)
	require.NoError(t, err)
	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: pastAnswer{http.StatusBadGateway, "away"}, Schedule: schedule})
	require.NoError(t, err)
	h := newHost(t, store, webhook.ManagerConfig{Dispatcher: dispatcher}, adminui.Config{Schedule: schedule})
	w, _, err := h.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://archive.example.com/", Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	h.publish("Hello, World!")
	attempt := func() {
		_, err := dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
	}
	attempt()
	ctx := start(t)
	complained := hear(t, ctx)
	p := person{t, ctx}
	p.do(appearances[0].apply())
	p.opens(h.url + "/sign-in/owner")
	p.opens(h.path("deliveries/" + h.newest(w, webhook.DeliveryPending).ID.String()))
	p.sees("Attempt 1")
	p.until(`document.readyState === "complete"`, "it does not load")

	// What is open stays open, what is closed stays closed, and what is new is as it is.
	for _, id := range []string{"attempt-1-headers", "attempt-1-response", "as-curl"} {
		summary := `document.querySelector("#` + id + ` summary")`
		ask[bool](p, summary+".focus(), "+summary+".click(), true")
	}
	attempt()
	p.until(`!!document.getElementById("attempt-2-headers")`, "a focus keeps the page from looking again")
	require.Equal(t, "attempt-1-headers attempt-2-response as-curl", ask[string](p, `[...document.querySelectorAll("details[open]")].map(e => e.id).join(" ")`))
	require.Equal(t, "as-curl", ask[string](p, `document.activeElement.parentElement.id`))

	// A dialog opens once, asks for the harmless thing first, and closes by a click
	// beside it, not by one on its edge.
	p.opens(h.path(""))
	p.until(`document.readyState === "complete"`, "it does not load")
	ask[bool](p, `(() => { const e = document.querySelector(".tool.danger"); e.focus(); e.click(); e.click(); return true; })()`)
	p.until(`!!document.querySelector("dialog[open]")`, "no dialog opens")
	require.Equal(t, 1, ask[int](p, `document.querySelectorAll("dialog").length`))
	require.Equal(t, "Cancel", ask[string](p, `document.activeElement.innerText`))
	const edge = `(() => { const r = document.querySelector("dialog").getBoundingClientRect(); document.elementFromPoint(r.left + 10, r.top + 10).click(); return true; })()`
	ask[bool](p, edge)
	require.True(t, ask[bool](p, `!!document.querySelector("dialog[open]")`))
	ask[bool](p, `(document.elementFromPoint(2, 2).click(), true)`)
	p.until(`!document.querySelector("dialog")`, "the dialog does not close")

	// The link that it came from has the focus, which keeps nothing from being replaced.
	attempt()
	p.until(`document.querySelector("tbody tr").innerText.includes("3 attempts")`, "the list does not look again")
	require.Equal(t, "Delete Archive", ask[string](p, `document.activeElement.getAttribute("aria-label")`))

	// What has been done is not said again.
	p.opens(h.path("?said=deleted"))
	p.sees("The webhook is deleted")
	p.until(`location.search === ""`, "the notice stays in the address")
	p.reloads()
	p.seesNot("The webhook is deleted")
	complained.none(t)
}
