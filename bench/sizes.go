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
	s.isolateRounds = 1
	s.isolateFor = 20 * time.Second // more than one timeout
	return s
}
