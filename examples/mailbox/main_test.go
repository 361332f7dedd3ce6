package main

import (
	"bytes"
	"net"
	"net/smtp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// output is written by the server and read by the test.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func TestPrintsMails(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	require.NoError(t, err)
	out, served := &output{}, make(chan error, 1)
	go func() { served <- serve(listener, out) }()

	require.NoError(t, smtp.SendMail(listener.Addr().String(), nil, "hooks@chat.example", []string{"ada@acme.example"}, []byte("Subject: Failed\r\n\r\nHello\r\n")))

	require.Contains(t, out.String(), "mailbox: listening on "+listener.Addr().String())
	require.Contains(t, out.String(), "Subject: Failed\r\n\r\nHello\r\n")
	require.NoError(t, listener.Close())
	require.Error(t, <-served)
}
