package integration_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// wakeTimeout is more than the second within which a listener is to be woken.
const wakeTimeout = 2 * time.Second

// listener is a call of Store.Listen.
type listener struct {
	wakes chan struct{} // one for each
	end   func() error  // ends its context and returns what it has returned
	ended chan struct{}
}

func listen(t *testing.T, store *sqlstore.Store) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &listener{wakes: make(chan struct{}, 10_000), ended: make(chan struct{})}
	var err error
	go func() {
		defer close(l.ended)
		err = store.Listen(ctx, func() { l.wakes <- struct{}{} })
	}()
	l.end = func() error {
		cancel()
		<-l.ended
		return err
	}
	t.Cleanup(func() { _ = l.end() }) // before its database is given back
	return l
}

// woken waits for a wake.
func (l *listener) woken(t *testing.T) {
	t.Helper()
	select {
	case <-l.wakes:
	case <-l.ended:
		require.FailNow(t, "it has ended", "%v", l.end())
	case <-time.After(wakeTimeout):
		require.FailNow(t, "it was not woken")
	}
}

// drop forgets the wakes that have come, and returns how many.
func (l *listener) drop() (n int) {
	for {
		select {
		case <-l.wakes:
			n++
		default:
			return n
		}
	}
}

// TestListen wakes one store by what another one on the same tables does.
func TestListen(t *testing.T) {
	t.Parallel()
	space := integration.Postgres.Migrated(t)
	other := integration.Postgres.Migrated(t) // of the same database
	register(t, space.Store(t), "https://archive.example/hooks", room)
	l, stranger := listen(t, space.Store(t)), listen(t, other.Store(t))
	l.woken(t) // when it begins
	stranger.woken(t)

	publisher, err := webhook.NewPublisher(space.Store(t), webhook.PublisherConfig{})
	require.NoError(t, err)
	store := space.Store(t)
	began := time.Now()
	const rounds = 10
	for range rounds {
		l.drop()
		_, err := publisher.Publish(t.Context(), message(acme, room))
		require.NoError(t, err)
		l.woken(t)
		l.drop()
		store.Wake()
		l.woken(t)
	}
	took := time.Since(began)
	// It is woken once a second anyway.
	require.Less(t, took, rounds*time.Second, "20 times")
	require.LessOrEqual(t, stranger.drop(), 1+int(took/time.Second), "others' events")
	require.NoError(t, l.end())
	require.NoError(t, stranger.end())
	for range 20 {
		store.Wake()
	}
	require.Zero(t, l.drop(), "after its end")
	requireNoListeners(t, space.DB)
}

// TestListenPolls finds within a second what nobody notifies of.
func TestListenPolls(t *testing.T) {
	t.Parallel()
	l := listen(t, integration.Postgres.Migrated(t).Store(t))
	for range 3 {
		l.woken(t)
	}
}

// TestListenEnds loses its connection, of which the caller is told.
func TestListenEnds(t *testing.T) {
	t.Parallel()
	space := integration.Postgres.Migrated(t)
	store := space.Store(t)
	l := listen(t, store)
	l.woken(t)
	killed := count(t, space, "select count(pg_terminate_backend(pid)) from pg_stat_activity where query = 'listen \"posthorn_wake_' || md5('"+
		space.Source.Name+"') || '\"'")
	require.Equal(t, 1, killed)
	<-l.ended
	err := l.end()
	require.Error(t, err)
	require.NotErrorIs(t, err, errors.ErrUnsupported)

	again := listen(t, store)
	again.woken(t)
	require.NoError(t, again.end())
}

// requireNoListeners looks at all connections of a pool at once.
func requireNoListeners(t *testing.T, db *sql.DB) {
	t.Helper()
	for range db.Stats().MaxOpenConnections {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		var n int
		require.NoError(t, conn.QueryRowContext(t.Context(), "select count(*) from pg_listening_channels()").Scan(&n))
		require.Zero(t, n)
	}
}

// TestListenUnsupported says at once where nobody can be notified, or no
// connection can be spared for it.
func TestListenUnsupported(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			var stores []*sqlstore.Store
			if s == integration.Postgres {
				small := space.ConnectVia(t, func(c driver.Connector) driver.Connector { return c })
				small.SetMaxOpenConns(3)
				another := space.ConnectVia(t, (&faults{}).connector) // which is not pgx's
				for _, db := range []*sql.DB{small, another} {
					store, err := s.NewStore(db)
					require.NoError(t, err)
					stores = append(stores, store)
				}
			} else {
				stores = append(stores, space.Store(t))
			}
			for _, store := range stores {
				err := store.Listen(t.Context(), func() { t.Error("woken") })
				require.ErrorIs(t, err, errors.ErrUnsupported)
				store.Wake() // does nothing, or nothing that anybody would hear
				requireWorks(t, store)
			}
		})
	}
}

// TestClock is the database's, or on SQLite the system's.
func TestClock(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Migrated(t)
			clock := space.Store(t).Clock()
			if s == integration.SQLite {
				for range 1_000 {
					before := time.Now()
					now := clock.Now()
					require.False(t, now.Before(before))
					require.False(t, now.After(time.Now()))
				}
				return
			}
			question := map[sqlstore.Dialect]string{
				sqlstore.Postgres: "select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)",
				sqlstore.MySQL:    "select cast(unix_timestamp(now(6)) * 1000000 as signed)",
			}[s.Dialect]
			last := clock.Now()
			for range 10 {
				requireNear(t, clock.Now(), time.UnixMicro(int64(count(t, space, question))))
				for range 100 {
					now := clock.Now()
					require.False(t, now.Before(last), "%v before %v", now, last)
					last = now
				}
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					last := last
					for range 1_000 {
						now := clock.Now()
						if now.Before(last) {
							t.Errorf("%v before %v", now, last)
							return
						}
						last = now
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestClockDiffers has a database whose clock, time zone included, is not the
// system's: it is the database's that counts.
func TestClockDiffers(t *testing.T) {
	t.Parallel()
	differs := time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC)
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		space := integration.Postgres.Empty(t)
		// A function of the same name, where the search path finds it first.
		space.Exec(t, "create function clock_timestamp() returns timestamptz language sql as 'select to_timestamp(1000000000)'")
		source := space.Source
		source.Name += ", pg_catalog"
		requireClock(t, integration.Postgres, source, differs)
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		space := integration.MariaDB.Migrated(t)
		cfg, err := mysql.ParseDSN(space.Source.DSN)
		require.NoError(t, err)
		if cfg.Params == nil {
			cfg.Params = map[string]string{}
		}
		cfg.Params["timestamp"], cfg.Params["time_zone"] = "1000000000", "'+05:00'"
		source := space.Source
		source.DSN = cfg.FormatDSN()
		requireClock(t, integration.MariaDB, source, differs)
	})
}

func requireClock(t *testing.T, s *integration.Server, source integration.Source, want time.Time) {
	t.Helper()
	db, err := s.Connect(source, 2)
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	store, err := s.NewStore(db)
	require.NoError(t, err)
	now := store.Clock().Now()
	requireNear(t, now, want)
	_, offset := now.Zone()
	require.Zero(t, offset, "seconds east of UTC")
}

func requireNear(t *testing.T, a, b time.Time) {
	t.Helper()
	require.WithinDuration(t, a, b, time.Second)
}
