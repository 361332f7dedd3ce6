package sqlstore

import (
	"cmp"
	"slices"
	"sync"

	"github.com/google/uuid"
)

const (
	scanEvery = 16 // claims, at the latest, until the queue is asked again who has work
	scanCheap = 64 // webhooks: asking for so many costs less than it is worth to avoid
)

// lanes is what this process knows about who has ready deliveries, so that a
// claim need not ask the whole queue. It may know too much, which a claim
// finds out, and too little, which the next scan mends.
type lanes struct {
	mu        sync.Mutex
	known     map[uuid.UUID]*lane
	turns     uint64
	sinceScan int // claims
	found     int // webhooks, by the last scan
	behind    map[uuid.UUID]struct{}
}

// lane is a webhook that may have ready deliveries.
type lane struct {
	id           uuid.UUID
	organization string
	served       uint64 // its last turn
}

// note adds a webhook; the lock is held.
func (l *lanes) note(id uuid.UUID, organization string) *lane {
	if l.known == nil {
		l.known = map[uuid.UUID]*lane{}
	}
	n := l.known[id]
	if n == nil {
		n = &lane{id: id, organization: organization}
		l.known[id] = n
	}
	return n
}

// add notes the webhooks that have got deliveries.
func (l *lanes) add(deliveries []insertDelivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range deliveries {
		if d.claim == nil && d.hook.active {
			l.note(d.hook.id, d.event.OrganizationID)
		}
	}
}

// addOne notes a webhook that has got deliveries.
func (l *lanes) addOne(id uuid.UUID, organization string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(id, organization)
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
	return out, l.sinceScan > scanEvery
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
func (l *lanes) scanned(found []lane, behind []uuid.UUID) []lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sinceScan, l.found = 0, len(found)+len(behind)
	for i := range found {
		found[i] = *l.note(found[i].id, found[i].organization)
	}
	l.noteBehind(behind)
	sortLanes(found)
	return found
}

// served ends a claim: these had their turn, those had nothing.
func (l *lanes) served(taken map[uuid.UUID]int, empty []uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns++
	for id, count := range taken {
		if n := l.known[id]; n != nil && count > 0 {
			n.served = l.turns
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
