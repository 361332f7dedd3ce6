package webhook_test

import (
	"context"
	"encoding/base64"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestPositionsCompare(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	low, high := uuid.UUID{15: 1}, uuid.UUID{0: 1}
	ascending := []webhook.Position{
		{},
		{At: now.Add(-time.Microsecond), ID: high, Number: 9},
		{At: now, ID: low, Number: 0},
		{At: now, ID: low, Number: 1},
		{At: now, ID: low, Number: 2},
		{At: now, ID: high, Number: 0},
		{At: now.Add(time.Microsecond)},
	}
	sign := func(n int) int { return max(-1, min(n, 1)) }
	for i, a := range ascending {
		for j, b := range ascending {
			require.Equal(t, sign(i-j), sign(a.Compare(b)), "%v, %v", a, b)
		}
		zoned := a
		zoned.At = a.At.In(time.FixedZone("east", 3600))
		require.Zero(t, a.Compare(zoned))
	}
}

var acme = webhook.Scope{OrganizationID: "acme"}

// queries are told apart by their cursors, each from all others.
func queries() []webhook.Query {
	id, now := uuid.UUID{1}, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	return []webhook.Query{
		webhook.WebhookQuery{},
		webhook.WebhookQuery{Status: webhook.StatusActive},
		webhook.WebhookQuery{EventType: "a"},
		webhook.WebhookQuery{EventType: "a\xff"},
		webhook.WebhookQuery{EventType: "a\xfe"},
		webhook.WebhookQuery{EventType: "active"},
		webhook.DeliveryQuery{},
		webhook.DeliveryQuery{WebhookID: id},
		webhook.DeliveryQuery{EventID: id},
		webhook.DeliveryQuery{State: webhook.DeliveryHeld},
		webhook.DeliveryQuery{EventType: "a"},
		webhook.DeliveryQuery{Since: now},
		webhook.DeliveryQuery{Before: now},
		webhook.DeliveryQuery{Since: now.Add(time.Nanosecond)},
		webhook.AttemptQuery{},
		webhook.AttemptQuery{WebhookID: id},
		webhook.AttemptQuery{DeliveryID: id},
		webhook.AttemptQuery{Outcome: webhook.OutcomeLate},
		webhook.AttemptQuery{EventType: "a"},
		webhook.AttemptQuery{Since: now},
		webhook.AttemptQuery{Before: now},
	}
}

// at returns the query with a cursor and limit.
func at(q webhook.Query, cursor string, limit int) webhook.Query {
	switch q := q.(type) {
	case webhook.WebhookQuery:
		q.Cursor, q.Limit = cursor, limit
		return q
	case webhook.DeliveryQuery:
		q.Cursor, q.Limit = cursor, limit
		return q
	case webhook.AttemptQuery:
		q.Cursor, q.Limit = cursor, limit
		return q
	}
	panic("another query")
}

func TestCursorsGoOnWhereThePageEnded(t *testing.T) {
	t.Parallel()
	for _, last := range []webhook.Position{
		{At: time.Date(2026, 1, 1, 12, 0, 0, 1000, time.UTC), ID: uuid.New(), Number: 6},
		{At: time.UnixMicro(0).UTC()},
		{At: time.UnixMicro(math.MinInt64).UTC(), ID: uuid.Max, Number: math.MaxInt32},
		{At: time.UnixMicro(math.MaxInt64).UTC(), Number: math.MinInt32},
	} {
		for _, q := range queries() {
			cursor := webhook.NextCursor(acme, at(q, "of no matter", 7), last)
			after, limit, goesOn, err := webhook.StartOf(acme, at(q, cursor, 3))
			require.NoError(t, err)
			require.True(t, goesOn)
			require.Equal(t, last, after)
			require.Equal(t, 3, limit)
		}
	}
}

func TestCursorsBelongToTheirQuery(t *testing.T) {
	t.Parallel()
	last := webhook.Position{At: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), ID: uuid.UUID{2}, Number: 1}
	for i, of := range queries() {
		cursor := webhook.NextCursor(acme, of, last)
		for j, q := range queries() {
			_, _, _, err := webhook.StartOf(acme, at(q, cursor, 0))
			if i == j {
				require.NoError(t, err, "%#v", q)
			} else {
				require.ErrorIs(t, err, webhook.ErrInvalidCursor, "of %#v, for %#v", of, q)
			}
		}
		for _, scope := range []webhook.Scope{{}, {OrganizationID: "acm"}, {OrganizationID: "acme "}, {OrganizationID: "ACME"}} {
			_, _, _, err := webhook.StartOf(scope, at(of, cursor, 0))
			require.ErrorIs(t, err, webhook.ErrInvalidCursor, "for %#v", scope)
		}
	}
}

