package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// statementBytes bounds the arguments of one statement: servers refuse packets
// of more than some megabytes.
const statementBytes = 1 << 20

// InsertEvents stores events with their deliveries.
func (s *Store) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	var in *insertion
	run := s.write
	if p.Lease != nil {
		run = s.work
	}
	err := run(ctx, "insert events", func(c session) (err error) {
		in = newInsertion(&p)
		return in.run(ctx, c)
	}, func(c session) (bool, error) {
		for i := range in.events {
			if in.events[i].store {
				n, _, err := first(ctx, c, plain[int], "select count(*) from {events} where id = ? and insert_token = ?",
					c.d.id(in.events[i].ID), c.d.id(in.token))
				return n > 0, err
			}
		}
		return true, nil // there was nothing to commit
	})
	if err != nil {
		return webhook.InsertResult{}, err
	}
	s.lanes.add(in.deliveries)
	if len(in.claims) > 0 {
		s.lanes.leases(in.claims[0].LeasedUntil)
	}
	if len(in.claims) < len(in.deliveries) {
		whom := everybody
		if p.Lease != nil { // the dispatcher of this process knows
			whom = others
		}
		s.wake(whom)
	}
	return webhook.InsertResult{Events: in.results(), Claims: in.claims}, nil
}

// InsertEventsTx stores events inside the host's transaction. After an error
// nothing of them can be committed: they are undone, on PostgreSQL by letting the
// transaction do nothing but roll back, which is what a failed statement does there
// anyway.
func (t *TxStore) InsertEventsTx(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	if p.Lease != nil {
		return webhook.InsertResult{}, errors.New("sqlstore: insert events: a transaction of the host leases nothing")
	}
	if tx, ok := t.tx.(*sql.Tx); t.tx == nil || ok && tx == nil {
		return webhook.InsertResult{}, errors.New("sqlstore: insert events: the transaction given to WithTx is nil")
	}
	if _, handle := t.tx.(*sql.DB); handle {
		return webhook.InsertResult{}, errors.New("sqlstore: insert events: WithTx was given a *sql.DB, which is no transaction; begin one")
	}
	if err := ctx.Err(); err != nil {
		return webhook.InsertResult{}, fmt.Errorf("sqlstore: insert events: %w", err)
	}
	in := newInsertion(&p)
	if err := (session{t.s, t.tx}).undoable(ctx, in.run); err != nil {
		return webhook.InsertResult{}, fmt.Errorf("sqlstore: insert events: %w", err)
	}
	t.s.lanes.add(in.deliveries)
	return webhook.InsertResult{Events: in.results()}, nil
}

// insertion is one call that inserts events.
type insertion struct {
	p      *webhook.InsertParams
	now    time.Time
	token  uuid.UUID // of this call, to know its events by
	events []insertEvent
	paused bool // nothing may be leased

	deliveries []insertDelivery
	claims     []webhook.Claim
}

// insertEvent is an event on its way.
type insertEvent struct {
	*webhook.EventRecord
	store     bool // it is to be stored
	unmatched bool // nobody gets it, and it is not stored
	like      int  // the earlier event of this call that has the same key, or -1
	hooks     []recipient
	result    webhook.InsertedEvent
}

// recipient is a webhook that gets a delivery.
type recipient struct {
	id        uuid.UUID
	active    bool
	epoch     int64
	createdAt time.Time
	url       string
	secret    []byte
	rateLimit int
}

// insertDelivery is a delivery on its way.
type insertDelivery struct {
	id    uuid.UUID
	event *insertEvent
	hook  *recipient
	claim *webhook.Claim
}

func newInsertion(p *webhook.InsertParams) *insertion {
	in := &insertion{p: p, now: stored(p.Now), token: uuid.New(), events: make([]insertEvent, len(p.Events))}
	type key struct{ organization, key string }
	ids, keys := map[uuid.UUID]bool{}, map[key]int{}
	for i := range p.Events {
		rec := &p.Events[i]
		e := insertEvent{EventRecord: rec, like: -1, store: true, result: webhook.InsertedEvent{EventID: rec.ID}}
		k := key{rec.OrganizationID, rec.IdempotencyKey}
		earlier, taken := keys[k]
		switch {
		case k.key != "" && taken:
			e.store, e.like = false, earlier
		case ids[rec.ID]:
			e.refuse(errTaken)
		default:
			ids[rec.ID] = true
			if k.key != "" {
				keys[k] = i
			}
		}
		in.events[i] = e
	}
	return in
}

