package sqlstore

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	scanEvery = 16 // claims, at the latest, until the queue is asked again who has work
	scanCheap = 64 // webhooks: asking for so many costs less than it is worth to avoid

	// scanPause is how many times as long as the last scan nobody asks again, as long
	// as claims are full: it may have walked over many rows that are gone.
	scanPause = 10

	leasedLookEvery = time.Second
)

// lowest is before every id.
var lowest = uuid.UUID{15: 1}

// ticks is for how long something takes, and says nothing about what is due.
func ticks() time.Time { return time.Now() } //nolint:forbidigo // as said

// lanes is what this process knows about who has ready deliveries, so that a
// claim need not ask the whole queue. It may know too much, which a claim
// finds out, and too little, which the next scan mends.
type lanes struct {
	mu         sync.Mutex
	known      map[uuid.UUID]*lane
	turns      uint64
	sinceScan  int // claims
	found      int // webhooks, by the last scan
	asked      bool
	pause      time.Time // until when full claims do without a scan
	leased     time.Time // when the first lease ends; Settle looks at all of them
	leasedLook time.Time // when to look for others', of shorter leases or other clocks
	behind     map[uuid.UUID]struct{}
	swept      uuid.UUID // the last webhook that this round of sweeps had to leave as it is
}

// lane is a webhook that may have ready deliveries.
type lane struct {
	id           uuid.UUID
	organization string
	served       uint64 // its last turn

	// low is where its ready deliveries begin, so that a claim need not walk over
	// what a PostgreSQL with old snapshots still has of those before. One that is
	// before it all the same, because its transaction committed late or its time
	// came again, is found by the next scan.
	low uuid.UUID
}

// note adds a webhook that has ready deliveries from low on; the lock is held.
func (l *lanes) note(id uuid.UUID, organization string, low uuid.UUID) *lane {
	if l.known == nil {
		l.known = map[uuid.UUID]*lane{}
	}
	n := l.known[id]
	if n == nil {
		n = &lane{id: id, organization: organization, low: low}
		l.known[id] = n
	}
	return n
}

// from lowers where the ready deliveries begin.
func (n *lane) from(id uuid.UUID) {
	if slices.Compare(id[:], n.low[:]) < 0 {
		n.low = id
	}
}

// add notes the webhooks that have got deliveries.
func (l *lanes) add(deliveries []insertDelivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range deliveries {
		if d.claim == nil && d.hook.active {
			l.note(d.hook.id, d.event.OrganizationID, d.id).from(d.id)
		}
	}
}

// addOne notes a webhook that has got deliveries.
func (l *lanes) addOne(id uuid.UUID, organization string) { l.addFrom(id, organization, lowest) }

// addFrom is addOne for deliveries from low on.
func (l *lanes) addFrom(id uuid.UUID, organization string, low uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(id, organization, low).from(low)
}

// lower notes deliveries of webhooks that begin at these ids, and returns the
// webhooks that are not known.
func (l *lanes) lower(lows map[uuid.UUID]uuid.UUID) (strangers []uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, low := range lows {
		if n := l.known[id]; n != nil {
			n.from(low)
		} else {
			strangers = append(strangers, id)
		}
	}
	return strangers
}

// inTurn returns the known webhooks, those first whose turn is longest ago, and
// whether this claim should ask the queue first.
func (l *lanes) inTurn() (out []lane, scan bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sinceScan++
	out = make([]lane, 0, len(l.known))
	for _, n := range l.known {
		out = append(out, *n)
	}
	sortLanes(out)
	return out, !l.asked || l.sinceScan > scanEvery && !ticks().Before(l.pause)
}

func sortLanes(list []lane) {
	slices.SortFunc(list, func(a, b lane) int {
		if c := cmp.Compare(a.served, b.served); c != 0 {
			return c
		}
		return slices.Compare(a.id[:], b.id[:])
	})
}

// worthScanning reports whether a claim that could take more should ask the
// queue: with many webhooks, not every time.
func (l *lanes) worthScanning() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinceScan >= l.found/scanCheap
}

// scanned takes in what a scan has found, and returns all of it.
func (l *lanes) scanned(found []lane, behind []uuid.UUID, took time.Duration) []lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked, l.sinceScan, l.found = true, 0, len(found)+len(behind)
	l.pause = ticks().Add(scanPause * took)
	for i := range found {
		f := &found[i]
		n := l.note(f.id, f.organization, f.low)
		n.from(f.low)
		*f = *n
	}
	l.noteBehind(behind)
	sortLanes(found)
	return found
}

// served ends a claim: those had their turn of which something was taken, up to
// these ids, and those had nothing.
func (l *lanes) served(turns []lane, upTo map[uuid.UUID]uuid.UUID, empty []uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns++
	for i := range turns {
		last, ok := upTo[turns[i].id]
		n := l.known[turns[i].id]
		if !ok || n == nil {
			continue
		}
		n.served = l.turns
		if n.low == turns[i].low { // nothing has come before it meanwhile
			n.low = last
		}
	}
	for _, id := range empty {
		delete(l.known, id)
	}
}

// noteBehind remembers webhooks whose ready rows have to follow them, because a
// transaction committed after the change; the lock is held.
func (l *lanes) noteBehind(ids []uuid.UUID) {
	if l.behind == nil {
		l.behind = map[uuid.UUID]struct{}{}
	}
	for _, id := range ids {
		l.behind[id] = struct{}{}
	}
}

func (l *lanes) addBehind(ids []uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteBehind(ids)
}

// takeBehind returns and forgets one that addBehind has noted, and reports whether
// there are others.
func (l *lanes) takeBehind() (id uuid.UUID, ok, others bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id = range l.behind {
		delete(l.behind, id)
		return id, true, len(l.behind) > 0
	}
	return id, false, false
}

// leasedFrom returns when the first lease ends, as far as this process knows, or
// the zero time if it is time to look at all of them.
func (l *lanes) leasedFrom() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ticks().Before(l.leasedLook) {
		return time.Time{}
	}
	return l.leased
}

// leasedUntil takes in the first end of a lease that a look has found after
// from, if any; leases of claims at now end later than that.
func (l *lanes) leasedUntil(from, first, now time.Time, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first.IsZero() {
		first = now
	}
	l.leased = first
	if from.IsZero() {
		l.leasedLook = ticks().Add(leasedLookEvery + scanPause*took)
	}
}

// leases notes leases that end at a time.
func (l *lanes) leases(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.Before(l.leased) {
		l.leased = until
	}
}

// sweptTo returns the id behind which the next sweep goes on, and sweep sets it.
func (l *lanes) sweptTo() uuid.UUID {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.swept == (uuid.UUID{}) { // nothing yet
		return lowest
	}
	return l.swept
}

func (l *lanes) sweep(to uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swept = to
}
