package browser

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// organization is the customer whose people look at the panel.
const organization = "acme"

// roomID is the room that everything is about.
const roomID = "9a7c1f0a-2b8e-4c0e-8d5e-6f1b2c3d4e02"

// panelPath is where the host has mounted the panel.
const panelPath = "/admin/webhooks/"

// host is an application with a panel: people sign in by saying who they are.
type host struct {
	t         *testing.T
	url       string
	inbox     *webhooktest.Inbox
	manager   *webhook.Manager
	publisher *webhook.Publisher
}

// startHost starts one whose deliveries are sent at once and fail for good after
// two attempts.
func startHost(t *testing.T) *host {
	t.Helper()
	inbox := webhooktest.NewInbox(t)
	store := memstore.New()
	schedule, err := webhook.NewSchedule(50 * time.Millisecond)
	require.NoError(t, err)
	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: inbox.HTTPDoer(), Schedule: schedule})
	require.NoError(t, err)
	manager, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: dispatcher, AllowedPrefixes: inbox.Prefixes()})
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: dispatcher})
	require.NoError(t, err)
	panel, err := adminui.New(manager, adminui.Config{Actor: signedIn})
	require.NoError(t, err)

	mux := http.NewServeMux()
	mux.Handle(panelPath, http.StripPrefix(panelPath[:len(panelPath)-1], panel))
	mux.HandleFunc("GET /sign-in/{role}", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "role", Value: r.PathValue("role"), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, panelPath, http.StatusSeeOther)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- dispatcher.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return &host{t: t, url: server.URL, inbox: inbox, manager: manager, publisher: publisher}
}

// signedIn is who a request comes from.
func signedIn(r *http.Request) (webhook.Actor, error) {
	c, err := r.Cookie("role")
	if err != nil {
		return webhook.Actor{}, errors.New("not signed in")
	}
	return webhook.Actor{ID: c.Value + "@example.com", OrganizationID: organization, Role: webhook.Role(c.Value)}, nil
}

// admin is who sets things up for a test.
var admin = webhook.Actor{ID: "setup@example.com", OrganizationID: organization, Role: webhook.RoleAdmin}

// webhook registers one for the room's messages.
func (h *host) webhook(name string, e *webhooktest.Endpoint) webhook.Webhook {
	h.t.Helper()
	w, secret, err := h.manager.Create(h.t.Context(), admin, webhook.WebhookInput{
		Name: name, EndpointURL: e.URL(), Subscriptions: []webhook.Subscription{
			{Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: roomID}, EventType: webhook.EventMessageSent},
		},
	})
	require.NoError(h.t, err)
	e.Trust(secret)
	return w
}

// publish lets something happen in the room.
func (h *host) publish(text string) {
	h.t.Helper()
	_, err := h.publisher.Publish(h.t.Context(), webhook.Event{
		OrganizationID: organization, Type: webhook.EventMessageSent, Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: roomID},
		Data: map[string]string{"text": text},
	})
	require.NoError(h.t, err)
}
