package sqlstore

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// A webhook has at most one row in the table of notices. Its row in the table of
// webhooks is locked before anything about its notice is decided; claiming alone
// locks no more than the notice itself, and waits for nobody.

// told is what a notice tells, as the columns notice and later have it. What else
// it says is read from the webhook when it is claimed.
type told struct {
	ID         uuid.UUID                 `json:"id"`
	Deliveries int                       `json:"deliveries"`
	EventTypes map[webhook.EventType]int `json:"event_types"`
	FirstAt    int64                     `json:"first_at"` // microseconds, as in columns
	LastAt     int64                     `json:"last_at"`

	LastStatusCode int                `json:"last_status_code,omitempty"`
	LastErrorClass webhook.ErrorClass `json:"last_error_class,omitempty"`
	LastError      string             `json:"last_error,omitempty"`

	Reason        webhook.DeactivationReason `json:"reason,omitempty"` // by which the webhook was deactivated
	DeactivatedAt int64                      `json:"deactivated_at,omitempty"`
	FailingSince  int64                      `json:"failing_since,omitempty"`

	Unknown int `json:"unknown,omitempty"` // claims whose outcome nobody knows
}

func (c session) newTold(now time.Time) *told {
	return &told{ID: c.ids.New(now), EventTypes: map[webhook.EventType]int{}, FirstAt: now.UnixMicro()}
}

func (t *told) count(x *exhausted, now time.Time) {
	if t.Deliveries == 0 {
		t.FirstAt = now.UnixMicro()
	}
	t.Deliveries++
	t.EventTypes[x.eventType]++
	t.LastAt = now.UnixMicro()
	t.LastStatusCode, t.LastErrorClass, t.LastError = x.attempt.StatusCode, x.attempt.ErrorClass, x.attempt.Error
}

// takeOver adds what an earlier notice has counted and will not tell.
func (t *told) takeOver(earlier *told) {
	if earlier == nil || earlier.Deliveries == 0 {
		return
	}
	own := *t
	*t = *earlier
	t.ID, t.Reason, t.DeactivatedAt, t.FailingSince, t.Unknown = own.ID, own.Reason, own.DeactivatedAt, own.FailingSince, own.Unknown
	if own.Deliveries > 0 {
		t.add(&own)
	}
}

// add adds what was counted later.
func (t *told) add(later *told) {
	if t.Deliveries == 0 {
		t.FirstAt = later.FirstAt
	}
	t.Deliveries += later.Deliveries
	for k, n := range later.EventTypes {
		t.EventTypes[k] += n
	}
	t.LastAt = later.LastAt
	t.LastStatusCode, t.LastErrorClass, t.LastError = later.LastStatusCode, later.LastErrorClass, later.LastError
}

func (t *told) firstAt() time.Time { return moment(t.FirstAt) }

// moment is a time that may be missing.
func moment(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}

// noticeRow is a row of the table of notices.
type noticeRow struct {
	webhookID uuid.UUID
	due       time.Time // or the end of the lease
	token     uuid.UUID // the zero UUID while it is not leased
	attempts  int
	told      *told
	later     *told // what is counted while it is leased, or nil
}

const noticeColumns = "n.webhook_id, n.due_at, n.token, n.attempts, n.notice, n.later"

func scanNotice(scan func(...any) error, r *noticeRow) error {
	return scan(&r.webhookID, at{&r.due}, maybe[uuid.UUID]{&r.token}, &r.attempts, fromJSON[*told]{&r.told}, fromJSON[*told]{&r.later})
}

// lockNotices returns the notices of webhooks that are locked.
func (c session) lockNotices(ctx context.Context, webhookIDs []uuid.UUID) ([]noticeRow, error) {
	return query(ctx, c, scanNotice, "select "+noticeColumns+` from {rows x id uuid} {join notices n}
		where {key n.webhook_id = x.id} order by x.id {for update}`, c.d.idRows(webhookIDs))
}

