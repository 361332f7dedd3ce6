package webhook

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// IDSource makes UUIDs of version 7 (RFC 9562) whose time is the caller's, not
// the system's, so that ids order as the records of a [Clock] do. Ids of one
// source are strictly ascending, even when the time stands still or goes back.
// The zero IDSource is ready for use, and safe for concurrent use.
type IDSource struct {
	mu   sync.Mutex
	last uint64 // 48 bits of milliseconds, 12 bits of the fraction below
}

// New returns an id for something that came to be at the given time.
func (s *IDSource) New(at time.Time) uuid.UUID {
	ms := max(0, at.UnixMilli()) // the format has no time before 1970
	fraction := uint64(at.Nanosecond()%1e6) << 12 / 1e6
	s.mu.Lock()
	tick := max(uint64(ms)<<12|fraction, s.last+1)
	s.last = tick
	s.mu.Unlock()

	var id uuid.UUID
	_, _ = rand.Read(id[8:]) // never fails: crypto/rand ends the process instead
	binary.BigEndian.PutUint64(id[:8], tick>>12<<16|0x7000|tick&0xfff)
	id[8] = id[8]&0x3f | 0x80
	return id
}

// keyedIDs is the namespace of ids that are made from idempotency keys.
var keyedIDs = uuid.MustParse("6f2d0f6e-52a1-4f6b-9d5a-0c6b7f0a5e21")

// idOfKey returns the id of the webhook that an organization creates with an
// idempotency key: a UUID of version 5. That one id exists once is what a store
// promises already, so the key needs no column of its own; and the organization is
// in it, so that nobody can try ids of others.
func idOfKey(s Scope, key string) uuid.UUID {
	return uuid.NewSHA1(keyedIDs, fmt.Appendf(nil, "%q %q", s.OrganizationID, key))
}
