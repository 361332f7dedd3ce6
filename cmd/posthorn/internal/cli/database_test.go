package cli_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
)

// latest is the version that this release makes.
const latest = 3

// database is a place for one test's tables.
type database struct {
	dialect sqlstore.Dialect
	driver  string
	dsn     string // as posthorn takes it
	native  string // as the driver does
}

// server is where tests get databases from.
type server struct {
	name  string
	begin func(*testing.T) (database, error)
}

var servers = []server{{"sqlite", sqliteDatabase}, {"postgres", postgresDatabase}, {"mariadb", mariaDatabase}}

// empty returns a database without tables. What is missing is not tested, which
// fails in CI.
func (s server) empty(t *testing.T) database {
	t.Helper()
	d, err := s.begin(t)
	if err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "%s is missing: %v", s.name, err)
		t.Skipf("not tested: %s is missing: %v", s.name, err) //nolint:forbidigo // not everybody has every database; CI has
	}
	return d
}

func sqliteDatabase(t *testing.T) (database, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a b%.db")
	native := "file:" + (&url.URL{Path: file}).EscapedPath() +
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	return database{dialect: sqlstore.SQLite, driver: "sqlite", dsn: file, native: native}, nil
}

func spaceName() string {
	return fmt.Sprintf("posthorn_test_%d_%.8s", time.Now().Unix(), uuid.NewString())
}

func postgresDatabase(t *testing.T) (database, error) {
	t.Helper()
	dsn := os.Getenv("POSTHORN_TEST_POSTGRES")
	if dsn == "" {
		dsn = "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"
	}
	name := spaceName()
	if err := administer(t, "pgx", dsn, "create schema "+name, "drop schema "+name+" cascade"); err != nil {
		return database{}, err
	}
	switch {
	case !strings.Contains(dsn, "://"):
		dsn += " search_path=" + name
	case strings.Contains(dsn, "?"):
		dsn += "&search_path=" + name
	default:
		dsn += "?search_path=" + name
	}
	return database{dialect: sqlstore.Postgres, driver: "pgx", dsn: dsn, native: dsn}, nil
}

func mariaDatabase(t *testing.T) (database, error) {
	t.Helper()
	native := os.Getenv("POSTHORN_TEST_MYSQL")
	if native == "" {
		native = "root@tcp(127.0.0.1:3306)/"
	}
	name := spaceName()
	if err := administer(t, "mysql", native, "create database "+name, "drop database "+name); err != nil {
		return database{}, err
	}
	cfg, err := mysql.ParseDSN(native)
	if err != nil {
		return database{}, err
	}
	cfg.DBName = name
	d := database{dialect: sqlstore.MySQL, driver: "mysql", dsn: cfg.FormatDSN(), native: cfg.FormatDSN()}
	if cfg.Net == "tcp" { // the other way to write it
		u := url.URL{Scheme: "mysql", User: url.UserPassword(cfg.User, cfg.Passwd), Host: cfg.Addr, Path: "/" + name, RawQuery: "readTimeout=30s"}
		d.dsn = u.String()
	}
	return d, nil
}

// administer runs a statement now, and another when the test ends.
func administer(t *testing.T, driver, dsn, now, later string) error {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := db.ExecContext(ctx, now); err != nil {
		_ = db.Close()
		return err
	}
	t.Cleanup(func() {
		_, err := db.ExecContext(context.WithoutCancel(ctx), later)
		if err != nil {
			t.Errorf("%s: %v", later, err)
		}
		_ = db.Close()
	})
	return nil
}

// store opens the database as a service would.
func (d database) store(t *testing.T) *sqlstore.Store {
	t.Helper()
	db, err := sql.Open(d.driver, d.native)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	keys, err := sqlstore.NewKeyring(sqlstore.Key{ID: "tests", Bytes: []byte("a key for tests, of 32 bytes: 5a")})
	require.NoError(t, err)
	store, err := sqlstore.New(db, d.dialect, sqlstore.Config{Keyring: keys})
	require.NoError(t, err)
	return store
}

// run runs a command on the database, which the environment names.
func (d database) run(t *testing.T, args ...string) ran {
	t.Helper()
	return world{env: map[string]string{"POSTHORN_DSN": d.dsn}}.run(t.Context(), args...)
}

