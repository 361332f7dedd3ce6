package webhook_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestUnopenedSecretsSendNothing(t *testing.T) {
	t.Parallel()
	r, clock := steppedRig(t, webhook.DispatcherConfig{})
	sealed := &sealedStore{Store: r.store}
	sealed.sealed.Store(true)
	r.wire(t, sealed, clock, webhook.DispatcherConfig{})
	r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
	r.publish(t, "acme", rigRoom, 1)
	n, err := r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, r.times("healthy.example", time.Now()))
	d := r.deliveries(t, rigAdmin)[0]
	require.Zero(t, d.Attempts)
	require.Equal(t, clock.Now().Add(time.Minute), d.DueAt)
	sealed.sealed.Store(false)
	clock.Advance(time.Minute)
	n, err = r.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// A webhook whose secret does not open is left alone for a minute, with all that it
// has and gets: it costs the others nothing, and one line a minute.
func TestUnopenedSecretsAreNoBusyLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &lineLog{}
		r := newRig(t, nil, webhook.DispatcherConfig{})
		sealed := &sealedStore{Store: r.store, only: "sealed.example"}
		sealed.sealed.Store(true)
		r.wire(t, sealed, nil, webhook.DispatcherConfig{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))})
		r.register(t, rigAdmin, "sealed.example", roomOf(1), healthy)
		r.register(t, rigAdmin, "healthy.example", rigRoom, healthy)
		r.publish(t, "acme", roomOf(1), 300)
		start := time.Now()
		stop := r.run(t)
		for range 20 { // in 9.5 minutes
			pass(28500 * time.Millisecond)
			r.publish(t, "acme", roomOf(1), 5)
			published := time.Now()
			r.publish(t, "acme", rigRoom, 1)
			pass(time.Second / 2)
			require.Less(t, r.times("healthy.example", published)[0], 20*time.Millisecond)
			r.mu.Lock()
			r.requests = nil
			r.mu.Unlock()
		}
		require.EqualValues(t, 10, sealed.withheld.Load(), "one a minute")
		require.Equal(t, 10, log.count("a secret did not open"))
		require.Less(t, sealed.claims.Load(), int64(700), "about one a second, as when nothing is due")
		sealed.sealed.Store(false)
		pass(time.Minute)
		require.Len(t, r.times("sealed.example", start), 400)
		stop()
	})
}

// lineLog counts the lines of a log.
type lineLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lineLog) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), message)
}

// sealedStore is a store that has lost the key to its secrets, or to those of the
// webhooks with one endpoint.
type sealedStore struct {
	webhook.Store
	sealed           atomic.Bool
	only             string       // the endpoint's host
	claims, withheld atomic.Int64 // calls of Claim, and claims without their secret
}

func (s *sealedStore) withhold(claims []webhook.Claim) {
	for i := range claims {
		if s.sealed.Load() && strings.Contains(claims[i].EndpointURL, s.only) {
			claims[i].Secret = webhook.Secret{}
			s.withheld.Add(1)
		}
	}
}

func (s *sealedStore) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	s.claims.Add(1)
	r, err := s.Store.Claim(ctx, p)
	s.withhold(r.Claims)
	return r, err
}

func (s *sealedStore) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	r, err := s.Store.InsertEvents(ctx, p)
	s.withhold(r.Claims)
	return r, err
}
