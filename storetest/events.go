package storetest

import (
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Events and their fan-out: S7 and S8.

func s7() []test {
	return []test{
		{"FanOut", fanOut},
		{"ADeliveryBeginsPendingOrHeld", aDeliveryBeginsPendingOrHeld},
		{"OnlyNamesTheOneWebhook", onlyNamesTheOneWebhook},
		{"UnmatchedEventsAreStoredWithAKeyOnly", unmatchedEventsAreStoredWithAKeyOnly},
		{"AStoredEventIsReadBack", aStoredEventIsReadBack},
		{"AFailingEventLeavesItsNeighboursAlone", aFailingEventLeavesItsNeighboursAlone},
		{"ManyEventsInOneCall", manyEventsInOneCall},
		{"LeaseTakesWhatTakeAccepts", leaseTakesWhatTakeAccepts},
		{"TakeIsAskedAboutActiveWebhooks", takeIsAskedAboutActiveWebhooks},
	}
}

func fanOut(f *fixture) {
	filtered := func(s webhook.Subscription, filter map[string]string) webhook.Subscription {
		s.Filter = filter
		return s
	}
	onSpace := webhook.Subscription{Subject: space, EventType: webhook.EventMessageSent}
	names := map[uuid.UUID]string{}
	for _, w := range []webhook.Webhook{
		f.webhook(named("room"), subscribed(messages)),
		f.webhook(named("transcripts"), subscribed(transcripts)),
		f.webhook(named("space"), subscribed(onSpace)),
		f.webhook(named("chat"), subscribed(filtered(messages, map[string]string{"kind": "chat"}))),
		f.webhook(named("english chat"), subscribed(filtered(messages, map[string]string{"kind": "chat", "lang": "en"}))),
		f.webhook(named("no kind"), subscribed(filtered(messages, map[string]string{"kind": ""}))),
		f.webhook(named("everything"), subscribed(messages, transcripts, onSpace, filtered(messages, map[string]string{"kind": "chat"}))),
		f.webhook(named("umbrella"), in(umbrella), subscribed(messages, transcripts, onSpace)),
	} {
		names[w.ID] = w.Name
	}

	attributes := func(m map[string]string) func(*webhook.EventRecord) {
		return func(e *webhook.EventRecord) { e.Attributes = m }
	}
	roomAsSpace := webhook.Subject{Type: webhook.SubjectSpace, ID: room.ID}
	for _, tc := range []struct {
		name  string
		edits []func(*webhook.EventRecord)
		want  []string
	}{
		{"in the room", nil, []string{"everything", "room"}},
		{"in a room of the space", []func(*webhook.EventRecord){about(hall, space)}, []string{"everything", "space"}},
		{"in the room of the space", []func(*webhook.EventRecord){about(room, space)}, []string{"everything", "room", "space"}},
		{"in the space, room and hall around it", []func(*webhook.EventRecord){about(space, hall, room)}, []string{"everything", "room", "space"}},
		{"of the other type", []func(*webhook.EventRecord){ofType(webhook.EventRoomRecordingTranscriptPublished)}, []string{"everything", "transcripts"}},
		{"of a type that nobody wants", []func(*webhook.EventRecord){ofType("message_read")}, nil},
		{"in another room", []func(*webhook.EventRecord){about(hall)}, nil},
		{"in a space with the room's id", []func(*webhook.EventRecord){about(roomAsSpace)}, nil},
		{
			"with the attribute",
			[]func(*webhook.EventRecord){attributes(map[string]string{"kind": "chat"})},
			[]string{"chat", "everything", "room"},
		},
		{
			"with both attributes and one more",
			[]func(*webhook.EventRecord){attributes(map[string]string{"kind": "chat", "lang": "en", "by": "ann"})},
			[]string{"chat", "english chat", "everything", "room"},
		},
		{
			"with an empty attribute",
			[]func(*webhook.EventRecord){attributes(map[string]string{"kind": ""})},
			[]string{"everything", "no kind", "room"},
		},
		{
			"with another value",
			[]func(*webhook.EventRecord){attributes(map[string]string{"kind": "Chat", "chat": "kind"})},
			[]string{"everything", "room"},
		},
		{
			"in the other organization",
			[]func(*webhook.EventRecord){func(e *webhook.EventRecord) { e.OrganizationID = umbrella }},
			[]string{"umbrella"},
		},
	} {
		e := f.event(tc.edits...)
		got := f.publish(e)[0]
		f.Equal(webhook.InsertedEvent{EventID: e.ID, Deliveries: len(tc.want)}, got, tc.name)
		var reached []string
		for _, d := range f.deliveries(webhook.Scope{OrganizationID: e.OrganizationID}, webhook.DeliveryQuery{EventID: e.ID}) {
			reached = append(reached, names[d.WebhookID])
		}
		slices.Sort(reached)
		f.Equal(tc.want, reached, tc.name)
	}
}

func aDeliveryBeginsPendingOrHeld(f *fixture) {
	w := f.webhook()
	f.pass(time.Second)
	e := f.event(wantedBy(w))
	probe := f.event(wantedBy(w), asTest)
	f.pass(time.Second) // an event is older than its storing
	f.publish(e)
	f.insert(webhook.InsertParams{Events: []webhook.EventRecord{probe}, Only: w.ID})
	for _, e := range []webhook.EventRecord{e, probe} {
		got := f.deliveryOf(w, e.ID)
		f.NotZero(got.ID)
		want := webhook.Delivery{
			ID: got.ID, EventID: e.ID, WebhookID: w.ID, OrganizationID: acme, EventType: e.Type, Subject: e.Subject,
			State: webhook.DeliveryPending, DueAt: f.now, CreatedAt: f.now, Test: e.Test, Payload: e.Payload,
		}
		f.Equal(want, got)

		want.Payload = nil
		f.Equal([]webhook.Delivery{want}, f.deliveries(ours, webhook.DeliveryQuery{EventID: e.ID}))
	}

	// An inactive webhook's is held, and nothing waits for it.
	f.succeed(f.claimAll()...)
	dormant := f.webhook(inactive)
	e = f.event(wantedBy(dormant))
	f.Equal(webhook.InsertedEvent{EventID: e.ID, Deliveries: 1}, f.publish(e)[0])
	got := f.deliveryOf(dormant, e.ID)
	f.Equal(webhook.Delivery{
		ID: got.ID, EventID: e.ID, WebhookID: dormant.ID, OrganizationID: acme, EventType: e.Type, Subject: e.Subject,
		State: webhook.DeliveryHeld, DueAt: got.DueAt, CreatedAt: f.now, Payload: e.Payload,
	}, got)
	f.inStates(dormant, map[webhook.DeliveryState]int{webhook.DeliveryHeld: 1})
	f.nothingWaits()
}

func onlyNamesTheOneWebhook(f *fixture) {
	w, dormant := f.webhook(), f.webhook(inactive)
	matching := f.webhook(subscribed(messages))
	foreign := f.webhook(in(umbrella), subscribed(messages))
	insert := func(only uuid.UUID) (webhook.EventRecord, webhook.InsertedEvent) {
		e := f.event(asTest)
		return e, f.insert(webhook.InsertParams{Events: []webhook.EventRecord{e}, Only: only}).Events[0]
	}

	for id, state := range map[uuid.UUID]webhook.DeliveryState{
		w.ID: webhook.DeliveryPending, dormant.ID: webhook.DeliveryHeld, matching.ID: webhook.DeliveryPending,
	} {
		e, got := insert(id)
		f.Equal(webhook.InsertedEvent{EventID: e.ID, Deliveries: 1}, got)
		ds := f.deliveries(ours, webhook.DeliveryQuery{EventID: e.ID})
		f.Len(ds, 1)
		f.Equal(id, ds[0].WebhookID)
		f.Equal(state, ds[0].State)
		f.True(ds[0].Test)
	}

	// Not across the border of the organization.
	e, got := insert(foreign.ID)
	f.Zero(got.Deliveries)
	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{EventID: e.ID}))
	f.Empty(f.deliveries(theirs, webhook.DeliveryQuery{}))
}

