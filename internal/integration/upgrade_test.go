package integration_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
	"github.com/posthorn/webhook/webhooktest"
)

// TestUpgradeUnderWay: processes go on while the tables are brought to a version
// that they can live with, beside one that begins on it.
func TestUpgradeUnderWay(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			require.NoError(t, space.Store(t).Migrate(t.Context()))
			c := newCrash(t, space, crashPlan{Events: 100})
			before := c.start(t, "", 0)
			require.True(t, before.reach(1))
			c.eventually(t, "a delivery", func() bool { return count(t, c.space, "select count(*) from posthorn_attempts") > 0 })
			for _, table := range []string{"webhooks", "events", "deliveries", "queue", "attempts", "notices"} {
				space.Exec(t, "alter table posthorn_"+table+" add column added_later bigint")
				space.Exec(t, "create index posthorn_"+table+"_later on posthorn_"+table+" (added_later)")
			}
			space.Exec(t, "insert into posthorn_schema (version, oldest) values (98, 1)")
			after := c.start(t, "", 0)
			require.True(t, after.reach(1))
			require.True(t, before.reach(2), "what was there before has done its work")
			require.NoError(t, before.end(t, true))
			require.True(t, after.reach(2))
			require.NoError(t, after.end(t, true))
			c.finish(t, false)
			c.check(t, "an upgrade under way", false)
		})
	}
}

var writeRows = flag.Bool("write-rows", false, "TestUpgrade writes rows as this build keeps them to testdata, for a version of the tables that has none yet")

// keptRows are the tables of a database that a release has left behind, and what
// a later one must find in them.
type keptRows struct {
	Secrets map[string]string // by a webhook's name
	Tables  map[string][]keptRow
}

// keptRow is a row by its columns: a number, null, or a text after the kind that
// it is of.
type keptRow map[string]any

// TestUpgrade brings databases with rows in them, as they were left by every
// release with tables of its own, to the present version.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	newest, err := fs.Glob(sqlstore.Migrations(sqlstore.SQLite), "*.sql")
	require.NoError(t, err)
	for version := 1; version <= len(newest); version++ {
		path := filepath.Join("testdata", fmt.Sprintf("rows-%d.json", version))
		if *writeRows && version == len(newest) {
			leaveRows(t, path)
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err, "go test -run TestUpgrade -write-rows makes it")
		for _, s := range integration.Servers {
			t.Run(fmt.Sprintf("%d/%s", version, s.Name), func(t *testing.T) {
				t.Parallel()
				var kept keptRows
				d := json.NewDecoder(bytes.NewReader(text))
				d.UseNumber()
				require.NoError(t, d.Decode(&kept))
				space := s.Empty(t)
				migrateByHand(t, space, version)
				for table, rows := range kept.Tables {
					for _, row := range rows {
						insertKept(t, space, table, row)
					}
				}
				store := space.Store(t)
				require.NoError(t, store.Migrate(t.Context()))
				requireKept(t, store, &kept)
				requireWorks(t, store)
			})
		}
	}
}

// migrateByHand runs the first files.
func migrateByHand(t *testing.T, space *integration.Space, files int) {
	t.Helper()
	migrations := sqlstore.Migrations(space.Dialect)
	names, err := fs.Glob(migrations, "*.sql")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(names), files)
	for _, name := range names[:files] {
		text, err := fs.ReadFile(migrations, name)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "-- +goose Up\n"), name)
		for statement := range strings.SplitSeq(withoutComments(string(text)), ";") {
			if strings.TrimSpace(statement) != "" {
				space.Exec(t, statement)
			}
		}
	}
}

