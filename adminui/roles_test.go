package adminui_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// scene is a fixture in which every page has something to be about.
type scene struct {
	*fixture
	ids *strings.Replacer // of a route's path
}

func newScene(t testing.TB) *scene {
	t.Helper()
	f := newFixture(t)
	doomed := f.create(t, "Doomed")
	w := f.create(t, "Archive")
	tested, err := f.manager.SendTest(t.Context(), admin, w.ID, webhook.EventMessageSent)
	require.NoError(t, err)
	f.publish(t)
	f.exhaust(t, "the receiver's own words")
	failed := f.newest(t, w.ID)
	require.Equal(t, webhook.DeliveryFailed, failed.State)
	f.publish(t)
	require.NoError(t, f.manager.Delete(t.Context(), admin, doomed.ID))
	return &scene{f, strings.NewReplacer(
		"{webhook}", w.ID.String(), "{failed}", failed.ID.String(), "{pending}", f.newest(t, w.ID).ID.String(), "{deleted}", doomed.ID.String(),
		"{tested}", tested.ID.String(), "{event}", failed.EventID.String(),
	)}
}

// everything is what the organization has.
func (s *scene) everything(t testing.TB) string {
	t.Helper()
	deliveries, err := s.manager.Deliveries(t.Context(), admin, webhook.DeliveryQuery{})
	require.NoError(t, err)
	return fmt.Sprintf("%+v\n%+v", s.webhooks(t), deliveries.Items)
}

// The people who ask, in the order of a route's row.
var askers = []string{asOwner, asAdmin, asViewer, "none@acme", "stranger@acme", "barred@acme", "", "owner@rival"}

const (
	ok      = http.StatusOK
	made    = http.StatusCreated
	leads   = http.StatusSeeOther
	unknown = http.StatusUnauthorized
	refused = http.StatusForbidden
	missing = http.StatusNotFound
)

