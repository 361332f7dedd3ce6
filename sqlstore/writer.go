package sqlstore

import (
	"context"
	"time"
)

// SQLite has one writer at a time. Within a process, transactions queue for it
// here: SQLite's own waiting sleeps and is not fair. Between processes there is
// nothing but that waiting, which looks once in a tenth of a second: a process that
// writes one transaction after the other would keep all others out. So it leaves
// the database alone for a moment now and then.
const (
	writerSpell = 20 * time.Millisecond // of writing, after which others get a chance
	writerRest  = 2 * time.Millisecond
)

// writer is this process's turn to write to SQLite.
type writer struct {
	turn  chan struct{} // holds one value while it is taken
	spent time.Duration // writing since the last rest
	ended time.Time     // the last turn
}

func newWriter() *writer { return &writer{turn: make(chan struct{}, 1)} }

// take waits for the turn, and returns what ends it.
func (w *writer) take(ctx context.Context) (release func(), err error) {
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := ticks()
	if began.Sub(w.ended) > writerRest { // others have had their chance
		w.spent = 0
	}
	return func() {
		w.ended = ticks()
		if w.spent += w.ended.Sub(began); w.spent < writerSpell {
			<-w.turn
			return
		}
		w.spent = 0
		// Whoever is done need not wait for it.
		time.AfterFunc(writerRest, func() { <-w.turn })
	}, nil
}
