package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// notifier keeps notices and does what it is told to.
type notifier struct {
	mu     sync.Mutex
	got    []webhook.Notice
	at     []time.Time
	answer func(ctx context.Context, n int) error
}

func (n *notifier) Notify(ctx context.Context, x webhook.Notice) error {
	n.mu.Lock()
	n.got, n.at = append(n.got, x), append(n.at, time.Now())
	calls := len(n.got)
	n.mu.Unlock()
	if n.answer == nil {
		return nil
	}
	return n.answer(ctx, calls)
}

func (n *notifier) notices() []webhook.Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]webhook.Notice(nil), n.got...)
}

func once(t *testing.T) webhook.Schedule {
	t.Helper()
	s, err := webhook.NewSchedule()
	require.NoError(t, err)
	return s
}

func TestManyExhaustedDeliveriesAreOneNotice(t *testing.T) {
	t.Parallel()
	var n notifier
	r, clock := steppedRig(t, webhook.DispatcherConfig{Notifier: &n, Schedule: once(t)})
	start := clock.Now()
	w := r.register(t, rigAdmin, "failing.example", rigRoom, failing)
	r.publish(t, "acme", rigRoom, 100)
	webhooktest.Drain(t, r.dispatcher, clock)
	got := n.notices()
	require.Len(t, got, 1)
	require.NotZero(t, got[0].ID)
	got[0].ID = webhook.Notice{}.ID
	require.Equal(t, webhook.Notice{
		Kind: webhook.NoticeExhausted, OrganizationID: "acme", WebhookID: w.ID, WebhookName: "failing.example",
		EndpointHost: "failing.example", Deliveries: 100, EventTypes: map[webhook.EventType]int{webhook.EventMessageSent: 100},
		FirstAt: start, LastAt: start, LastStatusCode: 500, LastErrorClass: webhook.ErrorStatus, LastError: "answered 500 Internal Server Error",
	}, got[0])
	require.Equal(t, start.Add(webhook.NoticeWindow), clock.Now())

	r.publish(t, "acme", rigRoom, 1)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Len(t, n.notices(), 2)
	require.Equal(t, start.Add(webhook.NoticeWindow+webhook.NoticeInterval), clock.Now(), "at most one a day")
}

func TestNoticesArriveUnderRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n notifier
		r := newRig(t, nil, webhook.DispatcherConfig{Notifier: &n})
		r.register(t, rigAdmin, "failing.example", rigRoom, failing)
		stop := r.run(t)
		start := time.Now()
		r.publish(t, "acme", rigRoom, 1)
		pass(16 * time.Hour)
		stop()
		require.Len(t, n.notices(), 1)
		require.Equal(t, 14*time.Hour+46*time.Minute, n.at[0].Sub(start).Truncate(time.Minute))
	})
}

// A notifier that fails, panics or hangs is tried again, under the same id, and
// keeps no delivery waiting.
func TestBrokenNotifiersAreTriedAgainAndDelayNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(context.Context) error{
		"Fails":  func(context.Context) error { return errors.New("mailbox full") },
		"Panics": func(context.Context) error { panic("no template") },
		"Hangs": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"IgnoresItsContext": func(context.Context) error {
			pass(5 * time.Minute)
			return errors.New("too late")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n notifier
				n.answer = func(ctx context.Context, calls int) error {
					if calls <= 2 {
						return answer(ctx)
					}
					return nil
				}
				r := newRig(t, nil, webhook.DispatcherConfig{Notifier: &n, Schedule: once(t)})
				r.register(t, rigAdmin, "failing.example", rigRoom, failing)
				healthyRoom := roomOf(1)
				r.register(t, rigAdmin, "healthy.example", healthyRoom, healthy)
				stop := r.run(t)
				r.publish(t, "acme", rigRoom, 1)
				pass(10*time.Minute + 10*time.Second) // within the first call
				require.Len(t, n.notices(), 1)
				published := time.Now()
				r.publish(t, "acme", healthyRoom, 1)
				synctest.Wait()
				require.Equal(t, []time.Duration{0}, r.times("healthy.example", published))
				pass(2 * time.Hour)
				stop()
				got := n.notices()
				require.Len(t, got, 3)
				require.Equal(t, got[0], got[1])
				require.Equal(t, got[0], got[2])
				require.GreaterOrEqual(t, n.at[1].Sub(n.at[0]), time.Minute)
				require.GreaterOrEqual(t, n.at[2].Sub(n.at[1]), 2*time.Minute, "it backs off")
			})
		})
	}
}

