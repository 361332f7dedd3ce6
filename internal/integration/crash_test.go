package integration_test

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
)

// crashOrganizations have a webhook of each of crashKinds for the same room.
var crashOrganizations = []string{"acme", "rival"}

// crashKinds are how endpoints answer: at once, from the third attempt on, and
// never well. The doomed one is deleted.
var crashKinds = []string{"healthy", "flaky", "failing", "doomed"}

const (
	crashPatience = 90 * time.Second
	noticesAhead  = 12 * time.Minute // when notices are due, by a later process's clock
	leasesAhead   = 15 * time.Minute // when those of a notifier that has died are
)

// TestCrash kills services at each step of their work, and at any time, and lets
// others go on. Whatever was committed is delivered as it should be.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			for _, sc := range []struct {
				name    string
				points  []string // of one process after the other
				inPost  bool     // the first one dies when its request has arrived
				notify  bool     // another one dies in the notifier
				deleted bool
				stop    string // where one is stopped, until its leases have run out
			}{
				{name: "after the claim", points: []string{"after the claim"}},
				{name: "during the POST", inPost: true},
				{name: "after the 2xx, before finishing", points: []string{"after the answer, before finishing"}},
				{name: "while finishing", points: []string{"while finishing"}},
				{name: "after finishing", points: []string{"after finishing", "after finishing"}},
				{name: "before the notice", notify: true},
				{name: "while publishing", points: []string{
					"while publishing", "at the commit of publishing", "at the rolled back commit of publishing",
				}},
				{name: "while settling", points: []string{
					"after the claim", "while settling", "after the answer, before finishing", "at the commit of settling",
				}},
				{name: "stopped after the claim", stop: "after the claim"},
				{name: "stopped after the answer", stop: "after the answer, before finishing"},
				{name: "while deleting", points: []string{"while deleting", "at the commit of deleting"}, deleted: true},
			} {
				t.Run(sc.name, func(t *testing.T) { // no t.Parallel: they would share the few cores
					c := newCrash(t, s.Migrated(t), crashPlan{Events: 10, Delete: sc.deleted, Toggle: !sc.deleted && sc.stop == ""})
					if sc.stop != "" {
						c.stopAt(t, sc.stop)
					}
					if sc.inPost {
						c.dieInPost(t)
					}
					for _, point := range sc.points {
						c.dieAt(t, point, 0)
					}
					c.finish(t, sc.notify)
					c.check(t, sc.name, true)
				})
			}
			t.Run("at random", func(t *testing.T) {
				kills := 30
				c := newCrash(t, s.Migrated(t), crashPlan{Events: 250})
				seed := uint64(time.Now().UnixNano())
				r := rand.New(rand.NewPCG(seed, 0))
				for range kills {
					p := c.start(t, "", 0)
					require.True(t, p.reach(1))
					pauseFor(t.Context(), time.Duration(r.IntN(120_000))*time.Microsecond)
					c.kill(t, p)
				}
				c.finish(t, false)
				c.check(t, fmt.Sprintf("%d kills at random, seed %d", kills, seed), false)
			})
		})
	}
}

// crash is a scenario at work.
type crash struct {
	crashPlan
	space    *integration.Space
	store    webhook.Store
	receiver *crashReceiver
	hooks    map[string]webhook.Webhook // by organization and kind
}

func newCrash(t *testing.T, space *integration.Space, plan crashPlan) *crash {
	t.Helper()
	c := &crash{crashPlan: plan, space: space, store: space.Store(t), receiver: newCrashReceiver(t), hooks: map[string]webhook.Webhook{}}
	c.Ledger = filepath.Join(t.TempDir(), "ledger")
	for _, organization := range crashOrganizations {
		for _, kind := range crashKinds {
			if kind == "doomed" && !plan.Delete {
				continue
			}
			name := organization + "/" + kind
			w, secret, err := newManager(t, c.store).Create(t.Context(), adminOf(organization), webhook.WebhookInput{
				Name: kind, EndpointURL: c.receiver.URL + "/" + name,
				Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
			})
			require.NoError(t, err)
			v, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{secret}})
			require.NoError(t, err)
			c.receiver.verifiers.Store(name, v)
			c.hooks[name] = w
		}
	}
	return c
}

