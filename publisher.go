package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// PublisherConfig configures [NewPublisher]. The zero value works.
type PublisherConfig struct {
	// Dispatcher is the one that runs in this process: what is published goes
	// straight to its free slots, or wakes it. Defaults to none: other
	// processes' dispatchers find the deliveries by themselves.
	Dispatcher *Dispatcher

	// Catalog says which event and subject types exist; the Manager needs the
	// same. Defaults to DefaultCatalog, which knows rooms and spaces only.
	Catalog *Catalog

	// Clock tells when an event was published. Defaults to the Dispatcher's
	// clock, without one to the store's, and else to the system's.
	Clock Clock

	// Tracer is told of what is published. Defaults to the Dispatcher's, or
	// without one to none.
	Tracer Tracer

	// MaxPayloadBytes bounds the request body. Defaults to 256 KiB; negative
	// is an error.
	MaxPayloadBytes int
}

// Publisher stores events with their deliveries. It is safe for concurrent use.
type Publisher struct {
	w          EventWriter
	dispatcher *Dispatcher
	catalog    *Catalog
	clock      Clock
	tracer     Tracer
	maxPayload int
	ids        IDSource
	together   coalescer
}

// Published says what became of an event.
type Published struct {
	EventID    uuid.UUID // of a duplicate, the first event's
	Deliveries int       // webhooks that the event goes to, inactive ones included
	Duplicate  bool      // the idempotency key was taken: nothing was stored
}

// PublishResult is what became of one of many events.
type PublishResult struct {
	Published
	Err error
}

// NewPublisher returns a publisher that stores events in w, which is any store.
func NewPublisher(w EventWriter, cfg PublisherConfig) (*Publisher, error) {
	if w == nil {
		return nil, errors.New("webhook: new publisher: the store is nil")
	}
	if cfg.MaxPayloadBytes < 0 {
		return nil, ValidationErrors{{"max_payload_bytes", "must not be negative"}}
	}
	if cfg.MaxPayloadBytes == 0 {
		cfg.MaxPayloadBytes = DefaultMaxPayloadBytes
	}
	p := &Publisher{
		w: w, dispatcher: cfg.Dispatcher, catalog: catalogOrDefault(cfg.Catalog), clock: clockOr(cfg.Clock, cfg.Dispatcher, w),
		tracer: tracerOrNop(cfg.Tracer, nil), maxPayload: cfg.MaxPayloadBytes,
	}
	if cfg.Tracer == nil && cfg.Dispatcher != nil {
		p.tracer = cfg.Dispatcher.tracer
	}
	p.together.insert = func(ctx context.Context, events []EventRecord) (InsertResult, error) {
		return p.insert(ctx, InsertParams{Events: events, Now: storedTime(p.clock.Now())})
	}
	return p, nil
}

// Publish stores an event with one delivery for each webhook of its
// organization that is subscribed to it. When it returns nil they are as
// durable as the store is; when it returns an error nothing was stored, unless
// the context ended during the call or the error is ErrOutcomeUnknown.
//
// Calls that come at the same time share a transaction; each has its own
// result, and none waits for others to come.
//
// An event that breaks a rule is [ValidationErrors]; an Event.ID that is taken
// is ErrConflict.
func (p *Publisher) Publish(ctx context.Context, e Event) (Published, error) {
	one := func(ctx context.Context, params InsertParams) (InsertResult, error) {
		inserted, err := p.together.publish(ctx, params.Events[0])
		return InsertResult{Events: []InsertedEvent{inserted}}, err
	}
	results, err := p.publish(ctx, one, []Event{e})
	if err != nil {
		return Published{}, err
	}
	return results[0].Published, results[0].Err
}

// PublishMany does the same for many events, in as few steps as the store
// allows. Each has its own result: one that is refused keeps no other from
// being stored. The error is the store's, and then also that of every event
// that was not refused before.
func (p *Publisher) PublishMany(ctx context.Context, events []Event) ([]PublishResult, error) {
	return p.publish(ctx, p.insert, events)
}

// insert stores events, handing deliveries to the dispatcher of this process.
func (p *Publisher) insert(ctx context.Context, params InsertParams) (InsertResult, error) {
	if p.dispatcher == nil {
		return p.w.InsertEvents(ctx, params)
	}
	return p.dispatcher.handOff(ctx, p.w, params, p.clock)
}

