package adminui_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

var rowOf = regexp.MustCompile(`(?s)<tr role="row">\n<td.*?</tr>`)

// rows are a table's rows, as text.
func (a answer) rows() (list []string) {
	a.t.Helper()
	for _, row := range rowOf.FindAllString(a.Body.String(), -1) {
		list = append(list, strings.TrimSpace(spaces.ReplaceAllString(tags.ReplaceAllString(row, " "), " ")))
	}
	return list
}

func TestLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	f.publish(t)
	f.deliver(t, answers(http.StatusBadGateway, "upstream is away"))
	f.clock.Advance(time.Minute)
	f.deliver(t, func(r *http.Request) (*http.Response, error) {
		f.clock.Advance(0)
		return answers(http.StatusNoContent, "")(r)
	})
	path := "/" + w.ID.String() + "/log"

	rows := f.get(t, path).is(ok).rows()

	require.Len(t, rows, 2)
	require.Regexp(t, `^Succeeded Message Sent 2026-01-01 12:01:00 204 – 2 \d+(\.\d)? [mµ]s$`, rows[0])
	require.Regexp(t, `^Failed Message Sent 2026-01-01 12:00:00 502 answered 502 Bad Gateway 1 \d+(\.\d)? [mµ]s$`, rows[1])
	require.Equal(t, rows, f.as(t, asViewer, path, nil).is(ok).rows(), "viewers see all of it")
	all := f.get(t, "/log").is(ok).rows()
	require.Len(t, all, 2)
	require.Contains(t, all[0], "Archive")
}

func TestLogFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive", func(in *webhook.WebhookInput) {
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{Subject: room, EventType: webhook.EventRoomRecordingTranscriptPublished})
	})
	for _, status := range []int{200, 301, 404, 500} {
		f.publish(t)
		f.deliver(t, answers(status, ""))
		f.clock.Advance(time.Second)
	}
	_, err := f.publisher.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventRoomRecordingTranscriptPublished, Subject: room})
	require.NoError(t, err)
	f.deliver(t, func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("dial: %w", webhook.ErrDestinationNotAllowed)
	})
	base := "/" + w.ID.String()
	for query, want := range map[string]string{
		"":                         "none 500 404 301 200",
		"?state=":                  "none 500 404 301 200",
		"?state=succeeded":         "200",
		"?state=failed":            "none 500 404 301",
		"?state=interrupted":       "",
		"?class=4":                 "404",
		"?class=5&state=failed":    "500",
		"?event_type=message_sent": "500 404 301 200",
		"?event_type=room_recording_transcript_published": "none",
		"?event_type=gone":           "",
		"?since=2026-01-01T12:00:02": "none 500 404",
		"?since=2026-01-01T12:00:02.000&before=2026-01-01T12:00:03": "404",
		"?before=2026-01-01T12:00:01Z":                              "200",
		"?since=2026-01-01T14:00:02%2b02:00":                        "none 500 404",
		"?since=2026-01-02":                                         "",
	} {
		page := f.get(t, base+"/log"+query).is(ok)
		var got []string
		for _, row := range page.rows() {
			got = append(got, regexp.MustCompile(`12:\d\d:\d\d (\S+)`).FindStringSubmatch(row)[1])
		}
		require.Equal(t, want, strings.Join(got, " "), query)
		lines := strings.Count(f.get(t, base+"/log.ndjson"+query).is(ok).Body.String(), "\n")
		require.Equal(t, len(got), lines, "the export has the same")
		if want == "" {
			page.says("No attempt is like that.")
		}
	}
	for query, want := range map[string]int{"": 5, "?state=pending": 4, "?state=succeeded": 1, "?state=held": 0, "?event_type=message_sent&state=pending": 3} {
		require.Len(t, f.get(t, base+"/deliveries"+query).is(ok).rows(), want, query)
	}
	f.get(t, base+"/log?class=4&since=2026-01-01T00:00:00").is(ok)
	require.Contains(t, f.get(t, base+"/log?class=4").Body.String(), `log.ndjson?class=4"`)
	for _, list := range []string{"/log", "/deliveries"} {
		page := f.get(t, base+list+"?state=succeeded&event_type=message_sent&since=2026-01-01").is(ok).Body.String()
		for _, tab := range []string{"log", "deliveries"} { // states differ, the rest is kept
			require.Contains(t, page, base[1:]+"/"+tab+`?event_type=message_sent&amp;since=2026-01-01"`)
		}
	}
}

func TestLogPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	for range 120 {
		f.publish(t)
	}
	webhooktestDrain(t, f)
	older := regexp.MustCompile(`href="(\?[^"]*cursor=[^"]*)">Older`)
	for _, list := range []string{"/log", "/deliveries"} {
		seen := map[string]bool{}
		query, pages := "?state=succeeded", 0
		for {
			page := f.get(t, "/"+w.ID.String()+list+query).is(ok)
			pages++
			for _, m := range regexp.MustCompile(`href="../deliveries/([^"]*)"`).FindAllStringSubmatch(page.Body.String(), -1) {
				require.False(t, seen[m[1]])
				seen[m[1]] = true
			}
			require.Equal(t, pages > 1, strings.Contains(page.Body.String(), ">Newest</a>"))
			next := older.FindStringSubmatch(page.Body.String())
			if next == nil {
				break
			}
			query = strings.ReplaceAll(next[1], "&amp;", "&")
			require.Contains(t, query, "state=succeeded")
		}
		require.Len(t, seen, 120)
		require.Equal(t, 3, pages)
	}
}

