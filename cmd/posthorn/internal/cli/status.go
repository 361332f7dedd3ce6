package cli

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
)

const (
	// countTo bounds each number, so that looking stays cheap whatever is in the queue.
	countTo  = 1_000_000
	maxTop   = 1000
	minWatch = 100 * time.Millisecond
)

// statusFlags are what to look at.
type statusFlags struct {
	databaseFlags
	top           int
	watch, maxAge time.Duration
	json          bool
}

func (p Program) statusCommand() *cobra.Command {
	var flags statusFlags
	cmd := takesNoFiles(&cobra.Command{
		Use:   "status",
		Short: "Say how the queue of a database stands",
		Long: `Says how many deliveries are ready, waiting, in flight and held, since when the
oldest of them is due, and which webhooks have the most of them. It changes nothing,
and counts each number to 1,000,000 at the most.

` + dsnHelp + `
With --max-age the exit code is 1 if something has been due for longer: for cron and
for monitoring.

` + exitCodes,
		Example: `  POSTHORN_DSN=postgres://me@db.example/app posthorn status
  posthorn status --dsn sqlite:app.db --max-age 5m --json
  posthorn status --watch 2s`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case flags.top < 0 || flags.top > maxTop:
				return wrongUsage("--top", "must be from 0 to 1000")
			case flags.watch < 0 || flags.watch > 0 && flags.watch < minWatch:
				return wrongUsage("--watch", "must be at least 100ms")
			case flags.maxAge < 0:
				return wrongUsage("--max-age", "must not be negative")
			}
			src, err := p.source(flags.databaseFlags, false)
			if err != nil {
				return err
			}
			return p.runStatus(cmd.Context(), src, flags)
		},
	})
	flags.databaseFlags.add(cmd)
	cmd.Flags().IntVar(&flags.top, "top", 10, "show the `n` webhooks with the most that is due")
	cmd.Flags().DurationVar(&flags.watch, "watch", 0, "look again after so long, until Ctrl-C; 0 means once")
	cmd.Flags().DurationVar(&flags.maxAge, "max-age", 0, "how long the oldest may have been due; 0 means any time")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print one JSON document a line for each look")
	for _, flag := range []string{"top", "watch", "max-age"} {
		completeWith(cmd, flag)
	}
	return cmd
}

