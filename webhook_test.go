package webhook_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

const otherRoomID = "9a2d7c44-0d3e-4f5a-8b6c-1e2f3a4b5c6d"

// rooms returns n subscriptions of as many rooms.
func rooms(n int) []webhook.Subscription {
	subs := make([]webhook.Subscription, n)
	for i := range subs {
		subs[i] = webhook.Subscription{
			Subject:   webhook.Subject{Type: webhook.SubjectRoom, ID: fmt.Sprintf("3f0c9d1e-8f5b-4c55-9b0e-%012x", i)},
			EventType: webhook.EventMessageSent,
		}
	}
	return subs
}

// entries returns a map of n entries.
func entries(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("k%02d", i)] = "v"
	}
	return m
}

// webhookRules are inputs that each break one rule, and what is at fault then.
var webhookRules = map[string]struct {
	edit   func(*webhook.WebhookInput)
	fields []string
	bound  string // that the reason names
}{
	"NameMissing":   {func(in *webhook.WebhookInput) { in.Name = "" }, []string{"name"}, ""},
	"NameOfSpaces":  {func(in *webhook.WebhookInput) { in.Name = " \t\n\u00a0" }, []string{"name"}, ""},
	"NameTooLong":   {func(in *webhook.WebhookInput) { in.Name = strings.Repeat("é", 101) }, []string{"name"}, "100 characters"},
	"NameInBadUTF8": {func(in *webhook.WebhookInput) { in.Name = "a\xffb" }, []string{"name"}, ""},
	"NameOfTwoLines": {func(in *webhook.WebhookInput) { in.Name = "a\nb" }, []string{"name"},
		"U+000A"},
	"DescriptionTooLong":   {func(in *webhook.WebhookInput) { in.Description = strings.Repeat("é", 501) }, []string{"description"}, "500 characters"},
	"DescriptionInBadUTF8": {func(in *webhook.WebhookInput) { in.Description = "\xc3" }, []string{"description"}, ""},
	"DescriptionWithNUL":   {func(in *webhook.WebhookInput) { in.Description = "a\x00" }, []string{"description"}, "U+0000"},

	"URLMissing":     {func(in *webhook.WebhookInput) { in.EndpointURL = "" }, []string{"endpoint_url"}, ""},
	"URLWithoutTLS":  {func(in *webhook.WebhookInput) { in.EndpointURL = "http://example.com/" }, []string{"endpoint_url"}, "https"},
	"URLTooLong":     {func(in *webhook.WebhookInput) { in.EndpointURL = endpointURL + strings.Repeat("a", 2048) }, []string{"endpoint_url"}, "2,048 bytes"},
	"URLTwiceWrong":  {func(in *webhook.WebhookInput) { in.EndpointURL = "https://a:b@example.com/#c" }, []string{"endpoint_url", "endpoint_url"}, ""},
	"URLOfLoopback":  {func(in *webhook.WebhookInput) { in.EndpointURL = "https://127.0.0.1/" }, []string{"endpoint_url"}, ""},
	"URLOfLocalName": {func(in *webhook.WebhookInput) { in.EndpointURL = "https://localhost/" }, []string{"endpoint_url"}, ""},

	"SubscriptionsMissing": {func(in *webhook.WebhookInput) { in.Subscriptions = nil }, []string{"subscriptions"}, ""},
	"SubscriptionsEmpty":   {func(in *webhook.WebhookInput) { in.Subscriptions = []webhook.Subscription{} }, []string{"subscriptions"}, ""},
	"SubscriptionsTooMany": {func(in *webhook.WebhookInput) { in.Subscriptions = rooms(101) }, []string{"subscriptions"}, "100"},
	"SubscriptionRepeated": {func(in *webhook.WebhookInput) {
		in.Subscriptions = append(rooms(2), rooms(1)...)
	}, []string{"subscriptions[2]"}, ""},
	"SubscriptionRepeatedInOtherCase": {func(in *webhook.WebhookInput) {
		in.Subscriptions = append(rooms(1), rooms(1)...)
		in.Subscriptions[1].Subject.ID = strings.ToUpper(in.Subscriptions[1].Subject.ID)
	}, []string{"subscriptions[1]"}, ""},
	"SubscriptionRepeatedWithFilter": {func(in *webhook.WebhookInput) {
		in.Subscriptions = append(rooms(1), rooms(1)...)
		in.Subscriptions[1].Filter = entries(1)
	}, []string{"subscriptions[1]"}, ""},
	"SubjectTypeMissing": {func(in *webhook.WebhookInput) { in.Subscriptions[0].Subject.Type = "" }, []string{"subscriptions[0].subject.type"}, ""},
	"SubjectTypeUnknown": {func(in *webhook.WebhookInput) { in.Subscriptions[0].Subject.Type = "galaxy" }, []string{"subscriptions[0].subject.type"}, "galaxy"},
	"SubjectIDMissing":   {func(in *webhook.WebhookInput) { in.Subscriptions[0].Subject.ID = "" }, []string{"subscriptions[0].subject.id"}, ""},
	"SubjectIDTooLong":   {func(in *webhook.WebhookInput) { in.Subscriptions[0].Subject.ID = strings.Repeat("a", 129) }, []string{"subscriptions[0].subject.id"}, "128 bytes"},
	"SubjectIDNotAUUID":  {func(in *webhook.WebhookInput) { in.Subscriptions[0].Subject.ID = "lobby" }, []string{"subscriptions[0].subject.id"}, "UUID"},
	"EventTypeMissing":   {func(in *webhook.WebhookInput) { in.Subscriptions[0].EventType = "" }, []string{"subscriptions[0].event_type"}, ""},
	"EventTypeUnknown":   {func(in *webhook.WebhookInput) { in.Subscriptions[0].EventType = "big_bang" }, []string{"subscriptions[0].event_type"}, "big_bang"},
	"EventTypeEndless": {func(in *webhook.WebhookInput) {
		in.Subscriptions[0].EventType = webhook.EventType(strings.Repeat("é", 10_000))
	}, []string{"subscriptions[0].event_type"}, ""},
	"FilterTooBig":   {func(in *webhook.WebhookInput) { in.Subscriptions[0].Filter = entries(17) }, []string{"subscriptions[0].filter"}, "16 entries"},
	"FilterKeyEmpty": {func(in *webhook.WebhookInput) { in.Subscriptions[0].Filter = map[string]string{"": "v"} }, []string{"subscriptions[0].filter"}, ""},
	"FilterKeyTooLong": {func(in *webhook.WebhookInput) {
		in.Subscriptions[0].Filter = map[string]string{strings.Repeat("k", 129): "v"}
	}, []string{"subscriptions[0].filter"}, "128 bytes"},
	"FilterKeyWithControl": {func(in *webhook.WebhookInput) { in.Subscriptions[0].Filter = map[string]string{"a\tb": "v"} }, []string{"subscriptions[0].filter"}, "U+0009"},
	"FilterValueTooLong": {func(in *webhook.WebhookInput) {
		in.Subscriptions[0].Filter = map[string]string{"k": strings.Repeat("v", 129)}
	}, []string{"subscriptions[0].filter[k]"}, "128 bytes"},
	"FilterValueInBadUTF8": {func(in *webhook.WebhookInput) { in.Subscriptions[0].Filter = map[string]string{"k": "\xff"} }, []string{"subscriptions[0].filter[k]"}, "UTF-8"},

	"EverythingAtOnce": {func(in *webhook.WebhookInput) {
		*in = webhook.WebhookInput{
			Name: "a\u200bb", Description: "\u2066", EndpointURL: "ftp://10.0.0.1/#x",
			Subscriptions: append(rooms(1), webhook.Subscription{
				Filter: map[string]string{"": "", "b": "\x01", "c\x01": "fit", "a": strings.Repeat("é", 65)},
			}),
		}
	}, []string{
		"name", "description", "endpoint_url", "endpoint_url", "endpoint_url",
		"subscriptions[1].subject.type", "subscriptions[1].subject.id", "subscriptions[1].event_type",
		"subscriptions[1].filter", "subscriptions[1].filter[a]", "subscriptions[1].filter[b]", "subscriptions[1].filter",
	}, ""},
}

