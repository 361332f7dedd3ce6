package browser_test

import (
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// shown are the pages of which docs/panel.md has a picture.
var shown = []string{"list", "log", "delivery-failed"}

// TestAxe lets axe-core look at every page, light and dark, wide and narrow. It
// leaves a picture of each in the folder screenshots.
func TestAxe(t *testing.T) {
	t.Parallel()
	source, err := axe()
	need(t, "axe-core", err)
	ctx, g := start(t), newGallery(t)
	for _, e := range slices.Concat(reads, changes, staffs) {
		t.Run(e.name, func(t *testing.T) {
			for _, a := range appearances {
				t.Run(a.name, func(t *testing.T) {
					p := person{t, ctx}
					p.do(a.apply(), chromedp.Navigate(g.url+"/sign-in/owner"))
					e.see(p, g)
					p.photographs(e.name + "-" + a.name)
					if slices.Contains(shown, e.name) && a.name == "light" {
						p.frames("docs-" + e.name)
					}
					require.False(t, ask[bool](p, "document.documentElement.scrollWidth > document.documentElement.clientWidth"), "it must be scrolled sideways")
					for _, v := range p.examines(source) {
						for _, n := range v.Nodes {
							t.Errorf("%s (%s): %s\n%s\n%s", v.ID, v.Impact, v.Help, n.HTML, n.FailureSummary)
						}
					}
				})
			}
		})
	}
}
