package adminui_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
)

// operationsOf mounts the staff's page beside the panel, where the fixture asks for it
// by the same paths. Its staff is who says so.
func operationsOf(t testing.TB, f *fixture, edits ...func(*adminui.OperationsConfig)) *fixture {
	t.Helper()
	cfg := adminui.OperationsConfig{Staff: func(r *http.Request) (string, bool) {
		role, _, _ := strings.Cut(r.Header.Get("Test-Actor"), "@")
		return r.Header.Get("Test-Actor"), role == "staff"
	}}
	for _, edit := range edits {
		edit(&cfg)
	}
	page, err := adminui.NewOperations(f.dispatcher, cfg)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(mount+"/", http.StripPrefix(mount, page))
	ops := *f
	ops.host = mux
	return &ops
}

const asStaff = "staff@host"

func TestNewOperations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	staff := func(*http.Request) (string, bool) { return "", false }
	_, err := adminui.NewOperations(nil, adminui.OperationsConfig{Staff: staff})
	require.ErrorContains(t, err, "the dispatcher is nil")
	_, err = adminui.NewOperations(f.dispatcher, adminui.OperationsConfig{})
	require.ErrorContains(t, err, "staff: is required")
	_, err = adminui.NewOperations(f.dispatcher, adminui.OperationsConfig{Staff: staff, AccentColor: "red"})
	require.ErrorContains(t, err, "accent_color")
	_, err = adminui.NewOperations(f.dispatcher, adminui.OperationsConfig{Staff: staff, TrustedOrigins: []string{"x"}})
	require.ErrorContains(t, err, "trusted_origins[0]")
	_, err = adminui.NewOperations(f.dispatcher, adminui.OperationsConfig{Staff: staff, Links: []adminui.Link{{}}})
	require.ErrorContains(t, err, "links[0]")
}

// Whoever is not of the staff does not even learn that there is such a page, and
// pauses nothing.
func TestOperationsAreForTheStaff(t *testing.T) {
	t.Parallel()
	f := operationsOf(t, newFixture(t))
	for _, path := range []string{"/", "/pause", "/resume", "/nothing", "/" + uuid.NewString()} {
		for _, who := range []string{"", asOwner, asViewer, "barred@acme"} {
			f.as(t, who, path, nil).is(missing).says("There is nothing here").saysNot("Pause", "staff")
			f.as(t, who, path, url.Values{}).is(missing)
		}
	}
	require.False(t, f.overview(t).Paused)
	f.as(t, asStaff, "/nothing", nil).is(missing)
	f.as(t, asStaff, "/"+uuid.NewString(), nil).is(missing)
	f.as(t, asStaff, "/", url.Values{}).is(http.StatusMethodNotAllowed)
	require.Contains(t, f.as(t, asStaff, "/", nil).is(ok).text(), asStaff)
}

// overview is what the store has.
func (f *fixture) overview(t testing.TB) webhook.Overview {
	t.Helper()
	o, err := f.store.Overview(t.Context(), webhook.OverviewParams{Now: f.clock.Now(), Top: 10})
	require.NoError(t, err)
	return o
}

func TestOperationsShowWhatThereIs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ops := operationsOf(t, f)
	ops.as(t, asStaff, "/", nil).is(ok).says(
		"Due 0", "In flight 0", "Nothing is due.", "Not running", "0 of 1,024 slots", "Last claim none", "Last error of the store none",
		"Notices waiting 0", "Last purge none so far", "Pause all dispatchers",
	).saysNot("All logs", "Resume", "Slow webhooks")

	w := f.create(t, "Archive")
	f.create(t, "Stopped", func(in *webhook.WebhookInput) {
		in.Subscriptions[0].Subject = webhook.Subject{Type: webhook.SubjectSpace, ID: spaceID}
	})
	f.publish(t)
	f.exhaust(t, "no")
	f.publish(t)
	f.deliver(t, answers(http.StatusInternalServerError, "no")) // waits for its retry
	for range 3 {
		f.publish(t)
	}
	f.clock.Advance(3 * time.Second)
	_, err := f.store.Purge(t.Context(), webhook.PurgeParams{Now: f.clock.Now(), AttemptsBefore: f.clock.Now().Add(-time.Minute), Limit: 100})
	require.NoError(t, err)
	page := ops.as(t, asStaff, "/", nil).is(ok)
	page.says("Due 3 the oldest was due 3 s ago", "Due later 1", "Archive archive.example.com acme 3 3 s ago", "Notices waiting 1, the next due",
		"Last purge just now : 0 deliveries, 0 events,", "5 attempts and 0 payloads deleted")
	page.saysNot(`href="`+w.ID.String(), `/webhooks"`, w.ID.String())
	require.NotContains(t, page.Body.String(), endpointURL, "the path of an endpoint may be a secret of its receiver")
}