// webhooktestDrain makes all attempts, which succeed.
func webhooktestDrain(t testing.TB, f *fixture) {
	t.Helper()
	for {
		n, err := f.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		if n == 0 {
			return
		}
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	for range 250 {
		f.publish(t)
	}
	f.answer = answers(http.StatusOK, "thanks <b>\xff")
	webhooktestDrain(t, f)
	for who, response := range map[string]string{asAdmin: "thanks <b>\ufffd", asViewer: ""} {
		got := f.as(t, who, "/"+w.ID.String()+"/log.ndjson", nil).is(ok)
		require.Equal(t, "application/x-ndjson; charset=utf-8", got.Header().Get("Content-Type"))
		require.Regexp(t, `^attachment; filename="log-[0-9a-f-]{36}-20260101-120000.ndjson"$`, got.Header().Get("Content-Disposition"))
		lines := strings.Split(strings.TrimSuffix(got.Body.String(), "\n"), "\n")
		require.Len(t, lines, 250)
		seen := map[any]bool{}
		for _, line := range lines {
			var at map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &at))
			require.Equal(t, "acme", at["organization_id"])
			require.Equal(t, w.ID.String(), at["webhook_id"])
			require.Equal(t, "message_sent", at["event_type"])
			require.Equal(t, "succeeded", at["outcome"])
			require.InDelta(t, 200, at["status_code"], 0)
			require.InDelta(t, 1, at["attempt"], 0)
			require.Equal(t, endpointURL, at["endpoint_url"])
			if response == "" {
				require.NotContains(t, at, "response")
			} else {
				require.Equal(t, response, at["response"])
			}
			seen[at["delivery_id"]] = true
		}
		require.Len(t, seen, 250)
	}
	require.Empty(t, f.as(t, "owner@rival", "/log.ndjson", nil).is(ok).Body.String())
}

func TestList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.get(t, "/").says("No webhooks yet", "Add Webhook")
	f.as(t, asViewer, "/", nil).is(ok).says("No webhooks yet", "An owner or an admin").saysNot("Add Webhook")
	archive := f.create(t, "Archive", func(in *webhook.WebhookInput) { in.Description = "Keeps everything" })
	f.publish(t)
	f.publish(t)
	f.publish(t)
	f.deliver(t, answers(http.StatusOK, ""))
	f.publish(t)
	f.deliver(t, answers(http.StatusInternalServerError, ""))
	f.create(t, "Bot", func(in *webhook.WebhookInput) {
		in.EndpointURL = "https://bot.example.com:8443/x"
		in.Subscriptions = append(in.Subscriptions, webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectSpace, ID: spaceID}, EventType: webhook.EventMessageSent})
	})
	form := editForm()
	form.Set("status", "inactive")
	f.post(t, "/"+archive.ID.String()+"/edit", form).leadsTo()

	page := f.get(t, "/").is(ok)
	rows := page.rows()
	require.Len(t, rows, 2)
	require.Equal(t, "Bot https:// bot.example.com:8443 /x 2 subjects Message Sent Active – no attempts none", rows[0])
	require.Equal(t, "Archive 2 https:// archive.example.com /webhooks Room "+roomID+" Message Sent Inactive 75.0 % 4 attempts just now Held", rows[1])
	require.Contains(t, page.Body.String(), `<svg class="spark"`)

	for query, want := range map[string]int{
		"?q=bot": 1, "?q=BOT+example": 1, "?q=bot+archive": 0, "?q=" + spaceID: 1, "?q=message_sent": 2, "?q=" + archive.ID.String(): 1, "?q=%3Cb%3E": 0,
		"?status=active": 1, "?status=inactive": 1, "?status=active&q=archive": 0, "?q=8443": 1,
	} {
		page := f.get(t, "/"+query).is(ok)
		require.Len(t, page.rows(), want, query)
		if want == 0 {
			page.says("Nothing found")
		}
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 60 {
		f.create(t, fmt.Sprintf("Number-%02d", i))
	}
	query, names := "", map[string]bool{}
	for range 3 {
		page := f.get(t, "/"+query).is(ok)
		for _, row := range page.rows() {
			names[row[:9]] = true
		}
		query = ""
		if next := regexp.MustCompile(`href="(\?[^"]*)">Older`).FindStringSubmatch(page.Body.String()); next != nil {
			query = strings.ReplaceAll(next[1], "&amp;", "&")
		}
	}
	require.Len(t, names, 60)
	require.Empty(t, query)
	page := f.get(t, "/?"+url.Values{"q": {"number"}}.Encode())
	require.Len(t, page.rows(), 50)
	page.says("There are more. Search for something narrower.")
	require.Len(t, f.get(t, "/?q=number-05").rows(), 1)
}
