package adminui

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/posthorn/webhook"
)

//go:embed templates
var templateFiles embed.FS

// page is what a template sees.
type page struct {
	Title  string
	Crumbs []crumb // from the list to the page's parent
	Notice string  // what has just been done
	Data   any

	// Set by render.
	Base, Version string
	Brand         Config
	Actor         webhook.Actor
	MayChange     bool
	Staff         bool // the page is for the host's staff, and for no organization
	now           time.Time
	catalog       *webhook.Catalog
}

// crumb is a page above the one that is shown. URL is from the panel's root.
type crumb struct{ Title, URL string }

// said are the notices that a redirect to a page may ask for by their key, so that no
// text from a link is shown, and none where it would make no sense. The script takes
// the key out of the address, so that reloading the page does not show it again.
var said = map[string]map[string]string{
	"list": {
		"deleted": "The webhook is deleted, and nothing is sent to its endpoint any more.",
	},
	"operations": {
		"paused":  "The dispatchers are paused. Attempts in flight end by themselves.",
		"resumed": "The dispatchers go on.",
	},
	"show": {
		"existed": "This webhook was created already, by the same form. Its secret was shown then, and cannot be shown again.",
		"saved":   "Saved.",
	},
	"delivery": {
		"redelivered": "The event is being sent again, by this new delivery.",
		"held":        "This new delivery is held, because the webhook is inactive.",
		"cancelled":   "The delivery is cancelled. An attempt that is in flight ends by itself.",
		"test":        "The test event is on its way. This page shows what becomes of it.",
	},
}

// ok answers with a page.
func (c *call) ok(name string, p *page) error {
	if p.Notice == "" {
		p.Notice = said[name][c.r.URL.Query().Get("said")]
	}
	c.render(http.StatusOK, name, p)
	return nil
}

// render answers with a page and a status.
func (c *call) render(status int, name string, p *page) {
	p.Base, p.Version, p.Brand, p.Actor, p.MayChange = c.base, c.version, c.cfg, c.actor, c.mayChange()
	p.now, p.catalog, p.Staff = c.now, c.catalog, c.staff != nil && c.actor.ID != ""
	var b bytes.Buffer
	if err := c.pages[name].ExecuteTemplate(&b, "layout", p); err != nil {
		c.cfg.Logger.ErrorContext(c.r.Context(), "adminui: a page could not be rendered", "page", name, "error", err)
		http.Error(c.w, "Something went wrong. It is our fault, not yours.", http.StatusInternalServerError)
		return
	}
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(b.Bytes())
}

// parsePages parses each page together with what all of them share.
func parsePages() (map[string]*template.Template, error) {
	shared, err := template.New("").Funcs(functions).ParseFS(templateFiles, "templates/shared/*.html")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, file := range files {
		t, err := shared.Clone()
		if err == nil {
			t, err = t.ParseFS(templateFiles, file)
		}
		if err != nil {
			return nil, err
		}
		pages[strings.TrimSuffix(path.Base(file), ".html")] = t
	}
	return pages, nil
}

var functions = template.FuncMap{
	"duration":   duration,
	"number":     number,
	"printable":  printable,
	"stateLabel": stateLabel,
	"stateTone":  stateTone,
	"pairs":      pairs,
	"short":      short,
	"counted":    counted,
}

// pairs makes a map, for templates that take more than one thing.
func pairs(list ...any) (map[string]any, error) {
	if len(list)%2 != 0 {
		return nil, errors.New("pairs: a name without a value")
	}
	m := map[string]any{}
	for i := 0; i < len(list); i += 2 {
		name, ok := list[i].(string)
		if !ok {
			return nil, fmt.Errorf("pairs: %v is no name", list[i])
		}
		m[name] = list[i+1]
	}
	return m, nil
}

// moment is a time as pages show it.
type moment struct {
	At  time.Time
	now time.Time
}

// Moment is a time, seen from when the page was made.
func (p *page) Moment(t time.Time) moment { return moment{t.UTC(), p.now} }

// Stamp is the time to the second.
func (m moment) Stamp() string { return m.At.Format("2006-01-02 15:04:05") }

// Machine is the time for programs.
func (m moment) Machine() string { return m.At.Format(time.RFC3339) }

// Relative is how long ago it was, or how soon it will be.
func (m moment) Relative() string {
	switch d := m.now.Sub(m.At); {
	case d < -time.Second:
		return "in " + roughly(-d)
	case d < time.Second:
		return "just now"
	default:
		return roughly(d) + " ago"
	}
}

// roughly is a span of time in its largest unit or two.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < day:
		if minutes := d % time.Hour / time.Minute; minutes > 0 {
			return fmt.Sprintf("%d h %d min", d/time.Hour, minutes)
		}
		return fmt.Sprintf("%d h", d/time.Hour)
	case d < 2*day:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", d/day)
	}
}

// duration is a measured time, to three figures or so.
func duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "0 ms"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return roughly(d)
	}
}

// number is a count with separators.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short is the beginning of an id, for where all of it has no room.
func short(s fmt.Stringer) string { return s.String()[:8] }

// EventTitle is the catalog's title of an event type, or its name.
func (p *page) EventTitle(t webhook.EventType) string { return eventTitle(p.catalog, t) }

// SubjectTitle is the catalog's title of a subject type, or its name.
func (p *page) SubjectTitle(t webhook.SubjectType) string { return subjectTitle(p.catalog, t) }

func eventTitle(c *webhook.Catalog, t webhook.EventType) string {
	if info, ok := c.EventType(t); ok {
		return info.Title
	}
	return string(t)
}

func subjectTitle(c *webhook.Catalog, t webhook.SubjectType) string {
	if info, ok := c.SubjectType(t); ok {
		return info.Title
	}
	return string(t)
}

// stateLabel is a state, an outcome or a status for people.
func stateLabel(s any) string {
	text := fmt.Sprint(s)
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// stateTone is the class of its colour.
func stateTone(s any) string {
	switch fmt.Sprint(s) {
	case string(webhook.DeliverySucceeded), string(webhook.StatusActive):
		return "ok"
	case string(webhook.DeliveryFailed):
		return "bad"
	case string(webhook.DeliveryPending), string(webhook.OutcomeInterrupted), string(webhook.OutcomeLate):
		return "wait"
	default:
		return "off"
	}
}
