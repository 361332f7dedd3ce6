package memstore

import (
	"context"
	"time"

	"github.com/posthorn/webhook"
)

// Settle logs the attempts whose leases have run out and moves on.
func (s *Store) Settle(ctx context.Context, p webhook.SettleParams) (webhook.SettleResult, error) {
	if err := s.lock(ctx, "settle"); err != nil {
		return webhook.SettleResult{}, err
	}
	defer s.mu.Unlock()
	var out webhook.SettleResult
	for s.leased.len() > 0 && !s.leased.top().claim.LeasedUntil.After(p.Now) {
		if out.Settled == p.Limit {
			out.More = true
			break
		}
		d := s.leased.top()
		c := d.claim
		state, due := p.Schedule.After(c.Attempt, c.LeasedUntil, c.Test)
		s.end(d, c.Interrupted(d.claimedAt), state, due, stored(p.Now))
		out.Settled++
	}
	if out.Settled > 0 {
		s.wake()
	}
	return out, nil
}

// Sweep has nothing to do: rows change with their webhook at once.
func (s *Store) Sweep(ctx context.Context, _ webhook.SweepParams) (webhook.SweepResult, error) {
	if err := s.lock(ctx, "sweep"); err != nil {
		return webhook.SweepResult{}, err
	}
	s.mu.Unlock()
	return webhook.SweepResult{}, nil
}

// Claim leases due deliveries.
func (s *Store) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	if err := s.lock(ctx, "claim"); err != nil {
		return webhook.ClaimResult{}, err
	}
	defer s.mu.Unlock()
	var out webhook.ClaimResult
	if s.paused {
		out.Paused = true
		if s.leased.len() > 0 {
			out.NextDue = s.leased.top().claim.LeasedUntil
		}
		return out, nil
	}
	now := stored(p.Now)
	s.promote(now)
	room := newRoom(p)
	for progress := true; progress && len(out.Claims) < p.Limit; {
		progress = false
		e := s.ready.Front()
		for n := s.ready.Len(); n > 0 && len(out.Claims) < p.Limit; n-- {
			h, next := e.Value.(*hook), e.Next()
			if room.of(h) > 0 {
				if d := s.takeReady(h, now); d != nil {
					out.Claims = append(out.Claims, s.lease(d, now, p.LeaseFor))
					room.took(h)
					progress = true
				}
				if h.turn != nil { // it has had its turn
					s.ready.MoveToBack(h.turn)
				}
			}
			e = next
		}
	}
	out.NextDue = s.nextDue(now, room)
	return out, nil
}

// promote moves what has become due to the ready queues.
func (s *Store) promote(now time.Time) {
	for s.waiting.len() > 0 {
		d := s.waiting.top().waiting.top()
		if d.due.After(now) {
			return
		}
		s.enqueue(d, now)
	}
}

// takeReady returns the webhook's first ready delivery. A caller whose clock is
// behind may find some that are not due by it; they wait again.
func (s *Store) takeReady(h *hook, now time.Time) *delivery {
	for h.ready.len() > 0 {
		d := h.ready.top()
		if !d.due.After(now) {
			return d
		}
		s.enqueue(d, now)
	}
	return nil
}

// nextDue finds the earliest moment at which a claim under the same bounds
// could find more, or a lease runs out.
func (s *Store) nextDue(now time.Time, room *room) time.Time {
	var next time.Time
	earlier := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if s.leased.len() > 0 {
		earlier(s.leased.top().claim.LeasedUntil)
	}
	for e := s.ready.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*hook); room.any(h) {
			earlier(now)
			return next
		}
	}
	s.earliestWaiting(0, room, earlier)
	return next
}

// earliestWaiting looks for the earliest waiting webhook that may be claimed
// from. It goes down the heap only below webhooks that may not.
func (s *Store) earliestWaiting(i int, room *room, found func(time.Time)) {
	if i >= s.waiting.len() {
		return
	}
	if h := s.waiting.items[i]; room.any(h) {
		found(h.waiting.top().due)
		return
	}
	s.earliestWaiting(2*i+1, room, found)
	s.earliestWaiting(2*i+2, room, found)
}

// unbounded is more than any claim takes.
const unbounded = int(^uint(0) >> 1)

// room keeps count of what a claim may still take.
type room struct {
	p             webhook.ClaimParams
	hooks         map[*hook]int
	organizations map[*organization]int
	unlisted      int
}

func newRoom(p webhook.ClaimParams) *room {
	return &room{p: p, hooks: map[*hook]int{}, organizations: map[*organization]int{}}
}

// bound reads a bound of which 0 means none of its own.
func bound(n int) int {
	if n == 0 {
		return unbounded
	}
	return max(n, 0)
}

