package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

//go:embed schema
var schema embed.FS

const (
	defaultPrefix = "posthorn_"
	schemaVersion = 3
	checkTimeout  = 10 * time.Second
)

// Migrations returns the SQL files that make the tables of a dialect, in the
// order of their names, with the default prefix: for goose, which understands
// their annotations, for atlas, or for reading. A host that runs them with a
// tool of its own also inserts, as each file's last statement does, the version
// that it has reached. A file is never changed once it is released.
func Migrations(d Dialect) fs.FS {
	files, err := fs.Sub(schema, "schema/"+string(d))
	if err != nil {
		panic("sqlstore: migrations of an unknown dialect: " + err.Error())
	}
	return files
}

// Migrate brings the tables to the version that this release needs. It is safe
// to call at every start, and from several processes at once: one does the
// work, the others wait for it. Processes of earlier releases go on meanwhile and
// afterwards, unless the changelog says that they must be stopped first. Tables of a
// later release are left as they are; if this one cannot work on them, that is an
// error.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("sqlstore: migrate: %w", err)
	}
	return nil
}

// SchemaVersion returns the version that the tables have, 0 if there are none, and
// changes nothing. The version that this release makes is the number of files in
// [Migrations]. If the tables are for later releases only, that is an error, beside
// their version.
func (s *Store) SchemaVersion(ctx context.Context) (int, error) {
	found, err := session{s, s.db}.foundVersion(ctx)
	if err != nil {
		return found, fmt.Errorf("sqlstore: schema version: %w", err)
	}
	return found, nil
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Glob(Migrations(s.d), "*.sql")
	if err != nil {
		return err
	}
	unlock, c, err := s.lockSchema(ctx)
	if err != nil {
		return err
	}
	err = c.apply(ctx, files)
	return errors.Join(err, unlock(err == nil))
}

// apply runs the files that are not applied yet.
func (c session) apply(ctx context.Context, files []string) error {
	found, err := c.foundVersion(ctx)
	if err != nil {
		return err
	}
	if found >= schemaVersion {
		return nil
	}
	for i, name := range files[found:] {
		text, err := fs.ReadFile(Migrations(c.d), name)
		if err != nil {
			return err
		}
		for _, statement := range statements(string(text)) {
			_, err := c.q.ExecContext(ctx, strings.ReplaceAll(statement, defaultPrefix, c.prefix))
			if c.d == MySQL && mysqlCode(err) == "1060" { // the column is there, by a run that was broken off
				err = nil
			}
			if err != nil {
				return fmt.Errorf("version %d, %s: %w", found+i+1, name, err)
			}
		}
	}
	return nil
}

