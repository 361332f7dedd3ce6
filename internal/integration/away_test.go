package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// remote are the databases that a network lies in front of.
var remote = []*integration.Server{integration.Postgres, integration.MariaDB}

// proxy stands between a store and its server, so that the server goes away for
// that store alone.
type proxy struct {
	network, server string // where the server is
	running         sync.WaitGroup

	mu         sync.Mutex
	listener   net.Listener // nil while cut
	address    string       // of the latest listener
	conns      map[net.Conn]struct{}
	frozen     chan struct{} // if not nil, nothing passes until it is closed
	commitLost chan struct{} // if not nil, the next commit cuts, and this is closed then
}

// proxied returns a proxy in front of a space, and a handle that goes through it.
func proxied(t *testing.T, s *integration.Space) (*proxy, *sql.DB) {
	t.Helper()
	p := &proxy{conns: map[net.Conn]struct{}{}}
	connector := p.connector(t, s)
	p.restore(t)
	db := s.ConnectVia(t, func(driver.Connector) driver.Connector { return connector })
	t.Cleanup(func() {
		p.thaw()
		p.cut()
		p.running.Wait()
	})
	return p, db
}

// connector connects to a space as always, but for the way there.
func (p *proxy) connector(t *testing.T, s *integration.Space) driver.Connector {
	t.Helper()
	if s.Dialect == sqlstore.Postgres {
		cfg, err := pgx.ParseConfig(s.Source.DSN)
		require.NoError(t, err)
		p.network, p.server = pgconn.NetworkAddress(cfg.Host, cfg.Port)
		cfg.RuntimeParams["search_path"] = s.Source.Name
		cfg.DialFunc = p.dial
		return stdlib.GetConnector(*cfg)
	}
	cfg, err := mysql.ParseDSN(s.Source.DSN)
	require.NoError(t, err)
	p.network, p.server = cfg.Net, cfg.Addr
	cfg.DBName, cfg.DialFunc, cfg.Logger = s.Source.Name, p.dial, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	return connector
}

// dial connects to the proxy, whatever the driver asks for. Each listener has
// another port: that of the one before may be somebody else's by now.
func (p *proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	address := p.address
	p.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// restore lets connections through, at first or again.
func (p *proxy) restore(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.mu.Lock()
	p.listener, p.address = l, l.Addr().String()
	p.mu.Unlock()
	p.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(ctx, p.network, p.server)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.join(l, client, server)
		}
	})
}

// cut closes all connections, and has new ones refused.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
	}
	p.listener = nil
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// cutAtCommit cuts when the next commit has taken effect, before its answer has
// passed. The channel is closed then.
func (p *proxy) cutAtCommit() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commitLost = make(chan struct{})
	return p.commitLost
}

// freeze keeps back everything that is sent, as a network does that loses
// packets: connections stay open, and new ones come about.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