func TestOperationsPauseAndResume(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ops := operationsOf(t, f)
	f.create(t, "Archive")
	ops.as(t, asStaff, "/pause", nil).is(ok).says("for any organization", "The 0 attempts in flight end by themselves", "Cancel")
	require.False(t, f.overview(t).Paused, "asking changes nothing")

	next := ops.as(t, asStaff, "/pause", url.Values{}).leadsTo()
	require.Equal(t, "/?said=paused", next)
	ops.as(t, asStaff, next, nil).is(ok).says("The dispatchers are paused.", "All dispatchers are paused.", asStaff+" paused them at", "Resume").
		saysNot("Pause all dispatchers")
	f.publish(t)
	f.deliver(t, answers(http.StatusNoContent, ""))
	require.Equal(t, 1, f.overview(t).Ready, "nothing is attempted")
	f.clock.Advance(time.Hour)
	ops.as(t, asStaff, "/pause", url.Values{}).leadsTo()
	ops.as(t, asStaff, "/", nil).says("1 h ago . Nothing is attempted")

	ops.as(t, asStaff, "/resume", nil).is(ok).says("1 delivery is due and will be attempted at once")
	next = ops.as(t, asStaff, "/resume", url.Values{}).leadsTo()
	ops.as(t, asStaff, next, nil).is(ok).says("The dispatchers go on.", "Pause all dispatchers").saysNot("All dispatchers are paused")
	f.deliver(t, answers(http.StatusNoContent, ""))
	require.Equal(t, webhook.Overview{}, f.overview(t))
}

// The page has the panel's headers and takes forms only from itself.
func TestOperationsAreAsSafeAsThePanel(t *testing.T) {
	t.Parallel()
	f := operationsOf(t, newFixture(t))
	for _, path := range []string{"/", "/pause", "/resume", "/nothing"} {
		page := f.as(t, asStaff, path, nil)
		h := page.Header()
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'")
		require.Equal(t, "DENY", h.Get("X-Frame-Options"))
		require.Equal(t, "no-store", h.Get("Cache-Control"))
		require.NotRegexp(t, `(?i)<style|<script(?:\s[^>]*)?>[^<]|\sstyle\s*=|\son[a-z]+\s*=|javascript:|Zgotmpl`, page.Body.String())
	}
	for _, site := range []string{"cross-site", "same-site"} {
		f.raw(t, http.MethodPost, "/pause", func(r *http.Request) {
			r.Header.Set("Test-Actor", asStaff)
			r.Header.Set("Sec-Fetch-Site", site)
		}).is(refused)
	}
	require.False(t, f.overview(t).Paused)
	css := f.as(t, "", "/assets/panel.css", nil).is(ok)
	require.Contains(t, css.Header().Get("Content-Type"), "text/css")
	r := httptest.NewRequest(http.MethodGet, mount, nil)
	w := httptest.NewRecorder()
	http.StripPrefix(mount, f.host).ServeHTTP(w, r)
	require.NotEqual(t, http.StatusInternalServerError, w.Code)
}

// Names are text of customers, and so is what they call their organizations.
func TestOperationsEscapeTexts(t *testing.T) {
	t.Parallel()
	for _, text := range evil {
		f := newFixture(t)
		owner := webhook.Actor{ID: "olga", OrganizationID: text, Role: webhook.RoleOwner}
		w, _, err := f.manager.Create(t.Context(), owner, webhook.WebhookInput{
			Name: text, EndpointURL: endpointURL, Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
		})
		require.NoError(t, err)
		_, err = f.publisher.Publish(t.Context(), webhook.Event{OrganizationID: text, Type: webhook.EventMessageSent, Subject: room, Data: "x"})
		require.NoError(t, err)
		ops := operationsOf(t, f, func(c *adminui.OperationsConfig) {
			c.Staff = func(*http.Request) (string, bool) { return text, true }
			c.Title = text
			c.Links = []adminui.Link{{Title: text, URL: "/" + text}}
			c.WebhookLink = func(organization string, id uuid.UUID) string {
				require.Equal(t, text, organization)
				require.Equal(t, w.ID, id)
				return text
			}
		})
		ops.as(t, asStaff, "/pause", url.Values{}).leadsTo()
		for _, path := range []string{"/", "/pause", "/resume", "/?said=" + url.QueryEscape(text)} {
			page := ops.as(t, asStaff, path, nil).is(ok)
			for _, harm := range []string{"<script>alert", "<img src=x", `"><img`, "' onmouseover='", `href="javascript:`} {
				require.NotContains(t, page.Body.String(), harm, path)
			}
		}
		ops.as(t, asStaff, "/", nil).says(text + " paused them at")
	}
}

func TestOperationsLinkToWebhooksIfTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	f.publish(t)
	ops := operationsOf(t, f, func(c *adminui.OperationsConfig) {
		c.WebhookLink = func(organization string, id uuid.UUID) string { return "/support/" + organization + "/" + id.String() }
	})
	require.Contains(t, ops.as(t, asStaff, "/", nil).Body.String(), `<a class="main-link" href="/support/acme/`+w.ID.String()+`">Archive</a>`)
}

// busyStore cannot count in time, but takes what is written.
type busyStore struct{ *memstore.Store }

func (busyStore) Overview(context.Context, webhook.OverviewParams) (webhook.Overview, error) {
	return webhook.Overview{}, context.DeadlineExceeded
}

// A queue that is too long to be counted is a reason to pause.
func TestOperationsPauseABusyStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var err error
	f.dispatcher, err = webhook.NewDispatcher(busyStore{f.store}, webhook.DispatcherConfig{HTTPDoer: f, Clock: f.clock})
	require.NoError(t, err)
	ops := operationsOf(t, f)
	page := ops.as(t, asStaff, "/", nil).is(ok).says("The store does not answer.")
	require.Contains(t, page.Body.String(), `href="pause"`)
	require.Contains(t, page.Body.String(), `href="resume"`)
	ops.as(t, asStaff, "/pause", nil).is(ok).says("Attempts in flight end by themselves, and are recorded.").saysNot("The 0 attempts")
	ops.as(t, asStaff, "/pause", url.Values{}).leadsTo()
	require.True(t, f.overview(t).Paused)
	ops.as(t, asStaff, "/resume", nil).is(ok).says("What is due will be attempted at once").saysNot("0 deliveries")
	ops.as(t, asStaff, "/resume", url.Values{}).leadsTo()
	require.False(t, f.overview(t).Paused)
}

// unhurriedStore takes its time to count, and finds what there was before.
type unhurriedStore struct{ *memstore.Store }

func (s unhurriedStore) Overview(ctx context.Context, p webhook.OverviewParams) (webhook.Overview, error) {
	o, err := s.Store.Overview(ctx, p)
	time.Sleep(2 * time.Second) //nolint:forbidigo // inside a synctest bubble
	return o, err
}

// A look that began before a pause does not hide it afterwards.
func TestOperationsShowAPauseAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var err error
		f.dispatcher, err = webhook.NewDispatcher(unhurriedStore{f.store}, webhook.DispatcherConfig{HTTPDoer: f, Clock: f.clock})
		require.NoError(t, err)
		ops := operationsOf(t, f)
		var looking sync.WaitGroup
		looking.Go(func() { ops.as(t, asStaff, "/", nil).is(ok).says("Pause all dispatchers") })
		synctest.Wait()
		ops.as(t, asStaff, "/pause", url.Values{}).leadsTo()
		looking.Wait()
		ops.as(t, asStaff, "/", nil).is(ok).says("All dispatchers are paused.")
	})
}

// silentStore does not answer the staff.
type silentStore struct {
	*memstore.Store
	err error
}

func (s silentStore) Overview(context.Context, webhook.OverviewParams) (webhook.Overview, error) {
	return webhook.Overview{}, s.err
}

func (s silentStore) SetPaused(context.Context, webhook.SetPausedParams) error { return s.err }

// The page is there when the store is not, which is when people look at it.
func TestOperationsWithoutTheStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var err error
	f.dispatcher, err = webhook.NewDispatcher(silentStore{f.store, errors.New("dial tcp: <refused>")}, webhook.DispatcherConfig{HTTPDoer: f, Clock: f.clock})
	require.NoError(t, err)
	ops := operationsOf(t, f)
	ops.as(t, asStaff, "/", nil).is(ok).says("The store does not answer.", "dial tcp: <refused>", "This process", "0 of 1,024 slots").
		saysNot("Nothing is due", "Last purge")
	ops.as(t, asStaff, "/pause", url.Values{}).is(http.StatusInternalServerError).saysNot("dial tcp")
}
