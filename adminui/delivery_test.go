package adminui_test

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestDelivery(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	f.publish(t)
	f.deliver(t, answers(http.StatusServiceUnavailable, "<b>busy</b>"))
	f.clock.Advance(time.Minute)
	d := f.newest(t, w.ID)
	path := "/deliveries/" + d.ID.String()

	page := f.get(t, path).is(ok)
	page.says("Message Sent Pending", "to Archive", "Attempt 1 Failed 503", "answered 503 Service Unavailable", "<b>busy</b>",
		"Due 2026-01-01 12:00:00 by the schedule", "Attempt 2", "due now", "If it fails: attempt 3 after 5 min, then attempt 4 after 30 min, then attempt 5 after 2 h, then attempt 6 after 12 h.",
		`"text": "Tea at five?"`, "X-Pivot-Attempt 1", "webhook-id "+d.EventID.String(), "User-Agent posthorn-webhook/1", "made from the secret for this attempt; not stored",
		"There are none.", "Cancel")
	require.Contains(t, page.Body.String(), `data-live`, "it is not finished")

	f.deliver(t, answers(http.StatusOK, ""))
	page = f.get(t, path).is(ok)
	page.says("Message Sent Succeeded", "Attempt 2 Succeeded 200", "Due 2026-01-01 12:01:0", "Redeliver", "The response had no body.").saysNot("If it fails")
	require.NotContains(t, page.Body.String(), `data-live>`)

	viewer := f.as(t, asViewer, path, nil).is(ok)
	viewer.says("Message Sent Succeeded", "Attempt 2 Succeeded 200", "answered 503 Service Unavailable", "X-Pivot-Attempt 1").
		saysNot("Tea at five?", "busy", "curl", "Redeliver")

	// Sent again, the two know each other.
	to := f.post(t, path+"/redeliver", nil).leadsTo()
	again := f.newest(t, w.ID)
	require.Equal(t, "/deliveries/"+again.ID.String()+"?said=redelivered", to)
	f.get(t, to).is(ok).says("The event is being sent again", "Redelivery", "Repeats delivery "+d.ID.String()[:8], "Other deliveries of this event", "Succeeded Message Sent Archive")
	require.Len(t, f.get(t, path).rows(), 1)
	require.Equal(t, to[:len("/deliveries/")+36]+"?said=cancelled", f.post(t, "/deliveries/"+again.ID.String()+"/cancel", nil).leadsTo())
	f.get(t, "/deliveries/"+again.ID.String()).says("Message Sent Cancelled", "It was never attempted before it was cancelled")
	f.post(t, "/deliveries/"+again.ID.String()+"/cancel", nil).is(http.StatusConflict).says("there is nothing to cancel")
}

// When a delivery was released is not in the log, so no time is made up for it.
func TestAttemptsOfWhatWasHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	form := editForm()
	form.Set("status", "inactive")
	f.post(t, "/"+w.ID.String()+"/edit", form).leadsTo()
	f.publish(t)
	f.clock.Advance(50 * time.Hour)
	form.Set("version", "2")
	form.Set("status", "active")
	form.Set("resume", "yes")
	f.post(t, "/"+w.ID.String()+"/edit", form).leadsTo()
	f.deliver(t, answers(http.StatusOK, ""))
	f.get(t, "/deliveries/"+f.newest(t, w.ID).ID.String()).is(ok).says("by the schedule", "Begun 2026-01-03 14:00:00 after it was held or waited").saysNot("later")
}

func TestErrorsInWords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	f.publish(t)
	f.deliver(t, func(*http.Request) (*http.Response, error) {
		return nil, errors.Join(webhook.ErrDestinationNotAllowed, errors.New("10.1.2.3"))
	})
	f.get(t, "/deliveries/"+f.newest(t, w.ID).ID.String()).is(ok).says("destination not allowed", "next attempt in 1 min").saysNot("10.1.2.3")
	f.get(t, "/"+w.ID.String()+"/log").is(ok).says("destination not allowed").saysNot("10.1.2.3")
}

func TestRedeliveryThatIsNotPossible(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	f.publish(t)
	path := "/deliveries/" + f.newest(t, w.ID).ID.String()
	f.post(t, path+"/redeliver", nil).is(http.StatusConflict).says("when it is finished")
	f.deliver(t, answers(http.StatusOK, ""))
	later := f.clock.Now().Add(time.Hour)
	_, err := f.store.Purge(t.Context(), webhook.PurgeParams{Now: later, PayloadsBefore: later, Limit: 100})
	require.NoError(t, err)
	f.get(t, path).is(ok).says("The payload is no longer kept").saysNot("curl", "Redeliver<")
	f.post(t, path+"/redeliver", nil).is(http.StatusConflict).says("as long as its payload is kept")

	f.post(t, "/"+w.ID.String()+"/delete", nil).leadsTo()
	f.get(t, path).is(ok).says("to a webhook that was deleted").saysNot(">Redeliver<")
	f.post(t, path+"/redeliver", nil).is(http.StatusConflict)
}

