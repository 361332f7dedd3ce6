package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// What goes in and what comes out: S1, S2 and S20.

func s1() []test {
	return []test{
		{"NothingPassedInIsRetained", nothingPassedInIsRetained},
		{"NothingReturnedIsShared", nothingReturnedIsShared},
		{"BytesComeBackAsTheyWentIn", bytesComeBackAsTheyWentIn},
	}
}

func nothingPassedInIsRetained(f *fixture) {
	filtered := webhook.Subscription{
		Subject: room, EventType: webhook.EventMessageSent, Filter: map[string]string{"kind": "chat"},
	}
	scribble := func(subscriptions []webhook.Subscription) {
		subscriptions[0].Filter["kind"] = "scribble"
		subscriptions[0].Subject = hall
	}

	// A webhook's subscriptions, at its creation and at an update.
	w := f.newWebhook(subscribed(filtered))
	w.Subscriptions[0].Filter = map[string]string{"kind": "chat"}
	p := webhook.CreateWebhookParams{Webhook: w.Clone(), Secret: f.secret()}
	f.NoError(f.store.CreateWebhook(f.ctx(), p))
	scribble(p.Webhook.Subscriptions)
	f.Equal(w, f.read(w))

	update := f.updateOf(w)
	_, err := f.store.UpdateWebhook(f.ctx(), update)
	f.NoError(err)
	scribble(update.Change.Subscriptions)
	f.Equal(w.Subscriptions, f.read(w).Subscriptions)

	// An event: its parents decide again when subscriptions change.
	e := f.event(about(hall, room), func(e *webhook.EventRecord) { e.Attributes = map[string]string{"kind": "chat"} })
	payload := slices.Clone(e.Payload)
	f.Equal(1, f.publish(e)[0].Deliveries)
	e.Payload[0], e.Parents[0], e.Attributes["kind"] = 'x', hall, "scribble"
	w = f.change(w, subscribe(filtered, transcripts))
	f.sweep()
	d := f.deliveryOf(w, e.ID)
	f.Equal(webhook.DeliveryPending, d.State)
	f.Equal(payload, d.Payload)

	// An outcome.
	c := f.claimOne()
	f.Equal(payload, c.Payload)
	out := f.outcome(c, webhook.DeliverySucceeded)
	want := out.Attempt
	want.Response = slices.Clone(out.Attempt.Response)
	f.Equal([]error{nil}, f.report(out))
	out.Attempt.Response[0] = 'x'
	f.Equal([]webhook.Attempt{want}, f.log(d))
}

func nothingReturnedIsShared(f *fixture) {
	scribble := func(w webhook.Webhook) {
		w.Subscriptions[0].Filter["kind"] = "scribble"
		w.Subscriptions[0].Subject = hall
	}
	w := f.webhook(subscribed(webhook.Subscription{
		Subject: room, EventType: webhook.EventMessageSent, Filter: map[string]string{"kind": "chat"},
	}))
	scribble(f.read(w))
	scribble(f.webhooks(ours, webhook.WebhookQuery{})[0])
	f.Equal(w, f.read(w))

	updated := f.change(w, func(*webhook.WebhookChange) {})
	scribble(updated)
	w.Version, w.UpdatedBy = 2, "bob"
	f.Equal(w, f.read(w))

	e := f.event(func(e *webhook.EventRecord) { e.Attributes = map[string]string{"kind": "chat"} })
	payload := slices.Clone(e.Payload)
	f.publish(e)
	d := f.deliveryOf(w, e.ID)
	d.Payload[0] = 'x'
	c := f.claimOne()
	f.Equal(payload, c.Payload)
	c.Payload[0] = 'x'
	f.exhaust(c)
	f.Equal(payload, f.delivery(d.ID).Payload)

	log := f.log(d)
	response := slices.Clone(log[0].Response)
	log[0].Response[0] = 'x'
	f.Equal(response, f.log(d)[0].Response)

	f.pass(webhook.NoticeWindow)
	n := f.claimNotice()
	n.Notice.EventTypes[webhook.EventMessageSent] = 1000
	f.retryNotice(n, f.now)
	f.Equal(map[webhook.EventType]int{webhook.EventMessageSent: 1}, f.claimNotice().Notice.EventTypes)
}

