package webhook_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// requireVersion7 checks what RFC 9562, section 5.7, says of every UUIDv7, and
// returns the milliseconds that it holds.
func requireVersion7(t testing.TB, id uuid.UUID) int64 {
	t.Helper()
	require.Equal(t, byte(0x70), id[6]&0xf0, "the version of %s", id)
	require.Equal(t, byte(0x80), id[8]&0xc0, "the variant of %s", id)
	return int64(binary.BigEndian.Uint64(append([]byte{0, 0}, id[:6]...)))
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

func TestIDsHaveTheGivenTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{
		start,
		start.Add(999_999 * time.Nanosecond),
		start.Add(time.Millisecond),
		start.In(time.FixedZone("west", -8*3600)),
		time.UnixMilli(0),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	} {
		var source webhook.IDSource
		require.Equal(t, at.UnixMilli(), requireVersion7(t, source.New(at)), at)
	}
}

func TestIDsBefore1970(t *testing.T) {
	t.Parallel()
	var source webhook.IDSource
	early := source.New(time.Time{})
	require.Zero(t, requireVersion7(t, early))
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	later := source.New(now)
	require.Equal(t, now.UnixMilli(), requireVersion7(t, later), "one early id leaves later ones alone")
	require.Negative(t, compareIDs(early, later))
}

func TestIDsAscend(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, at := range map[string]func(i int) time.Time{
		"TimeGoesOn":      func(i int) time.Time { return start.Add(time.Duration(i) * time.Microsecond) },
		"TimeStandsStill": func(int) time.Time { return start },
		"TimeGoesBack":    func(i int) time.Time { return start.Add(time.Duration(-i) * time.Second) },
		"TimeJumps":       func(i int) time.Time { return start.Add(time.Duration(i%7-3) * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var source webhook.IDSource
			ids := make([]uuid.UUID, 10_000)
			for i := range ids {
				ids[i] = source.New(at(i))
				requireVersion7(t, ids[i])
				if i > 0 {
					require.Negative(t, compareIDs(ids[i-1], ids[i]), "%s, then %s", ids[i-1], ids[i])
				}
			}
		})
	}
}

func TestIDsOfSeveralSourcesAscendByTheMicrosecond(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var last uuid.UUID
	for i := range 3000 {
		var source webhook.IDSource
		id := source.New(start.Add(time.Duration(i) * time.Microsecond))
		require.Negative(t, compareIDs(last, id))
		last = id
	}
}

func TestIDsOfSeveralSourcesDiffer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	seen := map[uuid.UUID]bool{}
	for range 1000 {
		var source webhook.IDSource
		seen[source.New(now)] = true
	}
	require.Len(t, seen, 1000)
}

func TestIDsAreUniqueAmongGoroutines(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	const goroutines, each = 16, 500
	var source webhook.IDSource
	ids := make([][]uuid.UUID, goroutines)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			for range each {
				ids[i] = append(ids[i], source.New(now))
			}
		})
	}
	wg.Wait()
	seen := map[[8]byte]bool{} // the part that ascends is enough to tell them apart
	for _, of := range ids {
		require.True(t, slices.IsSortedFunc(of, compareIDs))
		for _, id := range of {
			seen[[8]byte(id[:8])] = true
		}
	}
	require.Len(t, seen, goroutines*each)
}
