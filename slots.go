package webhook

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// The slow start of a webhook.
const (
	maxLaneCap    = 16               // attempts of one webhook in flight, at most
	promptAnswer  = time.Second      // an answer within it doubles the cap
	provenMemory  = 10 * time.Second // how long an idle webhook is known to be prompt
	slowMemory    = 10 * time.Minute // how long one is known to be slow
	maxRemembered = 1000             // idle webhooks of each kind

	// unblockedPause is how long, at least, nobody comes back for webhooks that cease to
	// be blocked: much less than what a bucket keeps.
	unblockedPause = 20 * time.Millisecond
)

// slots shares the dispatcher's attempts in flight among webhooks, so that one
// that hangs costs the others nothing. A webhook starts with a cap of one
// attempt at a time; each prompt answer doubles the cap, a timeout or a slow
// answer ends that. Webhooks with a cap of one share one half of the slots, and
// those of them that are known to be slow one quarter; an organization gets no
// more than a quarter while others wait.
type slots struct {
	mu            sync.Mutex
	max           int
	clock         Clock           // for blockedUntil
	base          context.Context //nolint:containedctx // of flights that are handed off, while Run runs
	drained       chan struct{}   // closed when nothing is in flight and nothing will be
	inFlight      int
	unproven      int  // of those in flight, the ones of webhooks that nothing was known of
	slow          int  // and of webhooks known to be slow
	landed        int  // since the last claim
	awaited       int  // of those that were in flight then
	lingers       bool // somebody waits until half of these have landed
	offered       int  // to the claim that is under way, of which nobody knows yet what it takes
	lanes         map[uuid.UUID]*lane
	organizations map[string]int // in flight
}

// lane is what is known of one webhook. Those without one have a cap of 1 and
// nothing in flight.
type lane struct {
	cap       int
	flights   []*flight
	more      bool // work may have been kept back by the cap
	lastUsed  time.Time
	slowSince time.Time
	slowUntil time.Time

	organization string
	blockedSince time.Time

	blockedUntil time.Time // by the dispatcher's clock: nothing can be sent before
	bucket       bucket    // by the dispatcher's clock, too
	awaited      bool      // the claim loop comes back when nothing blocks the webhook any more
}

// kind is what a webhook is to the quotas.
type kind int

const (
	unproven kind = iota
	proven
	slow
)

func (l *lane) kind(now time.Time) kind {
	switch {
	case l == nil:
		return unproven
	case l.cap > 1:
		return proven
	case now.Before(l.slowUntil):
		return slow
	default:
		return unproven
	}
}

// flight is a claim in a slot.
type flight struct {
	webhookID    uuid.UUID
	organization string
	kind         kind
	claim        Claim
	leaseEnd     time.Time // by this process's monotonic clock
	began        time.Time // likewise
	landed       func(landing)
	paid         bool         // the webhook's bucket has given a token
	notBefore    time.Time    // or had none: it is given back until then
	grows        atomic.Int64 // until when it keeps others waiting, in Unix nanoseconds, see crew

	ctx    context.Context //nolint:containedctx // the flight is the call
	cancel context.CancelCauseFunc
}

func newSlots(n int, clock Clock) *slots {
	return &slots{max: n, clock: clock, lanes: map[uuid.UUID]*lane{}, organizations: map[string]int{}}
}

// half and quarter are the shares, at least one slot.
func (s *slots) half() int    { return max(1, s.max/2) }
func (s *slots) quarter() int { return max(1, s.max/4) }

// unprovenRoom and slowRoom are what the quotas leave.
func (s *slots) unprovenRoom() int { return s.half() - s.unproven - s.slow }
func (s *slots) slowRoom() int     { return min(s.unprovenRoom(), s.quarter()-s.slow) }

// block keeps a webhook from being claimed for a while, and returns when that ends.
// begins is false if the webhook was blocked already.
func (s *slots) block(webhookID uuid.UUID, wait time.Duration) (until time.Time, begins bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[webhookID] // which is there, because of the flight
	if begins = !s.sealed(l); begins {
		l.blockedSince = time.Now()
		l.blockedUntil = storedTime(s.clock.Now().Add(wait))
	}
	return l.blockedUntil, begins
}

// sealed reports whether a webhook is blocked by its secret. The clock, which may be a
// database's, is asked only where it matters.
func (s *slots) sealed(l *lane) bool {
	return !l.blockedUntil.IsZero() && s.clock.Now().Before(l.blockedUntil)
}

// blocked reports whether nothing can be sent to a webhook now, because of its secret
// or its rate limit.
func (s *slots) blocked(l *lane) bool {
	return s.sealed(l) || l.bucket.limit > 0 && l.bucket.left(s.clock.Now()) == 0
}