func TestRedeliveryToAnInactiveWebhookIsHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	f.publish(t)
	f.deliver(t, answers(http.StatusOK, ""))
	path := "/deliveries/" + f.newest(t, w.ID).ID.String()
	form := editForm()
	form.Set("status", "inactive")
	f.post(t, "/"+w.ID.String()+"/edit", form).leadsTo()
	f.get(t, f.post(t, path+"/redeliver", nil).leadsTo()).says("held, because the webhook is inactive", "Held: it is attempted when")
}

// TestCurl runs the command that is there to be copied, against a receiver that
// verifies both signatures.
func TestCurl(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl", "openssl", "base64", "od"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				require.NoError(t, err)
			}
			t.Skipf("not tested: %v", err) //nolint:forbidigo // not everybody has it; CI has
		}
	}
	f := newFixture(t)
	w, secret, err := f.manager.Create(t.Context(), admin, webhook.WebhookInput{
		Name: "Archive", EndpointURL: endpointURL + "?a=1&b='$(id)'", Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	_, err = f.publisher.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: map[string]string{"text": "it's $HOME `id` \\n \"quoted\" <b> ü\n%s \u2028"},
	})
	require.NoError(t, err)
	d, err := f.manager.Delivery(t.Context(), admin, f.newest(t, w.ID).ID)
	require.NoError(t, err)
	shown := regexp.MustCompile(`(?s)<code id="curl">(.*?)</code>`).FindStringSubmatch(f.get(t, "/deliveries/"+d.ID.String()).is(ok).Body.String())
	require.NotNil(t, shown)

	verifier, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}})
	require.NoError(t, err)
	var path, id string
	var got []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		path, id = r.RequestURI, r.Header.Get("webhook-id")
		if got, err = verifier.VerifyRequest(r); err != nil {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(rw, "well received")
	}))
	defer receiver.Close()
	script := strings.ReplaceAll(html.UnescapeString(shown[1]), "https://archive.example.com", receiver.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret.Reveal(), "no_proxy=*")
	out, runErr := cmd.CombinedOutput()
	require.NoError(t, runErr, "%s", out)
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "well received")
	require.Equal(t, string(d.Payload), string(got))
	require.Equal(t, d.EventID.String(), id)
	require.True(t, strings.HasPrefix(path, "/webhooks?a=1&b="), path)
	require.NotContains(t, shown[1], secret.Reveal())
}

func TestSendTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, sendTest)
}

func sendTest(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, "Archive")
	path := "/" + w.ID.String() + "/test"
	f.get(t, path).is(ok).says("goes to Archive", "Message Sent").saysNot("data-live")
	began := time.Now()
	to := f.post(t, path, newFormOf("event_type", "room_recording_transcript_published")).leadsTo()
	require.Equal(t, began, time.Now(), "what can be reloaded waits, not what sends")
	d := f.newest(t, w.ID)
	require.True(t, d.Test)
	require.Equal(t, path+"?delivery="+d.ID.String(), to)

	// Nobody delivers it yet.
	page := f.get(t, to).is(ok).says("It is on its way", "Room Recording Transcript Published Pending", "Look again", "Send another one")
	require.Contains(t, page.Body.String(), "data-live")
	require.Equal(t, 3*time.Second, time.Since(began), "it has waited, but not for longer than a page should take")
	require.Contains(t, page.Body.String(), `value="room_recording_transcript_published" checked`)

	// While somebody looks, the answer comes.
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-time.After(time.Second)
		f.deliver(t, answers(http.StatusTeapot, "short & stout\x00"))
	}()
	page = f.get(t, to).is(ok)
	<-done
	require.Less(t, time.Since(began), 6*time.Second)
	page.says("It did not work", "Failed", "Response code 418", "answered 418", "Duration", "short & stout␀", "All about this delivery").saysNot("data-live", "Look again")
	f.get(t, "/deliveries/"+d.ID.String()).is(ok).says("Test", `"test": true`).saysNot("If it fails")
	before := f.newest(t, w.ID)
	f.get(t, to).is(ok)
	require.Equal(t, before, f.newest(t, w.ID), "reloading sends nothing")

	to = f.post(t, path, newFormOf("event_type", "message_sent")).leadsTo()
	f.deliver(t, answers(http.StatusOK, ""))
	f.get(t, to).is(ok).says("It works", "Succeeded", "Response code 200").saysNot("Error<", "Response<")
	cancelled := f.post(t, path, newFormOf("event_type", "message_sent")).leadsTo()
	f.post(t, "/deliveries/"+f.newest(t, w.ID).ID.String()+"/cancel", nil).leadsTo()
	f.get(t, cancelled).is(ok).says("It was cancelled", "Cancelled").saysNot("Response code")
	held := f.post(t, path, newFormOf("event_type", "message_sent")).leadsTo()
	f.post(t, path, newFormOf("event_type", "made_up")).is(http.StatusUnprocessableEntity).says(`"made_up" is not an event type`)

	form := editForm()
	form.Set("status", "inactive")
	f.post(t, "/"+w.ID.String()+"/edit", form).leadsTo()
	f.get(t, path).is(ok).says("Activate it first.").saysNot(`method="post"`)
	began = time.Now()
	f.get(t, held).is(ok).says("It is held, because the webhook has become inactive", "Activate it first.").saysNot("data-live", "Look again")
	require.Equal(t, began, time.Now(), "nothing is waited for")
	f.post(t, path, newFormOf("event_type", "message_sent")).is(http.StatusConflict).says("Activate it first.")
}

