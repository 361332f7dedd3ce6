package guides_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// Store is the beginning of one. What is missing panics, in its own subtests only.
type Store struct {
	webhook.Store // nil; goes away when every method is there

	mu       sync.Mutex
	webhooks map[uuid.UUID]webhook.Webhook
}

var _ webhook.Store = (*Store)(nil)

// CreateWebhook keeps S5: an id exists once.
func (s *Store) CreateWebhook(_ context.Context, p webhook.CreateWebhookParams) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.webhooks[p.Webhook.ID]; taken {
		return webhook.ErrConflict
	}
	s.webhooks[p.Webhook.ID] = p.Webhook
	return nil
}

func TestTheBeginningOfAStore(t *testing.T) {
	t.Parallel()
	s := &Store{webhooks: map[uuid.UUID]webhook.Webhook{}}
	p := webhook.CreateWebhookParams{Webhook: webhook.Webhook{ID: uuid.Must(uuid.NewV7())}}
	require.NoError(t, s.CreateWebhook(t.Context(), p))
	require.ErrorIs(t, s.CreateWebhook(t.Context(), p), webhook.ErrConflict)
}
