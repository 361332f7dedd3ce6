package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
)

// newSQLStore makes the tables in an empty database, and returns a store on it.
func newSQLStore(ctx context.Context, db *sql.DB, kind string) (webhook.Store, error) {
	var dialect sqlstore.Dialect
	switch kind {
	case storePostgres:
		dialect = sqlstore.Postgres
	case storeMariaDB:
		dialect = sqlstore.MySQL
	case storeSQLite:
		dialect = sqlstore.SQLite
	default:
		return nil, fmt.Errorf("no SQL store is called %q", kind)
	}
	store, err := sqlstore.New(db, dialect, sqlstore.Config{InsecurePlaintextSecrets: true})
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(ctx)
}
