package adminui_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
)

// raw sends a request as an admin.
func (f *fixture) raw(t testing.TB, method, path string, edit func(*http.Request)) answer {
	t.Helper()
	r := httptest.NewRequest(method, mount+path, nil)
	r.Header.Set("Test-Actor", asAdmin)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	f.host.ServeHTTP(w, r)
	return answer{w, t, path}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	for _, r := range routes {
		for _, who := range askers {
			got := s.as(t, who, s.ids.Replace(r.path), r.form)
			h := got.Header()
			require.Equal(t, policy, h.Get("Content-Security-Policy"))
			require.Equal(t, "DENY", h.Get("X-Frame-Options"))
			require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
			require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
			require.Equal(t, "no-store", h.Get("Cache-Control"), r.path)
			if got.Code != leads {
				require.NotEmpty(t, h.Get("Content-Type"))
			}
		}
	}
}

func TestFraming(t *testing.T) {
	t.Parallel()
	for want, ancestors := range map[string][]string{
		"'none' DENY":                   nil,
		"'self' SAMEORIGIN":             {"'self'"},
		"https://app.example.com ":      {"https://app.example.com"},
		"'self' http://localhost:3000 ": {"'self'", "http://localhost:3000"},
	} {
		f := newFixture(t, func(c *adminui.Config) { c.FrameAncestors = ancestors })
		h := f.get(t, "/").is(ok).Header()
		_, policy, _ := strings.Cut(h.Get("Content-Security-Policy"), "frame-ancestors ")
		require.Equal(t, want, policy+" "+h.Get("X-Frame-Options"))
	}
}

// The policy forbids what templates must therefore not have.
func TestPagesHaveNothingInline(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	inline := regexp.MustCompile(`(?i)<style|<script(?:\s[^>]*)?>[^<]|\sstyle\s*=|\son[a-z]+\s*=\s*["']|javascript:|ZgotmplZ|ZgotmplF`)
	elsewhere := regexp.MustCompile(`(?:src|href|action)="(?:https?:)?//`)
	for _, r := range routes {
		for _, who := range []string{asAdmin, asViewer, ""} {
			if strings.HasPrefix(r.path, "/assets") {
				continue
			}
			body := s.as(t, who, s.ids.Replace(r.path), r.form).Body.String()
			require.NotRegexp(t, inline, body, r.path)
			require.NotRegexp(t, elsewhere, body, r.path)
		}
	}
}

func TestOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header map[string]string
		want   int
	}{
		"SameOrigin":               {map[string]string{"Sec-Fetch-Site": "same-origin"}, leads},
		"AddressBar":               {map[string]string{"Sec-Fetch-Site": "none"}, leads},
		"CrossSite":                {map[string]string{"Sec-Fetch-Site": "cross-site"}, refused},
		"SameSite":                 {map[string]string{"Sec-Fetch-Site": "same-site"}, refused},
		"CrossSiteWithOurOrigin":   {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://example.com"}, refused},
		"OldBrowserSameOrigin":     {map[string]string{"Origin": "http://example.com"}, leads},
		"OldBrowserOtherOrigin":    {map[string]string{"Origin": "https://evil.example"}, refused},
		"OldBrowserOpaqueOrigin":   {map[string]string{"Origin": "null"}, refused},
		"NoBrowser":                {nil, leads},
		"TrustedOrigin":            {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.com"}, leads},
		"TrustedOriginOtherScheme": {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://app.example.com"}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, func(c *adminui.Config) { c.TrustedOrigins = []string{"https://app.example.com"} })
			w := f.create(t, "Archive")
			got := f.raw(t, http.MethodPost, "/"+w.ID.String()+"/delete", func(r *http.Request) {
				for k, v := range c.header {
					r.Header.Set(k, v)
				}
			}).is(c.want)
			if c.want == refused {
				got.says("This came from another page")
				require.Len(t, f.webhooks(t), 1)
			} else {
				require.Empty(t, f.webhooks(t))
			}
		})
	}
}

// Nobody is asked for who they are before the request's origin is known, and nothing
// is said about the host's own errors.
func TestErrorsOfTheHostStayInside(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.as(t, "", "/", nil).is(unknown).says("You are not signed in").saysNot("7b9f", "own words")
	f.as(t, "barred@acme", "/", nil).is(refused)
}

func TestFormsHaveABound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	form := newForm()
	form.Set("description", strings.Repeat("x", 1<<20))
	f.post(t, "/new", form).is(http.StatusBadRequest)
	require.Empty(t, f.webhooks(t))
}

