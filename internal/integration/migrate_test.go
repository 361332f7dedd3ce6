package integration_test

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			store := space.Store(t)
			require.NoError(t, store.Migrate(t.Context()))
			register(t, store, "https://archive.example/hooks", room)
			require.NoError(t, store.Migrate(t.Context()))

			page, err := newManager(t, store).Webhooks(t.Context(), adminOf(acme), webhook.WebhookQuery{})
			require.NoError(t, err)
			require.Len(t, page.Items, 1, "what was there before")
			require.NoError(t, space.Store(t).Migrate(t.Context()), "by another store")
			requireWorks(t, store)
		})
	}
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			var processes []*process
			for i := range 4 {
				processes = append(processes, start(t, space, task{Kind: "migrate", Number: i}))
			}
			for _, p := range processes {
				if !p.reach(1) {
					require.NoError(t, p.end(t, false))
					t.Fatal("a process has ended before it was told to migrate")
				}
			}
			stores := make([]*sqlstore.Store, 4)
			for i := range stores {
				stores[i] = space.Store(t)
			}
			var wg sync.WaitGroup
			errs := make([]error, len(stores)+len(processes))
			for i, store := range stores {
				wg.Go(func() { errs[i] = store.Migrate(t.Context()) })
			}
			for i, p := range processes {
				wg.Go(func() { errs[len(stores)+i] = p.end(t, true) })
			}
			wg.Wait()
			for _, err := range errs {
				require.NoError(t, err)
			}
			requireWorks(t, stores[0])
		})
	}
}

// migrate is a child of TestMigrateAtOnce: it migrates when it is told to.
func migrate(ctx context.Context, c *childProcess, tick func()) error {
	tick()
	<-ctx.Done()
	return c.store.Migrate(context.WithoutCancel(ctx))
}

func TestTablePrefix(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			var stores []*sqlstore.Store
			for _, prefix := range []string{"", "a", "hooks_of_the_other_team_", "posthorn_2_"} {
				store, err := sqlstore.New(space.DB, s.Dialect, sqlstore.Config{InsecurePlaintextSecrets: true, TablePrefix: prefix})
				require.NoError(t, err)
				require.NoError(t, store.Migrate(t.Context()), "prefix %q", prefix)
				require.NoError(t, store.Migrate(t.Context()), "prefix %q, again", prefix)
				stores = append(stores, store)
			}
			for _, store := range stores {
				requireWorks(t, store) // and sees no other's
			}
		})
	}
}

func TestNewerTables(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			require.NoError(t, space.Store(t).Migrate(t.Context()))
			space.Exec(t, "insert into posthorn_schema (version, oldest) values (98, 1)")
			store := space.Store(t)
			require.NoError(t, store.Migrate(t.Context()), "newer, and good enough")
			requireWorks(t, store)

			space.Exec(t, "insert into posthorn_schema (version, oldest) values (99, 98)")
			store = space.Store(t)
			err := store.Migrate(t.Context())
			require.ErrorContains(t, err, "version 99")
			require.ErrorContains(t, err, "version 98")
			require.ErrorContains(t, err, "newer release")
			requireRefused(t, store, "newer release")
			version, err := store.SchemaVersion(t.Context())
			require.ErrorContains(t, err, "newer release")
			require.Equal(t, 99, version)
		})
	}
}

func requireVersion(t *testing.T, store *sqlstore.Store, want int) {
	t.Helper()
	version, err := store.SchemaVersion(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, version)
}

func TestMissingTables(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			store := s.Empty(t).Store(t)
			requireRefused(t, store, "Migrate")
			requireVersion(t, store, 0)
			require.NoError(t, store.Migrate(t.Context()))
			requireWorks(t, store) // the same store, once they are there
			files, err := fs.Glob(sqlstore.Migrations(s.Dialect), "*.sql")
			require.NoError(t, err)
			requireVersion(t, store, len(files))
		})
	}
}

// requireRefused checks that whatever a host does first says why it cannot be.
func requireRefused(t *testing.T, store *sqlstore.Store, reason string) {
	t.Helper()
	m := newManager(t, store)
	_, err := m.Webhooks(t.Context(), adminOf(acme), webhook.WebhookQuery{})
	require.ErrorContains(t, err, reason)
	_, _, err = m.Create(t.Context(), adminOf(acme), webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://archive.example/hooks",
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.ErrorContains(t, err, reason)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	_, err = publisher.Publish(t.Context(), message(acme, room))
	require.ErrorContains(t, err, reason)
	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{})
	require.NoError(t, err)
	_, err = dispatcher.RunOnce(t.Context())
	require.ErrorContains(t, err, reason)
}

// TestMigrationsByHand runs the files as a host's own tool would.
func TestMigrationsByHand(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			names, err := fs.Glob(sqlstore.Migrations(s.Dialect), "*.sql")
			require.NoError(t, err)
			migrateByHand(t, space, len(names))
			requireWorks(t, space.Store(t)) // without Migrate
			require.NoError(t, space.Store(t).Migrate(t.Context()))
		})
	}
}

func withoutComments(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		before, _, found := strings.Cut(line, "--")
		out.WriteString(before)
		if found {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// TestSQLiteSettings refuses databases that were opened without what sqlstore
// asks for, and says what to write.
func TestSQLiteSettings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, without, instead, says string }{
		{"no WAL", "journal_mode", "", "journal_mode"},
		{"deletes its journal", "journal_mode", "_pragma=journal_mode(DELETE)", "journal_mode"},
		{"synchronous normal", "synchronous", "_pragma=synchronous(NORMAL)", "synchronous"},
		{"synchronous off", "synchronous", "_pragma=synchronous(OFF)", "synchronous"},
		{"no busy timeout", "busy_timeout", "", "busy_timeout"},
		{"a short busy timeout", "busy_timeout", "_pragma=busy_timeout(100)", "busy_timeout"},
		{"deferred transactions", "_txlock", "", "immediate"},
		{"deferred transactions, by name", "_txlock", "_txlock=deferred", "immediate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dsn := integration.SQLiteDSN(filepath.Join(t.TempDir(), "hooks.db"), tc.without)
			if tc.instead != "" {
				dsn += "&" + tc.instead
			}
			db, err := integration.SQLite.Connect(integration.Source{DSN: dsn}, 4)
			require.NoError(t, err)
			defer func() { _ = db.Close() }()
			_, err = integration.SQLite.NewStore(db)
			require.ErrorContains(t, err, tc.says)
			for _, part := range []string{"_txlock=immediate", "busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"} {
				require.ErrorContains(t, err, part, "what to write")
			}
		})
	}
}

// TestSQLiteOneConnection works on a handle with one connection, which many
// hosts give their SQLite.
func TestSQLiteOneConnection(t *testing.T) {
	t.Parallel()
	space := integration.SQLite.Empty(t)
	space.DB.SetMaxOpenConns(1)
	store := space.Store(t)
	require.NoError(t, store.Migrate(t.Context()))
	requireWorks(t, store)
}

// TestWrongDialect says so at once.
func TestWrongDialect(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			for _, d := range []sqlstore.Dialect{sqlstore.Postgres, sqlstore.MySQL, sqlstore.SQLite} {
				if d == s.Dialect {
					continue
				}
				_, err := sqlstore.New(space.DB, d, sqlstore.Config{InsecurePlaintextSecrets: true})
				require.ErrorContains(t, err, string(d), "%s taken for %s", s.Dialect, d)
			}
		})
	}
}