func bytesComeBackAsTheyWentIn(f *fixture) {
	var anything []byte
	for b := range 256 {
		anything = append(anything, byte(b))
	}
	anything = append(anything, "\x00\xff😀 \r\n\\'\"%"...)
	const text = "Rüm 😀 '\"\\%_ ;--\n\tend"

	subject := webhook.Subject{Type: "room_2", ID: text}
	w := f.webhook(func(w *webhook.Webhook) {
		w.Name, w.Description, w.EndpointURL = text, text, "https://archive.example/?q=%F0%9F%98%80&x='"
		w.CreatedBy, w.UpdatedBy = text, text
		w.Subscriptions = []webhook.Subscription{
			{Subject: subject, EventType: "some_event", Filter: map[string]string{text: text, "empty": ""}},
		}
	})
	f.Equal(w, f.read(w))
	f.Equal([]webhook.Webhook{w}, f.webhooks(ours, webhook.WebhookQuery{}))

	e := f.event(about(hall, subject), ofType("some_event"), func(e *webhook.EventRecord) {
		e.Attributes, e.Payload, e.IdempotencyKey = map[string]string{text: text, "empty": ""}, anything, text
	})
	f.Equal(1, f.publish(e)[0].Deliveries)
	f.Equal(anything, f.deliveryOf(w, e.ID).Payload)

	c := f.claimOne()
	f.Equal(anything, c.Payload)
	f.Equal(w.EndpointURL, c.EndpointURL)
	out := f.outcome(c, webhook.DeliverySucceeded)
	out.Attempt.Response, out.Attempt.Error = anything, text
	f.Equal([]error{nil}, f.report(out))
	f.Equal([]webhook.Attempt{out.Attempt}, f.attempts(ours, webhook.AttemptQuery{}))
}

func s2() []test {
	return []test{
		{"TimesAreUTCMicroseconds", timesAreUTCMicroseconds},
		{"StringsCompareBytewise", stringsCompareBytewise},
		{"NoClockIsRead", noClockIsRead},
	}
}

func timesAreUTCMicroseconds(f *fixture) {
	// The fixture's times are kept as they are. These are not.
	east := time.FixedZone("east", 5*3600+1800)
	foreign := func(t time.Time) time.Time { return t.Add(789 * time.Nanosecond).In(east) }

	w := f.newWebhook()
	given := w.Clone()
	given.CreatedAt, given.UpdatedAt, given.StatusSince = foreign(w.CreatedAt), foreign(w.UpdatedAt), foreign(w.StatusSince)
	f.NoError(f.create(given, 0))
	f.Equal(w, f.read(w))

	f.pass(time.Second)
	update := f.updateOf(w)
	update.Now = foreign(f.now)
	got, err := f.store.UpdateWebhook(f.ctx(), update)
	f.NoError(err)
	f.Equal(f.now, got.UpdatedAt)
	f.Equal(got, f.read(w))

	f.pass(time.Second)
	e := f.event(wantedBy(w), func(e *webhook.EventRecord) { e.OccurredAt = foreign(e.OccurredAt) })
	f.insert(webhook.InsertParams{Events: []webhook.EventRecord{e}, Now: foreign(f.now)})
	d := f.deliveryOf(w, e.ID)
	f.Equal(f.now, d.CreatedAt)
	f.Equal(f.now, d.DueAt)

	claims := f.claim(webhook.ClaimParams{Now: foreign(f.now)}).Claims
	f.Len(claims, 1)
	f.Equal(f.now, claims[0].DueAt)
	f.Equal(f.now.Add(lease), claims[0].LeasedUntil)
	f.Equal(f.now.Add(lease), f.delivery(d.ID).LeasedUntil)

	out := f.outcome(claims[0], webhook.DeliveryPending)
	want := out.Attempt
	out.Attempt.StartedAt, out.DueAt = foreign(out.Attempt.StartedAt), foreign(out.DueAt)
	f.Equal([]error{nil}, f.report(out))
	f.Equal([]webhook.Attempt{want}, f.log(d))
	f.Equal(f.now.Add(wait), f.delivery(d.ID).DueAt)
	f.Equal(f.now.Add(wait), f.nextDue())

	f.pass(wait)
	c := f.claimOne()
	f.pass(time.Second)
	done, err := f.store.Finish(f.ctx(), webhook.FinishParams{
		Now: foreign(f.now), Outcomes: []webhook.FinishedAttempt{f.outcome(c, webhook.DeliverySucceeded)},
	})
	f.NoError(err)
	f.Equal([]error{nil}, done.Errs)
	f.Equal(f.now, f.delivery(d.ID).FinishedAt)

	// A bound of a query means the same moment in every zone.
	f.Len(f.deliveries(ours, webhook.DeliveryQuery{Since: d.CreatedAt.In(east)}), 1)
	f.Empty(f.deliveries(ours, webhook.DeliveryQuery{Before: d.CreatedAt.In(east)}))
}

