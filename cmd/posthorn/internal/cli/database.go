package cli

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/spf13/cobra"
	"modernc.org/sqlite"

	"github.com/posthorn/webhook/sqlstore"
)

const (
	dsnVariable    = "POSTHORN_DSN"
	connectTimeout = 10 * time.Second
)

const dsnHelp = `The database is named by POSTHORN_DSN, or by --dsn, which other users of the
machine can see:

  postgres://me@db.example/app, or host=db.example dbname=app
  mysql://me@db.example/app, or me@tcp(db.example:3306)/app
  sqlite:app.db, or file:app.db
`

// databaseFlags name a database.
type databaseFlags struct {
	dsn, dialect, prefix string
}

func (f *databaseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dsn, "dsn", "", "the `database`; instead of "+dsnVariable)
	cmd.Flags().StringVar(&f.dialect, "dialect", "", "postgres, mysql or sqlite, where the data source name does not say")
	cmd.Flags().StringVar(&f.prefix, "prefix", "posthorn_", "what the names of the tables begin with")
	completeWith(cmd, "dialect", string(sqlstore.Postgres), string(sqlstore.MySQL), string(sqlstore.SQLite))
	completeWith(cmd, "dsn")
	completeWith(cmd, "prefix")
}

// source is a database that is not open yet.
type source struct {
	dialect sqlstore.Dialect
	place   string // for people; without user and password
	file    string // of SQLite
	open    func() (*sql.DB, error)
}

// source reads the flags, or else the environment. For SQLite, create says that
// a file may be made, and its journal's mode be set.
func (p Program) source(f databaseFlags, create bool) (source, error) {
	flag, dsn := "--dsn", f.dsn
	if dsn == "" {
		flag, dsn = dsnVariable, p.Getenv(dsnVariable)
	}
	if dsn == "" {
		return source{}, wrongUsage("--dsn", "is required, unless "+dsnVariable+" is set")
	}
	dialect, err := dialectOf(flag, dsn, sqlstore.Dialect(f.dialect))
	if err != nil {
		return source{}, err
	}
	switch dialect {
	case sqlstore.Postgres:
		return postgresSource(flag, dsn)
	case sqlstore.MySQL:
		return mysqlSource(flag, dsn)
	default:
		return sqliteSource(flag, dsn, create)
	}
}

var (
	schemes = map[string]sqlstore.Dialect{
		"postgres": sqlstore.Postgres, "postgresql": sqlstore.Postgres, "mysql": sqlstore.MySQL, "mariadb": sqlstore.MySQL,
		"sqlite": sqlstore.SQLite, "file": sqlstore.SQLite,
	}
	postgresForm = regexp.MustCompile(`(^|\s)(host|dbname|service)\s*=`)
	mysqlForm    = regexp.MustCompile(`@?(tcp|unix)\(`)
	sqliteForm   = regexp.MustCompile(`\.(db|sqlite|sqlite3)$`)
)

// dialectOf goes by the data source name, and by what was said where that says
// nothing.
func dialectOf(flag, dsn string, said sqlstore.Dialect) (sqlstore.Dialect, error) {
	if said != "" && !slices.Contains([]sqlstore.Dialect{sqlstore.Postgres, sqlstore.MySQL, sqlstore.SQLite}, said) {
		return "", wrongUsage("--dialect", "must be postgres, mysql or sqlite")
	}
	scheme, _, _ := strings.Cut(dsn, ":")
	found := schemes[strings.ToLower(scheme)]
	if found != "" && said != "" && found != said {
		return "", wrongUsage("--dialect", fmt.Sprintf("must be left out or be %s, as %s says", found, flag))
	}
	switch {
	case found != "":
		return found, nil
	case said != "":
		return said, nil
	case postgresForm.MatchString(dsn):
		return sqlstore.Postgres, nil
	case mysqlForm.MatchString(dsn):
		return sqlstore.MySQL, nil
	case sqliteForm.MatchString(dsn):
		return sqlstore.SQLite, nil
	}
	return "", wrongUsage(flag, "must begin with postgres:, mysql:, sqlite: or file:, or --dialect must say what it is")
}

// Parsers repeat what they could not parse, passwords included, so what they say
// is not passed on.

// misread says that an @ is where a URL of a database has none: in its path, or in
// place of an option. Then what comes before is a piece of a password, of which the rest
// would be taken for names, looked up and printed.
func misread(dsn string) bool {
	_, rest, isURL := strings.Cut(dsn, "://")
	end := strings.IndexAny(rest, "/?#")
	if !isURL || end < 0 {
		return false
	}
	path, options, _ := strings.Cut(rest[end:], "?")
	if strings.Contains(path, "@") {
		return true
	}
	for option := range strings.SplitSeq(options, "&") {
		name, _, _ := strings.Cut(option, "=")
		if strings.Contains(name, "@") {
			return true
		}
	}
	return false
}