// statements splits a file at its semicolons, which are used for nothing else
// there.
func statements(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if before, _, found := strings.Cut(line, "--"); found {
			line = before
		}
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	var out []string
	for part := range strings.SplitSeq(strings.Join(lines, "\n"), ";") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// lockSchema returns a session in which nobody else migrates.
func (s *Store) lockSchema(ctx context.Context) (unlock func(commit bool) error, c session, err error) {
	if s.d == MySQL { // where every CREATE TABLE commits
		conn, err := s.db.Conn(ctx)
		if err != nil {
			return nil, session{}, err
		}
		c = session{s, conn}
		// The name of a lock is the server's, not the database's.
		got, _, err := first(ctx, c, plain[int], "select coalesce(get_lock(concat(sha1(database()), ?), 60), 0)", s.prefix)
		if err == nil && got != 1 {
			err = errors.New("another process has been migrating for a minute")
		}
		if err != nil {
			conn.Close()
			return nil, session{}, err
		}
		return func(bool) error {
			_, err := query(context.WithoutCancel(ctx), c, plain[int], "select coalesce(release_lock(concat(sha1(database()), ?)), 0)", s.prefix)
			return errors.Join(err, conn.Close())
		}, c, nil
	}
	var opts *sql.TxOptions
	if s.d == Postgres { // to see what another process has made while this one waited for the lock
		opts = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	tx, err := s.db.BeginTx(ctx, opts)
	if err != nil {
		return nil, session{}, err
	}
	c = session{s, tx}
	if s.d == Postgres {
		if _, err := tx.ExecContext(ctx, "select pg_advisory_xact_lock(hashtext($1))", "posthorn migration "+s.prefix); err != nil {
			return nil, session{}, errors.Join(err, tx.Rollback())
		}
	}
	return func(commit bool) error {
		if commit {
			return tx.Commit()
		}
		return tx.Rollback()
	}, c, nil
}

// foundVersion returns the version of the tables, 0 if there are none. It is an
// error if they are for later releases only.
func (c session) foundVersion(ctx context.Context) (int, error) {
	exists := map[Dialect]string{
		Postgres: "select count(*) from pg_class where oid = to_regclass(?)",
		MySQL:    "select count(*) from information_schema.tables where table_schema = database() and table_name = ?",
		SQLite:   "select count(*) from sqlite_master where type = 'table' and name = ?",
	}[c.d]
	n, _, err := first(ctx, c, plain[int], exists, c.prefix+"schema")
	if err != nil || n == 0 {
		return 0, err
	}
	type version struct{ is, oldest int }
	v, _, err := first(ctx, c, func(scan func(...any) error, v *version) error { return scan(&v.is, &v.oldest) },
		"select version, oldest from {schema} order by version desc limit 1")
	if err == nil && v.oldest > schemaVersion {
		err = fmt.Errorf("the tables have version %d, which needs a release that knows version %d, and this one knows versions up to %d: use a newer release",
			v.is, v.oldest, schemaVersion)
	}
	return v.is, err
}

// checkVersion makes sure once that the tables are the right ones.
func (s *Store) checkVersion(ctx context.Context) error {
	if s.versionOK.Load() {
		return nil
	}
	found, err := session{s, s.db}.foundVersion(ctx)
	switch {
	case err != nil:
		return err
	case found < schemaVersion:
		return fmt.Errorf("the tables %s… have version %d, and this release needs %d: call Store.Migrate first", s.prefix, found, schemaVersion)
	}
	s.versionOK.Store(true)
	return nil
}

// checkDatabase asks for the version of the database and for what must be set.
func (s *Store) checkDatabase(ctx context.Context) error {
	text := "select version()"
	if s.d == SQLite {
		text = "select sqlite_version()"
	}
	version, _, err := first(ctx, session{s, s.db}, plain[string], text)
	if err != nil {
		return fmt.Errorf("the database does not answer as %s: %w", s.d, err)
	}
	if s.d != SQLite && strings.HasPrefix(version, "PostgreSQL") != (s.d == Postgres) {
		return fmt.Errorf("the dialect is %s, and the database says that it is %q", s.d, version)
	}
	if s.d == SQLite {
		return s.checkSQLite(ctx)
	}
	return nil
}

// checkSQLite refuses settings under which transactions would fail for no
// reason, or vanish.
func (s *Store) checkSQLite(ctx context.Context) error {
	const dsn = `open modernc.org/sqlite with "file:NAME?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)", ` +
		`or mattn/go-sqlite3 with "file:NAME?_txlock=immediate&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL"`
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := session{s, conn}
	timeout := "0"
	for _, setting := range []struct {
		pragma, rule string
		ok           func(string) bool
	}{
		{"journal_mode", "WAL", func(v string) bool { return v == "wal" }},
		{"synchronous", "FULL or EXTRA", func(v string) bool { return v == "2" || v == "3" }},
		{"busy_timeout", "at least 5000", func(v string) bool { ms, err := strconv.Atoi(v); return err == nil && ms >= 5000 }},
	} {
		got, _, err := first(ctx, c, plain[string], "pragma "+setting.pragma)
		if err != nil {
			return err
		}
		if !setting.ok(got) {
			return fmt.Errorf("SQLite's %s is %q and must be %s: %s", setting.pragma, got, setting.rule, dsn)
		}
		timeout = got // the last one
	}
	return s.checkImmediate(ctx, conn, timeout, dsn)
}

// checkImmediate makes sure that a transaction takes the write lock when it
// begins. It waits for nobody: a lock that somebody else has says as much.
func (s *Store) checkImmediate(ctx context.Context, conn *sql.Conn, timeout, dsn string) (err error) {
	impatient := func(c *sql.Conn) (restore func() error, err error) {
		_, err = c.ExecContext(ctx, "pragma busy_timeout = 0")
		return func() error {
			_, err := c.ExecContext(ctx, "pragma busy_timeout = "+timeout)
			return err
		}, err
	}
	restore, err := impatient(conn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	tx, err := conn.BeginTx(ctx, nil)
	if transient(err) { // it did not get the lock, so it asked for it
		return nil
	}
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if s.db.Stats().MaxOpenConnections == 1 { // nobody to look for the lock
		return tx.Rollback()
	}
	other, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer other.Close()
	restoreOther, err := impatient(other)
	if err != nil {
		return err
	}
	_, lockErr := other.ExecContext(ctx, "begin immediate")
	if lockErr == nil {
		_, err = other.ExecContext(ctx, "rollback")
	}
	if err := errors.Join(err, tx.Rollback(), restoreOther()); err != nil {
		return err
	}
	if lockErr == nil {
		return errors.New("SQLite's transactions are not immediate: " + dsn)
	}
	return nil
}
