package adminui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/posthorn/webhook"
)

const (
	// previewTimeout is how long counting may take. What has been counted until
	// then is shown as the least that there is.
	previewTimeout = 3 * time.Second

	// recoverTimeout is after how long a step of a recovery takes on no further
	// batch, so that the page can say how far it is.
	recoverTimeout = time.Second
)

// recoverData is the page of a recovery: before, during or after.
type recoverData struct {
	Webhook   webhook.Webhook
	Since     string
	Fault     string
	Held      string
	Shortcuts []shortcut

	// Before.
	Counted bool
	AtLeast bool // counting took too long
	Count   webhook.Recovery

	// During and after.
	Running bool
	Ended   bool
	Done    webhook.Recovery
	Total   int // of redeliveries and releases, as far as counted; 0 means unknown
	Cursor  string
}

// Sum is how many deliveries the page is about.
func (d recoverData) Sum() int { return d.Count.Redelivered + d.Count.Released }

// SoFar is how many of them are done.
func (d recoverData) SoFar() int { return d.Done.Redelivered + d.Done.Released }

func (c *call) recoverPage(status int, d recoverData) error {
	for _, s := range []struct {
		title string
		span  time.Duration
	}{{"hour", time.Hour}, {"24 hours", 24 * time.Hour}, {"7 days", 7 * 24 * time.Hour}, {"30 days", 30 * 24 * time.Hour}} {
		d.Shortcuts = append(d.Shortcuts, shortcut{s.title, "?" + url.Values{"since": {fieldTime(c.now.Add(-s.span))}}.Encode()})
	}
	c.render(status, "recover", &page{Title: "Recover deliveries", Crumbs: c.crumbs(&d.Webhook), Data: d})
	return nil
}

// recovery asks since when, and says how many deliveries that would be; or what has
// been done, as the last step of one tells it.
func (c *call) recovery() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	w, err := c.webhook()
	if err != nil {
		return err
	}
	d := recoverData{Webhook: w, Since: c.r.URL.Query().Get("since")}
	if v := c.r.URL.Query(); v.Get("done") != "" {
		d.Ended, d.Done = true, recovered(v)
		return c.recoverPage(http.StatusOK, d)
	}
	if d.Held, err = c.held(w); err != nil {
		return err
	}
	if d.Since == "" {
		d.Since = fieldTime(c.now.Add(-24 * time.Hour))
		return c.recoverPage(http.StatusOK, d)
	}
	since, ok := parseTime(d.Since)
	if !ok {
		d.Fault = "This is not a time such as 2026-01-31T12:00."
		return c.recoverPage(http.StatusUnprocessableEntity, d)
	}
	d.Since = fieldTime(since)
	if w.Status != webhook.StatusActive {
		return c.recoverPage(http.StatusOK, d) // which says what to do first
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), previewTimeout)
	defer cancel()
	d.Count, err = c.manager.RecoverPreview(ctx, c.actor, w.ID, since)
	switch {
	case err == nil:
	case ctx.Err() != nil && c.r.Context().Err() == nil:
		d.AtLeast = true
	default:
		return becauseInactive(err)
	}
	d.Counted = true
	return c.recoverPage(http.StatusOK, d)
}

func becauseInactive(err error) error {
	return because(err, "The webhook is inactive, so nothing can be sent to it. Activate it first.")
}

// recover does a step of a recovery: batches for about a second. The page that
// answers says how far it is, and goes on by a form that carries all there is to
// know. So a recovery needs neither a long request nor a process that remembers it,
// and it may be left and taken up at any time: what is done is not done again. The last
// step leads to a page that may be reloaded without sending anything again.
func (c *call) recover() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	id, err := c.id()
	if err != nil {
		return err
	}
	v := c.r.PostForm
	d := recoverData{Since: v.Get("since"), Cursor: v.Get("cursor"), Total: count(v.Get("total"))}
	d.Done = recovered(v)
	since, ok := parseTime(d.Since)
	if !ok || d.Since == "" {
		if d.Webhook, err = c.webhook(); err != nil {
			return err
		}
		d.Fault = "This is not a time such as 2026-01-31T12:00."
		return c.recoverPage(http.StatusUnprocessableEntity, d)
	}
	for end := time.Now().Add(recoverTimeout); ; {
		step, next, err := c.manager.RecoverBatch(c.r.Context(), c.actor, id, since, d.Cursor)
		if err != nil {
			return becauseInactive(err)
		}
		d.Done.Redelivered += step.Redelivered
		d.Done.Released += step.Released
		d.Done.Purged += step.Purged
		if d.Cursor = next; next == "" || time.Now().After(end) {
			break
		}
	}
	if d.Cursor == "" {
		return c.seeOther(id.String() + "/recover?" + url.Values{
			"done": {"yes"}, "redelivered": {strconv.Itoa(d.Done.Redelivered)}, "released": {strconv.Itoa(d.Done.Released)}, "purged": {strconv.Itoa(d.Done.Purged)},
		}.Encode())
	}
	d.Running = true
	d.Total = max(d.Total, d.SoFar())
	d.Webhook, err = c.webhook()
	if err != nil && !errors.Is(err, webhook.ErrNotFound) { // deleted just now: what is done is done
		return err
	}
	return c.recoverPage(http.StatusOK, d)
}

// recovered reads what has been done so far, which the form or the link has brought
// along.
func recovered(v url.Values) webhook.Recovery {
	return webhook.Recovery{Redelivered: count(v.Get("redelivered")), Released: count(v.Get("released")), Purged: count(v.Get("purged"))}
}

// count reads a number that the form or the link has brought along. It is for show
// only; what no recovery has is nothing.
func count(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1e9 {
		return 0
	}
	return n
}
