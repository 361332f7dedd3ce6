package storetest

import (
	"slices"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// What a test looks at.

func (f *fixture) delivery(id uuid.UUID) webhook.Delivery {
	f.t.Helper()
	d, err := f.store.Delivery(f.ctx(), ours, id)
	f.NoError(err)
	return d
}

func (f *fixture) state(d webhook.Delivery) webhook.DeliveryState {
	f.t.Helper()
	return f.delivery(d.ID).State
}

// deliveryOf returns the only delivery of the event to the webhook.
func (f *fixture) deliveryOf(w webhook.Webhook, eventID uuid.UUID) webhook.Delivery {
	f.t.Helper()
	page, err := f.store.Deliveries(f.ctx(), scopeOf(w), webhook.DeliveryQuery{WebhookID: w.ID, EventID: eventID})
	f.NoError(err)
	f.Len(page.Items, 1, "Deliveries, of one event to one webhook")
	d, err := f.store.Delivery(f.ctx(), scopeOf(w), page.Items[0].ID)
	f.NoError(err)
	return d
}

func (f *fixture) webhooks(s webhook.Scope, q webhook.WebhookQuery) []webhook.Webhook {
	f.t.Helper()
	return pages(f, func(cursor string) (webhook.Page[webhook.Webhook], error) {
		q.Cursor = cursor
		return f.store.Webhooks(f.ctx(), s, q)
	})
}

func (f *fixture) deliveries(s webhook.Scope, q webhook.DeliveryQuery) []webhook.Delivery {
	f.t.Helper()
	return pages(f, func(cursor string) (webhook.Page[webhook.Delivery], error) {
		q.Cursor = cursor
		return f.store.Deliveries(f.ctx(), s, q)
	})
}

// attempts returns them with nil for responses without bytes, which a store may
// also return as an empty slice.
func (f *fixture) attempts(s webhook.Scope, q webhook.AttemptQuery) []webhook.Attempt {
	f.t.Helper()
	as := pages(f, func(cursor string) (webhook.Page[webhook.Attempt], error) {
		q.Cursor = cursor
		return f.store.Attempts(f.ctx(), s, q)
	})
	for i := range as {
		if len(as[i].Response) == 0 {
			as[i].Response = nil
		}
	}
	return as
}

// log returns the attempts of one delivery, the first one first.
func (f *fixture) log(d webhook.Delivery) []webhook.Attempt {
	f.t.Helper()
	as := f.attempts(scopeOfDelivery(d), webhook.AttemptQuery{DeliveryID: d.ID})
	slices.SortFunc(as, func(a, b webhook.Attempt) int { return a.Number - b.Number })
	return as
}

func (f *fixture) counters(w webhook.Webhook) []webhook.Counter {
	f.t.Helper()
	got, err := f.store.Counters(f.ctx(), scopeOf(w), webhook.CounterQuery{WebhookID: w.ID})
	f.NoError(err)
	return got
}

func (f *fixture) leased(w webhook.Webhook) int {
	f.t.Helper()
	n, err := f.store.Leased(f.ctx(), scopeOf(w), w.ID, f.now)
	f.NoError(err)
	return n
}

// pages walks through a list.
func pages[T any](f *fixture, fetch func(cursor string) (webhook.Page[T], error)) []T {
	f.t.Helper()
	var items []T
	cursor := ""
	for range 1000 {
		page, err := fetch(cursor)
		f.NoError(err)
		items = append(items, page.Items...)
		if page.Next == "" {
			return items
		}
		f.NotEmpty(page.Items, "an empty page before the last one")
		cursor = page.Next
	}
	f.FailNow("a list has 1000 pages, and Next leads to another one: the last page must have no Next")
	return nil
}

// inStates checks where a webhook's deliveries stand: how many in each state,
// read one by one, listed, and filtered.
func (f *fixture) inStates(w webhook.Webhook, want map[webhook.DeliveryState]int) {
	f.t.Helper()
	listed, single, filtered := map[webhook.DeliveryState]int{}, map[webhook.DeliveryState]int{}, map[webhook.DeliveryState]int{}
	for _, d := range f.deliveries(scopeOf(w), webhook.DeliveryQuery{WebhookID: w.ID}) {
		listed[d.State]++
		one, err := f.store.Delivery(f.ctx(), scopeOf(w), d.ID)
		f.NoError(err)
		single[one.State]++
	}
	for _, s := range []webhook.DeliveryState{
		webhook.DeliveryPending, webhook.DeliveryHeld,
		webhook.DeliverySucceeded, webhook.DeliveryFailed, webhook.DeliveryCancelled,
	} {
		for _, d := range f.deliveries(scopeOf(w), webhook.DeliveryQuery{WebhookID: w.ID, State: s}) {
			f.Equal(s, d.State)
			filtered[s]++
		}
	}
	f.Equal(want, listed, "listed")
	f.Equal(want, single, "read one by one")
	f.Equal(want, filtered, "filtered by state")
}

// contents is everything that a store tells of one organization.
type contents struct {
	Webhooks   []webhook.Webhook
	Deliveries []webhook.Delivery // with payloads
	Attempts   []webhook.Attempt
	Counters   map[uuid.UUID][]webhook.Counter
	Leased     map[uuid.UUID]int
}

func (f *fixture) contents(s webhook.Scope) contents {
	f.t.Helper()
	c := contents{
		Webhooks: f.webhooks(s, webhook.WebhookQuery{}), Attempts: f.attempts(s, webhook.AttemptQuery{}),
		Counters: map[uuid.UUID][]webhook.Counter{}, Leased: map[uuid.UUID]int{},
	}
	for _, d := range f.deliveries(s, webhook.DeliveryQuery{}) {
		full, err := f.store.Delivery(f.ctx(), s, d.ID)
		f.NoError(err)
		c.Deliveries = append(c.Deliveries, full)
	}
	for _, w := range c.Webhooks {
		c.Counters[w.ID], c.Leased[w.ID] = f.counters(w), f.leased(w)
	}
	return c
}
