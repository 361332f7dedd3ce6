package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// receiverProcess is the sender's hold on the receiver.
type receiverProcess struct {
	*child
	authority []byte         // its certificate, PEM
	roots     *x509.CertPool // which a sender must trust
	address   string
}

// startReceiver starts the receiver. It is killed when ctx ends.
func startReceiver(ctx context.Context) (*receiverProcess, error) {
	c, err := startChild(ctx, receiverRole)
	if err != nil {
		return nil, err
	}
	p := &receiverProcess{child: c}
	var hello greeting
	err = c.ask(nil, &hello)
	if err == nil {
		p.address, p.authority = hello.Address, hello.Authority
		p.roots, err = rootsOf(hello.Authority)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), p.close())
	}
	return p, nil
}

// rootsOf is what trusts an authority.
func rootsOf(authority []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("the receiver has no certificate")
	}
	return roots, nil
}

// url returns the endpoint of the webhook with a number.
func (p *receiverProcess) url(path string, n int) string {
	return fmt.Sprintf("https://%s%s%d", p.address, path, n)
}

// ask has the receiver answer a question.
func (p *receiverProcess) ask(q question) (a answer, err error) {
	err = p.child.ask(q, &a)
	return a, err
}

// received returns how many requests it has answered since it was last reset.
func (p *receiverProcess) received() (int64, error) {
	a, err := p.ask(question{})
	return a.Received, err
}

// await asks until the receiver has answered n requests since it was last
// reset, for no longer than the patience.
func (p *receiverProcess) await(ctx context.Context, n int64, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		got, err := p.received()
		if err != nil || got >= n || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
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
