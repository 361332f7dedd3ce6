package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/storetest"
)

// The faults of a toy. Each breaks one promise and keeps the others.
const (
	noFault        = "no fault"
	takenIDs       = "a taken id is accepted"
	noBound        = "an organization has no bound"
	foreignReads   = "a foreign webhook is readable"
	lostUpdates    = "an update ignores the version"
	afterDeletion  = "deletion does not stop claims"
	ignoredKeys    = "an idempotency key is ignored"
	deafInserts    = "an insert ignores its context"
	reversedLists  = "the list of deliveries begins with the oldest"
	earlyClaims    = "a claim that finds nothing takes what is due later"
	doubleClaims   = "a claim that finds nothing takes what is leased"
	staleTokens    = "a stale token is accepted"
	missingRelease = "Release is not written yet"
	leakyNotices   = "a notice tells the secret"
	leakyErrors    = "an error tells the secret"
	purgedPending  = "a purge takes pending deliveries"
	deafPauses     = "a pause is only said"

	sixMethods = "only six methods are written" // of a beginner
)

// toy is a store as its author may get it wrong: memstore's, but for one fault.
type toy struct {
	*memstore.Store
	fault string

	mu       sync.Mutex
	webhooks map[uuid.UUID]webhook.CreateWebhookParams
	claims   map[uuid.UUID]webhook.Claim // the last one on each delivery that may be in flight
	deleted  []webhook.Claim             // on what a deleted webhook had pending
}

func newToy(fault string) *toy {
	return &toy{
		Store: memstore.New(), fault: fault,
		webhooks: map[uuid.UUID]webhook.CreateWebhookParams{}, claims: map[uuid.UUID]webhook.Claim{},
	}
}

func (s *toy) CreateWebhook(ctx context.Context, p webhook.CreateWebhookParams) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == noBound {
		p.MaxPerOrganization = 0
	}
	err := s.Store.CreateWebhook(ctx, p)
	switch {
	case err == nil:
		s.webhooks[p.Webhook.ID] = p
	case s.fault == takenIDs && errors.Is(err, webhook.ErrConflict): // as by ON CONFLICT DO NOTHING
		err = nil
	case s.fault == leakyErrors:
		err = fmt.Errorf("storing %s: %w", p.Secret.Reveal(), err)
	}
	return err
}

func (s *toy) Webhook(ctx context.Context, scope webhook.Scope, id uuid.UUID) (webhook.Webhook, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == foreignReads {
		scope.OrganizationID = s.webhooks[id].Webhook.OrganizationID
	}
	return s.Store.Webhook(ctx, scope, id)
}

func (s *toy) UpdateWebhook(ctx context.Context, p webhook.UpdateWebhookParams) (webhook.Webhook, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if current, err := s.Store.Webhook(ctx, p.Scope, p.ID); err == nil && s.fault == lostUpdates {
		p.Change.Version = current.Version
	}
	return s.Store.UpdateWebhook(ctx, p)
}

func (s *toy) DeleteWebhook(ctx context.Context, p webhook.DeleteWebhookParams) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := s.pending(ctx, p.Scope, p.ID)
	err := s.Store.DeleteWebhook(ctx, p)
	if s.fault == afterDeletion && err == nil {
		for _, d := range pending {
			s.deleted = append(s.deleted, webhook.Claim{DeliveryID: d.ID, WebhookID: p.ID, Attempt: d.Attempts + 1, Token: uuid.New()})
		}
	}
	return err
}

// pending returns a webhook's pending deliveries that are not in flight.
func (s *toy) pending(ctx context.Context, scope webhook.Scope, id uuid.UUID) []webhook.Delivery {
	page, err := s.Store.Deliveries(ctx, scope, webhook.DeliveryQuery{
		WebhookID: id, State: webhook.DeliveryPending, Limit: webhook.MaxPageSize,
	})
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(page.Items, func(d webhook.Delivery) bool { return !d.LeasedUntil.IsZero() })
}

func (s *toy) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Events = slices.Clone(p.Events)
	for i := range p.Events {
		if s.fault == ignoredKeys {
			p.Events[i].IdempotencyKey = ""
		}
	}
	if s.fault == deafInserts {
		ctx = context.WithoutCancel(ctx)
	}
	return s.Store.InsertEvents(ctx, p)
}

func (s *toy) Deliveries(ctx context.Context, scope webhook.Scope, q webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error) {
	page, err := s.Store.Deliveries(ctx, scope, q)
	if s.fault == reversedLists {
		slices.Reverse(page.Items)
	}
	return page, err
}