// start starts a process.
func (c *crash) start(t *testing.T, point string, ahead time.Duration) *process {
	t.Helper()
	plan := c.crashPlan
	plan.Point, plan.Ahead = point, ahead
	return c.startWith(t, plan)
}

func (c *crash) startWith(t *testing.T, plan crashPlan) *process {
	t.Helper()
	return start(t, c.space, task{
		Kind: "serve", Crash: &plan,
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.receiver.Certificate().Raw}),
	})
}

func (c *crash) kill(t *testing.T, p *process) {
	t.Helper()
	require.NoError(t, p.Process.Kill())
	requireKilled(t, p)
}

func requireKilled(t *testing.T, p *process) {
	t.Helper()
	var exit *exec.ExitError
	require.ErrorAs(t, p.end(t, false), &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
}

// dieAt runs a process that kills itself.
func (c *crash) dieAt(t *testing.T, point string, ahead time.Duration) {
	t.Helper()
	_, known := crashPoints[point]
	require.True(t, known, point)
	requireKilled(t, c.start(t, point, ahead))
}

// stopAt runs a process that stops, and is continued when another one has found its
// leases run out.
func (c *crash) stopAt(t *testing.T, point string) {
	t.Helper()
	plan := c.crashPlan
	plan.Point, plan.Stop = point, true
	stopped := c.startWith(t, plan)
	c.eventually(t, "a process that has stopped", func() bool {
		state, err := exec.CommandContext(t.Context(), "ps", "-o", "state=", "-p", strconv.Itoa(stopped.Process.Pid)).Output()
		return err == nil && strings.HasPrefix(strings.TrimSpace(string(state)), "T")
	})
	other := c.start(t, "", 0)
	c.eventually(t, "an interrupted attempt", func() bool {
		return count(t, c.space, "select count(*) from posthorn_attempts where outcome = 2") > 0
	})
	require.NoError(t, stopped.Process.Signal(syscall.SIGCONT))
	for _, p := range []*process{stopped, other} {
		p.reach(2)
		require.NoError(t, p.end(t, true))
	}
}

// dieInPost runs a process that is killed when a request of its has arrived.
func (c *crash) dieInPost(t *testing.T) {
	t.Helper()
	p := c.start(t, "", 0)
	kill := func() { _ = p.Process.Kill() }
	c.receiver.kill.Store(&kill)
	requireKilled(t, p)
	c.receiver.kill.Store(nil)
}

// finish lets a process do the rest, and others pass on the notices.
func (c *crash) finish(t *testing.T, dieInNotifier bool) {
	t.Helper()
	p := c.start(t, "", 0)
	if !p.reach(2) {
		require.NoError(t, p.end(t, false))
	}
	c.eventually(t, "an empty queue", func() bool { return count(t, c.space, "select count(*) from posthorn_queue") == 0 })
	require.NoError(t, p.end(t, true))
	if dieInNotifier {
		c.dieAt(t, "in the notifier", noticesAhead)
	}
	p = c.start(t, "", leasesAhead)
	c.eventually(t, "no more notices", func() bool {
		return count(t, c.space, "select count(*) from posthorn_notices") == 0
	})
	require.NoError(t, p.end(t, true))
}

func (c *crash) eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(crashPatience); !done(); pauseFor(t.Context(), 20*time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "%s after %v", what, crashPatience)
	}
}