func unmatchedEventsAreStoredWithAKeyOnly(f *fixture) {
	without, with := f.event(), f.event(keyed("key"))
	got := f.publish(without, with)
	f.Equal([]webhook.InsertedEvent{{EventID: without.ID}, {EventID: with.ID}}, got)

	// What has been stored shows in the ids and keys that are taken.
	w := f.webhook(subscribed(messages))
	with.IdempotencyKey = ""
	again := f.insert(webhook.InsertParams{Events: []webhook.EventRecord{without, with, f.event(keyed("key"))}}).Events
	f.Equal(webhook.InsertedEvent{EventID: without.ID, Deliveries: 1}, again[0])
	f.ErrorIs(again[1].Err, webhook.ErrConflict)
	f.NoError(again[2].Err)
	f.True(again[2].Duplicate)
	f.Equal(with.ID, again[2].EventID)
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID}), 1)
}

func aStoredEventIsReadBack(f *fixture) {
	w := f.webhook(subscribed(messages))
	read := func(id uuid.UUID) webhook.EventRecord {
		f.t.Helper()
		got, err := f.store.Event(f.ctx(), ours, id)
		f.NoError(err)
		return got
	}
	full, bare := f.event(wantedBy(w), about(room, space, hall)), f.event(wantedBy(w))
	full.Attributes, full.IdempotencyKey = map[string]string{"kind": "chat 😀", "lang": ""}, "once"
	full.TraceContext = traceContext
	bare.Parents, bare.Attributes, bare.IdempotencyKey = nil, nil, ""
	test := f.event(asTest)
	f.publish(full, bare)
	f.insert(webhook.InsertParams{Events: []webhook.EventRecord{test}, Now: f.now, Only: w.ID})
	for _, want := range []webhook.EventRecord{full, bare, test} {
		want.Payload, want.OccurredAt = nil, want.OccurredAt.UTC().Truncate(time.Microsecond)
		f.Equal(want, read(want.ID))
	}

	// It is the caller's to change.
	got := read(full.ID)
	got.Parents[0], got.Attributes["kind"] = hall, "scribble"
	f.Equal(full.Attributes, read(full.ID).Attributes)
	f.Equal(full.Parents, read(full.ID).Parents)

	// What nobody asked for is not there.
	unmatched := f.event(about(hall))
	f.publish(unmatched)
	_, err := f.store.Event(f.ctx(), ours, unmatched.ID)
	f.ErrorIs(err, webhook.ErrNotFound)

	// Deleting the webhook leaves the event, whose delivery stays in the log.
	f.delete(w)
	f.Equal(full.ID, read(full.ID).ID)
}