// publish validates and encodes events, inserts those that pass, and says what
// became of each.
func (p *Publisher) publish(
	ctx context.Context, insert func(context.Context, InsertParams) (InsertResult, error), events []Event,
) (results []PublishResult, err error) {
	began := time.Now()
	ctx, traceContext := p.tracer.PublishStarted(ctx, publishStarted(events))
	params, results, at := p.prepare(events, traceContext)
	if len(params.Events) > 0 {
		var inserted InsertResult
		inserted, err = insert(ctx, params)
		results, err = p.report(results, at, inserted, err)
	}
	p.tracer.Published(ctx, Publication{Results: results, Duration: time.Since(began), Err: err})
	return results, err
}

// publishStarted is what a tracer is told before the events are looked at.
func publishStarted(events []Event) PublishStarted {
	d := PublishStarted{Events: len(events)}
	for i := range events {
		e := &events[i]
		if i == 0 {
			d.OrganizationID, d.EventType = e.OrganizationID, e.Type
		}
		if e.OrganizationID != d.OrganizationID {
			d.OrganizationID = ""
		}
		if e.Type != d.EventType {
			d.EventType = ""
		}
	}
	return d
}

// PublishTx stores an event inside a transaction of the host: it is delivered if
// and only if the transaction commits. w is what WithTx returned of sqlstore, or
// Begin of memstore. Errors are those of Publish. ErrConflict, ValidationErrors and
// duplicates leave the transaction as it was. After any other error nothing of the
// event can be committed, on PostgreSQL nor anything else of the transaction.
//
// Nobody tells the dispatcher of a commit: that of this process looks for the
// event for about a second, and then as often as for other processes' events. A
// host may call its Wake after the commit. (memstore wakes it by itself.)
func (p *Publisher) PublishTx(ctx context.Context, w TxWriter, e Event) (Published, error) {
	if w == nil {
		return Published{}, errors.New("webhook: publish: the transaction is nil")
	}
	results, err := p.publish(ctx, w.InsertEventsTx, []Event{e})
	if err != nil {
		return Published{}, err
	}
	if p.dispatcher != nil && results[0].Deliveries > 0 {
		p.dispatcher.watch()
	}
	return results[0].Published, results[0].Err
}

// prepare validates and encodes events. The results hold the refusals; at says
// which result each of the remaining events belongs to.
func (p *Publisher) prepare(events []Event, traceContext string) (params InsertParams, results []PublishResult, at []int) {
	now := storedTime(p.clock.Now())
	params.Now = now
	results = make([]PublishResult, len(events))
	for i, e := range events {
		rec, err := p.record(e, now)
		if err != nil {
			results[i].Err = err
			continue
		}
		rec.TraceContext = traceContext
		params.Events = append(params.Events, rec)
		at = append(at, i)
	}
	return params, results, at
}

func (p *Publisher) record(e Event, now time.Time) (EventRecord, error) {
	if e.OccurredAt.IsZero() {
		e.OccurredAt = now
	}
	if e.ID == (uuid.UUID{}) {
		e.ID = p.ids.New(now)
	}
	return newRecord(e, p.catalog, false, p.maxPayload)
}

// report fills in what the store said of each event.
func (p *Publisher) report(results []PublishResult, at []int, inserted InsertResult, err error) ([]PublishResult, error) {
	if err == nil && len(inserted.Events) != len(at) {
		err = fmt.Errorf("the store answered for %d of %d events", len(inserted.Events), len(at))
	}
	if err != nil {
		err = fmt.Errorf("webhook: publish: %w", err)
	}
	for i, r := range at {
		switch {
		case err != nil:
			results[r].Err = err
		case inserted.Events[i].Err != nil:
			results[r].Err = fmt.Errorf("webhook: publish: %w", inserted.Events[i].Err)
		default:
			results[r].Published = Published{
				EventID: inserted.Events[i].EventID, Deliveries: inserted.Events[i].Deliveries, Duplicate: inserted.Events[i].Duplicate,
			}
		}
	}
	return results, err
}
