package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// limitRun is what a loop without storage did.
type limitRun struct {
	concurrency int
	requests    int64
	elapsed     time.Duration
	cpu         cpuUse
}

func (r limitRun) perSecond() float64 { return float64(r.requests) / r.elapsed.Seconds() }

// perRequest returns CPU time in microseconds.
func (r limitRun) perRequest(d time.Duration) float64 { return micros(d, int(r.requests)) }

func micros(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }

// limit is the scenario: how many signed requests a second this machine can make
// and take, if nothing has to be stored.
func (b *bench) limit(ctx context.Context) (*report, error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	swept, best, err := b.sweepLimit(ctx, targets)
	if err != nil {
		return nil, err
	}
	r := &report{columns: []string{"concurrency", "requests/s", "rounds", "sender µs", "receiver µs"}}
	r.note("%s; %d-byte payloads; CPU time is for each request", b.title(), payloadBytes)
	for _, s := range swept {
		r.row(fmt.Sprint(s.concurrency), number(s.perSecond()), "sweep", number(s.perRequest(s.cpu.sender)), number(s.perRequest(s.cpu.receiver)))
	}
	var rounds []limitRun
	for range b.sizes.rounds {
		run, err := b.runLimit(ctx, targets, best, b.sizes.limitFor)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, run)
	}
	perSecond := medianOf(rounds, limitRun.perSecond)
	sender := medianOf(rounds, func(r limitRun) float64 { return r.perRequest(r.cpu.sender) })
	receiver := medianOf(rounds, func(r limitRun) float64 { return r.perRequest(r.cpu.receiver) })
	r.row(fmt.Sprint(best), number(perSecond), each(rounds, limitRun.perSecond), number(sender), number(receiver))
	r.ratio("limit_per_second", perSecond)
	r.ratio("limit_sender_cpu_us", sender)
	r.ratio("limit_receiver_cpu_us", receiver)
	return r, nil
}

// each writes a figure of each round.
func each[T any](rounds []T, figure func(T) float64) string {
	texts := make([]string, len(rounds))
	for i, r := range rounds {
		texts[i] = number(figure(r))
	}
	return strings.Join(texts, " ")
}

// sweepLimit looks for the concurrency with the most requests a second.
func (b *bench) sweepLimit(ctx context.Context, targets []target) (swept []limitRun, best int, err error) {
	most := 0.0
	for _, concurrency := range b.sizes.concurrencies {
		run, err := b.runLimit(ctx, targets, concurrency, b.sizes.sweepFor)
		if err != nil {
			return nil, 0, err
		}
		swept = append(swept, run)
		if run.perSecond() > most {
			most, best = run.perSecond(), concurrency
		}
	}
	b.log.Info("limit swept", "concurrency", best, "per_second", int(most))
	return swept, best, nil
}

// runLimit sends as fast as so many loops can, and counts for a while after the
// connections have been made.
func (b *bench) runLimit(ctx context.Context, targets []target, concurrency int, lasting time.Duration) (limitRun, error) {
	runtime.GC()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: b.receiver.roots},
		Protocols:           &protocols,
		DisableCompression:  true,
		MaxIdleConnsPerHost: concurrency,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	var sent atomic.Int64
	var stop atomic.Bool
	var loops sync.WaitGroup
	for i := range concurrency {
		loops.Go(func() {
			t := &targets[i%len(targets)]
			id := t.webhook.ID // any will do
			body := payload(t, id)
			for !stop.Load() {
				status, err := post(ctx, client, t, id.String(), body)
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("the receiver answered %d", status)
				}
				if err != nil {
					cancel(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	run, err := b.watchLimit(ctx, &sent, concurrency, lasting)
	stop.Store(true)
	loops.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return run, fmt.Errorf("limit: %w", err)
	}
	return run, nil
}

// watchLimit counts what is sent in a span of time.
func (b *bench) watchLimit(ctx context.Context, sent *atomic.Int64, concurrency int, lasting time.Duration) (run limitRun, err error) {
	run.concurrency = concurrency
	if err := sendFor(ctx, b.sizes.warmUp, sent, int64(concurrency)); err != nil {
		return run, err
	}
	before, err := b.cpu(nil)
	if err != nil {
		return run, err
	}
	began, sentBefore := time.Now(), sent.Load()
	if err := sendFor(ctx, lasting, sent, sentBefore+1); err != nil {
		return run, err
	}
	run.elapsed, run.requests = time.Since(began), sent.Load()-sentBefore
	after, err := b.cpu(nil)
	run.cpu = after.minus(before)
	return run, err
}

// sendFor waits for a span of time, and then until so many requests have been sent
// in all.
func sendFor(ctx context.Context, span time.Duration, sent *atomic.Int64, atLeast int64) error {
	err := pause(ctx, span)
	for err == nil && sent.Load() < atLeast {
		err = pause(ctx, time.Millisecond)
	}
	return err
}
