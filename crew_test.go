package webhook_test

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// connected is an answer that first says, as a transport does, that there is a
// connection.
func connected(answer func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
			trace.GotConn(httptrace.GotConnInfo{})
		}
		return answer(r)
	}
}

func TestPromptAttemptsTakeTurns(t *testing.T) {
	t.Parallel()
	few := int64(32 * runtime.GOMAXPROCS(0))
	for name, c := range map[string]struct {
		takes time.Duration
		peak  int64
	}{
		"AnswersAreQuick":   {5 * time.Millisecond, few},
		"AnswersTakeAWhile": {500 * time.Millisecond, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil, webhook.DispatcherConfig{})
				var f inFlight
				for i := range 200 {
					actor := adminOf(fmt.Sprintf("of%d", i))
					r.register(t, actor, fmt.Sprintf("hook%d.example", i), rigRoom, connected(f.during(c.takes, healthy))) //nolint:bodyclose // the dispatcher closes it
				}
				stop := r.run(t)
				for i := range 200 {
					r.publish(t, fmt.Sprintf("of%d", i), rigRoom, 1)
				}
				pass(time.Second)
				require.Equal(t, min(200, c.peak), f.peak())
				for i := range 200 {
					require.Len(t, r.times(fmt.Sprintf("hook%d.example", i), time.Now()), 1)
				}
				stop()
			})
		})
	}
}

// Endpoints that do not even connect keep others waiting for a moment, once.
func TestAttemptsWithoutConnectionsDelayOthersForAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, webhook.DispatcherConfig{Slots: 256 * runtime.GOMAXPROCS(0)})
		n := 64 * runtime.GOMAXPROCS(0) // twice as many as run at once
		for i := range n {
			r.register(t, adminOf(fmt.Sprintf("of%d", i)), fmt.Sprintf("away%d.example", i), rigRoom, hang)
		}
		other := adminOf("other")
		r.register(t, other, "healthy.example", rigRoom, healthy)
		stop := r.run(t)
		for i := range n {
			r.publish(t, fmt.Sprintf("of%d", i), rigRoom, 1)
		}
		published := time.Now()
		r.publish(t, "other", rigRoom, 1)
		pass(300 * time.Millisecond)
		at := r.times("healthy.example", published)
		require.Len(t, at, 1)
		require.LessOrEqual(t, at[0], 210*time.Millisecond)

		published = time.Now()
		r.publish(t, "other", rigRoom, 1)
		synctest.Wait()
		require.Len(t, r.times("healthy.example", published), 2)
		stop()
	})
}
