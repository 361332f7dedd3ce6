// Bench measures the library against what a machine can do, and against a job
// queue. From the root of the repository:
//
//	go run ./bench -scenario limit
//	go run ./bench -scenario drain -store mariadb
//	go run ./bench -scenario isolate -quick
//	go run ./bench -all -store postgres
//
// It prints a table, and then a line "ratio NAME VALUE" for each figure. With -all
// it runs what bench/results.jsonl does not have yet of this state of the code, and
// writes docs/benchmarks.md. The README in its folder says what the figures mean.
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
	if played, err := playRole(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	} else if played {
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
	all           bool
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
	storeNone     = "none" // in results only, of what stores nothing

	peerNone  = "none"
	peerRiver = "river"
)

const defaultOrganizations = 10

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

// run parses the command line, runs what it asks for, and prints what came out.
func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.BoolVar(&o.all, "all", false, "run everything that is not in "+resultsPath+", and write "+pagePath+"; with -scenario or -store, of those only")
	flags.StringVar(&o.scenario, "scenario", "", "one of these:"+listScenarios())
	flags.StringVar(&o.store, "store", "", "postgres, mariadb, sqlite or mem (default postgres, where the scenario knows it)")
	flags.StringVar(&o.dsn, "dsn", "", "the server, as an administrator; for sqlite a folder (defaults: see README)")
	flags.StringVar(&o.peer, "peer", "", "river or none (default river for drain and pipe on postgres, else none)")
	flags.IntVar(&o.organizations, "organizations", defaultOrganizations, "organizations that the webhooks are dealt out to")
	flags.BoolVar(&o.quick, "quick", false, "smaller, in less than a minute each")
	rounds := flags.Int("rounds", 0, "rounds, of which the medians are printed (default 3; isolate and storm with -quick: 1)")
	flags.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of the last dispatcher's run")
	flags.BoolVar(&o.plans, "plans", false, "print the plans of the scenarios claim and log; needs -store postgres and a superuser")
	flags.IntVar(&o.rate, "rate", 0, "deliveries a second of endurance (default half of a drain's)")
	deliveries := flags.Int("deliveries", 0, "deliveries of a drain (default 100000, with -quick 20000)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	s := fullSizes()
	if o.quick {
		s = quickSizes()
	}
	if *rounds > 0 {
		s.rounds, s.isolateRounds, s.stormRounds = *rounds, *rounds, *rounds
	}
	if *deliveries > 0 {
		s.deliveries = *deliveries
	}
	if o.all {
		return runAll(ctx, newBench(o, s, errOut), *rounds > 0 || *deliveries > 0)
	}
	r, err := newBench(o, s, errOut).run(ctx)
	if err != nil {
		return err
	}
	return r.print(out)
}

func listScenarios() string {
	var text strings.Builder
	for _, s := range scenarios() {
		fmt.Fprintf(&text, "\n  %-10s %s", s.name, s.about)
	}
	return text.String()
}

// run starts the receiver and runs the scenario.
func (b *bench) run(ctx context.Context) (r *report, err error) {
	s, err := b.complete()
	if err != nil {
		return nil, err
	}
	b.receiver, err = startReceiver(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.receiver.close()) }()
	return s.run(b, ctx)
}

// complete checks what the command line says, and fills in the defaults.
func (b *bench) complete() (s scenario, err error) {
	s, ok := scenarioNamed(b.scenario)
	if !ok {
		return s, fmt.Errorf("-scenario is %q; it must be one of these:%s", b.scenario, listScenarios())
	}
	if b.store == "" && len(s.stores) > 0 {
		b.store = s.stores[0]
	}
	hasPeer := s.peer && b.store == storePostgres
	if b.peer == "" {
		b.peer = peerNone
		if hasPeer {
			b.peer = peerRiver
		}
	}
	switch {
	case b.store != "" && !slices.Contains(allStores(), b.store):
		return s, fmt.Errorf("-store is %q; it must be postgres, mariadb, sqlite or mem", b.store)
	case len(s.stores) > 0 && !slices.Contains(s.stores, b.store):
		return s, fmt.Errorf("-scenario %s is there for -store %s only", s.name, strings.Join(s.stores, ", "))
	case !slices.Contains([]string{peerNone, peerRiver}, b.peer):
		return s, fmt.Errorf("-peer is %q; it must be river or none", b.peer)
	case b.peer == peerRiver && !hasPeer:
		return s, errors.New("-peer river is there for -scenario drain or pipe and -store postgres only: both on the same database")
	case b.plans && b.store != storePostgres:
		return s, errors.New("-plans needs -store postgres")
	case b.organizations < 1:
		return s, errors.New("-organizations must be positive")
	}
	return s, nil
}

func allStores() []string { return []string{storePostgres, storeMariaDB, storeSQLite, storeMem} }

// title says what was run.
func (b *bench) title() string {
	words := []string{"scenario " + b.scenario}
	if s, ok := scenarioNamed(b.scenario); ok && len(s.stores) > 0 {
		words = append(words, "store "+b.store)
	}
	if b.peer != peerNone {
		words = append(words, "peer "+b.peer)
	}
	if b.quick {
		words = append(words, "quick")
	}
	return strings.Join(words, ", ")
}
