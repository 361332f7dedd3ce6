package guides_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

func TestOptionsForEndpointsThatFail(t *testing.T) {
	t.Parallel()
	store := memstore.New()
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{
		DeactivateAfter:  5 * 24 * time.Hour, // of nothing but failures
		DeactivateOnGone: true,
		HonorRetryAfter:  true, // adminui.Config has it, too, to say so
	})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp})
	require.NoError(t, err)
	in := archive("https://archive.example.com/in")
	in.RateLimit = 5
	w, _, err := mgr.Create(t.Context(), admin, in)
	require.NoError(t, err)

	w, err = mgr.Update(t.Context(), admin, w.ID, webhook.WebhookChange{
		Version: w.Version, Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL,
		Subscriptions: w.Subscriptions, RateLimit: w.RateLimit,
		Status: webhook.StatusActive, Resume: true, // sends what was held
	})
	require.NoError(t, err)
	require.Equal(t, 5, w.RateLimit)
}

// behind is an alarm: it says what a person has to look at.
func behind(ctx context.Context, disp *webhook.Dispatcher) (string, error) {
	stats, err := disp.Stats(ctx)
	if err != nil {
		return "", err // what is the dispatcher's own is in stats all the same
	}
	queue := stats.Overview // of the store: of all processes and organizations
	switch {
	case queue.Paused:
		return fmt.Sprintf("%s has paused all dispatchers at %s", queue.PausedBy, queue.PausedSince), nil
	case queue.Ready > 0 && stats.At.Sub(queue.OldestDue) > 10*time.Minute:
		return fmt.Sprintf("%d deliveries are due, most of them of %v", queue.Ready, queue.Backlog), nil
	case len(stats.Blocked) > 0:
		return fmt.Sprintf("secrets do not open: %v", stats.Blocked), nil
	}
	return "", nil
}

func TestStatsAndPause(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	disp, err := webhook.NewDispatcher(memstore.New(), webhook.DispatcherConfig{})
	require.NoError(t, err)
	what, err := behind(ctx, disp)
	require.NoError(t, err)
	require.Empty(t, what)

	require.NoError(t, disp.Pause(ctx, "ada"))
	what, err = behind(ctx, disp)
	require.NoError(t, err)
	require.Contains(t, what, "ada has paused all dispatchers")

	require.NoError(t, disp.Resume(ctx, "ada"))
	what, err = behind(ctx, disp)
	require.NoError(t, err)
	require.Empty(t, what)
}
