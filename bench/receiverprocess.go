package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// receiverProcess is the sender's hold on the receiver.
type receiverProcess struct {
	roots   *x509.CertPool // what a sender must trust
	address string
	cmd     *exec.Cmd
	in      io.WriteCloser

	mu        sync.Mutex
	questions *json.Encoder
	answers   *json.Decoder
}

// startReceiver runs this program again, as the receiver. It is killed when ctx
// ends.
func startReceiver(ctx context.Context) (*receiverProcess, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, receiverArg)
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
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	p := &receiverProcess{
		cmd: cmd, in: in, roots: x509.NewCertPool(),
		questions: json.NewEncoder(in), answers: json.NewDecoder(out),
	}
	var hello greeting
	err = p.answers.Decode(&hello)
	if err == nil && !p.roots.AppendCertsFromPEM(hello.Authority) {
		err = errors.New("no certificate in its greeting")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), p.close())
	}
	p.address = hello.Address
	return p, nil
}

// url returns the endpoint of the webhook with a number.
func (p *receiverProcess) url(path string, n int) string {
	return fmt.Sprintf("https://%s%s%d", p.address, path, n)
}

// ask has the receiver answer a question.
func (p *receiverProcess) ask(q question) (answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var a answer
	if err := p.questions.Encode(q); err != nil {
		return a, fmt.Errorf("ask the receiver: %w", err)
	}
	if err := p.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("the receiver's answer: %w", err)
	}
	return a, nil
}

// await asks until the receiver has answered n requests since it was last
// reset, for no longer than the patience.
func (p *receiverProcess) await(ctx context.Context, n int64, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		a, err := p.ask(question{})
		if err != nil || a.Received >= n || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// close ends the process.
func (p *receiverProcess) close() error {
	err := p.in.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	kill := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	return errors.Join(err, p.cmd.Wait())
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
