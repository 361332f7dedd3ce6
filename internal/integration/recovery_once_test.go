package integration_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// TestRecoverEachOnce recovers 10,000 failed deliveries by two calls at once, and by
// processes that are killed at it. Each gets one new delivery, and they are claimed in
// the order in which the events came.
func TestRecoverEachOnce(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			t.Run("TwoAtOnce", func(t *testing.T) { recoverTwoAtOnce(t, s.Migrated(t)) })
			t.Run("Killed", func(t *testing.T) { recoverKilled(t, s.Migrated(t)) })
		})
	}
}

// missedEvents is a webhook to which everything has failed.
type missedEvents struct {
	space  *integration.Space
	store  webhook.Store
	id     uuid.UUID
	events []uuid.UUID // in their order
}

func newMissedEvents(t *testing.T, space *integration.Space) *missedEvents {
	t.Helper()
	n := 10_000
	if integration.Raced { // four batches: see recoverKilled
		n = 2_000
	}
	m := &missedEvents{space: space, store: space.Store(t)}
	m.id = register(t, m.store, "https://archive.example/hooks", room).ID
	for range n / 1000 {
		backlog(t, m.store, room, 1000)
	}
	failAll(t, m.store, webhook.DeliveryFailed)
	for _, d := range m.deliveries(t) {
		require.Equal(t, webhook.DeliveryFailed, d.State)
		m.events = append(m.events, d.EventID)
	}
	require.Len(t, m.events, n)
	return m
}

// deliveries returns all of them, the oldest first.
func (m *missedEvents) deliveries(t *testing.T) (list []webhook.Delivery) {
	t.Helper()
	for q := (webhook.DeliveryQuery{WebhookID: m.id, Limit: webhook.MaxPageSize}); ; {
		page, err := m.store.Deliveries(t.Context(), scope, q)
		require.NoError(t, err)
		list = append(list, page.Items...)
		if q.Cursor = page.Next; q.Cursor == "" {
			slices.Reverse(list)
			return list
		}
	}
}

// check looks at what there is after recoveries, and in which order it is claimed.
func (m *missedEvents) check(t *testing.T) (once, twice, missing int) {
	t.Helper()
	again := map[uuid.UUID]int{} // by the delivery that is repeated
	var failed []webhook.Delivery
	for _, d := range m.deliveries(t) {
		switch d.State {
		case webhook.DeliveryFailed:
			failed = append(failed, d)
		case webhook.DeliveryPending:
			again[d.RedeliveryOf]++
		default:
			require.Fail(t, "a state that nothing has", d.State)
		}
	}
	require.Len(t, failed, len(m.events), "what was there stays as it is")
	for _, d := range failed {
		switch again[d.ID] {
		case 0:
			missing++
		case 1:
			once++
		default:
			twice++
		}
	}
	require.Len(t, again, len(m.events)-missing, "a delivery of something else")

	var claimed []uuid.UUID
	now := time.Now().Add(time.Minute).UTC()
	for {
		got, err := m.store.Claim(t.Context(), webhook.ClaimParams{Now: now, LeaseFor: time.Hour, Limit: 500})
		require.NoError(t, err)
		if len(got.Claims) == 0 {
			break
		}
		for _, c := range got.Claims {
			claimed = append(claimed, c.EventID)
		}
	}
	require.Equal(t, m.events, claimed, "the order of the events")
	return once, twice, missing
}

func recoverTwoAtOnce(t *testing.T, space *integration.Space) {
	t.Helper()
	m := newMissedEvents(t, space)
	var sums [2]webhook.Recovery
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range sums {
		manager := newManager(t, space.Store(t))
		running.Go(func() {
			<-begin
			var err error
			if sums[i], err = manager.Recover(t.Context(), adminOf(acme), m.id, time.Time{}); err != nil {
				t.Error(err)
			}
		})
	}
	began := time.Now()
	close(begin)
	running.Wait()
	took := time.Since(began)
	once, twice, missing := m.check(t)
	t.Logf("recover %s: two calls at once over %d failed deliveries, in %v: %d + %d redelivered; each once: %d, twice: %d, missing: %d; claimed in the events' order",
		space.Name, len(m.events), took.Round(time.Millisecond), sums[0].Redelivered, sums[1].Redelivered, once, twice, missing)
	require.Equal(t, len(m.events), sums[0].Redelivered+sums[1].Redelivered)
	require.Equal(t, len(m.events), once)
}

// Three processes are killed, each after another batch or two and at any time within the
// next one; then somebody calls Recover again, and lets it end. Where there are few
// batches, one process is killed, or the last one might come to the end.
func recoverKilled(t *testing.T, space *integration.Space) {
	t.Helper()
	m := newMissedEvents(t, space)
	manager := newManager(t, space.Store(t))
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var done []int // after each of the killed
	kills := 3
	if integration.Raced {
		kills = 1
	}
	for range kills {
		p := start(t, space, task{Kind: "recover", Recover: &recoverPlan{WebhookID: m.id}})
		before := 0
		if len(done) > 0 {
			before = done[len(done)-1]
		}
		// What others have done is gone through as well, in batches of the same size.
		require.True(t, p.reach(before/500+1+r.IntN(2)))
		pauseFor(t.Context(), time.Duration(r.IntN(20_000))*time.Microsecond)
		require.NoError(t, p.Process.Kill())
		requireKilled(t, p)
		n := count(t, space, "select count(*) from posthorn_deliveries where state = 0")
		require.Greater(t, n, before)
		require.Less(t, n, len(m.events), "it was killed too late")
		done = append(done, n)
	}
	preview, err := manager.RecoverPreview(t.Context(), adminOf(acme), m.id, time.Time{})
	require.NoError(t, err)
	rest, err := manager.Recover(t.Context(), adminOf(acme), m.id, time.Time{})
	require.NoError(t, err)
	once, twice, missing := m.check(t)
	t.Logf("recover %s: %d processes killed over %d failed deliveries, after %v; then %d more, which the preview had said; each once: %d, twice: %d, missing: %d; claimed in the events' order; seed %d",
		space.Name, kills, len(m.events), done, rest.Redelivered, once, twice, missing, seed)
	require.Equal(t, preview, rest)
	require.Equal(t, len(m.events), done[kills-1]+rest.Redelivered)
	require.Equal(t, len(m.events), once)
}
