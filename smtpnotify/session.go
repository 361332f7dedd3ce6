package smtpnotify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/posthorn/webhook"
)

const (
	// grace is how long a server that has the whole message may still take to
	// answer after the caller has given up: knowing is worth half a second.
	grace = 500 * time.Millisecond

	farewell = 500 * time.Millisecond // for the answer to QUIT
)

// session is one connection to the server.
type session struct {
	conn   net.Conn
	client *smtp.Client
	stop   func() bool // ends the watch over the context

	mu        sync.Mutex
	given     bool // up: the caller's context has ended
	committed bool // the end of the message is being sent
}

// connect returns a session that is encrypted and authenticated as it has to be.
func (n *Notifier) connect(ctx context.Context) (_ *session, err error) {
	server := net.JoinHostPort(n.cfg.Host, strconv.Itoa(n.cfg.Port))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &session{conn: conn}
	s.stop = context.AfterFunc(ctx, s.giveUp)
	defer func() {
		if err != nil {
			s.end()
			if ctx.Err() != nil { // which is why
				err = fmt.Errorf("%w: %w", err, ctx.Err())
			}
		}
	}()
	stream := conn
	if n.cfg.TLS == ImplicitTLS {
		encrypted := tls.Client(conn, n.cfg.TLSConfig)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		stream = encrypted
	}
	c, err := smtp.NewClient(stream, n.cfg.Host)
	if err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if err := c.Hello(n.cfg.LocalName); err != nil {
		return nil, fmt.Errorf("ehlo: %w", err)
	}
	if n.cfg.TLS == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return nil, errors.New("the server does not offer STARTTLS")
		}
		if err := c.StartTLS(n.cfg.TLSConfig); err != nil {
			return nil, fmt.Errorf("starttls: %w", err)
		}
	}
	if n.cfg.Username != "" {
		if err := n.authenticate(c); err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
	}
	s.client = c
	return s, nil
}

func (n *Notifier) authenticate(c *smtp.Client) error {
	_, offered := c.Extension("AUTH")
	user, password := n.cfg.Username, n.cfg.Password
	for _, mechanism := range []struct {
		name string
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(user, password)},
		{"SCRAM-SHA-1", smtp.ScramSHA1Auth(user, password)},
		{"PLAIN", smtp.PlainAuth("", user, password, n.cfg.Host, false)},
		{"LOGIN", smtp.LoginAuth(user, password, n.cfg.Host, false)},
		{"CRAM-MD5", smtp.CRAMMD5Auth(user, password)},
	} {
		for name := range strings.FieldsSeq(offered) {
			if strings.EqualFold(name, mechanism.name) {
				return c.Auth(mechanism.auth)
			}
		}
	}
	return fmt.Errorf("the server offers %q, and none of that is known here", offered)
}

// giveUp breaks off what goes on, once the caller's context has ended. Only a
// server that owes the answer to a whole message has a moment left.
func (s *session) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = true
	until := time.Unix(1, 0)
	if s.committed {
		until = time.Now().Add(grace)
	}
	_ = s.conn.SetDeadline(until)
}

// commit reports whether the end of the message may be sent. From then on nobody
// can take it back.
func (s *session) commit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = !s.given
	return s.committed
}

// end closes the connection.
func (s *session) end() {
	if s.stop() && s.client != nil {
		_ = s.conn.SetDeadline(time.Now().Add(farewell))
		_ = s.client.Quit() // whatever was to be known is known
	}
	_ = s.conn.Close()
}

// addressed is who gets a message.
type addressed struct {
	taken   []mail.Address
	refused map[string]error // by address
}

// address names sender and recipients. It fails if the server refuses the
// sender, or every recipient.
func (s *session) address(from mail.Address, to []mail.Address) (a addressed, err error) {
	utf8, _ := s.client.Extension("SMTPUTF8")
	a.refused = map[string]error{}
	beyond := !isASCII(from.Address)
	var fit []mail.Address
	for _, r := range to {
		if !utf8 && !isASCII(r.Address) {
			a.refused[r.Address] = errors.New("the server takes no addresses beyond ASCII")
			continue
		}
		beyond = beyond || !isASCII(r.Address)
		fit = append(fit, r)
	}
	s.client.SkipSMTPUTF8(!beyond) // a message that asks for it does not get past servers without it
	if err := s.client.Mail(angle(from)); err != nil {
		return a, fmt.Errorf("mail from: %w", err)
	}
	for _, r := range fit {
		err := s.client.Rcpt(angle(r))
		var refusal *textproto.Error
		switch {
		case err == nil:
			a.taken = append(a.taken, r)
		case errors.As(err, &refusal) && refusal.Code != 421: // which closes the connection
			a.refused[r.Address] = err
		default:
			return a, fmt.Errorf("rcpt to: %w", err)
		}
	}
	if len(a.taken) == 0 {
		return a, errors.New("the server refused every recipient")
	}
	return a, nil
}

// angle is an address as the envelope has it, quoted where need be.
func angle(a mail.Address) string { return (&mail.Address{Address: a.Address}).String() }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7E || r < 0x20 })
}

// send gives the message to the server and waits for its answer.
func (s *session) send(ctx context.Context, m *gomail.Msg) error {
	w, err := s.client.Data()
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if _, err := m.WriteTo(w); err != nil {
		s.abandon() // to end the message would send a part of it
		return fmt.Errorf("data: the message was not complete: %w", err)
	}
	if !s.commit() {
		s.abandon()
		return fmt.Errorf("data: the message was not complete: %w", ctx.Err())
	}
	err = w.Close()
	var answer *textproto.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.Code/100 == 2: // not the usual 250
		return nil
	case errors.As(err, &answer) && answer.Code >= 400:
		return fmt.Errorf("data: %w", err)
	default:
		s.abandon()
		return fmt.Errorf("data: the message is with the server, which has not said whether it takes it: %w: %w", webhook.ErrOutcomeUnknown, err)
	}
}

// abandon keeps end from talking to a server that is in the middle of a message.
func (s *session) abandon() { s.client = nil }
