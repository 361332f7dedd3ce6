package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// explain says what kind of failure an attempt met, and describes it in words
// that people outside may read: no address and nothing of the URL. What else
// the error holds is for the host's log. The flight's context ends by our own
// doing, the attempt's by its time.
func explain(flight, attempt context.Context, err error, t *trace) (ErrorClass, string) {
	var (
		dns      *net.DNSError
		tlsCert  *tls.CertificateVerificationError
		tlsAlert tls.AlertError
		record   tls.RecordHeaderError
	)
	cause := context.Cause(flight)
	switch {
	case errors.Is(err, ErrDestinationNotAllowed):
		return ErrorDestination, "destination not allowed"
	case errors.Is(cause, errAborted), errors.Is(cause, errShutdown):
		return ErrorInterrupted, cause.Error()
	case cause != nil:
		return ErrorInterrupted, "the sender gave up"
	case attempt.Err() != nil:
		return ErrorTimeout, "timed out while " + t.phase()
	case errors.As(err, &dns):
		return ErrorDNS, describeDNS(dns)
	case errors.As(err, &tlsCert):
		return ErrorTLS, describeCertificate(tlsCert.Err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return ErrorTLS, "the endpoint does not speak TLS on this port"
	case errors.As(err, &tlsAlert):
		return ErrorTLS, "TLS handshake refused: " + strings.TrimPrefix(tlsAlert.Error(), "tls: ")
	case isTimeout(err):
		return ErrorTimeout, "timed out while " + t.phase()
	case t.inHandshake():
		return ErrorTLS, describeHandshake(err)
	}
	if !t.connected() {
		return ErrorConnect, describeConnect(err)
	}
	return ErrorProtocol, describeProtocol(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (t *trace) connected() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gotConn
}

func (t *trace) inHandshake() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.gotConn && !t.tlsStart.IsZero()
}

func describeDNS(err *net.DNSError) string {
	switch {
	case err.IsNotFound:
		return "the name of the endpoint does not exist"
	case err.IsTimeout:
		return "the look-up of the endpoint's name timed out"
	default:
		return "the name of the endpoint could not be looked up"
	}
}

func describeCertificate(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "TLS certificate expired or not yet valid"
	case errors.As(err, &hostname):
		return "TLS certificate is for another name"
	case errors.As(err, &authority):
		return "TLS certificate is not from a known authority, or its chain is incomplete"
	default:
		return "TLS certificate is not valid"
	}
}

func describeHandshake(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection was closed during the TLS handshake"
	case strings.Contains(err.Error(), "protocol version"):
		return "the endpoint offers no TLS version from 1.2 on"
	default:
		return "the TLS handshake failed"
	}
}

func describeConnect(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the endpoint cannot be reached"
	default:
		return "no connection to the endpoint"
	}
}

func describeProtocol(err error) string {
	switch text := err.Error(); {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset before a complete answer"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(text, "server closed idle connection"):
		return "the connection was closed before a complete answer"
	case strings.Contains(text, "server response headers exceeded"):
		return fmt.Sprintf("the answer's headers exceed %d KiB", maxResponseHeaderBytes>>10)
	case strings.Contains(text, "malformed"):
		return "the answer is not valid HTTP"
	default:
		return "the request could not be completed"
	}
}

// describeStatus says what an answer other than 2xx means here.
func describeStatus(code int) string {
	text := fmt.Sprintf("answered %d", code)
	if name := http.StatusText(code); name != "" {
		text += " " + name
	}
	if code >= 300 && code <= 399 {
		text += "; redirects are not followed"
	}
	return text
}
