package adminui_test

import (
	"bytes"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
)

func TestNew(t *testing.T) {
	t.Parallel()
	m, err := webhook.NewManager(memstore.New(), webhook.ManagerConfig{})
	require.NoError(t, err)
	_, err = adminui.New(nil, adminui.Config{Actor: signedIn})
	require.ErrorContains(t, err, "the manager is nil")
	_, err = adminui.New(m, adminui.Config{})
	require.ErrorContains(t, err, "actor")
	for want, edit := range map[string]func(*adminui.Config){
		"accent_color":       func(c *adminui.Config) { c.AccentColor = "red;}body{display:none" },
		"accent_color: ":     func(c *adminui.Config) { c.AccentColor = "#12345" },
		"logo_url":           func(c *adminui.Config) { c.LogoURL = "http://example.com/logo.png" },
		"logo_url: ":         func(c *adminui.Config) { c.LogoURL = "//example.com/logo.png" },
		"logo_url: must":     func(c *adminui.Config) { c.LogoURL = "javascript:alert(1)" },
		"frame_ancestors[1]": func(c *adminui.Config) { c.FrameAncestors = []string{"'self'", "https://a.example; script-src *"} },
		"frame_ancestors[0]": func(c *adminui.Config) { c.FrameAncestors = []string{"*"} },
		"frame_ancestors":    func(c *adminui.Config) { c.FrameAncestors = []string{"https://a.example/path"} },
		"trusted_origins[0]": func(c *adminui.Config) { c.TrustedOrigins = []string{"a.example"} },
		"links[0]":           func(c *adminui.Config) { c.Links = []adminui.Link{{Title: "x", URL: "javascript:alert(1)"}} },
		"links[1]":           func(c *adminui.Config) { c.Links = []adminui.Link{{Title: "x", URL: "/"}, {URL: "/"}} },
		"attempt_timeout":    func(c *adminui.Config) { c.AttemptTimeout = -1 },
		"signature_header":   func(c *adminui.Config) { c.SignatureHeader = "X-A: b\r\nX-C" },
	} {
		cfg := adminui.Config{Actor: signedIn}
		edit(&cfg)
		_, err := adminui.New(m, cfg)
		require.ErrorContains(t, err, want)
	}
}

func TestBranding(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *adminui.Config) {
		c.Title, c.LogoURL, c.AccentColor = "Acme Webhooks", "https://cdn.example.com/logo.png", "#ffcc00"
		c.Links = []adminui.Link{{Title: "Sign out", URL: "/sign-out"}}
	})
	page := f.get(t, "/").is(ok).says("Acme Webhooks", "Sign out")
	require.Contains(t, page.Body.String(), `<img src="https://cdn.example.com/logo.png" alt=""`)
	require.Contains(t, page.Body.String(), `<a href="/sign-out">`)
	require.Contains(t, page.Header().Get("Content-Security-Policy"), "img-src 'self' https://cdn.example.com;")
	f.get(t, "/assets/panel.css").is(ok)
	require.Contains(t, f.get(t, "/assets/icon.svg").Body.String(), "#ffcc00")
}

// Whatever colour a host has, links and buttons can be read (WCAG 2.2, 1.4.3).
func TestAccentsCanBeRead(t *testing.T) {
	t.Parallel()
	value := func(css, name string) string {
		m := regexp.MustCompile(`--`+name+`:(#[0-9a-f]{6})`).FindAllStringSubmatch(css, -1)
		require.NotEmpty(t, m)
		return m[len(m)-1][1]
	}
	for _, accent := range []string{"#4f46e5", "#000000", "#ffffff", "#ffcc00", "#777777", "#00ff00", "#ff0000", "#0000ff", "#767676", "#e91e63"} {
		css, err := adminui.ColorsOf(accent)
		require.NoError(t, err)
		light, dark, _ := strings.Cut(css, "@media")
		require.GreaterOrEqual(t, contrast(t, value(light, "accent"), value(light, "on-accent")), 4.5, accent)
		for _, surface := range []string{"#ffffff", "#f6f7f9", "#f3f4f7"} {
			require.GreaterOrEqual(t, contrast(t, value(light, "link"), surface), 4.5, "%s on %s", accent, surface)
		}
		for _, surface := range []string{"#0e1218", "#161b24", "#1d2430"} {
			require.GreaterOrEqual(t, contrast(t, value(dark, "link"), surface), 4.5, "%s on %s", accent, surface)
		}
	}
}

