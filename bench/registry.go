package main

import (
	"context"
	"slices"
)

// scenario is something that can be measured.
type scenario struct {
	name    string
	about   string
	stores  []string // on which it runs; the first by default; none if it stores nothing
	peer    bool     // on PostgreSQL beside River
	run     func(*bench, context.Context) (*report, error)
	figures []figure
}

// figure is one that a scenario prints.
type figure struct {
	name  string
	asked bound // on PostgreSQL, at full size
	when  need
}

// need says what a figure takes.
type need int

const (
	always    need = iota
	withPeer       // beside River
	withOther      // a store that other processes see
	withIndex      // a store that counts its indexes apart
)

// bound is what is asked of a figure; the zero value asks nothing.
type bound struct {
	limit  float64
	atMost bool
}

func atLeast(limit float64) bound { return bound{limit: limit} }
func atMost(limit float64) bound  { return bound{limit: limit, atMost: true} }

// none reports whether nothing is asked.
func (b bound) none() bool { return b == bound{} }

func (b bound) String() string {
	switch {
	case b.none():
		return ""
	case b.atMost:
		return "≤ " + number(b.limit)
	default:
		return "≥ " + number(b.limit)
	}
}

// reached reports whether a value is as good as was asked.
func (b bound) reached(value float64) bool {
	if b.atMost {
		return value <= b.limit
	}
	return value >= b.limit
}

// prints reports whether the scenario has the figure when it runs with a store and
// a peer.
func (f figure) prints(store, peer string) bool {
	switch f.when {
	case withPeer:
		return peer != peerNone
	case withOther:
		return store != storeMem
	case withIndex:
		return store == storePostgres || store == storeMariaDB
	default:
		return true
	}
}

