package adminui_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
)

// deactivate applies a rule to a webhook, by what its endpoint answers.
func (f *fixture) deactivate(t *testing.T, w webhook.Webhook) {
	t.Helper()
	got, err := f.store.Deactivate(t.Context(), webhook.DeactivateParams{
		Scope: webhook.Scope{OrganizationID: "acme"}, WebhookID: w.ID, Reason: webhook.DeactivatedGone, Now: f.clock.Now(),
		EndpointURL: w.EndpointURL, StartedAt: f.clock.Now(),
	})
	require.NoError(t, err)
	require.True(t, got.Deactivated)
}

// A webhook's page says how it does, to everybody who may read.
func TestHealthIsOnThePage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	path := "/" + w.ID.String()
	f.get(t, path).is(ok).says("0 failures in a row", "last success none in 30 days")
	f.publish(t)
	f.deliver(t, answers(http.StatusOK, ""))
	f.clock.Advance(3 * time.Hour)
	f.publish(t)
	f.deliver(t, answers(http.StatusInternalServerError, ""))
	f.as(t, asViewer, path, nil).is(ok).says("50.0 % succeeded", "1 failure in a row, since", "last success 3 h ago").saysNot("inactive")
}

// What a rule has done is said, with why, since when, and how to mend it; not of what
// a person has done.
func TestDeactivatedByARule(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	path := "/" + w.ID.String()
	f.publish(t)
	f.deliver(t, answers(http.StatusGone, ""))
	f.deactivate(t, w)
	f.get(t, path).is(ok).says("It was made inactive automatically", "its endpoint says that it is gone for good (410 Gone)", "It has failed since 2026-01-01 12:00:00",
		"or enter another one", "1 delivery is held", "activate the webhook", "Changed", "by posthorn")
	f.as(t, asViewer, path, nil).is(ok).says("It was made inactive automatically", "have the webhook activated").saysNot("1 delivery is held from when")
	f.get(t, "/").is(ok).says("automatically: 410 Gone")

	form := editForm()
	form.Set("version", "2")
	f.post(t, path+"/edit", form).is(http.StatusSeeOther)
	f.get(t, path).is(ok).saysNot("automatically", "inactive automatically")
	f.get(t, "/").is(ok).saysNot("automatically")
	form.Set("version", "3")
	form.Set("status", "inactive")
	f.post(t, path+"/edit", form).is(http.StatusSeeOther)
	f.get(t, path).is(ok).says("It is inactive").saysNot("automatically")
}

func TestRateLimitInForms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	form := newForm()
	form.Set("rate_limit", " 25 ")
	f.post(t, "/new", form).is(http.StatusCreated)
	w := f.webhooks(t)[0]
	require.Equal(t, 25, w.RateLimit)
	path := "/" + w.ID.String()
	f.get(t, path).is(ok).says("Rate limit 25 attempts a second")
	require.Equal(t, "25", f.get(t, path+"/edit").is(ok).field("rate_limit"))

	// A form without the field, of a page from before there was one, leaves it.
	change := editForm()
	f.post(t, path+"/edit", change).is(http.StatusSeeOther)
	require.Equal(t, 25, f.webhooks(t)[0].RateLimit)

	for _, typed := range []string{"-1", "1001", "many", "1.5"} {
		change.Set("version", "2")
		change.Set("rate_limit", typed)
		page := f.post(t, path+"/edit", change).is(http.StatusUnprocessableEntity)
		page.says("Rate limit must be from 1 to 1000 attempts a second, or 0 for no limit.")
		require.Equal(t, typed, page.field("rate_limit"))
		require.Regexp(t, `id="rate_limit"[^>]*aria-describedby="rate_limit-fault rate_limit-hint" aria-invalid="true"`, page.Body.String())
	}

	// Whoever was faster is shown with what the limit is now.
	change.Set("version", "1")
	change.Set("rate_limit", "7")
	f.post(t, path+"/edit", change).is(http.StatusConflict).says("Rate limit 25")
	change.Set("version", "2")
	change.Set("rate_limit", "")
	f.post(t, path+"/edit", change).is(http.StatusSeeOther)
	require.Zero(t, f.webhooks(t)[0].RateLimit)
	f.get(t, path).is(ok).says("Rate limit none")
}

// When the dispatcher honors Retry-After, the page knows that the attempt was not late.
func TestDueTimesWithRetryAfter(t *testing.T) {
	t.Parallel()
	for honor, late := range map[bool]bool{true: false, false: true} {
		f := newFixture(t, func(c *adminui.Config) { c.HonorRetryAfter = honor })
		w := f.create(t, "Archive")
		f.publish(t)
		f.deliver(t, func(*http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"90"}}, Body: http.NoBody}
			return resp, nil
		})
		f.clock.Advance(90 * time.Second)
		f.deliver(t, answers(http.StatusOK, ""))
		page := f.get(t, "/deliveries/"+f.newest(t, w.ID).ID.String()).is(ok)
		require.Equal(t, late, strings.Contains(page.text(), "30 s later"), page.text())
	}
}