// evil are texts that would do something if a page had them as they are.
var evil = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`' onmouseover='alert(1)`,
	`</title></textarea></code></pre><script>alert(1)</script>`,
	`{{.Secret}}{{template "main"}}`,
	`javascript:alert(1)`,
}

func TestTextsAreEscaped(t *testing.T) {
	t.Parallel()
	types := []webhook.EventTypeInfo{{Type: "odd", Title: `<script>alert("type")</script>`, Description: `<img src=x onerror=alert("about")>`}}
	subjects := []webhook.SubjectTypeInfo{{
		Type: "thing", Title: `<b onclick=alert(1)>Thing</b>`, Description: "<i>things</i>", ParseID: func(id string) (string, error) { return id, nil },
	}}
	catalog, err := webhook.NewCatalog(subjects, types)
	require.NoError(t, err)
	for _, text := range evil {
		f := newFixtureOn(t, webhook.ManagerConfig{Catalog: catalog}, func(c *adminui.Config) {
			c.Actor = func(*http.Request) (webhook.Actor, error) {
				return webhook.Actor{ID: text, OrganizationID: text, Role: webhook.RoleOwner}, nil
			}
			c.Title = text
			c.Links = []adminui.Link{{Title: text, URL: "/" + text}}
		})
		owner := webhook.Actor{ID: text, OrganizationID: text, Role: webhook.RoleOwner}
		w, _, err := f.manager.Create(t.Context(), owner, webhook.WebhookInput{
			Name: text, Description: text, EndpointURL: "https://evil.example.com/" + url.PathEscape(text) + "?q=%3Cscript%3E'\"",
			Subscriptions: []webhook.Subscription{{
				Subject: webhook.Subject{Type: "thing", ID: text}, EventType: "odd", Filter: map[string]string{text: text},
			}},
		})
		require.NoError(t, err)
		_, err = f.publisher.Publish(t.Context(), webhook.Event{
			OrganizationID: text, Type: "odd", Subject: webhook.Subject{Type: "thing", ID: text}, Data: text, Attributes: map[string]string{text: text},
		})
		require.NoError(t, err)
		f.answer = answers(http.StatusTeapot, text+"\x00\xff\u202e")
		_, err = f.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		p, err := f.manager.Deliveries(t.Context(), owner, webhook.DeliveryQuery{})
		require.NoError(t, err)
		require.Len(t, p.Items, 1)

		id := w.ID.String()
		pages := []answer{
			f.get(t, "/"), f.get(t, "/?q="+url.QueryEscape(text)), f.get(t, "/new"), f.get(t, "/log"), f.get(t, "/deliveries"),
			f.get(t, "/"+id), f.get(t, "/"+id+"/edit"), f.get(t, "/"+id+"/log"), f.get(t, "/"+id+"/log?since="+url.QueryEscape(text)),
			f.get(t, "/"+id+"/test"), f.get(t, "/"+id+"/recover"), f.get(t, "/"+id+"/recover?since="+url.QueryEscape(text)), f.get(t, "/"+id+"/delete"),
			f.get(t, "/"+id+"/troubleshooting"), f.get(t, "/deliveries/"+p.Items[0].ID.String()), f.get(t, "/"+id+"?said="+url.QueryEscape(text)),
			f.post(t, "/new", url.Values{"name": {text + "\x00"}, "endpoint_url": {text}, "subject_id": {text}, "event": {text}, "key": {text}, "description": {text}}),
			f.post(t, "/"+id+"/edit", url.Values{"version": {"7"}, "name": {text}, "endpoint_url": {endpointURL}, "status": {"active"}, "event": {"thing:" + url.QueryEscape(text) + ":odd"}}),
			f.post(t, "/"+id+"/edit", url.Values{"version": {"1"}, "name": {text}, "endpoint_url": {text}, "status": {text}, "event": {text}}),
			f.post(t, "/"+id+"/test", url.Values{"event_type": {text}}),
		}
		for _, page := range pages {
			require.NotEqual(t, http.StatusInternalServerError, page.Code, page.path)
			body := page.Body.String()
			for _, harm := range []string{"<script>alert", "<img src=x", "onerror=alert(1)>", "' onmouseover='", "<b onclick", "<i>things", `href="javascript:`, "\x00", "\u202e"} {
				require.NotContains(t, body, harm, page.path)
			}
		}
		require.Contains(t, f.get(t, "/deliveries/"+p.Items[0].ID.String()).text(), "␀\ufffd⟨U+202E⟩", "what the receiver said, so that it can be seen")
	}
}
