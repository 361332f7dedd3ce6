package browser_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// stepTimeout bounds what a person waits for in a page.
const stepTimeout = 30 * time.Second

// person looks at pages and uses what is there by the names that it has for people,
// assistive software included.
type person struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it
}

// do runs actions within the time that a step has.
func (p person) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		require.NoError(p.t, err, "%s", p.surroundings())
	}
}

// ask evaluates an expression in the page.
func ask[T any](p person, expression string, options ...chromedp.EvaluateOption) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, options...))
	require.NoError(p.t, err, "%s", expression)
	return v
}

// surroundings is where the person is, for a step that failed.
func (p person) surroundings() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + ':\\n' + document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}

// until waits for an expression to be true.
func (p person) until(expression, what string) {
	p.t.Helper()
	for end := time.Now().Add(stepTimeout); ; time.Sleep(50 * time.Millisecond) { //nolint:forbidigo // a browser has no clock of ours
		ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression)) // an error: the page is just changing
		cancel()
		if err == nil && ok {
			return
		}
		if time.Now().After(end) {
			require.Fail(p.t, what, "%v\n%s", err, p.surroundings())
		}
	}
}

func (p person) opens(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
}

// sees waits for a text.
func (p person) sees(text string) {
	p.t.Helper()
	p.until("document.body.innerText.includes("+quoted(text)+")", "does not see "+text)
}

func (p person) seesNot(text string) {
	p.t.Helper()
	require.False(p.t, ask[bool](p, "document.body.innerText.includes("+quoted(text)+")"), "sees %s", text)
}

// names is JavaScript: the elements that people know by a name, and their names.
const names = `(() => {
	const shown = e => e.checkVisibility() && !e.closest("[aria-hidden=true]");
	const nameOf = e => (e.getAttribute("aria-label") || (e.labels && e.labels.length ? e.labels[0].innerText : e.innerText) || e.value || "")
		.replace(/\s+/g, " ").trim();
	return (selector, name, exactly) => {
		const all = [...document.querySelectorAll(selector)].filter(shown);
		return all.find(e => nameOf(e) === name) || (exactly ? undefined : all.find(e => nameOf(e).startsWith(name)));
	};
})()`

const (
	controls = "a[href], button, summary, [role=button], input[type=submit]"
	fields   = "input:not([type=hidden]), textarea, select"
)

// has reports whether there is a link or a button of that name.
func (p person) has(name string) bool {
	p.t.Helper()
	return ask[bool](p, "!!"+names+"("+quoted(controls)+", "+quoted(name)+", false)")
}

// clicks a link or a button.
func (p person) clicks(name string) {
	p.t.Helper()
	found := names + "(" + quoted(controls) + ", " + quoted(name) + ", false)"
	p.until("!!"+found, "there is nothing to click called "+name)
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Evaluate[bool]("("+found+".click(), true)")(ctx, t)
		return err
	}))
}

// fills a field, or chooses from it.
func (p person) fills(label, value string) {
	p.t.Helper()
	found := names + "(" + quoted(fields) + ", " + quoted(label) + ", false)"
	p.until("!!"+found, "there is no field called "+label)
	require.True(p.t, ask[bool](p, `(() => {
		const e = `+found+`, value = `+quoted(value)+`;
		e.focus();
		if (e.tagName === "SELECT") {
			const o = [...e.options].find(o => o.text.trim() === value || o.value === value);
			if (!o) return false;
			e.value = o.value;
		} else {
			e.value = value;
		}
		e.dispatchEvent(new Event("input", {bubbles: true}));
		e.dispatchEvent(new Event("change", {bubbles: true}));
		return true;
	})()`), "%s has no %s", label, value)
}

// ticks a box or a choice.
func (p person) ticks(label string) {
	p.t.Helper()
	found := names + `("input[type=checkbox], input[type=radio]", ` + quoted(label) + ", false)"
	p.until("!!"+found, "there is nothing to tick called "+label)
	require.True(p.t, ask[bool](p, "(() => { const e = "+found+"; if (!e.checked) e.click(); return e.checked; })()"))
}

// quoted is a text in JavaScript.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has one
	}
	return string(b)
}

// screenshots is where pictures of the pages go. Git ignores it.
const screenshots = "screenshots"

// photographs writes a picture of the whole page.
func (p person) photographs(name string) {
	p.t.Helper()
	p.writes(name, p.captures(chromedp.FullScreenshot(100)))
}

// frames writes a picture of what is seen of a page at once, small enough for
// documents.
func (p person) frames(name string) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(1200, 720))
	full, err := png.Decode(bytes.NewReader(p.captures(chromedp.CaptureScreenshot())))
	require.NoError(p.t, err)
	var small bytes.Buffer
	require.NoError(p.t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, inFewColors(full)))
	require.Less(p.t, small.Len(), 100_000)
	p.writes(name, small.Bytes())
}

// inFewColors is a picture in its 256 most frequent colours; a page has no more that
// matter.
func inFewColors(full image.Image) *image.Paletted {
	count := map[color.RGBA]int{}
	bounds := full.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	var palette color.Palette
	for _, c := range frequent[:min(len(frequent), 256)] {
		palette = append(palette, c)
	}
	small := image.NewPaletted(bounds, palette)
	nearest := map[color.RGBA]uint8{}
	for c := range count {
		nearest[c] = uint8(palette.Index(c))
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			small.SetColorIndex(x, y, nearest[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)])
		}
	}
	return small
}

func (p person) captures(capture chromedp.Action[[]byte]) []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, stepTimeout)
	defer cancel()
	picture, err := chromedp.Run(ctx, capture)
	require.NoError(p.t, err)
	return picture
}

func (p person) writes(name string, picture []byte) {
	p.t.Helper()
	require.NoError(p.t, os.MkdirAll(screenshots, 0o755))
	require.NoError(p.t, os.WriteFile(filepath.Join(screenshots, name+".png"), picture, 0o644))
}

// violation is something that keeps people from using a page, as axe-core says it.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML, FailureSummary string
		Target               []any
	}
}

// examines lets axe-core look at the page.
func (p person) examines(axe string) []violation {
	p.t.Helper()
	// Its own isolated world would need no CSP; the page's forbids eval, not this.
	ask[bool](p, axe+"; true")
	found := ask[string](p, `axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations))`, chromedp.EvalAwaitPromise)
	var list []violation
	require.NoError(p.t, json.Unmarshal([]byte(found), &list))
	return list
}
