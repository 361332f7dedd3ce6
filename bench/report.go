package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// report is what a scenario prints: notes, a table, and the figures.
type report struct {
	notes   []string
	columns []string
	rows    [][]string
	ratios  []ratio
}

// ratio is a figure with a name.
type ratio struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *report) row(cells ...string) { r.rows = append(r.rows, cells) }

// ratio adds a figure, unless it could not be found out.
func (r *report) ratio(name string, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		r.note("%s: unknown", name)
		return
	}
	r.ratios = append(r.ratios, ratio{name, value})
}

// print writes the report; the ratios come last.
func (r *report) print(out io.Writer) error {
	var text strings.Builder
	for _, n := range r.notes {
		fmt.Fprintln(&text, n)
	}
	fmt.Fprintln(&text)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, cells := range append([][]string{r.columns}, r.rows...) {
		if _, err := fmt.Fprintln(table, strings.Join(cells, "\t")+"\t"); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(&text)
	for _, x := range r.ratios {
		fmt.Fprintf(&text, "ratio %s %s\n", x.Name, number(x.Value))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// number writes a whole number as it is, any other value with at least three
// significant digits, and a dash for none.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case size >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 0.1:
		return fmt.Sprintf("%.3f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// numbers writes several values, separated by spaces.
func numbers(values []float64) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = number(v)
	}
	return strings.Join(texts, " ")
}
