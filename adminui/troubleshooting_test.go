package adminui_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// verdicts are what a troubleshooting page says, by cause.
func (a answer) verdicts() map[string]string {
	a.t.Helper()
	got := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)<li class="card ([a-z]*)" id="([a-z]+)">(.*?)</li>`).FindAllStringSubmatch(a.Body.String(), -1) {
		verdict := regexp.MustCompile(`(?s)<p class="verdict">(.*?)</p>`).FindStringSubmatch(m[3])
		text := ""
		if verdict != nil {
			text = strings.ReplaceAll(verdict[1], "&#43;", "+")
		}
		got[m[2]] = m[1] + ": " + text
	}
	require.Len(a.t, got, 10)
	return got
}

func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	general := f.get(t, "/troubleshooting").is(ok).verdicts()
	require.Equal(t, ": ", general["status"], "in general there is nothing to judge")
	w := f.create(t, "Archive")
	f.get(t, "/troubleshooting").says("See which of them hold for one of yours", "Archive")
	path := "/" + w.ID.String() + "/troubleshooting"

	got := f.get(t, path).is(ok).verdicts()
	require.Equal(t, "ok: It is active.", got["status"])
	require.Contains(t, got["subject"], "wait: No event has matched it")
	require.Equal(t, "ok: It is subscribed to Message Sent.", got["events"])
	require.Contains(t, got["reachability"], "off: Nothing has been sent yet.")

	fails := func(err error) func(*http.Request) (*http.Response, error) {
		return func(*http.Request) (*http.Response, error) { return nil, err }
	}
	for _, c := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		want   map[string]string
	}{
		{"Well", answers(http.StatusNoContent, ""), map[string]string{
			"subject": "ok: Events have matched it", "reachability": "ok: ", "tls": "ok: ", "secret": "ok: ", "answer": "ok: The last answer was 204.", "time": "ok: ",
		}},
		{"NoName", fails(&net.DNSError{IsNotFound: true, Name: "archive.example.com", Server: "10.0.0.53"}), map[string]string{
			"reachability": "bad: The last attempt: the name of the endpoint does not exist.", "tls": "off: ", "secret": "off: ", "answer": "off: ",
		}},
		{"Inside", fails(webhook.ErrDestinationNotAllowed), map[string]string{"reachability": "bad: The last attempt: destination not allowed."}},
		{"Unauthorized", answers(http.StatusUnauthorized, ""), map[string]string{
			"reachability": "ok: ", "secret": "wait: The last answer was 401", "body": "wait: ", "algorithm": "wait: ", "answer": "bad: The last attempt was answered 401 Unauthorized.",
		}},
		{"Redirect", answers(http.StatusFound, ""), map[string]string{"answer": "bad: The last attempt was answered 302 Found; redirects are not followed.", "secret": "off: "}},
		{"Timeout", fails(context.DeadlineExceeded), map[string]string{"time": "bad: 1 of the last 6 attempts timed out.", "reachability": "wait: The last attempt: timed out"}},
		{"Refused", fails(errors.New("connection refused")), map[string]string{"reachability": "bad: ", "time": "bad: "}},
		{"WellAgain", answers(http.StatusOK, ""), map[string]string{"reachability": "ok: ", "tls": "ok: ", "answer": "ok: The last answer was 200.", "time": "bad: 1 of the last 8"}},
	} {
		f.publish(t)
		f.deliver(t, c.answer)
		got := f.as(t, asViewer, path, nil).is(ok).verdicts()
		for cause, want := range c.want {
			require.True(t, strings.HasPrefix(got[cause], want), "%s: %s is %q, not %q", c.name, cause, got[cause], want)
		}
	}

	form := editForm()
	form.Set("status", "inactive")
	f.post(t, "/"+w.ID.String()+"/edit", form).leadsTo()
	require.Equal(t, "bad: It is inactive.", f.get(t, path).verdicts()["status"])
}
