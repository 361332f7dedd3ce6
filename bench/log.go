package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
)

// What the log is made of: one attempt a delivery, spread over logDays, one in a
// hundred of them of the rare kind.
const (
	logDays      = 30
	logRare      = 100
	logFanOut    = 100 // deliveries of an event
	logPages     = 100 // the last page that is measured
	logScopes    = 10  // webhooks or organizations that are asked for
	rareType     = webhook.EventType("room_recording_transcript_published")
	rareStatus   = 503
	logSentBytes = 2 // of an answer that is kept
)

// logQuery is a way to look at the log.
type logQuery struct {
	name string
	page func(ctx context.Context, s webhook.Store, w *target, cursor string) (next string, items int, err error)
}

// attemptsOf lists attempts of the target's organization.
func attemptsOf(name string, edit func(q *webhook.AttemptQuery, w *target)) logQuery {
	return logQuery{"attempts " + name, func(ctx context.Context, s webhook.Store, w *target, cursor string) (string, int, error) {
		q := webhook.AttemptQuery{Cursor: cursor}
		edit(&q, w)
		p, err := s.Attempts(ctx, webhook.Scope{OrganizationID: w.webhook.OrganizationID}, q)
		return p.Next, len(p.Items), err
	}}
}

// deliveriesOf lists deliveries of the target's organization.
func deliveriesOf(name string, edit func(q *webhook.DeliveryQuery, w *target)) logQuery {
	return logQuery{"deliveries " + name, func(ctx context.Context, s webhook.Store, w *target, cursor string) (string, int, error) {
		q := webhook.DeliveryQuery{Cursor: cursor}
		edit(&q, w)
		p, err := s.Deliveries(ctx, webhook.Scope{OrganizationID: w.webhook.OrganizationID}, q)
		return p.Next, len(p.Items), err
	}}
}

func logQueries(now time.Time) []logQuery {
	weekAgo := now.Add(-7 * 24 * time.Hour)
	return []logQuery{
		attemptsOf("of a webhook", func(q *webhook.AttemptQuery, w *target) { q.WebhookID = w.webhook.ID }),
		attemptsOf("of an organization", func(*webhook.AttemptQuery, *target) {}),
		attemptsOf("that failed", func(q *webhook.AttemptQuery, _ *target) { q.Outcome = webhook.OutcomeFailed }),
		attemptsOf("of a webhook, that failed", func(q *webhook.AttemptQuery, w *target) {
			q.WebhookID, q.Outcome = w.webhook.ID, webhook.OutcomeFailed
		}),
		attemptsOf("that were interrupted: none", func(q *webhook.AttemptQuery, _ *target) { q.Outcome = webhook.OutcomeInterrupted }),
		attemptsOf("of a rare type", func(q *webhook.AttemptQuery, _ *target) { q.EventType = rareType }),
		attemptsOf("answered 5xx", func(q *webhook.AttemptQuery, _ *target) { q.StatusClass = 5 }),
		attemptsOf("a week ago", func(q *webhook.AttemptQuery, _ *target) { q.Before = weekAgo }),
		deliveriesOf("of a webhook", func(q *webhook.DeliveryQuery, w *target) { q.WebhookID = w.webhook.ID }),
		deliveriesOf("of an organization", func(*webhook.DeliveryQuery, *target) {}),
		deliveriesOf("that failed", func(q *webhook.DeliveryQuery, _ *target) { q.State = webhook.DeliveryFailed }),
		deliveriesOf("that are pending: none", func(q *webhook.DeliveryQuery, _ *target) { q.State = webhook.DeliveryPending }),
		deliveriesOf("of a webhook, that are held: none", func(q *webhook.DeliveryQuery, w *target) {
			q.WebhookID, q.State = w.webhook.ID, webhook.DeliveryHeld
		}),
		deliveriesOf("of a rare type", func(q *webhook.DeliveryQuery, _ *target) { q.EventType = rareType }),
	}
}

