package integration_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// liteError is an error of SQLite, whose driver lets nobody else make one.
type liteError int

func (e liteError) Error() string { return fmt.Sprintf("the database is locked (%d)", int(e)) }
func (e liteError) Code() int     { return int(e) }

// lostErrors are what drivers report of a connection that they have lost.
var lostErrors = map[sqlstore.Dialect][]error{
	sqlstore.Postgres: {driver.ErrBadConn, io.EOF, io.ErrUnexpectedEOF, &pgconn.PgError{Code: "57P01", Message: "shutting down"}},
	sqlstore.MySQL:    {driver.ErrBadConn, io.EOF, mysql.ErrInvalidConn},
	sqlstore.SQLite:   {driver.ErrBadConn, io.EOF},
}

// transientErrors are what databases report when they have rolled back what
// could succeed another time.
var transientErrors = map[sqlstore.Dialect][]error{
	sqlstore.Postgres: {
		&pgconn.PgError{Code: "40001", Message: "could not serialize access"}, &pgconn.PgError{Code: "40P01", Message: "deadlock detected"},
	},
	sqlstore.MySQL: {
		&mysql.MySQLError{Number: 1213, Message: "Deadlock found"}, &mysql.MySQLError{Number: 1205, Message: "Lock wait timeout exceeded"},
		&mysql.MySQLError{Number: 1020, Message: "Record has changed since last read"},
	},
	sqlstore.SQLite: {liteError(5), liteError(5 | 2<<8), liteError(6)}, // busy, a snapshot that is too old, locked
}

// faulty is a space with a store on it that works, and a handle that fails.
type faulty struct {
	*integration.Space
	faults *faults
	works  *sqlstore.Store
	fails  *sqlstore.Store
	ids    webhook.IDSource
	claims []webhook.Claim // that are to be finished
	now    time.Time
}

// newFaulty returns one with two webhooks, which both get all events.
func newFaulty(t *testing.T, s *integration.Server) *faulty {
	t.Helper()
	f := &faulty{Space: s.Migrated(t), faults: &faults{}, now: time.Now().Truncate(time.Microsecond)}
	var err error
	f.works = f.Store(t)
	f.fails, err = s.NewStore(f.ConnectVia(t, f.faults.connector))
	require.NoError(t, err)
	_, err = f.fails.Webhooks(t.Context(), webhook.Scope{OrganizationID: acme}, webhook.WebhookQuery{}) // so that it knows the tables' version
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := f.faults.commitLate(); err != nil {
			t.Errorf("late commit: %v", err)
		}
	})
	return f
}

// restart makes everything as it was in the beginning, with two new webhooks.
func (f *faulty) restart(t *testing.T) {
	t.Helper()
	require.NoError(t, f.Clear())
	for _, name := range []string{"one", "two"} {
		register(t, f.works, "https://"+name+".example/hooks", room)
	}
	f.claims = nil
	f.now = f.now.Add(time.Minute)
}

func (f *faulty) newEvents(n int, key string) []webhook.EventRecord {
	events := make([]webhook.EventRecord, n)
	for i := range events {
		events[i] = webhook.EventRecord{
			ID: f.ids.New(f.now), OrganizationID: acme, Type: webhook.EventMessageSent, Subject: room,
			OccurredAt: f.now, Payload: []byte(`{"text":"hello"}`),
		}
		if key != "" {
			events[i].IdempotencyKey = fmt.Sprintf("%s %d", key, i)
		}
	}
	return events
}

func (f *faulty) claim(ctx context.Context, store *sqlstore.Store) ([]webhook.Claim, error) {
	got, err := store.Claim(ctx, webhook.ClaimParams{Now: f.now.Add(time.Second), LeaseFor: time.Minute, Limit: 100})
	return got.Claims, err
}

// finish reports the claims: a success, and then failures that are tried again.
func (f *faulty) finish(ctx context.Context, store *sqlstore.Store) (webhook.FinishResult, error) {
	p := webhook.FinishParams{Now: f.now.Add(2 * time.Second)}
	for i, c := range f.claims {
		o := webhook.FinishedAttempt{Token: c.Token, State: webhook.DeliverySucceeded, Attempt: webhook.Attempt{
			DeliveryID: c.DeliveryID, EventID: c.EventID, WebhookID: c.WebhookID, OrganizationID: c.OrganizationID, EventType: c.EventType,
			Number: c.Attempt, StartedAt: f.now.Add(time.Second), Duration: time.Millisecond, EndpointURL: c.EndpointURL,
			Outcome: webhook.OutcomeSucceeded, StatusCode: 204,
		}}
		if i > 0 {
			o.State, o.DueAt = webhook.DeliveryPending, f.now.Add(time.Hour)
			o.Attempt.Outcome, o.Attempt.StatusCode = webhook.OutcomeFailed, 500
		}
		p.Outcomes = append(p.Outcomes, o)
	}
	return store.Finish(ctx, p)
}

// rowCounts is how many rows there are in all.
type rowCounts struct {
	events, deliveries, queued, leased, attempts int
}

