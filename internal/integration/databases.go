// Package integration tests the library on real databases: PostgreSQL, MariaDB
// and SQLite. The tests are the package's purpose; what is not a test gives each
// of them a database of its own.
//
// PostgreSQL is looked for on 127.0.0.1:5432 and on its usual socket, as user
// postgres without a password, MariaDB on 127.0.0.1:3306 as root without one.
// POSTHORN_TEST_POSTGRES and POSTHORN_TEST_MYSQL name others, as pgx and
// go-sql-driver/mysql want them. Tests make their own schemas and databases
// there, all of them named posthorn_test_…, and drop them.
package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/posthorn/webhook/sqlstore"
)

const (
	// conns bounds the connections of one space, and spaces how many of a
	// server are in use at once: together with those of the processes that
	// tests start they stay well below PostgreSQL's usual 100.
	conns     = 8
	idleConns = 2
	spaces    = 4

	// ChildConns bounds those of a process that a test starts.
	ChildConns = 4

	patience = 15 * time.Second // with a server, about one statement
	leftover = 6 * time.Hour    // after which a space is nobody's any more
)

// Server is a database that tests run on.
type Server struct {
	Name    string
	Dialect sqlstore.Dialect

	candidates func() []string // data source names, best first
	connector  func(Source) (driver.Connector, error)
	create     string // statement that makes a space of the given name
	drop       string
	list       string // statement that lists the names of the spaces
	tables     string // statement that lists the tables of a space

	find   sync.Once
	dsn    string
	absent error

	seats chan struct{} // as many as spaces in use
	mu    sync.Mutex
	idle  []*Space
}

// Source says where a space is, also to other processes.
type Source struct {
	DSN  string
	Name string // of the schema or database
}

// Space is a schema or database of one test's own.
type Space struct {
	*Server
	Source Source
	DB     *sql.DB
}

// The servers. MariaDB stands for MySQL, too.
var (
	Postgres = &Server{
		Name: "postgres", Dialect: sqlstore.Postgres,
		candidates: func() []string {
			return given("POSTHORN_TEST_POSTGRES",
				"host=127.0.0.1 port=5432 user=postgres dbname=postgres sslmode=disable",
				"host=/var/run/postgresql user=postgres dbname=postgres")
		},
		connector: postgresConnector, create: "create schema ", drop: "drop schema if exists %s cascade",
		list:   "select nspname from pg_namespace where nspname like 'posthorn\\_test\\_%'",
		tables: "select tablename from pg_tables where schemaname = current_schema()",
		seats:  make(chan struct{}, spaces),
	}
	MariaDB = &Server{
		Name: "mariadb", Dialect: sqlstore.MySQL,
		candidates: func() []string { return given("POSTHORN_TEST_MYSQL", "root@tcp(127.0.0.1:3306)/") },
		connector:  mysqlConnector, create: "create database ", drop: "drop database if exists %s",
		list:   "select schema_name from information_schema.schemata where schema_name like 'posthorn\\_test\\_%'",
		tables: "select table_name from information_schema.tables where table_schema = database()",
		seats:  make(chan struct{}, spaces),
	}
	SQLite = &Server{
		Name: "sqlite", Dialect: sqlstore.SQLite, connector: sqliteConnector,
		tables: "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'",
		seats:  make(chan struct{}, spaces),
	}

	// Servers are all of them.
	Servers = []*Server{Postgres, MariaDB, SQLite}
)

// given returns what the environment says, or else the defaults.
func given(variable string, defaults ...string) []string {
	if dsn := os.Getenv(variable); dsn != "" {
		return []string{dsn}
	}
	return defaults
}

// ServerNamed returns the server of that name.
func ServerNamed(name string) *Server {
	i := slices.IndexFunc(Servers, func(s *Server) bool { return s.Name == name })
	return Servers[i]
}

// need ends a test whose server is not there: it is skipped, but not in CI.
func (s *Server) need(t *testing.T) {
	t.Helper()
	s.find.Do(s.look)
	switch {
	case s.absent == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is missing: %v", s.Name, s.absent)
	default:
		t.Skipf("not tested: %s is missing: %v", s.Name, s.absent) //nolint:forbidigo // not everybody has every database; CI has
	}
}