// leaveRows writes a database with something of everything in it.
func leaveRows(t *testing.T, path string) {
	t.Helper()
	space := integration.Postgres.Migrated(t)
	store := space.Store(t)
	kept := keptRows{Secrets: map[string]string{}, Tables: map[string][]keptRow{}}
	m := newManager(t, store)
	var inactive webhook.Webhook
	for _, name := range []string{"answers", "fails", "waits", "inactive"} {
		w, secret, err := m.Create(t.Context(), adminOf(acme), webhook.WebhookInput{
			Name: name, Description: "Grüße, 世界", EndpointURL: "https://archive.example/" + name,
			Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent, Filter: map[string]string{"lang": "de"}}},
		})
		require.NoError(t, err)
		kept.Secrets[name], inactive = secret.Reveal(), w
	}
	_, err := m.Update(t.Context(), adminOf(acme), inactive.ID, webhook.WebhookChange{
		Version: inactive.Version, Name: inactive.Name, Description: inactive.Description, EndpointURL: inactive.EndpointURL, Subscriptions: inactive.Subscriptions,
		Status: webhook.StatusInactive,
	})
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	e := message(acme, room)
	e.Attributes, e.IdempotencyKey = map[string]string{"lang": "de"}, "once"
	_, err = publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	now := time.Now().Add(time.Second)
	got, err := store.Claim(t.Context(), webhook.ClaimParams{Now: now, LeaseFor: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Len(t, got.Claims, 3)
	var finish webhook.FinishParams
	for _, c := range got.Claims {
		o := webhook.FinishedAttempt{
			Token: c.Token, State: webhook.DeliverySucceeded,
			Attempt: webhook.Attempt{
				DeliveryID: c.DeliveryID, Number: c.Attempt, EventID: c.EventID, WebhookID: c.WebhookID, OrganizationID: c.OrganizationID,
				EventType: c.EventType, EndpointURL: c.EndpointURL, StartedAt: now, Duration: time.Millisecond,
				Outcome: webhook.OutcomeSucceeded, StatusCode: 204, Response: []byte("ok\xff"),
			},
		}
		if !strings.HasSuffix(c.EndpointURL, "answers") {
			o.State, o.Attempt.Outcome, o.Attempt.StatusCode = webhook.DeliveryFailed, webhook.OutcomeFailed, 500
			o.Attempt.ErrorClass, o.Attempt.Error = webhook.ErrorStatus, "answered 500"
		}
		if strings.HasSuffix(c.EndpointURL, "waits") {
			o.State, o.DueAt = webhook.DeliveryPending, now.Add(time.Hour)
		}
		finish.Outcomes = append(finish.Outcomes, o)
	}
	finish.Now = now
	done, err := store.Finish(t.Context(), finish)
	require.NoError(t, err)
	require.Equal(t, make([]error, 3), done.Errs)
	for _, table := range integration.Tables {
		if !slices.Contains([]string{"posthorn_gate", "posthorn_schema"}, table) {
			kept.Tables[table] = keptOf(t, space, table)
		}
	}
	text, err := json.MarshalIndent(kept, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(text, '\n'), 0o600))
}

// keptOf reads a table on PostgreSQL, whose columns know best of what kind they are.
func keptOf(t *testing.T, space *integration.Space, table string) (out []keptRow) {
	t.Helper()
	rows, err := space.DB.QueryContext(t.Context(), "select * from "+table) //nolint:gosec // one of integration.Tables
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.ColumnTypes()
	require.NoError(t, err)
	for rows.Next() {
		values, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			to[i] = &values[i]
		}
		require.NoError(t, rows.Scan(to...))
		row := keptRow{}
		for i, c := range columns {
			switch v := values[i].(type) {
			case nil, int64:
				row[c.Name()] = v
			case []byte:
				row[c.Name()] = "bytes " + hex.EncodeToString(v)
			case string:
				row[c.Name()] = strings.ToLower(c.DatabaseTypeName()) + " " + v
			default:
				require.Failf(t, "an unknown kind", "%s.%s is %T", table, c.Name(), v)
			}
		}
		out = append(out, row)
	}
	require.NoError(t, rows.Err())
	return out
}

// insertKept inserts a row in the way of the dialect.
func insertKept(t *testing.T, space *integration.Space, table string, row keptRow) {
	t.Helper()
	var columns, params []string
	var args []any
	for column, v := range row {
		columns = append(columns, column)
		params = append(params, "?")
		if space.Dialect == sqlstore.Postgres {
			params[len(params)-1] = fmt.Sprintf("$%d", len(params))
		}
		switch v := v.(type) {
		case nil:
			args = append(args, nil)
		case json.Number:
			n, err := v.Int64()
			require.NoError(t, err)
			args = append(args, n)
		case string:
			kind, text, _ := strings.Cut(v, " ")
			switch {
			case kind == "bytes":
				b, err := hex.DecodeString(text)
				require.NoError(t, err)
				args = append(args, b)
			case kind == "uuid" && space.Dialect != sqlstore.Postgres:
				id := uuid.MustParse(text)
				args = append(args, id[:])
			default:
				args = append(args, text)
			}
		}
	}
	space.Exec(t, "insert into "+table+" ("+strings.Join(columns, ", ")+") values ("+strings.Join(params, ", ")+")", args...)
}

// requireCounted checks the counters of a webhook, also those of releases that did not
// know when the last success was.
func requireCounted(t *testing.T, m *webhook.Manager, w webhook.Webhook) {
	t.Helper()
	counters, err := m.Counters(t.Context(), adminOf(acme), webhook.CounterQuery{WebhookID: w.ID})
	require.NoError(t, err)
	for _, c := range counters {
		require.Equal(t, w.Name == "answers", !c.LastSuccessAt.IsZero(), w.Name)
		require.Equal(t, c.Failed, c.FailedSince, w.Name)
	}
}