// thaw lets pass what was kept back.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// join lets a client and the server talk to each other.
func (p *proxy) join(l net.Listener, client, server net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != l { // cut meanwhile
		_ = client.Close()
		_ = server.Close()
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	var lost chan struct{} // not nil while the commit is under way whose answer is not to pass
	p.running.Go(func() {
		p.copy(server, client, func(sent []byte) (pass bool) {
			if endsInCommit(sent) {
				p.mu.Lock()
				lost, p.commitLost = p.commitLost, nil
				p.mu.Unlock()
			}
			return true
		})
	})
	p.running.Go(func() {
		p.copy(client, server, func([]byte) (pass bool) { return !p.lose(&lost) })
		p.lose(&lost) // whose client has gone before the answer came
	})
}

// lose cuts if a commit is under way whose answer is not to pass.
func (p *proxy) lose(commit *chan struct{}) bool {
	p.mu.Lock()
	lost := *commit
	*commit = nil
	p.mu.Unlock()
	if lost == nil {
		return false
	}
	p.cut()
	close(lost)
	return true
}

// endsInCommit reports whether a message ends in that statement, as pgx or
// go-sql-driver/mysql sends it.
func endsInCommit(message []byte) bool {
	return bytes.HasSuffix(message, []byte("commit\x00")) || bytes.HasSuffix(message, []byte("\x03COMMIT"))
}

// copy copies until either end is closed, and closes the other one then.
func (p *proxy) copy(to, from net.Conn, look func([]byte) (pass bool)) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, to)
		delete(p.conns, from)
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if n > 0 && !look(buf[:n]) {
			return
		}
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// TestAwayAtStart has no database when the host starts: whatever is called first
// says so, soon, and works when the database has come.
func TestAwayAtStart(t *testing.T) {
	t.Parallel()
	const soon = 2 * time.Second
	type call struct {
		name string
		make func(ctx context.Context, t *testing.T, store *sqlstore.Store) error
	}
	migrate := call{"Migrate", func(ctx context.Context, t *testing.T, store *sqlstore.Store) error {
		t.Helper()
		return store.Migrate(ctx)
	}}
	read := call{"Webhooks", func(ctx context.Context, t *testing.T, store *sqlstore.Store) error {
		t.Helper()
		_, err := newManager(t, store).Webhooks(ctx, adminOf(acme), webhook.WebhookQuery{})
		return err
	}}
	publish := call{"Publish", func(ctx context.Context, t *testing.T, store *sqlstore.Store) error {
		t.Helper()
		publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
		require.NoError(t, err)
		_, err = publisher.Publish(ctx, message(acme, room))
		return err
	}}
	dispatch := call{"RunOnce", func(ctx context.Context, t *testing.T, store *sqlstore.Store) error {
		t.Helper()
		d, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: newScene()})
		require.NoError(t, err)
		_, err = d.RunOnce(ctx)
		return err
	}}
	for _, s := range remote {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			for _, first := range []call{migrate, read, publish, dispatch} {
				t.Run(first.name, func(t *testing.T) {
					t.Parallel()
					p, db := proxied(t, s.Migrated(t))
					store, err := s.NewStore(db)
					require.NoError(t, err)
					p.cut()
					began := time.Now()
					_, err = s.NewStore(db)
					require.ErrorIs(t, err, syscall.ECONNREFUSED)
					require.ErrorIs(t, first.make(t.Context(), t, store), syscall.ECONNREFUSED)
					require.Less(t, time.Since(began), soon)
					p.restore(t)
					require.NoError(t, store.Migrate(t.Context()))
					requireWorks(t, store)
				})
			}
			// Not the others: who asks for the time first waits for it.
			for _, first := range []call{migrate, read} {
				t.Run(first.name+", no answer", func(t *testing.T) {
					t.Parallel()
					p, db := proxied(t, s.Migrated(t))
					store, err := s.NewStore(db)
					require.NoError(t, err)
					p.freeze()
					ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
					defer cancel()
					began := time.Now()
					require.ErrorIs(t, first.make(ctx, t, store), context.DeadlineExceeded)
					require.Less(t, time.Since(began), soon)
					p.thaw()
					require.NoError(t, store.Migrate(t.Context()))
					requireWorks(t, store)
				})
			}
		})
	}
}

const (
	awayHooks      = 4
	awayPublishers = 4                      // goroutines
	awayPatience   = 500 * time.Millisecond // of half of them, with one call
	awaySlack      = time.Second            // that a busy machine may add to it
	awayAttempt    = 3 * time.Second        // and a second more is the lease of a claim whose answer was lost

	// awayRecovery is more than the longest pause that the dispatcher makes
	// between two tries.
	awayRecovery = 10 * time.Second
)

// TestAwayAndBack takes the database from a dispatcher and its publishers in the
// middle of everything, and gives it back. What Publish has accepted is
// delivered, and of everything else nothing is there, or all of it.
func TestAwayAndBack(t *testing.T) {
	t.Parallel()
	for _, s := range remote {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			t.Run("refused", func(t *testing.T) {
				t.Parallel()
				outage := 3 * time.Second // the store bridges it by its own repeating, nearly
				if integration.Long {
					outage = time.Minute
				}
				goAway(t, s.Migrated(t), outage, func(p *proxy) { <-p.cutAtCommit() }, func(p *proxy) { p.restore(t) })
			})
			t.Run("no answer", func(t *testing.T) {
				t.Parallel()
				// Never longer: once a minute Publish looks at the database's clock,
				// and waits for the answer longer than its caller.
				goAway(t, s.Migrated(t), 3*time.Second, (*proxy).freeze, (*proxy).thaw)
			})
		})
	}
}