func TestWebhookRules(t *testing.T) {
	t.Parallel()
	for name, c := range webhookRules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.createWebhook(t, endpointURL)
			spy := f.spy(t)
			in := webhook.WebhookInput{Name: w.Name, EndpointURL: w.EndpointURL, Subscriptions: w.Clone().Subscriptions}
			c.edit(&in)

			created, secret, err := f.manager.Create(t.Context(), f.admin, in)
			require.Equal(t, c.fields, faultFields(t, err))
			require.ErrorContains(t, err, c.bound)
			require.Equal(t, webhook.Webhook{}, created)
			require.True(t, secret.IsZero())
			require.Empty(t, spy.seen(), "nothing is written")

			// The same rules hold for a change.
			ch := sameAs(w)
			ch.Name, ch.Description, ch.EndpointURL, ch.Subscriptions = in.Name, in.Description, in.EndpointURL, in.Subscriptions
			_, err = f.manager.Update(t.Context(), f.admin, w.ID, ch)
			require.Equal(t, c.fields, faultFields(t, err))
			require.NotContains(t, spy.seen(), "UpdateWebhook")

			got, err := f.manager.Webhook(t.Context(), f.admin, w.ID)
			require.NoError(t, err)
			require.Equal(t, w, got)
		})
	}
}

