package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// DefaultPageSize and MaxPageSize bound the Limit of queries.
const (
	DefaultPageSize = 50
	MaxPageSize     = 200
)

// Page is one page of a list, newest first. A store that has looked at many
// records which a filter leaves out may give back fewer items than the limit, or
// none, and a Next to go on from.
type Page[T any] struct {
	Items []T

	// Next is the Cursor of the next page; empty on the last one.
	Next string
}

// WebhookQuery lists webhooks by creation. The zero value lists all of them.
type WebhookQuery struct {
	Status    Status    // only this status; empty means any
	EventType EventType // only webhooks subscribed to this type; empty means any

	Limit  int    // items a page, at most 200; 0 means 50
	Cursor string // Page.Next of the page before; empty means the first
}

// DeliveryQuery lists deliveries by creation. The zero value lists all of the
// organization.
type DeliveryQuery struct {
	WebhookID uuid.UUID     // only this webhook's; it may have been deleted
	EventID   uuid.UUID     // only this event's
	State     DeliveryState // only this state; empty means any
	EventType EventType     // only this type; empty means any

	Since  time.Time // created at or after; zero means no bound
	Before time.Time // created before; zero means no bound

	Limit  int    // items a page, at most 200; 0 means 50
	Cursor string // Page.Next of the page before; empty means the first
}

// AttemptQuery lists attempts, the delivery log, by their start. The zero value
// lists all of the organization.
type AttemptQuery struct {
	WebhookID  uuid.UUID // only this webhook's; it may have been deleted
	DeliveryID uuid.UUID // only this delivery's
	Outcome    Outcome   // only this outcome; empty means any
	EventType  EventType // only this type; empty means any

	// StatusClass is the first digit of the answers' status codes, 1 to 5;
	// zero means any, no answer included.
	StatusClass int

	Since  time.Time // started at or after; zero means no bound
	Before time.Time // started before; zero means no bound

	Limit  int    // items a page, at most 200; 0 means 50
	Cursor string // Page.Next of the page before; empty means the first
}

// Query is one of the list queries: [WebhookQuery], [DeliveryQuery] or
// [AttemptQuery].
type Query interface {
	// page returns the query's cursor and limit, and the query without them.
	page() (cursor string, limit int, rest any)
}

func (q WebhookQuery) page() (string, int, any) {
	c, l := q.Cursor, q.Limit
	q.Cursor, q.Limit = "", 0
	return c, l, q
}

func (q DeliveryQuery) page() (string, int, any) {
	c, l := q.Cursor, q.Limit
	q.Cursor, q.Limit = "", 0
	q.Since, q.Before = q.Since.UTC(), q.Before.UTC()
	return c, l, q
}

func (q AttemptQuery) page() (string, int, any) {
	c, l := q.Cursor, q.Limit
	q.Cursor, q.Limit = "", 0
	q.Since, q.Before = q.Since.UTC(), q.Before.UTC()
	return c, l, q
}

// Position is the place of one record in a list: lists run from later to
// earlier times, then from greater to smaller ids, then from greater to smaller
// numbers. Webhooks and deliveries have no number; an attempt has its
// delivery's id and its own number.
type Position struct {
	At     time.Time
	ID     uuid.UUID
	Number int
}

// Compare returns a negative number if p is older than o, and so comes after
// it in a list, a positive one if it is newer, and 0 if they are the same.
func (p Position) Compare(o Position) int {
	if c := p.At.Compare(o.At); c != 0 {
		return c
	}
	if c := bytes.Compare(p.ID[:], o.ID[:]); c != 0 {
		return c
	}
	return p.Number - o.Number
}

// cursorBytes is a tag of the query, then time in µs, id and number.
const cursorBytes = 8 + 8 + 16 + 4

// StartOf returns, for a store, where a page of the query starts, its size, and
// whether it goes on after that position; otherwise it is the first page. It
// returns ErrInvalidCursor if the cursor is malformed or was made for another
// scope or query.
func StartOf(s Scope, q Query) (after Position, limit int, goesOn bool, err error) {
	cursor, limit, rest := q.page()
	if limit <= 0 {
		limit = DefaultPageSize
	}
	limit = min(limit, MaxPageSize)
	if cursor == "" {
		return Position{}, limit, false, nil
	}
	if len(cursor) != base64.RawURLEncoding.EncodedLen(cursorBytes) { // decoding would skip line breaks
		return Position{}, 0, false, ErrInvalidCursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) != cursorBytes || string(raw[:8]) != queryTag(s, rest) {
		return Position{}, 0, false, ErrInvalidCursor
	}
	after.At = time.UnixMicro(int64(binary.BigEndian.Uint64(raw[8:]))).UTC()
	copy(after.ID[:], raw[16:32])
	after.Number = int(int32(binary.BigEndian.Uint32(raw[32:])))
	return after, limit, true, nil
}

