// Transactional is a shop that tells of its orders by webhook. An order and its
// event are one transaction: they commit together, or neither has ever been.
// From the root of the repository:
//
//	go run ./examples/transactional
//	go run ./examples/transactional -dsn 'postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable'
//
// Without -dsn it works on SQLite, in a temporary file; on PostgreSQL in a schema
// of its own, which it drops in the end.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
)

// The branch that the orders are placed in is what one can subscribe to, and
// orders are what it tells of.
var (
	branch      = webhook.Subject{Type: "branch", ID: "2c5a8f5e-3f0b-4b7e-9d35-8a0c8c1f7e11"}
	orderPlaced = webhook.DefineEvent("order_placed", "Order Placed", order{1, "Ada", 3})
)

func catalog() (*webhook.Catalog, error) {
	return webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{Type: branch.Type, Title: "Branch"}},
		[]webhook.EventTypeInfo{orderPlaced.Info()},
	)
}

var admin = webhook.Actor{ID: "alice", OrganizationID: "teapots", Role: webhook.RoleAdmin}

// inStock is how many teapots there are to sell: too few for all of the orders.
const inStock = 10

type order struct {
	Number   int    `json:"number"`
	Customer string `json:"customer"`
	Teapots  int    `json:"teapots"`
}

var orders = []order{{1, "Ada", 3}, {2, "Ben", 4}, {3, "Cleo", 5}, {4, "Dan", 2}}

func main() {
	dsn := flag.String("dsn", "", "a PostgreSQL `database`, as a URL or as key=value pairs; without it, SQLite")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *dsn)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "transactional: failed:", err)
		os.Exit(1)
	}
}

// shop is a service that embeds the library: its own database, and what it holds
// of the library.
type shop struct {
	db         *sql.DB
	store      *sqlstore.Store
	dispatcher *webhook.Dispatcher
	publisher  *webhook.Publisher
	manager    *webhook.Manager
}

func run(ctx context.Context, out io.Writer, dsn string) (err error) {
	db, err := openDatabase(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.remove()) }()
	say(out, "a shop with %d teapots keeps everything in %s\n", inStock, db.place)
	rcv := newReceiver()
	defer rcv.server.Close()
	s, err := open(ctx, db, rcv)
	if err != nil {
		return err
	}
	_, secret, err := s.manager.Create(ctx, admin, webhook.WebhookInput{
		Name: "Warehouse", EndpointURL: rcv.server.URL,
		Subscriptions: []webhook.Subscription{{Subject: branch, EventType: orderPlaced.Type()}},
	})
	if err != nil {
		return err
	}
	if err := rcv.trust(secret); err != nil {
		return err
	}

	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.dispatcher.Run(running) }() // delivers what is committed, as soon as it is
	committed, rolledBack, err := s.sell(ctx, out, rcv)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	return s.conclude(ctx, out, rcv, committed, rolledBack)
}

// secretKeys returns what webhooks' secrets are sealed with: from where a service
// keeps such things, and here, where the database is thrown away, a new key.
func secretKeys() string {
	if keys := os.Getenv("WEBHOOK_KEYS"); keys != "" {
		return keys
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // which never fails
	return "throwaway:" + base64.StdEncoding.EncodeToString(key)
}

// open wires the parts together, and makes the tables of the shop and those of
// the library beside them.
func open(ctx context.Context, db database, rcv *receiver) (s shop, err error) {
	s.db = db.DB
	for _, statement := range []string{
		"create table orders (number integer primary key, customer text not null, teapots integer not null)",
		"create table stock (teapots integer not null)",
		fmt.Sprintf("insert into stock (teapots) values (%d)", inStock),
	} {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return s, err
		}
	}
	keys, err := sqlstore.ParseKeyring(secretKeys())
	if err != nil {
		return s, err
	}
	s.store, err = sqlstore.New(s.db, db.dialect, sqlstore.Config{Keyring: keys})
	if err != nil {
		return s, err
	}
	if err := s.store.Migrate(ctx); err != nil {
		return s, err
	}

	catalog, err := catalog()
	if err != nil {
		return s, err
	}
	// The receiver is on loopback, which a service leaves closed.
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback, RootCAs: rcv.rootCAs()})
	if err != nil {
		return s, err
	}
	s.dispatcher, err = webhook.NewDispatcher(s.store, webhook.DispatcherConfig{HTTPDoer: client})
	if err != nil {
		return s, err
	}
	s.publisher, err = webhook.NewPublisher(s.store, webhook.PublisherConfig{Dispatcher: s.dispatcher, Catalog: catalog})
	if err != nil {
		return s, err
	}
	s.manager, err = webhook.NewManager(s.store, webhook.ManagerConfig{
		Dispatcher: s.dispatcher, Catalog: catalog, AllowedPrefixes: loopback,
	})
	return s, err
}

var errSoldOut = errors.New("there are not enough teapots left")

// place stores an order and its event in one transaction. Nobody has to be told
// of the commit: the dispatcher looks for it.
func (s shop) place(ctx context.Context, o order) (published webhook.Published, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return published, err
	}
	defer tx.Rollback() // of what has not been committed by then
	_, err = tx.ExecContext(ctx, "insert into orders (number, customer, teapots) values ($1, $2, $3)", o.Number, o.Customer, o.Teapots)
	if err != nil {
		return published, err
	}
	published, err = s.publisher.PublishTx(ctx, s.store.WithTx(tx), orderPlaced.New(admin.OrganizationID, branch, o))
	if err != nil {
		return published, err
	}
	// The event is written, but until the commit nobody else sees it. Whatever
	// goes wrong now takes it along.
	taken, err := tx.ExecContext(ctx, "update stock set teapots = teapots - $1 where teapots >= $1", o.Teapots)
	if err != nil {
		return published, err
	}
	if n, err := taken.RowsAffected(); err != nil || n == 0 {
		return published, errors.Join(err, errSoldOut)
	}
	return published, tx.Commit()
}

// sell places the orders, and waits until the events of those that were
// committed have arrived.
func (s shop) sell(ctx context.Context, out io.Writer, rcv *receiver) (committed, rolledBack []webhook.Published, err error) {
	for _, o := range orders {
		published, err := s.place(ctx, o)
		switch {
		case errors.Is(err, errSoldOut):
			rolledBack = append(rolledBack, published)
			say(out, "order %d, %d teapots for %s: rolled back with its event: %v\n", o.Number, o.Teapots, o.Customer, err)
		case err != nil:
			return nil, nil, err
		default:
			committed = append(committed, published)
			say(out, "order %d, %d teapots for %s: committed with its event\n", o.Number, o.Teapots, o.Customer)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for range committed {
		select {
		case o := <-rcv.orders:
			say(out, "the warehouse verifies a request and hears of order %d\n", o.Number)
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("waiting for %d deliveries: %w", len(committed), ctx.Err())
		}
	}
	return committed, rolledBack, nil
}
