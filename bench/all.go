package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// job is a scenario on a store.
type job struct{ scenario, store string }

// jobs are what -all runs, a store after the other: all, or of one scenario or store.
func jobs(scenario, store string) []job {
	var out []job
	for _, on := range append([]string{storeNone}, allStores()...) {
		for _, s := range scenarios() {
			fits := slices.Contains(s.stores, on) || on == storeNone && len(s.stores) == 0
			if fits && (scenario == "" || scenario == s.name) && (store == "" || store == on) {
				out = append(out, job{s.name, on})
			}
		}
	}
	return out
}

// todo are the jobs of which there are no results yet.
func todo(all []job, have []result, size, commit string) []job {
	done := map[resultKey]bool{}
	for _, r := range have {
		done[r.resultKey] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(j job) bool {
		return done[resultKey{j.scenario, j.store, size, commit}]
	})
}

// runAll runs what has not been run yet and writes the page after each, so that it
// can be broken off at any time. A scenario that fails keeps no other from being run.
func runAll(ctx context.Context, b *bench, resized bool) error {
	switch {
	case resized:
		return errors.New("-all knows the sizes of -quick and the full ones; it takes no -rounds and no -deliveries")
	case b.dsn != "" && b.store == "":
		return errors.New("-all with -dsn needs -store: a DSN is for one of them")
	case b.plans || b.profile != "" || b.peer != "":
		return errors.New("-all takes no -plans, no -cpuprofile and no -peer")
	}
	all := jobs(b.scenario, b.store)
	if len(all) == 0 {
		return fmt.Errorf("-all finds no scenario %q on store %q", b.scenario, b.store)
	}
	c, err := checkoutAt(ctx, ".")
	if err != nil {
		return err
	}
	kept, page := filepath.Join(c.root, resultsPath), filepath.Join(c.root, pagePath)
	have, err := readResults(kept)
	if err != nil {
		return err
	}
	var failed []error
	open := todo(all, have, b.size(), c.commit)
	for i, j := range open {
		b.log.Info("next", "scenario", j.scenario, "store", j.store, "number", i+1, "of", len(open))
		r, err := b.runJob(ctx, j, c.commit)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.log.Error("failed", "scenario", j.scenario, "store", j.store, "error", err)
			failed = append(failed, fmt.Errorf("%s on %s: %w", j.scenario, j.store, err))
			continue
		}
		if err := appendResult(kept, r); err != nil {
			return err
		}
		have = append(have, *r)
		if err := writePage(page, have); err != nil {
			return err
		}
	}
	return errors.Join(append(failed, writePage(page, have))...)
}

// runJob runs one of them.
func (b *bench) runJob(ctx context.Context, j job, commit string) (*result, error) {
	one := *b
	one.scenario, one.store = j.scenario, j.store
	if j.store == storeNone {
		one.store = ""
	}
	began := time.Now()
	r, err := one.run(ctx)
	if err != nil {
		return nil, err
	}
	return &result{
		resultKey: resultKey{j.scenario, j.store, b.size(), commit},
		Date:      began.UTC().Truncate(time.Second), Seconds: float64(int(time.Since(began).Seconds())),
		Machine: thisMachine(), Settings: one.settings(),
		Notes: r.notes, Columns: r.columns, Rows: r.rows, Ratios: r.ratios,
	}, nil
}

// settings is the command that runs a scenario alone.
func (b *bench) settings() string {
	words := []string{"go run ./bench -scenario", b.scenario}
	if b.store != "" {
		words = append(words, "-store", b.store)
	}
	if b.peer != "" && b.peer != peerNone {
		words = append(words, "-peer", b.peer)
	}
	if b.quick {
		words = append(words, "-quick")
	}
	if b.rate > 0 {
		words = append(words, "-rate", fmt.Sprint(b.rate))
	}
	if b.organizations != defaultOrganizations {
		words = append(words, "-organizations", fmt.Sprint(b.organizations))
	}
	return strings.Join(words, " ")
}
