package webhook_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// inFlight counts the requests that an answer is serving, and the most at once.
type inFlight struct {
	now  atomic.Int64
	mu   sync.Mutex
	most int64
}

// peak returns the most at once so far.
func (f *inFlight) peak() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

func (f *inFlight) during(wait time.Duration, answer func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		n := f.now.Add(1)
		defer f.now.Add(-1)
		f.mu.Lock()
		f.most = max(f.most, n)
		f.mu.Unlock()
		pass(wait)
		return answer(r)
	}
}

// The promise: a webhook that hangs costs the others nothing, from a cold start,
// with any backlog of its own.
func TestHangingWebhooksDelayNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		const hanging = 99 // and one healthy one, all of one organization
		for i := range hanging {
			r.register(t, rigAdmin, fmt.Sprintf("hanging%d.example", i), roomOf(i), hang)
			r.publish(t, "acme", roomOf(i), 50)
		}
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		r.publish(t, "acme", rigRoom, 500)
		start := time.Now()
		stop := r.run(t)
		pass(time.Second)
		at := r.times("healthy.example", start)
		require.Len(t, at, 500)
		require.Less(t, at[499], 500*time.Millisecond)
		for i := range hanging {
			require.Len(t, r.times(fmt.Sprintf("hanging%d.example", i), start), 1, "slow start")
		}

		// And what is published later comes at once.
		for range 20 {
			published := time.Now()
			r.publish(t, "acme", rigRoom, 1)
			pass(700 * time.Millisecond)
			at := r.times("healthy.example", published)
			require.Less(t, at[len(at)-1], 20*time.Millisecond)
		}
		stop()
	})
}

func TestSlowStartDoublesWithPromptAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		var f inFlight
		r.register(t, rigAdmin, "prompt.example", rigRoom, f.during(100*time.Millisecond, healthy))
		r.publish(t, "acme", rigRoom, 200)
		start := time.Now()
		stop := r.run(t)
		pass(50 * time.Millisecond)
		require.Len(t, r.times("prompt.example", start), 1, "one at first")
		pass(100 * time.Millisecond)
		require.Len(t, r.times("prompt.example", start), 3, "then two more")
		pass(10 * time.Second)
		require.Len(t, r.times("prompt.example", start), 200)
		require.EqualValues(t, 16, f.peak(), "and never more than 16")
		stop()
	})
}

func TestSlowAnswersKeepTheCapAtOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		var f inFlight
		r.register(t, rigAdmin, "slow.example", rigRoom, f.during(1100*time.Millisecond, healthy))
		r.publish(t, "acme", rigRoom, 20)
		start := time.Now()
		stop := r.run(t)
		pass(time.Minute)
		require.Len(t, r.times("slow.example", start), 20)
		require.EqualValues(t, 1, f.peak())
		stop()
	})
}

// A proven webhook that begins to hang loses its cap.
func TestProvenWebhookFallsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		var hangs atomic.Bool
		var f inFlight
		r.register(t, rigAdmin, "turning.example", rigRoom, f.during(0, func(req *http.Request) (*http.Response, error) {
			if hangs.Load() {
				return hang(req)
			}
			return respond(200)
		}))
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 200)
		pass(time.Second)
		hangs.Store(true)
		r.publish(t, "acme", rigRoom, 200)
		pass(2 * time.Second)
		require.LessOrEqual(t, f.now.Load(), int64(16))
		pass(20 * time.Second) // the first have timed out
		require.EqualValues(t, 1, f.now.Load())
		stop()
	})
}

// Unproven webhooks share half of the slots: proven ones always find some.
func TestUnprovenWebhooksLeaveHalfOfTheSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 8})
		r.register(t, rigAdmin, "proven.example", rigRoom, healthy)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 20)
		pass(time.Second)
		var f inFlight
		for i := range 20 {
			a := adminOf(fmt.Sprintf("org%d", i))
			r.register(t, a, fmt.Sprintf("hanging%d.example", i), rigRoom, f.during(0, hang))
			r.publish(t, a.OrganizationID, rigRoom, 1)
		}
		pass(time.Second)
		require.EqualValues(t, 4, f.now.Load())
		published := time.Now()
		r.publish(t, "acme", rigRoom, 1)
		synctest.Wait()
		at := r.times("proven.example", published)
		require.Zero(t, at[len(at)-1])
		stop()
	})
}