const noticeRows = "id uuid, due int, lease uuid, n int, this text, next text"

func (c session) noticeRows(list []noticeRow) (*rows, error) {
	x := c.d.rows()
	for _, r := range list {
		this, err := asJSON(r.told, false)
		if err != nil {
			return nil, err
		}
		next, err := asJSON(r.later, r.later == nil)
		if err != nil {
			return nil, err
		}
		x.add().id("id", r.webhookID).int("due", r.due.UnixMicro()).id("lease", r.token).int("n", int64(r.attempts)).
			any("this", this).any("next", next)
	}
	return x, nil
}

// saveNotices writes notices that are there.
func (c session) saveNotices(ctx context.Context, list ...noticeRow) error {
	x, err := c.noticeRows(list)
	if err == nil {
		_, err = c.updateRows(ctx, "notices", noticeRows, x, "{key t.webhook_id = x.id}",
			[]string{"due_at = x.due", "token = x.lease", "attempts = x.n", "notice = x.this", "later = x.next"})
	}
	return err
}

// addNotices inserts notices.
func (c session) addNotices(ctx context.Context, list []noticeRow) error {
	x, err := c.noticeRows(list)
	if err == nil && x.n > 0 {
		_, err = c.exec(ctx, `insert into {notices} (webhook_id, due_at, token, attempts, notice, later)
			select x.id, x.due, x.lease, x.n, x.this, x.next from {rows x `+noticeRows+`}`, x)
	}
	return err
}

// exhausted is a delivery that has failed for good.
type exhausted struct {
	webhookID      uuid.UUID
	organizationID string
	eventType      webhook.EventType
	attempt        *webhook.Attempt
}

// noteExhausted counts deliveries that have failed for good, in their webhooks'
// notices. Those of webhooks that are deleted by now are nobody's concern.
func (c session) noteExhausted(ctx context.Context, now time.Time, list []exhausted) error {
	if len(list) == 0 {
		return nil
	}
	now = stored(now)
	of := map[uuid.UUID][]*exhausted{}
	ids := make([]uuid.UUID, len(list))
	for i := range list {
		x := &list[i]
		ids[i], of[x.webhookID] = x.webhookID, append(of[x.webhookID], x)
	}
	type notified struct {
		id   uuid.UUID
		last time.Time
	}
	hooks, err := query(ctx, c, func(scan func(...any) error, n *notified) error { return scan(&n.id, at{&n.last}) },
		`select w.id, w.notified_at from {rows x id uuid} {join webhooks w}
		where {key w.id = x.id} and w.deleted_at is null order by x.id {for update}`, c.d.idRows(distinct(ids)))
	if err != nil || len(hooks) == 0 {
		return err
	}
	ids = ids[:0]
	for _, h := range hooks {
		ids = append(ids, h.id)
	}
	known, err := c.lockNotices(ctx, ids)
	if err != nil {
		return err
	}
	var added []noticeRow
	for _, h := range hooks {
		var counted *told
		switch i := slices.IndexFunc(known, func(r noticeRow) bool { return r.webhookID == h.id }); {
		case i < 0:
			counted = c.newTold(now)
			added = append(added, noticeRow{webhookID: h.id, due: webhook.NoticeDue(now, h.last), told: counted})
		case known[i].token == uuid.UUID{}:
			counted = known[i].told
		default:
			if known[i].later == nil {
				known[i].later = c.newTold(now)
			}
			counted = known[i].later
		}
		for _, x := range of[h.id] {
			counted.count(x, now)
		}
	}
	if err := c.addNotices(ctx, added); err != nil {
		return err
	}
	return c.saveNotices(ctx, known...)
}

