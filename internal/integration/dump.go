package integration

import (
	"bytes"
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tables are sqlstore's, by their names in a space.
var Tables = []string{
	"posthorn_webhooks", "posthorn_subscriptions", "posthorn_events", "posthorn_deliveries", "posthorn_queue",
	"posthorn_attempts", "posthorn_counters", "posthorn_notices", "posthorn_settings", "posthorn_gate", "posthorn_schema",
}

// secretMark begins every secret that webhook.NewSecret makes.
const secretMark = "whsec_"

// RequireNoSecrets dumps the space, and looks for secrets in it.
func (s *Space) RequireNoSecrets(t *testing.T) {
	t.Helper()
	require.Empty(t, s.TableWithSecrets(t), "a table with a secret in plain text")
}

// TableWithSecrets returns the first table that has a secret in plain text, if any.
func (s *Space) TableWithSecrets(t *testing.T) string {
	t.Helper()
	return s.TableWith(t, []byte(secretMark))
}

// TableWith returns the first table that has a text in any column, if there is one.
func (s *Space) TableWith(t *testing.T, text []byte) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience) // it is called when the test has ended
	defer cancel()
	for _, table := range Tables {
		found, err := s.find(ctx, table, text)
		require.NoError(t, err, table)
		if found {
			return table
		}
	}
	return ""
}

// find reports whether any column of any row of a table has a text in it.
func (s *Space) find(ctx context.Context, table string, text []byte) (bool, error) {
	rows, err := s.DB.QueryContext(ctx, "select * from "+table) //nolint:gosec // one of Tables
	if err != nil {
		return false, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return false, err
	}
	values := make([]sql.RawBytes, len(columns))
	to := make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return false, err
		}
		for _, v := range values {
			if bytes.Contains(v, text) {
				return true, nil
			}
		}
	}
	return false, rows.Err()
}
