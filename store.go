package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Store is all that the library asks of storage. Each consumer takes only the
// roles it needs: [NewPublisher] an [EventWriter], [NewManager] a
// [ManagerStore], [NewDispatcher] a [DispatcherStore].
//
// # The contract
//
// Every implementation passes storetest, whose subtests have these numbers.
//
// S1. Nothing passed in is retained and nothing returned is shared: callers may
// change either afterwards. Bytes come back as they went in, an empty map or
// slice as nil. A store makes the ids of deliveries and notices, by an
// [IDSource] from Now, and a random token for each claim.
//
// S2. Times come back in time.UTC, truncated to the microsecond; strings compare
// bytewise. A store reads no clock: every moment that matters is an argument.
//
// S3. A call takes effect as a whole or not at all. When its context ends
// during the call, the caller may not know which of the two.
//
// S4. Reads and changes on behalf of people name a [Scope]. The zero Scope
// matches nothing. A record outside the scope gives ErrNotFound, exactly as a
// missing one.
//
// S5. Creating a webhook, or inserting an event, under an id that is taken, be it
// by a webhook that has been deleted, is ErrConflict. No more than MaxPerOrganization webhooks that are not deleted
// exist in an organization; one more is [TooManyWebhooks].
//
// S6. An update succeeds only at the stored Version, and adds 1; otherwise
// ErrConflict. It cancels, as S21 does, unfinished deliveries of events that the
// subscriptions asked for until then and do not any more ([Webhook.Subscribes]),
// but for those of transactions that commit later. This may follow the change itself
// in batches, during which claims go on: when UpdateWebhook has returned, reads show
// it. If the call breaks off in between, which S3 does not exclude, the change is
// made, Sweep cancels the rest, and what Resume was to release stays held.
//
// S7. InsertEvents takes many events; each has its own result or error, and
// goes in with all its deliveries or not at all. A webhook of the event's
// organization gets one delivery if any of its subscriptions matches
// ([Webhook.Matches]): pending and due at Now if it is active, held if
// inactive. With Only, that webhook alone gets one, whatever its
// subscriptions; if it is missing, the event's error is ErrNotFound. An event without deliveries is stored only if it has an
// idempotency key. Event reads a stored one back. With Lease, rows whose webhook Lease.Take accepts are
// inserted leased and come back as claims. InsertEventsTx does the same inside
// the host's transaction, refuses Lease, and neither retries nor spoils the
// transaction when an event is a duplicate or refused. After an error nothing of
// the call can be committed.
//
// S8. Within an organization an idempotency key is stored once, also under
// concurrent inserts and within one call. A further event with it is not
// stored: its result has the first one's id and Duplicate set.
//
// S9. Claim leases due deliveries of active webhooks for LeaseFor, counts an
// attempt on each and gives each a fresh token. It takes at most Limit, going
// round the webhooks that have due work, by creation within one, under the
// bounds of [ClaimParams]. Concurrent claims are disjoint and none waits for
// another's lease. NextDue is when a claim with the same bounds could next find
// more, or a lease will run out: not after Now if work is left that only Limit,
// PerWebhook or a positive bound kept back, zero if nothing waits. Work that a
// bound of nothing at all keeps back does not count, nor does what S14 keeps
// from being claimed. A claim that took Limit deliveries may say Now without
// having looked. A Limit of 0 claims nothing and only looks.
//
// S10. Finish takes many outcomes. One that carries the current token and
// attempt number writes its attempt, state and next due time in one step, also
// after the lease's end as long as nobody has settled it. Any other changes no
// delivery and gives ErrLeaseLost; if its attempt is in the log as interrupted,
// that row becomes late, with what was reported.
//
// S11. Settle logs the attempts whose leases have run out as interrupted
// ([Claim.Interrupted]) and moves their deliveries on by the schedule
// ([Schedule.After]), counted from the lease's end:
// pending, or failed with its notice; held or cancelled where S14 says so.
//
// S12. Release ends a lease without an attempt: the attempt is given back and
// the delivery is due at the given time, unless S14 or S21 has decided about
// it. A stale token gives ErrLeaseLost.
//
// S13. Nothing is claimed before it is due, nor while a lease on it lives, nor
// between the end of a lease and its settling. At DueAt a delivery is due; at
// LeasedUntil a lease has run out.
//
// S14. Deactivating or deleting a webhook takes effect in one step. From then
// on neither Claim nor InsertEvents returns claims on its deliveries, not even
// ones inserted by transactions that commit later, and reads show those as held or cancelled, one whose
// attempt is in flight too. Rows may follow in batches, by Sweep. A leased row
// stays leased until it is finished or settled: its attempt is logged, and the
// delivery is then held (if another attempt was left) or cancelled (whatever
// the outcome), which is when it is finished. Leased counts the live leases of
// a webhook, also of a deleted one. A deleted webhook is missing from every
// read, but its deliveries and attempts stay readable. Reactivating without
// Resume leaves held deliveries held; with Resume, which an active webhook takes
// too, they become pending, due when they were, or at Now if that has passed.
//
// S15. Lists are newest first, in pages of at most the query's limit, and of
// fewer only at the end or if a filter has left out hundreds of records, with
// cursors bound to scope and query ([StartOf], [NextCursor]). Any other cursor
// is ErrInvalidCursor. Records that come or go meanwhile make no other record
// appear twice or go missing.
//
// S16. Redeliver adds a delivery of a finished one's event to the same webhook,
// with attempts of its own, held if the webhook is inactive. ErrConflict if the
// delivery is not finished, its payload is purged or its webhook deleted.
//
// S17. Purge deletes, in batches, what is older than the given times: payloads
// and attempts of finished deliveries, finished deliveries themselves with their
// attempts, then events inserted before DeliveriesBefore that no delivery refers
// to, which frees their idempotency keys. Pending deliveries are never purged; held ones created
// before HeldBefore are cancelled and counted.
//
// S18. Every method is safe for concurrent use. Errors carry no secret and no
// payload.
//
// S19. A delivery that becomes failed queues its notice in the same step,
// unless it is of a test event: one open notice a webhook, which counts
// further ones, due by [NoticeDue]. Notices are claimed under leases; a claim
// says how many earlier ones of the same notice ended with an unknown outcome,
// which is reported, or that of a lease that ran out. When a notice has been sent, what was counted since is the next one's, under a new id. A
// succeeded attempt ends the wait between notices. Deleting the webhook drops
// its notice.
//
// S20. Claims carry the webhook's secret; no read returns it.
//
// S21. CancelDelivery cancels a pending or held delivery. One whose attempt is in
// flight reads as cancelled too, keeps its lease, and stays cancelled whatever
// the outcome. ErrConflict if it is finished, or cancelled already.
//
// S22. Each logged attempt adds to its webhook's counters of the hour in which
// it started, by outcome and latency ([Counter.Add]). A late report changes
// no counter. Counters outlive what Purge deletes.
//
// S23. Recover goes through a webhook's deliveries in the order of their
// creation, a batch a call, which may find fewer than Limit, or none, though More says
// that there are others to look at: one that failed since the given time gets one new
// delivery, if it is the event's newest to that webhook; a held one becomes
// pending itself. Test events stay out. Until, which the first batch finds and
// the others are given, keeps what a recovery itself adds out of its own sight.
// A Preview returns the same counts and changes nothing. ErrConflict if the
// webhook is inactive.
//
// S25. When SetPaused has paused, neither Claim nor InsertEvents leases anything,
// whichever process calls, until SetPaused resumes. A claim says so, and its
// NextDue is when a lease will run out. Everything else goes on: attempts in
// flight are finished or settled, notices are claimed, and what is old is purged.
// Pausing what is paused changes nothing, nor does resuming what is not. Overview
// counts the open deliveries of all organizations, no further than it is asked to.
// Rows that Sweep has yet to move may count as what they were. LastPurge is when a
// Purge last left nothing, and LastPurged all that was deleted since the one before
// that did, by the same Store.
type Store interface {
	ManagerStore
	DispatcherStore
}

