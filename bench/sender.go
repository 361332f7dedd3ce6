package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthorn/webhook"
)

// sender is a dispatcher that runs.
type sender struct {
	dispatcher *webhook.Dispatcher
	stop       func() error // ends it; what is in flight is given up
}

// senderConfig is what is not the same for all senders.
type senderConfig struct {
	tracer webhook.Tracer
	kept   webhook.Retention
	doer   webhook.HTTPDoer // nil means the library's client
}

// startSender runs a dispatcher on a store, with the library's defaults.
func (b *bench) startSender(ctx context.Context, store webhook.Store, c senderConfig) (*sender, error) {
	client, err := b.newClient(0)
	if err != nil {
		return nil, err
	}
	if c.doer == nil {
		c.doer = client
	}
	d, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{
		HTTPDoer: c.doer, Tracer: c.tracer, Retention: c.kept,
		Logger:          b.warnings,
		ShutdownTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	endProfile, err := b.startProfile()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return &sender{dispatcher: d, stop: func() error {
		cancel()
		err := <-ended
		client.CloseIdleConnections()
		return errors.Join(err, endProfile())
	}}, nil
}

// startProfile writes a CPU profile until the function that it returns is called,
// if one is wanted.
func (b *bench) startProfile() (end func() error, err error) {
	if b.profile == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(b.profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// progress counts deliveries that are on record, up to all of them.
type progress struct {
	webhook.NopTracer
	want     int64
	recorded atomic.Int64
	claims   calls
	records  calls
	settles  calls

	end    sync.Once
	ended  chan struct{}
	at     time.Time // when ended was closed
	failed error
}

func newProgress(want int) *progress {
	return &progress{want: int64(want), ended: make(chan struct{})}
}

// Recorded counts, as the dispatcher's tracer.
func (p *progress) Recorded(_ context.Context, c webhook.RecordCall) {
	p.records.add(c.Finished, c.Duration)
	p.add(c.Finished - c.Lost)
}

// Claimed and Settled count calls.
func (p *progress) Claimed(_ context.Context, c webhook.ClaimCall) {
	p.claims.add(c.Claims, c.Duration)
}
func (p *progress) Settled(_ context.Context, c webhook.SettleCall) {
	p.settles.add(c.Settled, c.Duration)
}

// calls sums up calls to the store.
type calls struct{ n, rows, took atomic.Int64 }

func (c *calls) add(rows int, took time.Duration) {
	c.n.Add(1)
	c.rows.Add(int64(rows))
	c.took.Add(int64(took))
}

func (c *calls) String() string {
	n := max(1, c.n.Load())
	return fmt.Sprintf("%d of %.0f rows in %.2f ms", c.n.Load(), float64(c.rows.Load())/float64(n), float64(c.took.Load())/float64(n)/1e6)
}

// AttemptEnded sees to it that nothing but success is counted.
func (p *progress) AttemptEnded(_ context.Context, a webhook.AttemptEnded) {
	if a.State != webhook.DeliverySucceeded {
		p.fail(fmt.Errorf("an attempt failed: %s %s", a.Attempt.ErrorClass, a.Attempt.Error))
	}
}

func (p *progress) add(n int) {
	if p.recorded.Add(int64(n)) >= p.want {
		p.conclude(nil)
	}
}

func (p *progress) fail(err error) { p.conclude(err) }

func (p *progress) conclude(err error) {
	p.end.Do(func() {
		p.failed, p.at = err, time.Now()
		close(p.ended)
	})
}

// stalled is how long a run may get nowhere.
const stalled = time.Minute

// wait returns when everything is on record.
func (p *progress) wait(ctx context.Context) error {
	look := time.NewTicker(stalled)
	defer look.Stop()
	for before := int64(-1); ; {
		select {
		case <-p.ended:
			return p.failed
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		n := p.recorded.Load()
		if n == before {
			return fmt.Errorf("nothing happened for %s, with %d of %d recorded", stalled, n, p.want)
		}
		before = n
	}
}

// errMissing is wrapped by errors about deliveries that are not where they
// should be.
var errMissing = errors.New("not everything was delivered")
