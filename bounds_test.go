package webhook_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// Receivers, hosts' own checks and the columns of SQL stores rely on them.
func TestBounds(t *testing.T) {
	t.Parallel()
	require.Equal(t, 100, webhook.MaxNameLength)
	require.Equal(t, 500, webhook.MaxDescriptionLength)
	require.Equal(t, 128, webhook.MaxIDBytes)
	require.Equal(t, 100, webhook.MaxSubscriptions)
	require.Equal(t, 8, webhook.MaxParents)
	require.Equal(t, 16, webhook.MaxAttributes)
	require.Equal(t, 2048, webhook.MaxEndpointURLBytes)
	require.Equal(t, 100, webhook.DefaultMaxWebhooks)
	require.Equal(t, 256*1024, webhook.DefaultMaxPayloadBytes)
	require.Equal(t, 4*1024, webhook.MaxResponseBytes)
}

// Identifiers that a host chooses follow one rule wherever they stand.
func TestIdentifiers(t *testing.T) {
	t.Parallel()
	places := map[string]struct {
		set      func(*webhook.Event, string)
		field    string
		required bool
	}{
		"OrganizationID": {func(e *webhook.Event, s string) { e.OrganizationID = s }, "organization_id", true},
		"IdempotencyKey": {func(e *webhook.Event, s string) { e.IdempotencyKey = s }, "idempotency_key", false},
		"AttributeKey":   {func(e *webhook.Event, s string) { e.Attributes = map[string]string{s: "v"} }, "attributes", true},
		"AttributeValue": {func(e *webhook.Event, s string) { e.Attributes = map[string]string{"k": s} }, "attributes[k]", false},
		"SubjectID":      {func(e *webhook.Event, s string) { e.Subject.ID = s }, "subject.id", true},
		"ParentID": {func(e *webhook.Event, s string) {
			e.Parents = []webhook.Subject{{Type: "thing", ID: s}}
		}, "parents[0].id", true},
	}
	texts := map[string]bool{
		"a": true, "x:y/z?k=ü 日本": true, strings.Repeat("a", 128): true, strings.Repeat("é", 64): true,
		strings.Repeat("a", 129): false, strings.Repeat("é", 64) + "a": false, "a\x00": false, "a\nb": false, "a\xff": false, "\u202eb": false,
	}
	catalog, err := webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{Type: "thing", Title: "Thing", ParseID: func(id string) (string, error) { return id, nil }}},
		[]webhook.EventTypeInfo{{Type: "happened", Title: "Happened"}},
	)
	require.NoError(t, err)
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p, err := webhook.NewPublisher(f.store, webhook.PublisherConfig{Catalog: catalog})
			require.NoError(t, err)
			publish := func(text string) error {
				e := webhook.Event{OrganizationID: "acme", Type: "happened", Subject: webhook.Subject{Type: "thing", ID: "1"}}
				place.set(&e, text)
				_, err := p.Publish(t.Context(), e)
				return err
			}
			for text, ok := range texts {
				if ok {
					require.NoError(t, publish(text), "%+q", text)
				} else {
					require.Equal(t, []string{place.field}, faultFields(t, publish(text)), "%+q", text)
				}
			}
			if place.required {
				require.Equal(t, []string{place.field}, faultFields(t, publish("")))
			} else {
				require.NoError(t, publish(""))
			}
		})
	}
}

func TestActorsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for id, ok := range map[string]bool{"": true, strings.Repeat("é", 64): true, strings.Repeat("a", 129): false, "a\x00b": false} {
		a := webhook.Actor{ID: id, OrganizationID: "acme", Role: webhook.RoleAdmin}
		_, _, err := f.manager.Create(t.Context(), a, webhook.WebhookInput{Name: "x", EndpointURL: endpointURL, Subscriptions: rooms(1)})
		if ok {
			require.NoError(t, err, "%q", id)
			continue
		}
		require.Equal(t, []string{"actor_id"}, faultFields(t, err), "%q", id)
		_, err = f.manager.Update(t.Context(), a, w.ID, sameAs(w))
		require.Equal(t, []string{"actor_id"}, faultFields(t, err), "%q", id)
	}
	a := webhook.Actor{ID: "ada", OrganizationID: strings.Repeat("a", 129), Role: webhook.RoleAdmin}
	_, _, err := f.manager.Create(t.Context(), a, webhook.WebhookInput{Name: "x", EndpointURL: endpointURL, Subscriptions: rooms(1)})
	require.Equal(t, []string{"organization_id"}, faultFields(t, err))
}
