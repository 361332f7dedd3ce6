package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Tx is a transaction of the host in which events are stored.
type Tx interface {
	webhook.TxWriter
	Commit() error
	Rollback() error
}

// patience bounds calls that a transaction may keep waiting until it ends, as
// databases with one writer do. No store that keeps the contract fails for its
// length: it only says how long such a store's subtests take.
const patience = 2 * time.Second

// RunTx checks what the contract says of transactions of the host. newStore
// returns a store, as for [Run], and a function that begins a transaction on
// its database. Several may be open at once, so it must not wait for another
// one's end: with a single writer, the transaction that it returns begins with
// its first insert.
func RunTx(t *testing.T, newStore func(t *testing.T) (webhook.Store, func(*testing.T) Tx)) {
	type txTest struct {
		name string
		run  func(*txFixture)
	}
	for _, clause := range []struct {
		name  string
		tests []txTest
	}{
		{"S3", []txTest{{"ACancelledInsertWritesNothing", aCancelledInsertWritesNothing}}},
		{"S7", []txTest{
			{"NothingShowsBeforeTheCommit", nothingShowsBeforeTheCommit},
			{"ARollbackLeavesNothing", aRollbackLeavesNothing},
			{"FanOutAsEver", txFanOutAsEver},
			{"ALeaseIsRefused", aLeaseIsRefused},
			{"DuplicatesSpoilNothing", duplicatesSpoilNothing},
		}},
		{"S8", []txTest{
			{"TwoTransactionsAndOneKey", twoTransactionsAndOneKey},
			{"ARolledBackKeyIsFree", aRolledBackKeyIsFree},
			{"TheStoreItselfAgainstATransaction", theStoreItselfAgainstATransaction},
		}},
		{"S14", []txTest{
			{"CommittedAfterTheDeactivation", committedAfterTheDeactivation},
			{"CommittedAfterTheDeletion", committedAfterTheDeletion},
		}},
	} {
		t.Run(clause.name, func(t *testing.T) {
			for _, tc := range clause.tests {
				t.Run(tc.name, func(t *testing.T) {
					t.Parallel()
					guarded(t, func() {
						store, begin := newStore(t)
						tc.run(&txFixture{fixture: newFixture(t, store), begin: begin})
					})
				})
			}
		})
	}
}

// txFixture is a fixture whose store has transactions.
type txFixture struct {
	*fixture
	begin func(*testing.T) Tx
}

// tx begins a transaction, which ends with the test at the latest.
func (f *txFixture) tx() Tx {
	tx := f.begin(f.t)
	f.t.Cleanup(func() { _ = tx.Rollback() }) // of no effect after the test's own end of it
	return tx
}

func (f *txFixture) insertTx(tx Tx, events ...webhook.EventRecord) []webhook.InsertedEvent {
	f.t.Helper()
	got, err := tx.InsertEventsTx(f.ctx(), webhook.InsertParams{Events: events, Now: f.now})
	f.NoError(err, "InsertEventsTx")
	f.Empty(got.Claims, "InsertEventsTx leases nothing")
	f.Len(got.Events, len(events), "InsertEventsTx has a result for each event")
	return got.Events
}

// impatient returns the context of a call that may have to wait for an open
// transaction.
func (f *txFixture) impatient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.ctx(), patience)
}

func aCancelledInsertWritesNothing(f *txFixture) {
	f.webhook(subscribed(messages))
	tx := f.tx()
	e := f.event(keyed("key"))
	cancelled, cancel := context.WithCancel(f.ctx())
	cancel()
	_, err := tx.InsertEventsTx(cancelled, webhook.InsertParams{Events: []webhook.EventRecord{e}, Now: f.now})
	f.ErrorIs(err, context.Canceled)
	f.NoError(tx.Rollback(), "Rollback")

	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{}))
	f.Equal(webhook.InsertedEvent{EventID: e.ID, Deliveries: 1}, f.publish(e)[0])
}

