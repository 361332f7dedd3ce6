package integration_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// crashPlan is what a child of TestCrash does.
type crashPlan struct {
	Point  string // where it kills itself: a key of crashPoints, or "" for nowhere
	Stop   bool   // it stops there instead, once, and may be continued
	Ahead  time.Duration
	Ledger string // a file
	Events int    // of each organization
	Delete bool   // the webhook doomed, once everything is published
	Toggle bool   // the webhook toggled: inactive for a moment
}

// crashSchedule is the retries' in TestCrash, crashTimeout and crashLease are
// what goes with it.
var crashSchedule = []time.Duration{40 * time.Millisecond, 60 * time.Millisecond, 80 * time.Millisecond, 100 * time.Millisecond, 120 * time.Millisecond}

const (
	crashTimeout = 300 * time.Millisecond
	crashLease   = 700 * time.Millisecond
)

// crashPoint is a call of the store and how far it gets: at is the statement of
// its transaction, or atCommit, which then takes effect; before, the call does not
// begin, and after, it has returned something to do.
type crashPoint struct {
	call          string
	before, after bool
	at            place
	effect        effect
}

var crashPoints = map[string]crashPoint{
	"after the claim":                         {call: "claim", after: true},
	"after the answer, before finishing":      {call: "finish", before: true},
	"while finishing":                         {call: "finish", at: 3},
	"after finishing":                         {call: "finish", after: true},
	"in the notifier":                         {call: "notify", before: true},
	"while publishing":                        {call: "insert", at: 4},
	"at the commit of publishing":             {call: "insert", at: atCommit, effect: fullEffect},
	"at the rolled back commit of publishing": {call: "insert", at: atCommit, effect: noEffect},
	"while settling":                          {call: "settle", at: 3},
	"at the commit of settling":               {call: "settle", at: atCommit, effect: fullEffect},
	"while deleting":                          {call: "delete", at: 2},
	"at the commit of deleting":               {call: "delete", at: atCommit, effect: fullEffect},
}

func killMyself() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// crashStore is a store whose process dies, or stops, in one of its calls.
type crashStore struct {
	*sqlstore.Store
	point   crashPoint
	f       *faults
	stop    bool
	stopped atomic.Bool
	db      *sql.DB
}

// dieOrStop returns when the stopped process has been continued.
func (s *crashStore) dieOrStop() {
	if !s.stop {
		killMyself()
	}
	if !s.stopped.CompareAndSwap(false, true) {
		return
	}
	// Who stops within a transaction stops whoever waits for it, on SQLite everybody.
	for range integration.ChildConns {
		conn, err := s.db.Conn(context.Background())
		if err != nil {
			panic(err)
		}
		defer func() { _ = conn.Close() }()
	}
	// The signal may take effect a little after Kill, so no connection is given back
	// before the process has been continued.
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	<-continued
}

// calling is called when a call begins.
func (s *crashStore) calling(name string) {
	switch {
	case s.point.call != name:
	case s.point.before:
		s.dieOrStop()
	case !s.point.after:
		s.f.set(fault{at: s.point.at, err: driver.ErrBadConn, effect: s.point.effect, broken: true, then: killMyself}, 1)
	}
}

func (s *crashStore) called(name string, done int) {
	if s.point.call == name && s.point.after && done > 0 {
		s.dieOrStop()
	}
}

func (s *crashStore) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	s.calling("claim")
	r, err := s.Store.Claim(ctx, p)
	s.called("claim", len(r.Claims))
	return r, err
}

func (s *crashStore) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	s.calling("finish")
	r, err := s.Store.Finish(ctx, p)
	s.called("finish", len(r.Errs))
	return r, err
}

func (s *crashStore) Settle(ctx context.Context, p webhook.SettleParams) (webhook.SettleResult, error) {
	s.calling("settle")
	return s.Store.Settle(ctx, p)
}

func (s *crashStore) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	s.calling("insert")
	return s.Store.InsertEvents(ctx, p)
}

func (s *crashStore) DeleteWebhook(ctx context.Context, p webhook.DeleteWebhookParams) error {
	s.calling("delete")
	return s.Store.DeleteWebhook(ctx, p)
}

// ledger is a file of what has happened. What has been written to it survives the
// process.
type ledgerFile struct {
	mu   sync.Mutex
	file *os.File
}

func (l *ledgerFile) note(format string, args ...any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.file, format+"\n", args...)
	return err
}

// readLedger returns the ledger's lines, as words.
func readLedger(path string) ([][]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var out [][]string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		out = append(out, strings.Fields(lines.Text()))
	}
	return out, lines.Err()
}

// aheadClock is a clock that is ahead of another.
type aheadClock struct {
	webhook.Clock
	by time.Duration
}

func (c aheadClock) Now() time.Time { return c.Clock.Now().Add(c.by) }

// crashNotifier notes what it tells.
type crashNotifier struct {
	l *ledgerFile
	s *crashStore
}

func (n crashNotifier) Notify(_ context.Context, x webhook.Notice) error {
	n.s.calling("notify")
	return n.l.note("notice %s %s", x.WebhookID, x.ID)
}