// logPages is the scenario log: pages of a long log.
func (b *bench) logPages(ctx context.Context) (r *report, err error) {
	n := b.sizes.logged
	if b.store != storePostgres {
		n = b.sizes.loggedElsewhere
	}
	targets, err := b.targets(b.sizes.webhooks, promptPath)
	if err != nil {
		return nil, err
	}
	db, err := b.openFor(ctx, targets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	now := time.Now().UTC().Truncate(time.Microsecond)
	began := time.Now()
	if err := fillLog(ctx, db, targets, now, n); err != nil {
		return nil, err
	}
	if db.vacuum != nil {
		if err := db.vacuum(ctx); err != nil {
			return nil, err
		}
	}
	b.log.Info("filled", "attempts", n, "seconds", int(time.Since(began).Seconds()))

	r = &report{columns: []string{"pages of 50", "items", "1st p50 ms", "1st p99 ms", fmt.Sprintf("%dth p50 ms", logPages), "p99 ms"}}
	r.note("%s; %d attempts of %d webhooks, %d organizations, over %d days; %s", b.title(), n, b.sizes.webhooks, b.organizations, logDays, db.about)
	worst := 0.0
	for _, q := range logQueries(now) {
		if db.explain != nil {
			plan, err := db.explain(ctx, func(s webhook.Store) error {
				_, _, err := q.page(ctx, s, &targets[0], "")
				return err
			})
			if err != nil {
				return nil, err
			}
			r.note("plan, %s:\n%s", q.name, plan)
		}
		var first, last []time.Duration
		items := 0
		for i := range logScopes {
			w := &targets[i*len(targets)/logScopes+i%b.organizations]
			cursor := ""
			for page := 1; page <= logPages; page++ {
				next, got, took, err := b.timePage(ctx, db.store, q, w, cursor, page == 1 || page == logPages)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", q.name, err)
				}
				switch page {
				case 1:
					first = append(first, took...)
					items = max(items, got)
				case logPages:
					last = append(last, took...)
				}
				if cursor = next; cursor == "" {
					break
				}
			}
		}
		slices.Sort(first)
		slices.Sort(last)
		ms := func(d []time.Duration, p float64) string {
			if len(d) == 0 {
				return "–"
			}
			v := millis(percentile(d, p))
			if p > 0.9 {
				worst = max(worst, v)
			}
			return number(v)
		}
		r.row(q.name, fmt.Sprint(items), ms(first, 0.5), ms(first, 0.99), ms(last, 0.5), ms(last, 0.99))
	}
	r.ratio("log_page_ms", worst)
	if err := b.logHandlers(ctx, db.store, targets, r); err != nil {
		return nil, err
	}
	return r, b.panelPages(ctx, db.store, targets, now, r)
}

// logActor is the owner of the organization that a request names.
func logActor(r *http.Request) (webhook.Actor, error) {
	return webhook.Actor{ID: "bench", OrganizationID: r.Header.Get(logOrganization), Role: webhook.RoleOwner}, nil
}

const logOrganization = "X-Organization"

// logHandlers measures what the handlers that hosts mount need for the first page of
// a webhook's log.
func (b *bench) logHandlers(ctx context.Context, s webhook.Store, targets []target, r *report) error {
	m, err := webhook.NewManager(s, webhook.ManagerConfig{})
	if err != nil {
		return err
	}
	measure := func(ratio, path string) func(http.Handler, error) error {
		return func(h http.Handler, err error) error {
			if err != nil {
				return err
			}
			return b.logHandler(ctx, s, targets, r, ratio, path, h)
		}
	}
	return errors.Join(
		measure("log_api_ms", "/v1/organizations/{organization}/webhooks/{webhook}/logs")(httpapi.New(m, httpapi.Config{Actor: logActor})),
	)
}

// logHandler measures one. In its path, {organization} and {webhook} are ids.
func (b *bench) logHandler(ctx context.Context, s webhook.Store, targets []target, r *report, ratio, path string, h http.Handler) error {
	var took []time.Duration
	items := 0
	for i := range logScopes {
		w := &targets[i*len(targets)/logScopes].webhook
		page, err := s.Attempts(ctx, webhook.Scope{OrganizationID: w.OrganizationID}, webhook.AttemptQuery{WebhookID: w.ID})
		if err != nil {
			return err
		}
		if len(page.Items) == 0 {
			return fmt.Errorf("%s: webhook %s has no log", ratio, w.ID)
		}
		items = max(items, len(page.Items))
		oldest := page.Items[len(page.Items)-1].DeliveryID.String()
		at := strings.NewReplacer("{organization}", w.OrganizationID, "{webhook}", w.ID.String()).Replace(path)
		for range b.sizes.logRepeats {
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
			req.Header.Set(logOrganization, w.OrganizationID)
			answer := httptest.NewRecorder()
			began := time.Now()
			h.ServeHTTP(answer, req)
			took = append(took, time.Since(began))
			if answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), oldest) {
				return fmt.Errorf("%s: %d, and not the page that was asked for", at, answer.Code)
			}
		}
	}
	slices.Sort(took)
	worst := millis(percentile(took, 0.99))
	r.row(ratio+", the first page by the handler", fmt.Sprint(items), number(millis(percentile(took, 0.5))), number(worst), "–", "–")
	r.ratio(ratio, worst)
	return nil
}

