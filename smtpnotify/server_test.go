package smtpnotify_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strconv"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook/smtpnotify"
)

// script is what a server of these tests does. What it does not say is accepted.
type script struct {
	noTLS    bool // STARTTLS is not offered
	implicit bool // TLS from the first byte
	utf8     bool // SMTPUTF8 is offered
	username string
	password string
	login    bool // LOGIN is offered in place of PLAIN

	mail func(from string) error
	rcpt func(to string) error
	data func(n int, c *smtp.Conn) error // after the nth message has been read whole
	cut  func(c *smtp.Conn)              // before a message is read
}

// server is a real SMTP server.
type server struct {
	host  string
	port  int
	roots *x509.CertPool

	mu      sync.Mutex
	script  script
	arrived []arrival // accepted or not
	users   []string  // of authentications that succeeded
}

// arrival is a message that the server has read whole.
type arrival struct {
	from     string
	to       []string
	utf8     bool
	tls      bool
	raw      []byte
	accepted bool
}

func newServer(t *testing.T, sc script) *server {
	t.Helper()
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	certificate, ca := certified.TLS.Certificates, certified.Certificate()
	certified.Close()
	s := &server{script: sc, roots: x509.NewCertPool()}
	s.roots.AddCert(ca)

	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &serverSession{s: s, c: c}, nil }))
	srv.Domain, srv.AllowInsecureAuth, srv.EnableSMTPUTF8 = "mx.example", true, sc.utf8
	srv.ErrorLog = log.New(io.Discard, "", 0)
	if !sc.noTLS {
		srv.TLSConfig = &tls.Config{Certificates: certificate, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	require.NoError(t, err)
	s.host, s.port = "127.0.0.1", l.Addr().(*net.TCPAddr).Port
	if sc.implicit {
		l = tls.NewListener(l, srv.TLSConfig)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		_ = l.Close() // which Close does not know of, if Serve has not got so far
		require.NoError(t, <-served)
	})
	return s
}

// config is of a notifier that trusts the server.
func (s *server) config() smtpnotify.Config {
	return smtpnotify.Config{
		Host: s.host, Port: s.port, TLSConfig: &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12},
		From: mail.Address{Name: "Example Chat", Address: "hooks@chat.example"}, Recipients: to("ada@acme.example"),
	}
}

func (s *server) messages() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.arrived...)
}

// accepted returns what the server has accepted.
func (s *server) accepted() (out []arrival) {
	for _, a := range s.messages() {
		if a.accepted {
			out = append(out, a)
		}
	}
	return out
}

// serverSession is one connection.
type serverSession struct {
	s    *server
	c    *smtp.Conn
	from string
	to   []string
	utf8 bool
}

func (x *serverSession) Reset()        { x.from, x.to, x.utf8 = "", nil, false }
func (x *serverSession) Logout() error { return nil }

func (x *serverSession) AuthMechanisms() []string {
	switch {
	case x.s.script.username == "":
		return nil
	case x.s.script.login:
		return []string{sasl.Login}
	}
	return []string{sasl.Plain}
}

func (x *serverSession) Auth(mechanism string) (sasl.Server, error) {
	check := func(username, password string) error {
		if username != x.s.script.username || password != x.s.script.password {
			return errors.New("wrong credentials")
		}
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		x.s.users = append(x.s.users, username)
		return nil
	}
	if mechanism == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, username, password string) error { return check(username, password) }), nil
}

// loginServer is LOGIN, which go-sasl has for clients only.
type loginServer struct {
	check    func(username, password string) error
	username *string
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch text := string(response); {
	case response == nil:
		return []byte("Username:"), false, nil
	case l.username == nil:
		l.username = &text
		return []byte("Password:"), false, nil
	default:
		return nil, true, l.check(*l.username, text)
	}
}

func (x *serverSession) Mail(from string, o *smtp.MailOptions) error {
	x.from, x.utf8 = from, o.UTF8
	if x.s.script.mail != nil {
		return x.s.script.mail(from)
	}
	return nil
}

func (x *serverSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if x.s.script.rcpt != nil {
		if err := x.s.script.rcpt(to); err != nil {
			return err
		}
	}
	x.to = append(x.to, to)
	return nil
}

func (x *serverSession) Data(r io.Reader) error {
	if x.s.script.cut != nil {
		x.s.script.cut(x.c)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	x.s.mu.Lock()
	n := len(x.s.arrived)
	_, encrypted := x.c.TLSConnectionState()
	x.s.arrived = append(x.s.arrived, arrival{from: x.from, to: x.to, utf8: x.utf8, tls: encrypted, raw: raw})
	x.s.mu.Unlock()
	if x.s.script.data != nil {
		if err := x.s.script.data(n+1, x.c); err != nil {
			return err
		}
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.arrived[n].accepted = true
	return nil
}

var (
	errNoSuchUser = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	errTryLater   = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "try again later"}
	errBroken     = errors.New("the connection was broken off")
)

// breakOff closes a connection without an answer.
func breakOff(_ int, c *smtp.Conn) error {
	return errors.Join(errBroken, c.Conn().Close())
}

// parsed is a message as a mail program has it.
type parsed struct {
	header     mail.Header
	subject    string
	text, html string
}

func parse(t *testing.T, raw []byte) parsed {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	require.NoError(t, err)
	p := parsed{header: m.Header}
	p.subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	require.NoError(t, err)
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", kind)
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []struct {
		kind string
		into *string
	}{{"text/plain", &p.text}, {"text/html", &p.html}} {
		part, err := parts.NextPart() // decodes quoted-printable
		require.NoError(t, err)
		kind, params, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		require.NoError(t, err)
		require.Equal(t, want.kind, kind)
		require.Equal(t, "UTF-8", params["charset"])
		body, err := io.ReadAll(part)
		require.NoError(t, err)
		*want.into = string(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")))
	}
	_, err = parts.NextPart()
	require.ErrorIs(t, err, io.EOF)
	return p
}

// manyAddresses returns addresses of different people.
func manyAddresses(n int) (out []string) {
	for i := range n {
		out = append(out, "admin"+strconv.Itoa(i)+"@acme.example")
	}
	return out
}