func TestWebhookAtItsBounds(t *testing.T) {
	t.Parallel()
	filter := entries(webhook.MaxAttributes - 1)
	filter[strings.Repeat("k", 128)] = strings.Repeat("é", 64)
	subs := rooms(webhook.MaxSubscriptions)
	subs[0].Filter = filter
	subs[1].Filter = map[string]string{"empty": ""}
	in := webhook.WebhookInput{
		Name:          "x" + strings.Repeat("é", webhook.MaxNameLength-1),
		Description:   strings.Repeat("é", webhook.MaxDescriptionLength-3) + "\r\n\t",
		EndpointURL:   "https://example.com/" + strings.Repeat("a", webhook.MaxEndpointURLBytes-len("https://example.com/")),
		Subscriptions: subs,
	}
	f := newFixture(t)
	w, _, err := f.manager.Create(t.Context(), f.admin, in)
	require.NoError(t, err)
	got := webhook.WebhookInput{Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL, Subscriptions: w.Subscriptions}
	require.Equal(t, in, got)
}

func TestWebhookText(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for text, ok := range map[string]bool{
		"Zürich, Überweisung – 価格 (€)":                      true,
		"family \U0001F468\u200D\U0001F469\u200D\U0001F467": true, // joined by zero-width joiners
		"می\u200Cخواهم":                                     true, // Persian needs the non-joiner
		"<b>\"quotes\" & 'so on'":                           true, // for others to escape
		"tab\there":                                         false,
		"escape \x1b[31m":                                   false,
		"delete \x7f":                                       false,
		"next\u0085line":                                    false,
		"override \u202Egpj.exe":                            false,
		"embedding \u202A":                                  false,
		"isolate \u2066":                                    false,
		"left-to-right mark\u200E":                          false,
		"Arabic letter mark\u061C":                          false,
		"soft\u00ADhyphen":                                  false,
		"zero-width\u200Bspace":                             false,
		"line\u2028separator":                               false,
		"paragraph\u2029separator":                          false,
		"word\u2060joiner":                                  false,
		"byte order\uFEFFmark":                              false,
		"annotation\uFFF9anchor":                            false,
		"tag\U000E0041letter":                               false,
	} {
		_, _, err := f.manager.Create(t.Context(), f.admin, webhook.WebhookInput{Name: text, EndpointURL: endpointURL, Subscriptions: rooms(1)})
		if ok {
			require.NoError(t, err, "%+q", text)
		} else {
			require.Equal(t, []string{"name"}, faultFields(t, err), "%+q", text)
		}
	}
}

func TestWebhookIsNormalized(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	in := webhook.WebhookInput{
		Name: "  Receiver\u00a0", Description: " kept ", EndpointURL: "HTTPS://Example.COM:443",
		Subscriptions: []webhook.Subscription{{
			Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: strings.ToUpper(f.room.ID)}, EventType: webhook.EventMessageSent,
			Filter: map[string]string{"room_type": "chat"},
		}},
	}
	w, _, err := f.manager.Create(t.Context(), f.admin, in)
	require.NoError(t, err)
	require.NotEqual(t, uuid.UUID{}, w.ID)
	require.Equal(t, webhook.Webhook{
		ID: w.ID, OrganizationID: "acme", Name: "Receiver", Description: " kept ", EndpointURL: "https://example.com/",
		Status: webhook.StatusActive, StatusSince: f.clock.Now(), Version: 1,
		Subscriptions: []webhook.Subscription{{Subject: f.room, EventType: webhook.EventMessageSent, Filter: map[string]string{"room_type": "chat"}}},
		CreatedAt:     f.clock.Now(), UpdatedAt: f.clock.Now(), CreatedBy: "ada", UpdatedBy: "ada",
	}, w)
	require.Equal(t, strings.ToUpper(f.room.ID), in.Subscriptions[0].Subject.ID, "the caller's slice is left alone")

	in.Subscriptions[0].Filter["room_type"] = "video"
	require.Equal(t, map[string]string{"room_type": "chat"}, w.Subscriptions[0].Filter)
	w.Subscriptions[0].EventType = "changed"
	stored, err := f.manager.Webhook(t.Context(), f.admin, w.ID)
	require.NoError(t, err)
	require.Equal(t, webhook.Subscription{Subject: f.room, EventType: webhook.EventMessageSent, Filter: map[string]string{"room_type": "chat"}},
		stored.Subscriptions[0], "what was passed in and what was returned are the caller's own")
}

