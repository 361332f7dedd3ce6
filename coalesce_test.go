package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

// slowWriter takes a second for each call, and can refuse everything, or an event,
// which spoils the whole call.
type slowWriter struct {
	*memstore.Store
	poison uuid.UUID
	fault  error

	mu    sync.Mutex
	calls []int // events of each
	ended []error
}

var errPoison = errors.New("the database chokes on it")

func (s *slowWriter) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	s.mu.Lock()
	s.calls = append(s.calls, len(p.Events))
	s.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		s.mu.Lock()
		s.ended = append(s.ended, ctx.Err())
		s.mu.Unlock()
		return webhook.InsertResult{}, ctx.Err()
	}
	if s.fault != nil {
		return webhook.InsertResult{}, s.fault
	}
	for _, e := range p.Events {
		if e.ID == s.poison {
			return webhook.InsertResult{}, errPoison
		}
	}
	return s.Store.InsertEvents(ctx, p)
}

type publishAnswer struct {
	published webhook.Published
	err       error
}

// publishTogether publishes n events from goroutines of their own, in order.
func publishTogether(t *testing.T, p *webhook.Publisher, n int, edit func(i int, e *webhook.Event) context.Context) []publishAnswer {
	t.Helper()
	out := make([]publishAnswer, n)
	var wg sync.WaitGroup
	for i := range n {
		e := webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: rigRoom, IdempotencyKey: uuid.NewString()}
		ctx := t.Context()
		if edit != nil {
			if c := edit(i, &e); c != nil {
				ctx = c
			}
		}
		wg.Go(func() { out[i].published, out[i].err = p.Publish(ctx, e) })
		synctest.Wait()
	}
	wg.Wait()
	return out
}

func coalescing(t *testing.T) (*slowWriter, *webhook.Publisher) {
	t.Helper()
	s := &slowWriter{Store: memstore.New()}
	p, err := webhook.NewPublisher(s, webhook.PublisherConfig{})
	require.NoError(t, err)
	return s, p
}

func TestPublishSharesCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := coalescing(t)
		began := time.Now()
		for _, a := range publishTogether(t, p, 100, nil) {
			require.NoError(t, a.err)
			require.NotZero(t, a.published.EventID)
		}
		require.Equal(t, []int{1, 1, 98}, s.calls, "two are written as they come, the rest together")
		require.Equal(t, 2*time.Second, time.Since(began))
	})
}

func TestPublishResultsAreEachTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := coalescing(t)
		s.poison = uuid.New()
		got := publishTogether(t, p, 8, func(i int, e *webhook.Event) context.Context {
			switch i {
			case 3:
				e.ID = s.poison
			case 4, 5:
				e.IdempotencyKey = "same"
			}
			return nil
		})
		for i, a := range got {
			if i == 3 {
				require.ErrorIs(t, a.err, errPoison)
				continue
			}
			require.NoError(t, a.err, "event %d", i)
			require.Equal(t, i == 5, a.published.Duplicate, "event %d", i)
		}
		require.Equal(t, got[4].published.EventID, got[5].published.EventID)
	})
}

func TestPublishKeepsItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := coalescing(t)
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		gone, leave := context.WithCancel(t.Context())
		leave()
		got := publishTogether(t, p, 6, func(i int, _ *webhook.Event) context.Context {
			switch i {
			case 1, 2: // one is being written when its time is over, one waits
				return impatient
			case 3:
				return gone
			}
			return nil
		})
		for i, a := range got {
			switch i {
			case 1, 2:
				require.ErrorIs(t, a.err, context.DeadlineExceeded)
			case 3:
				require.ErrorIs(t, a.err, context.Canceled)
			default:
				require.NoError(t, a.err, "event %d", i)
			}
		}
		require.Equal(t, []int{1, 1, 2}, s.calls, "nothing is written for those who have gone")
		require.Equal(t, []error{context.Canceled}, s.ended, "a call that nobody waits for is broken off")
	})
}

func TestPublishFlushesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p := coalescing(t)
		big := make([]byte, 200<<10)
		publishTogether(t, p, 12, func(_ int, e *webhook.Event) context.Context {
			e.Data = big
			return nil
		})
		for _, n := range s.calls {
			require.LessOrEqual(t, n, 5)
		}
		s.calls = nil
		publishTogether(t, p, 602, nil)
		require.Equal(t, []int{1, 1, 256, 256, 88}, s.calls)
	})
}

// A store that fails is not asked once more for each event of a flush.
func TestPublishGivesUpTogether(t *testing.T) {
	t.Parallel()
	errAway := errors.New("the database is away")
	for name, tc := range map[string]struct {
		err   error
		calls []int
	}{
		"Away":    {errAway, []int{1, 1, 38, 1, 1}},
		"Unknown": {fmt.Errorf("%w: %w", webhook.ErrOutcomeUnknown, errAway), []int{1, 1, 38}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, p := coalescing(t)
				s.fault = tc.err
				for i, a := range publishTogether(t, p, 40, nil) {
					require.ErrorIs(t, a.err, tc.err, "event %d", i)
				}
				require.Equal(t, tc.calls, s.calls)
			})
		})
	}
}