// serveUntilKilled is a child of TestCrash: a service that publishes, delivers and
// changes webhooks. It ticks when it runs, and when it has done all that it has to.
func serveUntilKilled(ctx context.Context, c *childProcess, tick func()) (err error) {
	plan := c.Crash
	file, err := os.OpenFile(plan.Ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	past, err := readLedger(plan.Ledger)
	if err != nil {
		return err
	}
	l := &ledgerFile{file: file}
	var f faults
	connector, err := c.server.Connector(c.Source)
	if err != nil {
		return err
	}
	db := sql.OpenDB(f.connector(connector))
	db.SetMaxOpenConns(integration.ChildConns)
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := c.server.NewStore(db)
	if err != nil {
		return err
	}
	s := &crashStore{Store: store, point: crashPoints[plan.Point], f: &f, stop: plan.Stop, db: db}
	clock := aheadClock{store.Clock(), plan.Ahead}

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return errors.New("the certificate is not PEM")
	}
	client, err := webhook.NewHTTPClient(webhook.TransportConfig{AllowedPrefixes: loopback, RootCAs: roots})
	if err != nil {
		return err
	}
	schedule, err := webhook.NewSchedule(crashSchedule...)
	if err != nil {
		return err
	}
	d, err := webhook.NewDispatcher(s, webhook.DispatcherConfig{
		HTTPDoer: client, Clock: clock, Schedule: schedule, Notifier: crashNotifier{l, s}, AttemptTimeout: crashTimeout, LeaseFor: crashLease,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	tick()
	h := crashHost{plan: plan, l: l, past: past, clock: clock}
	if h.publisher, err = webhook.NewPublisher(s, webhook.PublisherConfig{Dispatcher: d}); err != nil {
		return err
	}
	if h.manager, err = webhook.NewManager(s, webhook.ManagerConfig{Dispatcher: d, AllowedPrefixes: loopback}); err != nil {
		return err
	}
	if err := h.work(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	tick()
	<-ctx.Done()
	return nil
}

// crashHost is the host's part of a service.
type crashHost struct {
	plan      *crashPlan
	l         *ledgerFile
	past      [][]string
	clock     webhook.Clock
	publisher *webhook.Publisher
	manager   *webhook.Manager
}

func (h *crashHost) has(words ...string) bool {
	return slices.ContainsFunc(h.past, func(line []string) bool {
		return len(line) >= len(words) && slices.Equal(line[:len(words)], words)
	})
}

// work publishes what has not been published, and changes the webhooks.
func (h *crashHost) work(ctx context.Context) error {
	for k := range h.plan.Events {
		for _, organization := range crashOrganizations {
			if h.has("published", organization, strconv.Itoa(k)) {
				continue
			}
			e := message(organization, room)
			e.IdempotencyKey = strconv.Itoa(k)
			e.Data = fmt.Sprintf("%s %d", organization, k)
			p, err := h.publisher.Publish(ctx, e)
			if err != nil {
				return err
			}
			if err := h.l.note("published %s %d %s", organization, k, p.EventID); err != nil {
				return err
			}
		}
		if k == h.plan.Events/2 && h.plan.Toggle {
			if err := h.toggle(ctx); err != nil {
				return err
			}
		}
	}
	if h.plan.Delete {
		return h.delete(ctx)
	}
	return nil
}

func (h *crashHost) find(ctx context.Context, organization, name string) (webhook.Webhook, error) {
	page, err := h.manager.Webhooks(ctx, adminOf(organization), webhook.WebhookQuery{Limit: webhook.MaxPageSize})
	if err != nil {
		return webhook.Webhook{}, err
	}
	i := slices.IndexFunc(page.Items, func(w webhook.Webhook) bool { return w.Name == name })
	if i < 0 {
		return webhook.Webhook{}, webhook.ErrNotFound
	}
	return page.Items[i], nil
}

// delete deletes the webhook doomed of each organization.
func (h *crashHost) delete(ctx context.Context) error {
	for _, organization := range crashOrganizations {
		w, err := h.find(ctx, organization, "doomed")
		id := w.ID
		if err == nil {
			if err := h.l.note("deleting %s %s", organization, w.ID); err != nil {
				return err
			}
			err = h.manager.Delete(ctx, adminOf(organization), w.ID)
		}
		if err != nil && !errors.Is(err, webhook.ErrNotFound) {
			return err
		}
		if id != (uuid.UUID{}) {
			if err := h.l.note("deleted %s %d", id, h.clock.Now().UnixMicro()); err != nil {
				return err
			}
		}
	}
	return nil
}

// toggle makes the webhook healthy of each organization inactive, and active
// again.
func (h *crashHost) toggle(ctx context.Context) error {
	for _, organization := range crashOrganizations {
		for _, status := range []webhook.Status{webhook.StatusInactive, webhook.StatusActive} {
			w, err := h.find(ctx, organization, "healthy")
			if err != nil {
				return err
			}
			if status == webhook.StatusActive {
				pauseFor(ctx, 50*time.Millisecond)
				if err := h.l.note("activating %s %d", w.ID, h.clock.Now().UnixMicro()); err != nil {
					return err
				}
			}
			if _, err := h.manager.Update(ctx, adminOf(organization), w.ID, webhook.WebhookChange{
				Version: w.Version, Name: w.Name, EndpointURL: w.EndpointURL, Subscriptions: w.Subscriptions, Status: status, Resume: status == webhook.StatusActive,
			}); err != nil {
				return err
			}
			// Attempts that were claimed before may begin until none is in flight; of
			// a process that has been killed that may take longer than this waits.
			if status == webhook.StatusInactive && h.landed(ctx, organization, w.ID) {
				if err := h.l.note("inactive %s %d", w.ID, h.clock.Now().UnixMicro()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// landed waits a little until a webhook has no attempt in flight, and reports
// whether it has none.
func (h *crashHost) landed(ctx context.Context, organization string, id uuid.UUID) bool {
	for range 50 {
		if n, err := h.manager.InFlight(ctx, adminOf(organization), id); err == nil && n == 0 {
			return true
		}
		pauseFor(ctx, 2*time.Millisecond)
	}
	return false
}

func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