func goAway(t *testing.T, space *integration.Space, outage time.Duration, leave, comeBack func(*proxy)) {
	t.Helper()
	p, db := proxied(t, space)
	// What is started from here on can be told from what other tests start.
	pprof.Do(t.Context(), pprof.Labels("test", t.Name()), func(ctx context.Context) {
		store, err := space.NewStore(db)
		require.NoError(t, err)
		registerAway(t, store)
		x := newScene()
		publisher := x.dispatch(ctx, t, store)
		publishing, stopPublishing := context.WithCancel(ctx)
		defer stopPublishing()
		var publishers sync.WaitGroup
		for i := range awayPublishers {
			publishers.Go(func() { x.publish(publishing, t, publisher, i) })
		}
		x.until(t, "deliveries", func() bool { return x.recorded > 0 && x.publishedSince(time.Time{}, 3) })

		requests := x.holdAnswers()
		x.until(t, "attempts in flight", func() bool { return x.requests >= requests+2*awayHooks })
		running := goroutinesOf(t)
		leave(p)
		left := time.Now()
		x.answer()
		x.watch(t, outage, running)
		back := time.Now()
		comeBack(p)

		x.until(t, "a claim", func() bool { return x.claimed.After(back) })
		claiming := time.Since(back)
		x.until(t, "publications", func() bool { return x.publishedSince(back, 3) })
		stopPublishing()
		publishers.Wait()
		x.until(t, "an empty queue", func() bool { return count(t, space, "select count(*) from posthorn_queue") == 0 })
		require.Less(t, claiming, awayRecovery)
		t.Logf("after %v without a database: claims after %v, everything recorded after %v",
			outage, claiming.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
		x.check(t, space, left, back)
	})
}

// scene is what surrounds a store: receivers without a network, who can be told
// to let senders wait, a dispatcher that is watched, and publishers.
type scene struct {
	webhook.NopTracer
	changed chan struct{} // gets something after each change

	mu           sync.Mutex
	body         string        // of answers
	hold         chan struct{} // if not nil, nobody is answered until it is closed
	requests     int
	answered     map[string]int // by event and host
	claimed      time.Time      // when the latest claim that was possible had ended
	recorded     int            // attempts
	failed       int            // claims, and calls that record
	publications []publication
}

// publication is a call of Publish.
type publication struct {
	publisher    int
	event        uuid.UUID
	began, ended time.Time
	err          error
}

func newScene() *scene {
	return &scene{changed: make(chan struct{}, 1), answered: map[string]int{}}
}

// change changes something and tells until.
func (x *scene) change(what func()) {
	x.mu.Lock()
	what()
	x.mu.Unlock()
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// until waits for a state, at which it looks after each change.
func (x *scene) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tooLong := time.After(time.Minute)
	for {
		x.mu.Lock()
		done := is()
		x.mu.Unlock()
		if done {
			return
		}
		select {
		case <-x.changed:
		case <-tooLong:
			require.FailNow(t, "waited in vain for "+what)
		}
	}
}

// Do answers a request.
func (x *scene) Do(req *http.Request) (*http.Response, error) {
	var hold chan struct{}
	x.change(func() {
		x.requests++
		hold = x.hold
	})
	if hold != nil {
		select {
		case <-hold:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	x.change(func() { x.answered[req.Header.Get("Webhook-Id")+" "+req.URL.Host]++ })
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(x.body)), Request: req}, nil
}

// holdAnswers lets requests wait from now on, and returns how many there were.
func (x *scene) holdAnswers() (requests int) {
	x.change(func() { x.hold, requests = make(chan struct{}), x.requests })
	return requests
}

// answer ends that.
func (x *scene) answer() {
	x.change(func() {
		close(x.hold)
		x.hold = nil
	})
}

// Claimed is told of claims.
func (x *scene) Claimed(_ context.Context, c webhook.ClaimCall) {
	x.change(func() {
		if c.Err != nil {
			x.failed++
			return
		}
		x.claimed = time.Now()
	})
}

// Recorded is told of outcomes that were written.
func (x *scene) Recorded(_ context.Context, c webhook.RecordCall) {
	x.change(func() {
		if c.Err != nil {
			x.failed++
		}
		x.recorded += c.Finished
	})
}

// registerAway creates webhooks that get each event.
func registerAway(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	for i := range awayHooks {
		register(t, store, fmt.Sprintf("https://%d.example/hooks", i), room)
	}
}

// dispatch starts a dispatcher, which ends with the test, and returns a publisher
// of the same process.
func (x *scene) dispatch(ctx context.Context, t *testing.T, store *sqlstore.Store) *webhook.Publisher {
	t.Helper()
	// What was leased when the database went away may have to be tried again.
	schedule, err := webhook.NewSchedule(slices.Repeat([]time.Duration{100 * time.Millisecond}, 30)...)
	require.NoError(t, err)
	d, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{
		HTTPDoer: x, Tracer: x, Schedule: schedule, AttemptTimeout: awayAttempt, LeaseFor: awayAttempt + time.Second,
	})
	require.NoError(t, err)
	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: d})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the dispatcher has ended: %v", err)
		}
	})
	return publisher
}