// Pages that wait are bounded: one more shows what there is.
func TestPagesThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		w := f.create(t, "Archive")
		to := f.post(t, "/"+w.ID.String()+"/test", newFormOf("event_type", "message_sent")).leadsTo()
		began := time.Now()
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() { f.get(t, to) })
		}
		synctest.Wait()
		f.get(t, to).is(ok).says("It is on its way", "Look again")
		require.Zero(t, time.Since(began), "it does not wait")
		waiting.Wait()
		f.get(t, to).is(ok)
		require.Equal(t, 6*time.Second, time.Since(began), "there is room again")
	})
}

func newFormOf(pairs ...string) map[string][]string {
	form := map[string][]string{}
	for i := 0; i < len(pairs); i += 2 {
		form[pairs[i]] = []string{pairs[i+1]}
	}
	return form
}

func TestDelete(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	f.publish(t)
	f.deliver(t, answers(http.StatusOK, ""))
	path := "/" + w.ID.String() + "/delete"
	f.get(t, path).is(ok).says("Delete “Archive”?", "This cannot be undone", "Delete Archive")
	require.Equal(t, "/?said=deleted", f.post(t, path, nil).leadsTo())
	f.get(t, "/?said=deleted").says("The webhook is deleted", "No webhooks yet")
	f.post(t, path, nil).is(http.StatusNotFound)
	f.get(t, "/"+w.ID.String()+"/log").is(ok).says("of a webhook that was deleted", "Succeeded")
	f.get(t, "/deleted/"+w.ID.String()).is(ok).says("Nothing is in flight any more")
	f.get(t, "/deleted/"+uuid.NewString()).is(http.StatusNotFound)
}

// An attempt of another process cannot be aborted; its lease is waited for, but not
// for longer than a page should take.
func TestDeleteWithAttemptsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, deleteWithAttemptsInFlight)
}

func deleteWithAttemptsInFlight(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, "Archive")
	for range 3 {
		f.publish(t)
	}
	claims, err := f.store.Claim(t.Context(), webhook.ClaimParams{Now: f.clock.Now(), LeaseFor: 45 * time.Second, Limit: 3})
	require.NoError(t, err)
	require.Len(t, claims.Claims, 3)
	path := "/" + w.ID.String() + "/delete"
	f.get(t, path).says("3 attempts are in flight, and will be waited for.")
	f.get(t, "/deliveries/"+f.newest(t, w.ID).ID.String()).says("Attempt 1", "in flight now")
	f.get(t, "/"+w.ID.String()).says("In flight 3 attempts")

	began := time.Now()
	to := f.post(t, path, nil).leadsTo()
	require.Equal(t, 2*time.Second, time.Since(began))
	require.Equal(t, "/deleted/"+w.ID.String(), to)
	f.get(t, to).is(ok).says("The webhook is deleted", "3 attempts that had begun before are still in flight")
	require.Empty(t, f.webhooks(t), "it is deleted all the same")
	f.clock.Advance(time.Minute)
	f.get(t, to).says("Nothing is in flight any more")
}
