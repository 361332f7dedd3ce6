// Package cli is the program posthorn, but for what only a process has: its
// arguments, streams and signals are given to it, so that tests can.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/posthorn/webhook"
)

// The exit codes.
const (
	exitOK      = 0
	exitRefused = 1 // the answer is no: a signature, a receiver, a backlog
	exitUsage   = 2 // the command line is wrong, nothing was done
	exitFailed  = 3 // there is no answer: a database, the network, a file
)

const exitCodes = `Exit codes: 0 done or well, 1 refused or not well, 2 wrong usage,
3 not possible (database, network, file).`

// Program is what a run has of the world around it.
type Program struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Terminal       bool // somebody watches Stderr: show what takes long
}

// Main runs a command until it is done or ctx ends, and returns the exit code.
func Main(ctx context.Context, p Program) int {
	out := &output{to: p.Stdout}
	p.Stdout = out
	cmd, err := p.root().ExecuteContextC(ctx)
	if lost := out.fault(); lost != nil { // whatever else there is to say
		err = failed("%w", lost)
	}
	if err == nil {
		return exitOK
	}
	code := exitCodeOf(err)
	text := err.Error()
	if said := unknownCommand.FindStringSubmatch(text); said != nil && !word.MatchString(said[1]) {
		text = "unknown command"
	}
	text = oneLine(text)
	if code == exitUsage {
		text += "; see " + cmd.CommandPath() + " --help"
	}
	_, _ = fmt.Fprintf(p.Stderr, "%s: %s\n", cmd.CommandPath(), text)
	return code
}

// unknownCommand is what cobra says of what is in a command's place. Only a word is
// repeated: anything else may be a secret, or a database with its password.
var (
	unknownCommand = regexp.MustCompile(`(?s)^unknown command "(.*)" for "`)
	word           = regexp.MustCompile(`^[a-z-]{1,20}$`)
)

// output remembers whether everything could be written. Help and completion do not say.
type output struct {
	to  io.Writer
	mu  sync.Mutex
	err error
}

// Write writes.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.to.Write(b)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.err = err
	}
	return n, err
}

func (o *output) fault() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// exitError is an error with an exit code.
type exitError struct {
	code int
	err  error
}

// Error returns the error's text.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *exitError) Unwrap() error { return e.err }

// exitCodeOf returns an error's exit code. What cobra says about flags and
// arguments has no type of its own.
func exitCodeOf(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return exitUsage
}

// wrongUsage names a flag and the rule that it breaks.
func wrongUsage(flag, rule string) error {
	return &exitError{exitUsage, errors.New(flag + ": " + rule)}
}

func refused(format string, args ...any) error {
	return &exitError{exitRefused, fmt.Errorf(format, args...)}
}

func failed(format string, args ...any) error {
	return &exitError{exitFailed, fmt.Errorf(format, args...)}
}

// faultsOf turns what the library has found wrong into wrong usage. Flags are by
// the beginning of the field's name that the library gives; what is not there is
// none of the caller's.
func faultsOf(err error, flags map[string]string) error {
	faults, ok := errors.AsType[webhook.ValidationErrors](err)
	if !ok {
		return failed("%w", err)
	}
	var texts []string
	for _, f := range faults {
		field := f.Field
		for prefix, flag := range flags {
			if strings.HasPrefix(f.Field, prefix) {
				field = flag
			}
		}
		texts = append(texts, field+": "+f.Reason)
	}
	return &exitError{exitUsage, errors.New(strings.Join(texts, "; "))}
}

// root returns the command above all others.
func (p Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "posthorn",
		Short: "Tools for outbound webhooks",
		Long: `Tools for outbound webhooks, as github.com/posthorn/webhook sends them.

For whoever runs a service: migrate makes the tables, status says how the queue
stands. For whoever writes a receiver: send sends a signed request, listen is a
receiver to look at, verify checks a request that was saved.

` + exitCodes,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("posthorn {{.Version}}\n")
	root.SetArgs(p.Args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagFault(err) })
	root.AddCommand(p.migrateCommand(), p.statusCommand(), p.sendCommand(), p.listenCommand(), p.verifyCommand(), p.versionCommand())
	return root
}

// flagFault says which rule a flag's value breaks, instead of what a parser says.
func flagFault(err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if short := unknown.GetSpecifiedShortnames(); short != "" { // what comes after it may be a secret
			return errors.New("unknown flag: -" + short[:1] + "; names of flags begin with two dashes")
		}
		if !word.MatchString(unknown.GetSpecifiedName()) {
			return errors.New("unknown flag")
		}
		return err
	}
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	f := invalid.GetFlag()
	rule := map[string]string{
		"stringSlice": "must be values with commas between them", "int": "must be a whole number", "bool": "must be true or false", "duration": "must be a time with its unit, as in 30s or 5m",
	}[f.Value.Type()]
	if rule == "" {
		return err
	}
	return wrongUsage("--"+f.Name, rule)
}

// completeWith offers values for a flag.
func completeWith(cmd *cobra.Command, flag string, values ...string) {
	// An error would say that there is no such flag, or that it has been completed before.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// takesNoFiles is for commands without arguments.
func takesNoFiles(cmd *cobra.Command) *cobra.Command {
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 { // which are not repeated: they may be a secret
			return errors.New("it takes no arguments")
		}
		return nil
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}
