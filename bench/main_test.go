package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the receiver, which the scenarios start by
// running their own program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == receiverArg {
		if err := serveReceiver(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// tinySizes keep a scenario alive and measure nothing.
func tinySizes() sizes {
	return sizes{
		rounds: 3, concurrencies: []int{2, 4}, sweepFor: 50 * time.Millisecond, limitFor: 50 * time.Millisecond, warmUp: 50 * time.Millisecond,
		webhooks: 4, deliveries: 300, peerSweep: 100,
		isolateRounds: 1, healthy: 4, hanging: []int{1, 2}, perSecond: 100, isolateFor: 300 * time.Millisecond,
		burst: 40, stragglers: 20 * time.Second, loggedSQLite: 2000, logRepeats: 1,
	}
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	for scenario, figures := range map[string][]string{
		"limit":   {"limit_per_second", "limit_sender_cpu_us", "limit_receiver_cpu_us"},
		"drain":   {"limit_per_second", "drain_of_limit"},
		"isolate": {"isolate_oneshot_seconds", "isolate_baseline_p99_ms", "isolate_p99_of_baseline"},
		"log":     {"log_page_ms", "log_api_ms", "panel_page_ms"},
	} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			store, size := storeMem, tinySizes()
			if scenario == "log" { // of a table that is filled
				store, size.webhooks = storeSQLite, 2*logScopes
			}
			b := newBench(options{scenario: scenario, store: store, peer: peerNone, organizations: 2}, size, io.Discard)
			var out bytes.Buffer

			r, err := b.run(t.Context())
			require.NoError(t, err)
			require.NoError(t, r.print(&out))

			var names []string
			for _, m := range regexp.MustCompile(`(?m)^ratio (\S+) [0-9.e+-]+$`).FindAllStringSubmatch(out.String(), -1) {
				names = append(names, m[1])
			}
			require.Equal(t, figures, names, "%s", out.String())
			require.Regexp(t, `\nratio \S+ \S+\n$`, out.String())
		})
	}
}

func TestCommandLineIsChecked(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"-scenario", "sprint"},
		{"-scenario", "drain", "-store", "floppy"},
		{"-scenario", "drain", "-peer", "lake"},
		{"-scenario", "drain", "-store", "sqlite", "-peer", "river"},
		{"-scenario", "limit", "-organizations", "0"},
		{"-scenario", "limit", "more"},
	} {
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard), "%q", args)
	}
}

func TestPayloadsHaveTheirSize(t *testing.T) {
	t.Parallel()
	b := &bench{options: options{organizations: 3}, receiver: &receiverProcess{address: "127.0.0.1:1"}}
	targets, err := b.targets(2, promptPath)
	require.NoError(t, err)

	body := payload(&targets[1], targets[1].webhook.ID)
	require.Len(t, body, payloadBytes)

	sent := time.Now()
	data, err := timedEvent(&targets[0], sent).Data.(interface{ MarshalJSON() ([]byte, error) }).MarshalJSON()
	require.NoError(t, err)
	ns, ok := sentAt(data)
	require.True(t, ok)
	require.Equal(t, sent.UnixNano(), ns)
}

func TestProcessIsParsed(t *testing.T) {
	t.Parallel()

	p, err := parseProcess("17 (a ) (b) S 4 17 17 0 -1 4194304 1 2 3 4 100 20 3000 400 20 0 1 0 5 6 7")

	require.NoError(t, err)
	require.Equal(t, process{command: "a ) (b", parent: 4, own: 1200 * time.Millisecond, children: 34 * time.Second}, p)
	_, err = parseProcess("17 (a) S 4")
	require.Error(t, err)
}

func TestStatistics(t *testing.T) {
	t.Parallel()

	require.Equal(t, "2", number(median([]float64{3, 1, 2})))
	require.Equal(t, "2.500", number(median([]float64{4, 1, 2, 3})))
	require.Equal(t, "–", number(median(nil)))
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	require.Equal(t, 99, percentile(hundred, 0.99))
	require.Equal(t, 50, percentile(hundred, 0.5))
	require.Equal(t, 100, percentile(hundred, 1))
	require.Equal(t, 1, percentile(hundred[:1], 0.99))
	require.Zero(t, percentile(hundred[:0], 0.99))
}