func nothingShowsBeforeTheCommit(f *txFixture) {
	w := f.webhook(subscribed(messages))
	es := f.events(3, func(e *webhook.EventRecord) { e.TraceContext = traceContext })
	tx := f.tx()
	for _, e := range es { // one call, or several, is one transaction
		f.Equal([]webhook.InsertedEvent{{EventID: e.ID, Deliveries: 1}}, f.insertTx(tx, e))
	}
	before := f.now
	f.pass(time.Second)
	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{}))
	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID, State: webhook.DeliveryPending}))
	ctx, cancel := f.impatient()
	defer cancel()
	if got, err := f.store.Claim(ctx, webhook.ClaimParams{Now: f.now, LeaseFor: lease, Limit: 10}); err == nil {
		f.Empty(got.Claims)
	}

	f.NoError(tx.Commit(), "Commit")
	for _, e := range es {
		d := f.deliveryOf(w, e.ID)
		f.Equal(webhook.Delivery{
			ID: d.ID, EventID: e.ID, WebhookID: w.ID, OrganizationID: acme, EventType: e.Type, Subject: e.Subject,
			State: webhook.DeliveryPending, DueAt: before, CreatedAt: before, Payload: e.Payload,
		}, d)
	}
	claims := f.claimAll()
	f.Len(claims, 3)
	for _, c := range claims {
		f.Equal(traceContext, c.TraceContext)
	}
}

func aRollbackLeavesNothing(f *txFixture) {
	f.webhook(subscribed(messages))
	e, unmatched := f.event(keyed("key")), f.event(about(hall), keyed("other key"))
	tx := f.tx()
	f.insertTx(tx, e, unmatched)
	f.NoError(tx.Rollback(), "Rollback")

	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{}))
	f.nothingWaits()
	got := f.publish(e, unmatched)
	f.Equal([]webhook.InsertedEvent{{EventID: e.ID, Deliveries: 1}, {EventID: unmatched.ID}}, got)
}

func txFanOutAsEver(f *txFixture) {
	filtered := messages
	filtered.Filter = map[string]string{"kind": "chat"}
	active, dormant := f.webhook(subscribed(messages, transcripts)), f.webhook(inactive, subscribed(messages))
	f.webhook(subscribed(filtered))
	f.webhook(in(umbrella), subscribed(messages))
	e, unmatched, probe := f.event(about(hall, room)), f.event(about(hall)), f.event(asTest)
	tx := f.tx()
	f.Equal([]webhook.InsertedEvent{{EventID: e.ID, Deliveries: 2}, {EventID: unmatched.ID}}, f.insertTx(tx, e, unmatched))
	got, err := tx.InsertEventsTx(f.ctx(), webhook.InsertParams{
		Events: []webhook.EventRecord{probe}, Now: f.now, Only: dormant.ID,
	})
	f.NoError(err, "InsertEventsTx")
	f.Equal([]webhook.InsertedEvent{{EventID: probe.ID, Deliveries: 1}}, got.Events)
	f.NoError(tx.Commit(), "Commit")

	f.Equal(webhook.DeliveryPending, f.deliveryOf(active, e.ID).State)
	f.Equal(webhook.DeliveryHeld, f.deliveryOf(dormant, e.ID).State)
	f.True(f.deliveryOf(dormant, probe.ID).Test)
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 3)
	f.False(f.publish(unmatched)[0].Duplicate) // its id was not taken
}

func aLeaseIsRefused(f *txFixture) {
	w := f.webhook(subscribed(messages))
	refused, good := f.event(), f.event()
	tx := f.tx()
	_, err := tx.InsertEventsTx(f.ctx(), webhook.InsertParams{
		Events: []webhook.EventRecord{refused}, Now: f.now,
		Lease: &webhook.InsertLease{For: lease, Take: func(_, _ uuid.UUID, _ string) bool { return true }},
	})
	f.Error(err)
	f.insertTx(tx, good)
	f.NoError(tx.Commit(), "Commit")
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 1)
	f.deliveryOf(w, good.ID)
}