func (s *toy) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got, err := s.Store.Claim(ctx, p)
	if s.fault == deafPauses && got.Paused {
		if err := s.SetPaused(ctx, webhook.SetPausedParams{Now: p.Now}); err != nil {
			return got, err
		}
		got, err = s.Store.Claim(ctx, p)
		got.Paused = true
		if err := s.SetPaused(ctx, webhook.SetPausedParams{Paused: true, Now: p.Now}); err != nil {
			return got, err
		}
	}
	idle := err == nil && len(got.Claims) == 0 && p.Limit > 0
	if idle && s.fault == earlyClaims && got.NextDue.After(p.Now) {
		wait := got.NextDue.Sub(p.Now)
		p.Now, p.LeaseFor = p.Now.Add(wait), p.LeaseFor-wait
		got, err = s.Store.Claim(ctx, p)
	}
	for _, c := range got.Claims {
		s.claims[c.DeliveryID] = c
	}
	for _, c := range s.claims {
		if idle && s.fault == doubleClaims && c.LeasedUntil.After(p.Now) && len(got.Claims) < p.Limit {
			got.Claims = append(got.Claims, c)
		}
	}
	if p.Limit > 0 && err == nil {
		got.Claims, s.deleted = append(got.Claims, s.deleted...), nil
	}
	return got, err
}

func (s *toy) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Outcomes = slices.Clone(p.Outcomes)
	for i, o := range p.Outcomes {
		if c, claimed := s.claims[o.Attempt.DeliveryID]; claimed && s.fault == staleTokens {
			p.Outcomes[i].Token = c.Token
		}
	}
	got, err := s.Store.Finish(ctx, p)
	for i, refused := range got.Errs {
		if refused == nil {
			delete(s.claims, p.Outcomes[i].Attempt.DeliveryID)
		}
	}
	return got, err
}

func (s *toy) Release(ctx context.Context, p webhook.ReleaseParams) (webhook.ReleaseResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == missingRelease {
		return webhook.ReleaseResult{}, errors.New("not written yet")
	}
	got, err := s.Store.Release(ctx, p)
	for i, refused := range got.Errs {
		if refused == nil {
			delete(s.claims, p.Claims[i].DeliveryID)
		}
	}
	return got, err
}

func (s *toy) ClaimNotices(ctx context.Context, p webhook.ClaimNoticesParams) (webhook.ClaimNoticesResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got, err := s.Store.ClaimNotices(ctx, p)
	for i := range got.Claims {
		if n := &got.Claims[i].Notice; s.fault == leakyNotices {
			n.WebhookName += s.webhooks[n.WebhookID].Secret.Reveal()
		}
	}
	return got, err
}

func (s *toy) Purge(ctx context.Context, p webhook.PurgeParams) (webhook.PurgeResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.webhooks {
		scope := webhook.Scope{OrganizationID: w.Webhook.OrganizationID}
		for _, d := range s.pending(ctx, scope, id) {
			if s.fault == purgedPending && d.CreatedAt.Before(p.DeliveriesBefore) {
				if err := s.CancelDelivery(ctx, webhook.CancelParams{Scope: scope, DeliveryID: d.ID, Now: d.CreatedAt}); err != nil {
					return webhook.PurgeResult{}, err
				}
			}
		}
	}
	return s.Store.Purge(ctx, p)
}

// beginner is a store of which only what the package's documentation asks for
// first is written. What is missing panics.
type beginner struct {
	written
	rest
}

type written interface {
	CreateWebhook(ctx context.Context, p webhook.CreateWebhookParams) error
	InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error)
	Deliveries(ctx context.Context, s webhook.Scope, q webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error)
	Delivery(ctx context.Context, s webhook.Scope, id uuid.UUID) (webhook.Delivery, error)
	Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error)
	Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error)
}

type rest struct{ webhook.Store } // nil

// faultVar is the environment variable that says what the store of TestToyStore
// does wrong. Without it, that is nothing.
const faultVar = "STORETEST_TOY_FAULT"

// TestToyStore is what the author of the toy would write.
func TestToyStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) webhook.Store {
		fault := os.Getenv(faultVar)
		if fault == sixMethods {
			return beginner{written: memstore.New()}
		}
		return newToy(fault)
	})
}

