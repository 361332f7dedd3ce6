package adminui

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/posthorn/webhook"
)

// chartRange is a span of time that charts show.
type chartRange struct {
	Name, Title string
	Bars        int
	Step        time.Duration
	layout      string // of the labels below
	every       int    // bars have a label
}

var chartRanges = []chartRange{
	{"24h", "24 hours", 24, time.Hour, "15:04", 4},
	{"7d", "7 days", 28, 6 * time.Hour, "Jan 2", 4},
	{"30d", "30 days", 30, 24 * time.Hour, "Jan 2", 5},
}

func rangeNamed(name string) chartRange {
	for _, r := range chartRanges {
		if r.Name == name {
			return r
		}
	}
	return chartRanges[0]
}

// chart is a webhook's attempts by outcome, and how long they took, from the hourly
// counters.
type chart struct {
	Range               chartRange
	Rows                []chartRow
	Attempts, Succeeded int
	Outcomes, Latency   plot
	Slow                bool // some percentile lies beyond the last bound of the buckets
}

// Share is the share of successes.
func (c chart) Share() string { return share(c.Succeeded, c.Attempts) }

// chartRow is one bar, and one row of the table for those who cannot see it.
type chartRow struct {
	From, To                       time.Time
	Succeeded, Failed, Interrupted int
	P50, P95                       time.Duration // 0 if there is nothing to tell

	latency [len(webhook.LatencyBounds) + 1]int
}

// Label is the row's time.
func (r chartRow) Label() string { return r.From.Format("2006-01-02 15:04") }

// Total is the row's attempts.
func (r chartRow) Total() int { return r.Succeeded + r.Failed + r.Interrupted }

// plot is a drawing: its parts in the units of its view box.
type plot struct {
	Bars       []bar
	Lines      []line
	Ticks      []tick // of the vertical axis
	Labels     []tick // below
	Left, Base float64
	Width      float64
}

// bar is the parts of one bar, from below: succeeded, interrupted, failed.
type bar struct {
	X, Width float64
	Parts    []barPart
	Title    string
}

type barPart struct {
	Class     string
	Y, Height float64
}

// line is a percentile: pieces of a line, with a dot where a piece is a single
// point.
type line struct {
	Class  string
	Pieces []string // points of a polyline
	Dots   []dot
}

type dot struct{ X, Y float64 }

type tick struct {
	At   float64
	Text string
}

// The view box of a plot.
const (
	plotWidth  = 720.0
	plotLeft   = 52.0
	plotTop    = 10.0
	plotBase   = 150.0 // the horizontal axis
	plotHeight = plotBase - plotTop
)

// chart draws counters, which may begin before the range.
func (c *call) chart(r chartRange, counters []webhook.Counter) chart {
	last := c.now.Truncate(r.Step) // days and quarters of them begin with UTC's
	first := last.Add(-time.Duration(r.Bars-1) * r.Step)
	return draw(r, first, counters, c.cfg.AttemptTimeout)
}

// draw makes the charts of a range that begins at first. No attempt takes longer than
// slowest.
func draw(r chartRange, first time.Time, counters []webhook.Counter, slowest time.Duration) chart {
	c := chart{Range: r, Rows: make([]chartRow, r.Bars)}
	for i := range c.Rows {
		c.Rows[i].From = first.Add(time.Duration(i) * r.Step)
		c.Rows[i].To = c.Rows[i].From.Add(r.Step)
	}
	for _, x := range counters {
		since := x.Hour.Sub(first)
		i := int(since / r.Step)
		if since < 0 || i >= len(c.Rows) {
			continue
		}
		row := &c.Rows[i]
		row.Succeeded += x.Succeeded
		row.Failed += x.Failed
		row.Interrupted += x.Interrupted
		for b, n := range x.Latency {
			row.latency[b] += n
		}
		c.Succeeded += x.Succeeded
		c.Attempts += attemptsIn(x)
	}
	for i := range c.Rows {
		row := &c.Rows[i]
		row.P50, row.P95 = percentile(row.latency, 0.50, slowest), percentile(row.latency, 0.95, slowest)
		c.Slow = c.Slow || row.P95 > webhook.LatencyBounds[len(webhook.LatencyBounds)-1]
	}
	c.Outcomes, c.Latency = drawOutcomes(r, c.Rows), drawLatency(r, c.Rows)
	return c
}

