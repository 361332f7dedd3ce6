// Mailbox is a mail server that takes every mail and prints it, to see what is sent about
// failed deliveries without sending it to anybody. From the root of the repository:
//
//	go run ./examples/mailbox -addr 127.0.0.1:1025
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/emersion/go-smtp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:1025", "the `address` to listen on")
	flag.Parse()
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", *addr)
	if err == nil {
		err = serve(listener, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mailbox:", err)
		os.Exit(1)
	}
}

// serve prints mails until the listener is closed.
func serve(l net.Listener, out io.Writer) error {
	if _, err := fmt.Fprintln(out, "mailbox: listening on", l.Addr()); err != nil {
		return err
	}
	box := &mailbox{out: out}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session{box}, nil }))
	return server.Serve(l)
}

type mailbox struct {
	mu  sync.Mutex
	out io.Writer
}

// session is one connection.
type session struct{ box *mailbox }

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }

func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	_, err = fmt.Fprintf(s.box.out, "%s\n", text)
	return err
}