// ManagerStore is what [Manager] needs.
type ManagerStore interface {
	EventWriter
	WebhookStore
	DeliveryLog
	DeliveryControl
}

// DispatcherStore is what [Dispatcher] needs.
type DispatcherStore interface {
	DeliveryQueue
	NoticeQueue
	Purger
	Overseer
}

// Scope limits reads and changes to one organization. The zero Scope matches
// nothing.
type Scope struct {
	OrganizationID string
}

// EventWriter stores events with their deliveries, in transactions of its own.
type EventWriter interface {
	InsertEvents(ctx context.Context, p InsertParams) (InsertResult, error)
}

// TxWriter stores events with their deliveries inside a transaction that the
// host commits or rolls back. Only a store's WithTx or Begin makes one.
type TxWriter interface {
	InsertEventsTx(ctx context.Context, p InsertParams) (InsertResult, error)
}

// InsertParams are the events to store at Now.
type InsertParams struct {
	Events []EventRecord
	Now    time.Time
	Only   uuid.UUID    // the one webhook of a test event; the zero UUID means fan-out
	Lease  *InsertLease // nil means that nothing is inserted leased
}

// InsertLease lets a dispatcher take deliveries as they are inserted.
type InsertLease struct {
	For time.Duration

	// Take decides about one delivery of an active webhook. A store that
	// repeats its transaction asks again; the answer that counts is the one
	// before the commit. Take must be quick and must not call the store.
	Take func(eventID, webhookID uuid.UUID, organizationID string) bool
}

