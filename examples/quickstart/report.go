package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// report is what the library has on record of a run.
type report struct {
	attempts   []webhook.Attempt // the delivery log: every request, oldest first
	deliveries int
	states     map[webhook.DeliveryState]int
	events     map[string]bool // by id
}

// newReport reads what there is on webhooks, deleted ones too. names are theirs,
// by id.
func newReport(ctx context.Context, m *webhook.Manager, names map[uuid.UUID]string) (report, error) {
	r := report{states: map[webhook.DeliveryState]int{}, events: map[string]bool{}}
	for id := range names {
		for a, err := range allAttempts(ctx, m, webhook.AttemptQuery{WebhookID: id}) {
			if err != nil {
				return report{}, err
			}
			r.attempts = append(r.attempts, a)
		}
		for d, err := range allDeliveries(ctx, m, webhook.DeliveryQuery{WebhookID: id}) {
			if err != nil {
				return report{}, err
			}
			r.deliveries++
			r.states[d.State]++
			r.events[d.EventID.String()] = true
		}
	}
	slices.SortFunc(r.attempts, func(a, b webhook.Attempt) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), slices.Compare(a.DeliveryID[:], b.DeliveryID[:]))
	})
	return r, nil
}

// printLog prints the delivery log.
func (r report) printLog(out io.Writer, names map[uuid.UUID]string) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	say(table, "\nTIME\tWEBHOOK\tEVENT TYPE\tATTEMPT\tSTATUS\tCODE\tERROR\tDURATION\n")
	for _, a := range r.attempts {
		say(table, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n",
			a.StartedAt.Format(time.DateTime), names[a.WebhookID], a.EventType, a.Number,
			a.Outcome, a.StatusCode, a.Error, a.Duration.Round(10*time.Microsecond))
	}
	return table.Flush()
}

// conclude prints a summary and, as the last line, the numbers for programs. It
// returns an error in place of that line if the records and the receiver
// disagree. pending is how many deliveries may be unfinished.
func (r report) conclude(out io.Writer, rcv *receiver, pending int) error {
	attempts, requests, verified := len(r.attempts), int(rcv.requests.Load()), int(rcv.verified.Load())
	succeeded, failed, cancelled := r.states[webhook.DeliverySucceeded], r.states[webhook.DeliveryFailed], r.states[webhook.DeliveryCancelled]

	say(out, "\n%d events became %d deliveries: %d succeeded, %d failed, %d cancelled, %d pending\n",
		len(r.events), r.deliveries, succeeded, failed, cancelled, r.states[webhook.DeliveryPending])
	say(out, "%d attempts were made; the receiver verified %d requests and refused %d\n", attempts, verified, rcv.refused.Load())
	switch {
	case attempts == 0:
		return fmt.Errorf("no attempts were made")
	case attempts != requests || attempts != verified:
		return fmt.Errorf("the log has %d attempts, the receiver got %d requests and verified %d", attempts, requests, verified)
	case r.deliveries != succeeded+failed+cancelled+pending:
		return fmt.Errorf("of %d deliveries, %d succeeded, %d failed, %d were cancelled, %d may be pending",
			r.deliveries, succeeded, failed, cancelled, pending)
	}
	say(out, "quickstart: ok events=%d deliveries=%d attempts=%d succeeded=%d failed=%d cancelled=%d verified=%d\n",
		len(r.events), r.deliveries, attempts, succeeded, failed, cancelled, verified)
	return nil
}

// noticePrinter is a notifier. A service would write to the webhook's owner.
type noticePrinter struct{ out io.Writer }

// Notify prints a notice; if it returned an error, the notice would come again.
func (p noticePrinter) Notify(_ context.Context, n webhook.Notice) error {
	say(p.out, "notice: %d deliveries to %s at %s failed for good, the last one with %q\n",
		n.Deliveries, n.WebhookName, n.EndpointHost, n.LastError)
	return nil
}

// attemptLog is a logger whose lines fit on a screen: it replaces the webhook's
// id by its name and leaves the other ids out.
func attemptLog(out io.Writer, names map[uuid.UUID]string) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case "webhook_id":
			id, _ := uuid.Parse(a.Value.String())
			return slog.String("webhook", names[id])
		case "organization_id", "delivery_id", "event_id":
			return slog.Attr{}
		}
		return a
	}}))
}

// say prints. That nobody reads it is no reason to stop.
func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