func aFailingEventLeavesItsNeighboursAlone(f *fixture) {
	w := f.webhook(subscribed(messages))
	taken, first := f.event(), f.event(keyed("key"))
	f.publish(taken, first)
	es := f.events(5)
	es[1].ID, es[3].IdempotencyKey = taken.ID, "key"
	got := f.insert(webhook.InsertParams{Events: es}).Events
	f.ErrorIs(got[1].Err, webhook.ErrConflict)
	f.NoError(got[3].Err)
	f.True(got[3].Duplicate)
	f.Equal(first.ID, got[3].EventID)
	for _, i := range []int{0, 2, 4} {
		f.Equal(webhook.InsertedEvent{EventID: es[i].ID, Deliveries: 1}, got[i])
		f.Equal(es[i].Payload, f.deliveryOf(w, es[i].ID).Payload)
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{}), 5)

	f.Empty(f.insert(webhook.InsertParams{}).Events)
}

func manyEventsInOneCall(f *fixture) {
	ws := []webhook.Webhook{
		f.webhook(subscribed(messages)), f.webhook(subscribed(messages)), f.webhook(inactive, subscribed(messages)),
	}
	elsewhere := f.webhook(in(umbrella), subscribed(messages))
	es := f.events(200)
	for i := range es {
		if i%10 == 9 {
			es[i].OrganizationID = umbrella
		}
	}
	for i, e := range f.publish(es...) {
		want := webhook.InsertedEvent{EventID: es[i].ID, Deliveries: len(ws)}
		if i%10 == 9 {
			want.Deliveries = 1
		}
		f.Equal(want, e)
	}

	// Later in the call is later in each webhook's list.
	for _, w := range append(ws, elsewhere) {
		var want, got []uuid.UUID
		for _, e := range slices.Backward(es) {
			if e.OrganizationID == w.OrganizationID {
				want = append(want, e.ID)
			}
		}
		for _, d := range f.deliveries(scopeOf(w), webhook.DeliveryQuery{WebhookID: w.ID, Limit: webhook.MaxPageSize}) {
			got = append(got, d.EventID)
		}
		f.Equal(want, got)
	}
}

