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
		h.notice = s.newNotice(h, now)
		s.notices.push(h)
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

func (n *notice) count(d *delivery, a *webhook.Attempt, now time.Time) {
	n.Deliveries++
	n.EventTypes[d.event.Type]++
	n.LastAt = now
	n.LastStatusCode, n.LastErrorClass, n.LastError = a.StatusCode, a.ErrorClass, a.Error
}

// reviseNotice lets a waiting notice go out as soon as it would without the
// wait since the last one, which a success has ended.
func (s *Store) reviseNotice(h *hook) {
	if h.notice == nil || h.notice.leased || h.notice.attempts > 0 {
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
		v.EventTypes = maps.Clone(v.EventTypes)
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
		n.merge()
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
	h.notice.due = webhook.NoticeDue(h.notice.FirstAt, h.lastNoticeAt)
	s.notices.fix(h.noticeAt)
	s.wake()
	return nil
}

// merge adds what was counted while the notice was leased to the notice, which
// was not sent after all.
func (n *notice) merge() {
	l := n.later
	if l == nil {
		return
	}
	n.Deliveries += l.Deliveries
	for t, c := range l.EventTypes {
		n.EventTypes[t] += c
	}
	n.LastAt, n.LastStatusCode, n.LastErrorClass, n.LastError = l.LastAt, l.LastStatusCode, l.LastErrorClass, l.LastError
	n.later = nil
}