// look finds the server, and drops what tests that were killed have left there.
func (s *Server) look() {
	if s.Dialect == sqlstore.SQLite {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, dsn := range s.candidates() {
		db, err := s.open(Source{DSN: dsn})
		if err == nil {
			err = db.PingContext(ctx)
		}
		if err != nil {
			s.absent = errors.Join(s.absent, err)
			continue
		}
		s.dsn, s.absent = dsn, nil
		s.absent = errors.Join(s.clean(ctx, db), db.Close())
		return
	}
}

func (s *Server) clean(ctx context.Context, db *sql.DB) error {
	names, err := column(ctx, db, s.list)
	if err != nil {
		return err
	}
	for _, name := range names {
		born, err := strconv.ParseInt(strings.Split(name, "_")[2], 10, 64)
		if err == nil && time.Since(time.Unix(born, 0)) > leftover {
			if _, err := db.ExecContext(ctx, fmt.Sprintf(s.drop, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Empty returns a space without tables, which is dropped when the test ends.
func (s *Server) Empty(t *testing.T) *Space {
	t.Helper()
	s.need(t)
	s.seats <- struct{}{}
	t.Cleanup(func() { <-s.seats })
	space, err := s.make(t)
	require.NoError(t, err)
	if s.Dialect != sqlstore.SQLite {
		t.Cleanup(func() {
			if err := space.Drop(); err != nil {
				t.Errorf("drop %s: %v", space.Source.Name, err)
			}
		})
	}
	return space
}

// Migrated returns a space with empty tables. On a server it may have been
// another test's before: to make the tables costs a quarter of a second, to
// empty them some milliseconds.
func (s *Server) Migrated(t *testing.T) *Space {
	t.Helper()
	if s.Dialect == sqlstore.SQLite {
		space := s.Empty(t)
		require.NoError(t, space.Store(t).Migrate(t.Context()))
		t.Cleanup(func() { space.RequireNoSecrets(t) })
		return space
	}
	s.need(t)
	s.seats <- struct{}{}
	t.Cleanup(func() { <-s.seats })
	space := s.takeIdle()
	if space == nil {
		var err error
		space, err = s.make(t)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			space.RequireNoSecrets(t)
		}
		// What a failed test has begun may still be going on.
		if !t.Failed() && space.Clear() == nil {
			s.giveBack(space)
		} else if err := space.Drop(); err != nil {
			t.Logf("drop %s: %v", space.Source.Name, err)
		}
	})
	require.NoError(t, space.Store(t).Migrate(t.Context()))
	return space
}

func (s *Server) takeIdle() *Space {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 {
		return nil
	}
	space := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	space.DB.SetMaxIdleConns(conns)
	return space
}

func (s *Server) giveBack(space *Space) {
	space.DB.SetMaxIdleConns(idleConns)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, space)
}

// make makes a space.
func (s *Server) make(t *testing.T) (*Space, error) {
	t.Helper()
	source := Source{DSN: s.dsn, Name: fmt.Sprintf("posthorn_test_%d_%.8s", time.Now().Unix(), uuid.NewString())}
	if s.Dialect == sqlstore.SQLite {
		source = Source{DSN: SQLiteDSN(filepath.Join(t.TempDir(), "hooks.db"))}
	} else if err := s.administer(s.create + source.Name); err != nil {
		return nil, err
	}
	db, err := s.Connect(source, conns)
	if err != nil {
		return nil, err
	}
	if s.Dialect == sqlstore.SQLite {
		t.Cleanup(func() { _ = db.Close() })
	}
	return &Space{Server: s, Source: source, DB: db}, nil
}

// administer runs a statement outside of all spaces.
func (s *Server) administer(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := s.open(Source{DSN: s.dsn})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func (s *Server) open(source Source) (*sql.DB, error) {
	connector, err := s.connector(source)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Connect opens a space, which another process may have made.
func (s *Server) Connect(source Source, maxConns int) (*sql.DB, error) {
	db, err := s.open(source)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	return db, nil
}

// Connector returns what opens connections to a space.
func (s *Server) Connector(source Source) (driver.Connector, error) { return s.connector(source) }

// ConnectVia opens the space once more, until the test ends, through a connector
// that wraps the driver's. The test has half of the space's connections for it.
func (s *Space) ConnectVia(t *testing.T, wrap func(driver.Connector) driver.Connector) *sql.DB {
	t.Helper()
	connector, err := s.connector(s.Source)
	require.NoError(t, err)
	db := sql.OpenDB(wrap(connector))
	db.SetMaxOpenConns(conns / 2)
	db.SetMaxIdleConns(conns / 2)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Begin begins a transaction of a host, as sqlstore advises.
func (s *Server) Begin(ctx context.Context, db *sql.DB) (*sql.Tx, error) {
	return db.BeginTx(ctx, s.txOptions())
}

func (s *Server) txOptions() *sql.TxOptions {
	if s.Dialect == sqlstore.MySQL {
		return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	return nil
}

// NewStore returns a store on an open space. Its secrets are sealed.
func (s *Server) NewStore(db *sql.DB) (*sqlstore.Store, error) {
	keys, err := sqlstore.NewKeyring(sqlstore.Key{ID: "tests", Bytes: []byte("a key for tests, of 32 bytes: 5a")})
	if err != nil {
		return nil, err
	}
	return sqlstore.New(db, s.Dialect, sqlstore.Config{Keyring: keys})
}

// Store returns a store on the space.
func (s *Space) Store(t *testing.T) *sqlstore.Store {
	t.Helper()
	store, err := s.NewStore(s.DB)
	require.NoError(t, err)
	return store
}

// Exec runs a statement.
func (s *Space) Exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := s.DB.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err, "%s", statement)
}

// Clear deletes all rows but those that a migration leaves.
func (s *Space) Clear() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tables, err := column(ctx, s.DB, s.tables)
	if err != nil {
		return err
	}
	tx, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, table := range tables {
		if table == "posthorn_gate" || table == "posthorn_schema" {
			continue
		}
		if _, err := tx.ExecContext(ctx, "delete from "+table); err != nil { //nolint:gosec // a name from the catalog
			return err
		}
	}
	return tx.Commit()
}

// Drop closes the space and drops it.
func (s *Space) Drop() error {
	return errors.Join(s.DB.Close(), s.administer(fmt.Sprintf(s.drop, s.Source.Name)))
}

// Main runs a package's tests and drops the spaces that they have made. It
// returns the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if err := dropAll(); err != nil {
		fmt.Fprintln(os.Stderr, "dropping what the tests have made:", err)
		code = max(code, 1)
	}
	return code
}

// dropAll drops the spaces that no test uses now.
func dropAll() error {
	var err error
	for _, s := range Servers {
		for space := s.takeIdle(); space != nil; space = s.takeIdle() {
			err = errors.Join(err, space.Drop())
		}
	}
	return err
}

// column returns the one column of a query.
func column(ctx context.Context, db *sql.DB, query string) (out []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, rows.Err()
}

func postgresConnector(source Source) (driver.Connector, error) {
	cfg, err := pgx.ParseConfig(source.DSN)
	if err != nil {
		return nil, err
	}
	if source.Name != "" {
		cfg.RuntimeParams["search_path"] = source.Name
	}
	return stdlib.GetConnector(*cfg), nil
}

func mysqlConnector(source Source) (driver.Connector, error) {
	cfg, err := mysql.ParseDSN(source.DSN)
	if err != nil {
		return nil, err
	}
	if source.Name != "" {
		cfg.DBName = source.Name
	}
	return mysql.NewConnector(cfg)
}

func sqliteConnector(source Source) (driver.Connector, error) { return sqlite.NewConnector(source.DSN) }

// SQLiteDSN returns the data source name that sqlstore asks for, without some of
// its parts if the caller names them.
func SQLiteDSN(file string, without ...string) string {
	var parts []string
	for _, part := range []string{
		"_txlock=immediate", "_pragma=busy_timeout(10000)", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)",
	} {
		missing := false
		for _, w := range without {
			missing = missing || strings.Contains(part, w)
		}
		if !missing {
			parts = append(parts, part)
		}
	}
	return "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + strings.Join(parts, "&")
}
