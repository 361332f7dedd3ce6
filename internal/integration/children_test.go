package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/sqlstore"
)

// childTask is the variable that makes this program a child process.
const childTask = "POSTHORN_INTEGRATION_CHILD"

// task is what a child process is to do.
type task struct {
	Kind   string // a key of tasks
	Server string
	Source integration.Source
	Number int    // among its siblings; also the seed
	CA     []byte // dispatch, serve: PEM
	Crash  *crashPlan
	Mail   *mailPlan

	Recover *recoverPlan
}

// tasks are the kinds of children. They work until ctx ends, which it does when
// the parent closes their standard input or dies. Each call of tick writes a
// byte, which the parent counts.
var tasks = map[string]func(ctx context.Context, c *childProcess, tick func()) error{
	"publish":  publishUntilKilled,
	"dispatch": dispatch,
	"migrate":  migrate,
	"serve":    serveUntilKilled,
	"mail":     mailUntilKilled,
	"recover":  recoverUntilKilled,
}

// childProcess is a child as it sees itself.
type childProcess struct {
	task
	server *integration.Server
	space  *integration.Space
	store  *sqlstore.Store
}

func child(text string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whatever ends it
		cancel()
	}()
	if err := runTask(ctx, text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runTask(ctx context.Context, text string) error {
	var c childProcess
	if err := json.Unmarshal([]byte(text), &c.task); err != nil {
		return err
	}
	c.server = integration.ServerNamed(c.Server)
	db, err := c.server.Connect(c.Source, integration.ChildConns)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	c.space = &integration.Space{Server: c.server, Source: c.Source, DB: db}
	if c.store, err = c.server.NewStore(db); err != nil {
		return err
	}
	return tasks[c.Kind](ctx, &c, func() { _, _ = os.Stdout.Write([]byte{'.'}) })
}

// process is a child as its parent sees it.
type process struct {
	*exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
	ticks  atomic.Int64
	ticked chan struct{} // gets something after a tick, and is closed when no more come
}

// start starts a child. What it says on standard error is logged when it ends.
func start(t *testing.T, s *integration.Space, k task) *process {
	t.Helper()
	k.Server, k.Source = s.Name, s.Source
	text, err := json.Marshal(k)
	require.NoError(t, err)
	program, err := os.Executable()
	require.NoError(t, err)
	p := &process{Cmd: exec.CommandContext(t.Context(), program), ticked: make(chan struct{}, 1)}
	p.Env = append(os.Environ(), childTask+"="+string(text))
	p.Stderr = &p.stderr
	p.stdin, err = p.StdinPipe()
	require.NoError(t, err)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	go func() {
		defer close(p.ticked)
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			if p.ticks.Add(int64(n)); n > 0 {
				select {
				case p.ticked <- struct{}{}:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

// reach waits until the child has ticked n times; it returns false if the child
// ends before.
func (p *process) reach(n int) bool {
	for p.ticks.Load() < int64(n) {
		if _, ok := <-p.ticked; !ok {
			return p.ticks.Load() >= int64(n)
		}
	}
	return true
}

// end waits for the child, after having told it to stop or not.
func (p *process) end(t *testing.T, stop bool) error {
	t.Helper()
	if stop {
		p.stdin.Close()
	}
	for range p.ticked { // Wait must not be called before all is read
		continue
	}
	err := p.Wait()
	if p.stderr.Len() > 0 {
		t.Logf("process %d: %s", p.Process.Pid, p.stderr.Bytes())
	}
	return err
}
