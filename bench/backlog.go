package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/posthorn/webhook"
)

// backlogCase is a queue, and what work in it took.
type backlogCase struct {
	about    string
	future   int // deliveries that are due tomorrow
	finished int

	db      *database
	targets []target
	work    []time.Duration // claims with their reports, sorted at the end
	idle    []time.Duration // looks that found nothing, likewise
}

// backlog is the scenario: what a claim and the report of its outcomes take, in
// queues with much in them that is not due, and in logs with much that is done.
func (b *bench) backlog(ctx context.Context) (r *report, err error) {
	var cases []*backlogCase
	defer func() {
		for _, c := range cases {
			if c.db != nil {
				err = errors.Join(err, c.db.close())
			}
		}
	}()
	for _, future := range b.sizes.backlogs {
		cases = append(cases, &backlogCase{about: fmt.Sprintf("%d for tomorrow", future), future: future})
	}
	cases = append(cases, &backlogCase{about: fmt.Sprintf("%d finished", b.sizes.backlogFinished), finished: b.sizes.backlogFinished})
	for _, c := range cases {
		if err := b.prepare(ctx, c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.about, err)
		}
	}
	for range b.sizes.backlogTurns { // in turn, so that what disturbs the machine disturbs all of them
		for _, c := range cases {
			if err := c.turn(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", c.about, err)
			}
		}
	}
	r = &report{columns: []string{"in the queue", "claim + finish p50 ms", "p99 ms", "of empty", "idle poll p50 ms", "p99 ms"}}
	r.note("%s; claims of %d of %d webhooks with the report of their outcomes, %d times; an idle poll is a settlement and a claim that find nothing",
		b.title(), claimLimit, b.sizes.webhooks, b.sizes.backlogTurns)
	r.note("store: %s", cases[0].db.about)
	worst, poll := 0.0, 0.0
	for _, c := range cases {
		slices.Sort(c.work)
		slices.Sort(c.idle)
		ms := func(d []time.Duration, p float64) float64 { return millis(percentile(d, p)) }
		of := ms(c.work, 0.5) / ms(cases[0].work, 0.5)
		worst, poll = max(worst, of), max(poll, ms(c.idle, 0.5))
		r.row(c.about, number(ms(c.work, 0.5)), number(ms(c.work, 0.99)), number(of), number(ms(c.idle, 0.5)), number(ms(c.idle, 0.99)))
	}
	r.ratio("backlog_of_empty", worst)
	r.ratio("backlog_idle_poll_ms", poll)
	return r, nil
}

// prepare makes the queue of a case.
func (b *bench) prepare(ctx context.Context, c *backlogCase) (err error) {
	if c.targets, err = b.targets(b.sizes.webhooks, promptPath); err != nil {
		return err
	}
	if c.db, err = b.openDatabase(ctx); err != nil {
		return err
	}
	if err := register(ctx, c.db.store, c.targets); err != nil {
		return err
	}
	if err := b.seed(ctx, c.db, c.targets, seed{n: c.future, shared: true, wait: tomorrow}); err != nil {
		return err
	}
	if c.finished > 0 {
		if err := fillLog(ctx, c.db, c.targets, time.Now().UTC().Truncate(time.Microsecond), c.finished); err != nil {
			return err
		}
	}
	if c.db.vacuum == nil {
		return nil
	}
	return c.db.vacuum(ctx) // as a server that is not a test's does by itself
}

// turn claims and finishes what has just been published, and then finds nothing.
func (c *backlogCase) turn(ctx context.Context) error {
	n := min(claimLimit, len(c.targets)*perWebhook)
	if err := fill(ctx, c.db.store, c.targets, n); err != nil {
		return err
	}
	began := time.Now()
	got, err := takeSome(ctx, c.db.store)
	if err != nil {
		return err
	}
	finish := webhook.FinishParams{Now: began.UTC()}
	for i := range got.Claims {
		finish.Outcomes = append(finish.Outcomes, succeeded(&got.Claims[i], began.UTC()))
	}
	done, err := c.db.store.Finish(ctx, finish)
	c.work = append(c.work, time.Since(began))
	if err := errors.Join(append(done.Errs, err)...); err != nil {
		return err
	}
	if len(got.Claims) != n {
		return fmt.Errorf("%w: of %d deliveries, a claim got %d", errMissing, n, len(got.Claims))
	}
	began = time.Now()
	_, err = c.db.store.Settle(ctx, webhook.SettleParams{Now: began.UTC(), Schedule: webhook.DefaultSchedule(), Limit: claimLimit})
	if err != nil {
		return err
	}
	if got, err = takeSome(ctx, c.db.store); err == nil && len(got.Claims) > 0 {
		err = fmt.Errorf("a claim found %d deliveries that should not be there", len(got.Claims))
	}
	c.idle = append(c.idle, time.Since(began))
	return err
}

// succeeded is the outcome of an attempt that nobody made.
func succeeded(c *webhook.Claim, at time.Time) webhook.FinishedAttempt {
	return webhook.FinishedAttempt{Token: c.Token, State: webhook.DeliverySucceeded, Attempt: webhook.Attempt{
		DeliveryID: c.DeliveryID, EventID: c.EventID, WebhookID: c.WebhookID, OrganizationID: c.OrganizationID, EventType: c.EventType,
		Number: c.Attempt, StartedAt: at, Duration: time.Millisecond, EndpointURL: c.EndpointURL,
		Outcome: webhook.OutcomeSucceeded, StatusCode: 200,
	}}
}
