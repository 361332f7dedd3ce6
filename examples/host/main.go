// Host is the application that docs/quickstart.md builds: a chat whose messages are told
// by webhook. It has PostgreSQL, the panel, and mail about what failed for good.
package main

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/smtpnotify"
	"github.com/posthorn/webhook/sqlstore"
)

const room = "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"

type config struct {
	addr, database, keys, password string
	mail                           webhook.Notifier
	schedule                       webhook.Schedule

	// For receivers on localhost. In production there are none.
	loopback []netip.Prefix
	client   webhook.HTTPDoer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
}

// start reads the configuration, and serves until ctx ends.
func start(ctx context.Context) (err error) {
	cfg := config{database: os.Getenv("DATABASE_URL"), keys: os.Getenv("WEBHOOK_KEYS"), password: os.Getenv("PANEL_PASSWORD")}
	flag.StringVar(&cfg.addr, "addr", "127.0.0.1:8080", "the `address` to listen on")
	trust := flag.String("trust", "", "a `file` with the certificate of a receiver on localhost, for development")
	fast := flag.Bool("fast", false, "gives up after 3 s instead of 14 h 36 m, for development")
	relay := flag.String("smtp", "", "the mail relay's `host:port`; without it, what would be mailed is logged")
	flag.Parse()
	if cfg.password == "" {
		return errors.New("PANEL_PASSWORD is not set")
	}
	if *fast {
		if cfg.schedule, err = webhook.NewSchedule(time.Second, 2*time.Second); err != nil {
			return err
		}
	}
	if *trust != "" {
		certificate, err := os.ReadFile(*trust)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(certificate)
		cfg.loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		cfg.client, err = webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: cfg.loopback, RootCAs: roots})
		if err != nil {
			return err
		}
	}
	cfg.mail = webhook.NewLogNotifier(slog.Default())
	if *relay != "" {
		if cfg.mail, err = mailer(*relay); err != nil {
			return err
		}
	}
	return run(ctx, cfg)
}

// mailer sends mail by a relay on this host, as it has no TLS. For a server elsewhere leave
// out TLS, and give it Username and Password.
func mailer(relay string) (webhook.Notifier, error) {
	host, port, err := net.SplitHostPort(relay)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	return smtpnotify.New(smtpnotify.Config{
		Host: host, Port: number, TLS: smtpnotify.PlainText,
		From: mail.Address{Name: "Acme Chat", Address: "hooks@chat.example"},
		Recipients: func(_ context.Context, organizationID string) ([]mail.Address, error) {
			return []mail.Address{{Name: "Ada", Address: "ada@" + organizationID + ".example"}}, nil // yours: from a table
		},
		Link: func(n webhook.Notice) string {
			return "http://127.0.0.1:8080/admin/webhooks/" + n.WebhookID.String()
		},
	})
}

// app is the application.
type app struct {
	db         *sql.DB
	password   string
	log        *slog.Logger
	store      *sqlstore.Store
	dispatcher *webhook.Dispatcher
	publisher  *webhook.Publisher
	handler    http.Handler
}

// wire puts the library beside what the application has of its own.
func wire(ctx context.Context, db *sql.DB, cfg config) (*app, error) {
	a := &app{db: db, password: cfg.password, log: slog.Default()}

	keys, err := sqlstore.ParseKeyring(cfg.keys) // seals the webhooks' secrets
	if err != nil {
		return nil, err
	}
	a.store, err = sqlstore.New(db, sqlstore.Postgres, sqlstore.Config{Keyring: keys})
	if err != nil {
		return nil, err
	}
	if err := a.store.Migrate(ctx); err != nil {
		return nil, err
	}
	a.dispatcher, err = webhook.NewDispatcher(a.store, webhook.DispatcherConfig{
		HTTPDoer: cfg.client, Notifier: cfg.mail, Schedule: cfg.schedule, Logger: a.log,
	})
	if err != nil {
		return nil, err
	}
	a.publisher, err = webhook.NewPublisher(a.store, webhook.PublisherConfig{Dispatcher: a.dispatcher})
	if err != nil {
		return nil, err
	}
	manager, err := webhook.NewManager(a.store, webhook.ManagerConfig{Dispatcher: a.dispatcher, AllowedPrefixes: cfg.loopback})
	if err != nil {
		return nil, err
	}
	panel, err := adminui.New(manager, adminui.Config{Actor: a.actor, Title: "Acme Webhooks", Schedule: cfg.schedule})
	if err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.Handle("/admin/webhooks/", a.signedIn(http.StripPrefix("/admin/webhooks", panel)))
	mux.Handle("POST /messages", a.signedIn(http.HandlerFunc(a.send)))
	a.handler = http.NewCrossOriginProtection().Handler(mux) // nobody else's page sends messages
	return a, nil
}

// run serves, and delivers, until ctx ends.
func run(ctx context.Context, cfg config) error {
	db, err := sql.Open("pgx", cfg.database)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, "create table if not exists messages (id bigserial primary key, text text not null)"); err != nil {
		return err
	}
	a, err := wire(ctx, db, cfg)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.dispatcher.Run(ctx) }()
	server := &http.Server{Handler: a.handler, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(closing) // Serve says that it is over
	}()
	fmt.Printf("the panel is at http://%s/admin/webhooks/ for ada\n", listener.Addr())
	err = server.Serve(listener)
	stop()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, <-done) // attempts in flight had 20 s to end
}

// signedIn is the application's own authentication: here a password for everybody.
func (a *app) signedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := a.actor(r); err != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="Acme Chat"`)
			http.Error(w, "sign in", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// actor says who makes a request, which the panel asks for each one.
func (a *app) actor(r *http.Request) (webhook.Actor, error) {
	name, password, _ := r.BasicAuth()
	if subtle.ConstantTimeCompare([]byte(password), []byte(a.password)) != 1 {
		return webhook.Actor{}, errors.New("wrong password")
	}
	return webhook.Actor{ID: name, OrganizationID: "acme", Role: webhook.RoleAdmin}, nil
}

// send takes a message. It and its event are stored by the same commit.
func (a *app) send(w http.ResponseWriter, r *http.Request) {
	if err := a.keep(r.Context(), r.FormValue("text")); err != nil {
		a.log.ErrorContext(r.Context(), "message not stored", "error", err)
		http.Error(w, "try again", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *app) keep(ctx context.Context, text string) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // of what has not been committed by then
	if _, err := tx.ExecContext(ctx, "insert into messages (text) values ($1)", text); err != nil {
		return err
	}
	_, err = a.publisher.PublishTx(ctx, a.store.WithTx(tx), webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent,
		Subject: webhook.Subject{Type: webhook.SubjectRoom, ID: room},
		Data:    map[string]string{"text": text},
	})
	if err != nil {
		return err
	}
	return tx.Commit()
}