func duplicatesSpoilNothing(f *txFixture) {
	f.webhook(subscribed(messages))
	stored := f.event(keyed("key"))
	f.publish(stored)

	takenID, takenKey, good := f.event(), f.event(keyed("key")), f.event(keyed("new"))
	takenID.ID = stored.ID
	sameID, sameKey, last := f.event(), f.event(keyed("new")), f.event(keyed("New"))
	sameID.ID = good.ID

	// Alone, in one call, and after what the transaction itself has stored.
	tx := f.tx()
	f.ErrorIs(f.insertTx(tx, takenID)[0].Err, webhook.ErrConflict)
	got := f.insertTx(tx, takenKey)[0]
	f.NoError(got.Err)
	f.True(got.Duplicate)
	f.Equal(stored.ID, got.EventID)
	mixed := f.insertTx(tx, takenID, takenKey, good)
	f.ErrorIs(mixed[0].Err, webhook.ErrConflict)
	f.True(mixed[1].Duplicate)
	f.Equal(webhook.InsertedEvent{EventID: good.ID, Deliveries: 1}, mixed[2])
	mixed = f.insertTx(tx, sameID, sameKey, last)
	f.ErrorIs(mixed[0].Err, webhook.ErrConflict)
	f.True(mixed[1].Duplicate)
	f.Equal(good.ID, mixed[1].EventID)
	f.Equal(webhook.InsertedEvent{EventID: last.ID, Deliveries: 1}, mixed[2])
	f.NoError(tx.Commit(), "Commit")

	events := map[uuid.UUID]bool{}
	for _, d := range f.deliveries(ours, webhook.DeliveryQuery{}) {
		events[d.EventID] = true
	}
	f.Equal(map[uuid.UUID]bool{stored.ID: true, good.ID: true, last.ID: true}, events)
	f.Len(f.claimAll(), 3)
}

// contender is what an insert of one event gave.
type contender struct {
	event webhook.InsertedEvent
	err   error
}

// contend inserts an event in the background, against a transaction that has
// inserted one with the same key. The insert may wait until that ends, or say
// at once that it cannot be done.
func (f *txFixture) contend(insert func(context.Context, webhook.InsertParams) (webhook.InsertResult, error),
	e webhook.EventRecord,
) <-chan contender {
	ctx, cancel := context.WithTimeout(f.ctx(), 10*patience)
	p := webhook.InsertParams{Events: []webhook.EventRecord{e}, Now: f.now}
	begun, done := make(chan struct{}), make(chan contender, 1)
	go func() {
		defer cancel()
		close(begun)
		got, err := insert(ctx, p)
		if err != nil {
			done <- contender{err: err}
			return
		}
		done <- contender{got.Events[0], got.Events[0].Err}
	}()
	<-begun
	return done
}

func twoTransactionsAndOneKey(f *txFixture) {
	w := f.webhook(subscribed(messages))
	first, second := f.event(keyed("key")), f.event(keyed("key"))
	tx1, tx2 := f.tx(), f.tx()
	f.insertTx(tx1, first)
	waiting := f.contend(tx2.InsertEventsTx, second)
	f.NoError(tx1.Commit(), "Commit")
	got := <-waiting
	if got.err == nil {
		f.True(got.event.Duplicate)
		f.Equal(first.ID, got.event.EventID)
		f.NoError(tx2.Commit(), "Commit")
	} else {
		f.NoError(tx2.Rollback(), "Rollback")
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 1)
	f.deliveryOf(w, first.ID)

	// Whoever asks now is told.
	again := f.publish(f.event(keyed("key")))[0]
	f.True(again.Duplicate)
	f.Equal(first.ID, again.EventID)
}

