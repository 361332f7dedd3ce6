package adminui

import (
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// showData is a webhook's own page.
type showData struct {
	Webhook  webhook.Webhook
	Groups   []group
	Held     string
	InFlight int
	Chart    chart
	Health   webhook.Health
	Ranges   []chartRange
	Recent   []webhook.Attempt
}

// recentSize is how many attempts a webhook's page shows.
const recentSize = 8

// show shows a webhook: what it is, how it has been doing, and what happened last.
func (c *call) show() error {
	w, err := c.webhook()
	if err != nil {
		return err
	}
	d := showData{Webhook: w, Ranges: chartRanges}
	for _, s := range subjectsOf(w) {
		g := group{Subject: s}
		for _, sub := range w.Subscriptions {
			if sub.Subject == s {
				g.Choices = append(g.Choices, choice{Type: sub.EventType, Title: eventTitle(c.catalog, sub.EventType), Filter: sub.Filter})
			}
		}
		d.Groups = append(d.Groups, g)
	}
	if d.Held, err = c.held(w); err != nil {
		return err
	}
	if d.InFlight, err = c.manager.InFlight(c.r.Context(), c.actor, w.ID); err != nil {
		return err
	}
	counters, err := c.manager.Counters(c.r.Context(), c.actor, webhook.CounterQuery{WebhookID: w.ID, Since: webhook.HealthSince(c.now)})
	if err != nil {
		return err
	}
	d.Health = webhook.HealthOf(&w, counters, c.now)
	d.Chart = c.chart(rangeNamed(c.r.URL.Query().Get("range")), counters)
	attempts, err := c.manager.Attempts(c.r.Context(), c.actor, webhook.AttemptQuery{WebhookID: w.ID, Limit: recentSize})
	if err != nil {
		return err
	}
	d.Recent = attempts.Items
	return c.ok("show", &page{Title: w.Name, Crumbs: c.crumbs(nil), Data: d})
}

// about is the webhook that a page of the log is about.
type about struct {
	Webhook webhook.Webhook
	ID      uuid.UUID // zero on a page about all webhooks
	Gone    bool      // deleted: its log stays until retention takes it
}

// Path leads from the panel's root to pages about it.
func (a about) Path() string {
	if a.ID == uuid.Nil {
		return ""
	}
	return a.ID.String() + "/"
}

// about returns what the page is about. Whether a deleted webhook ever was, the log
// itself says.
func (c *call) about() (about, error) {
	if c.r.PathValue("id") == "" {
		return about{}, nil
	}
	id, err := c.id()
	if err != nil {
		return about{}, err
	}
	w, err := c.manager.Webhook(c.r.Context(), c.actor, id)
	if errors.Is(err, webhook.ErrNotFound) {
		return about{ID: id, Gone: true}, nil
	}
	return about{Webhook: w, ID: id}, err
}

// crumbsAbout are the pages above one about a webhook, deleted or not, or about all.
func (c *call) crumbsAbout(a about) []crumb {
	if a.ID == uuid.Nil || a.Gone {
		return c.crumbs(nil)
	}
	return c.crumbs(&a.Webhook)
}

// names returns the names of webhooks, for lists that have deliveries of several. A
// deleted one has none.
func (c *call) names(ids []uuid.UUID) (map[uuid.UUID]string, error) {
	names := map[uuid.UUID]string{}
	for _, id := range ids {
		if _, known := names[id]; known {
			continue
		}
		w, err := c.manager.Webhook(c.r.Context(), c.actor, id)
		if err != nil && !errors.Is(err, webhook.ErrNotFound) {
			return nil, err
		}
		names[id] = w.Name
	}
	return names, nil
}

// eventTypes are those that a filter offers, the chosen one among them.
func (c *call) eventTypes(chosen webhook.EventType) (list []webhook.EventTypeInfo) {
	list = c.catalog.EventTypes()
	if chosen != "" && !slices.ContainsFunc(list, func(t webhook.EventTypeInfo) bool { return t.Type == chosen }) {
		list = append(list, webhook.EventTypeInfo{Type: chosen, Title: string(chosen)})
	}
	return list
}
