package adminui_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

type reminder struct {
	Text string `json:"text"`
}

var reminded = webhook.DefineEvent("reminded", "Reminded", reminder{"<b>Tea</b> & cake"}).
	WithDescription("Somebody is reminded.\nOn time.").
	WithSchema(json.RawMessage(`{"type":"object","properties":{"text":{"description":"<i>Plain</i>","type":"string"}}}`))

func TestEventTypesAreShownWithSamplesAndSchemas(t *testing.T) {
	t.Parallel()
	catalog, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(),
		[]webhook.EventTypeInfo{reminded.Info(), {Type: webhook.EventMessageSent, Title: "Message Sent"}})
	require.NoError(t, err)
	f := newFixtureOn(t, webhook.ManagerConfig{Catalog: catalog})
	w := f.create(t, "Archive")

	for _, who := range []string{asOwner, asViewer} {
		got := f.as(t, who, "/event-types", nil).is(ok)
		got.says(
			"Reminded reminded", "Somebody is reminded.", "JSON Schema of data",
			`"event_type": "reminded"`, `"text": "<b>Tea</b> & cake"`, `"description": "<i>Plain</i>"`, "No webhook is subscribed to it.",
			"Message Sent message_sent", `"data": {}`, "Subscribed: Archive",
		)
		require.NotContains(t, got.Body.String(), "<b>Tea")
		require.Contains(t, got.Body.String(), `<a href="`+w.ID.String()+`">Archive</a>`)
		require.NotContains(t, got.Body.String(), `id="schema-message_sent"`, "it has none")
		require.Equal(t, who == asOwner, regexp.MustCompile(`href="new"`).MatchString(got.Body.String()))
	}
	f.as(t, "owner@rival", "/event-types", nil).is(ok).says("Reminded").saysNot("Archive")

	// It is found from where people ask themselves what there is.
	for _, page := range []string{"/", "/new", "/" + w.ID.String() + "/edit", "/troubleshooting"} {
		require.Regexp(t, `href="(\./|\.\./)?event-types"`, f.get(t, page).is(ok).Body.String())
	}
}

func TestEventTypesNameSomeWebhooks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 12 {
		f.create(t, fmt.Sprintf("Archive %d", i))
	}

	got := f.get(t, "/event-types").is(ok)

	require.Len(t, regexp.MustCompile(`>Archive \d+</a>`).FindAllString(got.Body.String(), -1), 10)
	require.Contains(t, got.Body.String(), `<a href="./?q=message_sent">and others</a>`)
	require.Contains(t, got.Body.String(), "No webhook is subscribed to it.")
	f.get(t, "/?q=message_sent").is(ok).says("Archive 0", "Archive 11")
}
