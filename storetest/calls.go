package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// What holds for every call: S3, S4 and S18.

func s3() []test {
	return []test{
		{"ACancelledCallWritesNothing", aCancelledCallWritesNothing},
		{"ARefusedCallWritesNothing", aRefusedCallWritesNothing},
	}
}

func aCancelledCallWritesNothing(f *fixture) {
	// Every call finds something to do.
	w, exhausted, dormant, doomed, retired := f.webhook(), f.webhook(), f.webhook(inactive), f.webhook(), f.webhook()
	f.exhaust(f.claimOf(f.deliverOne(w)))
	failed := f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID})[0]
	f.exhaust(f.claimOf(f.deliverOne(exhausted)))
	f.pass(webhook.NoticeWindow)
	notices, err := f.store.ClaimNotices(f.ctx(), webhook.ClaimNoticesParams{Now: f.now, LeaseFor: time.Hour, Limit: 1})
	f.NoError(err)
	f.Len(notices.Claims, 1)
	f.deliverOne(dormant)
	f.deliverOne(doomed)
	f.Len(f.claimAll(), 1) // and its lease runs out
	f.pass(lease)
	f.deliver(w, 2)
	claims := f.claimAll()
	pending := f.deliver(w, 2)

	now, event, created := f.now, f.event(wantedBy(w)), f.newWebhook()
	update := f.updateOf(dormant)
	update.Change.Status, update.Change.Resume = webhook.StatusActive, true
	secret := f.secret()
	for _, call := range []struct {
		name   string
		unread bool // reads do not show what the call changes
		do     func(ctx context.Context) error
	}{
		{name: "CreateWebhook", do: func(ctx context.Context) error {
			return f.store.CreateWebhook(ctx, webhook.CreateWebhookParams{Webhook: created, Secret: secret})
		}},
		{name: "UpdateWebhook", do: func(ctx context.Context) error {
			_, err := f.store.UpdateWebhook(ctx, update)
			return err
		}},
		{name: "DeleteWebhook", do: func(ctx context.Context) error {
			return f.store.DeleteWebhook(ctx, webhook.DeleteWebhookParams{Scope: ours, ID: doomed.ID, Now: now})
		}},
		{name: "Deactivate", do: func(ctx context.Context) error {
			_, err := f.store.Deactivate(ctx, goneOf(retired, now))
			return err
		}},
		{name: "FailingWebhooks", unread: true, do: func(ctx context.Context) error {
			_, err := f.store.FailingWebhooks(ctx, webhook.FailingParams{Limit: 10})
			return err
		}},
		{name: "Settle", do: func(ctx context.Context) error {
			_, err := f.store.Settle(ctx, webhook.SettleParams{Now: now, Limit: 10})
			return err
		}},
		{name: "Sweep", unread: true, do: func(ctx context.Context) error {
			_, err := f.store.Sweep(ctx, webhook.SweepParams{Now: now, Limit: 10})
			return err
		}},
		{name: "InsertEvents", do: func(ctx context.Context) error {
			_, err := f.store.InsertEvents(ctx, webhook.InsertParams{Events: []webhook.EventRecord{event}, Now: now})
			return err
		}},
		{name: "Recover", do: func(ctx context.Context) error {
			_, err := f.store.Recover(ctx, webhook.RecoverParams{
				Scope: ours, WebhookID: w.ID, Since: noon, Limit: 10, Now: now,
			})
			return err
		}},
		{name: "Redeliver", do: func(ctx context.Context) error {
			_, err := f.store.Redeliver(ctx, webhook.RedeliverParams{Scope: ours, DeliveryID: failed.ID, Now: now})
			return err
		}},
		{name: "CancelDelivery", do: func(ctx context.Context) error {
			return f.store.CancelDelivery(ctx, webhook.CancelParams{Scope: ours, DeliveryID: pending[0].ID, Now: now})
		}},
		{name: "Claim", do: func(ctx context.Context) error {
			_, err := f.store.Claim(ctx, webhook.ClaimParams{Now: now, LeaseFor: lease, Limit: 1})
			return err
		}},
		{name: "Finish", do: func(ctx context.Context) error {
			_, err := f.store.Finish(ctx, webhook.FinishParams{Now: now, Outcomes: []webhook.FinishedAttempt{
				f.outcome(claims[0], webhook.DeliverySucceeded),
			}})
			return err
		}},
		{name: "Release", do: func(ctx context.Context) error {
			_, err := f.store.Release(ctx, webhook.ReleaseParams{Now: now, Claims: []webhook.ReleasedClaim{
				{DeliveryID: claims[1].DeliveryID, Token: claims[1].Token, NotBefore: now.Add(wait)},
			}})
			return err
		}},
		{name: "FinishNotice", unread: true, do: func(ctx context.Context) error {
			n := notices.Claims[0]
			return f.store.FinishNotice(ctx, webhook.FinishNoticeParams{
				Now: now, WebhookID: n.Notice.WebhookID, Token: n.Token, Sent: true,
			})
		}},
		{name: "ClaimNotices", unread: true, do: func(ctx context.Context) error {
			got, err := f.store.ClaimNotices(ctx, webhook.ClaimNoticesParams{Now: now, LeaseFor: lease, Limit: 10})
			if err == nil && len(got.Claims) != 2 {
				err = fmt.Errorf("claimed %d notices, want the two that are left", len(got.Claims))
			}
			return err
		}},
		{name: "Purge", do: func(ctx context.Context) error {
			_, err := f.store.Purge(ctx, webhook.PurgeParams{Now: now, PayloadsBefore: now, Limit: 10})
			return err
		}},
	} {
		before := f.contents(ours)
		cancelled, cancel := context.WithCancel(f.ctx())
		cancel()
		f.ErrorIs(call.do(cancelled), context.Canceled, call.name)
		f.Equal(before, f.contents(ours), call.name)

		// The same call does change something once it is let.
		f.NoError(call.do(f.ctx()), call.name)
		if !call.unread {
			f.NotEqual(before, f.contents(ours), call.name)
		}
	}
}

