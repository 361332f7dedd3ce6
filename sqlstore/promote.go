package sqlstore

import (
	"context"
	"slices"

	"github.com/google/uuid"
)

// promote makes waiting deliveries ready whose time has come, and says how many. Whose
// they are it notes, so that the queue need not be asked.
func (k *claiming) promote(ctx context.Context) (int, error) {
	type waiting struct{ id, webhook uuid.UUID }
	found, err := query(ctx, k.session, func(scan func(...any) error, w *waiting) error { return scan(&w.id, &w.webhook) },
		"select delivery_id, webhook_id from {queue} where phase = 1 and wake_at <= ? order by wake_at limit ? {for update} {skip locked}",
		k.now.UnixMicro(), promoteLimit)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	x, lows := k.d.rows(), map[uuid.UUID]uuid.UUID{}
	for _, w := range found {
		x.add().id("id", w.id)
		if low, ok := lows[w.webhook]; !ok || slices.Compare(w.id[:], low[:]) < 0 {
			lows[w.webhook] = w.id
		}
	}
	strangers := k.d.rows()
	for _, id := range k.session.lanes.lower(lows) {
		strangers.add().id("id", id)
	}
	if strangers.n > 0 {
		all, err := query(ctx, k.session, scanFound, "select w.id, w.organization_id, case when w.deleted_at is null then w.active else 0 end, null "+
			"from {rows x id uuid} join {webhooks} w on {key w.id = x.id}", strangers)
		if err != nil {
			return 0, err
		}
		for i := range all {
			f := &all[i]
			if f.active {
				k.session.lanes.addFrom(f.id, f.organization, lows[f.id])
			} else {
				k.behind = append(k.behind, f.id)
			}
		}
	}
	return k.updateRows(ctx, "queue", "id uuid", x, "{key t.delivery_id = x.id}", []string{"phase = 0"})
}

// scan asks the queue which webhooks have ready rows: one look into the index
// for each.
func (k *claiming) scan(ctx context.Context) error {
	if k.scanned {
		return nil
	}
	k.scanned = true
	began := ticks()
	all, err := query(ctx, k.session, scanFound, scanOf[k.d])
	if err != nil {
		return err
	}
	took := ticks().Sub(began)
	var list []lane
	var behind []uuid.UUID
	for _, f := range all {
		if f.low == (uuid.UUID{}) {
			f.low = lowest
		}
		if f.active {
			list = append(list, f.lane)
		} else {
			behind = append(behind, f.id)
		}
	}
	before := map[uuid.UUID]uuid.UUID{}
	for i := range k.lanes {
		before[k.lanes[i].id] = k.lanes[i].low
	}
	k.lanes = k.session.lanes.scanned(list, behind, took)
	for i := range k.lanes {
		if l := &k.lanes[i]; l.low != before[l.id] {
			delete(k.exhausted, l.id) // it begins before where this claim has looked
		}
	}
	return nil
}

// found is a webhook that has ready rows.
type found struct {
	lane
	active bool // and not deleted
}

func scanFound(scan func(...any) error, f *found) error {
	var active int
	err := scan(&f.id, &f.organization, &active, maybe[uuid.UUID]{&f.low})
	f.active = active == 1
	return err
}

// scanOf finds the webhooks that have ready rows. PostgreSQL's says as well where
// they begin; MySQL looks into the index in the same way by itself.
var scanOf = map[Dialect]string{
	Postgres: `with recursive r(id, low) as (
			(select webhook_id, delivery_id from {queue} where phase = 0 order by webhook_id, delivery_id limit 1)
			union all
			select n.webhook_id, n.delivery_id from r cross join lateral (
				select q.webhook_id, q.delivery_id from {queue} q where q.phase = 0 and q.webhook_id > r.id
				order by q.webhook_id, q.delivery_id limit 1) n
		) select w.id, w.organization_id, case when w.deleted_at is null then w.active else 0 end, r.low
		from r join {webhooks} w on {key w.id = r.id}`,
	MySQL: `select w.id, w.organization_id, case when w.deleted_at is null then w.active else 0 end, null
		from (select distinct webhook_id as id from {queue} where phase = 0) r join {webhooks} w on {key w.id = r.id}`,
	SQLite: `with recursive r(id) as (
			select (select webhook_id from {queue} where phase = 0 order by webhook_id limit 1)
			union all
			select (select q.webhook_id from {queue} q where q.phase = 0 and q.webhook_id > r.id order by q.webhook_id limit 1)
			from r where r.id is not null
		) select w.id, w.organization_id, case when w.deleted_at is null then w.active else 0 end, null
		from r join {webhooks} w on {key w.id = r.id}`,
}
