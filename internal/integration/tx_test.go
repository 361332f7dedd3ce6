package integration_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// txProcesses are killed and replaced: so many at any time.
const txProcesses = 2

// txPublishes are fewer under the race detector, which finds what it finds in the
// first ones.
var txPublishes = map[bool]int64{false: 10_000, true: 2_000}[integration.Raced]

// txGoroutines are those of this process. Servers commit several transactions by
// one write to the disk; SQLite has one at a time, and whoever waits longest for
// it may go on waiting.
var txGoroutines = map[sqlstore.Dialect]int{sqlstore.Postgres: 6, sqlstore.MySQL: 6, sqlstore.SQLite: 3}

// TestTxPublishes publishes in transactions of a host that also write an order
// which names the event. Some are rolled back, and some are cut off because
// their process is killed. In the end there must be no order without its event
// and its deliveries, and none of those without an order.
func TestTxPublishes(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			space := s.Empty(t)
			store := space.Store(t)
			require.NoError(t, store.Migrate(t.Context()))
			kind := map[sqlstore.Dialect]string{sqlstore.Postgres: "uuid", sqlstore.MySQL: "binary(16)", sqlstore.SQLite: "blob"}[s.Dialect]
			space.Exec(t, "create table orders (event_id "+kind+" not null)")
			hooks := map[uuid.UUID]bool{}
			for _, name := range []string{"one", "two"} {
				hooks[register(t, store, "https://"+name+".example/hooks", room).ID] = true
			}

			var made, kills atomic.Int64
			var wg sync.WaitGroup
			var here host
			for i := range txGoroutines[s.Dialect] {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(1, uint64(i)))
					for made.Load() < txPublishes {
						here.transaction(t.Context(), r, space, store, func() { made.Add(1) })
					}
				})
			}
			for i := range txProcesses {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(2, uint64(i)))
					for n := i; made.Load() < txPublishes && !t.Failed(); n += txProcesses {
						p := start(t, space, task{Kind: "publish", Number: n})
						if !p.reach(1 + r.IntN(400)) {
							t.Error("a publishing process has ended by itself")
						}
						_ = p.Process.Kill()
						_ = p.end(t, false) // it was killed
						made.Add(p.ticks.Load())
						kills.Add(1)
					}
				})
			}
			wg.Wait()
			require.Empty(t, here.faults)

			// A killed process may have sent a commit that takes effect about now:
			// what counts as lost must have been an order before the look at the
			// deliveries, and what counts as phantom must be none after it.
			before := orders(t, space)
			deliveries := claimEverything(t, store)
			after := orders(t, space)
			lost, phantom, twice := 0, 0, 0
			for event := range before {
				if len(deliveries[event]) != len(hooks) {
					lost++
				}
			}
			for event, to := range deliveries {
				if !after[event] {
					phantom++
				}
				for _, n := range to {
					twice += n - 1
				}
			}
			events := count(t, space, "select count(*) from posthorn_events where id not in (select event_id from orders)")
			t.Logf("%s: %d publishes; of those of this process, %d were rolled back, and %d failed for a lock; %d processes were killed; "+
				"%d orders for %d events: %d lost, %d phantom, %d deliveries too many, %d events too many",
				s.Name, made.Load(), here.rolledBack.Load(), here.locked.Load(), kills.Load(),
				count(t, space, "select count(*) from orders"), len(after), lost, phantom, twice, events)
			require.GreaterOrEqual(t, made.Load(), txPublishes)
			require.NotZero(t, here.rolledBack.Load())
			require.Positive(t, kills.Load())
			require.Zero(t, lost, "orders without an event")
			require.Zero(t, phantom, "events without an order")
			require.Zero(t, twice, "deliveries that are there twice")
			require.Zero(t, events, "events without an order, and without deliveries")
		})
	}
}

// publishUntilKilled is a child of TestTxPublishes.
func publishUntilKilled(ctx context.Context, c *childProcess, tick func()) error {
	var h host
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c.Number), uint64(i)))
			for ctx.Err() == nil && h.fault() == nil {
				h.transaction(ctx, r, c.space, c.store, tick)
			}
		})
	}
	wg.Wait()
	return h.fault()
}

// host is a service that takes orders.
type host struct {
	ids                webhook.IDSource
	rolledBack, locked atomic.Int64

	mu     sync.Mutex
	faults []error
}

func (h *host) fault() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.faults) == 0 {
		return nil
	}
	return h.faults[0]
}