// stringsCompareBytewise takes texts that some collation holds to be the same.
func stringsCompareBytewise(f *fixture) {
	texts := []string{"room", "Room", "room ", " room", "röm", "ro\u0308m", "rom", "straße", "strasse", "1", "01"}

	// As organizations, subjects and values of filters.
	for _, text := range texts {
		w := f.webhook(in(text), subscribed(
			webhook.Subscription{Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: text}, EventType: webhook.EventMessageSent},
			webhook.Subscription{Subject: hall, EventType: webhook.EventMessageSent, Filter: map[string]string{"kind": text}},
		))
		f.Equal([]webhook.Webhook{w}, f.webhooks(webhook.Scope{OrganizationID: text}, webhook.WebhookQuery{}))
	}
	for _, organization := range texts {
		for _, text := range texts {
			es := f.events(2, about(webhook.Subject{Type: webhook.SubjectRoom, ID: text}), func(e *webhook.EventRecord) {
				e.OrganizationID = organization
			})
			es[1].Subject, es[1].Attributes = hall, map[string]string{"kind": text}
			got := f.publish(es...)
			want := 0
			if text == organization {
				want = 1
			}
			f.Equal([]int{want, want}, []int{got[0].Deliveries, got[1].Deliveries}, "%q in %q", text, organization)
		}
	}

	// As keys of attributes, and as idempotency keys.
	for _, text := range texts {
		e := f.event(about(hall), keyed(text), func(e *webhook.EventRecord) {
			e.OrganizationID, e.Attributes = "room", map[string]string{text: "room", "kind": "none"}
		})
		f.False(f.publish(e)[0].Duplicate, "%q", text)
	}

	// As bounds of claims.
	caps := map[string]int{"room ": 0}
	got := f.claim(webhook.ClaimParams{PerOrganization: 1, OrganizationCaps: caps}).Claims
	f.Len(got, len(texts)-1)
	for _, c := range got {
		f.NotEqual("room ", c.OrganizationID)
	}
}

// noClockIsRead does the same work in the past and in the future.
func noClockIsRead(f *fixture) {
	for _, year := range []int{2001, 2101} {
		f.now = time.Date(year, time.June, 1, 0, 0, 0, 0, time.UTC)
		w := f.webhook()
		d := f.deliverOne(w)
		f.Equal(f.now, d.CreatedAt)
		f.fail(f.claimOne())
		f.Equal(f.now.Add(wait), f.delivery(d.ID).DueAt)
		f.Empty(f.claimAll())

		f.pass(wait)
		f.claimOne()
		f.Equal(1, f.leased(w))
		f.pass(lease)
		f.Zero(f.leased(w))
		f.Equal(1, f.settle(f.schedule()))
		f.Equal(webhook.DeliveryFailed, f.state(d))

		f.pass(webhook.NoticeWindow)
		f.sent(f.claimNotice())
		f.Equal(1, f.purge(webhook.PurgeParams{DeliveriesBefore: f.now}).Deliveries)
		f.Empty(f.deliveries(ours, webhook.DeliveryQuery{}))
	}
}

func s20() []test {
	return []test{
		{"ClaimsCarryTheSecret", claimsCarryTheSecret},
		{"NoReadReturnsIt", noReadReturnsIt},
	}
}

func claimsCarryTheSecret(f *fixture) {
	a, b := f.webhook(subscribed(messages)), f.webhook(subscribed(messages))
	secretOf := func(claims []webhook.Claim) map[uuid.UUID]string {
		got := map[uuid.UUID]string{}
		for _, c := range claims {
			got[c.WebhookID] = c.Secret.Reveal()
		}
		return got
	}
	want := map[uuid.UUID]string{a.ID: f.secrets[a.ID].Reveal(), b.ID: f.secrets[b.ID].Reveal()}

	got := f.insert(webhook.InsertParams{Events: f.events(1), Lease: &webhook.InsertLease{
		For: lease, Take: func(_, _ uuid.UUID, _ string) bool { return true },
	}})
	f.Equal(want, secretOf(got.Claims))

	f.publish(f.event())
	f.Equal(want, secretOf(f.claimAll()))

	// An edit leaves the secret as it was.
	f.change(a, func(c *webhook.WebhookChange) { c.EndpointURL = "https://elsewhere.example/" })
	f.publish(f.event())
	f.Equal(want, secretOf(f.claimAll()))
}

func noReadReturnsIt(f *fixture) {
	w := f.webhook()
	f.exhaust(f.claimOf(f.deliverOne(w)))
	updated := f.change(w, func(c *webhook.WebhookChange) { c.Name = "Renamed" })
	redelivered, err := f.redeliver(f.deliveries(ours, webhook.DeliveryQuery{})[0])
	f.NoError(err)
	f.pass(webhook.NoticeWindow)

	read := []any{updated, redelivered, f.contents(ours), f.claimNotice().Notice}
	text, err := json.Marshal(read)
	f.NoError(err)
	secret := f.secrets[w.ID].Reveal()
	for _, got := range []string{string(text), fmt.Sprintf("%+v %#v %s", read, read, read)} { // %s for bytes
		f.NotContains(got, secret)
		f.NotContains(got, secret[len(secret)-20:])
	}
}
