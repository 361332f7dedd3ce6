package integration_test

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
)

// recoverPlan is what a child of TestRecoverEachOnce recovers.
type recoverPlan struct {
	WebhookID uuid.UUID
}

// recoverUntilKilled is a child of TestRecoverEachOnce. It ticks for each batch.
func recoverUntilKilled(ctx context.Context, c *childProcess, tick func()) error {
	m, err := webhook.NewManager(tickingRecovery{c.store, tick}, webhook.ManagerConfig{})
	if err != nil {
		return err
	}
	_, err = m.Recover(ctx, adminOf(acme), c.Recover.WebhookID, time.Time{})
	return err
}

// tickingRecovery is a store that ticks for each batch of a recovery.
type tickingRecovery struct {
	*sqlstore.Store
	tick func()
}

func (s tickingRecovery) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	r, err := s.Store.Recover(ctx, p)
	if err == nil {
		s.tick()
	}
	return r, err
}