// InsertResult has one entry for each event, in their order, and the claims on
// what was inserted leased.
type InsertResult struct {
	Events []InsertedEvent
	Claims []Claim
}

// InsertedEvent is what became of one event. If Err is not nil, nothing of the
// event was stored.
type InsertedEvent struct {
	EventID    uuid.UUID // the stored event; of a duplicate, the first one's
	Deliveries int       // inserted, held ones included
	Duplicate  bool
	Err        error
}

// WebhookStore keeps webhooks.
type WebhookStore interface {
	CreateWebhook(ctx context.Context, p CreateWebhookParams) error
	UpdateWebhook(ctx context.Context, p UpdateWebhookParams) (Webhook, error)
	DeleteWebhook(ctx context.Context, p DeleteWebhookParams) error
	Webhook(ctx context.Context, s Scope, id uuid.UUID) (Webhook, error)
	Webhooks(ctx context.Context, s Scope, q WebhookQuery) (Page[Webhook], error)

	// Leased returns how many attempts of a webhook, deleted or not, may be in
	// flight at the given time.
	Leased(ctx context.Context, s Scope, webhookID uuid.UUID, now time.Time) (int, error)
}

// CreateWebhookParams is a complete webhook and its secret.
type CreateWebhookParams struct {
	Webhook            Webhook
	Secret             Secret
	MaxPerOrganization int // 0 means no bound
}

// UpdateWebhookParams is a change that has been validated.
type UpdateWebhookParams struct {
	Scope  Scope
	ID     uuid.UUID
	Change WebhookChange
	Now    time.Time
	By     string // the actor's id
}

// DeleteWebhookParams names the webhook to delete.
type DeleteWebhookParams struct {
	Scope Scope
	ID    uuid.UUID
	Now   time.Time
}

// DeliveryLog reads what happened.
type DeliveryLog interface {
	// Event returns one stored event, without its payload.
	Event(ctx context.Context, s Scope, id uuid.UUID) (EventRecord, error)

	// Delivery returns one delivery, with its payload.
	Delivery(ctx context.Context, s Scope, id uuid.UUID) (Delivery, error)

	// Deliveries and Attempts return ErrNotFound if the query names a webhook
	// or delivery that the scope never had.
	Deliveries(ctx context.Context, s Scope, q DeliveryQuery) (Page[Delivery], error)
	Attempts(ctx context.Context, s Scope, q AttemptQuery) (Page[Attempt], error)

	// Counters returns the hours of a webhook that have any, oldest first.
	Counters(ctx context.Context, s Scope, q CounterQuery) ([]Counter, error)
}