func leaseTakesWhatTakeAccepts(f *fixture) {
	w, left := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	es := f.events(3)
	es[2].TraceContext = traceContext // of one alone
	f.pass(time.Second)
	got := f.insert(webhook.InsertParams{Events: es, Lease: &webhook.InsertLease{
		For:  lease,
		Take: func(eventID, webhookID uuid.UUID, _ string) bool { return webhookID == w.ID && eventID != es[1].ID },
	}})
	for i, e := range got.Events {
		f.Equal(webhook.InsertedEvent{EventID: es[i].ID, Deliveries: 2}, e)
	}
	claims := map[uuid.UUID]webhook.Claim{}
	tokens := map[uuid.UUID]bool{}
	for _, c := range got.Claims {
		claims[c.EventID], tokens[c.Token] = c, true
	}
	f.Len(got.Claims, 2)
	f.Len(claims, 2)
	f.Len(tokens, 2)
	f.NotContains(tokens, uuid.UUID{})

	for _, i := range []int{0, 2} {
		d, c := f.deliveryOf(w, es[i].ID), claims[es[i].ID]
		f.Equal(webhook.Claim{
			DeliveryID: d.ID, EventID: es[i].ID, WebhookID: w.ID, OrganizationID: acme, EventType: es[i].Type,
			Attempt: 1, Token: c.Token, DueAt: f.now, LeasedUntil: f.now.Add(lease),
			EndpointURL: w.EndpointURL, Secret: f.secrets[w.ID], Payload: es[i].Payload, TraceContext: es[i].TraceContext,
		}, c)
		f.Equal(webhook.Delivery{
			ID: d.ID, EventID: es[i].ID, WebhookID: w.ID, OrganizationID: acme, EventType: es[i].Type, Subject: room,
			State: webhook.DeliveryPending, Attempts: 1, DueAt: d.DueAt, LeasedUntil: f.now.Add(lease),
			CreatedAt: f.now, Payload: es[i].Payload,
		}, d)
	}
	f.Equal(2, f.leased(w))

	// The rest is claimed as ever, what was taken is not, and ends as ever.
	rest := map[uuid.UUID]int{}
	for _, c := range f.claimAll() {
		rest[c.WebhookID]++
		f.NotContains(tokens, c.Token)
	}
	f.Equal(map[uuid.UUID]int{w.ID: 1, left.ID: 3}, rest)
	f.succeed(claims[es[0].ID])
	f.pass(lease)
	f.Equal(5, f.settle(webhook.DefaultSchedule()))
	f.Equal(webhook.OutcomeInterrupted, f.log(f.deliveryOf(w, es[2].ID))[0].Outcome)

	// A test event may be taken like any other.
	probe := f.event(asTest)
	got = f.insert(webhook.InsertParams{Events: []webhook.EventRecord{probe}, Only: w.ID, Lease: &webhook.InsertLease{
		For: lease, Take: func(_, _ uuid.UUID, _ string) bool { return true },
	}})
	f.Len(got.Claims, 1)
	f.True(got.Claims[0].Test)
	f.Equal(probe.Payload, got.Claims[0].Payload)
	f.exhaust(got.Claims[0])
	f.Equal(webhook.DeliveryFailed, f.deliveryOf(w, probe.ID).State)
}

func takeIsAskedAboutActiveWebhooks(f *fixture) {
	type question struct {
		event, webhook uuid.UUID
		organization   string
	}
	a, b, c := f.webhook(subscribed(messages)), f.webhook(subscribed(messages)), f.webhook(in(umbrella), subscribed(messages))
	dormant := f.webhook(inactive, subscribed(messages))
	es := f.events(2)
	es[1].OrganizationID = umbrella

	var mu sync.Mutex
	asked := map[question]bool{}
	got := f.insert(webhook.InsertParams{Events: es, Lease: &webhook.InsertLease{
		For: lease,
		Take: func(eventID, webhookID uuid.UUID, organizationID string) bool {
			mu.Lock()
			defer mu.Unlock()
			asked[question{eventID, webhookID, organizationID}] = true
			return false
		},
	}})
	f.Empty(got.Claims)
	f.Equal(map[question]bool{
		{es[0].ID, a.ID, acme}: true, {es[0].ID, b.ID, acme}: true, {es[1].ID, c.ID, umbrella}: true,
	}, asked)
	f.Len(f.claimAll(), 3)
	f.Equal(webhook.DeliveryHeld, f.deliveryOf(dormant, es[0].ID).State)

	// Neither a duplicate nor a failed event leaves a claim.
	got = f.insert(webhook.InsertParams{
		Events: []webhook.EventRecord{es[0], f.event(keyed("key")), f.event(keyed("key"))},
		Lease:  &webhook.InsertLease{For: lease, Take: func(_, _ uuid.UUID, _ string) bool { return true }},
	})
	f.ErrorIs(got.Events[0].Err, webhook.ErrConflict)
	f.True(got.Events[2].Duplicate)
	f.Len(got.Claims, 2)
	for _, claim := range got.Claims {
		f.Equal(got.Events[1].EventID, claim.EventID)
	}
}

func s8() []test {
	return []test{
		{"AFurtherEventIsADuplicate", aFurtherEventIsADuplicate},
		{"TheTraceContextIsTheFirstOnes", theTraceContextIsTheFirstOnes},
		{"TwoInOneCallAreOne", twoInOneCallAreOne},
		{"ConcurrentInsertsStoreOne", concurrentInsertsStoreOne},
	}
}

