package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// pagePath is the page that -all writes a part of, from the root on.
const pagePath = "docs/benchmarks.md"

// The lines between which the page is written anew. What is around them is written by
// people.
const (
	pageBegin = "<!-- begin: written by go run ./bench -all; do not edit -->"
	pageEnd   = "<!-- end -->"
)

// errMarkers is returned for a page without the two lines.
var errMarkers = errors.New("it needs a line " + pageBegin + " and after it a line " + pageEnd)

// writePage writes the results into the page.
func writePage(path string, results []result) error {
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	after, err := replacePart(before, pagePart(newest(results)))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if bytes.Equal(before, after) {
		return nil
	}
	return os.WriteFile(path, after, 0o644)
}

// replacePart replaces what is between the two lines.
func replacePart(page []byte, part string) ([]byte, error) {
	head, rest, begins := strings.Cut(string(page), pageBegin+"\n")
	_, tail, ends := strings.Cut(rest, pageEnd+"\n")
	if !begins || !ends {
		return nil, errMarkers
	}
	return []byte(head + pageBegin + "\n\n" + part + "\n" + pageEnd + "\n" + tail), nil
}

// newest is the result of each job that the page shows: the last one of full size, or
// else the last quick one.
func newest(results []result) map[job]*result {
	out := map[job]*result{}
	for i := range results {
		r := &results[i]
		at := job{r.Scenario, r.Store}
		if old := out[at]; old == nil || better(r, old) {
			out[at] = r
		}
	}
	return out
}

func better(r, old *result) bool {
	if r.Size != old.Size {
		return r.Size == sizeFull
	}
	return !r.Date.Before(old.Date)
}

// pagePart is what stands between the two lines.
func pagePart(shown map[job]*result) string {
	var text strings.Builder
	writeFigures(&text, shown)
	writeMachines(&text, shown)
	for _, j := range jobs("", "") {
		if r := shown[j]; r != nil {
			writeRows(&text, r)
		}
	}
	return text.String()
}

// writeFigures writes the table of figures, and whether they are what was asked.
func writeFigures(text *strings.Builder, shown map[job]*result) {
	stores := []string{storePostgres, storeMariaDB, storeSQLite, storeMem}
	fmt.Fprintf(text, "| figure | asked of PostgreSQL | | %s |\n|---|---|---|%s\n", strings.Join(stores, " | "), strings.Repeat("---|", len(stores)))
	for _, s := range scenarios() {
		for _, f := range s.figures {
			if s.name == "drain" && f.name == "limit_per_second" { // the scenario limit has it
				continue
			}
			cells := make([]string, len(stores))
			verdict := ""
			for i, on := range stores {
				at := job{s.name, s.storeName(on)}
				if len(s.stores) == 0 && i > 0 {
					continue
				}
				value, size, ok := valueOf(shown[at], f.name)
				if !ok {
					continue
				}
				cells[i] = number(value)
				if size == sizeQuick {
					cells[i] += " (quick)"
				}
				if i == 0 && size == sizeFull && !f.asked.none() {
					verdict = "reached"
					if !f.asked.reached(value) {
						verdict = "**not reached**"
					}
				}
			}
			fmt.Fprintf(text, "| `%s` | %s | %s | %s |\n", f.name, f.asked, verdict, strings.Join(cells, " | "))
		}
	}
}

// valueOf finds a figure of a result.
func valueOf(r *result, name string) (value float64, size string, ok bool) {
	if r == nil {
		return 0, "", false
	}
	i := slices.IndexFunc(r.Ratios, func(x ratio) bool { return x.Name == name })
	if i < 0 {
		return 0, "", false
	}
	return r.Ratios[i].Value, r.Size, true
}

// writeMachines says on what the results were taken.
func writeMachines(text *strings.Builder, shown map[job]*result) {
	var all []string
	for _, r := range shown {
		all = append(all, r.Machine.String())
	}
	slices.Sort(all)
	for _, m := range slices.Compact(all) {
		fmt.Fprintf(text, "\nMachine: %s.\n", m)
	}
	if len(shown) == 0 {
		fmt.Fprintf(text, "\nNothing has been measured yet.\n")
	}
}

// writeRows writes what a run printed.
func writeRows(text *strings.Builder, r *result) {
	fmt.Fprintf(text, "\n### %s\n\n", cmp.Or(strings.TrimSuffix(r.Scenario+", "+r.Store, ", "+storeNone), r.Scenario))
	fmt.Fprintf(text, "`%s`, %s, commit %s, %s s.\n\n```text\n", r.Settings, r.Date.Format("2006-01-02 15:04 UTC"), r.Commit, number(r.Seconds))
	_ = r.report().print(text) // a strings.Builder takes everything
	text.WriteString("```\n")
}
