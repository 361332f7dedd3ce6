package adminui

import (
	"bytes"
	"encoding/json"

	"github.com/posthorn/webhook"
)

// eventTypesData is the catalog, as a page for those who write receivers.
type eventTypesData struct {
	Types []eventTypeRow
}

// eventTypeRow is an event type, and who of the organization gets it.
type eventTypeRow struct {
	webhook.EventTypeInfo
	Payload     string // a sample of all of it, indented
	SchemaText  string // indented; empty if there is none
	Subscribers []webhook.Webhook
	More        bool // there are more of them
}

// maxSubscribers is how many webhooks are named of an event type.
const maxSubscribers = 10

// catalogPage shows what there is to subscribe to, and what endpoints then get.
func (c *call) catalogPage() error {
	p, err := c.manager.Webhooks(c.r.Context(), c.actor, webhook.WebhookQuery{Limit: webhook.MaxPageSize})
	if err != nil {
		return err
	}
	var d eventTypesData
	for _, info := range c.catalog.EventTypes() {
		row := eventTypeRow{EventTypeInfo: info, SchemaText: indented(info.Schema), More: p.Next != ""}
		payload, _ := c.catalog.SamplePayload(info.Type)
		row.Payload = indented(payload)
		for _, w := range p.Items {
			for _, t := range eventTypesOf(w) {
				if t == info.Type && len(row.Subscribers) < maxSubscribers {
					row.Subscribers = append(row.Subscribers, w)
				} else if t == info.Type {
					row.More = true
				}
			}
		}
		d.Types = append(d.Types, row)
	}
	return c.ok("eventtypes", &page{Title: "Event types", Crumbs: c.crumbs(nil), Data: d})
}

// indented is a JSON text for people, and the text itself if it is none.
func indented(text json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, bytes.TrimSpace(text), "", "  ") != nil {
		return string(text)
	}
	return b.String()
}