// requireKept checks that everything leaveRows has left behind is there and goes on.
func requireKept(t *testing.T, store webhook.Store, kept *keptRows) {
	t.Helper()
	m := newManager(t, store)
	hooks, err := m.Webhooks(t.Context(), adminOf(acme), webhook.WebhookQuery{})
	require.NoError(t, err)
	require.Len(t, hooks.Items, len(kept.Secrets))
	states := map[string]webhook.DeliveryState{}
	codes := map[string]int{}
	for _, w := range hooks.Items {
		require.Equal(t, "https://archive.example/"+w.Name, w.EndpointURL)
		require.Equal(t, "Grüße, 世界", w.Description)
		require.Equal(t, map[string]string{"lang": "de"}, w.Subscriptions[0].Filter)
		page, err := m.Deliveries(t.Context(), adminOf(acme), webhook.DeliveryQuery{WebhookID: w.ID})
		require.NoError(t, err)
		require.Len(t, page.Items, 1, w.Name)
		states[w.Name] = page.Items[0].State
		log, err := m.Attempts(t.Context(), adminOf(acme), webhook.AttemptQuery{WebhookID: w.ID})
		require.NoError(t, err)
		for _, a := range log.Items {
			codes[w.Name] = a.StatusCode
			require.Equal(t, []byte("ok\xff"), a.Response)
		}
		require.False(t, w.StatusSince.IsZero(), w.Name)
		require.Zero(t, w.RateLimit, w.Name)
		requireCounted(t, m, w)
		if w.Name == "inactive" {
			_, err = m.Update(t.Context(), adminOf(acme), w.ID, webhook.WebhookChange{
				Version: w.Version, Name: w.Name, EndpointURL: w.EndpointURL, Subscriptions: w.Subscriptions, Status: webhook.StatusActive, Resume: true,
			})
			require.NoError(t, err)
		}
	}
	require.Equal(t, map[string]webhook.DeliveryState{
		"answers": webhook.DeliverySucceeded, "fails": webhook.DeliveryFailed, "waits": webhook.DeliveryPending, "inactive": webhook.DeliveryHeld,
	}, states)
	require.Equal(t, map[string]int{"answers": 204, "fails": 500, "waits": 500}, codes)

	again := message(acme, room)
	again.Attributes, again.IdempotencyKey = map[string]string{"lang": "de"}, "once"
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	published, err := publisher.Publish(t.Context(), again)
	require.NoError(t, err)
	require.True(t, published.Duplicate)

	later := time.Now().Add(2 * time.Hour)
	claimed, err := store.Claim(t.Context(), webhook.ClaimParams{Now: later, LeaseFor: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Len(t, claimed.Claims, 2, "the one that waits and the one that was held")
	for _, c := range claimed.Claims {
		name := strings.TrimPrefix(c.EndpointURL, "https://archive.example/")
		require.Equal(t, kept.Secrets[name], c.Secret.Reveal(), name)
		require.Contains(t, string(c.Payload), "hello")
		require.Equal(t, map[string]int{"waits": 2, "inactive": 1}[name], c.Attempt)
	}
	notices, err := store.ClaimNotices(t.Context(), webhook.ClaimNoticesParams{Now: later, LeaseFor: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Len(t, notices.Claims, 1)
	require.Equal(t, "fails", notices.Claims[0].Notice.WebhookName)
}

// Of a webhook that an earlier release has kept nobody knows since when it is active:
// perhaps since its last edit only, which no rule may take for longer.
func TestStatusKeptByAnEarlierRelease(t *testing.T) {
	t.Parallel()
	space := integration.SQLite.Migrated(t)
	store := space.Store(t)
	now := time.Now().UTC().Truncate(time.Hour)
	clock := webhooktest.NewClock(now.Add(-100 * time.Hour))
	m, err := webhook.NewManager(store, webhook.ManagerConfig{Clock: clock})
	require.NoError(t, err)
	w, _, err := m.Create(t.Context(), adminOf(acme), webhook.WebhookInput{
		Name: "old", EndpointURL: "https://archive.example/in",
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	space.Exec(t, fmt.Sprintf("update posthorn_webhooks set status_at = null, updated_at = %d", now.Add(-3*time.Hour).UnixMicro()))
	for _, hours := range []int{99, 98, 97, 2, 1} {
		space.Exec(t, fmt.Sprintf("insert into posthorn_counters (webhook_id, hour, succeeded, failed, interrupted, latency0, latency1, latency2, latency3, latency4, latency5, latency6, latency7, latency8, latency9, latency10) select id, %d, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 from posthorn_webhooks",
			now.Add(-time.Duration(hours)*time.Hour).UnixMicro()))
	}
	r, err := store.Deactivate(t.Context(), webhook.DeactivateParams{
		Scope: webhook.Scope{OrganizationID: acme}, WebhookID: w.ID, Reason: webhook.DeactivatedFailing, Now: now,
		Rule: webhook.FailingRule{Before: now.Add(-72 * time.Hour), Recent: now.Add(-24 * time.Hour)},
	})
	require.NoError(t, err)
	require.False(t, r.Deactivated)
	got, err := m.Webhook(t.Context(), adminOf(acme), w.ID)
	require.NoError(t, err)
	require.Equal(t, now.Add(-3*time.Hour), got.StatusSince)
}