// CounterQuery names a webhook and a span of hours.
type CounterQuery struct {
	WebhookID uuid.UUID
	Since     time.Time // first hour, inclusive; zero means no bound
	Before    time.Time // exclusive; zero means no bound
}

// LatencyBounds are the upper bounds, inclusive, of the latency buckets of a
// [Counter]. Its last bucket has what took longer than the last of them.
var LatencyBounds = [...]time.Duration{
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second,
}

// Counter is what happened to a webhook's attempts that started in one hour.
type Counter struct {
	Hour                           time.Time // its beginning, UTC
	Succeeded, Failed, Interrupted int

	// Latency counts succeeded and failed attempts by duration, see
	// LatencyBounds.
	Latency [len(LatencyBounds) + 1]int
}

// Add counts an attempt, for stores.
func (c *Counter) Add(a *Attempt) {
	switch a.Outcome {
	case OutcomeInterrupted:
		c.Interrupted++
		return
	case OutcomeSucceeded:
		c.Succeeded++
	default:
		c.Failed++
	}
	i := 0
	for i < len(LatencyBounds) && a.Duration > LatencyBounds[i] {
		i++
	}
	c.Latency[i]++
}

// DeliveryControl starts and stops deliveries on behalf of people.
type DeliveryControl interface {
	Redeliver(ctx context.Context, p RedeliverParams) (Delivery, error)
	CancelDelivery(ctx context.Context, p CancelParams) error
	Recover(ctx context.Context, p RecoverParams) (RecoverResult, error)
}

// RedeliverParams names a finished delivery.
type RedeliverParams struct {
	Scope      Scope
	DeliveryID uuid.UUID
	Now        time.Time
}

// CancelParams names an unfinished delivery.
type CancelParams struct {
	Scope      Scope
	DeliveryID uuid.UUID
	Now        time.Time
}

// RecoverParams asks for one batch of a recovery.
type RecoverParams struct {
	Scope     Scope
	WebhookID uuid.UUID
	Since     time.Time // deliveries that failed, or were created and are held, at or after
	Until     Position  // of the newest delivery to look at; zero, in the first batch, means the newest there is
	After     Position  // Next of the batch before; zero means the beginning
	Limit     int       // deliveries to redeliver, release or pass over as purged, at most
	Now       time.Time
	Preview   bool // count what would be done, and do nothing
}

// RecoverResult is what one batch did, or would do.
type RecoverResult struct {
	Redelivered int      // new deliveries
	Released    int      // held ones that are pending now
	Purged      int      // failed ones whose payload is gone
	Next        Position // where the next batch goes on
	Until       Position // and where the last one ends
	More        bool
}

// DeliveryQueue hands out due deliveries and takes back what became of them.
type DeliveryQueue interface {
	Settle(ctx context.Context, p SettleParams) (SettleResult, error)
	Sweep(ctx context.Context, p SweepParams) (SweepResult, error)
	Claim(ctx context.Context, p ClaimParams) (ClaimResult, error)
	Finish(ctx context.Context, p FinishParams) (FinishResult, error)
	Release(ctx context.Context, p ReleaseParams) (ReleaseResult, error)
}

// SettleParams says which leases have run out and what comes after.
type SettleParams struct {
	Now      time.Time
	Schedule Schedule
	Limit    int
}

// SettleResult counts the leases settled. More says that others were left.
type SettleResult struct {
	Settled int
	More    bool
}

// SweepParams bounds one batch of rows that follow a change of their webhook.
type SweepParams struct {
	Now   time.Time
	Limit int
}

// SweepResult counts the rows moved. More says that others were left.
type SweepResult struct {
	Moved int
	More  bool
}

