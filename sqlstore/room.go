package sqlstore

import (
	"math"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// room keeps count of what a claim may still take.
type room struct {
	p             *webhook.ClaimParams
	hooks         map[uuid.UUID]int
	organizations map[string]int
	unlisted      int
}

func newRoom(p *webhook.ClaimParams) *room {
	return &room{p: p, hooks: map[uuid.UUID]int{}, organizations: map[string]int{}}
}

// bound reads a bound of which 0 means none of its own.
func bound(n int) int {
	if n == 0 {
		return math.MaxInt
	}
	return max(n, 0)
}

// bounds returns what the claim may take at most of the webhook itself, of its
// organization, and of the webhooks that are not listed.
func (r *room) bounds(l *lane) (ofHook, ofOrganization, ofUnlisted int) {
	ofHook, ofUnlisted = bound(r.p.PerWebhook), bound(r.p.UnlistedLimit)
	if n, listed := r.p.Caps[l.id]; listed {
		ofHook, ofUnlisted = max(n, 0), math.MaxInt
	}
	ofOrganization = bound(r.p.PerOrganization)
	if n, listed := r.p.OrganizationCaps[l.organization]; listed {
		ofOrganization = max(n, 0)
	}
	return ofHook, ofOrganization, ofUnlisted
}

// any reports whether a claim with these bounds takes anything of the webhook.
func (r *room) any(l *lane) bool {
	a, b, c := r.bounds(l)
	return a > 0 && b > 0 && c > 0
}

// of returns what is left for the webhook.
func (r *room) of(l *lane) int {
	a, b, c := r.bounds(l)
	return min(a-r.hooks[l.id], b-r.organizations[l.organization], c-r.unlisted)
}

func (r *room) took(l *lane)     { r.count(l, 1) }
func (r *room) gaveBack(l *lane) { r.count(l, -1) }

func (r *room) count(l *lane, n int) {
	r.hooks[l.id] += n
	r.organizations[l.organization] += n
	if _, listed := r.p.Caps[l.id]; !listed {
		r.unlisted += n
	}
}
