package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary play the roles in which the scenarios start their
// own program again.
func TestMain(m *testing.M) {
	played, err := playRole(context.Background(), os.Args[1:], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if played {
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestCommandLineIsChecked(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"-scenario", "sprint"},
		{"-scenario", "drain", "-store", "floppy"},
		{"-scenario", "drain", "-peer", "lake"},
		{"-scenario", "drain", "-store", "sqlite", "-peer", "river"},
		{"-scenario", "batch", "-store", "postgres", "-peer", "river"},
		{"-scenario", "snapshot", "-store", "mariadb"},
		{"-scenario", "mem", "-store", "postgres"},
		{"-scenario", "claim", "-store", "sqlite", "-plans"},
		{"-all", "-rounds", "1"},
		{"-all", "-dsn", "somewhere"},
		{"-all", "-scenario", "wall", "-store", "mem"},
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
