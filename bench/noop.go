package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// inMemory is the scenario mem: what the dispatcher does by itself, with a store in
// memory and requests that are answered at once.
func (b *bench) inMemory(ctx context.Context) (*report, error) {
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	var rounds []drainRun
	for range b.sizes.rounds {
		run, err := b.runInMemory(ctx, targets)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, run)
	}
	r := &report{columns: []string{"per second", "rounds", "sender µs"}}
	r.note("%s; %d deliveries to %d webhooks; an HTTPDoer that answers at once", b.title(), b.sizes.inMemory, b.sizes.webhooks)
	perSecond := medianOf(rounds, drainRun.perSecond)
	r.row(number(perSecond), each(rounds, drainRun.perSecond), number(medianOf(rounds, func(r drainRun) float64 { return r.perDelivery(r.cpu.sender) })))
	r.ratio("mem_per_second", perSecond)
	return r, nil
}

func (b *bench) runInMemory(ctx context.Context, targets []target) (run drainRun, err error) {
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := fill(ctx, db.store, targets, b.sizes.inMemory); err != nil {
		return run, fmt.Errorf("mem: %w", err)
	}
	return b.deliver(ctx, db, targets, b.sizes.inMemory, yes{}, nil)
}

// yes answers every request at once.
type yes struct{}

// Do returns an answer without a body.
func (yes) Do(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}, nil
}
