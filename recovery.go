package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Recovery is what [Manager.Recover] did, or would do.
type Recovery struct {
	Redelivered int // failed deliveries that got a new one
	Released    int // held deliveries that are pending now
	Purged      int // failed deliveries whose payload is gone
}

// recoverBatch is how many deliveries one step of a recovery takes on.
const recoverBatch = 500

// Recover sends again what a webhook has missed since a time: deliveries that
// failed then or later get a new one, unless the event has been or is being sent to the
// webhook again already, and held ones that were created then or later are released:
// to release all of them is WebhookChange.Resume. Test events stay out. It works in
// batches; if it returns an error, the Recovery says what had been done, and calling it
// again, also after a crash, does only the rest. ErrConflict if the webhook is inactive.
//
// Events keep their order within the webhook's queue: what is released goes back to its
// place there, and what is sent again lines up at the end, the oldest first.
func (m *Manager) Recover(ctx context.Context, a Actor, webhookID uuid.UUID, since time.Time) (Recovery, error) {
	return m.recover(ctx, a, RecoverParams{WebhookID: webhookID, Since: since})
}

// RecoverPreview returns what Recover would do now, and changes nothing. It
// goes through the same deliveries, and returns the same errors.
func (m *Manager) RecoverPreview(ctx context.Context, a Actor, webhookID uuid.UUID, since time.Time) (Recovery, error) {
	return m.recover(ctx, a, RecoverParams{WebhookID: webhookID, Since: since, Preview: true})
}

// RecoverBatch does one batch of what Recover does, for callers that say how far
// it has got: the first with an empty cursor, each further one with the one
// before's next, which is empty after the last. A cursor of another webhook or
// time is ErrInvalidCursor; other errors as of Recover.
func (m *Manager) RecoverBatch(ctx context.Context, a Actor, webhookID uuid.UUID, since time.Time, cursor string) (done Recovery, next string, err error) {
	p, err := m.recovery(a, RecoverParams{WebhookID: webhookID, Since: since})
	if err == nil && cursor != "" {
		p.After, p.Until, err = readRecoverCursor(p, cursor)
	}
	if err != nil {
		return Recovery{}, "", err
	}
	r, err := m.store.Recover(ctx, p)
	if err != nil {
		return Recovery{}, "", fmt.Errorf("webhook: recover: %w", err)
	}
	m.wake()
	if r.More {
		p.After, p.Until = r.Next, r.Until
		next = recoverCursor(p)
	}
	return Recovery{Redelivered: r.Redelivered, Released: r.Released, Purged: r.Purged}, next, nil
}

// recovery authorizes a recovery and returns its first batch.
func (m *Manager) recovery(a Actor, p RecoverParams) (RecoverParams, error) {
	scope, err := mayChange(a)
	if err != nil {
		return RecoverParams{}, err
	}
	var faults ValidationErrors
	checkTime(&faults, "since", p.Since)
	if err := faults.err(); err != nil {
		return RecoverParams{}, err
	}
	p.Scope, p.Since, p.Limit, p.Now = scope, storedTime(p.Since), recoverBatch, m.now()
	return p, nil
}

func (m *Manager) recover(ctx context.Context, a Actor, p RecoverParams) (Recovery, error) {
	p, err := m.recovery(a, p)
	if err != nil {
		return Recovery{}, err
	}
	var done Recovery
	for {
		r, err := m.store.Recover(ctx, p)
		if err != nil {
			return done, fmt.Errorf("webhook: recover: %w", err)
		}
		done.Redelivered += r.Redelivered
		done.Released += r.Released
		done.Purged += r.Purged
		if !p.Preview {
			m.wake()
		}
		if !r.More {
			return done, nil
		}
		p.After, p.Until, p.Now = r.Next, r.Until, m.now()
	}
}
