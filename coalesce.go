package webhook

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

const (
	maxFlushEvents = 256     // events of one flush
	maxFlushBytes  = 1 << 20 // and bytes of their payloads, beyond the first event
	maxFlushes     = 2       // at once: while one commits, the next is written
)

// coalescer lets calls of Publish that come at the same time share a commit. A
// call that finds nobody at work is written at once, alone; those that come
// while others are being written are written together. Nobody waits for more to
// come.
type coalescer struct {
	insert func(context.Context, []EventRecord) (InsertResult, error)

	mu      sync.Mutex
	waiting []*publishing
	flushes int
}

// publishing is one call that waits for its event to be stored.
type publishing struct {
	ctx    context.Context //nolint:containedctx // the call's own, to see whether anybody still waits
	event  EventRecord
	done   chan struct{}
	result InsertedEvent
	err    error // the store's
}

// publish stores an event. When ctx ends before that is done, nobody knows
// whether it will be.
func (c *coalescer) publish(ctx context.Context, e EventRecord) (InsertedEvent, error) {
	call := &publishing{ctx: ctx, event: e, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, call)
	if c.flushes < maxFlushes {
		c.flushes++
		go c.flush()
	}
	c.mu.Unlock()
	select {
	case <-call.done:
		return call.result, call.err
	case <-ctx.Done():
		return InsertedEvent{}, ctx.Err()
	}
}

// flush writes what waits until nothing does.
func (c *coalescer) flush() {
	for {
		calls := c.next()
		if len(calls) == 0 {
			return
		}
		c.write(calls)
	}
}

// next takes calls off the queue; none means that this flush is over.
func (c *coalescer) next() []*publishing {
	c.mu.Lock()
	defer c.mu.Unlock()
	var calls []*publishing
	n, size := 0, 0
	for ; n < len(c.waiting); n++ {
		call := c.waiting[n]
		if call.ctx.Err() != nil { // nobody waits for it any more
			continue
		}
		size += len(call.event.Payload)
		if len(calls) == maxFlushEvents || len(calls) > 0 && size > maxFlushBytes {
			break
		}
		calls = append(calls, call)
	}
	c.waiting = c.waiting[n:]
	if len(calls) == 0 {
		c.waiting = nil
		c.flushes--
	}
	return calls
}

// write stores the calls' events in one transaction.
func (c *coalescer) write(calls []*publishing) {
	events := make([]EventRecord, len(calls))
	for i, call := range calls {
		events[i] = call.event
	}
	r, err := c.call(calls, events)
	if err != nil && len(calls) > 1 && !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, context.DeadlineExceeded) {
		c.writeApart(calls)
		return
	}
	for i, call := range calls {
		call.err = err
		if err == nil {
			call.result = r.Events[i]
		}
		close(call.done)
	}
}

// writeApart stores each call's event by itself, so that none fails for what is
// wrong with another. Two failures in a row are the store's own, and all the
// others' as well: who waits for it should not have to queue for that.
func (c *coalescer) writeApart(calls []*publishing) {
	failed := 0
	for i, call := range calls {
		c.write(calls[i : i+1])
		switch {
		case call.err == nil:
			failed = 0
			continue
		case call.ctx.Err() != nil: // its own end
			continue
		}
		if failed++; failed < 2 {
			continue
		}
		for _, rest := range calls[i+1:] {
			rest.err = call.err
			close(rest.done)
		}
		return
	}
}

// call asks the store. The transaction goes on as long as any of the calls
// waits for it.
func (c *coalescer) call(calls []*publishing, events []EventRecord) (r InsertResult, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(calls[0].ctx), storeTimeout)
	defer cancel()
	var mu sync.Mutex
	left := len(calls)
	for _, call := range calls {
		defer context.AfterFunc(call.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		})()
	}
	defer func() {
		if p := recover(); p != nil { // in the caller's goroutine it would have been the caller's
			err = fmt.Errorf("the store panicked: %v\n%s", p, debug.Stack())
		}
	}()
	r, err = c.insert(ctx, events)
	if err == nil && len(r.Events) != len(events) {
		err = fmt.Errorf("the store answered for %d of %d events", len(r.Events), len(events))
	}
	return r, err
}
