package adminui_test

import "testing"

// A link can show a notice only where it belongs.
func TestNoticesBelongToTheirPages(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	pages := []string{"/", "/{webhook}", "/deliveries/{failed}", "/new", "/log", "/{webhook}/deliveries", "/troubleshooting", "/{webhook}/delete"}
	for key, notice := range map[string]struct{ text, page string }{
		"deleted": {"The webhook is deleted, and", "/"}, "existed": {"was created already", "/{webhook}"}, "saved": {"Saved.", "/{webhook}"},
		"redelivered": {"is being sent again, by this", "/deliveries/{failed}"}, "held": {"This new delivery is held", "/deliveries/{failed}"},
		"cancelled": {"The delivery is cancelled.", "/deliveries/{failed}"},
	} {
		for _, path := range pages {
			page := s.get(t, s.ids.Replace(path)+"?said="+key).is(ok)
			if path == notice.page {
				page.says(notice.text)
			} else {
				page.saysNot(notice.text)
			}
		}
	}
}
