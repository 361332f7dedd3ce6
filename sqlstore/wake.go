package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/posthorn/webhook"
)

var _ webhook.WakeSource = (*Store)(nil)

const (
	notifyEvery   = 5 * time.Millisecond // at most: between notifications of one process
	notifyTimeout = 5 * time.Second
	listenPoll    = time.Second // for what nobody notifies of: commits of hosts' transactions
	listenConns   = 4           // of a bounded pool, below which none is spared for listening
)

// Wake tells the dispatchers of all processes, on Postgres with pgx, that there
// may be new work; elsewhere they find it within a second. The store does so by
// itself, except for what is published in a transaction of the host, whose
// commit it does not see: the dispatcher of the same process looks for that, and
// a process without one may call Wake after the commit. It does not block.
func (s *Store) Wake() { s.wake(everybody) }

// Whom a notification is for: its payload is the store's that sends it, which
// leaves itself out, or nobody's.
type audience bool

const (
	everybody audience = false
	others    audience = true
)

// notifications are sent after commits, one at a time: a NOTIFY inside the
// publishing transactions would line up their commits, at some 2,000 a second.
type notifications struct {
	mu      sync.Mutex
	sending bool
	again   bool     // another one is to follow
	whom    audience // for these
}

// wake sends a notification, or lets the one that is being sent be followed by
// another.
func (s *Store) wake(whom audience) {
	if s.d != Postgres {
		return
	}
	n := &s.notifications
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sending {
		n.again, n.whom = true, n.whom && whom
		return
	}
	n.sending, n.whom = true, others
	go func() {
		for more := true; more; {
			s.notify(whom)
			n.mu.Lock()
			more, whom = n.again, n.whom
			n.sending, n.again, n.whom = more, false, others
			n.mu.Unlock()
		}
	}()
}

// notify sends one notification. If it fails, the others poll.
func (s *Store) notify(whom audience) {
	payload := ""
	if whom == others {
		payload = s.self
	}
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	if _, err := s.db.ExecContext(ctx, "select pg_notify("+channelName+", $2)", s.prefix, payload); err != nil {
		s.log.DebugContext(ctx, "sqlstore: dispatchers were not notified, and will find the work themselves", "error", err)
	}
	sleep(ctx, notifyEvery)
}

// channelName is what the notifications of this schema are sent under.
const channelName = `left($1::text || 'wake_' || md5(current_schema()), 63)`

// Listen wakes a dispatcher when there may be new work. It needs Postgres with
// the pgx driver, and takes a connection for as long as it listens; from a pool
// of fewer than four it takes none. Otherwise it returns errors.ErrUnsupported.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	if s.d != Postgres {
		return errors.ErrUnsupported
	}
	if n := s.db.Stats().MaxOpenConnections; n > 0 && n < listenConns {
		return errors.ErrUnsupported
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: listen: %w", err)
	}
	defer conn.Close()
	err = s.listen(ctx, conn, wake)
	// What it listens to must not stay with the connection.
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return fmt.Errorf("sqlstore: listen: %w", err)
}

func (s *Store) listen(ctx context.Context, conn *sql.Conn, wake func()) error {
	var wait func(context.Context) (payload string, err error)
	if err := conn.Raw(func(c any) (err error) {
		wait, err = waiter(c)
		return err
	}); err != nil {
		return err
	}
	var channel string
	if err := conn.QueryRowContext(ctx, "select "+channelName, s.prefix).Scan(&channel); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, `listen "`+strings.ReplaceAll(channel, `"`, `""`)+`"`); err != nil {
		return err
	}
	wake()
	polling, stop := context.WithCancel(ctx)
	var poll sync.WaitGroup
	poll.Go(func() {
		ticker := time.NewTicker(listenPoll)
		defer ticker.Stop()
		for {
			select {
			case <-polling.Done():
				return
			case <-ticker.C:
				wake()
			}
		}
	})
	defer func() {
		stop()
		poll.Wait()
	}()
	for {
		var from string
		if err := conn.Raw(func(any) (err error) {
			from, err = wait(ctx)
			return err
		}); err != nil {
			return err
		}
		if from != s.self {
			wake()
		}
	}
}

// waiter returns pgx's WaitForNotification, which database/sql does not know, of
// a connection of its stdlib package. It is called by reflection, so that hosts
// with another driver need not have pgx.
func waiter(c any) (func(context.Context) (payload string, err error), error) {
	method := reflect.ValueOf(c).MethodByName("Conn")
	if !method.IsValid() || method.Type().NumIn() != 0 || method.Type().NumOut() != 1 {
		return nil, errors.ErrUnsupported
	}
	wait := method.Call(nil)[0].MethodByName("WaitForNotification")
	if !wait.IsValid() || wait.Type().NumIn() != 1 || wait.Type().NumOut() != 2 ||
		wait.Type().In(0) != reflect.TypeFor[context.Context]() {
		return nil, errors.ErrUnsupported
	}
	return func(ctx context.Context) (string, error) {
		out := wait.Call([]reflect.Value{reflect.ValueOf(ctx)})
		if err, _ := reflect.TypeAssert[error](out[1]); err != nil {
			return "", err
		}
		payload := reflect.Indirect(out[0]).FieldByName("Payload")
		return payload.String(), nil
	}, nil
}