// noteDeactivation queues the notice of a webhook, locked, that was made inactive by a
// rule.
func (c session) noteDeactivation(ctx context.Context, h *hook, failingSince time.Time) error {
	t := c.newTold(h.StatusSince)
	t.FirstAt, t.Reason, t.DeactivatedAt = 0, h.DeactivatedFor, h.StatusSince.UnixMicro()
	if !failingSince.IsZero() {
		t.FailingSince = failingSince.UnixMicro()
	}
	known, err := c.lockNotices(ctx, []uuid.UUID{h.ID})
	if err != nil {
		return err
	}
	if len(known) == 0 {
		return c.addNotices(ctx, []noticeRow{{webhookID: h.ID, due: h.StatusSince, told: t}})
	}
	r := known[0]
	if r.token != (uuid.UUID{}) {
		t.takeOver(r.later)
		r.later = t
	} else {
		t.takeOver(r.told)
		r.told, r.attempts, r.due = t, 0, h.StatusSince
	}
	return c.saveNotices(ctx, r)
}

// noteSuccesses ends the wait between notices of webhooks that have answered. It
// costs one look at them unless there is such a wait.
func (c session) noteSuccesses(ctx context.Context, webhookIDs []uuid.UUID) error {
	if len(webhookIDs) == 0 {
		return nil
	}
	found, err := query(ctx, c, plain[uuid.UUID], `select w.id from {rows x id uuid} {join webhooks w}
		where {key w.id = x.id} and w.notified_at is not null order by x.id {for update}`, c.d.idRows(distinct(webhookIDs)))
	if err != nil || len(found) == 0 {
		return err
	}
	if _, err := c.updateRows(ctx, "webhooks", "id uuid", c.d.idRows(found), "{key t.id = x.id}", []string{"notified_at = null"}); err != nil {
		return err
	}
	// A notice that waits now goes out as soon as it would have without the last one.
	known, err := c.lockNotices(ctx, found)
	if err != nil {
		return err
	}
	var sooner []noticeRow
	for _, r := range known {
		due := webhook.NoticeDue(r.told.firstAt(), time.Time{})
		if r.token == (uuid.UUID{}) && r.attempts == 0 && r.told.Reason == "" && due.Before(r.due) {
			r.due = due
			sooner = append(sooner, r)
		}
	}
	return c.saveNotices(ctx, sooner...)
}

// dropNotice forgets the notice of a webhook that is locked.
func (c session) dropNotice(ctx context.Context, webhookID uuid.UUID) error {
	_, err := c.exec(ctx, "delete from {notices} where webhook_id = ?", c.d.id(webhookID))
	return err
}

// ClaimNotices leases due notices.
func (s *Store) ClaimNotices(ctx context.Context, p webhook.ClaimNoticesParams) (webhook.ClaimNoticesResult, error) {
	var out webhook.ClaimNoticesResult
	// Mostly nothing is due, which a look is enough to find out.
	err := s.read(ctx, "claim notices", func(c session) (err error) {
		out.NextDue, err = c.nextNotice(ctx)
		return err
	})
	if err != nil || out.NextDue.IsZero() || out.NextDue.After(p.Now) || p.Limit <= 0 {
		return out, err
	}
	err = s.write(ctx, "claim notices", func(c session) (err error) {
		out.Claims, err = c.claimNotices(ctx, &p)
		if err == nil {
			out.NextDue, err = c.nextNotice(ctx)
		}
		return err
	})
	if err != nil {
		return webhook.ClaimNoticesResult{}, err
	}
	return out, nil
}

// nextNotice returns when the next notice is due, or its lease runs out.
func (c session) nextNotice(ctx context.Context) (due time.Time, err error) {
	_, _, err = first(ctx, c, func(scan func(...any) error, _ *struct{}) error { return scan(at{&due}) }, "select min(due_at) from {notices}")
	return due, err
}

