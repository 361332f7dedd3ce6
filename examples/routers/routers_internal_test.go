package routers

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode) // says nothing of its routes
	os.Exit(m.Run())
}

const room = "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"

var (
	olga = webhook.Actor{ID: "olga", OrganizationID: "acme", Role: webhook.RoleOwner}
	vic  = webhook.Actor{ID: "vic", OrganizationID: "acme", Role: webhook.RoleViewer}
)

// site is one router with everything mounted, and somebody who sends it requests.
type site struct {
	t      *testing.T
	server *httptest.Server
	client *http.Client
	people people
	tokens tokens
}

func newSite(t *testing.T, router func(parts) http.Handler) site {
	t.Helper()
	mgr, err := webhook.NewManager(memstore.New(), webhook.ManagerConfig{})
	require.NoError(t, err)
	s := site{t: t, people: people{"olga": olga, "vic": vic}, tokens: tokens{}}
	p, err := newParts(mgr, newSessions(), s.people, s.tokens)
	require.NoError(t, err)
	s.server = httptest.NewTLSServer(router(p)) // cookies are for HTTPS only
	t.Cleanup(s.server.Close)
	return s.somebodyElse()
}

// somebodyElse is another browser.
func (s site) somebodyElse() site {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	s.client = &http.Client{Transport: s.server.Client().Transport, Jar: jar}
	return s
}

type answer struct {
	*http.Response
	text string
}

// asks sends a request, follows redirects, and returns what comes in the end.
func (s site) asks(method, at, body string, header ...string) answer {
	s.t.Helper()
	if strings.HasPrefix(at, "/") {
		at = s.server.URL + at
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, at, strings.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(r)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return answer{resp, string(text)}
}

// sends is a form of a page of the site itself, or of another one.
func (s site) sends(at string, form url.Values, from string) answer {
	s.t.Helper()
	return s.asks(http.MethodPost, at, form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", from)
}

func (s site) signsIn(name string) site {
	s.t.Helper()
	page := s.sends("/sign-in", url.Values{"name": {name}}, "same-origin")
	require.Equal(s.t, http.StatusOK, page.StatusCode)
	require.Equal(s.t, "/admin/webhooks/", page.Request.URL.Path)
	return s
}

func eachRouter(t *testing.T, check func(*testing.T, site)) {
	t.Helper()
	for name, router := range map[string]func(parts) http.Handler{
		"net_http": withNetHTTP, "chi": withChi, "gin": withGin, "echo": withEcho,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, newSite(t, router))
		})
	}
}

func TestPanelAsksForASession(t *testing.T) {
	t.Parallel()
	eachRouter(t, func(t *testing.T, s site) {
		t.Helper()
		page := s.asks(http.MethodGet, "/admin/webhooks/", "")
		require.Equal(t, "/sign-in", page.Request.URL.Path, "people are led to the login page")
		require.Equal(t, http.StatusForbidden, page.StatusCode)
		require.Equal(t, http.StatusUnauthorized, s.sends("/admin/webhooks/new", url.Values{"name": {"x"}}, "same-origin").StatusCode)
		require.Equal(t, http.StatusForbidden, s.sends("/sign-in", url.Values{"name": {"olga"}}, "cross-site").StatusCode)
		require.Equal(t, http.StatusForbidden, s.sends("/sign-in", url.Values{"name": {"mallory"}}, "same-origin").StatusCode)
		s.asks(http.MethodGet, "/sign-in?name=olga", "", "Sec-Fetch-Site", "cross-site")
		require.Equal(t, "/sign-in", s.asks(http.MethodGet, "/admin/webhooks/", "").Request.URL.Path, "a link signs nobody in")

		s.signsIn("olga")
		page = s.asks(http.MethodGet, "/admin/webhooks/", "")
		require.Equal(t, http.StatusOK, page.StatusCode)
		require.Contains(t, page.text, "Add Webhook")
		require.NotContains(t, s.somebodyElse().signsIn("vic").asks(http.MethodGet, "/admin/webhooks/", "").text, "Add Webhook")

		delete(s.people, "olga")
		require.Equal(t, "/sign-in", s.asks(http.MethodGet, "/admin/webhooks/", "").Request.URL.Path, "who may do what is looked up for each request")
	})
}

var links = regexp.MustCompile(`(?:href|src)="([^"#]+)"`)

// follows asks for everything that a page links to.
func (s site) follows(page answer) (kinds map[string]bool) {
	s.t.Helper()
	kinds = map[string]bool{}
	for _, m := range links.FindAllStringSubmatch(page.text, -1) {
		to, err := page.Request.URL.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
		require.NoError(s.t, err)
		if to.Host != page.Request.URL.Host {
			continue
		}
		require.True(s.t, strings.HasPrefix(to.Path, "/admin/webhooks/"), "%s links to %s", page.Request.URL, to)
		got := s.asks(http.MethodGet, to.String(), "")
		require.Equal(s.t, http.StatusOK, got.StatusCode, "%s links to %s", page.Request.URL, to)
		kind, _, _ := strings.Cut(got.Header.Get("Content-Type"), ";")
		kinds[kind] = true
	}
	return kinds
}