// ClaimParams bounds a claim. For PerWebhook, PerOrganization and UnlistedLimit
// 0 means no bound of its own and a negative number means none at all; in the
// maps, 0 or less means none.
type ClaimParams struct {
	Now      time.Time
	LeaseFor time.Duration
	Limit    int // in all

	PerWebhook int               // of one webhook
	Caps       map[uuid.UUID]int // of the webhooks it lists, in place of PerWebhook

	PerOrganization  int            // of one organization
	OrganizationCaps map[string]int // of the organizations it lists, in place of PerOrganization

	UnlistedLimit int // of all webhooks together that Caps does not list
}

// ClaimResult is the claimed deliveries, and when it is worth asking again.
type ClaimResult struct {
	Claims  []Claim
	NextDue time.Time
	Paused  bool // nothing was claimed, because of SetPaused
}

// Claim is a leased delivery with all that one attempt needs.
type Claim struct {
	DeliveryID     uuid.UUID
	EventID        uuid.UUID
	WebhookID      uuid.UUID
	OrganizationID string
	EventType      EventType
	Test           bool

	Attempt     int       // its number, from 1
	Token       uuid.UUID // the right to finish
	DueAt       time.Time // when it became due
	LeasedUntil time.Time

	EndpointURL string
	Secret      Secret // zero if it could not be opened: nothing may be sent
	Payload     []byte
}

// FinishParams are outcomes to write at Now.
type FinishParams struct {
	Now      time.Time
	Outcomes []FinishedAttempt
}

// FinishedAttempt is an attempt and what follows from it.
type FinishedAttempt struct {
	Token   uuid.UUID
	Attempt Attempt       // names the delivery and the attempt number
	State   DeliveryState // succeeded, failed or pending
	DueAt   time.Time     // of the next attempt, if pending
}

// FinishResult has an entry for each outcome, in their order: nil or
// ErrLeaseLost.
type FinishResult struct {
	Errs []error
}

// ReleaseParams gives claims back at Now.
type ReleaseParams struct {
	Now    time.Time
	Claims []ReleasedClaim
}

// ReleasedClaim is a claim whose attempt was not made.
type ReleasedClaim struct {
	DeliveryID uuid.UUID
	Token      uuid.UUID
	NotBefore  time.Time // when it is due again
}

// ReleaseResult has an entry for each claim, in their order: nil or
// ErrLeaseLost.
type ReleaseResult struct {
	Errs []error
}

// NoticeQueue hands out due notices.
type NoticeQueue interface {
	ClaimNotices(ctx context.Context, p ClaimNoticesParams) (ClaimNoticesResult, error)

	// FinishNotice returns ErrLeaseLost if the token is stale.
	FinishNotice(ctx context.Context, p FinishNoticeParams) error
}

// ClaimNoticesParams bounds a claim of notices.
type ClaimNoticesParams struct {
	Now      time.Time
	LeaseFor time.Duration
	Limit    int
}

// ClaimNoticesResult is the claimed notices and when the next one, or the next
// end of a notice's lease, falls due; zero if none waits.
type ClaimNoticesResult struct {
	Claims  []NoticeClaim
	NextDue time.Time
}

// NoticeClaim is a leased notice.
type NoticeClaim struct {
	Notice  Notice
	Token   uuid.UUID
	Attempt int // how often it has been claimed, from 1

	// Unknown is how many of the earlier claims ended without anybody knowing
	// whether the notice was sent: their leases ran out, or the notifier could
	// not tell.
	Unknown int
}

// FinishNoticeParams says whether a claimed notice was sent at Now, or else
// when to try again.
type FinishNoticeParams struct {
	Now       time.Time
	WebhookID uuid.UUID
	Token     uuid.UUID
	Sent      bool
	RetryAt   time.Time // if it was not sent
	Unknown   bool      // if it is not Sent as far as anybody knows, but may have been
}

// Purger deletes what has been kept long enough.
type Purger interface {
	Purge(ctx context.Context, p PurgeParams) (PurgeResult, error)
}