func (c session) claimNotices(ctx context.Context, p *webhook.ClaimNoticesParams) ([]webhook.NoticeClaim, error) {
	found, err := query(ctx, c, scanNotice, "select "+noticeColumns+
		" from {notices} n where n.due_at <= ? order by n.due_at limit ? {for update} {skip locked}", p.Now.UnixMicro(), p.Limit)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	ids := make([]uuid.UUID, len(found))
	for i, r := range found {
		ids[i] = r.webhookID
	}
	hooks, err := query(ctx, c, func(scan func(...any) error, w *webhook.Webhook) error {
		return scan(&w.ID, &w.OrganizationID, &w.Name, &w.EndpointURL)
	}, "select w.id, w.organization_id, w.name, w.endpoint_url from {rows x id uuid} {join webhooks w} where {key w.id = x.id}", c.d.idRows(ids))
	if err != nil {
		return nil, err
	}
	of := map[uuid.UUID]*webhook.Webhook{}
	for i := range hooks {
		of[hooks[i].ID] = &hooks[i]
	}
	var claims []webhook.NoticeClaim
	for i := range found {
		r := &found[i]
		if r.token != uuid.Nil {
			r.told.Unknown++
		}
		r.token, r.due = uuid.New(), stored(p.Now.Add(p.LeaseFor))
		r.attempts++
		claims = append(claims, webhook.NoticeClaim{
			Notice: r.told.notice(of[r.webhookID]), Token: r.token, Attempt: r.attempts, Unknown: r.told.Unknown,
		})
	}
	return claims, c.saveNotices(ctx, found...)
}

// notice is the message to people.
func (t *told) notice(w *webhook.Webhook) webhook.Notice {
	kind := webhook.NoticeExhausted
	if t.Reason != "" {
		kind = webhook.NoticeDeactivated
	}
	types := t.EventTypes
	if len(types) == 0 {
		types = nil
	}
	return webhook.Notice{
		ID: t.ID, Kind: kind, Reason: t.Reason, DeactivatedAt: moment(t.DeactivatedAt), FailingSince: moment(t.FailingSince),
		OrganizationID: w.OrganizationID, WebhookID: w.ID,
		WebhookName: w.Name, EndpointHost: w.EndpointHost(),
		Deliveries: t.Deliveries, EventTypes: types, FirstAt: t.firstAt(), LastAt: moment(t.LastAt),
		LastStatusCode: t.LastStatusCode, LastErrorClass: t.LastErrorClass, LastError: t.LastError,
	}
}

// FinishNotice ends the lease of a notice.
func (s *Store) FinishNotice(ctx context.Context, p webhook.FinishNoticeParams) error {
	err := s.write(ctx, "finish notice", func(c session) error {
		if _, err := query(ctx, c, plain[uuid.UUID], "select id from {webhooks} where id = ? {for update}", c.d.id(p.WebhookID)); err != nil {
			return err
		}
		r, ok, err := first(ctx, c, scanNotice, "select "+noticeColumns+" from {notices} n where n.webhook_id = ? and n.token = ? {for update}",
			c.d.id(p.WebhookID), c.d.id(p.Token))
		if err != nil {
			return err
		}
		if !ok {
			return webhook.ErrLeaseLost
		}
		r.token = uuid.UUID{}
		if !p.Sent {
			r.due = stored(p.RetryAt)
			if p.Unknown {
				r.told.Unknown++
			}
			switch later := r.later; {
			case later == nil:
			case later.Reason != "": // news of its own
				later.takeOver(r.told)
				r.told, r.attempts, r.due = later, 0, moment(later.DeactivatedAt)
			default:
				r.told.add(later)
			}
			r.later = nil
			return c.saveNotices(ctx, r)
		}
		now := stored(p.Now)
		if _, err := c.exec(ctx, "update {webhooks} set notified_at = ? where id = ?", now.UnixMicro(), c.d.id(p.WebhookID)); err != nil {
			return err
		}
		if r.later == nil {
			return c.dropNotice(ctx, p.WebhookID)
		}
		r.told, r.later, r.attempts = r.later, nil, 0
		if r.due = moment(r.told.DeactivatedAt); r.told.Reason == "" {
			r.due = webhook.NoticeDue(r.told.firstAt(), now)
		}
		return c.saveNotices(ctx, r)
	})
	if err == nil {
		s.wake(everybody)
	}
	return err
}
