package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
)

// panelPages adds to the scenario log what it takes to answer with pages of the panel,
// from the request to the last byte of the page, without a network.
func (b *bench) panelPages(ctx context.Context, s webhook.Store, targets []target, now time.Time, r *report) error {
	manager, err := webhook.NewManager(s, webhook.ManagerConfig{})
	if err != nil {
		return err
	}
	panel, err := adminui.New(manager, adminui.Config{Actor: logActor})
	if err != nil {
		return err
	}
	weekAgo := now.Add(-7 * 24 * time.Hour).Format("2006-01-02T15:04:05")
	worst := 0.0
	for _, p := range []struct{ name, path string }{
		{"log of a webhook", "/%s/log"},
		{"log of a webhook, that failed", "/%s/log?state=failed"},
		{"log of a webhook, answered 5xx", "/%s/log?class=5"},
		{"log of a webhook, a week ago", "/%s/log?before=" + weekAgo},
		{"log of an organization", "/log"},
		{"deliveries of a webhook", "/%s/deliveries"},
		{"a webhook", "/%s?range=30d"},
		{"the list", "/"},
	} {
		var took []time.Duration
		for i := range logScopes {
			w := &targets[i*len(targets)/logScopes+i%b.organizations]
			path := p.path
			if path != "/" && path != "/log" {
				path = fmt.Sprintf(path, w.webhook.ID)
			}
			for range b.sizes.logRepeats {
				request := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
				request.Header.Set(logOrganization, w.webhook.OrganizationID)
				answer := httptest.NewRecorder()
				began := time.Now()
				panel.ServeHTTP(answer, request)
				took = append(took, time.Since(began))
				if answer.Code != http.StatusOK {
					return fmt.Errorf("panel: %s: %d", p.name, answer.Code)
				}
			}
		}
		slices.Sort(took)
		r.row("panel: "+p.name, "–", number(millis(percentile(took, 0.5))), number(millis(percentile(took, 0.99))), "–", "–")
		worst = max(worst, millis(percentile(took, 0.99)))
	}
	r.ratio("panel_page_ms", worst)
	return nil
}