// PurgeParams are the ages of retention, as moments: what is older goes. A zero
// time keeps everything of its kind.
type PurgeParams struct {
	Now              time.Time
	PayloadsBefore   time.Time // by the finishing of the delivery
	AttemptsBefore   time.Time // by the start of the attempt
	DeliveriesBefore time.Time // by the finishing of the delivery
	HeldBefore       time.Time // by the creation of the delivery
	Limit            int       // rows of each kind in this batch
}

// PurgeResult counts what one batch did.
type PurgeResult struct {
	Payloads, Attempts, Deliveries, Events int
	HeldCancelled                          int
	More                                   bool
}

// Plus is what two batches did, and whether the later one, p, left anything.
func (r PurgeResult) Plus(p PurgeResult) PurgeResult {
	return PurgeResult{
		Payloads: r.Payloads + p.Payloads, Attempts: r.Attempts + p.Attempts, Deliveries: r.Deliveries + p.Deliveries,
		Events: r.Events + p.Events, HeldCancelled: r.HeldCancelled + p.HeldCancelled, More: p.More,
	}
}

// Overseer shows the work of all dispatchers and stops it. It knows no
// organizations: it is for the people who run the host, not for a [Manager]'s
// actors.
type Overseer interface {
	Overview(ctx context.Context, p OverviewParams) (Overview, error)
	SetPaused(ctx context.Context, p SetPausedParams) error
}

// OverviewParams bounds an overview.
type OverviewParams struct {
	Now time.Time
	Top int // webhooks in Backlog, at most

	// CountTo is what each number is counted to, so that a look at a queue of
	// millions takes no longer than at one of that many. A number that has reached it
	// means that many or more. The webhooks of Backlog may share it. 0 means no bound.
	CountTo int
}

// Overview is how much work there is in the store, of all organizations. It
// holds no payload and no secret, but names and ids of customers.
type Overview struct {
	Ready   int // deliveries that are due
	Waiting int // that are due later
	Leased  int // whose attempts are in flight, or whose leases ran out and are not settled yet
	Held    int // of webhooks that are inactive

	// OldestDue is when the first of the Ready ones fell due, as far as Backlog's
	// OldestDue tells; zero if there is none.
	OldestDue time.Time

	// Backlog is the active webhooks with the most deliveries due: first those that
	// were not counted to the end, then those with the most.
	Backlog []WebhookBacklog

	NoticesWaiting int
	NextNotice     time.Time // when the first of them is due, or its lease ends; zero if there is none

	LastPurge   time.Time // when retention last had deleted all that was old; zero means never
	LastPurged  PurgeResult
	Paused      bool
	PausedSince time.Time // zero if not paused
	PausedBy    string    // who paused, in the words of SetPaused
}

// WebhookBacklog is a webhook with deliveries that are due.
type WebhookBacklog struct {
	WebhookID      uuid.UUID
	OrganizationID string
	Name           string
	EndpointHost   string // of its URL, without port, path or credentials
	Due            int
	More           bool // there may be more than Due: it was not counted further

	// OldestDue is when the first of them fell due; with more than a thousand, of
	// the thousand that were created first.
	OldestDue time.Time
}

// SetPausedParams says that dispatchers shall pause, or go on.
type SetPausedParams struct {
	Paused bool
	By     string // who asks for it
	Now    time.Time
}

// WakeSource is what a store may offer besides [Store]: telling of new due work
// at once, so that dispatchers need not ask every second.
type WakeSource interface {
	// Listen calls wake once it listens, and then whenever deliveries may have
	// become due earlier than the last claim said. It returns nil when ctx
	// ends, and an error when it can no longer listen; the dispatcher asks
	// often meanwhile, and calls Listen again. wake does not block.
	//
	// A store that cannot do it, for its driver or its database, returns
	// errors.ErrUnsupported at once, and is not called again.
	Listen(ctx context.Context, wake func()) error
}

// TooManyWebhooks is the error of stores for a webhook beyond the bound.
func TooManyWebhooks(bound int) error {
	return ValidationErrors{{"webhooks", fmt.Sprintf("must be at most %d in an organization", bound)}}
}