// publish publishes one event after the other. Every second publisher has little
// patience; the others wait as long as the store does.
func (x *scene) publish(ctx context.Context, t *testing.T, publisher *webhook.Publisher, number int) {
	t.Helper()
	var ids webhook.IDSource
	pace := time.NewTicker(20 * time.Millisecond) // else thousands would wait when the database goes away
	defer pace.Stop()
	for ctx.Err() == nil {
		// A call that has begun goes on when publishing is to stop.
		call, cancel := context.WithCancel(t.Context())
		if impatient(number) {
			call, cancel = context.WithTimeout(t.Context(), awayPatience)
		}
		p := publication{publisher: number, began: time.Now()}
		p.event = ids.New(p.began)
		event := message(acme, room)
		event.ID = p.event
		_, p.err = publisher.Publish(call, event)
		cancel()
		p.ended = time.Now()
		x.change(func() { x.publications = append(x.publications, p) })
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}

func impatient(publisher int) bool { return publisher%2 == 0 }

// publishedSince reports whether each publisher has published n events since a
// moment.
func (x *scene) publishedSince(moment time.Time, n int) bool {
	var by [awayPublishers]int
	for _, p := range x.publications {
		if p.err == nil && p.began.After(moment) {
			by[p.publisher]++
		}
	}
	return slices.Min(by[:]) >= n
}

// watch looks on while there is no database: no more goroutines come, and,
// because nothing can be claimed, no more requests.
func (x *scene) watch(t *testing.T, outage time.Duration, running int) {
	t.Helper()
	over := time.NewTimer(outage)
	defer over.Stop()
	looks := time.NewTicker(time.Second / 2)
	defer looks.Stop()
	var goroutines, requests []int
	for {
		select {
		case <-looks.C:
			goroutines = append(goroutines, goroutinesOf(t))
			x.change(func() { requests = append(requests, x.requests) })
		case <-over.C:
			t.Logf("%d goroutines, then %v", running, goroutines)
			require.LessOrEqual(t, slices.Max(goroutines), running+awayPublishers)
			require.Equal(t, requests[0], requests[len(requests)-1], "attempts without a database")
			return
		}
	}
}

// goroutinesOf counts the goroutines that have the test's label, which they get
// from who starts them.
func goroutinesOf(t *testing.T) (n int) {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&text, 1))
	label := fmt.Sprintf("%q:%q", "test", t.Name())
	group := 0 // of goroutines with the same stack
	for lines := bufio.NewScanner(&text); lines.Scan(); {
		line := lines.Text()
		if _, err := fmt.Sscanf(line, "%d @", &group); err == nil {
			continue
		}
		if strings.HasPrefix(line, "# labels:") && strings.Contains(line, label) {
			n += group
		}
	}
	return n
}

// check compares what Publish has said, what is in the database and what the
// receivers got.
func (x *scene) check(t *testing.T, space *integration.Space, left, back time.Time) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	stored := deliveriesByEvent(t, space)
	for event, deliveries := range stored {
		require.Equal(t, awayHooks, deliveries, "deliveries of an event")
		for i := range awayHooks {
			require.NotZero(t, x.answered[fmt.Sprintf("%s %d.example", event, i)], "deliveries that have arrived")
		}
	}
	var refused [awayPublishers]int
	accepted, unknown := 0, 0 // to the publisher, although it is there
	for _, p := range x.publications {
		_, there := stored[p.event]
		delete(stored, p.event)
		if p.began.After(left) && p.ended.Before(back) {
			require.Error(t, p.err, "publishing without a database")
			refused[p.publisher]++
		}
		switch {
		case p.err == nil:
			require.True(t, there, "published, and not there")
			accepted++
		case there:
			unknown++
		}
		if impatient(p.publisher) {
			require.Less(t, p.ended.Sub(p.began), awayPatience+awaySlack)
		}
	}
	require.Empty(t, stored, "events of nobody")
	for i, n := range refused {
		require.True(t, n > 0 || !impatient(i), "calls of a publisher while the database was away")
	}
	for what := range outcomes(t, newManager(t, space.Store(t)), acme) {
		require.Contains(t, what, webhook.DeliverySucceeded)
	}
	t.Logf("%d events, %d of them accepted, %d unknown to their publisher; refused: %v",
		accepted+unknown, accepted, unknown, refused)
}

// deliveriesByEvent counts the deliveries of each event.
func deliveriesByEvent(t *testing.T, s *integration.Space) map[uuid.UUID]int {
	t.Helper()
	rows, err := s.DB.QueryContext(t.Context(), `select e.id, count(d.id) from posthorn_events e
		left join posthorn_deliveries d on d.event_id = e.id group by e.id`)
	require.NoError(t, err)
	defer rows.Close()
	out := map[uuid.UUID]int{}
	for rows.Next() {
		var event uuid.UUID
		var n int
		require.NoError(t, rows.Scan(&event, &n))
		out[event] = n
	}
	require.NoError(t, rows.Err())
	require.Equal(t, count(t, s, "select count(*) from posthorn_deliveries"), sum(out), "deliveries of no event")
	return out
}

func sum(counts map[uuid.UUID]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
