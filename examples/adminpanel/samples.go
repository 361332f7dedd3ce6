package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhooktest"
)

// What the events are about: a space, and a room in it.
var (
	space = webhook.Subject{Type: webhook.SubjectSpace, ID: "5d1f2c86-4f0e-4f52-a1c0-3e6f3f7f0b01"}
	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "9a7c1f0a-2b8e-4c0e-8d5e-6f1b2c3d4e02"}
)

const (
	messageSent = webhook.EventMessageSent
	transcript  = webhook.EventRoomRecordingTranscriptPublished
)

func subscribe(s webhook.Subject, types ...webhook.EventType) (list []webhook.Subscription) {
	for _, t := range types {
		list = append(list, webhook.Subscription{Subject: s, EventType: t})
	}
	return list
}

// setup is who prepares the samples.
var setup = webhook.Actor{ID: "ada", OrganizationID: organization, Role: webhook.RoleAdmin}

// prepare creates the sample webhooks, with a week of history, unless they are there
// from an earlier run. Then only the receiver's address is another.
func (a *application) prepare(ctx context.Context, schedule webhook.Schedule) error {
	there, err := a.manager.Webhooks(ctx, setup, webhook.WebhookQuery{Limit: webhook.MaxPageSize})
	if err != nil {
		return err
	}
	if len(there.Items) > 0 {
		return a.move(ctx, there.Items)
	}
	began := time.Now().Add(-historyHours * time.Hour)
	clock := webhooktest.NewClock(began)
	manager, err := webhook.NewManager(a.store, webhook.ManagerConfig{Clock: clock, AllowedPrefixes: loopback()})
	if err != nil {
		return err
	}
	for _, s := range slices.Backward(samples) { // the list shows the newest first
		if err := a.create(ctx, manager, s); err != nil {
			return err
		}
		clock.Advance(time.Second)
	}
	return a.remember(ctx, clock, schedule)
}

func (a *application) create(ctx context.Context, manager *webhook.Manager, s sample) error {
	w, secret, err := manager.Create(ctx, setup, webhook.WebhookInput{
		Name: s.name, Description: s.description, EndpointURL: a.receiver.url() + s.path, Subscriptions: s.subscriptions,
	})
	if err != nil {
		return err
	}
	if s.wrongSecret {
		if secret, err = webhook.NewSecret(); err != nil {
			return err
		}
	}
	if err := a.receiver.remember(ctx, s.path, secret); err != nil {
		return err
	}
	if !s.inactive {
		return nil
	}
	_, err = manager.Update(ctx, setup, w.ID, changed(w, func(ch *webhook.WebhookChange) { ch.Status = webhook.StatusInactive }))
	return err
}

// changed is the change that an edit makes of a webhook.
func changed(w webhook.Webhook, edit func(*webhook.WebhookChange)) webhook.WebhookChange {
	ch := webhook.WebhookChange{
		Version: w.Version, Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL, Status: w.Status, Subscriptions: w.Subscriptions,
		RateLimit: w.RateLimit,
	}
	edit(&ch)
	return ch
}

// move tells the samples of an earlier run where the receiver is now.
func (a *application) move(ctx context.Context, there []webhook.Webhook) error {
	for _, w := range there {
		for _, s := range samples {
			url := a.receiver.url() + s.path
			if w.Name != s.name || w.EndpointURL == url {
				continue
			}
			if _, err := a.manager.Update(ctx, setup, w.ID, changed(w, func(ch *webhook.WebhookChange) { ch.EndpointURL = url })); err != nil {
				return err
			}
		}
	}
	return nil
}

// historyHours is how far the made-up past goes back.
const historyHours = 5 * 24

// remember makes a past, so that charts and logs have something to show: on a clock
// that is moved by hand, and with answers that no receiver gives.
func (a *application) remember(ctx context.Context, clock *webhooktest.Clock, schedule webhook.Schedule) error {
	dispatcher, err := webhook.NewDispatcher(a.store, webhook.DispatcherConfig{HTTPDoer: pastReceivers{}, Clock: clock, Schedule: schedule})
	if err != nil {
		return err
	}
	publisher, err := webhook.NewPublisher(a.store, webhook.PublisherConfig{Clock: clock})
	if err != nil {
		return err
	}
	for hour := range historyHours {
		if quiet := (hour + clock.Now().Hour()) % 6; quiet == 0 {
			clock.Advance(time.Hour)
			continue
		}
		var events []webhook.Event
		for n := range 1 + dice(3) {
			events = append(events, somethingThatHappens(hour*7+n))
		}
		if _, err := publisher.PublishMany(ctx, events); err != nil {
			return err
		}
		if _, err := dispatcher.RunOnce(ctx); err != nil {
			return err
		}
		clock.Advance(time.Hour)
	}
	return nil
}

// pastReceivers answers what was sent in the past.
type pastReceivers struct{}

func (pastReceivers) Do(r *http.Request) (*http.Response, error) {
	<-time.After(dice(25 * time.Millisecond))
	w := http.StatusOK
	switch {
	case r.URL.Path == "/crm", r.URL.Path == "/bot" && dice(5) == 0:
		w = http.StatusInternalServerError
	case r.URL.Path == "/partner":
		w = http.StatusUnauthorized
	}
	return &http.Response{StatusCode: w, Body: http.NoBody}, nil
}

// phrases are what people in the room say.
var phrases = []string{"Shall we record this?", "The release is out.", "Who is on call tonight?", "Lunch?", "I’ll take that one.", "Thanks, looks good to me."}

// somethingThatHappens is the nth event: mostly a message.
func somethingThatHappens(n int) webhook.Event {
	e := webhook.Event{OrganizationID: organization, Type: messageSent, Subject: room, Parents: []webhook.Subject{space}}
	if n%5 == 4 {
		e.Type = transcript
		e.Data = map[string]any{"recording_id": fmt.Sprintf("rec-%04d", n), "language": "en", "duration_seconds": 60 + n%1800}
		return e
	}
	e.Data = map[string]any{"message_id": fmt.Sprintf("msg-%04d", n), "sender": "ada", "text": phrases[n%len(phrases)]}
	return e
}

// live lets something happen every few seconds.
func (a *application) live(ctx context.Context) error {
	for n := 0; ; n++ {
		if _, err := a.publisher.Publish(ctx, somethingThatHappens(n)); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}