func aRefusedCallWritesNothing(f *fixture) {
	w, dormant := f.webhook(), f.webhook(inactive)
	stored := f.event(wantedBy(w))
	f.publish(stored)
	f.succeed(f.claimOne())
	done := f.deliveryOf(w, stored.ID)
	pending, held := f.deliverOne(w), f.deliverOne(dormant)
	f.pass(time.Second)

	again := w.Clone()
	again.Name, again.Subscriptions = "Another", []webhook.Subscription{messages}
	redeliver := func(d webhook.Delivery) func() error {
		return func() error {
			_, err := f.redeliver(d)
			return err
		}
	}
	update := func(w webhook.Webhook, edit func(*webhook.WebhookChange)) func() error {
		p := f.updateOf(w)
		edit(&p.Change)
		p.Change.Version = 7
		return func() error {
			_, err := f.store.UpdateWebhook(f.ctx(), p)
			return err
		}
	}
	for _, call := range []struct {
		name string
		do   func() error
	}{
		// Changes that would have cancelled and resumed deliveries.
		{"UpdateWebhook, cancelling", update(w, subscribe(transcripts))},
		{"UpdateWebhook, resuming", update(dormant, resume)},
		{"CreateWebhook", func() error { return f.create(again, 0) }},
		{"InsertEvents", func() error {
			return f.insert(webhook.InsertParams{Events: []webhook.EventRecord{stored}}).Events[0].Err
		}},
		{"CancelDelivery", func() error { return f.cancel(done) }},
		{"Redeliver, a pending one", redeliver(pending)},
		{"Redeliver, a held one", redeliver(held)},
		{"Recover", func() error {
			_, err := f.store.Recover(f.ctx(), webhook.RecoverParams{
				Scope: ours, WebhookID: dormant.ID, Since: noon, Limit: 10, Now: f.now,
			})
			return err
		}},
	} {
		// That each of them is refused is for the clause of its own to say.
		before := f.contents(ours)
		if call.do() != nil {
			f.beforeAndAfterSweep(func() { f.Equal(before, f.contents(ours), call.name) })
		}
	}
}