// An organization has no more than a quarter of the slots while others wait,
// and all of them while nobody does.
func TestOrganizationsShareTheSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 16})
		for i := range 16 {
			r.register(t, rigAdmin, fmt.Sprintf("big%d.example", i), roomOf(i), func(*http.Request) (*http.Response, error) {
				pass(5 * time.Second)
				return respond(200)
			})
			r.publish(t, "acme", roomOf(i), 1)
		}
		small := make([]webhook.Actor, 4)
		for i := range small {
			small[i] = adminOf(fmt.Sprintf("small%d", i))
			r.register(t, small[i], fmt.Sprintf("small%d.example", i), rigRoom, healthy)
			r.publish(t, small[i].OrganizationID, rigRoom, 1)
		}
		start := time.Now()
		stop := r.run(t)
		for i := range small {
			require.Equal(t, []time.Duration{0}, r.times(fmt.Sprintf("small%d.example", i), start), "not behind the other organization's backlog")
		}
		began := 0
		for i := range 16 {
			began += len(r.times(fmt.Sprintf("big%d.example", i), start))
		}
		require.GreaterOrEqual(t, began, 4, "a quarter at least")
		pass(time.Minute)
		require.Equal(t, 16, r.states(t, rigAdmin)[webhook.DeliverySucceeded])
		stop()
	})
}

func TestSlotsBoundTheAttemptsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 4})
		var f inFlight
		for i := range 20 {
			r.register(t, rigAdmin, fmt.Sprintf("w%d.example", i), roomOf(i), f.during(200*time.Millisecond, healthy))
		}
		stop := r.run(t)
		for i := range 20 {
			r.publish(t, "acme", roomOf(i), 20)
		}
		pass(5 * time.Minute)
		require.Equal(t, 400, r.states(t, rigAdmin)[webhook.DeliverySucceeded])
		require.LessOrEqual(t, f.peak(), int64(4))
		stop()
	})
}

// Proven webhooks that begin to hang at one moment, with work in plenty, leave
// slots to the others, even within one claim.
func TestProvenWebhooksThatHangTogetherLeaveSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		var hangs atomic.Bool
		turning := func(i int) string { return fmt.Sprintf("turning%d", i) } // each of an organization of its own
		for i := range 16 {
			r.register(t, adminOf(turning(i)), turning(i)+".example", rigRoom, func(req *http.Request) (*http.Response, error) {
				if hangs.Load() {
					return hang(req)
				}
				return respond(200)
			})
		}
		other := adminOf("other")
		r.register(t, other, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		for i := range 16 {
			r.publish(t, turning(i), rigRoom, 40)
		}
		r.publish(t, "other", rigRoom, 40)
		pass(time.Second)
		hangs.Store(true)
		tx := r.store.Begin() // so that one claim finds all of it
		for i := range 16 {
			for range 40 {
				_, err := r.publisher.PublishTx(t.Context(), tx, webhook.Event{
					OrganizationID: turning(i), Type: webhook.EventMessageSent, Subject: rigRoom,
				})
				require.NoError(t, err)
			}
		}
		require.NoError(t, tx.Commit())
		for range 10 {
			pass(time.Second)
			published := time.Now()
			r.publish(t, "other", rigRoom, 1)
			synctest.Wait()
			at := r.times("healthy.example", published)
			require.Zero(t, at[len(at)-1])
		}
		stop()
	})
}

// Webhooks that are known to hang have a quarter of the slots between them:
// others need not be known to find one, however many hang.
func TestKnownHangingWebhooksLeaveRoomForUnknownOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		const organizations, each = 4, 80
		for o := range organizations {
			a := adminOf(fmt.Sprintf("org%d", o))
			for i := range each {
				r.register(t, a, fmt.Sprintf("hanging%d-%d.example", o, i), roomOf(i), hang)
				r.publish(t, a.OrganizationID, roomOf(i), 20)
			}
		}
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		pass(2 * time.Minute) // all of them have been found out
		for range 5 {
			pass(30 * time.Second) // long enough for the healthy one to be forgotten
			published := time.Now()
			r.publish(t, "acme", rigRoom, 1)
			pass(time.Second)
			at := r.times("healthy.example", published)
			require.Less(t, at[len(at)-1], 10*time.Millisecond)
		}
		stop()
	})
}

// A webhook that was slow gets its cap back as soon as it answers promptly.
func TestMendedWebhooksRecover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		var mended atomic.Bool
		const webhooks, each = 90, 30 // more than slow ones may have slots
		for i := range webhooks {
			r.register(t, rigAdmin, fmt.Sprintf("w%d.example", i), roomOf(i), func(req *http.Request) (*http.Response, error) {
				if !mended.Load() {
					return hang(req)
				}
				return respond(200)
			})
			r.publish(t, "acme", roomOf(i), each)
		}
		stop := r.run(t)
		pass(40 * time.Second)
		mended.Store(true)
		pass(20 * time.Second) // the last of those that hang, and then
		succeeded := r.states(t, rigAdmin)[webhook.DeliverySucceeded]
		require.Greater(t, succeeded, webhooks*(each-4), "all but those that wait for their retry")
		stop()
	})
}