func TestPanelUnderItsPrefix(t *testing.T) {
	t.Parallel()
	eachRouter(t, func(t *testing.T, s site) {
		t.Helper()
		s.signsIn("olga")
		page := s.asks(http.MethodGet, "/admin/webhooks", "")
		require.Equal(t, http.StatusOK, page.StatusCode)
		require.Equal(t, "/admin/webhooks/", page.Request.URL.Path, "without its slash it leads there")
		require.Subset(t, s.follows(page), map[string]bool{"text/html": true, "text/css": true, "text/javascript": true, "image/svg+xml": true})

		form := url.Values{
			"key": {"one"}, "name": {"Archive"}, "endpoint_url": {"https://archive.example.com/in"},
			"subject_type": {"room"}, "subject_id": {room}, "event": {"message_sent"},
		}
		require.Equal(t, http.StatusForbidden, s.sends("/admin/webhooks/new", form, "cross-site").StatusCode)
		require.Equal(t, http.StatusForbidden, s.somebodyElse().signsIn("vic").sends("/admin/webhooks/new", form, "same-origin").StatusCode)
		page = s.sends("/admin/webhooks/new", form, "same-origin")
		require.Equal(t, http.StatusCreated, page.StatusCode)
		require.Contains(t, page.text, "whsec_")

		list := s.asks(http.MethodGet, "/admin/webhooks/", "")
		require.Contains(t, list.text, "Archive")
		id := regexp.MustCompile(`href="([0-9a-f-]{36})"`).FindStringSubmatch(list.text)
		require.NotNil(t, id)
		for _, path := range []string{"", "/edit", "/log", "/test"} {
			page = s.asks(http.MethodGet, "/admin/webhooks/"+id[1]+path, "")
			require.Equal(t, http.StatusOK, page.StatusCode, path)
			s.follows(page)
		}
		require.Equal(t, http.StatusNotFound, s.asks(http.MethodGet, "/admin/webhooks/nothing/here", "").StatusCode)
	})
}

func TestAPIAsksForAToken(t *testing.T) {
	t.Parallel()
	eachRouter(t, func(t *testing.T, s site) {
		t.Helper()
		const at = "/api/v1/organizations/acme/webhooks"
		token, viewer := s.tokens.issue(olga), s.tokens.issue(vic)
		body := `{"content":{"name":"Archive","endpoint_url":"https://archive.example.com/in","subscriptions":[` +
			`{"subject_type":"WEBHOOK_SUBJECT_TYPE_ROOM","subject_id":"` + room + `","subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}]}}`

		s.signsIn("olga")
		for _, authorization := range []string{"", "Bearer ", "Bearer " + token + "x", "Basic " + token} {
			got := s.asks(http.MethodGet, at, "", "Authorization", authorization)
			require.Equal(t, http.StatusUnauthorized, got.StatusCode, "%q, and a session is no token", authorization)
			require.Equal(t, "application/problem+json", got.Header.Get("Content-Type"))
		}
		asks := func(token, method, at, body string) answer {
			return s.asks(method, at, body, "Authorization", "Bearer "+token, "Content-Type", "application/json")
		}
		require.Equal(t, http.StatusForbidden, asks(viewer, http.MethodPost, at, body).StatusCode)
		created := asks(token, http.MethodPost, at, body)
		require.Equal(t, http.StatusCreated, created.StatusCode, created.text)
		list := asks(viewer, http.MethodGet, at, "")
		require.Equal(t, http.StatusOK, list.StatusCode)
		require.Contains(t, list.text, `"name":"Archive"`)
		require.Equal(t, http.StatusNotFound, asks(token, http.MethodGet, "/api/v1/organizations/other/webhooks", "").StatusCode)
		require.Equal(t, http.StatusOK, asks(token, http.MethodGet, "/api/v1/openapi.json", "").StatusCode)
		require.Equal(t, http.StatusNotFound, asks(token, http.MethodGet, "/api/v1/nothing", "").StatusCode)

		id := regexp.MustCompile(`"id":"([0-9a-f-]{36})"`).FindStringSubmatch(created.text)
		changed := asks(token, http.MethodPatch, at+"/"+id[1], `{"content":{"name":"Messages"},"version":1}`)
		require.Equal(t, http.StatusOK, changed.StatusCode, changed.text)
		require.Equal(t, http.StatusNoContent, asks(token, http.MethodDelete, at+"/"+id[1], "").StatusCode)
	})
}