// NextCursor returns, for a store, the cursor of the page that comes after the
// given last record.
func NextCursor(s Scope, q Query, last Position) string {
	_, _, rest := q.page()
	raw := make([]byte, 0, cursorBytes)
	raw = append(raw, queryTag(s, rest)...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(last.At.UnixMicro()))
	raw = append(raw, last.ID[:]...)
	raw = binary.BigEndian.AppendUint32(raw, uint32(last.Number))
	return base64.RawURLEncoding.EncodeToString(raw)
}

// recoverCursor returns where a recovery goes on, and readRecoverCursor reads that.
func recoverCursor(p RecoverParams) string {
	raw := []byte(recoveryTag(p))
	for _, at := range [...]Position{p.After, p.Until} {
		raw = binary.BigEndian.AppendUint64(raw, uint64(at.At.UnixMicro()))
		raw = append(raw, at.ID[:]...)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func readRecoverCursor(p RecoverParams, cursor string) (after, until Position, err error) {
	const length = 8 + 2*(8+16)
	if len(cursor) != base64.RawURLEncoding.EncodedLen(length) {
		return after, until, ErrInvalidCursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) != length || string(raw[:8]) != recoveryTag(p) {
		return after, until, ErrInvalidCursor
	}
	for i, at := range [...]*Position{&after, &until} {
		part := raw[8+24*i:]
		at.At = time.UnixMicro(int64(binary.BigEndian.Uint64(part))).UTC()
		copy(at.ID[:], part[8:24])
	}
	return after, until, nil
}

func recoveryTag(p RecoverParams) string {
	return queryTag(p.Scope, RecoverParams{WebhookID: p.WebhookID, Since: p.Since})
}

// queryTag ties a cursor to its scope and query. It is no secret: a forged
// cursor only moves the start of a page that is filtered by scope all the same.
func queryTag(s Scope, rest any) string {
	// Not JSON, which has no form for years beyond 9999 and bad UTF-8.
	sum := sha256.Sum256(fmt.Appendf(nil, "%T %+q %+q", rest, s.OrganizationID, rest))
	return string(sum[:8])
}

// checkQuery reports what is wrong with a query's limit and times.
func checkQuery(q Query) error {
	var faults ValidationErrors
	_, limit, rest := q.page()
	if limit < 0 || limit > MaxPageSize {
		faults.add("limit", fmt.Sprintf("must be between 0 and %d", MaxPageSize))
	}
	var since, before time.Time
	switch r := rest.(type) {
	case WebhookQuery:
		checkID(&faults, "event_type", string(r.EventType), false)
		checkEnum(&faults, "status", r.Status, StatusActive, StatusInactive)
	case DeliveryQuery:
		since, before = r.Since, r.Before
		checkID(&faults, "event_type", string(r.EventType), false)
		checkEnum(&faults, "state", r.State, DeliveryPending, DeliveryHeld, DeliverySucceeded, DeliveryFailed, DeliveryCancelled)
	case AttemptQuery:
		since, before = r.Since, r.Before
		checkID(&faults, "event_type", string(r.EventType), false)
		if r.StatusClass < 0 || r.StatusClass > 5 {
			faults.add("status_class", "must be between 1 and 5, or 0 for all")
		}
		checkEnum(&faults, "outcome", r.Outcome, OutcomeSucceeded, OutcomeFailed, OutcomeInterrupted, OutcomeLate)
	}
	checkSpan(&faults, since, before)
	return faults.err()
}

// checkSpan reports bounds that not every store can keep, or that leave nothing
// between them. The zero time is no bound.
func checkSpan(faults *ValidationErrors, since, before time.Time) {
	checkTime(faults, "since", since)
	checkTime(faults, "before", before)
	if !since.IsZero() && !before.IsZero() && !since.Before(before) {
		faults.add("since", "must be earlier than before")
	}
}

// checkEnum reports a filter that could match nothing.
func checkEnum[E ~string](faults *ValidationErrors, field string, got E, known ...E) {
	if got != "" && !slices.Contains(known, got) {
		faults.add(field, fmt.Sprintf("must be one of %q, or empty", known))
	}
}
