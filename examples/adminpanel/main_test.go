package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// output is what a program prints; ready is closed when it serves.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer close(o.ready) // it prints once
	return o.text.Write(b)
}

var readyAt = regexp.MustCompile(`^adminpanel: ready at (http://127\.0\.0\.1:\d+)\n`)

// begin starts the program and returns where it is; it ends with the test, or by stop.
func begin(t *testing.T, data string) (at string, stop func()) {
	t.Helper()
	out := &output{ready: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, out, "127.0.0.1:0", data) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	select {
	case <-out.ready:
	case err := <-ended:
		require.NoError(t, err, "it ended before it was ready")
	}
	found := readyAt.FindStringSubmatch(out.text.String())
	require.NotNil(t, found, out.text.String())
	return found[1], stop
}

// person is somebody with a browser.
type person struct {
	t      *testing.T
	client *http.Client
}

func newPerson(t *testing.T) person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return person{t, &http.Client{Jar: jar}}
}

// asks returns the status and the text of a page, after redirects.
func (p person) asks(method, at string, form url.Values, header ...string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, at, strings.NewReader(form.Encode()))
	require.NoError(p.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(r)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, string(body)
}

func TestApplication(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "new", "panel #1%?.db")
	at, stop := begin(t, data)
	panel := at + "/admin/webhooks/"

	nobody := newPerson(t)
	status, page := nobody.asks(http.MethodGet, at+"/", nil)
	require.Equal(t, http.StatusOK, status)
	for _, name := range []string{"Olga, owner", "Ada, admin", "Sam, staff", "Vic, viewer"} {
		require.Contains(t, page, name)
	}
	status, page = nobody.asks(http.MethodGet, panel, nil)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "Sign in as", "it leads to the login page")
	status, _ = nobody.asks(http.MethodPost, panel+"new", url.Values{})
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = nobody.asks(http.MethodPost, at+"/sign-in", url.Values{"user": {"mallory"}})
	require.Equal(t, http.StatusForbidden, status)
	status, _ = nobody.asks(http.MethodPost, at+"/sign-in", url.Values{"user": {"olga"}}, "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusForbidden, status)

	api := at + "/v1/organizations/acme/webhooks"
	status, _ = nobody.asks(http.MethodGet, api, nil)
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = nobody.asks(http.MethodGet, api, nil, "Authorization", "Bearer mallory")
	require.Equal(t, http.StatusUnauthorized, status)
	status, page = nobody.asks(http.MethodGet, api, nil, "Authorization", "Bearer vic")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "Message archive")

	olga, vic := newPerson(t), newPerson(t)
	status, page = olga.asks(http.MethodPost, at+"/sign-in", url.Values{"user": {"olga"}})
	require.Equal(t, http.StatusOK, status)
	for _, s := range samples {
		require.Contains(t, page, s.name)
	}
	require.Contains(t, page, "Add Webhook")
	status, page = olga.asks(http.MethodGet, panel+"log", nil)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "answered 500 Internal Server Error")
	require.Contains(t, page, "answered 401 Unauthorized")

	status, page = vic.asks(http.MethodPost, at+"/sign-in", url.Values{"user": {"vic"}})
	require.Equal(t, http.StatusOK, status)
	require.NotContains(t, page, "Add Webhook")
	status, _ = vic.asks(http.MethodGet, panel+"new", nil)
	require.Equal(t, http.StatusForbidden, status)

	sam, operations := newPerson(t), at+operationsPath+"/"
	status, page = sam.asks(http.MethodPost, at+"/sign-in", url.Values{"user": {"sam"}})
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "Pause all dispatchers")
	status, page = sam.asks(http.MethodPost, operations+"pause", url.Values{})
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "sam paused them at")
	status, page = sam.asks(http.MethodPost, operations+"resume", url.Values{})
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "The dispatchers go on.")
	status, _ = sam.asks(http.MethodGet, panel, nil)
	require.Equal(t, http.StatusForbidden, status, "the panel is for customers")
	status, _ = olga.asks(http.MethodGet, operations, nil)
	require.Equal(t, http.StatusNotFound, status)

	status, page = olga.asks(http.MethodGet, at+"/sign-out", nil)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "Sign in as")
	_, page = olga.asks(http.MethodGet, panel, nil)
	require.Contains(t, page, "Sign in as")

	// What is kept in a file is there again, and its receivers, at another address,
	// still know the secrets.
	stop()
	at, _ = begin(t, data)
	status, page = newPerson(t).asks(http.MethodGet, at+"/v1/organizations/acme/webhooks", nil, "Authorization", "Bearer olga")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, len(samples), strings.Count(page, `"endpoint_url"`))
}

func TestAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.Error(t, run(t.Context(), io.Discard, l.Addr().String(), filepath.Join(t.TempDir(), "x.db")))
}

func TestSendTestEvent(t *testing.T) {
	t.Parallel()
	at, _ := begin(t, "")
	p := newPerson(t)
	_, _ = p.asks(http.MethodPost, at+"/sign-in", url.Values{"user": {"ada"}})
	_, list := p.asks(http.MethodGet, at+"/v1/organizations/acme/webhooks", nil, "Authorization", "Bearer ada")
	id := regexp.MustCompile(`"id":"([0-9a-f-]{36})"`).FindStringSubmatch(list)
	require.NotNil(t, id)
	status, page := p.asks(http.MethodPost, at+"/admin/webhooks/"+id[1]+"/test", url.Values{"event_type": {"message_sent"}})
	require.Equal(t, http.StatusOK, status, page)
	require.Contains(t, page, "The test event is on its way")
}
