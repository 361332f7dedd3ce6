package sqlstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// resealBatch is how many webhooks a transaction of Reseal looks at.
const resealBatch = 200

// Resealed says what [Store.Reseal] has done.
type Resealed struct {
	Resealed int         // secrets that were sealed anew
	Current  int         // those that were sealed under the first key already
	Unopened []uuid.UUID // webhooks whose secrets did not open, and were left as they are
}

// Reseal seals all secrets anew that are not sealed under the keyring's first key.
// It is for after a change of keys, or of plaintext to a keyring: for that, set
// InsecurePlaintextSecrets beside Keyring until it is done. Dispatchers go on
// meanwhile, and any number of processes may call it.
//
// What was stored in plaintext stays readable where databases keep what has been
// changed: in backups, in write-ahead logs, and in free space until VACUUM has
// cleared it (SQLite: VACUUM; PostgreSQL: VACUUM FULL of the webhooks' table). If that
// matters, replace the webhooks.
//
// It works in short transactions. Broken off, it has done a part; called again, it
// does the rest. What it returns counts also if there is an error.
func (s *Store) Reseal(ctx context.Context) (Resealed, error) {
	var out Resealed
	var after uuid.UUID
	for {
		var step Resealed
		var last uuid.UUID
		err := s.write(ctx, "reseal", func(c session) (err error) {
			step, last, err = c.reseal(ctx, after)
			return err
		}, func(session) (bool, error) { return false, nil }) // once more does no harm
		if err != nil {
			return out, err
		}
		out.Resealed += step.Resealed
		out.Current += step.Current
		out.Unopened = append(out.Unopened, step.Unopened...)
		if last == (uuid.UUID{}) {
			return out, nil
		}
		after = last
	}
}

// reseal works on the webhooks after one, and returns the last of them, or a zero
// id if these were all.
func (c session) reseal(ctx context.Context, after uuid.UUID) (out Resealed, last uuid.UUID, err error) {
	type stored struct {
		id           uuid.UUID
		organization string
		secret       []byte
	}
	// Locked, so that a webhook which is being deleted does not get its secret back.
	found, err := query(ctx, c, func(scan func(...any) error, w *stored) error { return scan(&w.id, &w.organization, &w.secret) },
		"select id, organization_id, secret from {webhooks} where id > ? and secret is not null order by id limit ? {for update}",
		c.d.anyID(after), resealBatch)
	if err != nil || len(found) == 0 {
		return out, uuid.UUID{}, err
	}
	x := c.d.rows()
	for _, w := range found {
		if c.current(w.secret) {
			out.Current++
			continue
		}
		secret, err := c.unseal(w.secret, w.organization, w.id)
		if err != nil {
			c.log.Error("sqlstore: a webhook's secret does not open", "webhook_id", w.id, "error", err)
			out.Unopened = append(out.Unopened, w.id)
			continue
		}
		sealed, err := c.seal(secret, w.organization, w.id)
		if err != nil {
			return out, uuid.UUID{}, fmt.Errorf("seal: %w", err)
		}
		x.add().id("id", w.id).bytes("secret", sealed)
		out.Resealed++
	}
	if _, err := c.updateRows(ctx, "webhooks", "id uuid, secret bytes", x, "{key t.id = x.id}", []string{"secret = x.secret"}); err != nil {
		return out, uuid.UUID{}, err
	}
	if len(found) == resealBatch {
		last = found[len(found)-1].id
	}
	return out, last, nil
}