var routes = []struct {
	method, path string
	form         url.Values
	want         [8]int // of each asker: owner, admin, viewer, no role, unknown role, refused by the host, not signed in, another organization's owner
}{
	{"GET", "/", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/log", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/log?since=nonsense", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/log.ndjson", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/deliveries", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/event-types", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/troubleshooting", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/explain", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/explain?event={event}", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, 422}},
	{"GET", "/explain?event_type=message_sent&subject_type=room&subject_id=" + roomID, nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, ok}},
	{"GET", "/explain?event_type=nonsense", nil, [8]int{422, 422, 422, refused, refused, refused, unknown, 422}},
	{"GET", "/new", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, ok}},
	{"POST", "/new", newForm(), [8]int{made, made, refused, refused, refused, refused, unknown, made}},
	{"POST", "/new", url.Values{}, [8]int{422, 422, refused, refused, refused, refused, unknown, 422}},

	{"GET", "/{webhook}", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}?range=30d", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/log", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/log?since=nonsense", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/log.ndjson", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/log.ndjson?since=nonsense", nil, [8]int{400, 400, 400, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/deliveries", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/deliveries?since=nonsense", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/troubleshooting", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/edit", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, missing}},
	{"POST", "/{webhook}/edit", editForm(), [8]int{leads, leads, refused, refused, refused, refused, unknown, missing}},
	{"POST", "/{webhook}/edit", url.Values{}, [8]int{422, 422, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/test", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/test?delivery={tested}", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/test?delivery={failed}", nil, [8]int{missing, missing, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/test?delivery=nonsense", nil, [8]int{missing, missing, refused, refused, refused, refused, unknown, missing}},
	{"POST", "/{webhook}/test", url.Values{"event_type": {"message_sent"}}, [8]int{leads, leads, refused, refused, refused, refused, unknown, missing}},
	{"POST", "/{webhook}/test", url.Values{}, [8]int{422, 422, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/recover", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/recover?since=2026-01-01", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/recover?done=yes&redelivered=1", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, missing}},
	{"POST", "/{webhook}/recover", url.Values{"since": {"2026-01-01"}}, [8]int{leads, leads, refused, refused, refused, refused, unknown, missing}},
	{"POST", "/{webhook}/recover", url.Values{}, [8]int{422, 422, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/{webhook}/delete", nil, [8]int{ok, ok, refused, refused, refused, refused, unknown, missing}},
	{"POST", "/{webhook}/delete", url.Values{}, [8]int{leads, leads, refused, refused, refused, refused, unknown, missing}},

	{"GET", "/deliveries/{failed}", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/deliveries/{pending}", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/deliveries/{failed}/redeliver", nil, [8]int{leads, leads, leads, refused, refused, refused, unknown, missing}},
	{"POST", "/deliveries/{failed}/redeliver", url.Values{}, [8]int{leads, leads, refused, refused, refused, refused, unknown, missing}},
	{"GET", "/deliveries/{pending}/cancel", nil, [8]int{leads, leads, leads, refused, refused, refused, unknown, missing}},
	{"POST", "/deliveries/{pending}/cancel", url.Values{}, [8]int{leads, leads, refused, refused, refused, refused, unknown, missing}},

	{"GET", "/deleted/{deleted}", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/deleted/{webhook}", nil, [8]int{leads, leads, leads, refused, refused, refused, unknown, missing}},
	{"GET", "/{deleted}", nil, [8]int{missing, missing, missing, refused, refused, refused, unknown, missing}},
	{"GET", "/{deleted}/log", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{deleted}/deliveries", nil, [8]int{ok, ok, ok, refused, refused, refused, unknown, missing}},
	{"GET", "/{deleted}/edit", nil, [8]int{missing, missing, refused, refused, refused, refused, unknown, missing}},

	{"GET", "/assets/panel.css", nil, [8]int{ok, ok, ok, ok, ok, ok, ok, ok}},
	{"GET", "/assets/panel.js", nil, [8]int{ok, ok, ok, ok, ok, ok, ok, ok}},
	{"GET", "/assets/icon.svg", nil, [8]int{ok, ok, ok, ok, ok, ok, ok, ok}},
	{"GET", "/nothing", nil, [8]int{missing, missing, missing, missing, missing, refused, unknown, missing}},
	{"GET", "/{webhook}/nothing", nil, [8]int{missing, missing, missing, missing, missing, refused, unknown, missing}},
}

// newForm is a form for a webhook as a browser sends it.
func newForm() url.Values {
	return url.Values{
		"key": {"form-1"}, "name": {"Bot"}, "description": {"Answers.\r\nSometimes."}, "endpoint_url": {"https://bot.example.com/hook"},
		"subject_type": {"room"}, "subject_id": {roomID}, "event": {"message_sent"},
	}
}

// editForm is one for the scene's webhook.
func editForm() url.Values {
	return url.Values{
		"version": {"1"}, "name": {"Archive 2"}, "endpoint_url": {endpointURL}, "status": {"active"}, "event": {"room:" + roomID + ":message_sent"},
	}
}

// TestRolesAndRoutes asks for everything as everybody. Whoever is refused has changed
// nothing, and neither has anybody who only looked.
func TestRolesAndRoutes(t *testing.T) {
	t.Parallel()
	looked := newScene(t) // what nobody changes, all may share
	for _, r := range routes {
		for i, who := range askers {
			t.Run(fmt.Sprintf("%s %s %d fields/%s", r.method, r.path, len(r.form), who), func(t *testing.T) {
				t.Parallel()
				s := looked
				if r.method == http.MethodPost {
					s = newScene(t)
				}
				before := s.everything(t)

				got := s.as(t, who, s.ids.Replace(r.path), r.form)

				require.Equal(t, r.want[i], got.Code, "%s", got.text())
				changed := got.Code < 400 && r.method == http.MethodPost && who != "owner@rival"
				if changed {
					require.NotEqual(t, before, s.everything(t))
				} else {
					require.Equal(t, before, s.everything(t))
				}
				if got.Code == refused || got.Code == unknown || got.Code == missing {
					got.saysNot("Archive<", "archive.example.com", roomID, "own words", "whsec_")
				}
				if who != asOwner && who != asAdmin {
					got.saysNot("receiver's own words", "receiver&#39;s own words", "Tea at five?")
				}
			})
		}
	}
}

func TestEveryRouteIsInTheTable(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	inTable := map[string]bool{}
	for _, r := range routes {
		path, _, _ := strings.Cut(r.path, "?")
		inTable[r.method+" "+path] = true
	}
	for path := range inTable {
		_, path, _ := strings.Cut(path, " ")
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			var form url.Values
			if method == http.MethodPost {
				form = url.Values{}
			}
			if got := s.as(t, asOwner, s.ids.Replace(path), form); got.Code != http.StatusMethodNotAllowed && got.Code != missing {
				require.True(t, inTable[method+" "+path], "%s %s", method, path)
			}
		}
	}
}

func TestForeignRecordsLookLikeMissingOnes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	nowhere := strings.NewReplacer(
		"{webhook}", "00000000-0000-4000-8000-000000000001", "{failed}", "00000000-0000-4000-8000-000000000001",
		"{pending}", "00000000-0000-4000-8000-000000000001", "{deleted}", "00000000-0000-4000-8000-000000000001",
		"{tested}", "00000000-0000-4000-8000-000000000001", "{event}", "00000000-0000-4000-8000-000000000001",
	)
	for _, r := range routes {
		if r.want[7] != missing {
			continue
		}
		foreign, none := s.as(t, "owner@rival", s.ids.Replace(r.path), r.form), s.as(t, "owner@rival", nowhere.Replace(r.path), r.form)
		require.Equal(t, none.Body.String(), foreign.Body.String(), r.path)
	}
}

func TestViewersSeeNoControls(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, r := range routes {
		if r.method != http.MethodGet || r.want[2] != ok || strings.HasPrefix(r.path, "/assets/") {
			continue
		}
		page := s.as(t, asViewer, s.ids.Replace(r.path), nil)
		page.saysNot(`method="post"`, "Add Webhook", `/edit"`, `/delete"`, `/test"`, `/recover"`, "Redeliver<", ">Cancel<", "Payload", "As curl", "Response<")
		if r.want[1] == ok && (r.path == "/" || r.path == "/{webhook}") {
			require.Contains(t, s.get(t, s.ids.Replace(r.path)).Body.String(), `/edit"`)
		}
	}
	s.as(t, asViewer, s.ids.Replace("/deliveries/{failed}"), nil).is(ok).says("answered 500 Internal Server Error", "Attempt 6")
}

func TestMethods(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for path, allow := range map[string]string{
		"/": "GET, HEAD", "/new": "GET, HEAD, POST", "/log": "GET, HEAD", "/{webhook}/delete": "GET, HEAD, POST", "/deliveries/{failed}": "GET, HEAD",
	} {
		for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "PROPFIND"} {
			got := s.raw(t, method, s.ids.Replace(path), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") })
			got.is(http.StatusMethodNotAllowed)
			require.Equal(t, allow, got.Header().Get("Allow"))
		}
	}
	for _, r := range routes {
		if r.method == http.MethodGet && r.want[0] == ok && !strings.HasPrefix(r.path, "/assets") {
			s.raw(t, http.MethodHead, s.ids.Replace(r.path), nil).is(ok)
		}
	}
}

// An id is 36 characters. Everything else is the id of nothing, and never an error of
// ours.
func TestOddPaths(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.webhooks(t)[0].ID.String()
	for _, path := range []string{
		"/" + strings.ToUpper(id) + "/nothing", "/{" + id + "}", "/urn:uuid:" + id, "/" + strings.ReplaceAll(id, "-", ""), "/" + id + "/", "/" + id + "//log",
		"/deliveries/" + id + "/nothing", "/deliveries/x", "/deliveries/%00", "/deliveries/..%2f", "/deleted/x", "/%ff", "/" + strings.Repeat("a", 10_000), "/assets/",
		"/assets/..%2fadminui.go", "/assets/panel.css/", "/' or 1=1 --", "/log/", "/new/",
	} {
		escaped := strings.ReplaceAll(path, " ", "%20")
		got := s.get(t, escaped)
		require.Contains(t, []int{missing, http.StatusMovedPermanently, http.StatusTemporaryRedirect}, got.Code, "%s: %s", path, got.text())
		if got.Code != missing { // the mux of the host
			require.True(t, strings.HasPrefix(got.Header().Get("Location"), mount+"/"))
		}
	}
	s.get(t, "/"+strings.ToUpper(id)).is(ok) // the same UUID
	for _, query := range []string{"?cursor=x", "?cursor=" + strings.Repeat("A", 48), "?status=nonsense", "?status=Active"} {
		s.get(t, "/"+query).is(http.StatusBadRequest)
	}
	for _, query := range []string{"?cursor=x", "?state=nonsense", "?event_type=" + strings.Repeat("x", 200)} {
		s.get(t, "/"+id+"/log"+query).is(http.StatusBadRequest)
		s.get(t, "/"+id+"/deliveries"+query).is(http.StatusBadRequest)
		s.get(t, "/"+id+"/log.ndjson?"+strings.TrimPrefix(strings.Replace(query, "cursor=x", "state=x", 1), "?")).is(http.StatusBadRequest)
	}
	s.get(t, "/"+id+"/log?class=9").is(ok).says("no such class")
	s.get(t, "/"+id+"/log?since=2026-01-02&before=2026-01-01").is(ok).says("must be earlier")
}

func TestRequestsOfDeletedWebhooksLeadNowhereElse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	require.Equal(t, "/"+s.ids.Replace("{webhook}"), s.get(t, s.ids.Replace("/deleted/{webhook}")).leadsTo())
	s.clock.Advance(time.Hour)
	s.get(t, s.ids.Replace("/{deleted}/log")).is(ok).says("a webhook that was deleted")
}
