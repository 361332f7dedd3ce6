package adminui

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/posthorn/webhook"
)

// listSize is how many webhooks a page of the list has. Each takes two reads of its
// own, for its counters and for its last delivery.
const listSize = 25

// listTitle is the list's, whatever the panel's is.
const listTitle = "Webhooks"

// maxSearched bounds a search, which reads all webhooks of the organization; by
// default it has no more than 100.
const maxSearched = 1000

// listData is what the list shows.
type listData struct {
	Search      string
	Status      webhook.Status
	Rows        []listRow
	Any         bool // the organization has a webhook
	Next, First string
	Cut         bool // a search has found more than a page has room for
}

// listRow is one webhook of the list.
type listRow struct {
	webhook.Webhook
	Host, Rest string // of the endpoint's URL, before and after what is emphasised
	Scheme     string
	Subjects   []webhook.Subject
	EventTypes []webhook.EventType
	Day        day
	Last       *webhook.Delivery
}

// list shows the organization's webhooks.
func (c *call) list() error {
	query := c.r.URL.Query()
	d := listData{Search: strings.TrimSpace(query.Get("q")), Status: webhook.Status(query.Get("status"))}
	found, err := c.find(&d, query.Get("cursor"))
	if err != nil {
		return err
	}
	for _, w := range found {
		row, err := c.listRow(w)
		if err != nil {
			return err
		}
		d.Rows = append(d.Rows, row)
	}
	d.Any = len(d.Rows) > 0 || d.Search != "" || d.Status != "" || query.Get("cursor") != ""
	return c.ok("list", &page{Title: listTitle, Data: d})
}

// find returns the webhooks of a page.
func (c *call) find(d *listData, cursor string) ([]webhook.Webhook, error) {
	q := webhook.WebhookQuery{Status: d.Status, Limit: listSize, Cursor: cursor}
	keep := url.Values{}
	if d.Status != "" {
		keep.Set("status", string(d.Status))
	}
	if d.Search == "" {
		p, err := c.manager.Webhooks(c.r.Context(), c.actor, q)
		if err != nil {
			return nil, err
		}
		d.Next, d.First = pages(keep, cursor, p.Next)
		return p.Items, nil
	}
	var found []webhook.Webhook
	q.Limit, q.Cursor = webhook.MaxPageSize, ""
	for seen := 0; seen < maxSearched; {
		p, err := c.manager.Webhooks(c.r.Context(), c.actor, q)
		if err != nil {
			return nil, err
		}
		for _, w := range p.Items {
			if matches(w, d.Search) {
				found = append(found, w)
			}
		}
		seen += len(p.Items)
		if q.Cursor = p.Next; p.Next == "" {
			break
		}
	}
	if len(found) > 2*listSize {
		found, d.Cut = found[:2*listSize], true
	}
	return found, nil
}

// pages returns the queries of the next and of the first page, each empty if the
// page is it.
func pages(keep url.Values, cursor, next string) (nextQuery, firstQuery string) {
	if cursor != "" {
		firstQuery = "?" + keep.Encode()
	}
	if next != "" {
		keep.Set("cursor", next)
		nextQuery = "?" + keep.Encode()
	}
	return nextQuery, firstQuery
}

// matches reports whether a webhook has every word of a search somewhere.
func matches(w webhook.Webhook, search string) bool {
	text := []string{w.Name, w.Description, w.EndpointURL, w.ID.String()}
	for _, s := range w.Subscriptions {
		text = append(text, string(s.EventType), string(s.Subject.Type), s.Subject.ID)
	}
	all := strings.ToLower(strings.Join(text, "\n"))
	for word := range strings.FieldsSeq(strings.ToLower(search)) {
		if !strings.Contains(all, word) {
			return false
		}
	}
	return true
}

func (c *call) listRow(w webhook.Webhook) (listRow, error) {
	row := listRow{Webhook: w, Subjects: subjectsOf(w), EventTypes: eventTypesOf(w)}
	row.Scheme, row.Host, row.Rest = splitURL(w.EndpointURL)
	counters, err := c.manager.Counters(c.r.Context(), c.actor, webhook.CounterQuery{
		WebhookID: w.ID, Since: c.now.Truncate(time.Hour).Add(-23 * time.Hour),
	})
	if err != nil {
		return row, err
	}
	row.Day = dayOf(counters, c.now)
	last, err := c.manager.Deliveries(c.r.Context(), c.actor, webhook.DeliveryQuery{WebhookID: w.ID, Limit: 1})
	if err != nil {
		return row, err
	}
	if len(last.Items) > 0 {
		row.Last = &last.Items[0]
	}
	return row, nil
}

// splitURL cuts an endpoint's URL before and after its host.
func splitURL(raw string) (scheme, host, rest string) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", raw, ""
	}
	scheme, rest, _ = strings.Cut(raw, u.Host)
	return scheme, u.Host, rest
}

// subjectsOf returns the subjects of a webhook, in their order, each once.
func subjectsOf(w webhook.Webhook) (list []webhook.Subject) {
	for _, s := range w.Subscriptions {
		if !slices.Contains(list, s.Subject) {
			list = append(list, s.Subject)
		}
	}
	return list
}

func eventTypesOf(w webhook.Webhook) (list []webhook.EventType) {
	for _, s := range w.Subscriptions {
		if !slices.Contains(list, s.EventType) {
			list = append(list, s.EventType)
		}
	}
	return list
}

// day is what became of the attempts of 24 hours.
type day struct {
	Attempts, Succeeded int
	Bars                []sparkBar
}

// sparkBar is one hour, measured from the top.
type sparkBar struct {
	X, GoodY, GoodHeight, BadY, BadHeight float64
}

const (
	sparkHeight = 26.0
	sparkStep   = 4.0
)

// Share is the share of successes.
func (d day) Share() string { return share(d.Succeeded, d.Attempts) }

// Tone is its colour.
func (d day) Tone() string {
	switch {
	case d.Attempts == 0:
		return "off"
	case d.Succeeded == d.Attempts:
		return "ok"
	case d.Succeeded*10 < d.Attempts*9:
		return "bad"
	default:
		return "wait"
	}
}

func dayOf(counters []webhook.Counter, now time.Time) day {
	var d day
	var hours [24]webhook.Counter
	first := now.Truncate(time.Hour).Add(-23 * time.Hour)
	for _, c := range counters {
		if i := int(c.Hour.Sub(first) / time.Hour); i >= 0 && i < len(hours) {
			hours[i] = c
			d.Succeeded += c.Succeeded
			d.Attempts += attemptsIn(c)
		}
	}
	busiest := attemptsIn(slices.MaxFunc(hours[:], func(a, b webhook.Counter) int { return cmp.Compare(attemptsIn(a), attemptsIn(b)) }))
	if busiest == 0 {
		return d
	}
	for i, h := range hours {
		scale := func(n int) float64 { return sparkHeight * float64(n) / float64(busiest) }
		good, bad := scale(h.Succeeded), scale(attemptsIn(h)-h.Succeeded)
		if attemptsIn(h) > 0 && good+bad < 2 { // not to be lost beside a busy hour
			good, bad = 2*good/(good+bad), 2*bad/(good+bad)
		}
		d.Bars = append(d.Bars, sparkBar{
			X: sparkStep * float64(i), GoodY: sparkHeight - good, GoodHeight: good, BadY: sparkHeight - good - bad, BadHeight: bad,
		})
	}
	return d
}

func attemptsIn(c webhook.Counter) int { return c.Succeeded + c.Failed + c.Interrupted }
