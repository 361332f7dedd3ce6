package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/mail"
	"os"
	"time"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/smtpnotify"
	"github.com/posthorn/webhook/sqlstore"
)

// mailPlan is what a child of TestMail does: it delivers, by a clock that is
// ahead, and sends mails to a server.
type mailPlan struct {
	Port  int
	CA    []byte // PEM
	Ahead time.Duration
	Die   string // where it kills itself: beforeMail, afterMail, or "" for nowhere
}

const (
	beforeMail = "before the mail"
	afterMail  = "after the mail"
)

// mailUntilKilled is a child of TestMail. It ticks for each failure that is on
// record.
func mailUntilKilled(ctx context.Context, c *childProcess, tick func()) error {
	d, err := newMailDispatcher(&mailStore{Store: c.store, plan: c.Mail, tick: tick}, c.Mail)
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// mailStore is a store whose process may die when a mail has been sent.
type mailStore struct {
	*sqlstore.Store
	plan *mailPlan
	tick func()
}

func (s *mailStore) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	r, err := s.Store.Finish(ctx, p)
	for _, e := range r.Errs {
		if e == nil {
			s.tick()
		}
	}
	return r, err
}

func (s *mailStore) FinishNotice(ctx context.Context, p webhook.FinishNoticeParams) error {
	if s.plan.Die == afterMail {
		killMyself()
	}
	return s.Store.FinishNotice(ctx, p)
}

// outOfOrder is an HTTPDoer whose endpoints fail at once.
type outOfOrder struct{}

func (outOfOrder) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
}

// newMailDispatcher makes a dispatcher under which the first failure is the last.
func newMailDispatcher(store *mailStore, plan *mailPlan) (*webhook.Dispatcher, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(plan.CA) {
		return nil, errors.New("the certificate is not PEM")
	}
	n, err := smtpnotify.New(smtpnotify.Config{
		Host: "127.0.0.1", Port: plan.Port, TLSConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		From: mail.Address{Address: "hooks@chat.example"},
		Recipients: func(_ context.Context, organization string) ([]mail.Address, error) {
			if plan.Die == beforeMail {
				killMyself()
			}
			return []mail.Address{{Address: "owner@" + organization + ".example"}, {Address: "admin@" + organization + ".example"}}, nil
		},
		Link: func(n webhook.Notice) string { return "https://chat.example/webhooks/" + n.WebhookID.String() },
	})
	if err != nil {
		return nil, err
	}
	schedule, err := webhook.NewSchedule()
	if err != nil {
		return nil, err
	}
	return webhook.NewDispatcher(store, webhook.DispatcherConfig{
		HTTPDoer: outOfOrder{}, Schedule: schedule, Notifier: n, Clock: aheadClock{store.Clock(), plan.Ahead},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
}