func TestCursorsKnowTimesByTheInstant(t *testing.T) {
	t.Parallel()
	now := time.Now()
	east := time.FixedZone("east", 3600)
	cursor := webhook.NextCursor(acme, webhook.DeliveryQuery{Since: now, Before: now.Add(time.Hour)}, webhook.Position{})
	_, _, _, err := webhook.StartOf(acme, webhook.DeliveryQuery{Since: now.Round(0).In(east), Before: now.Add(time.Hour).UTC(), Cursor: cursor})
	require.NoError(t, err, "neither zone nor monotonic reading counts")
}

func TestCursorsOfTimesBeyondFourDigits(t *testing.T) {
	t.Parallel()
	for _, year := range []int{-1, 0, 10000, 292_000} {
		q := webhook.AttemptQuery{Since: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}
		cursor := webhook.NextCursor(acme, q, webhook.Position{})
		q.Cursor = cursor
		_, _, goesOn, err := webhook.StartOf(acme, q)
		require.NoError(t, err)
		require.True(t, goesOn)
		q.Since = q.Since.AddDate(1, 0, 0)
		_, _, _, err = webhook.StartOf(acme, q)
		require.ErrorIs(t, err, webhook.ErrInvalidCursor)
	}
}

func TestMalformedCursors(t *testing.T) {
	t.Parallel()
	q := webhook.WebhookQuery{}
	good := webhook.NextCursor(acme, q, webhook.Position{At: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), ID: uuid.UUID{15: 255}})
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	for name, cursor := range map[string]string{
		"NotBase64":       "!" + good[1:],
		"Cut":             good[:len(good)-1],
		"CutByAQuantum":   good[:len(good)-4],
		"Longer":          good + "AAAA",
		"Padded":          good + "=",
		"Doubled":         good + good,
		"Spaces":          " " + good,
		"LineBreak":       good[:8] + "\n" + good[8:],
		"LineBreakAtEnd":  good + "\n",
		"LineBreakInside": good[:len(good)-1] + "\n",
		"OtherAlphabet":   base64.RawStdEncoding.EncodeToString(append(slices.Repeat([]byte{0xff}, 8), raw[8:]...)),
		"OtherTag":        base64.RawURLEncoding.EncodeToString(append([]byte{raw[0] ^ 1}, raw[1:]...)),
		"Endless":         strings.Repeat("A", 1<<20),
		"NotASCII":        strings.Repeat("é", len(good)/2),
		"TextOfACursor":   "2026-01-01T12:00:00Z",
		"AnotherQuerys":   webhook.NextCursor(acme, webhook.DeliveryQuery{}, webhook.Position{}),
		"AnotherScopes":   webhook.NextCursor(webhook.Scope{OrganizationID: "rival"}, q, webhook.Position{}),
		"TheZeroScopes":   webhook.NextCursor(webhook.Scope{}, q, webhook.Position{}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := q
			q.Cursor = cursor
			after, limit, goesOn, err := webhook.StartOf(acme, q)
			require.ErrorIs(t, err, webhook.ErrInvalidCursor)
			require.Zero(t, after)
			require.Zero(t, limit)
			require.False(t, goesOn)
		})
	}
}

func TestPageSizes(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{0: 50, 1: 1, 199: 199, 200: 200, 201: 200, math.MaxInt: 200, -1: 50, math.MinInt: 50} {
		after, got, goesOn, err := webhook.StartOf(acme, webhook.WebhookQuery{Limit: limit})
		require.NoError(t, err)
		require.Equal(t, want, got, "of limit %d", limit)
		require.False(t, goesOn)
		require.Zero(t, after)
	}
}

