// Prometheus is a chat product whose webhooks are looked after by Prometheus. From
// the root of the repository:
//
//	go run ./examples/prometheus
//
// It publishes some events a second, to receivers of which one is prompt, one slow and
// one out of order, and answers at http://127.0.0.1:9464/metrics until Ctrl-C. A
// Prometheus that scrapes it and docs/grafana-dashboard.json show the rest.
//
// Everything is in memory. A service has a sqlstore instead, and a tracer provider
// with an exporter besides: the spans go where it says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/otelwebhook"
)

var (
	admin = webhook.Actor{ID: "alice", OrganizationID: "acme", Role: webhook.RoleAdmin}
	room  = webhook.Subject{Type: webhook.SubjectRoom, ID: "9a7c1f0a-2b8e-4c0e-8d5e-6f1b2c3d4e02"}
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9464", "the `address` to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *addr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prometheus: failed:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, out io.Writer, addr string) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	rcv := newReceiver()
	defer rcv.Close()
	s, err := newService(rcv, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		return err
	}
	if err := s.register(ctx, rcv.URL); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	_, _ = fmt.Fprintf(out, "the metrics are at http://%s/metrics; Ctrl-C ends it\n", listener.Addr())

	ended := make(chan error, 3)
	go func() { ended <- s.dispatcher.Run(ctx) }()
	go func() { ended <- s.publishOnAndOn(ctx) }()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			ended <- err
			return
		}
		ended <- nil
	}()
	select {
	case <-ctx.Done():
	case err = <-ended: // too early
		ended <- err
	}
	stop()
	_ = server.Close()
	return errors.Join(<-ended, <-ended, <-ended)
}

// service is what a host has of the library, and what Prometheus gets to see.
type service struct {
	store      *memstore.Store
	dispatcher *webhook.Dispatcher
	publisher  *webhook.Publisher
	manager    *webhook.Manager
	metrics    http.Handler
}

// newService wires telemetry to a service. Lines of the example's own are the
// prefixes: a service's webhooks go to public addresses only.
func newService(rcv *receiver, log *slog.Logger) (*service, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		otelprometheus.WithoutScopeInfo(), // or each series has the name of the package as a label
	)
	if err != nil {
		return nil, err
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	telemetry, err := otelwebhook.New(otelwebhook.Config{MeterProvider: meters})
	if err != nil {
		return nil, err
	}

	s := &service{store: memstore.New(), metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback, RootCAs: rcv.rootCAs(), Logger: log})
	if err != nil {
		return nil, err
	}
	s.dispatcher, err = webhook.NewDispatcher(s.store, webhook.DispatcherConfig{
		HTTPDoer: client, Tracer: telemetry, Notifier: webhook.NewLogNotifier(log), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	// The Publisher reports to the Dispatcher's Tracer, too.
	s.publisher, err = webhook.NewPublisher(s.store, webhook.PublisherConfig{Dispatcher: s.dispatcher})
	if err != nil {
		return nil, err
	}
	s.manager, err = webhook.NewManager(s.store, webhook.ManagerConfig{Dispatcher: s.dispatcher, AllowedPrefixes: loopback, Logger: log})
	if err != nil {
		return nil, err
	}

	// What waits is looked at whenever Prometheus asks.
	_, err = telemetry.Observe(s.dispatcher.Stats)
	return s, err
}

// register creates a webhook for each of the receiver's paths.
func (s *service) register(ctx context.Context, at string) error {
	for _, path := range []string{"/prompt", "/slow", "/broken"} {
		_, _, err := s.manager.Create(ctx, admin, webhook.WebhookInput{
			Name: path[1:], EndpointURL: at + path,
			Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *service) publish(ctx context.Context) error {
	_, err := s.publisher.Publish(ctx, webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room, Data: map[string]string{"text": "Hello, World!"},
	})
	return err
}

// publishOnAndOn returns nil when ctx ends.
func (s *service) publishOnAndOn(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := s.publish(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
