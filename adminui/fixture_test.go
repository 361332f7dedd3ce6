package adminui_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

const (
	roomID      = "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"
	spaceID     = "b7e1f0a2-58c4-4f0d-8f3e-6d1c2b3a4f55"
	endpointURL = "https://archive.example.com/webhooks"
	mount       = "/admin/webhooks"
)

// room is what events are about.
var room = webhook.Subject{Type: webhook.SubjectRoom, ID: roomID}

// fixture is a host with a panel, and what is behind it.
type fixture struct {
	store      *memstore.Store
	clock      *webhooktest.Clock
	manager    *webhook.Manager
	dispatcher *webhook.Dispatcher
	publisher  *webhook.Publisher
	host       http.Handler // the panel, mounted
	answer     func(*http.Request) (*http.Response, error)
}

// Do is the dispatcher's client.
func (f *fixture) Do(r *http.Request) (*http.Response, error) { return f.answer(r) }

// answers gives every request a status and a body.
func answers(status int, body string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// newFixture makes one; configure changes what the panel is made with.
func newFixture(t testing.TB, configure ...func(*adminui.Config)) *fixture {
	t.Helper()
	return newFixtureOn(t, webhook.ManagerConfig{}, configure...)
}

func newFixtureOn(t testing.TB, managers webhook.ManagerConfig, configure ...func(*adminui.Config)) *fixture {
	t.Helper()
	f := &fixture{store: memstore.New(), clock: &webhooktest.Clock{}, answer: answers(http.StatusNoContent, "")}
	var err error
	f.dispatcher, err = webhook.NewDispatcher(f.store, webhook.DispatcherConfig{HTTPDoer: f, Clock: f.clock})
	require.NoError(t, err)
	managers.Dispatcher = f.dispatcher
	f.manager, err = webhook.NewManager(f.store, managers)
	require.NoError(t, err)
	f.publisher, err = webhook.NewPublisher(f.store, webhook.PublisherConfig{Dispatcher: f.dispatcher, Catalog: managers.Catalog})
	require.NoError(t, err)
	cfg := adminui.Config{Actor: signedIn, Clock: f.clock}
	for _, c := range configure {
		c(&cfg)
	}
	panel, err := adminui.New(f.manager, cfg)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(mount+"/", http.StripPrefix(mount, panel))
	f.host = mux
	return f
}

var errNobody = errors.New("nobody is signed in; the host's own words: 7b9f")

// signedIn is who a request says that it comes from: "role@organization".
func signedIn(r *http.Request) (webhook.Actor, error) {
	role, organization, ok := strings.Cut(r.Header.Get("Test-Actor"), "@")
	switch {
	case !ok:
		return webhook.Actor{}, errNobody
	case role == "barred":
		return webhook.Actor{}, webhook.ErrForbidden
	case role == "none":
		role = ""
	}
	return webhook.Actor{ID: role + "@" + organization, OrganizationID: organization, Role: webhook.Role(role)}, nil
}

var admin = webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}

// create registers a webhook for the room's messages.
func (f *fixture) create(t testing.TB, name string, edits ...func(*webhook.WebhookInput)) webhook.Webhook {
	t.Helper()
	in := webhook.WebhookInput{
		Name: name, EndpointURL: endpointURL, Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	}
	for _, e := range edits {
		e(&in)
	}
	w, _, err := f.manager.Create(t.Context(), admin, in)
	require.NoError(t, err)
	f.clock.Advance(time.Millisecond)
	return w
}

// publish lets somebody write into the room.
func (f *fixture) publish(t testing.TB) {
	t.Helper()
	_, err := f.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: map[string]string{"text": "Tea at five?"},
	})
	require.NoError(t, err)
	f.clock.Advance(time.Millisecond)
}

// deliver makes the attempts that are due, answered in the given way.
func (f *fixture) deliver(t testing.TB, answer func(*http.Request) (*http.Response, error)) {
	t.Helper()
	f.answer = answer
	_, err := f.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	f.clock.Advance(time.Millisecond)
}

