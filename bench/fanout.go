package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

// fanoutOrganization is the one whose webhooks are all subscribed to one subject.
const fanoutOrganization = "crowd"

// fanout is the scenario: events that go to ten thousand webhooks each, while others
// publish as well.
func (b *bench) fanout(ctx context.Context) (r *report, err error) {
	crowd, err := b.crowd()
	if err != nil {
		return nil, err
	}
	others, err := b.targets(b.sizes.healthy, promptPath)
	if err != nil {
		return nil, err
	}
	db, err := b.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := errors.Join(b.gather(ctx, db.store, crowd), register(ctx, db.store, others)); err != nil {
		return nil, err
	}
	publisher, err := webhook.NewPublisher(db.store, webhook.PublisherConfig{})
	if err != nil {
		return nil, err
	}
	alone, err := b.beside(ctx, publisher, others, func() error { return pause(ctx, b.sizes.quietFor) })
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	busy, err := b.beside(ctx, publisher, others, func() error {
		for range b.sizes.fanouts {
			began := time.Now()
			p, err := publisher.Publish(ctx, timedEvent(&crowd[0], began))
			took = append(took, time.Since(began))
			if err == nil && p.Deliveries != len(crowd) {
				err = fmt.Errorf("%w: an event made %d deliveries of %d", errMissing, p.Deliveries, len(crowd))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := checkQueued(ctx, db, len(took)*len(crowd)+len(alone)+len(busy)); err != nil {
		return nil, err
	}
	rate := func(d time.Duration) float64 { return float64(len(crowd)) / d.Seconds() }
	r = &report{columns: []string{"", "rows/s", "events", "publish p50 ms", "p99 ms", "longest ms"}}
	r.note("%s; an event to %d webhooks of one organization; others publish %d events/s meanwhile; no dispatcher", b.title(), len(crowd), b.sizes.besideRate)
	r.note("store: %s", db.about)
	slices.Sort(took)
	row := func(name, rows, events string, calls []time.Duration) {
		r.row(name, rows, events, number(millis(percentile(calls, 0.5))), number(millis(percentile(calls, 0.99))), number(millis(percentile(calls, 1))))
	}
	row("fan-out", number(medianOf(took, rate)), each(took, rate), took)
	row("others, beside it", "–", fmt.Sprint(len(busy)), busy)
	row("others, alone", "–", fmt.Sprint(len(alone)), alone)
	r.ratio("fanout_rows_per_second", medianOf(took, rate))
	r.ratio("fanout_others_p99_ms", millis(percentile(busy, 0.99)))
	r.ratio("fanout_others_alone_p99_ms", millis(percentile(alone, 0.99)))
	return r, nil
}

// crowd is webhooks of one organization that are subscribed to one subject.
func (b *bench) crowd() ([]target, error) {
	crowd, err := b.targets(b.sizes.fanoutWebhooks, promptPath)
	if err != nil {
		return nil, err
	}
	for i := range crowd {
		crowd[i].webhook.OrganizationID = fanoutOrganization
		crowd[i].webhook.Subscriptions = crowd[0].webhook.Subscriptions
	}
	return crowd, nil
}

// gather stores the crowd; its last webhook by a Manager whose bound on the webhooks of
// an organization is raised, as a host would, and which counts the others.
func (b *bench) gather(ctx context.Context, store webhook.Store, crowd []target) error {
	first, last := crowd[:len(crowd)-1], &crowd[len(crowd)-1]
	began := time.Now()
	if _, err := callAll(ctx, 8, len(first), func(ctx context.Context, i int) error { return register(ctx, store, first[i:i+1]) }); err != nil {
		return err
	}
	m, err := webhook.NewManager(store, webhook.ManagerConfig{
		MaxWebhooks: len(crowd), AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		return err
	}
	w, secret, err := m.Create(ctx, webhook.Actor{ID: "bench", OrganizationID: fanoutOrganization, Role: webhook.RoleAdmin}, webhook.WebhookInput{
		Name: last.webhook.Name, EndpointURL: last.webhook.EndpointURL, Subscriptions: last.webhook.Subscriptions,
	})
	last.webhook, last.secret = w, secret
	b.log.Info("registered", "webhooks", len(crowd), "seconds", number(time.Since(began).Seconds()))
	return err
}

// beside does something while others publish at a steady rate, and returns how long
// their calls took, sorted.
func (b *bench) beside(ctx context.Context, publisher *webhook.Publisher, others []target, do func() error) ([]time.Duration, error) {
	var p publishing
	var publishers sync.WaitGroup
	publishers.Go(func() { p.run(ctx, publisher, others, time.Now(), float64(b.sizes.besideRate), time.Hour) })
	err := do()
	p.stopped.Store(true)
	publishers.Wait()
	slices.Sort(p.durations)
	return p.durations, errors.Join(err, p.err)
}
