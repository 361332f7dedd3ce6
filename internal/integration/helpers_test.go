package integration_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

const acme = "acme"

var (
	room     = webhook.Subject{Type: webhook.SubjectRoom, ID: "5d8f3c52-7a1e-4c0b-9d6e-2f4a1b7c8e90"}
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
)

func adminOf(organization string) webhook.Actor {
	return webhook.Actor{ID: "ada", OrganizationID: organization, Role: webhook.RoleAdmin}
}

func newManager(t *testing.T, store webhook.ManagerStore) *webhook.Manager {
	t.Helper()
	m, err := webhook.NewManager(store, webhook.ManagerConfig{AllowedPrefixes: loopback})
	require.NoError(t, err)
	return m
}

// register creates a webhook of acme for the messages of a subject.
func register(t *testing.T, store webhook.ManagerStore, url string, subject webhook.Subject) webhook.Webhook {
	t.Helper()
	w, _, err := newManager(t, store).Create(t.Context(), adminOf(acme), webhook.WebhookInput{
		Name: url, EndpointURL: url, Subscriptions: []webhook.Subscription{{Subject: subject, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	return w
}

func message(organization string, subject webhook.Subject) webhook.Event {
	return webhook.Event{OrganizationID: organization, Type: webhook.EventMessageSent, Subject: subject, Data: "hello"}
}

// requireWorks takes an event of a new webhook through the store.
func requireWorks(t *testing.T, store webhook.Store) {
	t.Helper()
	subject := webhook.Subject{Type: webhook.SubjectRoom, ID: uuid.NewString()}
	w := register(t, store, "https://archive.example/hooks", subject)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	published, err := publisher.Publish(t.Context(), message(acme, subject))
	require.NoError(t, err)
	require.Equal(t, 1, published.Deliveries)
	got, err := store.Claim(t.Context(), webhook.ClaimParams{Now: time.Now().Add(time.Second), LeaseFor: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Len(t, got.Claims, 1)
	require.Equal(t, published.EventID, got.Claims[0].EventID)
	require.Equal(t, w.ID, got.Claims[0].WebhookID)
	c := got.Claims[0]
	_, err = store.Release(t.Context(), webhook.ReleaseParams{Now: time.Now().Add(time.Second), Claims: []webhook.ReleasedClaim{
		{DeliveryID: c.DeliveryID, Token: c.Token, NotBefore: time.Now().Add(time.Hour)},
	}})
	require.NoError(t, err)
}

// count returns the number that a query gives.
func count(t *testing.T, s *integration.Space, query string) (n int) {
	t.Helper()
	require.NoError(t, s.DB.QueryRowContext(t.Context(), query).Scan(&n), "%s", query)
	return n
}

// lockFailure reports whether the database ended a transaction, or did not let it
// begin, because others were in its way.
func lockFailure(err error) bool {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var lite *sqlite.Error
	return errors.As(err, &pg) && pg.Code == "40P01" || errors.As(err, &my) && my.Number == 1213 ||
		errors.As(err, &lite) && lite.Code()&0xff == 5 // SQLITE_BUSY
}
