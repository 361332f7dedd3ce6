package adminui_test

import (
	"net/http"
	"testing"
)

func TestPagesRender(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.get(t, "/").is(http.StatusOK).says("No webhooks yet")
	w := f.create(t, "Archive")
	f.publish(t)
	f.deliver(t, answers(http.StatusInternalServerError, "no"))
	d := f.newest(t, w.ID)
	id, did := w.ID.String(), d.ID.String()
	for _, path := range []string{
		"/", "/new", "/log", "/deliveries", "/troubleshooting", "/" + id, "/" + id + "/edit", "/" + id + "/log", "/" + id + "/deliveries",
		"/" + id + "/test", "/" + id + "/recover", "/" + id + "/recover?since=2026-01-01", "/" + id + "/delete", "/" + id + "/troubleshooting",
		"/deliveries/" + did, "/" + id + "/log.ndjson",
	} {
		f.get(t, path).is(http.StatusOK)
	}
}
