package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/sqlstore"
)

// service is the host of README's first code.
type service struct {
	keys    string
	db      *sql.DB
	mux     *http.ServeMux
	actor   func(*http.Request) (webhook.Actor, error)
	publish func(context.Context, *sql.Tx, map[string]string) error
}

// wire is what README shows first.
func (s *service) wire(ctx context.Context, done chan<- error) error {
	db, mux, secretKeys, actorFromSession := s.db, s.mux, s.keys, s.actor

	keys, err1 := sqlstore.ParseKeyring(secretKeys)                                    // seals the secrets
	store, err2 := sqlstore.New(db, sqlstore.Postgres, sqlstore.Config{Keyring: keys}) // on your *sql.DB
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil { // tables posthorn_…, beside yours
		return err
	}
	disp, err1 := webhook.NewDispatcher(store, webhook.DispatcherConfig{Logger: slog.Default()})
	pub, err2 := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp})
	mgr, err3 := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	panel, err := adminui.New(mgr, adminui.Config{Actor: actorFromSession}) // yours: who is signed in
	if err != nil {
		return err
	}
	mux.Handle("/admin/webhooks/", http.StripPrefix("/admin/webhooks", panel))
	go func() { done <- disp.Run(ctx) }() // delivers until ctx ends

	s.publish = func(ctx context.Context, tx *sql.Tx, message map[string]string) error {
		room := webhook.Subject{Type: webhook.SubjectRoom, ID: room}
		// In a handler, in your own transaction: the event commits or vanishes with it.
		_, err := pub.PublishTx(ctx, store.WithTx(tx), webhook.Event{
			OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: message,
		})
		return err
	}
	return nil
}

func TestREADMEWiring(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("pgx", newDatabase(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	mux := http.NewServeMux()
	ada := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}

	s := &service{keys: aKey, db: db, mux: mux, actor: func(*http.Request) (webhook.Actor, error) { return ada, nil }}
	done := make(chan error, 1)
	require.NoError(t, s.wire(ctx, done))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/admin/webhooks/", nil))
	require.Equal(t, http.StatusOK, w.Code)
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, s.publish(ctx, tx, map[string]string{"text": "Hello"}))
	require.NoError(t, tx.Commit())

	stop()
	require.NoError(t, <-done)
}