// nextUnblocked returns when the next webhook ceases to be blocked, or zero. A store
// does not count what a cap of nothing keeps back. Whether anything waits for one of
// them is not known, so many that have spent their tokens cost one claim now and then.
func (s *slots) nextUnblocked() (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		switch l.awaited = s.blocked(l); {
		case !l.awaited && l.more && len(l.flights) == 0: // the claim has left it out, and nothing blocks it now
			l.more = false
			next = earliest(next, s.clock.Now())
		case !l.awaited:
		case s.sealed(l):
			next = earliest(next, l.blockedUntil)
		default:
			next = earliest(next, l.bucket.ready())
		}
	}
	if !next.IsZero() {
		if soon := storedTime(s.clock.Now().Add(unblockedPause)); next.Before(soon) {
			next = soon
		}
	}
	return next
}

// limit lets the webhook's rate limit decide whether a flight may be made.
func (s *slots) limit(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spend(f)
}

// spend takes a token for a flight out of its webhook's bucket, or notes when it may
// be claimed again. Only now is it known for sure what the limit is.
func (s *slots) spend(f *flight) {
	l, limit := s.lanes[f.webhookID], f.claim.RateLimit
	if limit == 0 && l.bucket.limit == 0 {
		return
	}
	now := s.clock.Now()
	l.bucket.set(limit, now)
	if f.paid = f.paid || l.bucket.limit == 0 || l.bucket.spend(now); !f.paid {
		f.notBefore = l.bucket.ready()
	}
}

// room returns how many more attempts a webhook may have in flight by its cap.
func (s *slots) room(l *lane, now time.Time) int {
	if s.blocked(l) {
		return 0
	}
	for _, f := range l.flights {
		if now.Sub(f.began) > promptAnswer {
			return 0
		}
	}
	// The fewer slots are free, the less any one webhook may have: proven
	// webhooks that begin to hang together do not take them all.
	fair := (maxLaneCap*(s.max-s.inFlight) + s.max - 1) / s.max
	return max(0, s.affordable(l, min(l.cap, max(1, fair))-len(l.flights)))
}

// affordable is n, or what the webhook's bucket has left if that is less.
func (s *slots) affordable(l *lane, n int) int {
	if l.bucket.limit == 0 {
		return n
	}
	return min(n, l.bucket.left(s.clock.Now()))
}

// offerRest returns the bounds of a claim in which organizations have no quota,
// and webhooks known to be slow have no part. Like the other offers it keeps
// hand-offs out of the slots that it offers until register is called.
//
// It offers half of the free slots: what the first claim takes shows the second
// one, which follows at once, how much is too much for one webhook.
func (s *slots) offerRest() ClaimParams {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.forget(now)
	p := ClaimParams{Limit: (s.max - s.inFlight + 1) / 2, PerWebhook: 1, Caps: map[uuid.UUID]int{}, UnlistedLimit: s.unprovenRoom()}
	s.offered = p.Limit
	if p.UnlistedLimit <= 0 {
		p.UnlistedLimit = -1
	}
	for id, l := range s.lanes {
		l.awaited = false // until the claim is over, see nextUnblocked
		if l.kind(now) == slow && len(l.flights) == 0 {
			p.Caps[id] = 0 // see offerSlow
			continue
		}
		p.Caps[id] = s.room(l, now)
		l.more = l.more || p.Caps[id] == 0
	}
	return p
}

// offerFair is offerRest with the quotas of organizations.
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

// offerSlow returns the bounds of a claim from the webhooks known to be slow
// alone, and a Limit of 0 if there is nothing to offer.
func (s *slots) offerSlow() ClaimParams {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	p := ClaimParams{Caps: map[uuid.UUID]int{}, UnlistedLimit: -1}
	for id, l := range s.lanes {
		if l.kind(now) == slow && len(l.flights) == 0 && !s.blocked(l) {
			p.Caps[id] = 1
		}
	}
	if len(p.Caps) > 0 {
		p.Limit = max(0, min(s.slowRoom(), s.max-s.inFlight))
	}
	s.offered = p.Limit
	return p
}

// anySlow reports whether offerSlow has something to offer.
func (s *slots) anySlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slowRoom() <= 0 || s.inFlight >= s.max {
		return false
	}
	now := time.Now()
	for _, l := range s.lanes {
		if l.kind(now) == slow && len(l.flights) == 0 && !s.blocked(l) {
			return true
		}
	}
	return false
}

// offerAll returns the bounds for a claim whose attempts are awaited together:
// slow start has nothing to protect there.
func (s *slots) offerAll() ClaimParams {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	p := ClaimParams{Limit: s.max - s.inFlight, PerWebhook: maxLaneCap, Caps: map[uuid.UUID]int{}}
	s.offered = p.Limit
	for id, l := range s.lanes {
		switch {
		case s.blocked(l):
			p.Caps[id], l.more = 0, true
		case len(l.flights) > 0, l.bucket.limit > 0:
			p.Caps[id] = max(0, s.affordable(l, maxLaneCap-len(l.flights)))
		}
	}
	return p
}

