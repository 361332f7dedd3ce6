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

// queueInstruments are the metrics of what waits, which somebody has to look at.
type queueInstruments struct {
	deliveries, notices, paused metric.Int64Observable
	age, purged                 metric.Float64Observable

	observe []metric.Observable
}

// instrumentQueue makes the instruments. Without Observe they have no values.
func (t *Telemetry) instrumentQueue() error {
	var errs []error
	number := func(name, unit, description string) metric.Int64Observable {
		o, err := t.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		t.queue.observe = append(t.queue.observe, o)
		return o
	}
	age := func(name, description string) metric.Float64Observable {
		o, err := t.meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(description))
		errs = append(errs, err)
		t.queue.observe = append(t.queue.observe, o)
		return o
	}
	t.queue.deliveries = number("posthorn.queue.deliveries", "{delivery}", "Open deliveries in the store.")
	t.queue.age = age("posthorn.queue.age", "How long the oldest delivery that is due has been due. 0 if none is.")
	t.queue.notices = number("posthorn.queue.notices", "{notice}", "Notices that wait for their time or their turn.")
	t.queue.paused = number("posthorn.queue.paused", "{pause}", "1 if all dispatchers are paused, else 0.")
	t.queue.purged = age("posthorn.retention.age", "How long ago retention had last deleted all that was old.")
	return errors.Join(errs...)
}

// Observe reports what waits in the store whenever metrics are collected. The
// function looks: it is a store's Overview, or what else knows.
//
//	registration, err := telemetry.Observe(func(ctx context.Context) (webhook.Overview, error) {
//		return store.Overview(ctx, webhook.OverviewParams{Now: time.Now(), CountTo: 100_000})
//	})
//
// One Observe a process is enough. Processes on the same store all report the same
// numbers: take their maximum, not their sum. An error goes to OpenTelemetry's error
// handler, and leaves that collection without these metrics. The context ends as
// the MeterProvider's reader wants it. Unregister ends it.
func (t *Telemetry) Observe(look func(context.Context) (webhook.Overview, error)) (metric.Registration, error) {
	if look == nil {
		return nil, errors.New("otelwebhook: observe: the function is nil")
	}
	q := &t.queue
	registration, err := t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		v, err := look(ctx)
		if err != nil {
			return fmt.Errorf("otelwebhook: observe: %w", err)
		}
		for state, n := range map[string]int{"ready": v.Ready, "waiting": v.Waiting, "leased": v.Leased, "held": v.Held} {
			o.ObserveInt64(q.deliveries, int64(n), queueStates[state])
		}
		o.ObserveInt64(q.notices, int64(v.NoticesWaiting))
		paused := int64(0)
		if v.Paused {
			paused = 1
		}
		o.ObserveInt64(q.paused, paused)
		o.ObserveFloat64(q.age, since(v.OldestDue))
		if !v.LastPurge.IsZero() {
			o.ObserveFloat64(q.purged, since(v.LastPurge))
		}
		return nil
	}, q.observe...)
	if err != nil {
		return nil, fmt.Errorf("otelwebhook: observe: %w", err)
	}
	return registration, nil
}

// since is how many seconds ago a moment was, by this machine's clock. That of the
// store may be ahead.
func since(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, time.Since(at).Seconds())
}