// A forged cursor never panics and never leads to another organization's
// records. One that is accepted is one that NextCursor makes, and the page is
// what comes after its position among the organization's own records.
func FuzzCursor(f *testing.F) {
	fx := newFixture(f)
	const each = 3
	for _, o := range []*fixture{fx, fx.of("rival"), fx.of("third")} {
		for range each {
			o.createWebhook(f, endpointURL)
			fx.clock.Advance(time.Second)
		}
		o.publish(f)
	}
	require.Equal(f, 3*each, fx.deliver(f, answers(http.StatusInternalServerError, "")))
	lists := []fuzzedList{
		listOf(f, fx.admin, webhook.WebhookQuery{}, fx.manager.Webhooks, func(w webhook.Webhook) (string, webhook.Position) {
			return w.OrganizationID, webhook.Position{At: w.CreatedAt, ID: w.ID}
		}),
		listOf(f, fx.admin, webhook.DeliveryQuery{}, fx.manager.Deliveries, func(d webhook.Delivery) (string, webhook.Position) {
			return d.OrganizationID, webhook.Position{At: d.CreatedAt, ID: d.ID}
		}),
		listOf(f, fx.admin, webhook.AttemptQuery{}, fx.manager.Attempts, func(a webhook.Attempt) (string, webhook.Position) {
			return a.OrganizationID, webhook.Position{At: a.StartedAt, ID: a.DeliveryID, Number: a.Number}
		}),
	}
	for _, l := range lists {
		require.Len(f, l.all, each)
		for _, p := range l.all {
			f.Add(webhook.NextCursor(acme, l.query, p), p.At.UnixMicro(), p.ID[:], int32(p.Number), 1)
			f.Add(webhook.NextCursor(webhook.Scope{OrganizationID: "rival"}, l.query, p), p.At.UnixMicro()+1, []byte{}, int32(-1), 200)
		}
	}
	f.Add("", int64(math.MinInt64), []byte{255}, int32(math.MaxInt32), 0)
	f.Add("AAAA", int64(math.MaxInt64), []byte("0123456789abcdef"), int32(0), -1)

	f.Fuzz(func(t *testing.T, cursor string, micros int64, id []byte, number int32, limit int) {
		position := webhook.Position{At: time.UnixMicro(micros).UTC(), Number: int(number)}
		copy(position.ID[:], id)
		limit = int(uint(limit) % (webhook.MaxPageSize + 1))
		for _, l := range lists {
			// Whatever it is.
			q := at(l.query, cursor, limit)
			got, err := l.read(t.Context(), q)
			if err != nil {
				require.ErrorIs(t, err, webhook.ErrInvalidCursor)
			} else {
				after, size, goesOn, err := webhook.StartOf(acme, q)
				require.NoError(t, err)
				if goesOn {
					require.Equal(t, cursor, webhook.NextCursor(acme, q, after))
				}
				require.Equal(t, l.expect(after, goesOn, size), got)
			}

			// With a tag that fits, which is no secret.
			q = at(l.query, webhook.NextCursor(acme, l.query, position), limit)
			_, size, _, err := webhook.StartOf(acme, q)
			require.NoError(t, err)
			got, err = l.read(t.Context(), q)
			require.NoError(t, err)
			require.Equal(t, l.expect(position, true, size), got)

			q = at(l.query, webhook.NextCursor(webhook.Scope{OrganizationID: "rival"}, l.query, position), limit)
			_, err = l.read(t.Context(), q)
			require.ErrorIs(t, err, webhook.ErrInvalidCursor)
		}
	})
}

// fuzzedList is one of the Manager's lists, reduced to what cursors are about.
type fuzzedList struct {
	query webhook.Query
	read  func(context.Context, webhook.Query) ([]webhook.Position, error)
	all   []webhook.Position // of the organization
}

// expect is the page that comes after a position.
func (l *fuzzedList) expect(after webhook.Position, goesOn bool, size int) []webhook.Position {
	var out []webhook.Position
	for _, p := range l.all {
		if (!goesOn || p.Compare(after) < 0) && len(out) < size {
			out = append(out, p)
		}
	}
	return out
}

func listOf[Q webhook.Query, T any](
	t testing.TB, a webhook.Actor, q Q, read func(context.Context, webhook.Actor, Q) (webhook.Page[T], error),
	of func(T) (organization string, p webhook.Position),
) fuzzedList {
	t.Helper()
	l := fuzzedList{query: q, read: func(ctx context.Context, q webhook.Query) ([]webhook.Position, error) {
		page, err := read(ctx, a, q.(Q))
		var out []webhook.Position
		for _, item := range page.Items {
			organization, p := of(item)
			if organization != a.OrganizationID {
				panic("a record of " + organization)
			}
			out = append(out, p)
		}
		return out, err
	}}
	var err error
	l.all, err = l.read(t.Context(), q)
	require.NoError(t, err)
	return l
}
