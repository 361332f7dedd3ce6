package webhook

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	minDeactivateAfter = 24 * time.Hour   // counters are hourly, and a schedule has long waits
	failingEvery       = 10 * time.Minute // between looks for failing webhooks
	failingLimit       = 200              // webhooks of one look
	failingPause       = 10 * time.Millisecond
)

// goneList has the webhooks whose endpoints have answered 410 Gone, until they are
// inactive. It is not kept anywhere: when the process dies, the next such answer
// comes to the same.
type goneList struct {
	mu    sync.Mutex
	of    map[uuid.UUID]DeactivateParams
	added chan struct{}
}

// maxGone bounds the list while the store is away.
const maxGone = 10_000

func (g *goneList) add(a *Attempt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.put(DeactivateParams{
		Scope: Scope{a.OrganizationID}, WebhookID: a.WebhookID, Reason: DeactivatedGone,
		EndpointURL: a.EndpointURL, StartedAt: a.StartedAt,
	})
	signal(g.added)
}

// put keeps the answer to the webhook's latest attempt, which is of the endpoint that
// it has, if any is. The lock is held.
func (g *goneList) put(p DeactivateParams) {
	known, ok := g.of[p.WebhookID]
	if ok && !known.StartedAt.After(p.StartedAt) || !ok && len(g.of) < maxGone {
		g.of[p.WebhookID] = p
	}
}

// take empties the list.
func (g *goneList) take() (list []DeactivateParams) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, p := range g.of {
		list = append(list, p)
		delete(g.of, id)
	}
	return list
}

// deactivationLoop is Run's: it applies the rules that the host has turned on.
// Recording does not wait for it, because deactivating waits for others' claims.
func (d *Dispatcher) deactivationLoop(ctx context.Context) {
	if d.cfg.DeactivateAfter == 0 && !d.cfg.DeactivateOnGone {
		return
	}
	retry := storeBackOff()
	// The first look by chance, as of retention.
	look := time.Now().Add(rand.N(failingEvery)) //nolint:gosec // nothing depends on nobody guessing it
	for ctx.Err() == nil {
		timer := time.NewTimer(time.Until(look))
		select {
		case <-ctx.Done():
		case <-d.gone.added:
		case <-timer.C:
			look = time.Now().Add(failingEvery)
			d.deactivateFailing(ctx)
		}
		timer.Stop()
		if err := d.deactivateGone(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("webhook: a webhook that is gone could not be made inactive; trying again", "error", err)
			sleep(ctx, retry.NextBackOff())
			signal(d.gone.added)
			continue
		}
		retry.Reset()
	}
}

// deactivateGone makes webhooks inactive whose endpoints have answered 410 Gone.
func (d *Dispatcher) deactivateGone(ctx context.Context) error {
	var errs []error
	for _, p := range d.gone.take() {
		if err := d.deactivate(ctx, p); err != nil {
			errs = append(errs, err)
			d.gone.mu.Lock()
			d.gone.put(p)
			d.gone.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// deactivateFailing goes once through all webhooks, and makes those inactive that
// have done nothing but fail for too long. Whatever fails, the next round does.
func (d *Dispatcher) deactivateFailing(ctx context.Context) {
	if d.cfg.DeactivateAfter == 0 {
		return
	}
	p := FailingParams{Rule: failingRule(storedTime(d.clock.Now()), d.cfg.DeactivateAfter), Limit: failingLimit}
	for {
		r, err := d.failingWebhooks(ctx, p)
		for _, w := range r.Webhooks {
			if err == nil {
				err = d.deactivate(ctx, DeactivateParams{
					Scope: Scope{w.OrganizationID}, WebhookID: w.ID, Reason: DeactivatedFailing, Rule: p.Rule,
				})
			}
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn("webhook: failing webhooks could not be made inactive; trying again later", "error", err)
		}
		if err != nil || !r.More || ctx.Err() != nil {
			return
		}
		p.After = r.Next
		sleep(ctx, failingPause)
	}
}

func (d *Dispatcher) failingWebhooks(ctx context.Context, p FailingParams) (FailingResult, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return d.store.FailingWebhooks(ctx, p)
}

// deactivate makes a webhook inactive if the rule applies still.
func (d *Dispatcher) deactivate(ctx context.Context, p DeactivateParams) error {
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	p.Now = storedTime(d.clock.Now())
	began := time.Now()
	r, err := d.store.Deactivate(call, p)
	d.tracer.Deactivated(ctx, DeactivateCall{
		WebhookID: p.WebhookID, OrganizationID: p.Scope.OrganizationID, Reason: p.Reason,
		Deactivated: r.Deactivated && err == nil, Duration: time.Since(began), Err: err,
	})
	if err != nil {
		return err
	}
	if r.Deactivated {
		d.log.Warn("webhook: a webhook was made inactive", "organization_id", p.Scope.OrganizationID, "webhook_id", p.WebhookID, "reason", string(p.Reason))
		signal(d.told)
	}
	return nil
}
