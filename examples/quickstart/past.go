package main

import (
	"context"
	"io"
	"iter"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// past is what earlier runs have left in the log.
type past struct {
	deliveries, attempts int
	newest               []*pastDelivery // the newest few, newest first
	end                  time.Time       // nothing that is on record lies after it
}

type pastDelivery struct {
	webhook.Delivery
	last webhook.Attempt
}

// lookBack reads the log as everybody in the organization may. The log of a
// webhook outlives it: who wants to know about a deleted one asks there.
func lookBack(ctx context.Context, store webhook.ManagerStore) (p past, err error) {
	m, err := webhook.NewManager(store, webhook.ManagerConfig{}) // enough to read
	if err != nil {
		return p, err
	}
	newest := map[uuid.UUID]*pastDelivery{}
	for d, err := range allDeliveries(ctx, m, webhook.DeliveryQuery{}) {
		if err != nil {
			return p, err
		}
		if p.deliveries++; p.deliveries <= 7 {
			newest[d.ID] = &pastDelivery{Delivery: d}
			p.newest = append(p.newest, newest[d.ID])
		}
		p.end = latest(p.end, d.CreatedAt, d.FinishedAt, d.LeasedUntil)
	}
	for a, err := range allAttempts(ctx, m, webhook.AttemptQuery{}) {
		if err != nil {
			return p, err
		}
		p.attempts++
		if d := newest[a.DeliveryID]; d != nil && d.last.Number < a.Number {
			d.last = a
		}
		p.end = latest(p.end, a.StartedAt.Add(a.Duration))
	}
	return p, nil
}

// print prints the log in short: one line a delivery.
func (p past) print(out io.Writer) error {
	if p.deliveries == 0 {
		say(out, "its log is empty; a second run will show this one's\n\n")
		return nil
	}
	say(out, "earlier runs left %d deliveries and %d attempts in its log; the newest %d:\n\n", p.deliveries, p.attempts, len(p.newest))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	say(table, "CREATED\tENDPOINT\tEVENT TYPE\tSTATE\tATTEMPTS\tLAST CODE\n")
	for _, d := range p.newest {
		endpoint, err := url.Parse(d.last.EndpointURL)
		if err != nil {
			return err
		}
		say(table, "%s\t%s\t%s\t%s\t%d\t%d\n",
			d.CreatedAt.Format(time.DateTime), endpoint.Path, d.EventType, d.State, d.Attempts, d.last.StatusCode)
	}
	say(table, "\n")
	return table.Flush()
}

func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}

// allDeliveries goes through a list of deliveries to its end.
func allDeliveries(ctx context.Context, m *webhook.Manager, q webhook.DeliveryQuery) iter.Seq2[webhook.Delivery, error] {
	q.Limit = webhook.MaxPageSize
	return all(func(cursor string) (webhook.Page[webhook.Delivery], error) {
		q.Cursor = cursor
		return m.Deliveries(ctx, viewer, q)
	})
}

// allAttempts goes through a part of the delivery log to its end.
func allAttempts(ctx context.Context, m *webhook.Manager, q webhook.AttemptQuery) iter.Seq2[webhook.Attempt, error] {
	q.Limit = webhook.MaxPageSize
	return all(func(cursor string) (webhook.Page[webhook.Attempt], error) {
		q.Cursor = cursor
		return m.Attempts(ctx, viewer, q)
	})
}

// all goes through a list page by page. An error is the last it yields.
func all[T any](read func(cursor string) (webhook.Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor, more := "", true; more; more = cursor != "" {
			page, err := read(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			cursor = page.Next
		}
	}
}
