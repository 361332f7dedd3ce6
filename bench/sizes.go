package main

import "time"

// sizes are how much is done of everything.
type sizes struct {
	rounds int // of limit and drain

	concurrencies []int         // of limit, to sweep
	sweepFor      time.Duration // each
	limitFor      time.Duration // a round
	warmUp        time.Duration // before each, unmeasured

	webhooks   int // of limit and drain
	deliveries int
	peerSweep  int // jobs of each short run in search of the peer's best settings

	claimed int // deliveries that the scenario claim claims from
	future  int // others that are due tomorrow
	backlog int // or are before them, of one webhook

	logged       int // attempts of the scenario log
	loggedSQLite int
	logRepeats   int // of each page

	snapshot int // deliveries of a drain under one snapshot

	pending int // deliveries of the webhook that the scenario delete deletes

	soakFor       time.Duration
	soakWindow    time.Duration // a line of its table
	soakRetention time.Duration

	isolateRounds int
	healthy       int           // webhooks that answer
	hanging       []int         // webhooks that do not, in each case
	perSecond     int           // events a second to all the healthy ones together
	isolateFor    time.Duration // each case
	burst         int           // events of the one-shot, to the hanging one and to the healthy ones each
	stragglers    time.Duration // how long to wait for what has not been received at the end
}

func fullSizes() sizes {
	return sizes{
		rounds:        3,
		concurrencies: []int{16, 32, 64, 128, 256},
		sweepFor:      3 * time.Second,
		limitFor:      5 * time.Second,
		warmUp:        500 * time.Millisecond,
		webhooks:      100,
		deliveries:    100_000,
		peerSweep:     10_000,
		claimed:       20_000,
		future:        1_000_000,
		backlog:       500_000,
		logged:        10_000_000,
		loggedSQLite:  1_000_000,
		logRepeats:    30,
		snapshot:      160_000,
		pending:       100_000,
		soakFor:       5 * time.Minute,
		soakWindow:    15 * time.Second,
		soakRetention: time.Minute,
		isolateRounds: 3,
		healthy:       99,
		hanging:       []int{1, 16, 100},
		perSecond:     500,
		isolateFor:    45 * time.Second, // three timeouts
		burst:         500,
		stragglers:    30 * time.Second,
	}
}

func quickSizes() sizes {
	s := fullSizes()
	s.sweepFor = time.Second
	s.limitFor = 2 * time.Second
	s.warmUp = 300 * time.Millisecond
	s.deliveries = 20_000
	s.peerSweep = 5_000 // more than are ever fetched at once
	s.logged, s.loggedSQLite = 1_000_000, 100_000
	s.future, s.backlog = 100_000, 50_000
	s.snapshot = 40_000
	s.pending = 20_000
	s.soakFor, s.soakWindow, s.soakRetention = 40*time.Second, 4*time.Second, 8*time.Second
	s.isolateRounds = 1
	s.isolateFor = 20 * time.Second // more than one timeout
	return s
}