func postgresSource(flag, dsn string) (source, error) {
	cfg, err := pgx.ParseConfig(dsn)
	misread := err == nil && misread(dsn) && (strings.Contains(cfg.Database, "@") ||
		slices.ContainsFunc(slices.Collect(maps.Keys(cfg.RuntimeParams)), func(name string) bool { return strings.Contains(name, "@") }))
	if err != nil || misread { // pgx can read some of what should have been encoded
		return source{}, wrongUsage(flag, "must be a URL as in postgres://db.example/app, with what is special in user and password percent-encoded, or pairs as in host=db.example dbname=app, as pgx reads them")
	}
	place := fmt.Sprintf("PostgreSQL database %s at %s", cfg.Database, net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)))
	return source{sqlstore.Postgres, place, "", func() (*sql.DB, error) { return stdlib.OpenDB(*cfg), nil }}, nil
}

func mysqlSource(flag, dsn string) (source, error) {
	var u *url.URL
	if scheme, _, found := strings.Cut(dsn, "://"); found && schemes[strings.ToLower(scheme)] != "" {
		var err error
		u, err = url.Parse(dsn)
		if err != nil || u.Host == "" || u.Opaque != "" || misread(dsn) {
			return source{}, wrongUsage(flag, "must be a URL as in mysql://db.example/app, with what is special in user and password percent-encoded")
		}
		address := u.Host
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "3306")
		}
		options, err := url.ParseQuery(u.RawQuery)
		if err != nil {
			return source{}, wrongUsage(flag, "must have options as in a URL, joined by &")
		}
		dsn = "tcp(" + address + ")/?" + options.Encode() // user, password and database come as they are
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return source{}, wrongUsage(flag, "must be a URL as in mysql://db.example/app, or as in tcp(db.example:3306)/app, as go-sql-driver/mysql reads it")
	}
	if u != nil {
		cfg.User, cfg.DBName = u.User.Username(), strings.TrimPrefix(u.Path, "/")
		cfg.Passwd, _ = u.User.Password()
	}
	if cfg.DBName == "" {
		return source{}, wrongUsage(flag, "must name a database, after the last slash")
	}
	cfg.Logger = &mysql.NopLogger{}
	place := fmt.Sprintf("MySQL database %s at %s", cfg.DBName, cfg.Addr)
	return source{sqlstore.MySQL, place, "", func() (*sql.DB, error) {
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return nil, err
		}
		return sql.OpenDB(connector), nil
	}}, nil
}

// sqliteSource asks for what sqlstore demands, unless the name says otherwise:
// then sqlstore says what is wrong with it.
func sqliteSource(flag, dsn string, create bool) (source, error) {
	path, isURI := strings.CutPrefix(dsn, "file:")
	path = strings.TrimPrefix(path, "sqlite://")
	path = strings.TrimPrefix(path, "sqlite:")
	path, query, _ := strings.Cut(path, "?")
	path = strings.TrimPrefix(path, "//") // of file:///var/lib/app.db
	options, err := url.ParseQuery(query)
	if isURI && err == nil {
		path, err = url.PathUnescape(path)
	}
	if err != nil {
		return source{}, wrongUsage(flag, "must be the name of a file, perhaps with options as modernc.org/sqlite reads them")
	}
	if path == "" || strings.Contains(path, ":memory:") || options.Get("mode") == "memory" {
		return source{}, wrongUsage(flag, "must name a file: a database in memory is gone with this command")
	}
	if !options.Has("_txlock") {
		options.Set("_txlock", "immediate")
	}
	pragmas := []string{"busy_timeout(10000)", "synchronous(FULL)"}
	if create {
		pragmas = append(pragmas, "journal_mode(WAL)") // stays with the file
	} else if !options.Has("mode") {
		options.Set("mode", "rw")
	}
	for _, pragma := range pragmas {
		name, _, _ := strings.Cut(pragma, "(")
		if !slices.ContainsFunc(options["_pragma"], func(s string) bool { return strings.HasPrefix(s, name) }) {
			options.Add("_pragma", pragma)
		}
	}
	name := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + options.Encode()
	return source{sqlstore.SQLite, "SQLite file " + path, path, func() (*sql.DB, error) {
		connector, err := sqlite.NewConnector(name)
		if err != nil {
			return nil, err
		}
		return sql.OpenDB(connector), nil
	}}, nil
}

// missing says that there is no such file.
func (s source) missing() bool {
	if s.dialect != sqlstore.SQLite {
		return false
	}
	_, err := os.Stat(s.file)
	return errors.Is(err, fs.ErrNotExist)
}

// store opens the database. The store cannot open a secret, and what it would
// seal nobody could open: what is done here needs neither.
func (s source) store(ctx context.Context, prefix string) (*sqlstore.Store, func(), error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // which never fails
	keys, err := sqlstore.NewKeyring(sqlstore.Key{ID: "none", Bytes: key})
	if err != nil {
		return nil, nil, failed("%w", err)
	}
	db, err := s.open()
	if err != nil {
		return nil, nil, failed("%s: %w", s.place, err)
	}
	closeDB := func() { _ = db.Close() }
	reached, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := db.PingContext(reached); err != nil {
		closeDB()
		return nil, nil, failed("%s: %w", s.place, err)
	}
	store, err := sqlstore.New(db, s.dialect, sqlstore.Config{Keyring: keys, TablePrefix: prefix})
	if err != nil {
		closeDB()
		if asked := faultsOf(err, map[string]string{"table_prefix": "--prefix"}); exitCodeOf(asked) == exitUsage {
			return nil, nil, asked
		}
		return nil, nil, failed("%s: %w", s.place, err)
	}
	return store, closeDB, nil
}