func s4() []test {
	return []test{
		{"OutsideTheScopeIsNotFound", outsideTheScopeIsNotFound},
		{"ListsStayInsideTheScope", listsStayInsideTheScope},
	}
}

func outsideTheScopeIsNotFound(f *fixture) {
	w := f.webhook()
	f.webhook(in(umbrella))
	f.fail(f.claimOf(f.deliverOne(w)))
	f.pass(time.Second)
	done := f.deliverOne(w)
	f.exhaust(f.claimOf(done))
	pending := f.deliverOne(w)

	refuse := func(s webhook.Scope, webhookID, doneID, pendingID, eventID uuid.UUID) {
		update := f.updateOf(w)
		update.Scope, update.ID = s, webhookID
		for name, call := range map[string]func() error{
			"UpdateWebhook": func() error {
				_, err := f.store.UpdateWebhook(f.ctx(), update)
				return err
			},
			"DeleteWebhook": func() error {
				return f.store.DeleteWebhook(f.ctx(), webhook.DeleteWebhookParams{Scope: s, ID: webhookID, Now: f.now})
			},
			"Webhook": func() error {
				_, err := f.store.Webhook(f.ctx(), s, webhookID)
				return err
			},
			"Leased": func() error {
				_, err := f.store.Leased(f.ctx(), s, webhookID, f.now)
				return err
			},
			"Event": func() error {
				_, err := f.store.Event(f.ctx(), s, eventID)
				return err
			},
			"Delivery": func() error {
				_, err := f.store.Delivery(f.ctx(), s, doneID)
				return err
			},
			"Deliveries of a webhook": func() error {
				_, err := f.store.Deliveries(f.ctx(), s, webhook.DeliveryQuery{WebhookID: webhookID})
				return err
			},
			"Attempts of a webhook": func() error {
				_, err := f.store.Attempts(f.ctx(), s, webhook.AttemptQuery{WebhookID: webhookID})
				return err
			},
			"Attempts of a delivery": func() error {
				_, err := f.store.Attempts(f.ctx(), s, webhook.AttemptQuery{DeliveryID: doneID})
				return err
			},
			"Counters": func() error {
				_, err := f.store.Counters(f.ctx(), s, webhook.CounterQuery{WebhookID: webhookID})
				return err
			},
			"Redeliver": func() error {
				_, err := f.store.Redeliver(f.ctx(), webhook.RedeliverParams{Scope: s, DeliveryID: doneID, Now: f.now})
				return err
			},
			"CancelDelivery": func() error {
				return f.store.CancelDelivery(f.ctx(), webhook.CancelParams{Scope: s, DeliveryID: pendingID, Now: f.now})
			},
			"Recover": func() error {
				_, err := f.store.Recover(f.ctx(), webhook.RecoverParams{
					Scope: s, WebhookID: webhookID, Since: noon, Limit: 10, Now: f.now,
				})
				return err
			},
		} {
			f.ErrorIs(call(), webhook.ErrNotFound, "%s in %+v", name, s)
		}
	}

	before := f.contents(ours)
	refuse(webhook.Scope{}, w.ID, done.ID, pending.ID, done.EventID)
	refuse(theirs, w.ID, done.ID, pending.ID, done.EventID)
	refuse(webhook.Scope{OrganizationID: "nobody"}, w.ID, done.ID, pending.ID, done.EventID)
	refuse(ours, f.ids.New(f.now), f.ids.New(f.now), f.ids.New(f.now), f.ids.New(f.now))
	f.Equal(before, f.contents(ours))
}

