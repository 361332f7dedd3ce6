package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (p Program) verifyCommand() *cobra.Command {
	var (
		flags             inspectFlags
		headers, body, at string
		ignoreAge, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check the signatures of a saved request",
		Long: `Checks the signatures of a request that was saved as it was on the wire: a
request line, which may be missing, headers, an empty line, the body. Without FILE,
or with "-", it is read from standard input. Headers and body can be in files of
their own, too.

The body counts byte for byte. What Content-Length says is not of it, such as the
line end that an editor adds, is left out.

The secret is taken from ` + secretVariable + `; if there are several, any of them will do.
An old request is refused unless --at or --ignore-age says otherwise.

` + exitCodes,
		Example: `  posthorn verify request.http
  posthorn verify --headers headers.txt --body body.json --ignore-age`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongUsage("FILE", "must be only one")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			h, payload, err := p.requestOf(cmd.Context(), args, headers, body)
			if err != nil {
				return err
			}
			now, err := clockFor(at, ignoreAge, h)
			if err != nil {
				return err
			}
			in, err := p.inspector(flags, now)
			if err != nil {
				return err
			}
			return p.runVerify(in, payload, h, asJSON)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&headers, "headers", "", "`file` with the headers, one a line")
	cmd.Flags().StringVar(&body, "body", "", "`file` with the body")
	cmd.Flags().StringVar(&at, "at", "", "the `time` to judge the request's age by, as in 2026-01-01T12:00:00Z or in seconds since 1970")
	cmd.Flags().BoolVar(&ignoreAge, "ignore-age", false, "let a request be as old as it is")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	cmd.MarkFlagsRequiredTogether("headers", "body")
	cmd.MarkFlagsMutuallyExclusive("at", "ignore-age")
	completeWith(cmd, "at")
	return cmd
}

// requestOf reads what the command line names.
func (p Program) requestOf(ctx context.Context, args []string, headers, body string) (http.Header, []byte, error) {
	if headers == "" {
		name := "-"
		if len(args) == 1 {
			name = args[0]
		}
		text, err := p.readFile(ctx, name)
		if err != nil {
			return nil, nil, failed("%w", err)
		}
		h, payload, err := savedRequest(text)
		if err != nil {
			return nil, nil, failed("the request in %s %w", name, err)
		}
		return h, payload, nil
	}
	if len(args) > 0 {
		return nil, nil, wrongUsage("--headers", "must not be there beside FILE")
	}
	text, err := p.readFile(ctx, headers)
	if err != nil {
		return nil, nil, failed("--headers: %w", err)
	}
	h, err := headersOf(text)
	if err != nil {
		return nil, nil, failed("--headers: %s %w", headers, err)
	}
	payload, err := p.readFile(ctx, body)
	if err != nil {
		return nil, nil, failed("--body: %w", err)
	}
	return h, payload, nil
}

// clockFor returns the clock by which a request is judged.
func clockFor(at string, ignoreAge bool, h http.Header) (func() time.Time, error) {
	if ignoreAge {
		sent, _ := timestampOf(h) // if it has none, it is refused for that
		return func() time.Time { return sent }, nil
	}
	if at == "" {
		return time.Now, nil
	}
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		seconds, numErr := strconv.ParseInt(at, 10, 64)
		if numErr != nil {
			return nil, wrongUsage("--at", "must be as in 2026-01-01T12:00:00Z, or seconds since 1970")
		}
		t = time.Unix(seconds, 0)
	}
	return func() time.Time { return t }, nil
}

func (p Program) runVerify(in *inspector, payload []byte, h http.Header, asJSON bool) error {
	r := report{}
	r.Schemes, r.Verified = in.inspect(payload, h)
	r.describe(payload, h)
	if asJSON {
		if err := writeJSON(p.Stdout, r); err != nil {
			return failed("%w", err)
		}
	} else if err := p.printVerified(r); err != nil {
		return err
	}
	if !r.Verified {
		return refused("refused: the request is not signed as it should be")
	}
	return nil
}

func (p Program) printVerified(r report) error {
	for _, f := range r.Schemes {
		verdict := "valid"
		if !f.Valid {
			verdict = "invalid: " + f.Reason
		}
		if err := p.say("%-8s  %s\n", f.Scheme, oneLine(verdict)); err != nil {
			return err
		}
	}
	if !r.Verified {
		return nil
	}
	return p.say("verified  %s", r.lines())
}

// say prints for people. The arguments are clean already.
func (p Program) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(p.Stdout, format, args...); err != nil {
		return failed("%w", err)
	}
	return nil
}
