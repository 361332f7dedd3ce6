// Quickstart is a chat product, four webhooks of one of its customers, and the
// receiver they lead to, in one process. From the root of the repository:
//
//	go run ./examples/quickstart -once
//
// It publishes three events, walks through the 14 h 36 m of retries on a clock
// that it moves by hand, prints the delivery log, and compares it with what the
// receiver saw. The requests are real: signed POSTs, HTTPS over loopback.
//
// Without -once it then runs as a service would, on the real clock with an
// event a second, until Ctrl-C.
//
// Everything is kept in an SQLite file, whose name it prints, and which -db
// changes: a second run begins with the log of the first.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
	"github.com/posthorn/webhook/webhooktest"
)

// Two people of one organization. The library authenticates nobody: the host
// says who is calling, and the Manager what that person may do.
var (
	admin  = webhook.Actor{ID: "alice", OrganizationID: "acme", Role: webhook.RoleAdmin}
	viewer = webhook.Actor{ID: "victor", OrganizationID: "acme", Role: webhook.RoleViewer}
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

// events are what happens in the product. Those of the room name the space as a
// parent, so that they also go to whoever is subscribed to the space.
var events = []webhook.Event{
	{OrganizationID: "acme", Type: messageSent, Subject: room, Parents: []webhook.Subject{space}, Data: map[string]string{"text": "Shall we record this?"}},
	{OrganizationID: "acme", Type: transcript, Subject: room, Parents: []webhook.Subject{space}, Data: map[string]string{"language": "en"}},
	{OrganizationID: "acme", Type: messageSent, Subject: space, Data: map[string]string{"text": "The transcript is out."}},
}

// registrations are the webhooks to create, and how the receiver answers them.
var registrations = []struct {
	name, path    string
	answer        answer
	subscriptions []webhook.Subscription
}{
	{"Archive", "/archive", always(http.StatusNoContent), subscribe(space, messageSent, transcript)},
	{"Chat bot", "/bot", failingTwice, subscribe(room, messageSent)},
	{"Old CRM", "/crm", always(http.StatusInternalServerError), subscribe(room, messageSent, transcript)},
	{"Prototype", "/prototype", always(http.StatusBadGateway), subscribe(room, messageSent)},
}

func subscribe(s webhook.Subject, types ...webhook.EventType) []webhook.Subscription {
	var subs []webhook.Subscription
	for _, t := range types {
		subs = append(subs, webhook.Subscription{Subject: s, EventType: t})
	}
	return subs
}

func main() {
	once := flag.Bool("once", false, "end after the walk through the schedule")
	file := flag.String("db", defaultFile(), "the `file` in which everything is kept")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *file, *once)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart: failed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, file string, once bool) error {
	file, release, err := take(ctx, out, file)
	if err != nil {
		return err
	}
	defer release()
	// A service has its database open already. For SQLite, sqlstore asks for
	// these settings; PostgreSQL and MySQL need none.
	db, err := sql.Open("sqlite", uri(file)+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	// Its tables begin with "posthorn_", beside those of the service, which would
	// give it a Keyring.
	store, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{InsecurePlaintextSecrets: true})
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	say(out, "everything is kept in %s; to begin afresh, delete it\n", file)
	before, err := lookBack(ctx, store)
	if err != nil {
		return err
	}
	if err := before.print(out); err != nil {
		return err
	}

	// Each walk takes the log 14 h 36 m on. The next one goes on from there.
	start := latest(time.Now(), before.end)
	if err := walk(ctx, out, store, start); err != nil || once {
		return err
	}
	return serve(ctx, out, store)
}

// host is what a service holds of the library.
type host struct {
	dispatcher *webhook.Dispatcher
	publisher  *webhook.Publisher
	manager    *webhook.Manager
}

// wire is what it takes to embed the library. A service leaves out the HTTPDoer,
// the clocks and the prefixes: the defaults are the strict ones.
func wire(store webhook.Store, rcv *receiver, clock webhook.Clock, log *slog.Logger, notifier webhook.Notifier) (h host, err error) {
	// Webhooks go to public addresses only. Loopback is opened twice: for people
	// who register an endpoint, and for the sockets that connect to it.
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback, RootCAs: rcv.rootCAs(), Logger: log})
	if err != nil {
		return h, err
	}
	h.dispatcher, err = webhook.NewDispatcher(store, webhook.DispatcherConfig{
		HTTPDoer: client, Clock: clock, Notifier: notifier, Logger: log,
	})
	if err != nil {
		return h, err
	}
	h.publisher, err = webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: h.dispatcher, Clock: clock})
	if err != nil {
		return h, err
	}
	h.manager, err = webhook.NewManager(store, webhook.ManagerConfig{
		Dispatcher: h.dispatcher, Clock: clock, AllowedPrefixes: loopback, Logger: log,
	})
	return h, err
}