func listsStayInsideTheScope(f *fixture) {
	w, theirOwn := f.webhook(), f.webhook(in(umbrella))
	d, theirDelivery := f.deliverOne(w), f.deliverOne(theirOwn)
	f.fail(f.claimAll()...)

	for _, s := range []webhook.Scope{{}, {OrganizationID: "nobody"}} {
		f.Empty(f.webhooks(s, webhook.WebhookQuery{}))
		f.Empty(f.deliveries(s, webhook.DeliveryQuery{}))
		f.Empty(f.attempts(s, webhook.AttemptQuery{}))
	}
	for s, want := range map[webhook.Scope]struct {
		w webhook.Webhook
		d webhook.Delivery
	}{ours: {w, d}, theirs: {theirOwn, theirDelivery}} {
		f.Equal([]webhook.Webhook{want.w}, f.webhooks(s, webhook.WebhookQuery{}))
		deliveries, attempts := f.deliveries(s, webhook.DeliveryQuery{}), f.attempts(s, webhook.AttemptQuery{})
		f.Len(deliveries, 1)
		f.Equal(want.d.ID, deliveries[0].ID)
		f.Len(attempts, 1)
		f.Equal(want.d.ID, attempts[0].DeliveryID)
	}

	// A store need not take a webhook of no organization. If it does, nobody
	// sees it.
	nobodys := f.newWebhook(in(""))
	if err := f.create(nobodys, 0); err == nil {
		f.publish(f.event(wantedBy(nobodys)))
		f.Empty(f.webhooks(webhook.Scope{}, webhook.WebhookQuery{}))
		f.Empty(f.deliveries(webhook.Scope{}, webhook.DeliveryQuery{}))
		_, err = f.store.Webhook(f.ctx(), webhook.Scope{}, nobodys.ID)
		f.ErrorIs(err, webhook.ErrNotFound)
	}

	// An event is no record of a list: a foreign one selects nothing.
	f.Empty(f.deliveries(theirs, webhook.DeliveryQuery{EventID: d.EventID}))
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{EventID: d.EventID}), 1)
}

func s18() []test {
	return []test{
		{"EverythingAtOnce", everythingAtOnce},
		{"ErrorsCarryNoSecretAndNoPayload", errorsCarryNoSecretAndNoPayload},
	}
}

// everythingAtOnce publishes, claims, finishes, edits, reads and cleans up from
// many goroutines. Afterwards every event has reached each webhook once.
func everythingAtOnce(f *fixture) {
	const publishers, events = 3, 12
	webhooks := []webhook.Webhook{f.webhook(subscribed(messages)), f.webhook(subscribed(messages)), f.webhook(subscribed(messages))}
	now := f.now
	batches := make([][]webhook.EventRecord, publishers)
	for i := range batches {
		batches[i] = f.events(events)
	}

	ctx := f.ctx()
	work := func() error {
		claimed, err := f.store.Claim(ctx, webhook.ClaimParams{Now: now, LeaseFor: lease, Limit: 5, PerWebhook: 2})
		if err != nil {
			return fmt.Errorf("claim: %w", err)
		}
		outcomes := make([]webhook.FinishedAttempt, len(claimed.Claims))
		for i, c := range claimed.Claims {
			outcomes[i] = f.outcome(c, webhook.DeliverySucceeded)
		}
		finished, err := f.store.Finish(ctx, webhook.FinishParams{Now: now, Outcomes: outcomes})
		if err != nil {
			return fmt.Errorf("finish: %w", err)
		}
		return errors.Join(finished.Errs...)
	}
	publish := func(i int) error {
		for _, e := range batches[i] {
			got, err := f.store.InsertEvents(ctx, webhook.InsertParams{Events: []webhook.EventRecord{e}, Now: now})
			if err != nil {
				return fmt.Errorf("insert: %w", err)
			}
			if got.Events[0].Err != nil || got.Events[0].Deliveries != len(webhooks) {
				return fmt.Errorf("insert: %+v", got.Events[0])
			}
		}
		return nil
	}
	toggle := func(w webhook.Webhook) error {
		current, err := f.store.Webhook(ctx, ours, w.ID)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		p := f.updateOf(current)
		p.Change.Status, p.Change.Resume = webhook.StatusInactive, false
		if current.Status == webhook.StatusInactive {
			p.Change.Status, p.Change.Resume = webhook.StatusActive, true
		}
		if _, err = f.store.UpdateWebhook(ctx, p); err != nil && !errors.Is(err, webhook.ErrConflict) {
			return fmt.Errorf("update: %w", err)
		}
		return nil
	}
	look := func() error {
		_, err1 := f.store.Deliveries(ctx, ours, webhook.DeliveryQuery{State: webhook.DeliveryPending})
		_, err2 := f.store.Attempts(ctx, ours, webhook.AttemptQuery{WebhookID: webhooks[0].ID})
		_, err3 := f.store.Counters(ctx, ours, webhook.CounterQuery{WebhookID: webhooks[1].ID})
		_, err4 := f.store.Leased(ctx, ours, webhooks[2].ID, now)
		_, err5 := f.store.Webhooks(ctx, ours, webhook.WebhookQuery{})
		return errors.Join(err1, err2, err3, err4, err5)
	}
	tidy := func() error {
		_, err1 := f.store.Sweep(ctx, webhook.SweepParams{Now: now, Limit: 10})
		_, err2 := f.store.Settle(ctx, webhook.SettleParams{Now: now, Limit: 10})
		_, err3 := f.store.Purge(ctx, webhook.PurgeParams{Now: now, DeliveriesBefore: now.Add(-time.Hour), Limit: 10})
		_, err4 := f.store.ClaimNotices(ctx, webhook.ClaimNoticesParams{Now: now, LeaseFor: lease, Limit: 10})
		return errors.Join(err1, err2, err3, err4)
	}
	f.NoError(errors.Join(together(12, func(i int) error {
		if i < publishers {
			return publish(i)
		}
		var errs []error
		for range events {
			switch i % 4 {
			case 0, 1:
				errs = append(errs, work())
			case 2:
				errs = append(errs, toggle(webhooks[i%len(webhooks)]), look())
			default:
				errs = append(errs, tidy(), look())
			}
		}
		return errors.Join(errs...)
	})...))

	for _, w := range webhooks {
		f.change(w, deactivate)
		f.change(w, resume)
	}
	f.sweep()
	f.succeed(f.claimAll()...)
	for _, w := range webhooks {
		const all = publishers * events
		f.inStates(w, map[webhook.DeliveryState]int{webhook.DeliverySucceeded: all})
		f.Len(f.attempts(ours, webhook.AttemptQuery{WebhookID: w.ID}), all)
		f.Equal(all, f.counters(w)[0].Succeeded)
		f.Zero(f.leased(w))
	}
}

