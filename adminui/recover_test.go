package adminui_test

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/memstore"
)

func TestRecover(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.create(t, "Archive")
	path := "/" + w.ID.String() + "/recover"
	for range 3 {
		f.publish(t)
	}
	f.exhaust(t, "")
	form := editForm()
	form.Set("status", "inactive")
	f.post(t, "/"+w.ID.String()+"/edit", form).leadsTo()
	f.publish(t)
	f.publish(t)
	f.get(t, path+"?since=2026-01-01").is(ok).says("Activate it first.").saysNot("deliveries</h2>")
	f.post(t, path, newFormOf("since", "2026-01-01")).is(http.StatusConflict).says("Activate it first.")
	form.Set("version", "2")
	form.Set("status", "active")
	f.post(t, "/"+w.ID.String()+"/edit", form).leadsTo()

	page := f.get(t, path).is(ok)
	require.Equal(t, f.clock.Now().Add(-24*time.Hour).Format("2006-01-02T15:04:05"), page.field("since"))
	page = f.get(t, path+"?since=2026-01-01T00:00").is(ok)
	page.says("5 deliveries", "Failed, to be sent again 3", "Held, to be released 2", "Recover 5 deliveries")
	require.Equal(t, webhook.DeliveryHeld, f.newest(t, w.ID).State, "it was a count")
	f.get(t, path+"?since=nonsense").is(http.StatusUnprocessableEntity).says("not a time")
	f.get(t, path+"?since=2030-01-01").is(ok).says("0 deliveries", "There is nothing to recover since then.")

	done := f.post(t, path, newFormOf("since", "2026-01-01T00:00", "total", "5")).leadsTo()
	f.get(t, done).is(ok).says("Done", "3 failed deliveries are being sent again, 2 held ones are released.")
	f.get(t, f.post(t, path, newFormOf("since", "2026-01-01T00:00", "total", "5")).leadsTo()).is(ok).says("There was nothing to recover.")
	f.get(t, path+"?since=2026-01-01T00:00").says("0 deliveries")

	// What is done may have failed again when the page is reloaded.
	f.exhaust(t, "")
	before := f.newest(t, w.ID)
	f.get(t, done).is(ok).says("3 failed deliveries are being sent again")
	require.Equal(t, before, f.newest(t, w.ID))
	f.as(t, asViewer, done, nil).is(refused)
	f.get(t, path+"?done=yes&redelivered=9223372036854775807&released=-1&purged=all").is(ok).says("There was nothing to recover.")
	f.get(t, f.post(t, path, newFormOf("since", "2030-01-01", "redelivered", "9223372036854775807", "released", "-3")).leadsTo()).says("There was nothing to recover.")

	f.post(t, path, newFormOf("since", "", "total", "5")).is(http.StatusUnprocessableEntity)
	f.post(t, path, newFormOf("since", "2026-01-01", "cursor", "forged")).is(http.StatusBadRequest)
}

// slowStore takes its time for each batch of a recovery, which has two deliveries.
type slowStore struct{ *memstore.Store }

func (s slowStore) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	select {
	case <-time.After(700 * time.Millisecond):
	case <-ctx.Done():
		return webhook.RecoverResult{}, ctx.Err()
	}
	p.Limit = 2
	return s.Store.Recover(ctx, p)
}

// A recovery of many goes on from page to page, each of about a second, and counting
// gives up when it has taken long enough.
func TestRecoverShowsItsProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, recoverShowsItsProgress)
}

func recoverShowsItsProgress(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, "Archive")
	for range 14 {
		f.publish(t)
	}
	f.exhaust(t, "")
	m, err := webhook.NewManager(slowStore{f.store}, webhook.ManagerConfig{Clock: f.clock})
	require.NoError(t, err)
	panel, err := adminui.New(m, adminui.Config{Actor: signedIn, Clock: f.clock})
	require.NoError(t, err)
	f.host = http.StripPrefix(mount, panel)
	path := "/" + w.ID.String() + "/recover"

	f.get(t, path+"?since=2026-01-01").is(ok).says("At least 8 deliveries", "Recover")

	form := newFormOf("since", "2026-01-01", "total", "14")
	var seen []string
	for {
		page := f.post(t, path, form)
		if page.Code == leads {
			f.get(t, page.leadsTo()).is(ok).says("Done", "14 failed deliveries are being sent again")
			break
		}
		page.is(ok)
		done := regexp.MustCompile(`(\d+) of about 14 deliveries so far`).FindStringSubmatch(page.text())
		require.NotNil(t, done)
		require.Contains(t, page.Body.String(), "data-continue")
		require.Contains(t, page.Body.String(), `<progress max="14" value="`+done[1]+`"`)
		page.says("Continue", "You may leave this page")
		seen = append(seen, done[1])
		for _, name := range []string{"since", "cursor", "total", "redelivered", "released", "purged"} {
			form[name] = []string{page.field(name)}
		}
	}
	require.Equal(t, "4 8 12", strings.Join(seen, " "), "two batches of two in more than a second, each")
	p, err := f.manager.Deliveries(t.Context(), admin, webhook.DeliveryQuery{State: webhook.DeliveryPending})
	require.NoError(t, err)
	require.Len(t, p.Items, 14)
}