// Whoever cannot tell whether a notice went out sends it once more, and then no
// more; what was refused is tried until it is not.
func TestNoticesOfUnknownOutcomeAreTriedOnceMore(t *testing.T) {
	t.Parallel()
	unknown := fmt.Errorf("the connection broke off: %w", webhook.ErrOutcomeUnknown)
	refused := errors.New("mailbox full")
	for name, tc := range map[string]struct {
		answers []error
		calls   int
	}{
		"Unknown":              {[]error{unknown, unknown}, 2},
		"SentTheSecondTime":    {[]error{unknown, nil}, 2},
		"RefusedAtFirst":       {[]error{refused, refused, refused, unknown, unknown}, 5},
		"RefusedInBetween":     {[]error{unknown, refused, refused, unknown}, 4},
		"RefusedAndThenSent":   {[]error{refused, refused, refused, refused, nil}, 5},
		"UnknownAndThenRefuse": {[]error{unknown, refused, nil}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n notifier
			n.answer = func(_ context.Context, calls int) error { return tc.answers[min(calls, len(tc.answers))-1] }
			r, clock := steppedRig(t, webhook.DispatcherConfig{Notifier: &n, Schedule: once(t)})
			r.register(t, rigAdmin, "failing.example", rigRoom, failing)
			r.publish(t, "acme", rigRoom, 1)
			webhooktest.Drain(t, r.dispatcher, clock)
			got := n.notices()
			require.Len(t, got, tc.calls)
			for _, x := range got {
				require.Equal(t, got[0], x)
			}
			next, err := r.store.ClaimNotices(t.Context(), webhook.ClaimNoticesParams{Now: clock.Now().Add(48 * time.Hour), LeaseFor: time.Minute, Limit: 1})
			require.NoError(t, err)
			require.Empty(t, next.Claims)
		})
	}
}

func TestNoticesAreTriedOnceMoreAfterACrash(t *testing.T) {
	t.Parallel()
	for deaths, calls := range map[int]int{1: 1, 2: 0} {
		var n notifier
		r, clock := steppedRig(t, webhook.DispatcherConfig{Notifier: &n, Schedule: once(t)})
		r.register(t, rigAdmin, "failing.example", rigRoom, failing)
		r.publish(t, "acme", rigRoom, 1)
		_, err := r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		clock.Advance(webhook.NoticeWindow)
		for range deaths { // of a process that has claimed it
			got, err := r.store.ClaimNotices(t.Context(), webhook.ClaimNoticesParams{Now: clock.Now(), LeaseFor: time.Minute, Limit: 1})
			require.NoError(t, err)
			require.Len(t, got.Claims, 1)
			clock.Advance(time.Minute)
		}
		webhooktest.Drain(t, r.dispatcher, clock)
		require.Len(t, n.notices(), calls)
	}
}

func TestRunOnceIsNotHeldUpForeverByANotifier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n notifier
		n.answer = func(context.Context, int) error {
			pass(time.Hour)
			return nil
		}
		r := newRig(t, nil, webhook.DispatcherConfig{Notifier: &n, Schedule: once(t)})
		r.register(t, rigAdmin, "failing.example", rigRoom, failing)
		r.publish(t, "acme", rigRoom, 1)
		_, err := r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		pass(11 * time.Minute)
		r.publish(t, "acme", rigRoom, 1)
		start := time.Now()
		made, err := r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, made)
		require.LessOrEqual(t, time.Since(start), 31*time.Second)
		start = time.Now()
		_, err = r.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		require.Zero(t, time.Since(start), "the notifier is still busy")
		pass(2 * time.Hour)
	})
}

func TestTestEventsNotifyNobody(t *testing.T) {
	t.Parallel()
	var n notifier
	r, clock := steppedRig(t, webhook.DispatcherConfig{Notifier: &n})
	w := r.register(t, rigAdmin, "failing.example", rigRoom, func(*http.Request) (*http.Response, error) { return respond(http.StatusGone) })
	_, err := r.manager.SendTest(t.Context(), rigAdmin, w.ID, webhook.EventMessageSent)
	require.NoError(t, err)
	webhooktest.Drain(t, r.dispatcher, clock)
	require.Len(t, r.attempts(t, rigAdmin), 1, "one attempt")
	require.Empty(t, n.notices())
}
