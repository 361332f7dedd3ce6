package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// Moments are stored as whole microseconds since 1970 in a BIGINT: the three
// dialects' own types differ in precision, range, time zones and in what
// drivers make of them.

// stored is t as the store keeps it.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// at scans a moment; null is the zero time.
type at struct{ to *time.Time }

func (a at) Scan(v any) error {
	var n sql.NullInt64
	if err := n.Scan(v); err != nil {
		return err
	}
	*a.to = time.Time{}
	if n.Valid {
		*a.to = time.UnixMicro(n.Int64).UTC()
	}
	return nil
}

// maybe scans what may be null, as the zero value.
type maybe[T any] struct{ to *T }

func (m maybe[T]) Scan(v any) error {
	var n sql.Null[T]
	if err := n.Scan(v); err != nil {
		return err
	}
	*m.to = n.V
	return nil
}

// id is a UUID as an argument; the zero UUID is null.
func (d Dialect) id(v uuid.UUID) any {
	switch {
	case v == uuid.UUID{}:
		return nil
	case d == Postgres:
		return v.String()
	default:
		return v[:]
	}
}

// asJSON encodes what is only ever read as a whole; empty is null.
func asJSON[T any](v T, empty bool) (any, error) {
	if empty {
		return nil, nil //nolint:nilnil // null is what is stored
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return string(b), nil
}

// fromJSON scans what asJSON wrote.
type fromJSON[T any] struct{ to *T }

func (j fromJSON[T]) Scan(v any) error {
	var text sql.NullString
	if err := text.Scan(v); err != nil {
		return err
	}
	var zero T
	*j.to = zero
	if !text.Valid {
		return nil
	}
	return json.Unmarshal([]byte(text.String), j.to)
}

// The states of deliveries as they are stored. Whether an open delivery is
// pending, held or cancelled is for its webhook to say, see [shownState].
const (
	stateOpen      = 0
	stateSucceeded = 1
	stateFailed    = 2
	stateCancelled = 3
	stateHeld      = 4 // never stored
)

var states = [...]webhook.DeliveryState{
	webhook.DeliveryPending, webhook.DeliverySucceeded, webhook.DeliveryFailed, webhook.DeliveryCancelled, webhook.DeliveryHeld,
}

func stateCode(s webhook.DeliveryState) int64 {
	for i, known := range states {
		if s == known {
			return int64(i)
		}
	}
	return -1
}

// The outcomes of attempts as they are stored.
var outcomes = [...]webhook.Outcome{
	webhook.OutcomeSucceeded, webhook.OutcomeFailed, webhook.OutcomeInterrupted, webhook.OutcomeLate,
}

const outcomeInterrupted, outcomeLate = 2, 3

func outcomeCode(o webhook.Outcome) int64 {
	for i, known := range outcomes {
		if o == known {
			return int64(i)
		}
	}
	return -1
}

// The phases of rows in the queue.
const (
	phaseReady   = 0 // due, in the order of creation
	phaseWaiting = 1 // for wake_at
	phaseLeased  = 2 // until wake_at
	phaseHeld    = 3 // until its webhook goes on
)