func (f *faulty) requireRows(t *testing.T, want rowCounts) {
	t.Helper()
	got := rowCounts{
		events:     count(t, f.Space, "select count(*) from posthorn_events"),
		deliveries: count(t, f.Space, "select count(*) from posthorn_deliveries"),
		queued:     count(t, f.Space, "select count(*) from posthorn_queue"),
		leased:     count(t, f.Space, "select count(*) from posthorn_queue where phase = 2"),
		attempts:   count(t, f.Space, "select count(*) from posthorn_attempts"),
	}
	require.Equal(t, want, got)
	require.Equal(t, want.attempts, count(t, f.Space, "select coalesce(sum(succeeded + failed), 0) from posthorn_counters"), "counted")
}

// endangered are calls of a dispatcher or publisher whose connection may fail.
// Each is prepared by a store that works. What call returns checks its result;
// rows are what is in the database then.
var endangered = []struct {
	name    string
	prepare func(t *testing.T, f *faulty)
	call    func(ctx context.Context, f *faulty) (check func(*testing.T), err error)
	rows    rowCounts
}{
	{
		"InsertEvents", func(*testing.T, *faulty) {},
		func(ctx context.Context, f *faulty) (func(*testing.T), error) { return f.insert(ctx, "", false) },
		rowCounts{events: 3, deliveries: 6, queued: 6},
	},
	{
		"InsertEvents with keys", func(*testing.T, *faulty) {},
		func(ctx context.Context, f *faulty) (func(*testing.T), error) { return f.insert(ctx, "order", false) },
		rowCounts{events: 3, deliveries: 6, queued: 6},
	},
	{
		"InsertEvents with a lease", func(*testing.T, *faulty) {},
		func(ctx context.Context, f *faulty) (func(*testing.T), error) { return f.insert(ctx, "", true) },
		rowCounts{events: 3, deliveries: 6, queued: 6, leased: 6},
	},
	{
		"Claim", func(t *testing.T, f *faulty) {
			t.Helper()
			_, err := f.works.InsertEvents(t.Context(), webhook.InsertParams{Events: f.newEvents(3, ""), Now: f.now})
			require.NoError(t, err)
		},
		func(ctx context.Context, f *faulty) (func(*testing.T), error) {
			claims, err := f.claim(ctx, f.fails)
			return func(t *testing.T) {
				t.Helper()
				require.Len(t, claims, 6)
				f.requireMine(t, claims)
			}, err
		},
		rowCounts{events: 3, deliveries: 6, queued: 6, leased: 6},
	},
	{
		"Finish", func(t *testing.T, f *faulty) {
			t.Helper()
			_, err := f.works.InsertEvents(t.Context(), webhook.InsertParams{Events: f.newEvents(2, ""), Now: f.now})
			require.NoError(t, err)
			f.claims, err = f.claim(t.Context(), f.works)
			require.NoError(t, err)
			require.Len(t, f.claims, 4)
		},
		func(ctx context.Context, f *faulty) (func(*testing.T), error) {
			got, err := f.finish(ctx, f.fails)
			return func(t *testing.T) {
				t.Helper()
				require.Equal(t, make([]error, 4), got.Errs)
			}, err
		},
		rowCounts{events: 2, deliveries: 4, queued: 3, attempts: 4},
	},
}

// insert inserts three events, each for two webhooks.
func (f *faulty) insert(ctx context.Context, key string, lease bool) (check func(*testing.T), err error) {
	p := webhook.InsertParams{Events: f.newEvents(3, key), Now: f.now}
	leased := 0
	if lease {
		leased = 6
		p.Lease = &webhook.InsertLease{For: time.Minute, Take: func(uuid.UUID, uuid.UUID, string) bool { return true }}
	}
	got, err := f.fails.InsertEvents(ctx, p)
	return func(t *testing.T) {
		t.Helper()
		require.Len(t, got.Events, 3)
		for i, e := range got.Events {
			require.Equal(t, webhook.InsertedEvent{EventID: p.Events[i].ID, Deliveries: 2}, e)
		}
		require.Len(t, got.Claims, leased)
		f.requireMine(t, got.Claims)
	}, err
}

// requireMine reports claims, each of them a different first attempt, by the
// store that works: they are good.
func (f *faulty) requireMine(t *testing.T, claims []webhook.Claim) {
	t.Helper()
	seen := map[uuid.UUID]bool{}
	for _, c := range claims {
		require.Equal(t, 1, c.Attempt)
		require.False(t, seen[c.DeliveryID])
		seen[c.DeliveryID] = true
	}
	f.claims = claims
	got, err := f.finish(t.Context(), f.works)
	require.NoError(t, err)
	require.Equal(t, make([]error, len(claims)), got.Errs)
}