// frame is what both plots have: the room of each bar, and the labels below.
func frame(r chartRange, rows []chartRow) (p plot, step float64) {
	step = (plotWidth - plotLeft) / float64(len(rows))
	p = plot{Left: plotLeft, Base: plotBase, Width: plotWidth}
	for i, row := range rows {
		if i%r.every == 0 {
			p.Labels = append(p.Labels, tick{plotLeft + step*(float64(i)+0.5), row.From.Format(r.layout)})
		}
	}
	return p, step
}

func drawOutcomes(r chartRange, rows []chartRow) plot {
	p, step := frame(r, rows)
	most := 0
	for _, row := range rows {
		most = max(most, row.Total())
	}
	top := niceAbove(float64(max(most, 4)))
	for i := range 5 {
		n := top * float64(i) / 4
		p.Ticks = append(p.Ticks, tick{plotBase - plotHeight*float64(i)/4, shortNumber(n)})
	}
	for i, row := range rows {
		b := bar{X: plotLeft + step*float64(i) + step*0.15, Width: step * 0.7}
		y := plotBase
		for _, part := range []struct {
			class string
			n     int
		}{{"ok", row.Succeeded}, {"wait", row.Interrupted}, {"bad", row.Failed}} {
			if part.n == 0 {
				continue
			}
			h := max(plotHeight*float64(part.n)/top, 1.5)
			y -= h
			b.Parts = append(b.Parts, barPart{part.class, y, h})
		}
		b.Title = fmt.Sprintf("%s UTC: %s succeeded, %s failed, %s interrupted",
			row.Label(), number(row.Succeeded), number(row.Failed), number(row.Interrupted))
		p.Bars = append(p.Bars, b)
	}
	return p
}

func drawLatency(r chartRange, rows []chartRow) plot {
	p, step := frame(r, rows)
	most := time.Duration(0)
	for _, row := range rows {
		most = max(most, row.P95)
	}
	top := time.Duration(niceAbove(max(float64(most)/float64(time.Millisecond), 4))) * time.Millisecond
	for i := range 5 {
		p.Ticks = append(p.Ticks, tick{plotBase - plotHeight*float64(i)/4, axisDuration(top * time.Duration(i) / 4)})
	}
	for _, l := range []struct {
		class string
		of    func(chartRow) time.Duration
	}{{"p95", func(r chartRow) time.Duration { return r.P95 }}, {"p50", func(r chartRow) time.Duration { return r.P50 }}} {
		drawn := line{Class: l.class}
		var piece []string
		flush := func() {
			if len(piece) > 1 {
				drawn.Pieces = append(drawn.Pieces, strings.Join(piece, " "))
			}
			piece = nil
		}
		for i, row := range rows {
			if l.of(row) == 0 {
				flush()
				continue
			}
			x, y := plotLeft+step*(float64(i)+0.5), plotBase-plotHeight*float64(l.of(row))/float64(top)
			piece = append(piece, fmt.Sprintf("%.1f,%.1f", x, y))
			drawn.Dots = append(drawn.Dots, dot{x, y})
		}
		flush()
		p.Lines = append(p.Lines, drawn)
	}
	return p
}

// percentile estimates one from a histogram: as if the times within a bucket were
// spread evenly. The last bucket ends at slowest.
func percentile(latency [len(webhook.LatencyBounds) + 1]int, q float64, slowest time.Duration) time.Duration {
	total := 0
	for _, n := range latency {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank, lower := q*float64(total), time.Duration(0)
	for i, n := range latency {
		upper := max(slowest, lower) // attempts may have had more time before
		if i < len(webhook.LatencyBounds) {
			upper = webhook.LatencyBounds[i]
		}
		if n > 0 && rank <= float64(n) {
			return max(lower+time.Duration(rank/float64(n)*float64(upper-lower)), time.Microsecond)
		}
		rank -= float64(n)
		lower = upper
	}
	return lower
}

// niceAbove returns a round number that is not less, whose quarters are round, too.
func niceAbove(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 4, 6, 8, 10} {
		if nice := m * unit; nice >= v && math.Mod(nice, 4) == 0 {
			return nice
		}
	}
	return 20 * unit
}

func shortNumber(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	default:
		return number(int(v))
	}
}

func axisDuration(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.3g s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// share is a share in words. Only all of them are 100 %.
func share(part, all int) string {
	switch {
	case all == 0:
		return "–"
	case part == all:
		return "100 %"
	case part == 0:
		return "0 %"
	}
	return fmt.Sprintf("%.1f %%", min(math.Floor(1000*float64(part)/float64(all))/10, 99.9))
}