// contrast is that of WCAG 2.2.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(s string) float64 {
		n, err := strconv.ParseUint(s[1:], 16, 32)
		require.NoError(t, err)
		sum := 0.0
		for i, weight := range []float64{0.0722, 0.7152, 0.2126} {
			v := float64(n>>(8*i)&0xff) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func TestAssetsAreKeptByTheirVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	href := regexp.MustCompile(`(?:href|src)="\./(assets/[^"]*)"`).FindAllStringSubmatch(f.get(t, "/").Body.String(), -1)
	require.Len(t, href, 3)
	for _, m := range href {
		got := f.as(t, "", "/"+m[1], nil).is(ok)
		require.Equal(t, "public, max-age=31536000, immutable", got.Header().Get("Cache-Control"))
	}
	require.Equal(t, "no-store", f.get(t, "/assets/panel.css").Header().Get("Cache-Control"))
	require.Equal(t, "no-store", f.get(t, "/assets/panel.css?v=old").Header().Get("Cache-Control"))
	require.Equal(t, "text/css; charset=utf-8", f.get(t, "/assets/panel.css").Header().Get("Content-Type"))
	require.Equal(t, "text/javascript; charset=utf-8", f.get(t, "/assets/panel.js").Header().Get("Content-Type"))
	f.post(t, "/assets/panel.css", nil).is(http.StatusMethodNotAllowed)

	other := newFixture(t, func(c *adminui.Config) { c.AccentColor = "#112233" })
	require.NotEqual(t, href[0][1], regexp.MustCompile(`href="\./(assets/icon[^"]*)"`).FindStringSubmatch(other.get(t, "/").Body.String())[1])
}

// TestLinksStayBelowThePrefix follows every link of every page, as a browser resolves
// it: with prefixes that the host strips, or a proxy in front of it.
func TestLinksStayBelowThePrefix(t *testing.T) {
	t.Parallel()
	for _, stripped := range []string{"", "/webhooks", "/a/b/c", "/admin/webhooks", "/stripped/with/its/slash/"} {
		prefix := strings.TrimSuffix(stripped, "/")
		t.Run(stripped, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			panel, err := adminui.New(s.manager, adminui.Config{Actor: signedIn, Clock: s.clock})
			require.NoError(t, err)
			host := http.StripPrefix(stripped, panel)
			link := regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
			seen, todo := map[string]bool{}, []string{prefix + "/"}
			for len(todo) > 0 {
				at := todo[0]
				todo = todo[1:]
				path, _, _ := strings.Cut(at, "?")
				if seen[path] {
					continue
				}
				seen[path] = true
				r := httptest.NewRequest(http.MethodGet, at, nil)
				r.Header.Set("Test-Actor", asOwner)
				w := httptest.NewRecorder()
				host.ServeHTTP(w, r)
				require.Contains(t, []int{ok, leads}, w.Code, at)
				from := &url.URL{Path: path}
				links := link.FindAllStringSubmatch(w.Body.String(), -1)
				if l := w.Header().Get("Location"); l != "" {
					links = append(links, []string{"", l})
				}
				for _, m := range links {
					to, err := url.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
					require.NoError(t, err)
					next := from.ResolveReference(to)
					require.Empty(t, next.Host)
					require.True(t, strings.HasPrefix(next.Path, prefix+"/"), "%s leads to %s", at, next)
					if !strings.Contains(next.Path, "ndjson") && !strings.HasPrefix(m[1], "#") {
						todo = append(todo, next.Path+"?"+next.RawQuery)
					}
				}
			}
			require.Greater(t, len(seen), 20)
		})
	}
}

func TestPrefixWithoutItsSlash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	panel, err := adminui.New(f.manager, adminui.Config{Actor: signedIn})
	require.NoError(t, err)
	for mounted, want := range map[string]string{"/hooks": "/hooks/", "/a/b": "/a/b/"} {
		w := httptest.NewRecorder()
		http.StripPrefix(mounted, panel).ServeHTTP(w, httptest.NewRequest(http.MethodGet, mounted+"?x=y", nil))
		require.Equal(t, leads, w.Code)
		to, err := url.Parse(w.Header().Get("Location"))
		require.NoError(t, err)
		require.Equal(t, want, (&url.URL{Path: mounted}).ResolveReference(to).Path)
	}
}

// Without a mux in front, nothing else makes paths clean; a redirect would lead out of
// the prefix.
func TestUncleanPaths(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	panel, err := adminui.New(s.manager, adminui.Config{Actor: signedIn})
	require.NoError(t, err)
	s.host = http.StripPrefix(mount, panel)
	for _, path := range []string{"//", "/./", "/{webhook}/", "/{webhook}//log", "/{webhook}/../new", "/deliveries/", "/deliveries//{failed}", "/log/..", "/assets//panel.css"} {
		s.get(t, s.ids.Replace(path)).is(missing)
	}
}

func TestLogging(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := newFixture(t, func(c *adminui.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	f.post(t, "/new", newForm()).is(http.StatusCreated)
	f.get(t, "/").is(ok)
	require.Empty(t, log.String(), "silent while all is well")
	f.as(t, "", "/", nil).is(unknown)
	require.Contains(t, log.String(), "level=DEBUG")
	require.Contains(t, log.String(), "7b9f")
	require.NotContains(t, log.String(), "whsec_")
}

// docs/configuration.md lists every field, in the order of the struct.
func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), "| `adminui.Config` | default | meaning |\n|---|---|---|\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	var got, want []string
	for row := range strings.Lines(table) {
		for name := range strings.SplitSeq(strings.Split(row, "|")[1], ",") {
			got = append(got, strings.Trim(name, " `"))
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[adminui.Config]()) {
		want = append(want, f.Name)
	}
	require.Equal(t, want, got)
}
