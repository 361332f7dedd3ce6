package integration_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
	"github.com/posthorn/webhook/webhooktest"
)

var (
	oldKey = sqlstore.Key{ID: "old", Bytes: bytes.Repeat([]byte{1}, 32)}
	newKey = sqlstore.Key{ID: "new", Bytes: bytes.Repeat([]byte{2}, 32)}
)

// sealedBy returns a store on the space with a keyring, or without one.
func sealedBy(t *testing.T, s *integration.Space, plaintext bool, keys ...sqlstore.Key) *sqlstore.Store {
	t.Helper()
	cfg := sqlstore.Config{InsecurePlaintextSecrets: plaintext}
	if len(keys) > 0 {
		var err error
		cfg.Keyring, err = sqlstore.NewKeyring(keys[0], keys[1:]...)
		require.NoError(t, err)
	}
	store, err := sqlstore.New(s.DB, s.Dialect, cfg)
	require.NoError(t, err)
	return store
}

// newSecrets creates webhooks, and returns their secrets.
func newSecrets(t *testing.T, store *sqlstore.Store, n int) map[uuid.UUID]webhook.Secret {
	t.Helper()
	manager, err := webhook.NewManager(store, webhook.ManagerConfig{AllowedPrefixes: loopback, MaxWebhooks: 1000})
	require.NoError(t, err)
	out := map[uuid.UUID]webhook.Secret{}
	for range n {
		w, secret, err := manager.Create(t.Context(), adminOf(acme), webhook.WebhookInput{
			Name: "Archive", EndpointURL: "https://archive.example/hooks",
			Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
		})
		require.NoError(t, err)
		out[w.ID] = secret
	}
	return out
}

// claimedSecrets publishes an event, and returns the secrets of its claims and of
// the same deliveries claimed as they are inserted.
func claimedSecrets(t *testing.T, store *sqlstore.Store) map[uuid.UUID]webhook.Secret {
	t.Helper()
	now := time.Now().UTC()
	record := webhook.EventRecord{
		ID: uuid.New(), OrganizationID: acme, Type: webhook.EventMessageSent, Subject: room, OccurredAt: now, Payload: []byte("{}"),
	}
	_, err := store.InsertEvents(t.Context(), webhook.InsertParams{Events: []webhook.EventRecord{record}, Now: now})
	require.NoError(t, err)
	record.ID = uuid.New()
	inserted, err := store.InsertEvents(t.Context(), webhook.InsertParams{Events: []webhook.EventRecord{record}, Now: now, Lease: &webhook.InsertLease{
		For: time.Minute, Take: func(uuid.UUID, uuid.UUID, string) bool { return true },
	}})
	require.NoError(t, err)
	handedOff := map[uuid.UUID]webhook.Secret{}
	for _, c := range inserted.Claims {
		handedOff[c.WebhookID] = c.Secret
	}
	claimed := map[uuid.UUID]webhook.Secret{}
	for {
		got, err := store.Claim(t.Context(), webhook.ClaimParams{Now: now.Add(time.Second), LeaseFor: time.Minute, Limit: 500})
		require.NoError(t, err)
		if len(got.Claims) == 0 {
			break
		}
		for _, c := range got.Claims {
			claimed[c.WebhookID] = c.Secret
		}
	}
	require.Equal(t, handedOff, claimed)
	return claimed
}

func onEachServer(t *testing.T, test func(t *testing.T, s *integration.Space)) {
	t.Helper()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			test(t, s.Migrated(t))
		})
	}
}

// TestSecretsAreSealed stores secrets that can be read with the keyring alone.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		sealing := sealedBy(t, s, false, oldKey)
		secrets := newSecrets(t, sealing, 3)
		require.Equal(t, secrets, claimedSecrets(t, sealing))
		require.Empty(t, s.TableWithSecrets(t))
		for _, secret := range secrets {
			// Nor without what it begins with, nor as the bytes that it stands for.
			text := secret.Reveal()[len("whsec_"):]
			key, err := base64.StdEncoding.DecodeString(text)
			require.NoError(t, err)
			for _, look := range [][]byte{[]byte(text), key} {
				require.Empty(t, s.TableWith(t, look))
				if s.Dialect == sqlstore.SQLite {
					path, _, _ := strings.Cut(strings.TrimPrefix(s.Source.DSN, "file:"), "?")
					for _, suffix := range []string{"", "-wal"} {
						content, err := os.ReadFile(path + suffix)
						require.NoError(t, err)
						require.NotContains(t, string(content), string(look))
					}
				}
			}
		}
		closed := map[uuid.UUID]webhook.Secret{}
		for id := range secrets {
			closed[id] = webhook.Secret{}
		}
		require.Equal(t, closed, claimedSecrets(t, sealedBy(t, s, true)), "without a keyring")
		require.Equal(t, closed, claimedSecrets(t, sealedBy(t, s, true, newKey)), "with another keyring")
		impostor := sqlstore.Key{ID: oldKey.ID, Bytes: newKey.Bytes}
		require.Equal(t, closed, claimedSecrets(t, sealedBy(t, s, true, impostor)), "with another key of that name")
	})
}