// timePage reads a page, several times if it is to be measured.
func (b *bench) timePage(ctx context.Context, s webhook.Store, q logQuery, w *target, cursor string, measured bool) (next string, items int, took []time.Duration, err error) {
	for range b.sizes.logRepeats {
		began := time.Now()
		next, items, err = q.page(ctx, s, w, cursor)
		if took = append(took, time.Since(began)); err != nil || !measured {
			return next, items, took, err
		}
	}
	return next, items, took, nil
}

// fillLog leaves finished deliveries of one attempt each.
func fillLog(ctx context.Context, db *database, targets []target, now time.Time, n int) error {
	for _, table := range logTables(targets, now, n) {
		if err := db.fill(ctx, table); err != nil {
			return fmt.Errorf("fill %s: %w", table.name, err)
		}
	}
	return nil
}

// logTables are finished deliveries of one attempt each.
func logTables(targets []target, now time.Time, n int) []table {
	start := now.Add(-logDays * 24 * time.Hour)
	step := now.Sub(start) / time.Duration(n)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * step) }
	event := func(i int) (uuid.UUID, webhook.EventType) {
		e := i / logFanOut
		t := webhook.EventMessageSent
		if e%logRare == 0 {
			t = rareType
		}
		return seedID(seedEvent, e, at(e*logFanOut)), t
	}
	whose := func(i int) *target { // at random, and the same each time
		r := rand.New(rand.NewPCG(uint64(i), 7))
		return &targets[r.IntN(len(targets))]
	}
	rare := func(i int) bool { return i%logRare == 17 }
	return []table{
		{
			"posthorn_events",
			[]string{"id", "organization_id", "event_type", "subject_type", "subject_id", "occurred_at", "test", "inserted_at", "insert_token"},
			func(yield func([]any) bool) {
				for i := 0; i < n; i += logFanOut {
					e, kind := event(i)
					t := at(i).UnixMicro()
					if !yield([]any{e, "organization-0", string(kind), "room", "a room", t, int16(0), t, e}) {
						return
					}
				}
			},
		},
		{
			"posthorn_deliveries",
			[]string{"id", "event_id", "webhook_id", "organization_id", "event_type", "state", "attempts", "created_at", "finished_at"},
			func(yield func([]any) bool) {
				for i := range n {
					e, kind := event(i)
					w, state, t := whose(i), int16(1), at(i).UnixMicro()
					if rare(i) {
						state = 2
					}
					if !yield([]any{seedID(seedDelivery, i, at(i)), e, w.webhook.ID, w.webhook.OrganizationID, string(kind), state, int16(1), t, t + 1000}) {
						return
					}
				}
			},
		},
		{
			"posthorn_attempts",
			[]string{
				"delivery_id", "number", "event_id", "webhook_id", "organization_id", "event_type", "started_at", "duration", "outcome", "status_code",
				"endpoint_url", "response", "response_truncated",
			},
			func(yield func([]any) bool) {
				for i := range n {
					e, kind := event(i)
					w, outcome, status := whose(i), int16(0), int16(200)
					if rare(i) {
						outcome, status = 1, rareStatus
					}
					if !yield([]any{
						seedID(seedDelivery, i, at(i)), int16(1), e, w.webhook.ID, w.webhook.OrganizationID, string(kind), at(i).UnixMicro(), int64(time.Millisecond),
						outcome, status, w.webhook.EndpointURL, []byte("ok")[:logSentBytes], int16(0),
					}) {
						return
					}
				}
			},
		},
	}
}