// register creates the first n webhooks, notes their names by id, and returns
// the last one.
func (h host) register(ctx context.Context, rcv *receiver, n int, names map[uuid.UUID]string) (last webhook.Webhook, err error) {
	for _, r := range registrations[:n] {
		var secret webhook.Secret
		last, secret, err = h.manager.Create(ctx, admin, webhook.WebhookInput{
			Name: r.name, EndpointURL: rcv.server.URL + r.path, Subscriptions: r.subscriptions,
		})
		if err != nil {
			return last, err
		}
		names[last.ID] = last.Name
		// Nothing returns the secret a second time: a panel shows it now, and the
		// customer copies it into the receiver's configuration.
		if err := rcv.expect(r.path, secret, r.answer); err != nil {
			return last, err
		}
	}
	return last, nil
}

// deleteAll deletes the webhooks that are left from before: their receiver is
// gone, and was the only one to know their secrets. What they were sent stays in
// the log; what they were still to be sent is cancelled.
func (h host) deleteAll(ctx context.Context) error {
	left, err := h.manager.Webhooks(ctx, admin, webhook.WebhookQuery{Limit: webhook.MaxPageSize})
	if err != nil {
		return err
	}
	for _, w := range left.Items {
		if err := h.manager.Delete(ctx, admin, w.ID); err != nil {
			return err
		}
	}
	return nil
}

// walk goes through the whole schedule, on a clock that stands until it is
// moved.
func walk(ctx context.Context, out io.Writer, store webhook.Store, start time.Time) error {
	clock := webhooktest.NewClock(start)
	rcv := newReceiver(clock)
	defer rcv.server.Close()
	h, err := wire(store, rcv, clock, nil, noticePrinter{out})
	if err != nil {
		return err
	}
	if err := h.deleteAll(ctx); err != nil {
		return err
	}
	names := map[uuid.UUID]string{}
	doomed, err := h.register(ctx, rcv, len(registrations), names)
	if err != nil {
		return err
	}
	say(out, "an admin registers %d webhooks at %s\n", len(names), rcv.server.URL)
	if _, _, err = h.manager.Create(ctx, viewer, webhook.WebhookInput{Name: "Mine"}); !errors.Is(err, webhook.ErrForbidden) {
		return errors.New("a viewer tried to register a webhook and did not get ErrForbidden")
	}
	say(out, "a viewer tries to register one: %v\n", err)

	for _, e := range events {
		p, err := h.publisher.Publish(ctx, e)
		if err != nil {
			return err
		}
		say(out, "published %s of the %s; deliveries: %d\n", e.Type, e.Subject.Type, p.Deliveries)
	}
	// Every delivery's first attempt. What failed is due again in a minute.
	if err := h.round(ctx, out, clock); err != nil {
		return err
	}
	retries, err := h.manager.Deliveries(ctx, viewer, webhook.DeliveryQuery{WebhookID: doomed.ID, State: webhook.DeliveryPending})
	if err != nil {
		return err
	}
	// From here on nothing is sent there, whatever was planned.
	if err := h.manager.Delete(ctx, admin, doomed.ID); err != nil {
		return err
	}
	say(out, "the admin deletes %s; retries pending until now: %d\n", doomed.Name, len(retries.Items))

	// NextDue is when there is something to do again, a notice included, and
	// zero when everything is done. Nobody has to wait for it: the clock jumps.
	for next := h.dispatcher.NextDue(); !next.IsZero(); next = h.dispatcher.NextDue() {
		clock.AdvanceTo(next)
		if err := h.round(ctx, out, clock); err != nil {
			return err
		}
	}
	r, err := newReport(ctx, h.manager, names)
	if err != nil {
		return err
	}
	if err := r.printLog(out, names); err != nil {
		return err
	}
	return r.conclude(out, rcv, 0)
}

// round makes the attempts that are due.
func (h host) round(ctx context.Context, out io.Writer, clock webhook.Clock) error {
	n, err := h.dispatcher.RunOnce(ctx)
	say(out, "%s; attempts: %d\n", clock.Now().Format(time.DateTime), n)
	return err
}

// serve is how a service does it: the dispatcher has a goroutine of its own,
// and events are published where they happen.
func serve(ctx context.Context, out io.Writer, store webhook.Store) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	names := map[uuid.UUID]string{}
	rcv := newReceiver(nil)
	defer rcv.server.Close()
	h, err := wire(store, rcv, nil, attemptLog(out, names), noticePrinter{out})
	if err != nil {
		return err
	}
	if err := h.deleteAll(ctx); err != nil {
		return err
	}
	if _, err := h.register(ctx, rcv, 2, names); err != nil {
		return err
	}
	say(out, "\nNow on the real clock: an event a second, and failed attempts again a minute later. Ctrl-C ends it.\n")

	ended := make(chan error, 1)
	go func() { ended <- h.dispatcher.Run(ctx) }()
	err = h.publishEachSecond(ctx)
	stop()
	// Before Run returns nil, attempts in flight have ended and are on record.
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	r, err := newReport(context.WithoutCancel(ctx), h.manager, names)
	if err != nil {
		return err
	}
	return r.conclude(out, rcv, r.states[webhook.DeliveryPending])
}

// publishEachSecond returns nil when ctx ends.
func (h host) publishEachSecond(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for ctx.Err() == nil {
		if _, err := h.publisher.Publish(ctx, events[0]); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-second.C:
		case <-ctx.Done():
		}
	}
	return nil
}