func aRolledBackKeyIsFree(f *txFixture) {
	w := f.webhook(subscribed(messages))
	first, second, third := f.event(keyed("key")), f.event(keyed("key")), f.event(keyed("key"))
	tx1, tx2 := f.tx(), f.tx()
	f.insertTx(tx1, first)
	waiting := f.contend(tx2.InsertEventsTx, second)
	f.NoError(tx1.Rollback(), "Rollback")
	got := <-waiting
	stored := third
	if got.err == nil {
		f.Equal(webhook.InsertedEvent{EventID: second.ID, Deliveries: 1}, got.event)
		f.NoError(tx2.Commit(), "Commit")
		stored = second
	} else {
		f.NoError(tx2.Rollback(), "Rollback")
	}
	f.Equal(stored.ID, f.publish(third)[0].EventID)
	f.deliveryOf(w, stored.ID)
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 1)
}

func theStoreItselfAgainstATransaction(f *txFixture) {
	w := f.webhook(subscribed(messages))
	first, second := f.event(keyed("key")), f.event(keyed("key"))
	tx := f.tx()
	f.insertTx(tx, first)
	waiting := f.contend(f.store.InsertEvents, second)
	f.NoError(tx.Commit(), "Commit")
	if got := <-waiting; got.err == nil {
		f.True(got.event.Duplicate)
		f.Equal(first.ID, got.event.EventID)
	}
	f.deliveryOf(w, first.ID)
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 1)
}

// meanwhile changes the store while a transaction with a delivery to each of
// the webhooks is open, and commits it then. A store whose changes wait for
// open transactions makes the change after the commit.
func (f *txFixture) meanwhile(change func(ctx context.Context) error, changed func() bool) webhook.EventRecord {
	f.t.Helper()
	e := f.event()
	tx := f.tx()
	f.insertTx(tx, e)
	f.pass(time.Second)
	ctx, cancel := f.impatient()
	defer cancel()
	err := change(ctx)
	f.NoError(tx.Commit(), "Commit")
	if err != nil && !changed() {
		f.NoError(change(f.ctx()))
	}
	f.True(changed())
	return e
}

func committedAfterTheDeactivation(f *txFixture) {
	w, other := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	p := f.updateOf(w)
	p.Change.Status = webhook.StatusInactive
	e := f.meanwhile(func(ctx context.Context) error {
		_, err := f.store.UpdateWebhook(ctx, p)
		return err
	}, func() bool { return f.read(w).Status == webhook.StatusInactive })

	f.pass(time.Second)
	f.beforeAndAfterSweep(func() {
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 1})
		f.Empty(f.claim(webhook.ClaimParams{Caps: map[uuid.UUID]int{other.ID: 0}}).Claims)
	})
	f.claimOf(f.deliveryOf(other, e.ID))

	// It is held like any other: it stays so, and can be released.
	f.change(w, activate)
	f.beforeAndAfterSweep(func() {
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 1})
		f.Empty(f.claimAll())
	})
	f.change(w, deactivate)
	f.change(w, resume)
	f.claimOf(f.deliveryOf(w, e.ID))
}

func committedAfterTheDeletion(f *txFixture) {
	w, other := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	e := f.meanwhile(func(ctx context.Context) error {
		return f.store.DeleteWebhook(ctx, webhook.DeleteWebhookParams{Scope: ours, ID: w.ID, Now: f.now})
	}, func() bool { return len(f.webhooks(ours, webhook.WebhookQuery{})) == 1 })

	f.pass(time.Second)
	f.beforeAndAfterSweep(func() {
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliveryCancelled: 1})
		f.Empty(f.claim(webhook.ClaimParams{Caps: map[uuid.UUID]int{other.ID: 0}}).Claims)
		d := f.deliveryOf(w, e.ID)
		f.NotZero(d.FinishedAt)
		f.Zero(d.DueAt)
	})
	f.claimOf(f.deliveryOf(other, e.ID))
	f.Zero(f.leased(w))
}
