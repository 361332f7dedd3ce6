package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/posthorn/webhook/httpapi"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	m := newHost(t).manager
	for name, c := range map[string]struct {
		manager *webhook.Manager
		config  httpapi.Config
	}{
		"no manager":       {nil, httpapi.Config{Actor: authenticate}},
		"no Actor":         {m, httpapi.Config{}},
		"a negative bound": {m, httpapi.Config{Actor: authenticate, MaxBodyBytes: -1}},
		"a wrong origin":   {m, httpapi.Config{Actor: authenticate, TrustedOrigins: []string{"https://app.example.com", "app.example.com"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, err := httpapi.New(c.manager, c.config)
			require.Error(t, err)
			require.Nil(t, api)
		})
	}
}

func TestActorDecidesFirst(t *testing.T) {
	t.Parallel()
	const why = "the session of <somebody> has run out"
	for name, c := range map[string]struct {
		err    error
		status int
		detail string
	}{
		"an error":     {errors.New(why), http.StatusUnauthorized, "The request does not say who you are, or not so that it can be believed."},
		"ErrForbidden": {fmt.Errorf("%s: %w", why, webhook.ErrForbidden), http.StatusForbidden, "You may not do this."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, func(_ *webhook.ManagerConfig, cfg *httpapi.Config) {
				cfg.Actor = func(*http.Request) (webhook.Actor, error) { return actors[owner], c.err }
			})
			for _, request := range []string{
				"GET " + acme + "/webhooks", "POST " + acme + "/webhooks", "PUT " + acme + "/webhooks", "GET /v1/openapi.json", "GET /v1/", "GET /v1//", "GET /", "OPTIONS *",
			} {
				method, target, _ := strings.Cut(request, " ")
				got := h.call(t, nobody, method, target, "")
				require.Equal(t, c.status, got.Code, request)
				require.Equal(t, c.detail, problemOf(t, got).Detail)
				require.Empty(t, got.Header().Get("Allow"))
			}
			require.Contains(t, h.log.String(), why, "the host is told")
			require.NotContains(t, h.log.String(), `"level":"ERROR"`)
		})
	}
}

// TestActorCannotFindOut asks a host whose own store of tokens does not answer: that
// says nothing about the token.
func TestActorCannotFindOut(t *testing.T) {
	t.Parallel()
	const inside = "tokens: dial tcp 10.0.0.7:5432"
	for name, c := range map[string]struct {
		err  error
		gone bool // is the caller
	}{
		"ErrUnavailable":        {webhook.ErrUnavailable, false},
		"a deadline of its own": {context.DeadlineExceeded, false},
		"it is shut down":       {context.Canceled, false},
		"the caller has gone":   {context.Canceled, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			api, err := httpapi.New(newHost(t).manager, httpapi.Config{
				Actor:  func(*http.Request) (webhook.Actor, error) { return actors[owner], fmt.Errorf("%s: %w", inside, c.err) },
				Logger: slog.New(slog.NewJSONHandler(&log, nil)),
			})
			require.NoError(t, err)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if c.gone {
				leave()
			}
			rec := httptest.NewRecorder()
			api.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodGet, acme+"/webhooks", http.NoBody))
			require.Equal(t, http.StatusServiceUnavailable, rec.Code)
			require.Empty(t, rec.Header().Get("WWW-Authenticate"))
			require.Equal(t, "It cannot be found out who you are. Try again.", problemOf(t, rec).Detail)
			require.NotContains(t, rec.Body.String(), "10.0.0.7")
			require.Equal(t, !c.gone, strings.Contains(log.String(), inside) && strings.Contains(log.String(), `"level":"ERROR"`), "%s", &log)
		})
	}
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(_ *webhook.ManagerConfig, c *httpapi.Config) {
		c.TrustedOrigins = []string{"https://app.example.org"}
	})
	for name, c := range map[string]struct {
		origin, site string
		refused      bool
	}{
		"no browser":                       {"", "", false},
		"the API's own page":               {"http://example.com", "same-origin", false},
		"the address bar":                  {"", "none", false},
		"a page of another site":           {"https://evil.example", "cross-site", true},
		"a page of a sibling":              {"http://evil.example.com", "same-site", true},
		"an old browser":                   {"https://evil.example", "", true},
		"an old browser, on our page":      {"http://example.com", "", false},
		"a page that hides where it is":    {"null", "cross-site", true},
		"an old browser that hides it":     {"null", "", true},
		"a page that the host trusts":      {"https://app.example.org", "cross-site", false},
		"a page that looks like it":        {"https://app.example.org.evil.example", "cross-site", true},
		"a trusted name without transport": {"http://app.example.org", "cross-site", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			browser := func(r *http.Request) {
				if c.origin != "" {
					r.Header.Set("Origin", c.origin)
				}
				if c.site != "" {
					r.Header.Set("Sec-Fetch-Site", c.site)
				}
			}
			for _, request := range []string{"POST " + acme + "/webhooks", "PATCH " + acme + "/webhooks/" + roomID, "DELETE " + acme + "/webhooks/" + roomID, "POST " + acme + "/deliveries/" + roomID + "/redeliver"} {
				method, target, _ := strings.Cut(request, " ")
				got := h.call(t, owner, method, target, "{}", browser)
				require.Equal(t, c.refused, got.Code == http.StatusForbidden, "%s: %d", request, got.Code)
				if c.refused {
					require.Equal(t, "The request comes from a page of another origin.", problemOf(t, got).Detail)
				}
			}
			require.Equal(t, http.StatusOK, h.call(t, owner, http.MethodGet, acme+"/webhooks", "", browser).Code, "reading changes nothing")
		})
	}
}