// TestPlaintextSecrets are found by the dump, and are not read unless that is said
// to be wanted.
func TestPlaintextSecrets(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		_, err := sqlstore.New(s.DB, s.Dialect, sqlstore.Config{})
		var fault webhook.ValidationError
		require.ErrorAs(t, err, &fault)
		require.Equal(t, "keyring", fault.Field)

		secrets := newSecrets(t, sealedBy(t, s, true), 3)
		require.Equal(t, "posthorn_webhooks", s.TableWithSecrets(t))
		for id, secret := range claimedSecrets(t, sealedBy(t, s, false, newKey)) {
			require.Zero(t, secret, id)
		}
		both := sealedBy(t, s, true, newKey)
		require.Equal(t, secrets, claimedSecrets(t, both))
		done, err := both.Reseal(t.Context())
		require.NoError(t, err)
		require.Equal(t, sqlstore.Resealed{Resealed: 3}, done)
		require.Empty(t, s.TableWithSecrets(t))
		require.Equal(t, secrets, claimedSecrets(t, sealedBy(t, s, false, newKey)))
	})
}

// TestReseal changes keys, in more than one transaction, and broken off once.
func TestReseal(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		secrets := newSecrets(t, sealedBy(t, s, false, oldKey), 450)
		turning := sealedBy(t, s, false, newKey, oldKey)
		require.Equal(t, secrets, claimedSecrets(t, turning))

		ctx, cancel := context.WithCancel(t.Context())
		var f faults
		broken, err := sqlstore.New(s.ConnectVia(t, f.connector), s.Dialect, sqlstore.Config{Keyring: keyring(t, newKey, oldKey)})
		require.NoError(t, err)
		f.set(fault{at: atCommit, err: io.EOF, effect: fullEffect, broken: true, then: cancel}, 1)
		_, err = broken.Reseal(ctx)
		require.Error(t, err)

		rest, err := turning.Reseal(t.Context())
		require.NoError(t, err)
		require.Equal(t, sqlstore.Resealed{Resealed: 250, Current: 200}, rest)
		again, err := turning.Reseal(t.Context())
		require.NoError(t, err)
		require.Equal(t, sqlstore.Resealed{Current: 450}, again)
		require.Equal(t, secrets, claimedSecrets(t, sealedBy(t, s, false, newKey)))

		lost, err := sealedBy(t, s, false, oldKey).Reseal(t.Context())
		require.NoError(t, err)
		require.Len(t, lost.Unopened, 450)
		require.Equal(t, secrets, claimedSecrets(t, sealedBy(t, s, false, newKey)), "and left as they were")
	})
}

func keyring(t *testing.T, first sqlstore.Key, others ...sqlstore.Key) *sqlstore.Keyring {
	t.Helper()
	k, err := sqlstore.NewKeyring(first, others...)
	require.NoError(t, err)
	return k
}

// doerFunc is an HTTPDoer made of a function.
type doerFunc func(*http.Request) (*http.Response, error)

func (f doerFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// unopened counts what its name says.
type unopened struct {
	webhook.NopTracer
	n atomic.Int64
}

func (u *unopened) Recorded(_ context.Context, c webhook.RecordCall) { u.n.Add(int64(c.Unopened)) }

// TestSwappedSecrets exchanges two webhooks' secrets in the database: neither opens
// in the other's row, nothing is sent, and nothing is lost.
func TestSwappedSecrets(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s *integration.Space) {
		t.Helper()
		store := sealedBy(t, s, false, newKey)
		secrets := newSecrets(t, store, 2)
		swap := func() {
			s.Exec(t, "create table swapped as select id, secret from posthorn_webhooks")
			s.Exec(t, "update posthorn_webhooks set secret = (select o.secret from swapped o where o.id <> posthorn_webhooks.id)")
			s.Exec(t, "drop table swapped")
		}
		swap()
		var sent atomic.Int64
		var tracer unopened
		clock := &webhooktest.Clock{}
		verifier, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: slices.Collect(maps.Values(secrets)), Clock: clock})
		require.NoError(t, err)
		dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Clock: clock, Tracer: &tracer, HTTPDoer: doerFunc(
			func(r *http.Request) (*http.Response, error) {
				sent.Add(1)
				if _, err := verifier.VerifyRequest(r); err != nil {
					return nil, err
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			})})
		require.NoError(t, err)
		publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{Clock: clock})
		require.NoError(t, err)
		_, err = publisher.Publish(t.Context(), message(acme, room))
		require.NoError(t, err)

		for n := range 3 {
			_, err := dispatcher.RunOnce(t.Context())
			require.NoError(t, err)
			require.Zero(t, sent.Load())
			require.Equal(t, int64(2*(n+1)), tracer.n.Load())
			require.Equal(t, clock.Now().Add(time.Minute), dispatcher.NextDue(), "looked at again in a minute")
			clock.AdvanceTo(dispatcher.NextDue())
		}
		swap()
		webhooktest.Drain(t, dispatcher, clock)
		require.Equal(t, int64(2), sent.Load())
		require.Equal(t, 2, count(t, s, "select count(*) from posthorn_deliveries where state = 1 and attempts = 1"))
	})
}
