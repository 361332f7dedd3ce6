// Bench measures the library against what a machine can do, and against a job
// queue. From the root of the repository:
//
//	go run ./bench -scenario limit
//	go run ./bench -scenario drain -store postgres -peer river
//	go run ./bench -scenario isolate -store postgres -quick
//	go run ./bench -scenario claim -store postgres -quick
//
// It prints a table, and then a line "ratio NAME VALUE" for each figure. The
// README in its folder says what they mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == receiverArg {
		if err := serveReceiver(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the receiver failed:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: failed:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	scenario      string
	store         string
	dsn           string
	peer          string
	organizations int
	quick         bool
	profile       string
	plans         bool
	rate          int
}

// The names that the command line knows.
const (
	storeMem      = "mem"
	storePostgres = "postgres"
	storeMariaDB  = "mariadb"
	storeSQLite   = "sqlite"

	peerNone  = "none"
	peerRiver = "river"
)

// bench is one run of the command.
type bench struct {
	options
	sizes    sizes
	log      *slog.Logger // how far the run is
	warnings *slog.Logger // for what is measured: its warnings, and not a line for each attempt
	receiver *receiverProcess
}

func newBench(o options, s sizes, errOut io.Writer) *bench {
	return &bench{
		options: o, sizes: s,
		log:      slog.New(slog.NewTextHandler(errOut, nil)),
		warnings: slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// run parses the command line, runs a scenario and prints what came out.
func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&o.scenario, "scenario", "", "limit, drain, isolate, claim, log, delete, snapshot or soak")
	flags.StringVar(&o.store, "store", "", "postgres, mariadb, sqlite or mem (default mem for limit, drain and isolate, else postgres)")
	flags.StringVar(&o.dsn, "dsn", "", "the server, as an administrator; for sqlite a folder (defaults: see README)")
	flags.StringVar(&o.peer, "peer", peerNone, "river or none; river needs -store postgres")
	flags.IntVar(&o.organizations, "organizations", 10, "organizations that the webhooks are dealt out to")
	flags.BoolVar(&o.quick, "quick", false, "smaller, in under two minutes")
	rounds := flags.Int("rounds", 0, "rounds, of which the medians are printed (default 3; isolate -quick: 1)")
	flags.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of the last dispatcher's run")
	flags.BoolVar(&o.plans, "plans", false, "print the plans of the scenarios claim and log; needs -store postgres and a superuser")
	flags.IntVar(&o.rate, "rate", 0, "deliveries a second of a soak (default half of a drain's)")
	deliveries := flags.Int("deliveries", 0, "deliveries of a drain (default 100000, with -quick 20000)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.store == "" {
		o.store = storePostgres // most scenarios are about what a database does
		if slices.Contains([]string{"limit", "drain", "isolate"}, o.scenario) {
			o.store = storeMem
		}
	}
	s := fullSizes()
	if o.quick {
		s = quickSizes()
	}
	if *rounds > 0 {
		s.rounds, s.isolateRounds = *rounds, *rounds
	}
	if *deliveries > 0 {
		s.deliveries = *deliveries
	}
	r, err := newBench(o, s, errOut).run(ctx)
	if err != nil {
		return err
	}
	return r.print(out)
}

// run starts the receiver and runs the scenario.
func (b *bench) run(ctx context.Context) (r *report, err error) {
	scenarios := map[string]func(context.Context) (*report, error){
		"limit": b.limit, "drain": b.drain, "isolate": b.isolate, "claim": b.claim, "log": b.logPages, "delete": b.deletion, "snapshot": b.snapshot, "soak": b.soak,
	}
	scenario, ok := scenarios[b.scenario]
	switch {
	case !ok:
		return nil, fmt.Errorf("-scenario is %q; it must be limit, drain, isolate, claim, log, delete, snapshot or soak", b.scenario)
	case !slices.Contains([]string{storeMem, storePostgres, storeMariaDB, storeSQLite}, b.store):
		return nil, fmt.Errorf("-store is %q; it must be postgres, mariadb, sqlite or mem", b.store)
	case !slices.Contains([]string{peerNone, peerRiver}, b.peer):
		return nil, fmt.Errorf("-peer is %q; it must be river or none", b.peer)
	case b.peer == peerRiver && (b.store != storePostgres || b.scenario != "drain"):
		return nil, errors.New("-peer river is there for -scenario drain -store postgres only: both on the same database")
	case b.organizations < 1:
		return nil, errors.New("-organizations must be positive")
	}
	b.receiver, err = startReceiver(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.receiver.close()) }()
	return scenario(ctx)
}

// title says what was run.
func (b *bench) title() string {
	words := []string{"scenario " + b.scenario}
	if b.scenario != "limit" {
		words = append(words, "store "+b.store)
	}
	if b.peer != peerNone {
		words = append(words, "peer "+b.peer)
	}
	return strings.Join(words, ", ")
}