// bounds returns what the claim may take at most of the webhook itself, of its
// organization, and of the webhooks that are not listed.
func (r *room) bounds(h *hook) (ofHook, ofOrganization, ofUnlisted int) {
	ofHook, ofUnlisted = bound(r.p.PerWebhook), bound(r.p.UnlistedLimit)
	if n, listed := r.p.Caps[h.ID]; listed {
		ofHook, ofUnlisted = max(n, 0), unbounded
	}
	ofOrganization = bound(r.p.PerOrganization)
	if n, listed := r.p.OrganizationCaps[h.OrganizationID]; listed {
		ofOrganization = max(n, 0)
	}
	return ofHook, ofOrganization, ofUnlisted
}

// any reports whether a claim with these bounds takes anything of the webhook.
func (r *room) any(h *hook) bool {
	a, b, c := r.bounds(h)
	return a > 0 && b > 0 && c > 0
}

// of returns what is left for the webhook.
func (r *room) of(h *hook) int {
	a, b, c := r.bounds(h)
	return min(a-r.hooks[h], b-r.organizations[h.org], c-r.unlisted)
}

func (r *room) took(h *hook) {
	r.hooks[h]++
	r.organizations[h.org]++
	if _, listed := r.p.Caps[h.ID]; !listed {
		r.unlisted++
	}
}

// Finish writes what became of claimed deliveries.
func (s *Store) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	if err := s.lock(ctx, "finish"); err != nil {
		return webhook.FinishResult{}, err
	}
	defer s.mu.Unlock()
	out := webhook.FinishResult{Errs: make([]error, len(p.Outcomes))}
	retries := false
	for i, o := range p.Outcomes {
		d := s.deliveries[o.Attempt.DeliveryID]
		if d == nil {
			out.Errs[i] = webhook.ErrLeaseLost
			continue
		}
		if d.claim == nil || d.claim.Token != o.Token || d.claim.Attempt != o.Attempt.Number {
			s.completeLate(d, o.Attempt, o.Token)
			out.Errs[i] = webhook.ErrLeaseLost
			continue
		}
		s.end(d, o.Attempt, o.State, stored(o.DueAt), stored(p.Now))
		retries = retries || o.State == webhook.DeliveryPending
	}
	if retries {
		s.wake()
	}
	return out, nil
}

// end logs a leased delivery's attempt, ends the lease and moves the delivery
// to the given state, unless something else has been decided meanwhile.
func (s *Store) end(d *delivery, a webhook.Attempt, state webhook.DeliveryState, due, now time.Time) {
	token := d.claim.Token
	cancelled, held := d.cancel || d.hook.deleted, d.hold || d.hook.Status != webhook.StatusActive
	s.endLease(d)
	s.logAttempt(d, a, token)
	if a.Outcome == webhook.OutcomeSucceeded {
		d.hook.lastNoticeAt = time.Time{}
		s.reviseNotice(d.hook)
	}
	switch {
	case cancelled:
		s.finish(d, webhook.DeliveryCancelled, now)
	case state == webhook.DeliveryPending:
		d.due = due
		if held {
			s.hold(d)
		} else {
			s.enqueue(d, now)
		}
	default:
		s.finish(d, state, now)
		if state == webhook.DeliveryFailed && !d.event.Test {
			s.addNotice(d, &a, now)
		}
	}
}

func (s *Store) endLease(d *delivery) {
	s.dequeue(d)
	delete(d.hook.leases, d)
	d.claim, d.claimedAt, d.hold, d.cancel = nil, time.Time{}, false, false
}

// Release gives claims back without an attempt.
func (s *Store) Release(ctx context.Context, p webhook.ReleaseParams) (webhook.ReleaseResult, error) {
	if err := s.lock(ctx, "release"); err != nil {
		return webhook.ReleaseResult{}, err
	}
	defer s.mu.Unlock()
	out := webhook.ReleaseResult{Errs: make([]error, len(p.Claims))}
	now := stored(p.Now)
	for i, r := range p.Claims {
		d := s.deliveries[r.DeliveryID]
		if d == nil || d.claim == nil || d.claim.Token != r.Token {
			out.Errs[i] = webhook.ErrLeaseLost
			continue
		}
		cancelled, held := d.cancel, d.hold
		s.endLease(d)
		d.attempts--
		d.due = stored(r.NotBefore)
		switch {
		case cancelled:
			s.finish(d, webhook.DeliveryCancelled, now)
		case held:
			s.hold(d)
		default:
			s.enqueue(d, now)
		}
	}
	s.wake()
	return out, nil
}
