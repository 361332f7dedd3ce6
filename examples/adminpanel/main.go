// Adminpanel is a small application with the panel and the JSON API mounted, for
// looking at them. From the root of the repository:
//
//	go run ./examples/adminpanel
//
// Then open http://127.0.0.1:8080. Four users can sign in: an owner, an admin, a
// viewer, and one of the host's own staff. Everything is real: events are published every few seconds and sent over
// HTTPS to receivers in the same process, of which some answer well and some do not.
// The API is at /v1/; a user's name is the bearer token.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/sqlstore"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "the `address` to listen on")
	data := flag.String("data", "", "the `file` in which everything is kept; without it, a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *addr, *data)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "adminpanel: failed:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, out io.Writer, addr, data string) error {
	// First of all, so that an address that is taken is told at once.
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // serving closes it as well
	if data == "" {
		folder, err := os.MkdirTemp("", "posthorn-adminpanel-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		data = filepath.Join(folder, "adminpanel.db")
	}
	db, err := open(data)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	a, err := newApplication(ctx, db)
	if err != nil {
		return err
	}
	defer a.receiver.close()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- a.dispatcher.Run(ctx) }()
	go func() { ended <- a.live(ctx) }()
	server := &http.Server{Handler: a.handler, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_ = server.Shutdown(closing) // Serve says that it is over
	}()
	if _, err := fmt.Fprintf(out, "adminpanel: ready at http://%s\n  sign in as olga (owner), ada (admin), vic (viewer) or sam (staff)\n  an endpoint to try a webhook of your own with: %s/try\n", listener.Addr(), a.receiver.url()); err != nil {
		return err
	}
	err = server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	stop()
	return errors.Join(err, <-ended, <-ended)
}

// open opens the database, as a service has it open already.
func open(file string) (*sql.DB, error) {
	full, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	// It has secrets in it: it is for nobody else to read.
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(full, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	uri := "file:" + (&url.URL{Path: filepath.ToSlash(full)}).EscapedPath()
	return sql.Open("sqlite", uri+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
}

// application is the service that has webhooks.
type application struct {
	receiver   *receiver
	store      *sqlstore.Store
	manager    *webhook.Manager
	publisher  *webhook.Publisher
	dispatcher *webhook.Dispatcher
	handler    http.Handler
}

// newApplication puts it together.
func newApplication(ctx context.Context, db *sql.DB) (a *application, err error) {
	a = &application{}
	a.store, err = sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{InsecurePlaintextSecrets: true}) // a service gives it a Keyring
	if err != nil {
		return nil, err
	}
	if err := a.store.Migrate(ctx); err != nil {
		return nil, err
	}
	if a.receiver, err = newReceiver(ctx, db); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.receiver.close()
		}
	}()

	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback(), RootCAs: a.receiver.rootCAs()})
	if err != nil {
		return nil, err
	}
	// So that nobody has to wait for 14 h 36 m until a delivery has failed.
	schedule, err := webhook.NewSchedule(10*time.Second, 30*time.Second, time.Minute)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	a.dispatcher, err = webhook.NewDispatcher(a.store, webhook.DispatcherConfig{HTTPDoer: client, Schedule: schedule, Logger: log})
	if err != nil {
		return nil, err
	}
	a.publisher, err = webhook.NewPublisher(a.store, webhook.PublisherConfig{Dispatcher: a.dispatcher})
	if err != nil {
		return nil, err
	}
	a.manager, err = webhook.NewManager(a.store, webhook.ManagerConfig{Dispatcher: a.dispatcher, AllowedPrefixes: loopback()})
	if err != nil {
		return nil, err
	}
	if err := a.prepare(ctx, schedule); err != nil {
		return nil, err
	}
	a.handler, err = newHandler(a.manager, a.dispatcher, schedule, log)
	return a, err
}

// loopback is where the receivers are. A service leaves out what it is for: endpoints
// have to be on the public internet.
func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// operationsPath is where the staff's page is.
const operationsPath = "/internal/webhooks"

// newHandler mounts the panel, the staff's page and the API in the application.
func newHandler(manager *webhook.Manager, dispatcher *webhook.Dispatcher, schedule webhook.Schedule, log *slog.Logger) (http.Handler, error) {
	users, mux := newUsers(), http.NewServeMux()
	panel, err := adminui.New(manager, adminui.Config{
		Actor:    users.bySession, // who is signed in, as a webhook.Actor
		Title:    "Acme Webhooks",
		Links:    []adminui.Link{{Title: "Sign out", URL: "/sign-out"}},
		Schedule: schedule, // the dispatcher's
		Logger:   log,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("/admin/webhooks/", users.orSignIn(http.StripPrefix("/admin/webhooks", panel)))

	operations, err := adminui.NewOperations(dispatcher, adminui.OperationsConfig{
		Staff:  users.staffBySession, // who is signed in, and whether they are Acme's own
		Title:  "Acme webhook operations",
		Links:  []adminui.Link{{Title: "Sign out", URL: "/sign-out"}},
		Logger: log,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle(operationsPath+"/", http.StripPrefix(operationsPath, operations))

	api, err := httpapi.New(manager, httpapi.Config{Actor: users.byToken, Logger: log})
	if err != nil {
		return nil, err
	}
	mux.Handle("/v1/", api)
	users.route(mux)
	return mux, nil
}
