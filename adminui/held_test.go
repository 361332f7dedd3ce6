package adminui_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
)

// sparseStore looks at one delivery for each page of held ones, as stores look at a
// limited number of them: pages may have none, and not be the last.
type sparseStore struct{ *memstore.Store }

func (s sparseStore) Deliveries(ctx context.Context, scope webhook.Scope, q webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error) {
	if q.State != webhook.DeliveryHeld {
		return s.Store.Deliveries(ctx, scope, q)
	}
	all, err := s.Store.Deliveries(ctx, scope, webhook.DeliveryQuery{WebhookID: q.WebhookID, Limit: 1, Cursor: q.Cursor})
	if err != nil {
		return all, err
	}
	all.Items = slices.DeleteFunc(all.Items, func(d webhook.Delivery) bool { return d.State != webhook.DeliveryHeld })
	return all, nil
}

func TestHeldIsCountedBeyondPagesWithoutAny(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		held, sent       int // held ones are older
		active, inactive string
	}{
		"None":       {0, 3, "", "and nothing is sent."},
		"NoneSoFar":  {0, 30, "", "Deliveries may be held."},
		"Few":        {2, 1, "2 deliveries are held", "2 deliveries are held."},
		"One":        {1, 2, "1 delivery is held", "1 delivery is held."},
		"Unknown":    {2, 30, "", "Deliveries may be held."},
		"SomeOrMore": {20, 2, "2 deliveries or more are held", "2 deliveries or more are held."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.create(t, "Archive")
			set := func(status webhook.Status) {
				var err error
				w, err = f.manager.Update(t.Context(), admin, w.ID, webhook.WebhookChange{
					Version: w.Version, Name: w.Name, EndpointURL: w.EndpointURL, Status: status, Subscriptions: w.Subscriptions,
				})
				require.NoError(t, err)
			}
			set(webhook.StatusInactive)
			for range c.held {
				f.publish(t)
			}
			set(webhook.StatusActive)
			for range c.sent {
				f.publish(t)
			}
			webhooktestDrain(t, f)
			m, err := webhook.NewManager(sparseStore{f.store}, webhook.ManagerConfig{Clock: f.clock})
			require.NoError(t, err)
			panel, err := adminui.New(m, adminui.Config{Actor: signedIn, Clock: f.clock})
			require.NoError(t, err)
			f.host = http.StripPrefix(mount, panel)

			page := f.get(t, "/"+w.ID.String()).is(ok).says(c.active)
			require.Equal(t, c.active != "", strings.Contains(page.text(), " held"))
			set(webhook.StatusInactive)
			page = f.get(t, "/"+w.ID.String()).is(ok).says("It is inactive: its events are held, and nothing is sent.", c.inactive)
			require.Equal(t, c.inactive != "and nothing is sent.", strings.Contains(page.text(), "sent. "+c.inactive))
			f.get(t, "/"+w.ID.String()+"/edit").is(ok).says("deliver what was held").saysNot("0 deliveries")
		})
	}
}