// A store that breaks a promise fails the clause with the promise, and no clause
// that has nothing to do with it: the numbers are for finding the fault. The
// suite fails the test that it is given, so each toy has a process of its own.
func TestAFaultFailsTheClausesItBreaks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fault string
		want  []string // the subtests that fail
		may   []string // and those of concurrent calls, which fail if the calls meet
		says  string   // something that the output must say
	}{
		{fault: noFault},
		{fault: takenIDs, want: []string{"S5/AWebhookIDIsTakenOnce", "S5/ConcurrentCallsKeepBoth"}},
		{fault: noBound, want: []string{"S5/AnOrganizationHasABound", "S5/ConcurrentCallsKeepBoth"}},
		{fault: foreignReads, want: []string{"S4/OutsideTheScopeIsNotFound"}},
		{fault: lostUpdates, want: []string{"S6/AStaleVersionIsAConflict"}},
		{
			fault: afterDeletion,
			want:  []string{"S14/DeletingCancelsAtOnce", "S14/SweepMovesInBatches"},
			may:   []string{"S14/PublishedAtTheSameTime"},
		},
		{fault: ignoredKeys, want: []string{
			"S17/DeliveriesAndTheirEvents", "S17/EventsWithoutDeliveries", "S17/ZeroTimesKeepEverything", // what becomes of keys
			"S7/AFailingEventLeavesItsNeighboursAlone", "S7/AStoredEventIsReadBack", // the key with it
			"S7/TakeIsAskedAboutActiveWebhooks", // duplicates among others
			"S7/UnmatchedEventsAreStoredWithAKeyOnly",
			"S8/AFurtherEventIsADuplicate", "S8/ConcurrentInsertsStoreOne", "S8/TwoInOneCallAreOne",
		}},
		{fault: deafInserts, want: []string{"S3/ACancelledCallWritesNothing"}},
		{fault: reversedLists, want: []string{
			"S15/NewestFirst", "S15/RecordsThatComeAndGo",
			"S7/ManyEventsInOneCall", // later in the call is later in the list
		}},
		{fault: earlyClaims, want: []string{
			"S13/NothingIsClaimedBeforeItIsDue",
			"S2/NoClockIsRead", // the same as going by another clock
			"S9/NextDueIsWhenSomethingHappens",
		}},
		{
			fault: doubleClaims,
			want: []string{
				"S13/NothingIsClaimedWhileItsLeaseLives",
				"S25/NothingIsLeasedWhilePaused", // nor anything that is leased already
				"S9/ConcurrentClaimsAreDisjoint", "S9/Limit", "S9/NextDueIsWhenSomethingHappens",
			},
			may:  []string{"S18/EverythingAtOnce", "S25/NoClaimAfterPausing"},
			says: "a delivery must not be claimed again while its lease lives",
		},
		{fault: staleTokens, want: []string{
			"S10/ALateReportCompletesTheLog", "S10/AStaleOutcomeChangesNothing", "S10/StaleOutcomesAmongGoodOnes",
		}},
		{
			fault: missingRelease,
			want: []string{
				"S12/AStaleTokenReleasesNothing", "S12/TheAttemptIsGivenBack",
				"S14/AnAttemptSettledOrReleasedAfterwards", "S21/OneInFlight",
				"S25/EverythingElseGoesOn", "S3/ACancelledCallWritesNothing",
			},
			says: "the store's Release: not written yet",
		},
		{fault: leakyNotices, want: []string{"S19/OneOpenNoticeCountsThemAll", "S20/NoReadReturnsIt"}},
		{fault: leakyErrors, want: []string{"S18/ErrorsCarryNoSecretAndNoPayload"}},
		{fault: purgedPending, want: []string{"S17/DeliveriesAndTheirEvents", "S17/PendingOnesStay"}},
		{
			fault: deafPauses,
			want:  []string{"S25/NothingIsLeasedWhilePaused"},
			may:   []string{"S25/NoClaimAfterPausing"},
		},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			failed, out := runToy(t, tc.fault)
			t.Logf("failed: %v", failed)
			failed = slices.DeleteFunc(failed, func(name string) bool { return slices.Contains(tc.may, name) })
			require.Equal(t, tc.want, failed, "%s", out)
			require.Contains(t, out, tc.says)
		})
	}
}

// The first six methods that the package's documentation names are worth
// something by themselves, and the missing ones end no other subtest.
func TestSixMethodsAreABeginning(t *testing.T) {
	t.Parallel()
	failed, out := runToy(t, sixMethods)
	failed = slices.DeleteFunc(failed, func(name string) bool {
		return !strings.HasPrefix(name, "S7/") && !strings.HasPrefix(name, "S8/") && !strings.HasPrefix(name, "S9/")
	})
	require.Equal(t, []string{
		"S7/AStoredEventIsReadBack", "S7/LeaseTakesWhatTakeAccepts",
		"S9/AClaimIsAllThatAnAttemptNeeds", "S9/NextDueLeavesOutWhatMayNotBeClaimed",
	}, failed, "%s", out)
}

var (
	subtestFailed = regexp.MustCompile(`(?m)^ *--- FAIL: TestToyStore/(S\d+/\w+) `)
	clauseEnded   = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL): TestToyStore/S\d+ `)
	noNews        = regexp.MustCompile(`(?m)^ *(===|--- PASS).*\n`)
)

// runToy runs TestToyStore in a process of its own, and returns which of its
// subtests failed, in order, and what it printed about them.
func runToy(t *testing.T, fault string) (failed []string, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0],
		"-test.run=^TestToyStore$", "-test.v", "-test.short", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), faultVar+"="+fault)
	printed, err := cmd.CombinedOutput()
	out = noNews.ReplaceAllString(string(printed), "")
	for _, m := range subtestFailed.FindAllStringSubmatch(out, -1) {
		failed = append(failed, m[1])
	}
	slices.Sort(failed)
	if len(failed) == 0 {
		require.NoError(t, err, "%s", out)
	} else {
		require.Error(t, err, "%s", out)
	}
	require.Len(t, clauseEnded.FindAll(printed, -1), 24, "every clause comes to its end:\n%s", out)
	return failed, out
}
