package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// claimLimit is how many deliveries a claim is asked for, and perWebhook how many
// of one webhook, as dispatchers do.
const (
	claimLimit = 100
	perWebhook = 16
)

// claimRun is what claims took in a queue that holds other things as well.
type claimRun struct {
	about string
	took  []time.Duration
	rows  int
	first int // claims until each webhook but the first had had its turn
}

func (r claimRun) p(q float64) float64 { return millis(percentile(r.took, q)) }

// claim is the scenario: what a claim takes, with nothing else in the queue, among
// deliveries that are due some day, and behind one webhook's backlog.
func (b *bench) claim(ctx context.Context) (*report, error) {
	r := &report{columns: []string{"in the queue", "claims", "rows", "p50 ms", "p99 ms", "until all had a turn"}}
	var runs []claimRun
	for _, c := range []struct {
		about   string
		future  int
		backlog int
	}{
		{"what is claimed", 0, 0},
		{fmt.Sprintf("and %d for tomorrow", b.sizes.future), b.sizes.future, 0},
		{fmt.Sprintf("behind %d of one webhook", b.sizes.backlog), 0, b.sizes.backlog},
	} {
		run, plan, err := b.runClaims(ctx, c.future, c.backlog)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.about, err)
		}
		run.about = c.about
		b.log.Info("claims", "queue", c.about, "p50_ms", number(run.p(0.5)))
		runs = append(runs, run)
		if plan != "" {
			r.note("plan, %s:\n%s", c.about, plan)
		}
	}
	r.note("%s; claims of %d, at most %d of a webhook, %d webhooks", b.title(), claimLimit, perWebhook, b.sizes.webhooks)
	for _, run := range runs {
		r.row(run.about, fmt.Sprint(len(run.took)), fmt.Sprint(run.rows), number(run.p(0.5)), number(run.p(0.99)), fmt.Sprintf("%d claims", run.first))
	}
	r.ratio("claim_p50_ms", runs[0].p(0.5))
	r.ratio("claim_future_of_empty", runs[1].p(0.5)/runs[0].p(0.5))
	r.ratio("claim_backlog_of_empty", runs[2].p(0.5)/runs[0].p(0.5))
	return r, nil
}

// runClaims claims what is there for the webhooks, in a queue that holds a number
// of deliveries for tomorrow, and before all others a number for the first webhook.
func (b *bench) runClaims(ctx context.Context, future, backlog int) (run claimRun, plan string, err error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return run, "", err
	}
	db, err := b.openDatabase(ctx)
	if err != nil {
		return run, "", err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := register(ctx, db.store, targets); err != nil {
		return run, "", err
	}
	if err := b.seed(ctx, db, targets, seed{n: future, shared: true, wait: tomorrow}); err != nil {
		return run, "", err
	}
	if db.vacuum != nil { // as a server that is not a test's does by itself
		if err := db.vacuum(ctx); err != nil {
			return run, "", err
		}
	}
	// What the server plans now, it may keep while the queue grows.
	if err := fill(ctx, db.store, targets[:1], 1); err != nil {
		return run, "", err
	}
	if _, err := takeSome(ctx, db.store); err != nil {
		return run, "", err
	}
	if err := b.seed(ctx, db, targets[:1], seed{n: backlog}); err != nil {
		return run, "", err
	}
	if err := fill(ctx, db.store, targets, b.sizes.claimed); err != nil {
		return run, "", err
	}
	served := map[uuid.UUID]bool{targets[0].webhook.ID: true}
	for run.rows < b.sizes.claimed-b.sizes.claimed/10 {
		began := time.Now()
		got, err := takeSome(ctx, db.store)
		if err != nil {
			return run, "", err
		}
		run.took = append(run.took, time.Since(began))
		if len(got.Claims) == 0 {
			return run, "", fmt.Errorf("%w: a claim found nothing after %d rows", errMissing, run.rows)
		}
		run.rows += len(got.Claims)
		if len(served) < len(targets) {
			run.first++
			for _, c := range got.Claims {
				served[c.WebhookID] = true
			}
		}
	}
	if db.explain != nil {
		plan, err = db.explain(ctx, func(s webhook.Store) error {
			_, err := takeSome(ctx, s)
			return err
		})
	}
	slices.Sort(run.took)
	return run, plan, err
}

// takeSome makes the claim that is measured.
func takeSome(ctx context.Context, store webhook.Store) (webhook.ClaimResult, error) {
	return store.Claim(ctx, webhook.ClaimParams{
		Now: time.Now().UTC(), LeaseFor: time.Hour, Limit: claimLimit, PerWebhook: perWebhook, UnlistedLimit: claimLimit,
	})
}