func errorsCarryNoSecretAndNoPayload(f *fixture) {
	const marker = "payload-that-nobody-may-see"
	marked := func(e *webhook.EventRecord) { e.Payload = []byte(marker) }
	w := f.webhook()
	stored := f.event(wantedBy(w), marked)
	f.publish(stored)
	claim := f.claimOne()
	secret := f.secret()
	over, again := f.newWebhook(), w.Clone()
	again.Description = marker

	var errs []error
	for _, p := range []webhook.CreateWebhookParams{{Webhook: again, Secret: secret}, {Webhook: over, Secret: secret, MaxPerOrganization: 1}} {
		errs = append(errs, f.store.CreateWebhook(f.ctx(), p))
	}
	errs = append(errs, f.insert(webhook.InsertParams{Events: []webhook.EventRecord{stored}}).Events[0].Err)
	out := f.outcome(claim, webhook.DeliverySucceeded)
	out.Attempt.Response = []byte(marker)
	out.Token = f.ids.New(f.now)
	errs = append(errs, f.report(out)...)

	cancelled, cancel := context.WithCancel(f.ctx())
	cancel()
	errs = append(errs, f.store.CreateWebhook(cancelled, webhook.CreateWebhookParams{Webhook: over, Secret: secret}))
	_, err := f.store.InsertEvents(cancelled, webhook.InsertParams{Events: f.events(1, wantedBy(w), marked), Now: f.now})
	errs = append(errs, err)
	_, err = f.store.Finish(cancelled, webhook.FinishParams{Now: f.now, Outcomes: []webhook.FinishedAttempt{out}})
	errs = append(errs, err)
	_, err = f.store.Claim(cancelled, webhook.ClaimParams{Now: f.now, LeaseFor: lease, Limit: 1})
	errs = append(errs, err)

	for _, err := range errs { // that each call fails is for other clauses to say
		text := fmt.Sprintf("%v %+v", err, err)
		f.NotContains(text, secret.Reveal())
		f.NotContains(text, f.secrets[w.ID].Reveal())
		f.NotContains(text, marker)
	}
}
