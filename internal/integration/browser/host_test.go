package browser_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
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

// What events are about.
var (
	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "9a7c1f0a-2b8e-4c0e-8d5e-6f1b2c3d4e02"}
	space = webhook.Subject{Type: webhook.SubjectSpace, ID: "5d1f2c86-4f0e-4f52-a1c0-3e6f3f7f0b01"}
)

// panelPath is where the host has mounted the panel.
const panelPath = "/admin/webhooks/"

// operationsPath is where the page of the host's own staff is. The staff signs in as
// staff@host.
const operationsPath = "/internal/webhooks/"

// admin is who sets things up for a test.
var admin = webhook.Actor{ID: "ada@example.com", OrganizationID: organization, Role: webhook.RoleAdmin}

// host is an application with a panel: people sign in by saying who they are.
type host struct {
	t         *testing.T
	url       string
	store     *memstore.Store
	manager   *webhook.Manager
	publisher *webhook.Publisher
}

// newHost mounts a panel.
func newHost(t *testing.T, store *memstore.Store, managers webhook.ManagerConfig, panels adminui.Config) *host {
	t.Helper()
	manager, err := webhook.NewManager(store, managers)
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: managers.Dispatcher, Clock: managers.Clock, Catalog: managers.Catalog})
	require.NoError(t, err)
	panels.Actor = signedIn
	panels.Links = append(panels.Links, adminui.Link{Title: "Sign out", URL: "/"})
	panel, err := adminui.New(manager, panels)
	require.NoError(t, err)

	mux := http.NewServeMux()
	mux.Handle(panelPath, http.StripPrefix(strings.TrimSuffix(panelPath, "/"), panel))
	if managers.Dispatcher != nil {
		operations, err := adminui.NewOperations(managers.Dispatcher, adminui.OperationsConfig{
			Staff: func(r *http.Request) (string, bool) {
				a, err := signedIn(r)
				return a.ID, err == nil && a.Role == "staff"
			},
			Title: "Acme webhook operations", Links: []adminui.Link{{Title: "Sign out", URL: "/"}},
		})
		require.NoError(t, err)
		mux.Handle(operationsPath, http.StripPrefix(strings.TrimSuffix(operationsPath, "/"), operations))
	}
	mux.HandleFunc("GET /sign-in/{who}", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "who", Value: r.PathValue("who"), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, panelPath, http.StatusSeeOther)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return &host{t: t, url: server.URL, store: store, manager: manager, publisher: publisher}
}

// liveHost is one whose deliveries are sent at once, to the inbox, and fail for good
// after two attempts.
func liveHost(t *testing.T) (*host, *webhooktest.Inbox) {
	t.Helper()
	inbox, store := webhooktest.NewInbox(t), memstore.New()
	schedule, err := webhook.NewSchedule(50 * time.Millisecond)
	require.NoError(t, err)
	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: inbox.HTTPDoer(), Schedule: schedule})
	require.NoError(t, err)
	h := newHost(t, store, webhook.ManagerConfig{Dispatcher: dispatcher, AllowedPrefixes: inbox.Prefixes()}, adminui.Config{Schedule: schedule})

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- dispatcher.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return h, inbox
}

// signedIn is who a request comes from: "role" or "role@organization".
func signedIn(r *http.Request) (webhook.Actor, error) {
	c, err := r.Cookie("who")
	if err != nil {
		return webhook.Actor{}, errors.New("not signed in")
	}
	role, of, found := strings.Cut(c.Value, "@")
	if !found {
		of = organization
	}
	return webhook.Actor{ID: role + "@example.com", OrganizationID: of, Role: webhook.Role(role)}, nil
}

// path is a page of the panel.
func (h *host) path(page string) string { return h.url + panelPath + page }

// operations is a page of the staff's.
func (h *host) operations(page string) string { return h.url + operationsPath + page }

// publish lets somebody write into the room.
func (h *host) publish(text string) {
	h.t.Helper()
	_, err := h.publisher.Publish(h.t.Context(), webhook.Event{
		OrganizationID: organization, Type: webhook.EventMessageSent, Subject: room, Parents: []webhook.Subject{space}, Data: map[string]string{"text": text},
	})
	require.NoError(h.t, err)
}

// newest is the newest delivery in a state.
func (h *host) newest(w webhook.Webhook, state webhook.DeliveryState) webhook.Delivery {
	h.t.Helper()
	p, err := h.manager.Deliveries(h.t.Context(), admin, webhook.DeliveryQuery{WebhookID: w.ID, State: state, Limit: 1})
	require.NoError(h.t, err)
	require.NotEmpty(h.t, p.Items, "%s has no delivery that is %s", w.Name, state)
	return p.Items[0]
}
