package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// resultsPath is where -all keeps what it has measured, from the root on: a line of
// JSON for each run.
const resultsPath = "bench/results.jsonl"

// resultKey is what a run is the only one of.
type resultKey struct {
	Scenario string `json:"scenario"`
	Store    string `json:"store"`
	Size     string `json:"size"`
	Commit   string `json:"commit"`
}

// The sizes.
const (
	sizeFull  = "full"
	sizeQuick = "quick"
)

// size is the name of the sizes that the command line asks for.
func (o options) size() string {
	if o.quick {
		return sizeQuick
	}
	return sizeFull
}

// result is a run that is kept.
type result struct {
	resultKey
	Date     time.Time   `json:"date"`
	Seconds  float64     `json:"seconds"`
	Machine  machineInfo `json:"machine"`
	Settings string      `json:"settings"` // of the command line
	Notes    []string    `json:"notes"`
	Columns  []string    `json:"columns"`
	Rows     [][]string  `json:"rows"`
	Ratios   []ratio     `json:"ratios"`
}

// report is what the run printed.
func (r *result) report() *report {
	return &report{notes: r.Notes, columns: r.Columns, rows: r.Rows, ratios: r.Ratios}
}

// readResults reads all that is kept; no file is no results. A last line that was
// not finished, because its writer was killed, is left out.
func readResults(path string) ([]result, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []result
	for line, rest := 1, text; len(rest) > 0; line++ {
		var one []byte
		var whole bool
		if one, rest, whole = bytes.Cut(rest, []byte("\n")); !whole {
			break
		}
		var r result
		if err := json.Unmarshal(one, &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, line, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// appendResult keeps one more, behind the last line that is whole.
func appendResult(path string, r *result) (err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var whole int64
	for in := bufio.NewReader(f); ; {
		before, err := in.ReadBytes('\n')
		if err != nil {
			break // the end, or what follows the last line
		}
		whole += int64(len(before))
	}
	if err := f.Truncate(whole); err != nil {
		return err
	}
	_, err = f.WriteAt(append(line, '\n'), whole)
	return err
}
