package otelwebhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/posthorn/webhook"
)

// keyQueueState says whether deliveries of the queue are ready, waiting, leased or held.
const keyQueueState = attribute.Key("posthorn.queue.state")

// queueStates are the values of keyQueueState as options.
var queueStates = func() map[string]metric.ObserveOption {
	out := map[string]metric.ObserveOption{}
	for _, state := range []string{"ready", "waiting", "leased", "held"} {
		out[state] = metric.WithAttributeSet(attribute.NewSet(keyQueueState.String(state)))
	}
	return out
}()

// queueInstruments are the metrics of what is, which somebody has to look at.
type queueInstruments struct {
	deliveries, notices, paused metric.Int64Observable // of the store
	age, retention              metric.Float64Observable

	limit, used, unrecorded metric.Int64Observable // of this process's dispatcher
	slow, blocked           metric.Int64Observable
	claim                   metric.Float64Observable

	all []metric.Observable
}

// instrumentQueue makes the instruments. Without Observe they have no values.
func (t *Telemetry) instrumentQueue() error {
	var errs []error
	number := func(name, unit, description string) metric.Int64Observable {
		o, err := t.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		t.queue.all = append(t.queue.all, o)
		return o
	}
	age := func(name, description string) metric.Float64Observable {
		o, err := t.meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(description))
		errs = append(errs, err)
		t.queue.all = append(t.queue.all, o)
		return o
	}
	q := &t.queue
	q.deliveries = number("posthorn.queue.deliveries", "{delivery}", "Open deliveries in the store.")
	q.age = age("posthorn.queue.age", "How long the oldest delivery that is due has been due. 0 if none is.")
	q.notices = number("posthorn.queue.notices", "{notice}", "Notices that wait for their time or their turn.")
	q.paused = number("posthorn.queue.paused", "{pause}", "1 if all dispatchers are paused, else 0.")
	q.retention = age("posthorn.retention.age", "How long ago retention had last deleted all that was old.")

	q.limit = number("posthorn.slots.limit", "{slot}", "Slots of this process's dispatcher.")
	q.used = number("posthorn.slots.used", "{slot}", "Slots that are taken.")
	q.unrecorded = number("posthorn.attempt.unrecorded", "{attempt}", "Attempts of this process that have ended and are not in the store yet.")
	q.slow = number("posthorn.webhooks.slow", "{webhook}", "Webhooks that this process has found to be slow, which have one attempt at a time.")
	q.blocked = number("posthorn.webhooks.blocked", "{webhook}", "Webhooks that nothing is sent to because their secret did not open.")
	q.claim = age("posthorn.claim.age", "How long ago the store last answered a claim of this process.")
	return errors.Join(errs...)
}

// Observe reports what waits in the store, and how busy the dispatcher is, whenever
// metrics are collected. The function looks; it is [webhook.Dispatcher.Stats]:
//
//	registration, err := telemetry.Observe(disp.Stats)
//
// Stats counts the store's queue up to a million, which is work for the database if
// there are as many. A host that wants less, or has no dispatcher in the process, asks the
// store's Overview itself, and leaves the rest of Stats zero.
//
// One Observe a process is enough. Processes on the same store all report the same
// numbers of it: take their maximum, not their sum. An error goes to OpenTelemetry's
// error handler, and leaves that collection without the numbers of the store. The
// context is that of the collection. Unregister ends it.
func (t *Telemetry) Observe(look func(context.Context) (webhook.Stats, error)) (metric.Registration, error) {
	if look == nil {
		return nil, errors.New("otelwebhook: observe: the function is nil")
	}
	registration, err := t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		s, err := look(ctx)
		if s.At.IsZero() {
			s.At = time.Now()
		}
		if s.Slots > 0 {
			t.queue.observeDispatcher(o, &s)
		}
		if err != nil {
			return fmt.Errorf("otelwebhook: observe: %w", err)
		}
		t.queue.observeStore(o, &s)
		return nil
	}, t.queue.all...)
	if err != nil {
		return nil, fmt.Errorf("otelwebhook: observe: %w", err)
	}
	return registration, nil
}

func (q *queueInstruments) observeStore(o metric.Observer, s *webhook.Stats) {
	v := &s.Overview
	for state, n := range map[string]int{"ready": v.Ready, "waiting": v.Waiting, "leased": v.Leased, "held": v.Held} {
		o.ObserveInt64(q.deliveries, int64(n), queueStates[state])
	}
	o.ObserveInt64(q.notices, int64(v.NoticesWaiting))
	paused := int64(0)
	if v.Paused {
		paused = 1
	}
	o.ObserveInt64(q.paused, paused)
	o.ObserveFloat64(q.age, since(v.OldestDue, s.At))
	if !v.LastPurge.IsZero() {
		o.ObserveFloat64(q.retention, since(v.LastPurge, s.At))
	}
}

func (q *queueInstruments) observeDispatcher(o metric.Observer, s *webhook.Stats) {
	o.ObserveInt64(q.limit, int64(s.Slots))
	o.ObserveInt64(q.used, int64(s.InFlight))
	o.ObserveInt64(q.unrecorded, int64(s.Unrecorded))
	o.ObserveInt64(q.slow, int64(len(s.Slow)))
	o.ObserveInt64(q.blocked, int64(len(s.Blocked)))
	if !s.LastClaim.IsZero() {
		o.ObserveFloat64(q.claim, since(s.LastClaim, s.At))
	}
}

// since is how many seconds before now a moment was; 0 if it is zero or, by a clock
// that is ahead, still to come.
func since(at, now time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, now.Sub(at).Seconds())
}
