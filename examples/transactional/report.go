package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/posthorn/webhook"
)

// conclude compares what is on record with what the receiver got. Only if they
// agree it prints the last line, with the numbers for programs.
func (s shop) conclude(ctx context.Context, out io.Writer, rcv *receiver, committed, rolledBack []webhook.Published) error {
	var stored int
	if err := s.db.QueryRowContext(ctx, "select count(*) from orders").Scan(&stored); err != nil {
		return err
	}
	log, err := s.manager.Deliveries(ctx, admin, webhook.DeliveryQuery{})
	if err != nil {
		return err
	}
	delivered := 0
	for _, d := range log.Items {
		if d.State == webhook.DeliverySucceeded {
			delivered++
		}
		if slices.ContainsFunc(rolledBack, func(p webhook.Published) bool { return p.EventID == d.EventID }) {
			return fmt.Errorf("the order of event %s was rolled back, and the event was not", d.EventID)
		}
	}
	say(out, "the shop has %d orders on record, and the log %d deliveries, all of events that were committed\n", stored, len(log.Items))
	switch n := len(committed); {
	case stored != n || len(log.Items) != n || delivered != n:
		return fmt.Errorf("%d orders were committed, %d stored, %d of %d deliveries succeeded", n, stored, delivered, len(log.Items))
	case len(rcv.orders) > 0:
		return fmt.Errorf("the receiver heard of %d orders more", len(rcv.orders))
	}
	say(out, "transactional: ok orders=%d rolled_back=%d delivered=%d\n", stored, len(rolledBack), delivered)
	return nil
}

// say prints. That nobody reads it is no reason to stop.
func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
