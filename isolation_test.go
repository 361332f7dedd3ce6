package webhook_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// inFlight counts the requests that an answer is serving, and the most at once.
type inFlight struct{ now, most atomic.Int64 }

func (f *inFlight) during(wait time.Duration, answer func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		n := f.now.Add(1)
		defer f.now.Add(-1)
		for most := f.most.Load(); n > most && !f.most.CompareAndSwap(most, n); most = f.most.Load() {
		}
		time.Sleep(wait)
		return answer(r)
	}
}

// The promise: a webhook that hangs costs the others nothing, from a cold start,
// with any backlog of its own.
func TestHangingWebhooksDelayNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
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
		time.Sleep(time.Second)
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
			time.Sleep(700 * time.Millisecond)
			at := r.times("healthy.example", published)
			require.Less(t, at[len(at)-1], 20*time.Millisecond)
		}
		stop()
	})
}

func TestSlowStartDoublesWithPromptAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		var f inFlight
		r.register(t, rigAdmin, "prompt.example", rigRoom, f.during(100*time.Millisecond, healthy))
		r.publish(t, "acme", rigRoom, 200)
		start := time.Now()
		stop := r.run(t)
		time.Sleep(50 * time.Millisecond)
		require.Len(t, r.times("prompt.example", start), 1, "one at first")
		time.Sleep(100 * time.Millisecond)
		require.Len(t, r.times("prompt.example", start), 3, "then two more")
		time.Sleep(10 * time.Second)
		require.Len(t, r.times("prompt.example", start), 200)
		require.EqualValues(t, 16, f.most.Load(), "and never more than 16")
		stop()
	})
}

func TestSlowAnswersKeepTheCapAtOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{})
		var f inFlight
		r.register(t, rigAdmin, "slow.example", rigRoom, f.during(1100*time.Millisecond, healthy))
		r.publish(t, "acme", rigRoom, 20)
		start := time.Now()
		stop := r.run(t)
		time.Sleep(time.Minute)
		require.Len(t, r.times("slow.example", start), 20)
		require.EqualValues(t, 1, f.most.Load())
		stop()
	})
}

// A proven webhook that begins to hang loses its cap.
func TestProvenWebhookFallsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
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
		time.Sleep(time.Second)
		hangs.Store(true)
		r.publish(t, "acme", rigRoom, 200)
		time.Sleep(2 * time.Second)
		require.LessOrEqual(t, f.now.Load(), int64(16))
		time.Sleep(20 * time.Second) // the first have timed out
		require.EqualValues(t, 1, f.now.Load())
		stop()
	})
}

// Unproven webhooks share half of the slots: proven ones always find some.
func TestUnprovenWebhooksLeaveHalfOfTheSlots(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 8})
		r.register(t, rigAdmin, "proven.example", rigRoom, healthy)
		stop := r.run(t)
		r.publish(t, "acme", rigRoom, 20)
		time.Sleep(time.Second)
		var f inFlight
		for i := range 20 {
			a := adminOf(fmt.Sprintf("org%d", i))
			r.register(t, a, fmt.Sprintf("hanging%d.example", i), rigRoom, f.during(0, hang))
			r.publish(t, a.OrganizationID, rigRoom, 1)
		}
		time.Sleep(time.Second)
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
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 16})
		for i := range 16 {
			r.register(t, rigAdmin, fmt.Sprintf("big%d.example", i), roomOf(i), func(*http.Request) (*http.Response, error) {
				time.Sleep(5 * time.Second)
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
		time.Sleep(time.Minute)
		require.Equal(t, 16, r.states(t, rigAdmin)[webhook.DeliverySucceeded])
		stop()
	})
}

func TestSlotsBoundTheAttemptsInFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 4})
		var f inFlight
		for i := range 20 {
			r.register(t, rigAdmin, fmt.Sprintf("w%d.example", i), roomOf(i), f.during(200*time.Millisecond, healthy))
		}
		stop := r.run(t)
		for i := range 20 {
			r.publish(t, "acme", roomOf(i), 20)
		}
		time.Sleep(5 * time.Minute)
		require.Equal(t, 400, r.states(t, rigAdmin)[webhook.DeliverySucceeded])
		require.LessOrEqual(t, f.most.Load(), int64(4))
		stop()
	})
}