// scenarios are all there are, in the order in which they are run and printed.
func scenarios() []scenario {
	everywhere := allStores()
	servers := everywhere[:3] // those that can be filled with rows, and that other processes see
	return []scenario{
		{
			name: "limit", about: "signed POSTs a second of a loop that stores nothing", run: (*bench).limit,
			figures: []figure{{name: "limit_per_second"}, {name: "limit_sender_cpu_us"}, {name: "limit_receiver_cpu_us"}},
		},
		{
			name: "mem", about: "the dispatcher alone, in memory, with requests that are answered at once", stores: []string{storeMem},
			run: (*bench).inMemory, figures: []figure{{name: "mem_per_second", asked: atLeast(400_000)}},
		},
		{
			name: "drain", about: "deliveries that wait", stores: everywhere, peer: true, run: (*bench).drain,
			figures: []figure{
				{name: "limit_per_second"}, {name: "drain_of_limit", asked: atLeast(0.7)}, {name: "drain_of_river", asked: atLeast(2.5), when: withPeer},
				{name: "drain_cpu_of_river", asked: atMost(0.45), when: withPeer}, {name: "drain_river_of_limit", asked: atLeast(0.2), when: withPeer},
			},
		},
		{
			name: "pipe", about: "a transaction of the host for each event, delivered at once", stores: everywhere, peer: true, run: (*bench).pipe,
			figures: []figure{{name: "pipe_per_second"}, {name: "pipe_of_river", asked: atLeast(1.5), when: withPeer}, {name: "pipe_cpu_of_river", asked: atMost(0.6), when: withPeer}},
		},
		{
			name: "coalesce", about: "events published by many callers, delivered at once", stores: everywhere, run: (*bench).coalesce,
			figures: []figure{{name: "coalesce_of_limit", asked: atLeast(0.45)}, {name: "coalesce_call_p99_ms", asked: atMost(15)}},
		},
		{
			name: "batch", about: "events published a hundred a call", stores: everywhere, run: (*bench).batch,
			figures: []figure{{name: "batch_per_second", asked: atLeast(100_000)}},
		},
		{
			name: "fanout", about: "an event to ten thousand webhooks", stores: everywhere, run: (*bench).fanout,
			figures: []figure{{name: "fanout_rows_per_second", asked: atLeast(200_000)}, {name: "fanout_others_p99_ms"}, {name: "fanout_others_alone_p99_ms"}},
		},
		{
			name: "latency", about: "publish → receipt when there is little to do", stores: everywhere, run: (*bench).latency,
			figures: []figure{
				{name: "latency_p50_ms", asked: atMost(1.5)}, {name: "latency_p99_ms", asked: atMost(4)},
				{name: "latency_other_p50_ms", asked: atMost(3), when: withOther}, {name: "latency_other_p99_ms", asked: atMost(8), when: withOther},
			},
		},
		{
			name: "isolate", about: "healthy webhooks beside others that hang", stores: everywhere, run: (*bench).isolate,
			figures: []figure{
				{name: "isolate_oneshot_seconds", asked: atMost(1)}, {name: "isolate_baseline_p99_ms", asked: atMost(10)},
				{name: "isolate_p99_of_baseline", asked: atMost(2)},
			},
		},
		{
			name: "storm", about: "all webhooks hang, and then all are healthy", stores: everywhere, run: (*bench).storm,
			figures: []figure{{name: "storm_recovery_of_drain", asked: atLeast(0.9)}, {name: "storm_goroutines"}, {name: "storm_memory_mb"}},
		},
		{
			name: "claim", about: "a claim among much that is not to be claimed", stores: everywhere, run: (*bench).claim,
			figures: []figure{{name: "claim_p50_ms"}, {name: "claim_future_of_empty"}, {name: "claim_backlog_of_empty"}},
		},
		{
			name: "backlog", about: "a claim with its report among millions of rows, and a poll that finds nothing", stores: servers, run: (*bench).backlog,
			figures: []figure{{name: "backlog_of_empty", asked: atMost(1.25)}, {name: "backlog_idle_poll_ms", asked: atMost(1)}},
		},
		{
			name: "wall", about: "a million retries of the same minute", stores: servers, run: (*bench).wall,
			figures: []figure{{name: "wall_of_drain", asked: atLeast(0.9)}, {name: "wall_publish_p99_of_quiet", asked: atMost(3)}, {name: "wall_publish_p99_ms"}},
		},
		{
			name: "snapshot", about: "a drain while a transaction elsewhere stays open", stores: servers[:1], run: (*bench).snapshot,
			figures: []figure{{name: "snapshot_of_drain", asked: atLeast(0.67)}},
		},
		{
			name: "scale", about: "several dispatcher processes on one database", stores: servers, run: (*bench).scale,
			figures: []figure{
				{name: "scale_2_of_1"}, {name: "scale_4_of_1"}, {name: "scale_8_of_1", asked: atLeast(0.95)}, {name: "scale_least_share"}, {name: "scale_deadlocks", asked: atMost(0)},
			},
		},
		{
			name: "memory", about: "what a dispatcher needs while a million deliveries wait", stores: servers, run: (*bench).memory,
			figures: []figure{{name: "memory_rss_mb", asked: atMost(80)}, {name: "allocs_per_delivery", asked: atMost(80)}},
		},
		{
			name: "delete", about: "a webhook with many pending deliveries is deactivated, resumed, deleted", stores: servers, run: (*bench).deletion,
			figures: []figure{
				{name: "publish_longest_alone_ms"},
				{name: "deactivate_call_ms", asked: atMost(50)}, {name: "deactivate_publish_longest_ms", asked: atMost(50)}, {name: "deactivate_rows_per_second"},
				{name: "resume_call_ms", asked: atMost(50)}, {name: "resume_publish_longest_ms", asked: atMost(50)}, {name: "resume_rows_per_second"},
				{name: "delete_call_ms", asked: atMost(50)}, {name: "delete_publish_longest_ms", asked: atMost(50)}, {name: "delete_rows_per_second"},
			},
		},
		{
			name: "log", about: "pages of a long log, by the store, the JSON API and the panel", stores: servers, run: (*bench).logPages,
			figures: []figure{
				{name: "log_page_ms", asked: atMost(20)}, {name: "log_api_ms", asked: atMost(100)}, {name: "panel_page_ms", asked: atMost(100)},
			},
		},
		{
			name: "endurance", about: "half an hour at half of a drain's rate, with retention", stores: servers, run: (*bench).endurance,
			figures: []figure{
				{name: "endurance_rate_late_of_early"}, {name: "endurance_p99_late_of_early"}, {name: "endurance_tables_late_of_early"},
				{name: "endurance_indexes_late_of_early", when: withIndex}, {name: "endurance_drift", asked: atMost(1.1)},
			},
		},
	}
}

// scenarioNamed finds one.
func scenarioNamed(name string) (scenario, bool) {
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	if i < 0 {
		return scenario{}, false
	}
	return all[i], true
}

// storeName is the name under which results are kept.
func (s *scenario) storeName(store string) string {
	if len(s.stores) == 0 {
		return storeNone
	}
	return store
}