// decode reads the one JSON document of a run that went well.
func decode(t *testing.T, got ran) map[string]any {
	t.Helper()
	require.Zero(t, got.code, got.errors)
	require.Equal(t, 1, strings.Count(got.out, "\n"))
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.out), &doc))
	return doc
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := s.empty(t)
			files := []any{"0001_init.sql", "0002_narrowed.sql", "0003_health.sql"}
			document := func(dryRun bool, from int, files []any) map[string]any {
				return map[string]any{
					"dialect": string(d.dialect), "prefix": "posthorn_", "dry_run": dryRun, "from": float64(from), "to": float64(latest), "files": files,
				}
			}
			require.Equal(t, document(true, 0, files), decode(t, d.run(t, "migrate", "--dry-run", "--json")))
			if d.dialect == sqlstore.SQLite {
				require.NoFileExists(t, d.dsn, "a dry run makes nothing")
			}
			got := d.run(t, "migrate", "--dry-run")
			require.Contains(t, got.out, "the tables posthorn_… would go from version 0 to 3: 0001_init.sql, ")

			early := d.run(t, "status")
			require.Equal(t, 3, early.code)
			if d.dialect != sqlstore.SQLite {
				require.Contains(t, early.errors, "have version 0, and this release needs 3: run posthorn migrate")
			}

			got = d.run(t, "migrate")
			require.Equal(t, ran{out: got.out}, got)
			require.Contains(t, got.out, "the tables posthorn_… went from version 0 to 3: 0001_init.sql, ")
			require.Equal(t, document(false, latest, []any{}), decode(t, d.run(t, "migrate", "--json")))
			require.Equal(t, document(true, latest, []any{}), decode(t, d.run(t, "migrate", "--dry-run", "--json")))
			require.Contains(t, d.run(t, "migrate").out, "the tables posthorn_… have version 3, nothing to do\n")

			other := decode(t, d.run(t, "migrate", "--prefix", "other_", "--json"))
			require.Equal(t, files, other["files"])
			require.NotContains(t, got.out+fmt.Sprint(other), "root", "no user, no password")
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := s.empty(t)
			require.Zero(t, d.run(t, "migrate").code)
			nothing := decode(t, d.run(t, "status", "--json", "--max-age", "1ms"))
			require.Zero(t, nothing["ready"])
			require.Nil(t, nothing["oldest_due"])
			require.Empty(t, nothing["backlog"])
			require.Equal(t, false, nothing["paused"])

			store := d.store(t)
			mgr, err := webhook.NewManager(store, webhook.ManagerConfig{})
			require.NoError(t, err)
			pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
			require.NoError(t, err)
			room := webhook.Subject{Type: webhook.SubjectRoom, ID: "9a7c1f0a-2b8e-4c0e-8d5e-6f1b2c3d4e02"}
			w, _, err := mgr.Create(t.Context(), webhook.Actor{ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}, webhook.WebhookInput{
				Name: "Archive", EndpointURL: "https://archive.example.com/in?key=hunter2",
				Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
			})
			require.NoError(t, err)
			for range 3 {
				_, err := pub.Publish(t.Context(), webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room})
				require.NoError(t, err)
			}
			require.NoError(t, store.SetPaused(t.Context(), webhook.SetPausedParams{Paused: true, By: "ada\u202e", Now: store.Clock().Now()}))

			doc := decode(t, d.run(t, "status", "--json"))
			require.EqualValues(t, 3, doc["ready"])
			require.NotNil(t, doc["oldest_due"])
			require.Positive(t, doc["oldest_due_age_seconds"])
			require.Equal(t, true, doc["paused"])
			require.Equal(t, "ada\u202e", doc["paused_by"])
			row := doc["backlog"].([]any)[0].(map[string]any)
			require.NotNil(t, row["oldest_due"])
			delete(row, "oldest_due")
			require.Equal(t, map[string]any{
				"webhook_id": w.ID.String(), "organization_id": "acme", "name": "Archive", "endpoint_host": "archive.example.com", "due": 3.0, "more": false,
			}, row)

			got := d.run(t, "status")
			require.Zero(t, got.code, got.errors)
			require.Regexp(t, `(?m)^paused since \S+ by ada\\u202e\n`, got.out)
			require.Regexp(t, `(?m)^ready +3  the oldest due \d+s ago\n`, got.out)
			require.Regexp(t, `(?m)^3 +\d+s ago  `+w.ID.String()+`  acme +archive.example.com  Archive\n`, got.out)
			require.NotContains(t, got.out, "hunter2")
			require.Empty(t, decode(t, d.run(t, "status", "--json", "--top", "0"))["backlog"])

			require.Zero(t, d.run(t, "status", "--max-age", "1h").code)
			for _, args := range [][]string{{"--max-age", "1ms"}, {"--max-age", "1ms", "--watch", "1h"}} {
				got = d.run(t, append([]string{"status"}, args...)...)
				require.Equal(t, 1, got.code)
				require.Contains(t, got.out, "ready")
				require.Contains(t, got.errors, "posthorn status: the oldest delivery has been due for ")
			}
		})
	}
}