// exhaust makes every attempt that there is, all answered 500.
func (f *fixture) exhaust(t testing.TB, body string) {
	t.Helper()
	f.answer = answers(http.StatusInternalServerError, body)
	webhooktest.Drain(t, f.dispatcher, f.clock)
}

// newest returns the newest delivery of a webhook.
func (f *fixture) newest(t testing.TB, id uuid.UUID) webhook.Delivery {
	t.Helper()
	p, err := f.manager.Deliveries(t.Context(), admin, webhook.DeliveryQuery{WebhookID: id, Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, p.Items)
	return p.Items[0]
}

func (f *fixture) webhooks(t testing.TB) []webhook.Webhook {
	t.Helper()
	p, err := f.manager.Webhooks(t.Context(), admin, webhook.WebhookQuery{})
	require.NoError(t, err)
	return p.Items
}

// answer is what the host answered.
type answer struct {
	*httptest.ResponseRecorder
	t    testing.TB
	path string
}

// as asks for a page of the panel as somebody. The form is nil for GET.
func (f *fixture) as(t testing.TB, who, path string, form url.Values) answer {
	t.Helper()
	var r *http.Request
	if form == nil {
		r = httptest.NewRequest(http.MethodGet, mount+path, nil)
	} else {
		r = httptest.NewRequest(http.MethodPost, mount+path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if who != "" {
		r.Header.Set("Test-Actor", who)
	}
	w := httptest.NewRecorder()
	f.host.ServeHTTP(w, r)
	return answer{w, t, path}
}

const (
	asOwner  = "owner@acme"
	asAdmin  = "admin@acme"
	asViewer = "viewer@acme"
)

// get and post do it as an admin.
func (f *fixture) get(t testing.TB, path string) answer {
	t.Helper()
	return f.as(t, asAdmin, path, nil)
}

func (f *fixture) post(t testing.TB, path string, form url.Values) answer {
	t.Helper()
	if form == nil {
		form = url.Values{}
	}
	return f.as(t, asAdmin, path, form)
}

// is requires a status.
func (a answer) is(status int) answer {
	a.t.Helper()
	require.Equal(a.t, status, a.Code, "%s: %s", a.path, a.text())
	return a
}

var (
	tags   = regexp.MustCompile(`(?s)<script.*?</script>|<[^>]*>`)
	spaces = regexp.MustCompile(`\s+`)
)

// text is what people read of a page.
func (a answer) text() string {
	text := tags.ReplaceAllString(a.Body.String(), " ")
	for from, to := range map[string]string{"&#39;": "'", "&#34;": `"`, "&lt;": "<", "&gt;": ">", "&amp;": "&", "&#43;": "+"} {
		text = strings.ReplaceAll(text, from, to)
	}
	return strings.TrimSpace(spaces.ReplaceAllString(text, " "))
}

// says requires texts.
func (a answer) says(texts ...string) answer {
	a.t.Helper()
	for _, text := range texts {
		require.Contains(a.t, a.text(), text, a.path)
	}
	return a
}

// saysNot requires that texts are nowhere, in attributes neither.
func (a answer) saysNot(texts ...string) {
	a.t.Helper()
	for _, text := range texts {
		require.False(a.t, strings.Contains(a.Body.String(), text) || strings.Contains(a.text(), text), "%s says %s", a.path, text)
	}
}

// leadsTo returns where a redirect leads to, as a path of the panel.
func (a answer) leadsTo() string {
	a.t.Helper()
	a.is(http.StatusSeeOther)
	location, err := url.Parse(a.Header().Get("Location"))
	require.NoError(a.t, err)
	require.Empty(a.t, location.Host)
	from := &url.URL{Path: mount + a.path}
	to := from.ResolveReference(location).String()
	require.True(a.t, strings.HasPrefix(to, mount+"/"), to)
	return strings.TrimPrefix(to, mount)
}

// field is the value of an input of a form.
func (a answer) field(name string) string {
	a.t.Helper()
	m := regexp.MustCompile(`name="` + name + `"[^>]* value="([^"]*)"`).FindStringSubmatch(a.Body.String())
	require.NotNil(a.t, m, "%s has no field %s", a.path, name)
	return m[1]
}