func TestWorksUnderAPrefix(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w, _ := h.register(t)
	mux := http.NewServeMux()
	mux.Handle("/v1/", h.api)
	mux.Handle("/hooks/api/", http.StripPrefix("/hooks/api", h.api))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	get := func(path string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, http.NoBody)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+viewer)
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := client.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Empty(t, resp.Header.Get("Location"))
		rec := httptest.NewRecorder()
		_, err = rec.Body.ReadFrom(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, rec.Body.String()
	}
	for _, prefix := range []string{"", "/hooks/api"} {
		status, body := get(prefix + h.webhookPath(w.ID))
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, w.ID.String())
		status, body = get(prefix + "/v1/openapi.json")
		require.Equal(t, http.StatusOK, status)
		var document struct {
			Servers []struct {
				URL string `json:"url"`
			} `json:"servers"`
			Paths map[string]any `json:"paths"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &document))
		at, err := url.Parse(server.URL + prefix + "/v1/openapi.json")
		require.NoError(t, err)
		base, err := at.Parse(document.Servers[0].URL)
		require.NoError(t, err)
		require.Equal(t, server.URL+prefix+"/v1", base.String(), "paths are appended to it")
		require.Contains(t, document.Paths, "/organizations/{organization_id}/webhooks")
		for _, missing := range []string{"/v1/", "/v1/organizations/acme/webhooks/", "/v1/x"} {
			status, body = get(prefix + missing)
			require.Equal(t, http.StatusNotFound, status)
			require.Contains(t, body, "There is nothing at this path.")
		}
	}
}

func TestBodiesAreBoundedAsConfigured(t *testing.T) {
	t.Parallel()
	body := created(t)
	h := newHost(t, func(_ *webhook.ManagerConfig, c *httpapi.Config) { c.MaxBodyBytes = int64(len(body)) })
	w, _ := h.register(t)
	require.Equal(t, http.StatusCreated, h.call(t, owner, http.MethodPost, acme+"/webhooks", body).Code)
	for _, request := range []string{"POST " + acme + "/webhooks", "PATCH " + h.webhookPath(w.ID), "DELETE " + h.webhookPath(w.ID), "POST " + h.deliveryPath(w.ID) + "/cancel"} {
		method, target, _ := strings.Cut(request, " ")
		got := h.call(t, owner, method, target, body+" ")
		require.Equal(t, http.StatusRequestEntityTooLarge, got.Code, request)
		require.Equal(t, fmt.Sprintf("The body must be at most %d bytes.", len(body)), problemOf(t, got).Detail)
	}
}

// TestSecretsAreShownOnce looks for a secret in everything that is answered after
// its creation, in every line of the log, and in what a dispatcher says.
func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	got := h.call(t, owner, http.MethodPost, acme+"/webhooks", created(t, func(content map[string]any) {
		subscription, _ := content["subscriptions"].([]any)[0].(map[string]any)
		delete(subscription, "filter")
	}))
	require.Equal(t, http.StatusCreated, got.Code)
	answer := decode[struct {
		Secret  string `json:"secret"`
		Webhook struct {
			ID uuid.UUID `json:"id"`
		} `json:"webhook"`
	}](t, got)
	require.True(t, strings.HasPrefix(answer.Secret, "whsec_"))
	require.Equal(t, 1, strings.Count(got.Body.String(), answer.Secret))

	d := h.deliver(t, http.StatusInternalServerError)
	id := answer.Webhook.ID
	var said strings.Builder
	for _, c := range []struct{ method, path, body string }{
		{"GET", acme + "/webhooks", ""}, {"GET", h.webhookPath(id), ""}, {"GET", h.webhookPath(id) + "/logs", ""}, {"GET", h.webhookPath(id) + "/deliveries", ""},
		{"GET", h.deliveryPath(d.ID), ""}, {"GET", h.deliveryPath(d.ID) + "/attempts", ""}, {"GET", "/v1/openapi.json", ""},
		{"PATCH", h.webhookPath(id), `{"content":{"name":"` + answer.Secret[len("whsec_"):][:10] + `"},"version":7}`},
		{"PATCH", h.webhookPath(id), `{"content":{"name":"Store"},"version":1}`},
		{"POST", h.webhookPath(id) + "/test", `{"subscription_type":"WEBHOOK_SUBSCRIPTION_TYPE_MESSAGE_SENT"}`},
		{"POST", h.deliveryPath(d.ID) + "/redeliver", ""}, {"DELETE", h.webhookPath(id), ""},
	} {
		said.WriteString(h.call(t, owner, c.method, c.path, c.body).Body.String())
	}
	require.NotEmpty(t, h.log.String())
	for _, text := range []string{said.String(), h.log.String()} {
		require.NotContains(t, text, answer.Secret)
		require.NotContains(t, text, answer.Secret[len("whsec_"):])
	}
}

// TestDeletionsReportWhatIsInFlight deletes a webhook while another process, which
// nobody can abort, makes an attempt.
func TestDeletionsReportWhatIsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		w, _ := h.register(t)
		h.publish(t)
		end := make(chan struct{})
		h.respond = func(*http.Request) (*http.Response, error) {
			<-end
			return nil, errors.New("no answer")
		}
		elsewhere, err := webhook.NewDispatcher(h.store, webhook.DispatcherConfig{Clock: h.clock, HTTPDoer: h})
		require.NoError(t, err)
		var running sync.WaitGroup
		running.Go(func() {
			_, err := elsewhere.RunOnce(t.Context())
			require.NoError(t, err)
		})
		synctest.Wait()
		began := time.Now()

		got := h.call(t, owner, http.MethodDelete, h.webhookPath(w.ID), "")

		require.Equal(t, http.StatusAccepted, got.Code)
		require.JSONEq(t, `{"in_flight":1}`, got.Body.String())
		require.Equal(t, 2*time.Second, time.Since(began))
		require.Equal(t, http.StatusNotFound, h.call(t, owner, http.MethodGet, h.webhookPath(w.ID), "").Code, "it is deleted all the same")
		got = h.call(t, owner, http.MethodDelete, h.webhookPath(w.ID), "")
		require.Equal(t, http.StatusAccepted, got.Code, "and can be waited for")
		time.AfterFunc(time.Second, func() { close(end) })
		require.Equal(t, http.StatusNoContent, h.call(t, owner, http.MethodDelete, h.webhookPath(w.ID), "").Code)
		running.Wait()
		require.Equal(t, http.StatusNotFound, h.call(t, owner, http.MethodDelete, h.webhookPath(w.ID), "").Code)
	})
}

// slow is a store whose deletions take longer than their answers wait for attempts.
type slow struct{ webhook.ManagerStore }

func (s slow) DeleteWebhook(ctx context.Context, p webhook.DeleteWebhookParams) error {
	select {
	case <-time.After(2500 * time.Millisecond):
		return s.ManagerStore.DeleteWebhook(ctx, p)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestDeletionsMayTakeTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		w, _ := h.register(t)
		var err error
		h.manager, err = webhook.NewManager(slow{h.store}, webhook.ManagerConfig{Clock: h.clock})
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, h.serve(t, http.MethodDelete, h.webhookPath(w.ID)).Code)
		require.Equal(t, http.StatusNotFound, h.serve(t, http.MethodGet, h.webhookPath(w.ID)).Code)
	})
}

// TestTextsAreEscaped puts what could become markup into every text that there is;
// requireSound looks at each answer.
func TestTextsAreEscaped(t *testing.T) {
	t.Parallel()
	const script = `<script>alert("x")</script>`
	h := newHost(t)
	got := h.call(t, owner, http.MethodPost, acme+"/webhooks", created(t, set("name", script), set("description", "</pre>"+script), set("endpoint_url", "https://receiver.example.com/?q=%3Cscript%3E&b='")))
	require.Equal(t, http.StatusCreated, got.Code, "%s", got.Body)
	require.Equal(t, script, decode[struct {
		Webhook struct {
			Name string `json:"name"`
		} `json:"webhook"`
	}](t, got).Webhook.Name, "escaped, not changed")
	w, _ := h.register(t)
	d := func() webhook.Delivery {
		h.answers(http.StatusBadGateway, script)
		d := h.publish(t)
		_, err := h.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		return d
	}()
	for _, c := range []struct{ method, path, body string }{
		{"GET", acme + "/webhooks", ""}, {"GET", h.webhookPath(w.ID) + "/logs", ""}, {"GET", h.deliveryPath(d.ID) + "/attempts", ""}, {"GET", h.deliveryPath(d.ID), ""},
		{"GET", acme + "/webhooks?" + "%3Cscript%3E=1", ""}, {"GET", acme + "/webhooks?status=%3Cscript%3E", ""}, {"GET", "/%3Cscript%3E", ""}, {"POST", acme + "/webhooks", script},
		{"POST", acme + "/webhooks", `{"` + strings.ReplaceAll(script, `"`, `\"`) + `":1}`}, {"POST", h.webhookPath(w.ID) + "/test", `{"subscription_type":"<script>"}`},
	} {
		h.call(t, owner, c.method, c.path, c.body)
	}
}
