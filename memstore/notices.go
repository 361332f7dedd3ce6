package memstore

import (
	"context"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// notice is what is to be told about a webhook. While it is leased, what
// happens further is counted in later.
type notice struct {
	webhook.Notice
	due      time.Time // or the end of the lease
	leased   bool
	token    uuid.UUID
	attempts int
	unknown  int
	later    *notice
}

// addNotice counts a delivery that has failed for good.
func (s *Store) addNotice(d *delivery, a *webhook.Attempt, now time.Time) {
	h := d.hook
	switch {
	case h.notice == nil:
		s.putNotice(h, s.newNotice(h, now))
		h.notice.count(d, a, now)
	case h.notice.leased:
		if h.notice.later == nil {
			h.notice.later = s.newNotice(h, now)
		}
		h.notice.later.count(d, a, now)
	default:
		h.notice.count(d, a, now)
	}
}

func (s *Store) newNotice(h *hook, now time.Time) *notice {
	return &notice{
		Notice: webhook.Notice{
			ID: s.ids.New(now), Kind: webhook.NoticeExhausted, OrganizationID: h.OrganizationID, WebhookID: h.ID,
			EventTypes: map[webhook.EventType]int{}, FirstAt: now,
		},
		due: webhook.NoticeDue(now, h.lastNoticeAt),
	}
}

func (s *Store) putNotice(h *hook, n *notice) {
	h.notice = n
	s.notices.push(h)
}

// noticeDeactivation queues the notice of a webhook that was made inactive by a rule.
func (s *Store) noticeDeactivation(h *hook, failingSince, now time.Time) {
	n := s.newNotice(h, now)
	n.Kind, n.Reason, n.DeactivatedAt, n.FailingSince = webhook.NoticeDeactivated, h.DeactivatedFor, now, stored(failingSince)
	n.FirstAt, n.due = time.Time{}, now
	switch open := h.notice; {
	case open == nil:
		s.putNotice(h, n)
	case open.leased:
		n.takeOver(open.later)
		open.later = n
	default:
		n.takeOver(open)
		s.dropNotice(h)
		s.putNotice(h, n)
	}
}

// takeOver adds what an earlier notice has counted and will not tell.
func (n *notice) takeOver(earlier *notice) {
	if earlier == nil || earlier.Deliveries == 0 {
		return
	}
	own := n.Notice
	n.Notice = earlier.Notice
	n.ID, n.Kind, n.Reason, n.DeactivatedAt, n.FailingSince = own.ID, own.Kind, own.Reason, own.DeactivatedAt, own.FailingSince
	if own.Deliveries > 0 {
		n.add(&own)
	}
}

// add adds what was counted later.
func (n *notice) add(later *webhook.Notice) {
	n.Deliveries += later.Deliveries
	for t, c := range later.EventTypes {
		n.EventTypes[t] += c
	}
	n.LastAt, n.LastStatusCode, n.LastErrorClass, n.LastError = later.LastAt, later.LastStatusCode, later.LastErrorClass, later.LastError
}

func (n *notice) count(d *delivery, a *webhook.Attempt, now time.Time) {
	if n.Deliveries == 0 {
		n.FirstAt = now
	}
	n.Deliveries++
	n.EventTypes[d.event.Type]++
	n.LastAt = now
	n.LastStatusCode, n.LastErrorClass, n.LastError = a.StatusCode, a.ErrorClass, a.Error
}

// reviseNotice lets a waiting notice go out as soon as it would without the
// wait since the last one, which a success has ended.
func (s *Store) reviseNotice(h *hook) {
	if h.notice == nil || h.notice.leased || h.notice.attempts > 0 || h.notice.Kind == webhook.NoticeDeactivated {
		return
	}
	if due := webhook.NoticeDue(h.notice.FirstAt, time.Time{}); due.Before(h.notice.due) {
		h.notice.due = due
		s.notices.fix(h.noticeAt)
	}
}

func (s *Store) dropNotice(h *hook) {
	if h.notice != nil {
		s.notices.remove(h.noticeAt)
		h.notice = nil
	}
}

// ClaimNotices leases due notices.
func (s *Store) ClaimNotices(ctx context.Context, p webhook.ClaimNoticesParams) (webhook.ClaimNoticesResult, error) {
	if err := s.lock(ctx, "claim notices"); err != nil {
		return webhook.ClaimNoticesResult{}, err
	}
	defer s.mu.Unlock()
	var out webhook.ClaimNoticesResult
	for s.notices.len() > 0 && !s.notices.top().notice.due.After(p.Now) && len(out.Claims) < p.Limit {
		h := s.notices.top()
		n := h.notice
		if n.leased {
			n.unknown++
		}
		n.leased, n.token = true, uuid.New()
		n.attempts++
		n.due = stored(p.Now.Add(p.LeaseFor))
		s.notices.fix(h.noticeAt)

		v := n.Notice
		if v.EventTypes = maps.Clone(v.EventTypes); len(v.EventTypes) == 0 {
			v.EventTypes = nil
		}
		v.WebhookName, v.EndpointHost = h.Name, h.EndpointHost()
		out.Claims = append(out.Claims, webhook.NoticeClaim{Notice: v, Token: n.token, Attempt: n.attempts, Unknown: n.unknown})
	}
	if s.notices.len() > 0 {
		out.NextDue = s.notices.top().notice.due
	}
	return out, nil
}

// FinishNotice ends the lease of a notice.
func (s *Store) FinishNotice(ctx context.Context, p webhook.FinishNoticeParams) error {
	if err := s.lock(ctx, "finish notice"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	h := s.hooks[p.WebhookID]
	if h == nil || h.notice == nil || !h.notice.leased || h.notice.token != p.Token {
		return webhook.ErrLeaseLost
	}
	n := h.notice
	if !p.Sent {
		n.leased, n.due = false, stored(p.RetryAt)
		if p.Unknown {
			n.unknown++
		}
		h.notice = n.merge()
		s.notices.fix(h.noticeAt)
		s.wake()
		return nil
	}
	h.lastNoticeAt = stored(p.Now)
	if n.later == nil {
		s.dropNotice(h)
		return nil
	}
	h.notice = n.later
	if h.notice.Kind == webhook.NoticeExhausted {
		h.notice.due = webhook.NoticeDue(h.notice.FirstAt, h.lastNoticeAt)
	}
	s.notices.fix(h.noticeAt)
	s.wake()
	return nil
}

// merge returns what is to be told instead of a notice that was not sent after all,
// with what was counted meanwhile: that a webhook was deactivated is news of its own.
func (n *notice) merge() *notice {
	l := n.later
	n.later = nil
	switch {
	case l == nil:
		return n
	case l.Kind == webhook.NoticeDeactivated:
		l.takeOver(n)
		return l
	}
	if n.Deliveries == 0 {
		n.FirstAt = l.FirstAt
	}
	n.add(&l.Notice)
	return n
}