// runStatus looks once, or until ctx ends or something is too old.
func (p Program) runStatus(ctx context.Context, src source, flags statusFlags) error {
	if src.missing() {
		return failed("%s: there is no such file", src.place)
	}
	store, closeDB, err := src.store(ctx, flags.prefix)
	if err != nil {
		return err
	}
	defer closeDB()
	if err := checkTables(ctx, src, store, flags.prefix); err != nil {
		return err
	}
	for {
		err := p.look(ctx, src, store, flags)
		watched := flags.watch > 0 && ctx.Err() != nil // until Ctrl-C, during a look perhaps
		if err != nil && !watched {
			return err
		}
		if flags.watch == 0 || watched {
			return nil
		}
		timer := time.NewTimer(flags.watch)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// checkTables says which command is missing, as the store's own error names what
// programs would call.
func checkTables(ctx context.Context, src source, store *sqlstore.Store, prefix string) error {
	version, err := store.SchemaVersion(ctx)
	if err != nil {
		return failed("%s: %w", src.place, err)
	}
	files, err := fs.Glob(sqlstore.Migrations(src.dialect), "*.sql")
	if err != nil {
		return failed("%w", err)
	}
	if version < len(files) {
		return failed("%s: the tables %s… have version %d, and this release needs %d: run posthorn migrate", src.place, prefix, version, len(files))
	}
	return nil
}

// overseer is what a look needs of a store.
type overseer interface {
	webhook.Overseer
	webhook.ClockSource
}

func (p Program) look(ctx context.Context, src source, store overseer, flags statusFlags) error {
	end := p.waiting("looking at " + oneLine(src.place))
	defer end()
	now := store.Clock().Now().UTC()
	o, err := store.Overview(ctx, webhook.OverviewParams{Now: now, Top: flags.top, CountTo: countTo})
	if err != nil {
		return failed("%s: %w", src.place, err)
	}
	end()
	s := statusOf(o, now)
	if flags.json {
		err = writeJSON(p.Stdout, s)
	} else {
		err = p.printStatus(src.place, s)
	}
	if err != nil {
		return failed("%w", err)
	}
	if age := now.Sub(o.OldestDue); flags.maxAge > 0 && !o.OldestDue.IsZero() && age > flags.maxAge {
		return refused("the oldest delivery has been due for %s, and --max-age is %s", short(age), short(flags.maxAge))
	}
	return nil
}

// queueStatus is an overview as it is printed.
type queueStatus struct {
	At                  time.Time `json:"at"`
	Ready               int       `json:"ready"`
	Waiting             int       `json:"waiting"`
	InFlight            int       `json:"in_flight"`
	Held                int       `json:"held"`
	CountedTo           int       `json:"counted_to"`
	OldestDue           *string   `json:"oldest_due"`
	OldestDueAgeSeconds *float64  `json:"oldest_due_age_seconds"`
	Backlog             []backlog `json:"backlog"`
	NoticesWaiting      int       `json:"notices_waiting"`
	NextNotice          *string   `json:"next_notice"`
	LastPurge           *string   `json:"last_purge"`
	LastPurged          purged    `json:"last_purged"`
	Paused              bool      `json:"paused"`
	PausedSince         *string   `json:"paused_since"`
	PausedBy            string    `json:"paused_by,omitempty"`

	overview webhook.Overview
}

// backlog is a webhook with deliveries that are due.
type backlog struct {
	WebhookID      string  `json:"webhook_id"`
	OrganizationID string  `json:"organization_id"`
	Name           string  `json:"name"`
	EndpointHost   string  `json:"endpoint_host"`
	Due            int     `json:"due"`
	More           bool    `json:"more"` // not counted to the end
	OldestDue      *string `json:"oldest_due"`
}

// purged is what retention has deleted last.
type purged struct {
	Payloads      int `json:"payloads"`
	Attempts      int `json:"attempts"`
	Deliveries    int `json:"deliveries"`
	Events        int `json:"events"`
	HeldCancelled int `json:"held_cancelled"`
}

func statusOf(o webhook.Overview, now time.Time) queueStatus {
	s := queueStatus{
		At: now, Ready: o.Ready, Waiting: o.Waiting, InFlight: o.Leased, Held: o.Held, CountedTo: countTo,
		OldestDue: moment(o.OldestDue), NoticesWaiting: o.NoticesWaiting, NextNotice: moment(o.NextNotice),
		LastPurge: moment(o.LastPurge),
		LastPurged: purged{
			Payloads: o.LastPurged.Payloads, Attempts: o.LastPurged.Attempts, Deliveries: o.LastPurged.Deliveries,
			Events: o.LastPurged.Events, HeldCancelled: o.LastPurged.HeldCancelled,
		},
		Paused: o.Paused, PausedSince: moment(o.PausedSince), PausedBy: o.PausedBy, Backlog: []backlog{}, overview: o,
	}
	if !o.OldestDue.IsZero() {
		age := now.Sub(o.OldestDue).Truncate(time.Millisecond).Seconds()
		s.OldestDueAgeSeconds = &age
	}
	for _, b := range o.Backlog {
		s.Backlog = append(s.Backlog, backlog{
			b.WebhookID.String(), b.OrganizationID, b.Name, b.EndpointHost, b.Due, b.More, moment(b.OldestDue),
		})
	}
	return s
}

// moment is a time in JSON, null if it is zero.
func moment(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format(time.RFC3339Nano)
	return &text
}

func (p Program) printStatus(place string, s queueStatus) error {
	o := s.overview
	var b strings.Builder
	if s.Paused {
		fmt.Fprintf(&b, "paused since %s by %s\n", o.PausedSince.Format(time.RFC3339), oneLine(s.PausedBy))
	}
	fmt.Fprintf(&b, "%s, at %s\n", oneLine(place), s.At.Format(time.RFC3339))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name string, n int, more string) {
		_, _ = fmt.Fprintln(w, strings.TrimSuffix(name+"\t"+counted(n, n >= countTo)+"\t"+more, "\t"))
	}
	line("ready", s.Ready, since(o.OldestDue, s.At, "the oldest due "))
	line("waiting", s.Waiting, "")
	line("in flight", s.InFlight, "")
	line("held", s.Held, "")
	line("notices", s.NoticesWaiting, since(o.NextNotice, s.At, "the next due "))
	_ = w.Flush() // to memory
	switch d := s.LastPurged; {
	case o.LastPurge.IsZero():
		b.WriteString("retention has not ended a round yet\n")
	default:
		fmt.Fprintf(&b, "retention ended a round %s: %d deliveries, %d attempts, %d payloads, %d events\n",
			since(o.LastPurge, s.At, ""), d.Deliveries, d.Attempts, d.Payloads, d.Events)
	}
	if len(s.Backlog) > 0 {
		_, _ = fmt.Fprintln(w, "\nDUE\tOLDEST\tWEBHOOK\tORGANIZATION\tHOST\tNAME")
		for i, l := range s.Backlog {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", counted(l.Due, l.More), since(o.Backlog[i].OldestDue, s.At, ""),
				l.WebhookID, oneLine(l.OrganizationID), oneLine(l.EndpointHost), oneLine(l.Name))
		}
		_ = w.Flush()
	}
	return p.say("%s", b.String())
}

// counted is a number, or that there are so many or more.
func counted(n int, more bool) string {
	if more {
		return strconv.Itoa(n) + "+"
	}
	return strconv.Itoa(n)
}

// since says how long ago a time was, or how far away it is.
func since(t, now time.Time, before string) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return ""
	case d < 0:
		return before + "in " + short(-d)
	default:
		return before + short(d) + " ago"
	}
}
