package contract_test

import (
	"maps"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/storetest"
)

// walks is what a plan has that joins by comparing each row of a table with each
// row that the statement brings along, or that sorts or reads a whole table.
var walks = regexp.MustCompile(`Join Filter: .*\b(delivery_|webhook_|event_)?id\b = |Seq Scan on posthorn_(queue|deliveries|events|attempts|subscriptions)|(Hash|Merge) Join`)

// TestPlansOfSmallTables goes through the contract on tables of which PostgreSQL
// knows that they are empty, and looks at each plan: none may be one that is good
// for empty tables alone, because connections keep them while the tables grow.
func TestPlansOfSmallTables(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen, bad := 0, map[string]string{}
	t.Run("contract", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) webhook.Store {
			t.Helper()
			space := integration.Postgres.Migrated(t)
			config, err := pgx.ParseConfig(space.Source.DSN)
			require.NoError(t, err)
			maps.Copy(config.RuntimeParams, map[string]string{
				"search_path": space.Source.Name, "session_preload_libraries": "auto_explain", "client_min_messages": "log",
				"auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on",
			})
			config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
				if !strings.Contains(n.Message, "plan:") {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen++
				if walks.MatchString(n.Message) {
					text, _, _ := strings.Cut(n.Message, "\n")
					bad[text] = n.Message
				}
			}
			for _, table := range []string{"webhooks", "subscriptions", "events", "deliveries", "queue", "attempts", "counters", "notices", "settings"} {
				space.Exec(t, "vacuum analyze posthorn_"+table)
			}
			db := stdlib.OpenDB(*config)
			db.SetMaxOpenConns(10)
			t.Cleanup(func() { _ = db.Close() })
			store, err := space.NewStore(db)
			require.NoError(t, err)
			return store
		})
	})
	mu.Lock()
	defer mu.Unlock()
	require.Greater(t, seen, 1000, "plans")
	for _, plan := range bad {
		t.Errorf("a plan for small tables:\n%s", plan)
	}
}
