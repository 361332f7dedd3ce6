package adminui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// assetsPath is where style sheet and script are. They are the same for everybody,
// and served without asking who it is.
const assetsPath = "/assets/"

// asset is a file that browsers may keep.
type asset struct {
	kind string
	body []byte
}

// newAssets returns the files by name, and what pages add to their URLs so that a
// new release is not mistaken for the old one.
func newAssets(accent string) (map[string]asset, string, error) {
	colors, err := colorsOf(accent)
	if err != nil {
		return nil, "", err
	}
	assets := map[string]asset{}
	sum := sha256.New()
	for _, f := range []struct{ name, kind, head string }{
		{"panel.css", "text/css; charset=utf-8", colors},
		{"panel.js", "text/javascript; charset=utf-8", ""},
		{"icon.svg", "image/svg+xml", ""},
	} {
		body, err := assetFiles.ReadFile("assets/" + f.name)
		if err != nil {
			return nil, "", err
		}
		body = append([]byte(f.head), bytes.ReplaceAll(body, []byte("#4f46e5"), []byte(accent))...)
		sum.Write(body)
		assets[f.name] = asset{f.kind, body}
	}
	return assets, hex.EncodeToString(sum.Sum(nil))[:12], nil
}

func (p *panel) serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := p.assets[strings.TrimPrefix(r.URL.Path, assetsPath)]
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	default:
		if r.URL.Query().Get("v") == p.version {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		w.Header().Set("Content-Type", a.kind)
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		_, _ = w.Write(a.body)
	}
}

// defaultAccent is the accent colour unless the host has one.
const defaultAccent = "#4f46e5"

// The surfaces that links are read on, and what WCAG 2.2 asks for their text.
var (
	lightSurface = color{0xf3, 0xf4, 0xf7} // the darkest of the light ones
	darkSurface  = color{0x22, 0x28, 0x33} // the lightest of the dark ones
)

const readable = 4.6 // 4.5, and something for rounding

// color is red, green and blue, 0 to 255.
type color [3]float64

// colorsOf returns the variables of the style sheet that depend on the accent.
func colorsOf(accent string) (string, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(accent, "#"))
	if err != nil || len(raw) != 3 || len(accent) != 7 {
		return "", errors.New("accent_color: must be like #4f46e5")
	}
	c := color{float64(raw[0]), float64(raw[1]), float64(raw[2])}
	on := color{255, 255, 255}
	if contrast(c, on) < readable && contrast(c, color{}) > contrast(c, on) {
		on = color{}
	}
	const format = ":root{--accent:%s;--on-accent:%s;--link:%s}\n@media (prefers-color-scheme:dark){:root{--link:%s}}\n"
	return fmt.Sprintf(format, c, on, c.towards(color{}, lightSurface), c.towards(color{255, 255, 255}, darkSurface)), nil
}

// towards returns the colour, moved towards another as far as it takes to be read on
// a surface.
func (c color) towards(to, surface color) color {
	moved := c
	for step := 0.0; step <= 1 && contrast(moved, surface) < readable; step += 0.02 {
		for i := range moved {
			moved[i] = math.Round(c[i] + (to[i]-c[i])*step)
		}
	}
	return moved
}

// String is the colour in CSS.
func (c color) String() string {
	return fmt.Sprintf("#%02x%02x%02x", int(c[0]), int(c[1]), int(c[2]))
}

// contrast is that of WCAG 2.2, from 1 to 21.
func contrast(a, b color) float64 {
	la, lb := a.luminance(), b.luminance()
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func (c color) luminance() float64 {
	linear := func(v float64) float64 {
		if v /= 255; v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}