func TestSubscriptionMatches(t *testing.T) {
	t.Parallel()
	room := webhook.Subject{Type: webhook.SubjectRoom, ID: "r"}
	space := webhook.Subject{Type: webhook.SubjectSpace, ID: "s"}
	event := webhook.EventRecord{
		Type: "message_sent", Subject: room, Parents: []webhook.Subject{{Type: webhook.SubjectSpace, ID: "t"}, space},
		Attributes: map[string]string{"room_type": "chat", "lang": "en", "note": ""},
	}
	for name, c := range map[string]struct {
		sub  webhook.Subscription
		want bool
	}{
		"Subject":                {webhook.Subscription{Subject: room, EventType: "message_sent"}, true},
		"Parent":                 {webhook.Subscription{Subject: space, EventType: "message_sent"}, true},
		"OtherSubject":           {webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: "q"}, EventType: "message_sent"}, false},
		"SameIDOfAnotherType":    {webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectSpace, ID: "r"}, EventType: "message_sent"}, false},
		"IDInOtherCase":          {webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: "R"}, EventType: "message_sent"}, false},
		"OtherEventType":         {webhook.Subscription{Subject: room, EventType: "message_deleted"}, false},
		"OtherEventTypeOfParent": {webhook.Subscription{Subject: space, EventType: "message_deleted"}, false},
		"Zero":                   {webhook.Subscription{}, false},
		"EmptyFilter":            {webhook.Subscription{Subject: room, EventType: "message_sent", Filter: map[string]string{}}, true},
		"Filter":                 {webhook.Subscription{Subject: room, EventType: "message_sent", Filter: map[string]string{"room_type": "chat"}}, true},
		"FilterOfTwo":            {webhook.Subscription{Subject: space, EventType: "message_sent", Filter: map[string]string{"room_type": "chat", "lang": "en"}}, true},
		"FilterHalfMet":          {webhook.Subscription{Subject: room, EventType: "message_sent", Filter: map[string]string{"room_type": "chat", "lang": "de"}}, false},
		"FilterInOtherCase":      {webhook.Subscription{Subject: room, EventType: "message_sent", Filter: map[string]string{"room_type": "Chat"}}, false},
		"FilterOnNothing":        {webhook.Subscription{Subject: room, EventType: "message_sent", Filter: map[string]string{"absent": "x"}}, false},
		"FilterForEmpty":         {webhook.Subscription{Subject: room, EventType: "message_sent", Filter: map[string]string{"note": ""}}, true},
		"FilterForEmptyOnAbsent": {webhook.Subscription{Subject: room, EventType: "message_sent", Filter: map[string]string{"absent": ""}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.sub.Matches(&event))

			none := webhook.Subscription{Subject: room, EventType: "never"}
			w := webhook.Webhook{Subscriptions: []webhook.Subscription{none, c.sub}}
			require.Equal(t, c.want, w.Matches(&event), "a webhook matches by any of its subscriptions")
		})
	}
	var without webhook.Webhook
	require.False(t, without.Matches(&event))
}

func TestWebhookSubscribes(t *testing.T) {
	t.Parallel()
	room := webhook.Subject{Type: webhook.SubjectRoom, ID: "r"}
	space := webhook.Subject{Type: webhook.SubjectSpace, ID: "s"}
	w := webhook.Webhook{Subscriptions: []webhook.Subscription{
		{Subject: room, EventType: "a", Filter: map[string]string{"k": "v"}},
		{Subject: space, EventType: "b"},
	}}
	for name, c := range map[string]struct {
		event webhook.EventRecord
		want  bool
	}{
		"WhateverTheFilter": {webhook.EventRecord{Type: "a", Subject: room}, true},
		"Parent":            {webhook.EventRecord{Type: "b", Subject: room, Parents: []webhook.Subject{space}}, true},
		"OtherType":         {webhook.EventRecord{Type: "b", Subject: room}, false},
		"OtherSubject":      {webhook.EventRecord{Type: "a", Subject: space}, false},
		"Test":              {webhook.EventRecord{Type: "c", Subject: space, Test: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, w.Subscribes(&c.event))
		})
	}
}

func TestWebhookClone(t *testing.T) {
	t.Parallel()
	fresh := func() webhook.Webhook {
		return webhook.Webhook{Name: "x", Subscriptions: []webhook.Subscription{{EventType: "a", Filter: map[string]string{"k": "v"}}, {EventType: "b"}}}
	}
	w := fresh()
	c := w.Clone()
	require.Equal(t, w, c)
	c.Subscriptions[0].Filter["k"] = "changed"
	c.Subscriptions[1].EventType = "changed"
	require.Equal(t, fresh(), w)
}

func TestWebhookEndpointHost(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		endpointURL:                        "receiver.example.com",
		"https://example.com:8443/a?b=c@d": "example.com",
		"https://[2001:4860::1]:8443/":     "2001:4860::1",
		"https://exa mple.com/":            "",
		"":                                 "",
	} {
		w := webhook.Webhook{EndpointURL: url}
		require.Equal(t, want, w.EndpointHost(), "%q", url)
	}
}
