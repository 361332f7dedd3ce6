package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tinySizes keep a scenario alive and measure nothing.
func tinySizes() sizes {
	const ms = time.Millisecond
	return sizes{
		rounds: 3, concurrencies: []int{2, 4}, sweepFor: 50 * ms, limitFor: 50 * ms, warmUp: 50 * ms,
		webhooks: 4, deliveries: 300, peerSweep: 100,
		piped: 100, pipeCallers: 4, pipeSweep: 20,
		coalesced: 300, coalesceCallers: 16,
		batched: 300, batchCallers: []int{1, 2},
		fanoutWebhooks: 50, fanouts: 3, besideRate: 100,
		latencyWebhooks: 2, latencyRate: 50, latencyFor: 200 * ms,
		claimed: 300, future: 500, backlog: 200,
		backlogs: []int{0, 500}, backlogFinished: 500, backlogTurns: 3,
		walled: 300, wallDrain: 100, quietFor: 100 * ms,
		stormWebhooks: 20, stormRounds: 1, stormFor: 300 * ms, recoverWithin: 200 * ms,
		scaled: 400, scaleProcesses: []int{1, 2, 4, 8},
		memoryPending: 3000, memoryFor: 100 * ms,
		inMemory: 1000,
		logged:   2000, loggedElsewhere: 2000, logRepeats: 1,
		snapshot: 300, pending: 600,
		enduranceFor: 2 * time.Second, enduranceWindow: 250 * ms, enduranceRetention: 500 * ms,
		isolateRounds: 1, healthy: 4, hanging: []int{1, 2}, perSecond: 100, isolateFor: 300 * ms,
		burst: 40, stragglers: 20 * time.Second,
	}
}

// Every scenario counts for itself whether anything is missing or there twice, and
// fails if so.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		for _, store := range tested(s) {
			t.Run(s.name+"/"+s.storeName(store), func(t *testing.T) {
				t.Parallel()
				size := tinySizes()
				switch s.name {
				case "log": // asks for so many of them
					size.webhooks = 2 * logScopes
				case "drain", "pipe", "snapshot", "scale", "memory":
					size.rounds = 1
				}
				b := newBench(options{scenario: s.name, store: store, dsn: serverOf(t, store), organizations: 2, quick: true, rate: 100}, size, io.Discard)
				var out bytes.Buffer

				r, err := b.run(t.Context())
				require.NoError(t, err)
				require.NoError(t, r.print(&out))

				var want, got []string
				for _, f := range s.figures {
					if f.prints(b.store, b.peer) {
						want = append(want, f.name)
					}
				}
				for _, m := range regexp.MustCompile(`(?m)^ratio (\S+) [0-9.e+-]+$`).FindAllStringSubmatch(out.String(), -1) {
					got = append(got, m[1])
				}
				require.ElementsMatch(t, want, got, "%s", out.String())
				require.Regexp(t, `\nratio \S+ \S+\n$`, out.String())
				require.NotEmpty(t, r.rows)
				for _, row := range r.rows {
					require.Len(t, row, len(r.columns))
				}
			})
		}
	}
}

// tested are the stores on which a scenario is tested: what needs no server where
// that will do, and PostgreSQL for what is there for it alone. With POSTHORN_LONG it
// is all of them.
func tested(s scenario) []string {
	switch {
	case len(s.stores) == 0:
		return []string{""}
	case os.Getenv("POSTHORN_LONG") != "":
		return s.stores
	case s.peer:
		return []string{storeMem, storePostgres}
	case s.name == "isolate": // whose events would line up for SQLite's one writer
		return []string{storeMem}
	case slices.Contains(s.stores, storeSQLite):
		return []string{storeSQLite}
	default:
		return s.stores
	}
}

// serverOf is where the server of a store is that internal/integration uses as well,
// or "" if it is in its usual place. Without one a test is skipped, but not in CI.
func serverOf(t *testing.T, store string) (dsn string) {
	t.Helper()
	var db *database
	var err error
	switch store {
	case storePostgres:
		dsn = os.Getenv("POSTHORN_TEST_POSTGRES")
		db, err = openPostgres(t.Context(), dsn, false)
	case storeMariaDB:
		dsn = os.Getenv("POSTHORN_TEST_MYSQL")
		db, err = openMariaDB(t.Context(), dsn)
	default:
		return ""
	}
	if err == nil {
		err = db.close()
	}
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("no server for %s: %v", store, err) //nolint:forbidigo // CI fails instead
	}
	require.NoError(t, err)
	return dsn
}