func aFurtherEventIsADuplicate(f *fixture) {
	w := f.webhook(subscribed(messages))
	first := f.event(keyed("key"))
	f.Equal(webhook.InsertedEvent{EventID: first.ID, Deliveries: 1}, f.publish(first)[0])

	// Whatever else it says, and also when the first one has been delivered.
	different := f.event(keyed("key"), ofType(transcripts.EventType), about(hall))
	for _, further := range []webhook.EventRecord{f.event(keyed("key")), different, f.event(keyed("key"))} {
		f.True(f.publish(first)[0].Duplicate) // the very same, which is no conflict
		got := f.publish(further)[0]
		f.True(got.Duplicate)
		f.Equal(first.ID, got.EventID)
		for _, c := range f.claimAll() {
			f.succeed(c)
		}
		f.pass(24 * time.Hour)

		// Its own id is not taken.
		further.IdempotencyKey = ""
		f.Equal(further.ID, f.publish(further)[0].EventID)
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID}), 3)
	f.Equal(first.Payload, f.deliveryOf(w, first.ID).Payload)

	// No key is not a key.
	for range 2 {
		f.False(f.publish(f.event())[0].Duplicate)
	}

	// Another organization has keys of its own.
	f.webhook(in(umbrella), subscribed(messages))
	foreign, again := f.event(keyed("key")), f.event(keyed("key"))
	foreign.OrganizationID, again.OrganizationID = umbrella, umbrella
	got := f.publish(foreign, again)
	f.Equal(webhook.InsertedEvent{EventID: foreign.ID, Deliveries: 1}, got[0])
	f.True(got[1].Duplicate)
	f.Equal(foreign.ID, got[1].EventID)
}

// A duplicate changes nothing of the event that is stored, and every attempt gets
// what that one came with.
func theTraceContextIsTheFirstOnes(f *fixture) {
	w := f.webhook(subscribed(messages))
	first, second, plain := f.event(keyed("key")), f.event(keyed("key")), f.event()
	first.TraceContext, second.TraceContext = "the first one's", "the second one's"
	f.True(f.publish(first, second, plain)[1].Duplicate)
	f.True(f.publish(second)[0].Duplicate)
	for range 3 {
		claims := f.claimAll()
		f.Len(claims, 2)
		for _, c := range claims {
			f.Equal(map[uuid.UUID]string{first.ID: "the first one's", plain.ID: ""}[c.EventID], c.TraceContext)
			f.fail(c)
		}
		f.pass(wait)
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID}), 2)
}

func twoInOneCallAreOne(f *fixture) {
	w := f.webhook(subscribed(messages))
	es := []webhook.EventRecord{f.event(keyed("a")), f.event(keyed("b")), f.event(keyed("a")), f.event(), f.event(keyed("a"))}
	got := f.publish(es...)
	for _, i := range []int{0, 1, 3} {
		f.Equal(webhook.InsertedEvent{EventID: es[i].ID, Deliveries: 1}, got[i])
	}
	for _, i := range []int{2, 4} {
		f.True(got[i].Duplicate)
		f.Equal(es[0].ID, got[i].EventID)
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID}), 3)
}

func concurrentInsertsStoreOne(f *fixture) {
	const callers = 8
	w := f.webhook(subscribed(messages))
	batches := make([][]webhook.EventRecord, callers)
	for i := range batches {
		batches[i] = []webhook.EventRecord{f.event(), f.event(keyed("one")), f.event(keyed("two"))}
	}
	type answer struct {
		events []webhook.InsertedEvent
		err    error
	}
	answers := together(callers, func(i int) answer {
		got, err := f.store.InsertEvents(f.ctx(), webhook.InsertParams{Events: batches[i], Now: noon})
		return answer{got.Events, err}
	})
	stored := map[int]uuid.UUID{}
	for i, a := range answers {
		f.NoError(a.err)
		f.Equal(webhook.InsertedEvent{EventID: batches[i][0].ID, Deliveries: 1}, a.events[0])
		for _, k := range []int{1, 2} {
			f.NoError(a.events[k].Err)
			if !a.events[k].Duplicate {
				f.NotContains(stored, k, "stored twice")
				stored[k] = batches[i][k].ID
			}
		}
	}
	f.Len(stored, 2)
	for i, a := range answers {
		for _, k := range []int{1, 2} {
			f.Equal(stored[k], a.events[k].EventID, "caller %d", i)
		}
	}
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{WebhookID: w.ID}), callers+2)
}