func TestStatusWatches(t *testing.T) {
	t.Parallel()
	d, err := sqliteDatabase(t)
	require.NoError(t, err)
	require.Zero(t, d.run(t, "migrate").code)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &lines{after: 3, then: stop}
	code := mainWith(ctx, out, "status", "--dsn", d.dsn, "--json", "--watch", "100ms")
	require.Zero(t, code)
	require.Equal(t, 3, out.n)
}

// A database that is not set up for the library is not changed by looking at it.
func TestLookingChangesNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open("sqlite", file)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "create table app (id integer)")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, args := range [][]string{{"migrate", "--dry-run"}, {"status"}} {
		got := world{}.run(t.Context(), append(args, "--dsn", file)...)
		require.Equal(t, 3, got.code)
		require.Contains(t, got.errors, "journal_mode")
	}
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Zero(t, world{}.run(t.Context(), "migrate", "--dsn", "file:"+file).code)
	require.Zero(t, world{}.run(t.Context(), "status", "--dsn", "sqlite://"+file).code)
	require.Zero(t, world{}.run(t.Context(), "status", "--dsn", file, "--dialect", "sqlite").code)
}

// What is special in a user's name and a password is that in no form of a URL.
func TestMariaDBWithASpecialPassword(t *testing.T) {
	t.Parallel()
	d := servers[2].empty(t)
	cfg, err := mysql.ParseDSN(d.native)
	require.NoError(t, err)
	user, password := spaceName()[14:]+":@/", `p:/@?#&%+ "(x)`
	name := "'" + user + "'@'%'"
	require.NoError(t, administer(t, "mysql", d.native, "create user "+name+" identified by '"+password+"'", "drop user "+name))
	require.NoError(t, administer(t, "mysql", d.native, "grant all on "+cfg.DBName+".* to "+name, "select 1"))
	u := url.URL{Scheme: "mysql", User: url.UserPassword(user, password), Host: cfg.Addr, Path: "/" + cfg.DBName}
	d.dsn = u.String()
	got := d.run(t, "migrate")
	require.Zero(t, got.code, got.errors)
	require.Zero(t, d.run(t, "status").code)
}

// Tables of a later release are left alone, and looked at if this one may.
func TestTablesOfALaterRelease(t *testing.T) {
	t.Parallel()
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := s.empty(t)
			require.Zero(t, d.run(t, "migrate").code)
			db, err := sql.Open(d.driver, d.native)
			require.NoError(t, err)
			defer db.Close()
			later := func(oldest int) {
				_, err := db.ExecContext(t.Context(), "delete from posthorn_schema where version = 9")
				require.NoError(t, err)
				_, err = db.ExecContext(t.Context(), fmt.Sprintf("insert into posthorn_schema (version, oldest) values (9, %d)", oldest))
				require.NoError(t, err)
			}
			later(latest)
			for _, args := range [][]string{{"migrate", "--json"}, {"migrate", "--dry-run", "--json"}} {
				doc := decode(t, d.run(t, args...))
				require.Equal(t, []any{9.0, 9.0, []any{}}, []any{doc["from"], doc["to"], doc["files"]})
			}
			require.Contains(t, d.run(t, "migrate").out, "have version 9, nothing to do")
			require.Zero(t, d.run(t, "status").code)
			later(9)
			for _, args := range [][]string{{"migrate"}, {"migrate", "--dry-run"}, {"status"}} {
				got := d.run(t, args...)
				require.Equal(t, 3, got.code)
				require.Empty(t, got.out)
				require.Contains(t, got.errors, "use a newer release")
			}
		})
	}
}
