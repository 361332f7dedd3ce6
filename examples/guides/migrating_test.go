package guides_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// alsoAsBefore sends each request with the old signature beside the new ones, for
// receivers that have not moved yet.
type alsoAsBefore struct {
	webhook.HTTPDoer                                                // the library's client, with its guard
	oldSecret        func(endpoint string) (secret []byte, ok bool) // yours
}

func (a alsoAsBefore) Do(r *http.Request) (*http.Response, error) {
	if secret, ok := a.oldSecret(r.URL.String()); ok {
		body, err := r.GetBody() // the attempt's own body stays unread
		if err != nil {
			return nil, err
		}
		mac := hmac.New(sha256.New, secret)
		if _, err := io.Copy(mac, body); err != nil {
			return nil, err
		}
		r.Header.Set("X-Acme-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return a.HTTPDoer.Do(r)
}

// oldHook is a row of the table that the hand-rolled sender had.
type oldHook struct {
	ID, OrganizationID, URL, Room string
}

// importHooks registers what the old table has. Run again, it registers nothing twice.
func importHooks(ctx context.Context, mgr *webhook.Manager, hooks []oldHook, tell func(oldHook, webhook.Secret) error) error {
	for _, h := range hooks {
		actor := webhook.Actor{ID: "migration", OrganizationID: h.OrganizationID, Role: webhook.RoleAdmin}
		_, secret, err := mgr.Create(ctx, actor, webhook.WebhookInput{
			Name: "Imported " + h.ID, EndpointURL: h.URL, IdempotencyKey: "import-" + h.ID,
			Subscriptions: []webhook.Subscription{{
				Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: h.Room}, EventType: webhook.EventMessageSent,
			}},
		})
		if errors.Is(err, webhook.ErrConflict) {
			continue // an earlier run has registered it, and shown the secret
		}
		if err != nil {
			return err
		}
		if err := tell(h, secret); err != nil { // the receiver's people; the secret is shown this once
			return err
		}
	}
	return nil
}

func TestMigration(t *testing.T) {
	t.Parallel()
	clock, inbox := &webhooktest.Clock{}, webhooktest.NewInbox(t)
	endpoint := inbox.Endpoint(webhooktest.Succeed())
	store := memstore.New()
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Clock: clock, HTTPDoer: alsoAsBefore{
		HTTPDoer:  inbox.HTTPDoer(),
		oldSecret: func(string) ([]byte, bool) { return []byte("of before"), true },
	}})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp, AllowedPrefixes: inbox.Prefixes()})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
	require.NoError(t, err)

	hooks := []oldHook{{ID: "7", OrganizationID: "acme", URL: endpoint.URL(), Room: room.ID}}
	told := 0
	for range 2 {
		require.NoError(t, importHooks(t.Context(), mgr, hooks, func(_ oldHook, s webhook.Secret) error {
			told++
			endpoint.Trust(s)
			return nil
		}))
	}
	require.Equal(t, 1, told)

	_, err = pub.Publish(t.Context(), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: json.RawMessage(`{"text":"Hello"}`),
	})
	require.NoError(t, err)
	webhooktest.Drain(t, disp, clock)
	received := endpoint.Received()
	require.Len(t, received, 1)
	require.True(t, received[0].Verified, "as it is now")
	mac := hmac.New(sha256.New, []byte("of before"))
	mac.Write(received[0].Payload)
	require.Equal(t, "sha256="+hex.EncodeToString(mac.Sum(nil)), received[0].Header.Get("X-Acme-Signature"), "and as it was")
}
