package main

import "time"

// sizes are how much is done of everything.
type sizes struct {
	rounds int // of what is measured several times

	concurrencies []int         // of limit, to sweep
	sweepFor      time.Duration // each
	limitFor      time.Duration // a round
	warmUp        time.Duration // before each, unmeasured

	webhooks   int // of most scenarios
	deliveries int // of a drain
	peerSweep  int // jobs of each short run in search of the peer's best settings

	piped       int // events of pipe
	pipeCallers int
	pipeSweep   int // events of each short run of the peer

	coalesced       int // events of coalesce
	coalesceCallers int

	batched      int // events of batch
	batchCallers []int

	fanoutWebhooks int
	fanouts        int // events that go to all of them
	besideRate     int // events a second that others publish, in fanout and wall

	latencyWebhooks int
	latencyRate     int // events a second
	latencyFor      time.Duration

	claimed int // deliveries that the scenario claim claims from
	future  int // others that are due tomorrow
	backlog int // or are before them, of one webhook

	backlogs        []int // deliveries for tomorrow, in each case of backlog
	backlogFinished int   // and finished ones in the last case
	backlogTurns    int

	walled    int           // retries
	wallDrain int           // deliveries of the drain beside it
	quietFor  time.Duration // of wall and fanout: nothing but others that publish

	stormWebhooks int
	stormRounds   int
	stormFor      time.Duration
	recoverWithin time.Duration

	scaled         int // deliveries of scale
	scaleProcesses []int

	memoryPending int
	memoryFor     time.Duration

	inMemory int // deliveries of mem

	logged          int // attempts of the scenario log, on PostgreSQL
	loggedElsewhere int // on others, which are slower to fill
	logRepeats      int // of each page

	snapshot int // deliveries of a drain under one snapshot

	pending int // deliveries of the webhook that the scenario delete deletes

	enduranceFor       time.Duration
	enduranceWindow    time.Duration // a line of its table
	enduranceRetention time.Duration

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
		rounds:             3,
		concurrencies:      []int{16, 32, 64, 128, 256},
		sweepFor:           3 * time.Second,
		limitFor:           5 * time.Second,
		warmUp:             500 * time.Millisecond,
		webhooks:           100,
		deliveries:         100_000,
		peerSweep:          10_000,
		piped:              30_000,
		pipeCallers:        16,
		pipeSweep:          5_000,
		coalesced:          100_000,
		coalesceCallers:    128,
		batched:            200_000,
		batchCallers:       []int{1, 4},
		fanoutWebhooks:     10_000,
		fanouts:            9,
		besideRate:         100,
		latencyWebhooks:    10,
		latencyRate:        50,
		latencyFor:         60 * time.Second,
		claimed:            20_000,
		future:             1_000_000,
		backlog:            500_000,
		backlogs:           []int{0, 1_000_000, 5_000_000},
		backlogFinished:    1_000_000,
		backlogTurns:       300,
		walled:             1_000_000,
		wallDrain:          100_000,
		quietFor:           20 * time.Second,
		stormWebhooks:      1_000,
		stormRounds:        3,
		stormFor:           45 * time.Second, // three timeouts
		recoverWithin:      5 * time.Second,
		scaled:             100_000,
		scaleProcesses:     []int{1, 2, 4, 8},
		memoryPending:      1_000_000,
		memoryFor:          10 * time.Second,
		inMemory:           500_000,
		logged:             10_000_000,
		loggedElsewhere:    1_000_000,
		logRepeats:         30,
		snapshot:           160_000,
		pending:            100_000,
		enduranceFor:       30 * time.Minute,
		enduranceWindow:    time.Minute,
		enduranceRetention: 5 * time.Minute,
		isolateRounds:      3,
		healthy:            99,
		hanging:            []int{1, 16, 100},
		perSecond:          500,
		isolateFor:         45 * time.Second, // three timeouts
		burst:              500,
		stragglers:         30 * time.Second,
	}
}

// quickSizes are for less than a minute on two cores.
func quickSizes() sizes {
	s := fullSizes()
	s.sweepFor = time.Second
	s.limitFor = 2 * time.Second
	s.warmUp = 300 * time.Millisecond
	s.deliveries = 20_000
	s.peerSweep = 5_000 // more than are ever fetched at once
	s.piped, s.pipeSweep = 6_000, 2_000
	s.coalesced = 20_000
	s.batched = 20_000
	s.fanouts = 5
	s.latencyFor = 6 * time.Second
	s.future, s.backlog = 100_000, 50_000
	s.backlogs, s.backlogFinished, s.backlogTurns = []int{0, 50_000, 250_000}, 50_000, 100
	s.walled, s.wallDrain, s.quietFor = 40_000, 20_000, 3*time.Second
	s.stormRounds = 1
	s.stormFor = 17 * time.Second // more than one timeout
	s.scaled = 12_000
	s.memoryPending, s.memoryFor = 300_000, 3*time.Second
	s.inMemory = 100_000
	s.logged, s.loggedElsewhere = 500_000, 100_000
	s.logRepeats = 10
	s.snapshot = 40_000
	s.pending = 20_000
	s.enduranceFor, s.enduranceWindow, s.enduranceRetention = 40*time.Second, 4*time.Second, 8*time.Second
	s.isolateRounds = 1
	s.hanging = []int{16, 100}
	s.isolateFor = 16 * time.Second // more than one timeout
	return s
}