// TestLostCommit loses answers to commits: whether they took effect or not, the
// caller gets the right result, and everything is in the database once.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, s)
			for _, e := range endangered {
				for _, lost := range lostErrors[s.Dialect] {
					for _, effect := range []effect{fullEffect, noEffect} {
						t.Run(fmt.Sprintf("%s, %s, %v", e.name, effect, lost), func(t *testing.T) { // no t.Parallel: they share the space
							f.restart(t)
							e.prepare(t, f)
							f.faults.set(fault{at: atCommit, err: lost, effect: effect, broken: true}, 1)
							check, err := e.call(t.Context(), f)
							require.NoError(t, err)
							toCome, begun := f.faults.clear()
							require.Zero(t, toCome, "the commit was lost")
							if effect == noEffect {
								require.Equal(t, 2, begun, "it was repeated")
							} else {
								require.Equal(t, 1, begun, "it was not repeated")
							}
							f.requireRows(t, e.rows)
							check(t)
						})
					}
				}
			}
		})
	}
}

// TestLateCommit loses the answer to a commit that takes effect only after the
// store has looked for it, as when the server still has it in its socket. The
// caller may be told that somebody else has been faster, which was itself; but
// everything is in the database once.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			if s == integration.SQLite {
				return // it has no server that could be late
			}
			f := newFaulty(t, s)
			for _, e := range endangered {
				t.Run(e.name, func(t *testing.T) { // no t.Parallel: they share the space
					f.restart(t)
					e.prepare(t, f)
					f.faults.set(fault{at: atCommit, err: io.EOF, effect: lateEffect, broken: true}, 1)
					_, err := e.call(t.Context(), f)
					require.NoError(t, err)
					toCome, begun := f.faults.clear()
					require.Zero(t, toCome, "the commit was lost")
					require.Equal(t, 2, begun, "it was repeated")
					f.requireRows(t, e.rows)
				})
			}
		})
	}
}

// TestTransientErrors lets the database give up on transactions a few times.
func TestTransientErrors(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			const times = 3
			f := newFaulty(t, s)
			for _, e := range endangered {
				for _, at := range []place{1, 3, atCommit} {
					for _, cause := range append(transientErrors[s.Dialect], driver.ErrBadConn) {
						lost := errors.Is(cause, driver.ErrBadConn)
						if lost && at == atCommit { // TestLostCommit
							continue
						}
						t.Run(fmt.Sprintf("%s, %v, %v", e.name, at, cause), func(t *testing.T) { // no t.Parallel: they share the space
							f.restart(t)
							e.prepare(t, f)
							f.faults.set(fault{at: at, err: cause, effect: noEffect, broken: lost}, times)
							check, err := e.call(t.Context(), f)
							require.NoError(t, err)
							toCome, begun := f.faults.clear()
							require.Zero(t, toCome)
							require.Equal(t, times+1, begun)
							f.requireRows(t, e.rows)
							check(t)
						})
					}
				}
			}
		})
	}
}

// TestLastingErrors lets the database give up again and again, or for a reason
// that no repetition changes: the caller is told, and nothing is stored.
func TestLastingErrors(t *testing.T) {
	t.Parallel()
	const always = 1_000
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			t.Run("transient", func(t *testing.T) {
				t.Parallel()
				cause := transientErrors[s.Dialect][0]
				var wg sync.WaitGroup // both take seconds, of waiting
				var spaces []*faulty
				var errs [2]error
				for i, at := range []place{2, atCommit} {
					f := newFaulty(t, s)
					f.restart(t)
					f.faults.set(fault{at: at, err: cause, effect: noEffect}, always)
					spaces = append(spaces, f)
					wg.Go(func() { _, errs[i] = f.insert(t.Context(), "", false) })
				}
				wg.Wait()
				for i, f := range spaces {
					require.ErrorIs(t, errs[i], cause)
					toCome, begun := f.faults.clear()
					require.Equal(t, begun, always-toCome, "each try fails")
					require.Greater(t, begun, 5, "tries")
					require.Less(t, begun, 50, "tries")
					f.requireRows(t, rowCounts{})
				}
			})
			t.Run("until the context ends", func(t *testing.T) {
				t.Parallel()
				f := newFaulty(t, s)
				f.restart(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				f.faults.set(fault{at: 2, err: transientErrors[s.Dialect][0], then: cancel}, always)
				_, err := f.insert(ctx, "", false)
				require.Error(t, err)
				_, begun := f.faults.clear()
				require.Equal(t, 1, begun, "tries")
				f.requireRows(t, rowCounts{})
			})
			t.Run("permanent", func(t *testing.T) {
				t.Parallel()
				f := newFaulty(t, s)
				cause := map[sqlstore.Dialect]error{
					sqlstore.Postgres: &pgconn.PgError{Code: "53100", Message: "disk full"},
					sqlstore.MySQL:    &mysql.MySQLError{Number: 1114, Message: "The table is full"},
					sqlstore.SQLite:   liteError(13),
				}[s.Dialect]
				for _, at := range []place{2, atCommit} {
					f.restart(t)
					f.faults.set(fault{at: at, err: cause, effect: noEffect}, always)
					_, err := f.insert(t.Context(), "", false)
					require.ErrorIs(t, err, cause)
					_, begun := f.faults.clear()
					require.Equal(t, 1, begun, "tries")
					f.requireRows(t, rowCounts{})
				}
			})
		})
	}
}