// forget drops idle webhooks of which nothing is worth knowing any more, or that
// are too many.
func (s *slots) forget(now time.Time) {
	var remembered [3]int
	for id, l := range s.lanes {
		if len(l.flights) > 0 || s.blocked(l) || l.bucket.limit > 0 && s.clock.Now().Before(l.bucket.ready()) {
			continue
		}
		k := l.kind(now)
		remembered[k]++
		if k == unproven || k == proven && now.Sub(l.lastUsed) > provenMemory || remembered[k] > maxRemembered {
			delete(s.lanes, id)
		}
	}
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
	s.offered = 0
	out := make([]*flight, len(claims))
	taken := map[uuid.UUID]int{}
	for i, c := range claims {
		out[i] = s.add(ctx, c.WebhookID, c.OrganizationID, leaseEnd)
		out[i].claim = c
		s.spend(out[i])
		taken[c.WebhookID]++
	}
	s.landed, s.awaited = 0, s.inFlight
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
// to wait for its turn. While a claim is under way, nobody knows what it takes: a
// webhook may then have one attempt more than its room. Keeping hand-offs out
// instead would let each of them lead to another claim, and so on for ever.
func (s *slots) take(webhookID uuid.UUID, organization string, leaseEnd time.Time) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base == nil || s.inFlight+s.offered >= s.max || s.organizations[organization] >= s.quarter() {
		return nil
	}
	now := time.Now()
	l := s.lanes[webhookID]
	if s.offered > 0 && l.kind(now) == slow {
		return nil // the claim may be about to take it
	}
	if l != nil && (l.awaited || s.room(l, now) == 0) { // what is awaited goes first
		l.more = true
		return nil
	}
	switch k := l.kind(now); {
	case k == unproven && s.unprovenRoom() <= 0, k == slow && s.slowRoom() <= 0:
		return nil
	}
	f := s.add(s.base, webhookID, organization, leaseEnd)
	if l != nil && l.bucket.limit > 0 { // so that others that are published meanwhile do not count on it
		f.paid = l.bucket.spend(s.clock.Now())
	}
	return f
}

// keptBack notes that a delivery of a webhook that take refused is in the store
// now. It reports whether a claim could take it; otherwise the end of an attempt
// says when. An endpoint that hangs so costs no claims, however much is published
// for it.
func (s *slots) keptBack(webhookID uuid.UUID) (claim bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[webhookID]
	switch {
	case l == nil:
		return true
	case l.awaited || s.blocked(l): // which no attempt ends
		claim, l.awaited, l.more = !l.awaited, true, true
		return claim
	case s.room(l, time.Now()) > 0:
		return true
	}
	l.more = true
	return false
}

func (s *slots) add(ctx context.Context, webhookID uuid.UUID, organization string, leaseEnd time.Time) *flight {
	l := s.lanes[webhookID]
	if l == nil {
		l = &lane{cap: 1, organization: organization}
		s.lanes[webhookID] = l
	}
	now := time.Now()
	f := &flight{webhookID: webhookID, organization: organization, kind: l.kind(now), leaseEnd: leaseEnd, began: now}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	l.flights = append(l.flights, f)
	s.organizations[organization]++
	s.count(f, 1)
	return f
}

// count keeps the sums.
func (s *slots) count(f *flight, n int) {
	s.inFlight += n
	switch f.kind {
	case unproven:
		s.unproven += n
	case slow:
		s.slow += n
	case proven: // has no quota
	}
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
	now := time.Now()
	l := s.lanes[f.webhookID]
	wanted = l.more && !l.awaited || s.inFlight >= s.max || f.kind == slow || f.kind == unproven && s.unprovenRoom() <= 0
	l.more = false
	l.flights = slices.DeleteFunc(l.flights, func(o *flight) bool { return o == f })
	l.lastUsed = now
	s.count(f, -1)
	s.landed++
	wanted = wanted || s.lingers && 2*s.landed >= s.awaited
	if s.organizations[f.organization]--; s.organizations[f.organization] == 0 {
		delete(s.organizations, f.organization)
	}
	switch {
	case v == verdictTimeout, v == verdictAnswered && now.Sub(f.began) > promptAnswer:
		if l.kind(now) != slow {
			l.slowSince = now
		}
		l.cap, l.slowUntil = 1, now.Add(slowMemory)
	case v == verdictAnswered:
		l.cap = min(2*l.cap, maxLaneCap)
	}
	if s.inFlight == 0 && s.base == nil && s.drained != nil {
		close(s.drained)
		s.drained = nil
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

// linger reports whether, since the last claim, half of what was in flight then has
// ended. Until endLinger, done says when.
func (s *slots) linger() (over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lingers = 2*s.landed < s.awaited
	return !s.lingers
}

func (s *slots) endLinger() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lingers = false
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
