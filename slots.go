package webhook

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The slow start of a webhook.
const (
	maxLaneCap   = 16               // attempts of one webhook in flight, at most
	promptAnswer = time.Second      // an answer within it doubles the cap
	laneMemory   = 10 * time.Second // how long a proven webhook is remembered when idle
)

// slots shares the dispatcher's attempts in flight among webhooks, so that one
// that hangs costs the others nothing. A webhook starts with a cap of one
// attempt at a time; each prompt answer doubles the cap, a timeout or a slow
// answer ends that. Webhooks that have not proven themselves share one half of
// the slots, an organization gets no more than a quarter while others wait.
type slots struct {
	mu            sync.Mutex
	max           int
	base          context.Context //nolint:containedctx // of flights that are handed off, while Run runs
	drained       chan struct{}   // closed when nothing is in flight and nothing will be
	inFlight      int
	unproven      int  // of those in flight, the ones of webhooks with a cap of 1
	claiming      bool // a claim is under way, and nobody knows yet of what
	lanes         map[uuid.UUID]*lane
	organizations map[string]int // in flight
}

// lane is the state of one webhook. Webhooks without one have a cap of 1 and
// nothing in flight.
type lane struct {
	cap      int
	flights  []*flight
	more     bool // work may have been kept back by the cap
	lastUsed time.Time
}

// flight is a claim in a slot.
type flight struct {
	webhookID    uuid.UUID
	organization string
	unproven     bool
	claim        Claim
	leaseEnd     time.Time // by this process's monotonic clock
	began        time.Time // likewise

	ctx    context.Context //nolint:containedctx // the flight is the call
	cancel context.CancelCauseFunc
}

func newSlots(n int) *slots {
	return &slots{max: n, lanes: map[uuid.UUID]*lane{}, organizations: map[string]int{}}
}

// half and quarter are the shares, at least one slot.
func (s *slots) half() int    { return max(1, s.max/2) }
func (s *slots) quarter() int { return max(1, s.max/4) }

// room returns how many more attempts a webhook may have in flight.
func (s *slots) room(l *lane, now time.Time) int {
	for _, f := range l.flights {
		if now.Sub(f.began) > promptAnswer {
			return 0
		}
	}
	// The fewer slots are free, the less any one webhook may have: proven
	// webhooks that begin to hang together cannot take them all.
	limit := min(l.cap, max(1, 2*maxLaneCap*(s.max-s.inFlight)/s.max))
	return max(0, limit-len(l.flights))
}

// offerFair returns the bounds of the next claim, in which no organization gets
// more than its quota. Like the other offers it keeps hand-offs out until
// register is called.
func (s *slots) offerFair() ClaimParams {
	p := s.offerRest()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.PerOrganization = s.quarter()
	p.OrganizationCaps = map[string]int{}
	for org, n := range s.organizations {
		p.OrganizationCaps[org] = max(0, s.quarter()-n)
	}
	return p
}

// offerRest returns the bounds of a claim in which organizations have no quota.
func (s *slots) offerRest() ClaimParams {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claiming = true
	now := time.Now()
	p := ClaimParams{Limit: s.max - s.inFlight, PerWebhook: 1, Caps: map[uuid.UUID]int{}, UnlistedLimit: s.half() - s.unproven}
	if p.UnlistedLimit <= 0 {
		p.UnlistedLimit = -1
	}
	for id, l := range s.lanes {
		if len(l.flights) == 0 && (l.cap == 1 || now.Sub(l.lastUsed) > laneMemory) {
			delete(s.lanes, id)
			continue
		}
		p.Caps[id] = s.room(l, now)
		l.more = l.more || p.Caps[id] == 0
	}
	return p
}

// offerAll returns the bounds for a claim whose attempts are awaited together:
// slow start has nothing to protect there.
func (s *slots) offerAll() ClaimParams {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claiming = true
	p := ClaimParams{Limit: s.max - s.inFlight, PerWebhook: maxLaneCap, Caps: map[uuid.UUID]int{}}
	for id, l := range s.lanes {
		if len(l.flights) > 0 {
			p.Caps[id] = max(0, maxLaneCap-len(l.flights))
		}
	}
	return p
}