// transaction takes a few orders. Deadlocks are to be expected where one
// transaction publishes under several idempotency keys, and on SQLite that its
// only lock is not to be had in time.
func (h *host) transaction(ctx context.Context, r *rand.Rand, s *integration.Space, store *sqlstore.Store, published func()) {
	err := h.try(ctx, r, s, store, published)
	switch {
	case err == nil || ctx.Err() != nil:
	case lockFailure(err):
		h.locked.Add(1)
	default:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.faults = append(h.faults, err)
	}
}

func (h *host) try(ctx context.Context, r *rand.Rand, s *integration.Space, store *sqlstore.Store, published func()) error {
	tx, err := s.Begin(ctx, s.DB)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	if err != nil {
		return err
	}
	orders := 1
	if r.IntN(4) == 0 {
		orders += r.IntN(4)
	}
	for range orders {
		e := webhook.Event{OrganizationID: acme, Type: webhook.EventMessageSent, Subject: room, Data: "ordered"}
		orderFirst := false
		switch r.IntN(8) {
		case 0: // perhaps somebody else's, too
			e.IdempotencyKey = fmt.Sprintf("order %d", r.IntN(1000))
		case 1, 2, 3:
			e.ID, orderFirst = h.ids.New(time.Now()), true
		}
		if orderFirst {
			if err := insertOrder(ctx, s, tx, e.ID); err != nil {
				return err
			}
		}
		p, err := publisher.PublishTx(ctx, store.WithTx(tx), e)
		if err != nil {
			return err
		}
		published()
		if !orderFirst {
			if err := insertOrder(ctx, s, tx, p.EventID); err != nil {
				return err
			}
		}
	}
	if r.IntN(4) == 0 {
		h.rolledBack.Add(int64(orders))
		return tx.Rollback()
	}
	return tx.Commit()
}

func insertOrder(ctx context.Context, s *integration.Space, tx *sql.Tx, event uuid.UUID) error {
	var err error
	if s.Dialect == sqlstore.Postgres {
		_, err = tx.ExecContext(ctx, "insert into orders (event_id) values ($1)", event.String())
	} else {
		_, err = tx.ExecContext(ctx, "insert into orders (event_id) values (?)", event[:])
	}
	return err
}

// orders returns the events that orders name.
func orders(t *testing.T, s *integration.Space) map[uuid.UUID]bool {
	t.Helper()
	rows, err := s.DB.QueryContext(t.Context(), "select event_id from orders")
	require.NoError(t, err)
	defer rows.Close()
	out := map[uuid.UUID]bool{}
	for rows.Next() {
		var id uuid.UUID
		require.NoError(t, rows.Scan(&id))
		out[id] = true
	}
	require.NoError(t, rows.Err())
	return out
}

// claimEverything claims what is due until nothing is, and returns how often
// each event goes to each webhook.
func claimEverything(t *testing.T, store webhook.Store) map[uuid.UUID]map[uuid.UUID]int {
	t.Helper()
	out := map[uuid.UUID]map[uuid.UUID]int{}
	now := time.Now().Add(time.Minute)
	for {
		got, err := store.Claim(t.Context(), webhook.ClaimParams{Now: now, LeaseFor: time.Hour, Limit: 500})
		require.NoError(t, err)
		if len(got.Claims) == 0 {
			return out
		}
		for _, c := range got.Claims {
			if out[c.EventID] == nil {
				out[c.EventID] = map[uuid.UUID]int{}
			}
			out[c.EventID][c.WebhookID]++
		}
	}
}

// TestTxDuplicateUnderRepeatableRead: MySQL's default isolation does not hide from a
// host's transaction that its key has been taken since it began.
func TestTxDuplicateUnderRepeatableRead(t *testing.T) {
	t.Parallel()
	space := integration.MariaDB.Migrated(t)
	store := space.Store(t)
	register(t, store, "https://archive.example/hooks", room)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)
	e := message(acme, room)
	e.IdempotencyKey = "order 7"

	tx, err := space.DB.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	var n int
	require.NoError(t, tx.QueryRowContext(t.Context(), "select count(*) from posthorn_events").Scan(&n))
	require.Zero(t, n)
	first, err := publisher.Publish(t.Context(), e)
	require.NoError(t, err)

	again, err := publisher.PublishTx(t.Context(), store.WithTx(tx), e)
	require.NoError(t, err)
	require.Equal(t, webhook.Published{EventID: first.EventID, Duplicate: true}, again)
	require.NoError(t, tx.Commit())
}
