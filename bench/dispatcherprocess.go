package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// dispatcherConns are the connections of a dispatcher's process: eight of them
// stay below PostgreSQL's usual 100.
const dispatcherConns = 8

// dispatcherOrder is the first line of a dispatcher's input.
type dispatcherOrder struct {
	Store     string `json:"store"`
	Place     place  `json:"place"`
	Authority []byte `json:"authority"` // the receiver's
}

// dispatcherQuestion is a line of its input.
type dispatcherQuestion struct {
	Start bool `json:"start,omitempty"` // begin to deliver
	Stop  bool `json:"stop,omitempty"`  // and end it
}

// dispatcherAnswer is how it responds, the first time once the store is open.
type dispatcherAnswer struct {
	Recorded int64         `json:"recorded"` // deliveries
	Lost     int64         `json:"lost"`     // of them, to another process
	LastNS   int64         `json:"last_ns"`  // when the last one was recorded, wall clock
	CPU      time.Duration `json:"cpu"`
	PeakRSS  int64         `json:"peak_rss"` // bytes of memory that it ever had
	Mallocs  uint64        `json:"mallocs"`  // objects that it has allocated
}

// serveDispatcher is the process of a dispatcher on somebody else's database.
func serveDispatcher(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // it ends with its input
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	var order dispatcherOrder
	if err := questions.Decode(&order); err != nil {
		return err
	}
	roots, err := rootsOf(order.Authority)
	if err != nil {
		return err
	}
	db, err := order.Place.connect(order.Store, dispatcherConns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := newSQLStore(ctx, db, order.Store)
	if err != nil {
		return err
	}
	b := newBench(options{store: order.Store}, sizes{}, os.Stderr)
	b.receiver = &receiverProcess{roots: roots}
	var t tally
	if err := answers.Encode(dispatcherAnswer{}); err != nil {
		return err
	}
	var s *sender
	stop := func() (err error) {
		if s != nil {
			err = s.stop()
			s = nil
		}
		return err
	}
	err = answerAll(questions, answers, func(q dispatcherQuestion) (a dispatcherAnswer, err error) {
		switch {
		case q.Start && s == nil:
			s, err = b.startSender(ctx, store, senderConfig{tracer: &t})
		case q.Stop:
			err = stop()
		}
		if err != nil {
			return a, err
		}
		return t.answer()
	})
	return errors.Join(err, stop())
}

func (t *tally) answer() (a dispatcherAnswer, err error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	a = dispatcherAnswer{Recorded: t.recorded.Load(), Lost: t.lost.Load(), LastNS: t.lastNS.Load(), Mallocs: m.Mallocs}
	if a.CPU, err = ownCPU(); err != nil {
		return a, err
	}
	a.PeakRSS, err = ownPeakRSS()
	return a, err
}

// ownPeakRSS is the most memory that this process ever had, in bytes. Getrusage
// would count what its parent had when it was started.
func ownPeakRSS() (int64, error) {
	var kb int64
	text, _ := fieldOf("/proc/self/status", "VmHWM")
	if _, err := fmt.Sscan(text, &kb); err != nil {
		return 0, fmt.Errorf("VmHWM of /proc/self/status: %w", err)
	}
	return kb << 10, nil
}

// dispatcherProcess is the parent's hold on it.
type dispatcherProcess struct{ *child }

// startDispatchers starts so many processes on a database, which do not deliver
// yet. The function that it returns ends them.
func (b *bench) startDispatchers(ctx context.Context, db *database, n int) (all []dispatcherProcess, end func() error, err error) {
	end = func() error {
		var errs []error
		for _, p := range all {
			errs = append(errs, p.close())
		}
		return errors.Join(errs...)
	}
	for range n {
		c, err := startChild(ctx, dispatcherRole)
		if err != nil {
			return nil, nil, errors.Join(err, end())
		}
		all = append(all, dispatcherProcess{c})
		var ready dispatcherAnswer
		if err := c.ask(dispatcherOrder{Store: b.store, Place: db.place, Authority: b.receiver.authority}, &ready); err != nil {
			return nil, nil, errors.Join(err, end())
		}
	}
	return all, end, nil
}

func (p dispatcherProcess) ask(q dispatcherQuestion) (a dispatcherAnswer, err error) {
	err = p.child.ask(q, &a)
	return a, err
}

// askAll asks several processes, and returns their answers in that order.
func askAll(all []dispatcherProcess, q dispatcherQuestion) ([]dispatcherAnswer, error) {
	out := make([]dispatcherAnswer, len(all))
	for i, p := range all {
		var err error
		if out[i], err = p.ask(q); err != nil {
			return nil, err
		}
	}
	return out, nil
}
