package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// The roles in which this program is started by itself, as its only argument.
// It is then asked by lines of JSON on its standard input, answers each with one
// on its standard output, and ends when its input does.
const (
	receiverRole   = "receiver"
	dispatcherRole = "dispatcher"
)

// playRole plays the role that the arguments name. It reports whether they name
// one.
func playRole(ctx context.Context, args []string, in io.Reader, out io.Writer) (played bool, err error) {
	if len(args) != 1 {
		return false, nil
	}
	switch args[0] {
	case receiverRole:
		err = serveReceiver(ctx, in, out)
	case dispatcherRole:
		err = serveDispatcher(ctx, in, out)
	default:
		return false, nil
	}
	if err != nil {
		err = fmt.Errorf("the %s failed: %w", args[0], err)
	}
	return true, err
}

// child is this program in a role, as its parent sees it.
type child struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser

	mu        sync.Mutex
	questions *json.Encoder
	answers   *json.Decoder
}

// startChild starts one. It is killed when ctx ends.
func startChild(ctx context.Context, role string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, role)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	return &child{role: role, cmd: cmd, in: in, questions: json.NewEncoder(in), answers: json.NewDecoder(out)}, nil
}

// ask sends a question, unless it is nil, and reads an answer.
func (c *child) ask(question, answer any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if question != nil {
		if err := c.questions.Encode(question); err != nil {
			return fmt.Errorf("ask the %s: %w", c.role, err)
		}
	}
	if err := c.answers.Decode(answer); err != nil {
		return fmt.Errorf("the %s's answer: %w", c.role, err)
	}
	return nil
}

// close ends the process.
func (c *child) close() error {
	err := c.in.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	kill := time.AfterFunc(10*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	if e := c.cmd.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("the %s: %w", c.role, e))
	}
	return err
}

// answerAll answers one question after the other until there are no more.
func answerAll[Q, A any](questions *json.Decoder, answers *json.Encoder, answer func(Q) (A, error)) error {
	for {
		var q Q
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := answer(q)
		if err != nil {
			return err
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}
