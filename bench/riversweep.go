package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// riverSettings are what decides how fast River is.
type riverSettings struct {
	workers  int           // jobs at once
	requests int           // requests at once; the other jobs wait for their turn
	cooldown time.Duration // FetchCooldown
	poll     time.Duration // FetchPollInterval
	conns    int           // of the pool that River and the log share
}

// String shows the settings by River's names.
func (s riverSettings) String() string {
	return fmt.Sprintf("MaxWorkers %d (%d requests at once), FetchCooldown %s, FetchPollInterval %s, %d connections",
		s.workers, s.requests, s.cooldown, s.poll, s.conns)
}

// riverChoices are tried one after the other, each group on the best of those
// before.
func riverChoices(quick bool) [][]func(*riverSettings) {
	workers := func(workers, requests int) func(*riverSettings) {
		return func(s *riverSettings) { s.workers, s.requests = workers, requests }
	}
	fetch := func(cooldown, poll time.Duration) func(*riverSettings) {
		return func(s *riverSettings) { s.cooldown, s.poll = cooldown, poll }
	}
	conns := func(n int) func(*riverSettings) { return func(s *riverSettings) { s.conns = n } }
	const ms = time.Millisecond
	if quick { // those that have come near the best
		return [][]func(*riverSettings){
			{workers(256, 256), workers(1000, 32), workers(4000, 64)},
			{fetch(2*ms, 20*ms), fetch(20*ms, 80*ms)},
			{conns(12)},
		}
	}
	return [][]func(*riverSettings){
		{workers(64, 64), workers(256, 256), workers(1000, 32), workers(1000, 128), workers(4000, 64)},
		{fetch(1*ms, 10*ms), fetch(2*ms, 20*ms), fetch(20*ms, 80*ms)}, // 2 and 20 are those of River's own benchmark
		{conns(12), conns(48)},
	}
}

// defaultRiverSettings is where the search begins. With more jobs at once than
// requests, a fetch brings more jobs and there are fewer of them.
func defaultRiverSettings() riverSettings {
	return riverSettings{workers: 1000, requests: 64, cooldown: 5 * time.Millisecond, poll: 20 * time.Millisecond, conns: 24}
}

// riverRun is a run of n jobs in a database that has had others.
type riverRun func(d *riverDatabase, s riverSettings, n int) (flowRun, error)

// riverTrial is how fast River was with some settings.
type riverTrial struct {
	settings  riverSettings
	perSecond float64
}

// finalists is how many settings are tried a second time, because a short run may
// be lucky.
const finalists = 2

// sweepRiver looks for River's best settings, in short runs.
func (b *bench) sweepRiver(ctx context.Context, run riverRun, n int) (best riverSettings, err error) {
	d, err := b.openRiver(ctx)
	if err != nil {
		return best, fmt.Errorf("river: %w", err)
	}
	defer func() { err = errors.Join(err, d.drop(ctx)) }()
	first, err := b.tryRiver(d, run, n, defaultRiverSettings())
	if err != nil {
		return best, err
	}
	trials := []riverTrial{first}
	for _, group := range riverChoices(b.quick) {
		base := fastest(trials).settings
		for _, choose := range group {
			s := base
			choose(&s)
			t, err := b.tryRiver(d, run, n, s)
			if err != nil {
				return best, err
			}
			trials = append(trials, t)
		}
	}
	slices.SortFunc(trials, func(a, b riverTrial) int { return cmp.Compare(b.perSecond, a.perSecond) })
	trials = trials[:min(finalists, len(trials))]
	for i := range trials {
		again, err := b.tryRiver(d, run, n, trials[i].settings)
		if err != nil {
			return best, err
		}
		trials[i].perSecond += again.perSecond
	}
	return fastest(trials).settings, nil
}

func fastest(trials []riverTrial) riverTrial {
	return slices.MaxFunc(trials, func(a, b riverTrial) int { return cmp.Compare(a.perSecond, b.perSecond) })
}

func (b *bench) tryRiver(d *riverDatabase, run riverRun, n int, s riverSettings) (riverTrial, error) {
	r, err := run(d, s, n)
	if err != nil {
		return riverTrial{}, fmt.Errorf("river, %s: %w", s, err)
	}
	b.log.Info("river swept", "settings", s.String(), "per_second", number(r.perSecond()))
	return riverTrial{s, r.perSecond()}, nil
}
