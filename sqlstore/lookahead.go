package sqlstore

import (
	"context"
	"slices"
	"time"
)

// lookAhead finds when it is worth asking again.
func (k *claiming) lookAhead(ctx context.Context, waiting bool) error {
	more, err := k.anyReady(ctx)
	if err != nil {
		return err
	}
	if more {
		k.soonest(k.now)
		return nil
	}
	if !waiting {
		return nil
	}
	next, err := k.nextWaiting(ctx)
	k.soonest(next)
	return err
}

func (k *claiming) soonest(t time.Time) {
	if !t.IsZero() && (k.out.NextDue.IsZero() || t.Before(k.out.NextDue)) {
		k.out.NextDue = t
	}
}

// anyReady reports whether a claim with the same bounds would find ready rows.
// When it would have to ask too many webhooks, it says yes.
func (k *claiming) anyReady(ctx context.Context) (bool, error) {
	for {
		var want []allotment
		for i := range k.lanes {
			l := &k.lanes[i]
			if !k.exhausted[l.id] && k.room.any(l) {
				want = append(want, allotment{l, 1})
			}
		}
		for some := range slices.Chunk(want, 8) { // nearly always the first has more
			if err := k.readHooks(ctx, some); err != nil {
				return false, err
			}
			picked, err := k.pick(ctx, some, false)
			if err != nil || len(picked) > 0 {
				return true, err
			}
			for _, a := range some {
				k.exhausted[a.lane.id] = true
			}
		}
		if k.scanned {
			return false, nil
		}
		if !k.session.lanes.worthScanning() {
			return true, nil
		}
		if err := k.scan(ctx); err != nil {
			return false, err
		}
	}
}

// nextWaiting returns when the next delivery falls due that a claim with the
// same bounds may take. Behind many that it may not take it says when the last
// of those is due, so that somebody looks again then.
func (k *claiming) nextWaiting(ctx context.Context) (time.Time, error) {
	type waiting struct {
		lane
		at     time.Time
		active int
		epoch  int64
		from   int64
	}
	found, err := query(ctx, k.session, func(scan func(...any) error, w *waiting) error {
		return scan(&w.id, &w.organization, at{&w.at}, &w.active, &w.epoch, &w.from)
	}, `select q.webhook_id, w.organization_id, q.wake_at, case when w.deleted_at is null then w.active else 0 end, q.epoch, w.live_from
		from (select webhook_id, wake_at, epoch from {queue} where phase = 1 order by wake_at limit ?) q join {webhooks} w on {key w.id = q.webhook_id}
		order by q.wake_at`, waitingLook)
	if err != nil {
		return time.Time{}, err
	}
	for _, w := range found {
		if w.active == 1 && w.epoch >= w.from && k.room.any(&w.lane) {
			return w.at, nil
		}
	}
	if len(found) == waitingLook {
		return found[len(found)-1].at, nil
	}
	return time.Time{}, nil
}