// check compares what was published, what was received and what is on record.
// Without random kills there is exactly one notice for each webhook that wants one.
func (c *crash) check(t *testing.T, name string, planned bool) {
	t.Helper()
	lines, err := readLedger(c.Ledger)
	require.NoError(t, err)
	published := map[string]bool{} // organization and event
	notices := map[string]int{}    // by webhook
	type span struct{ from, to time.Time }
	silent := map[string][]span{} // when a webhook's attempts must not begin
	for _, line := range lines {
		at := func() time.Time {
			us, err := strconv.ParseInt(line[2], 10, 64)
			require.NoError(t, err)
			return time.UnixMicro(us)
		}
		switch line[0] {
		case "published":
			published[line[1]+" "+line[3]] = true
		case "notice":
			notices[line[1]]++
		case "deleted", "inactive":
			silent[line[1]] = append(silent[line[1]], span{from: at()})
		case "activating":
			for i := range silent[line[1]] { // a process may have died inside of one
				if s := &silent[line[1]][i]; s.to.IsZero() {
					s.to = at()
				}
			}
		}
	}
	require.Len(t, published, c.Events*len(crashOrganizations), "each event once")

	m := newManager(t, c.store)
	requests, requestsOf := c.receiver.log()
	attempts, failed := 0, map[string]string{} // the kinds of webhooks
	found := map[string]bool{}
	for _, organization := range crashOrganizations {
		logged := map[uuid.UUID][]webhook.Attempt{}
		for q := (webhook.AttemptQuery{Limit: webhook.MaxPageSize}); ; {
			page, err := m.Attempts(t.Context(), adminOf(organization), q)
			require.NoError(t, err)
			for _, a := range page.Items {
				logged[a.DeliveryID] = append([]webhook.Attempt{a}, logged[a.DeliveryID]...)
				attempts++
			}
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		deliveries := 0
		for q := (webhook.DeliveryQuery{Limit: webhook.MaxPageSize}); ; {
			page, err := m.Deliveries(t.Context(), adminOf(organization), q)
			require.NoError(t, err)
			for _, d := range page.Items {
				deliveries++
				found[organization+" "+d.EventID.String()] = true
				kind := c.kindOf(organization, d.WebhookID)
				require.NotEmpty(t, kind, "a delivery of another organization's webhook")
				got := logged[d.ID]
				c.checkDelivery(t, d, kind, got, requestsOf[organization+"/"+kind+" "+d.EventID.String()])
				for _, a := range got {
					for _, s := range silent[d.WebhookID.String()] {
						inside := !a.StartedAt.Before(s.from) && (s.to.IsZero() || a.StartedAt.Before(s.to))
						require.False(t, inside, "attempt %d of %s at %v, between %v and %v", a.Number, d.ID, a.StartedAt, s.from, s.to)
					}
				}
				if d.State == webhook.DeliveryFailed {
					failed[d.WebhookID.String()] = kind
				}
			}
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		require.Equal(t, c.Events*len(c.hooks)/len(crashOrganizations), deliveries)
	}
	lost, phantom := 0, 0
	for id := range published {
		if !found[id] {
			lost++
		}
	}
	for id := range found {
		if !published[id] {
			phantom++
		}
	}
	t.Logf("crash %s: %s: events %d, requests %d, attempts %d, notices %d, lost %d, phantom %d",
		c.space.Name, name, len(published), requests, attempts, len(notices), lost, phantom)
	require.Zero(t, lost)
	require.Zero(t, phantom)
	require.Zero(t, c.receiver.unverified.Load(), "requests with a wrong signature or of another organization")
	for id, kind := range failed {
		// Once a webhook is deleted, nobody is told of it any more.
		if kind != "doomed" {
			require.Positive(t, notices[id], "notices of %s", id)
		}
	}
	for id, n := range notices {
		require.Contains(t, failed, id, "a notice of %s, which has no failed delivery", id)
		if planned {
			require.Equal(t, 1, n, "notices of %s", id)
		}
	}
}

func (c *crash) kindOf(organization string, id uuid.UUID) string {
	for _, kind := range crashKinds {
		if c.hooks[organization+"/"+kind].ID == id {
			return kind
		}
	}
	return ""
}

// checkDelivery compares a delivery with its log, the oldest attempt first, and with
// the requests that arrived.
func (c *crash) checkDelivery(t *testing.T, d webhook.Delivery, kind string, logged []webhook.Attempt, arrived []crashRequest) {
	t.Helper()
	require.True(t, d.State.Finished(), "%s is %s", d.ID, d.State)
	require.LessOrEqual(t, len(logged), len(crashSchedule)+1)
	require.Len(t, logged, d.Attempts)
	answered := map[int]int{}
	for _, r := range arrived {
		_, twice := answered[r.attempt]
		require.False(t, twice, "attempt %d of %s has arrived twice", r.attempt, d.ID)
		answered[r.attempt] = r.status
		require.LessOrEqual(t, r.attempt, len(logged), "a request of %s without an attempt on record", d.ID)
		require.Equal(t, arrived[0].body, r.body, "the bytes of %s", d.ID)
	}
	for i, a := range logged {
		require.Equal(t, i+1, a.Number)
		if a.Outcome == webhook.OutcomeSucceeded {
			require.Equal(t, http.StatusNoContent, answered[a.Number], "attempt %d of %s", a.Number, d.ID)
		}
		if i > 0 && logged[i-1].Outcome != webhook.OutcomeLate { // whose row is what happened after it was given up
			before := logged[i-1]
			due := before.StartedAt.Add(before.Duration + crashSchedule[i-1])
			require.False(t, a.StartedAt.Before(due.Add(-time.Millisecond)), "attempt %d of %s began %v early, after %+v", a.Number, d.ID, due.Sub(a.StartedAt), before)
		}
	}
	switch d.State {
	case webhook.DeliverySucceeded:
		// The last one, or an earlier one whose process was stopped before it could say so.
		require.True(t, slices.ContainsFunc(logged, func(a webhook.Attempt) bool { return a.Outcome == webhook.OutcomeSucceeded }), d.ID)
		require.Contains(t, []string{"healthy", "flaky"}, kind)
	case webhook.DeliveryFailed:
		require.Len(t, logged, len(crashSchedule)+1)
	default:
		require.Equal(t, "doomed", kind, "%s is %s", d.ID, d.State)
	}
}

// crashRequest is a request that has arrived.
type crashRequest struct {
	attempt int
	body    [sha256.Size]byte
	status  int // that it was answered with, or 0
}

// crashReceiver answers as crashKinds say, and writes down what has arrived.
type crashReceiver struct {
	*httptest.Server
	verifiers  sync.Map // *webhook.Verifier by path
	kill       atomic.Pointer[func()]
	unverified atomic.Int64

	mu       sync.Mutex
	n        int
	requests map[string][]*crashRequest // by path and event
}

func newCrashReceiver(t *testing.T) *crashReceiver {
	t.Helper()
	r := &crashReceiver{requests: map[string][]*crashRequest{}}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ErrorLog = log.New(io.Discard, "", 0) // of senders that are killed
	r.StartTLS()
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

func (r *crashReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/")
	organization, kind, _ := strings.Cut(path, "/")
	body, err := r.verify(path, organization, req)
	if err != nil {
		if !errors.Is(err, errCut) {
			r.unverified.Add(1)
		}
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x := &crashRequest{body: sha256.Sum256(body)}
	x.attempt, _ = strconv.Atoi(req.Header.Get("X-Pivot-Attempt"))
	key := path + " " + req.Header.Get("Webhook-Id")
	r.mu.Lock()
	r.n++
	r.requests[key] = append(r.requests[key], x)
	r.mu.Unlock()
	if kill := r.kill.Load(); kill != nil {
		(*kill)()
		panic(http.ErrAbortHandler)
	}
	status := http.StatusNoContent
	if kind == "failing" || kind == "doomed" || kind == "flaky" && x.attempt < 3 {
		status = http.StatusInternalServerError
	}
	r.mu.Lock()
	x.status = status
	r.mu.Unlock()
	w.WriteHeader(status)
}

// errCut says that a request did not arrive whole: its sender is dead.
var errCut = errors.New("the request was cut")

// verify returns the body of a request that is signed for its path, and of an event
// of the path's organization.
func (r *crashReceiver) verify(path, organization string, req *http.Request) ([]byte, error) {
	v, ok := r.verifiers.Load(path)
	if !ok {
		return nil, fmt.Errorf("nobody is registered for %q", path)
	}
	body, err := v.(*webhook.Verifier).VerifyRequest(req)
	switch {
	case err != nil && req.Context().Err() != nil:
		return nil, errCut
	case err != nil:
		return nil, err
	case !strings.Contains(string(body), `"`+organization+" "):
		return nil, fmt.Errorf("%s got %s", path, body)
	}
	return body, nil
}

// log returns how many requests have arrived, and which, by path and event.
func (r *crashReceiver) log() (n int, out map[string][]crashRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out = map[string][]crashRequest{}
	for key, list := range r.requests {
		for _, x := range list {
			out[key] = append(out[key], *x)
		}
	}
	return r.n, out
}