// quotaReached reports whether an organization has its quarter, so that a claim
// without quotas might find more.
func (s *slots) quotaReached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.organizations {
		if n >= s.quarter() {
			return true
		}
	}
	return false
}

// register puts the claims that an offer has led to into slots.
func (s *slots) register(ctx context.Context, claims []Claim, p ClaimParams, leaseEnd time.Time) []*flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claiming = false
	out := make([]*flight, len(claims))
	taken := map[uuid.UUID]int{}
	for i, c := range claims {
		out[i] = s.add(ctx, c.WebhookID, c.OrganizationID, leaseEnd)
		out[i].claim = c
		taken[c.WebhookID]++
	}
	for id, n := range taken {
		room, listed := p.Caps[id]
		if !listed {
			room = p.PerWebhook
		}
		if n >= room {
			s.lanes[id].more = true
		}
	}
	return out
}

// take reserves a slot for one delivery that is being published, unless it has
// to wait for its turn.
func (s *slots) take(webhookID uuid.UUID, organization string, leaseEnd time.Time) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base == nil || s.claiming || s.inFlight >= s.max || s.organizations[organization] >= s.quarter() {
		return nil
	}
	l := s.lanes[webhookID]
	switch {
	case l != nil && s.room(l, time.Now()) == 0:
		l.more = true
		return nil
	case (l == nil || l.cap == 1) && s.unproven >= s.half():
		return nil
	}
	return s.add(s.base, webhookID, organization, leaseEnd)
}

func (s *slots) add(ctx context.Context, webhookID uuid.UUID, organization string, leaseEnd time.Time) *flight {
	l := s.lanes[webhookID]
	if l == nil {
		l = &lane{cap: 1}
		s.lanes[webhookID] = l
	}
	f := &flight{
		webhookID: webhookID, organization: organization, unproven: l.cap == 1, leaseEnd: leaseEnd, began: time.Now(),
	}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	l.flights = append(l.flights, f)
	s.inFlight++
	s.organizations[organization]++
	if f.unproven {
		s.unproven++
	}
	return f
}

// begin notes that a flight starts now, and not when its slot was reserved.
func (s *slots) begin(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.began = time.Now()
}

// verdict is what an attempt tells about its webhook.
type verdict int

const (
	verdictNone     verdict = iota // nothing: there was no answer, or no attempt
	verdictAnswered                // the endpoint answered, whatever the status
	verdictTimeout
)

// done frees a flight's slot, and reports whether work may have been waiting
// for it.
func (s *slots) done(f *flight, v verdict) (wanted bool) {
	f.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[f.webhookID]
	wanted = l.more || s.inFlight >= s.max
	l.more = false
	l.flights = slices.DeleteFunc(l.flights, func(o *flight) bool { return o == f })
	l.lastUsed = time.Now()
	if s.inFlight--; s.inFlight == 0 && s.base == nil && s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
	if f.unproven {
		s.unproven--
	}
	if s.organizations[f.organization]--; s.organizations[f.organization] == 0 {
		delete(s.organizations, f.organization)
	}
	switch slow := l.lastUsed.Sub(f.began) > promptAnswer; {
	case v == verdictTimeout || slow:
		l.cap = 1
	case v == verdictAnswered:
		l.cap = min(2*l.cap, maxLaneCap)
	}
	return wanted
}

// abort cancels the flights of a webhook.
func (s *slots) abort(webhookID uuid.UUID, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[webhookID]; l != nil {
		for _, f := range l.flights {
			f.cancel(cause)
		}
	}
}

// free returns how many slots are.
func (s *slots) free() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max - s.inFlight
}

// open lets deliveries be handed off, their attempts bounded by ctx.
func (s *slots) open(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = ctx
}

// close refuses hand-offs, and returns a channel that is closed when nothing is
// in flight any more.
func (s *slots) close() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = nil
	drained := make(chan struct{})
	if s.inFlight == 0 {
		close(drained)
	} else {
		s.drained = drained
	}
	return drained
}