var errTaken = fmt.Errorf("id is taken: %w", webhook.ErrConflict)

func (e *insertEvent) refuse(err error) {
	e.store = false
	e.result = webhook.InsertedEvent{EventID: e.ID, Err: err}
}

// duplicate says that the event's key is taken.
func (e *insertEvent) duplicate(first uuid.UUID) {
	e.store = false
	e.result = webhook.InsertedEvent{EventID: first, Duplicate: true}
}

// results returns what became of each event.
func (in *insertion) results() []webhook.InsertedEvent {
	out := make([]webhook.InsertedEvent, len(in.events))
	for i := range in.events {
		out[i] = in.events[i].result
	}
	return out
}

// run writes the events that can be written, with their deliveries.
func (in *insertion) run(ctx context.Context, c session) error {
	for _, step := range []func(context.Context, session) error{
		in.findKeys, in.findRecipients, in.checkUnmatched, in.writeEvents, in.writeDeliveries,
	} {
		if err := step(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// findKeys finds idempotency keys that are taken. If there are any keys it looks
// for ids, too, since an event that is refused for its id leaves its key to
// others of the same call.
func (in *insertion) findKeys(ctx context.Context, c session) error {
	x := c.d.rows()
	for i := range in.events {
		if e := &in.events[i]; e.IdempotencyKey != "" {
			x.add().int("i", int64(i)).id("id", e.ID).text("organization_id", e.OrganizationID).text("k", e.IdempotencyKey)
		}
	}
	if x.n == 0 {
		return nil
	}
	type known struct {
		event     int
		first, id uuid.UUID // that have the key and the id, or zero
	}
	found, err := query(ctx, c, func(scan func(...any) error, k *known) error {
		return scan(&k.event, maybe[uuid.UUID]{&k.first}, maybe[uuid.UUID]{&k.id})
	}, `select x.i, (select e.id from {events} e where e.organization_id = x.organization_id and e.idempotency_key = x.k),
			(select e.id from {events} e where e.id = x.id)
		from {rows x i int, id uuid, organization_id text, k text}`, x)
	if err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b known) int { return cmp.Compare(a.event, b.event) })
	for _, k := range found {
		i := k.event
		e := &in.events[i]
		switch {
		case k.first != uuid.UUID{}:
			e.like = -1
			e.duplicate(k.first)
		case e.like >= 0 && in.events[e.like].result.Err != nil: // refused, which leaves the key to this one
			e.like, e.store = -1, true
			for j := i + 1; j < len(in.events); j++ {
				if o := &in.events[j]; o.like >= 0 && o.OrganizationID == e.OrganizationID && o.IdempotencyKey == e.IdempotencyKey {
					o.like = i
				}
			}
		}
		if e.store && k.id != (uuid.UUID{}) {
			e.refuse(errTaken)
		}
	}
	return nil
}

// findRecipients finds the webhooks that get the events. Webhooks are not
// locked: what changes meanwhile is dealt with by epochs, see delivery.go.
func (in *insertion) findRecipients(ctx context.Context, c session) error {
	const columns = "w.id, w.active, w.epoch, w.created_at, w.endpoint_url, w.secret, w.rate_limit, " + isPaused
	type candidate struct {
		recipient
		event int
		sub   webhook.Subscription
	}
	scan := func(scan func(...any) error, k *candidate) error {
		var active, paused int
		var created int64
		err := scan(&k.event, &k.id, &active, &k.epoch, &created, &k.url, maybe[[]byte]{&k.secret}, &k.rateLimit, &paused,
			&k.sub.Subject.Type, &k.sub.Subject.ID, fromJSON[map[string]string]{&k.sub.Filter})
		k.active, k.createdAt = active == 1, time.UnixMicro(created)
		in.paused = paused > 0
		return err
	}
	x := c.d.rows()
	for i := range in.events {
		e := &in.events[i]
		if !e.store {
			continue
		}
		if in.p.Only != (uuid.UUID{}) {
			x.add().int("i", int64(i)).text("organization_id", e.OrganizationID)
			continue
		}
		for j := -1; j < len(e.Parents); j++ {
			subject := e.Subject
			if j >= 0 {
				subject = e.Parents[j]
			}
			x.add().int("i", int64(i)).text("organization_id", e.OrganizationID).
				text("type", string(subject.Type)).text("subject", subject.ID).text("event", string(e.Type))
		}
	}
	if x.n == 0 {
		return nil
	}
	var found []candidate
	var err error
	if only := in.p.Only; only != (uuid.UUID{}) {
		found, err = query(ctx, c, scan, "select x.i, "+columns+`, '', '', null
			from {rows x i int, organization_id text} join {webhooks} w on {key w.organization_id = x.organization_id}
			where w.id = ? and w.deleted_at is null`, x, c.d.id(only))
	} else {
		found, err = query(ctx, c, scan, "select x.i, "+columns+`, s.subject_type, s.subject_id, s.filter
			from {rows x i int, organization_id text, type text, subject text, event text}
			join {subscriptions} s on {key s.organization_id = x.organization_id} and s.subject_id = x.subject and s.subject_type = x.type
				and s.event_type = x.event
			join {webhooks} w on {key w.id = s.webhook_id}
			where w.deleted_at is null`, x)
	}
	if err != nil {
		return err
	}
	for i := range found {
		k := &found[i]
		e := &in.events[k.event]
		k.sub.EventType = e.Type
		if in.p.Only == (uuid.UUID{}) && !k.sub.Matches(e.EventRecord) ||
			slices.ContainsFunc(e.hooks, func(r recipient) bool { return r.id == k.id }) {
			continue
		}
		e.hooks = append(e.hooks, k.recipient)
	}
	for i := range in.events {
		e := &in.events[i]
		slices.SortFunc(e.hooks, func(a, b recipient) int {
			return webhook.Position{At: a.createdAt, ID: a.id}.Compare(webhook.Position{At: b.createdAt, ID: b.id})
		})
		switch {
		case !e.store:
		case len(e.hooks) == 0 && in.p.Only != uuid.UUID{}:
			e.refuse(webhook.ErrNotFound)
			e.unmatched = true
		case len(e.hooks) == 0 && e.IdempotencyKey == "":
			e.store, e.unmatched = false, true // nothing would ever look for it
		default:
			e.result.Deliveries = len(e.hooks)
		}
	}
	return nil
}

// checkUnmatched refuses events that nobody asked for if their id is taken: those
// that are stored find out when they are inserted.
func (in *insertion) checkUnmatched(ctx context.Context, c session) error {
	x := c.d.rows()
	for i := range in.events {
		if in.events[i].unmatched {
			x.add().id("id", in.events[i].ID)
		}
	}
	if x.n == 0 {
		return nil
	}
	taken, err := query(ctx, c, plain[uuid.UUID], "select x.id from {rows x id uuid} where (select e.id from {events} e where e.id = x.id) is not null", x)
	for i := range in.events {
		if e := &in.events[i]; e.unmatched && slices.Contains(taken, e.ID) {
			e.refuse(errTaken)
		}
	}
	return err
}

// writeEvents inserts the events, and finds out about those that somebody else
// has inserted in the meantime.
func (in *insertion) writeEvents(ctx context.Context, c session) error {
	const columns = `id uuid, organization_id text, event_type text, subject_type text, subject_id text, parents text, attributes text,
		occurred_at int, k text, test int, inserted_at int, unmatched_at int, payload bytes, token uuid, trace text`
	x, written := c.d.rows(), 0
	flush := func() error {
		if x.n == 0 {
			return nil
		}
		n, err := c.exec(ctx, `{insert} {events} (id, organization_id, event_type, subject_type, subject_id, parents, attributes,
				occurred_at, idempotency_key, test, inserted_at, unmatched_at, payload_at, payload, insert_token, trace_context)
			select x.id, x.organization_id, x.event_type, x.subject_type, x.subject_id, x.parents, x.attributes,
				x.occurred_at, x.k, x.test, x.inserted_at, x.unmatched_at, x.inserted_at, x.payload, x.token, x.trace
			from {rows x `+columns+`} where true {or ignore}`, x)
		written += n
		x = c.d.rows()
		return err
	}
	asked := 0
	for i := range in.events {
		e := &in.events[i]
		if !e.store {
			continue
		}
		asked++
		parents, err := asJSON(e.Parents, len(e.Parents) == 0)
		if err != nil {
			return err
		}
		attributes, err := asJSON(e.Attributes, len(e.Attributes) == 0)
		if err != nil {
			return err
		}
		x.add().id("id", e.ID).text("organization_id", e.OrganizationID).text("event_type", string(e.Type)).
			text("subject_type", string(e.Subject.Type)).text("subject_id", e.Subject.ID).
			any("parents", parents).any("attributes", attributes).time("occurred_at", stored(e.OccurredAt)).
			textOrNull("k", e.IdempotencyKey).bool("test", e.Test).time("inserted_at", in.now)
		if len(e.hooks) == 0 {
			x.time("unmatched_at", in.now)
		} else {
			x.null("unmatched_at")
		}
		x.bytes("payload", e.Payload).id("token", in.token).textOrNull("trace", e.TraceContext)
		if x.size() > statementBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if written < asked {
		if err := in.findLost(ctx, c); err != nil {
			return err
		}
	}
	for i := range in.events {
		if e := &in.events[i]; e.like >= 0 {
			if of := in.events[e.like].result; of.Err != nil {
				e.refuse(of.Err)
			} else {
				e.duplicate(of.EventID)
			}
		}
	}
	return nil
}

// findLost finds the events that were not inserted because their id or key had
// been taken by then.
func (in *insertion) findLost(ctx context.Context, c session) error {
	for i := range in.events {
		e := &in.events[i]
		if !e.store {
			continue
		}
		mine, _, err := first(ctx, c, plain[int], "select count(*) from {events} where id = ? and insert_token = ?", c.d.id(e.ID), c.d.id(in.token))
		if err != nil {
			return err
		}
		if mine > 0 {
			continue
		}
		// MySQL's default isolation shows a host's transaction what there was at its
		// first read, unless it locks.
		text := "select id from {events} where organization_id = ? and idempotency_key = ?"
		if c.d == MySQL {
			text += " lock in share mode"
		}
		of, taken, err := first(ctx, c, plain[uuid.UUID], text, e.OrganizationID, e.IdempotencyKey)
		switch {
		case err != nil:
			return err
		case taken && e.IdempotencyKey != "":
			e.duplicate(of)
		default:
			e.refuse(errTaken)
		}
	}
	return nil
}

// writeDeliveries inserts the deliveries, leased if somebody takes them.
func (in *insertion) writeDeliveries(ctx context.Context, c session) error {
	for i := range in.events {
		e := &in.events[i]
		if !e.store {
			continue
		}
		for j := range e.hooks {
			d := insertDelivery{id: c.ids.New(in.now), event: e, hook: &e.hooks[j]}
			if l := in.p.Lease; l != nil && !in.paused && d.hook.active && l.Take(e.ID, d.hook.id, e.OrganizationID) {
				d.claim = &webhook.Claim{
					DeliveryID: d.id, EventID: e.ID, WebhookID: d.hook.id, OrganizationID: e.OrganizationID,
					EventType: e.Type, Test: e.Test, Attempt: 1, Token: tokenOf(in.token, d.id), DueAt: in.now,
					LeasedUntil: stored(in.now.Add(l.For)), EndpointURL: d.hook.url, RateLimit: d.hook.rateLimit, TraceContext: e.TraceContext, Payload: slices.Clone(e.Payload),
				}
				d.claim.Secret = c.openOrLog(d.hook.secret, e.OrganizationID, d.hook.id)
				in.claims = append(in.claims, *d.claim)
			}
			in.deliveries = append(in.deliveries, d)
		}
	}
	for batch := range slices.Chunk(in.deliveries, 1000) {
		var open []openDeliveryRow
		for _, d := range batch {
			open = append(open, openDeliveryRow{
				id: d.id, eventID: d.event.ID, webhookID: d.hook.id, organizationID: d.event.OrganizationID,
				eventType: d.event.Type, test: d.event.Test, epoch: d.hook.epoch, claim: d.claim, token: in.token,
			})
		}
		if err := c.open(ctx, open, in.now); err != nil {
			return err
		}
	}
	return nil
}
