package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const (
	maxBody  = 1 << 20         // bytes of a request's body, as the library's Verifier has it
	maxHeads = 64 << 10        // and of its headers
	goodbye  = 5 * time.Second // for answers under way when listening ends
	maxDelay = time.Hour
)

// listenFlags are how the receiver behaves.
type listenFlags struct {
	inspectFlags
	addr, cert, key string
	status, fail    int
	delay, timeout  time.Duration
	count           int
	json            bool
}

func (p Program) listenCommand() *cobra.Command {
	var flags listenFlags
	cmd := takesNoFiles(&cobra.Command{
		Use:   "listen",
		Short: "Receive webhooks, verify them and print them",
		Long: `Receives POSTs at any path, verifies them as a receiver should, prints each event,
and answers. What is not signed as it should be is answered with 401, and the reason
printed; nothing else of it, since anybody may have written it.

The secret is taken from ` + secretVariable + `; several, separated by spaces, are all
accepted. It ends on Ctrl-C, after --count requests or after --timeout.

The exit code is 1 if any request was refused, however it ended, and 3 if there were
fewer than --count.

` + exitCodes,
		Example: `  posthorn listen
  posthorn listen --fail 2 --delay 3s          # a receiver that has trouble
  posthorn listen --count 1 --timeout 30s --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			in, err := p.inspector(flags.inspectFlags, time.Now)
			if err != nil {
				return err
			}
			return p.runListen(cmd.Context(), flags, in)
		},
	})
	flags.inspectFlags.add(cmd)
	cmd.Flags().StringVar(&flags.addr, "addr", "127.0.0.1:4000", "`address` to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&flags.cert, "tls-cert", "", "`file` with a certificate, to speak HTTPS")
	cmd.Flags().StringVar(&flags.key, "tls-key", "", "`file` with its private key")
	cmd.Flags().IntVar(&flags.status, "status", http.StatusNoContent, "status `code` for what is verified")
	cmd.Flags().IntVar(&flags.fail, "fail", 0, "answer the first `n` verified requests with 500")
	cmd.Flags().DurationVar(&flags.delay, "delay", 0, "wait so long before each answer")
	cmd.Flags().IntVar(&flags.count, "count", 0, "end after `n` requests, refused ones included; 0 means never")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", 0, "end after so long; 0 means never")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print one JSON document a line for each request")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	for _, flag := range []string{"addr", "fail", "delay", "count", "timeout"} {
		completeWith(cmd, flag)
	}
	completeWith(cmd, "status", "200", "204", "400", "410", "429", "500", "503")
	return cmd
}

func (f listenFlags) check() error {
	switch {
	case f.status < 200 || f.status > 599:
		return wrongUsage("--status", "must be from 200 to 599")
	case f.fail < 0:
		return wrongUsage("--fail", "must not be negative")
	case f.count < 0:
		return wrongUsage("--count", "must not be negative")
	case f.delay < 0 || f.delay > maxDelay:
		return wrongUsage("--delay", "must be from 0 to 1h")
	case f.timeout < 0:
		return wrongUsage("--timeout", "must not be negative")
	}
	return nil
}

// receiver is a server that judges requests one after the other, so that what it
// prints of each stays together.
type receiver struct {
	Program
	listenFlags
	in *inspector

	mu                sync.Mutex
	verified, refused int
	broken            error // nothing can be printed any more
	done              chan struct{}
}

func (p Program) runListen(ctx context.Context, flags listenFlags, in *inspector) error {
	if flags.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flags.timeout)
		defer cancel()
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", flags.addr)
	if err != nil {
		return failed("--addr: %w", err)
	}
	rcv := &receiver{Program: p, listenFlags: flags, in: in, done: make(chan struct{})}
	// The bounds in time are what keeps strangers from holding connections.
	server := &http.Server{
		Handler: rcv, ErrorLog: log.New(io.Discard, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // delays end with it
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHeads,
	}
	scheme := "http"
	serve := func() error { return server.Serve(listener) }
	if flags.cert != "" {
		scheme = "https"
		serve = func() error { return server.ServeTLS(listener, flags.cert, flags.key) }
	}
	if _, err := fmt.Fprintf(p.Stderr, "posthorn listen: listening on %s://%s, until Ctrl-C\n", scheme, listener.Addr()); err != nil {
		return failed("%w", err)
	}
	served := make(chan error, 1)
	go func() { served <- serve() }()
	select {
	case <-ctx.Done():
	case <-rcv.done:
	case err := <-served:
		_ = listener.Close()
		return failed("%w", err)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye+flags.delay)
	defer cancel()
	if err := server.Shutdown(ending); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return failed("%w", err)
	}
	return rcv.verdict()
}

// verdict is what all requests together come to.
func (rcv *receiver) verdict() error {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	switch seen := rcv.verified + rcv.refused; {
	case rcv.broken != nil:
		return failed("%w", rcv.broken)
	case rcv.refused > 0:
		return refused("refused %d of %d requests", rcv.refused, seen)
	case seen < rcv.count:
		return failed("ended after %d of %d requests", seen, rcv.count)
	}
	return nil
}

// ServeHTTP answers a request.
func (rcv *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "posthorn listen: webhooks are POSTs", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	status := rcv.judge(body, r.Header, err)
	if rcv.delay > 0 {
		timer := time.NewTimer(rcv.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	switch status {
	case http.StatusUnauthorized, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable:
		http.Error(w, http.StatusText(status), status)
	default:
		w.WriteHeader(status)
	}
}

// judge verifies and prints a request, and returns how to answer it. It has been
// printed before it is answered, so that who sent it finds it there.
func (rcv *receiver) judge(body []byte, h http.Header, readErr error) (status int) {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	if rcv.count > 0 && rcv.verified+rcv.refused >= rcv.count {
		return http.StatusServiceUnavailable // it is about to end
	}
	now := time.Now().UTC()
	rep := report{ReceivedAt: &now, Schemes: []finding{}}
	var why string
	_, tooLarge := errors.AsType[*http.MaxBytesError](readErr)
	switch {
	case tooLarge:
		status, why = http.StatusRequestEntityTooLarge, "the body has more than 1 MiB"
	case readErr != nil:
		status, why = http.StatusBadRequest, "the body could not be read"
	default:
		rep.Schemes, rep.Verified = rcv.in.inspect(body, h)
		if status, why = http.StatusUnauthorized, reasons(rep.Schemes); rep.Verified {
			status = rcv.status
			if rcv.verified < rcv.fail {
				status = http.StatusInternalServerError
			}
		}
	}
	if rep.Verified {
		rcv.verified++
	} else {
		rcv.refused++
	}
	rep.Answered = status
	rep.describe(body, h)
	if err := rcv.print(rep, why); err != nil {
		rcv.broken, status = err, http.StatusInternalServerError
	}
	if n := rcv.verified + rcv.refused; n == rcv.count || rcv.broken != nil {
		rcv.end()
	}
	return status
}

func (rcv *receiver) print(rep report, why string) error {
	if rcv.json {
		line := struct {
			report
			Reason string `json:"reason,omitempty"`
		}{rep, why}
		return writeJSON(rcv.Stdout, line)
	}
	at := rep.ReceivedAt.Local().Format(time.TimeOnly)
	if !rep.Verified {
		_, err := fmt.Fprintf(rcv.Stdout, "%s  %d  refused   %s\n", at, rep.Answered, oneLine(why))
		return err
	}
	_, err := fmt.Fprintf(rcv.Stdout, "%s  %d  verified  %s", at, rep.Answered, rep.lines())
	return err
}

// end lets runListen end, once.
func (rcv *receiver) end() {
	select {
	case <-rcv.done:
	default:
		close(rcv.done)
	}
}
