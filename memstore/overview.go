package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/posthorn/webhook"
)

// oversight is what holds for all dispatchers.
type oversight struct {
	paused      bool
	pausedSince time.Time
	pausedBy    string

	purging    webhook.PurgeResult // since lastPurge
	lastPurge  time.Time
	lastPurged webhook.PurgeResult
}

// SetPaused pauses the dispatchers, or lets them go on.
func (s *Store) SetPaused(ctx context.Context, p webhook.SetPausedParams) error {
	if err := s.lock(ctx, "set paused"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if p.Paused == s.paused {
		return nil
	}
	s.paused, s.pausedSince, s.pausedBy = false, time.Time{}, ""
	if p.Paused {
		s.paused, s.pausedSince, s.pausedBy = true, stored(p.Now), p.By
	}
	s.wake()
	return nil
}

// Overview counts what is open. It looks at every open delivery once.
func (s *Store) Overview(ctx context.Context, p webhook.OverviewParams) (webhook.Overview, error) {
	if err := s.lock(ctx, "overview"); err != nil {
		return webhook.Overview{}, err
	}
	defer s.mu.Unlock()
	bounded := func(n int) int {
		if p.CountTo > 0 {
			return min(n, p.CountTo)
		}
		return n
	}
	out := webhook.Overview{
		NoticesWaiting: bounded(s.notices.len()), LastPurge: s.lastPurge, LastPurged: s.lastPurged,
		Paused: s.paused, PausedSince: s.pausedSince, PausedBy: s.pausedBy,
	}
	if s.notices.len() > 0 {
		out.NextNotice = s.notices.top().notice.due
	}
	for _, h := range s.hooks {
		b := webhook.WebhookBacklog{WebhookID: h.ID, OrganizationID: h.OrganizationID, Name: h.Name, EndpointHost: h.EndpointHost()}
		for d := range h.open {
			switch {
			case d.claim != nil:
				out.Leased++
			case d.state == webhook.DeliveryHeld:
				out.Held++
			case d.due.After(p.Now):
				out.Waiting++
			default:
				b.Due++
				b.OldestDue = earliest(b.OldestDue, d.due)
			}
		}
		if out.Ready += b.Due; b.Due > 0 {
			b.More = p.CountTo > 0 && b.Due >= p.CountTo
			b.Due = bounded(b.Due)
			out.OldestDue = earliest(out.OldestDue, b.OldestDue)
			out.Backlog = append(out.Backlog, b)
		}
	}
	slices.SortFunc(out.Backlog, func(a, b webhook.WebhookBacklog) int { // no further than to CountTo, so More needs no look
		return cmp.Or(cmp.Compare(b.Due, a.Due), a.OldestDue.Compare(b.OldestDue), slices.Compare(a.WebhookID[:], b.WebhookID[:]))
	})
	out.Backlog = slices.Clone(out.Backlog[:min(len(out.Backlog), max(0, p.Top))])
	if len(out.Backlog) == 0 {
		out.Backlog = nil
	}
	out.Ready, out.Waiting, out.Leased, out.Held = bounded(out.Ready), bounded(out.Waiting), bounded(out.Leased), bounded(out.Held)
	return out, nil
}

// earliest returns the earlier of two times of which zero means none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// notePurge counts what a purge has deleted.
func (s *Store) notePurge(now time.Time, r webhook.PurgeResult) {
	s.purging = s.purging.Plus(r)
	if !r.More {
		s.lastPurge, s.lastPurged, s.purging = stored(now), s.purging, webhook.PurgeResult{}
	}
}
