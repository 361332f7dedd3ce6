package browser_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// TestBrowserOperations: somebody of the staff pauses the dispatchers, what is
// published meanwhile waits, and arrives when they go on. The page keeps up by itself.
func TestBrowserOperations(t *testing.T) {
	t.Parallel()
	h, inbox := liveHost(t)
	endpoint := inbox.Endpoint(webhooktest.Succeed())
	w, secret, err := h.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Archive <b>", EndpointURL: endpoint.URL(),
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	endpoint.Trust(secret)
	ctx := start(t)
	complained := hear(t, ctx)
	p := person{t, ctx}
	p.do(appearances[0].apply())

	p.opens(h.url + "/sign-in/staff@host")
	p.opens(h.operations(""))
	p.sees("Nothing is due.")
	h.publish("before")
	_, err = endpoint.Await(t.Context(), 1)
	require.NoError(t, err)

	p.clicks("Pause all dispatchers")
	p.until(`!!document.querySelector("dialog[open]")`, "no dialog opens")
	p.clicks("Cancel")
	p.until(`!document.querySelector("dialog[open]")`, "the dialog stays")
	p.clicks("Pause all dispatchers")
	p.until(`!!document.querySelector("dialog[open]")`, "no dialog opens")
	p.clicks("Pause")
	p.sees("The dispatchers are paused. Attempts")
	p.sees("staff@example.com paused them at")

	for range 3 {
		h.publish("meanwhile")
	}
	p.sees("Archive <b>") // nobody has reloaded the page
	p.until(`document.querySelector('[data-label="Due"]').innerText === "3"`, "the backlog is not 3")
	pending := h.newest(w, webhook.DeliveryPending)
	require.Zero(t, pending.Attempts)
	require.Len(t, endpoint.Received(), 1)

	p.clicks("Resume")
	p.until(`!!document.querySelector("dialog[open]")`, "no dialog opens")
	p.sees("3 deliveries are due")
	p.clicks("Resume deliveries")
	p.sees("The dispatchers go on.")
	received, err := endpoint.Await(t.Context(), 4)
	require.NoError(t, err)
	require.True(t, received[3].Verified)
	p.sees("Nothing is due.")
	p.seesNot("All dispatchers are paused.")
	complained.none(t)
}
