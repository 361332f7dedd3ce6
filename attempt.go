package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"time"
)

// unsealedDelay is the wait before anything of a webhook is claimed again whose
// secret did not open.
const unsealedDelay = time.Minute

// fly makes one attempt, unless the claim has to be given back.
func (d *Dispatcher) fly(f *flight) landing {
	c := &f.claim
	release := func(notBefore time.Time) landing {
		return landing{released: &ReleasedClaim{DeliveryID: c.DeliveryID, Token: c.Token, NotBefore: storedTime(notBefore)}}
	}
	switch {
	case f.ctx.Err() != nil:
		return release(c.DueAt)
	case time.Until(f.leaseEnd) < d.cfg.AttemptTimeout:
		d.log.Warn("webhook: a lease was too old to begin an attempt", "delivery_id", c.DeliveryID)
		return release(c.DueAt)
	case c.Secret.IsZero():
		until, begins := d.slots.block(c.WebhookID, unsealedDelay)
		if begins { // else that has been said
			d.log.Error("webhook: a secret did not open; nothing is sent to the webhook for a minute", "webhook_id", c.WebhookID, "delivery_id", c.DeliveryID)
		}
		l := release(until)
		l.unopened = true
		return l
	}
	if !f.notBefore.IsZero() { // by the webhook's rate limit
		l := release(f.notBefore)
		l.limited = true
		return l
	}
	ctx := d.tracer.AttemptStarted(f.ctx, AttemptStarted{
		DeliveryID: c.DeliveryID, EventID: c.EventID, WebhookID: c.WebhookID, OrganizationID: c.OrganizationID,
		EventType: c.EventType, Number: c.Attempt, DueAt: c.DueAt, EndpointURL: c.EndpointURL,
		Test: c.Test, TraceContext: c.TraceContext,
	})
	a, v := d.attempt(ctx, f)
	out := &FinishedAttempt{Token: c.Token, Attempt: a, State: DeliverySucceeded}
	if a.Outcome != OutcomeSucceeded {
		out.State, out.DueAt = d.cfg.Schedule.After(c.Attempt, d.clock.Now(), c.Test)
		if out.State == DeliveryPending && d.cfg.HonorRetryAfter {
			out.DueAt = storedTime(out.DueAt.Add(d.cfg.Schedule.Extra(c.Attempt, a.RetryAfter)))
		}
	}
	ended := AttemptEnded{Attempt: a, State: out.State, DueAt: out.DueAt, Lag: a.StartedAt.Sub(c.DueAt)}
	d.logAttempt(ctx, &ended, errors.Is(context.Cause(f.ctx), errAborted))
	d.tracer.AttemptEnded(ctx, ended)
	return landing{finished: out, verdict: v}
}

// logAttempt writes the one line of an attempt. Handlers find its span in ctx.
func (d *Dispatcher) logAttempt(ctx context.Context, ended *AttemptEnded, aborted bool) {
	if !d.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	a := &ended.Attempt
	attrs := []slog.Attr{
		slog.String("organization_id", a.OrganizationID), slog.String("webhook_id", a.WebhookID.String()),
		slog.String("delivery_id", a.DeliveryID.String()), slog.String("event_id", a.EventID.String()),
		slog.String("event_type", string(a.EventType)), slog.Int("attempt", a.Number),
		slog.String("outcome", string(a.Outcome)), slog.Int("status_code", a.StatusCode),
		slog.Duration("duration", a.Duration), slog.Duration("lag", ended.Lag),
	}
	if a.ErrorClass != "" {
		attrs = append(attrs, slog.String("error_class", string(a.ErrorClass)), slog.String("error", a.Error))
	}
	if !aborted { // else it is cancelled
		attrs = append(attrs, slog.String("next_state", string(ended.State)))
		if !ended.DueAt.IsZero() {
			attrs = append(attrs, slog.Time("next_due_at", ended.DueAt))
		}
	}
	d.log.LogAttrs(ctx, slog.LevelInfo, "webhook: attempt", attrs...)
}

// attempt sends one request and describes what happened. A panic in the
// HTTPDoer is a failed attempt, not the end of the process.
func (d *Dispatcher) attempt(ctx context.Context, f *flight) (a Attempt, v verdict) {
	c := &f.claim
	a = Attempt{
		DeliveryID: c.DeliveryID, EventID: c.EventID, WebhookID: c.WebhookID, OrganizationID: c.OrganizationID,
		EventType: c.EventType, Number: c.Attempt, StartedAt: storedTime(d.clock.Now()), EndpointURL: c.EndpointURL,
		Outcome: OutcomeFailed,
	}
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			d.logPanic("HTTPDoer", p)
			a.Outcome, a.ErrorClass, a.Error = OutcomeFailed, ErrorInternal, "internal error of the sender"
		}
		a.Duration = time.Since(began)
	}()
	ctx, cancel := context.WithDeadline(ctx, began.Add(min(d.cfg.AttemptTimeout, time.Until(f.leaseEnd))))
	defer cancel()
	t := &trace{began: began, flight: f}
	req, err := d.request(httptrace.WithClientTrace(ctx, t.hooks()), c)
	if err != nil {
		d.log.Error("webhook: a request could not be built", "webhook_id", c.WebhookID, "delivery_id", c.DeliveryID, "error", err)
		a.ErrorClass, a.Error = ErrorInternal, "internal error of the sender"
		return a, verdictNone
	}
	resp, err := d.cfg.HTTPDoer.Do(req) //nolint:bodyclose // readExcerpt closes it
	if err == nil && resp == nil {
		d.log.Error("webhook: the HTTPDoer returned neither a response nor an error", "delivery_id", c.DeliveryID)
		a.ErrorClass, a.Error = ErrorInternal, "internal error of the sender"
		return a, verdictNone
	}
	var bodyErr error
	if err == nil {
		a.StatusCode = resp.StatusCode
		a.RetryAfter = retryAfter(resp.Header, d.clock.Now())
		a.Response, a.ResponseTruncated, bodyErr = readExcerpt(resp.Body)
	}
	a.Timing = t.timing()
	switch {
	case err != nil:
		a.ErrorClass, a.Error = explain(f.ctx, ctx, err, t)
		d.log.Debug("webhook: attempt failed", "delivery_id", c.DeliveryID, "error", err)
		if a.ErrorClass == ErrorInterrupted {
			a.Outcome = OutcomeInterrupted
		}
		if a.ErrorClass == ErrorTimeout {
			return a, verdictTimeout
		}
		return a, verdictNone
	case a.StatusCode < 200 || a.StatusCode > 299:
		a.ErrorClass, a.Error = ErrorStatus, describeStatus(a.StatusCode)
	default: // the status is the answer, whatever became of the body
		a.Outcome = OutcomeSucceeded
		if bodyErr != nil {
			_, a.Error = explain(f.ctx, ctx, bodyErr, t)
			a.Error = "answered, but the body broke off: " + a.Error
		}
	}
	if bodyErr != nil && ctx.Err() != nil {
		return a, verdictTimeout
	}
	return a, verdictAnswered
}

// readExcerpt reads the beginning of a body and closes it without reading the
// rest.
func readExcerpt(body io.ReadCloser) (excerpt []byte, truncated bool, err error) {
	if body == nil {
		return nil, false, nil
	}
	defer func() { _ = body.Close() }()
	excerpt, err = io.ReadAll(io.LimitReader(body, MaxResponseBytes+1))
	if len(excerpt) > MaxResponseBytes {
		return excerpt[:MaxResponseBytes:MaxResponseBytes], true, err
	}
	return excerpt, false, err
}

// retryAfter reads the Retry-After header (RFC 9110, section 10.2.3): seconds
// or a date. What cannot be read, or lies in the past, is zero.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" { // as nearly always
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now).Truncate(time.Second))
	}
	return 0
}

// trace collects where an attempt's time goes. Its hooks are called by
// goroutines of the transport, some of them after Do has returned.
type trace struct {
	began  time.Time
	flight *flight

	mu                        sync.Mutex
	dnsStart, connStart       time.Time
	tlsStart                  time.Time
	dns, connect, tls, answer time.Duration
	gotConn, wrote            bool
}

func (t *trace) hooks() *httptrace.ClientTrace {
	start := func(at *time.Time) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if at.IsZero() { // of several dials for one name, the first
			*at = time.Now()
		}
	}
	end := func(at *time.Time, d *time.Duration) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !at.IsZero() {
			*d = time.Since(*at)
		}
	}
	set := func(done *bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		*done = true
	}
	return &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { start(&t.dnsStart) },
		DNSDone:              func(httptrace.DNSDoneInfo) { end(&t.dnsStart, &t.dns) },
		ConnectStart:         func(string, string) { start(&t.connStart) },
		ConnectDone:          func(string, string, error) { end(&t.connStart, &t.connect) },
		TLSHandshakeStart:    func() { start(&t.tlsStart) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { end(&t.tlsStart, &t.tls) },
		GotConn:              t.gotConnection,
		WroteRequest:         func(httptrace.WroteRequestInfo) { set(&t.wrote) },
		GotFirstResponseByte: func() { end(&t.began, &t.answer) },
	}
}

func (t *trace) gotConnection(info httptrace.GotConnInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gotConn = true
	t.flight.grows.Store(time.Now().Add(grownUp).UnixNano())
	if info.Reused { // a dial for this request may have begun, for nothing
		t.dns, t.connect, t.tls = 0, 0, 0
		t.dnsStart, t.connStart, t.tlsStart = time.Time{}, time.Time{}, time.Time{}
	}
}

func (t *trace) timing() Timing {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Timing{DNS: t.dns, Connect: t.connect, TLS: t.tls, FirstByte: t.answer}
}

// phase says, for people, what an attempt was doing when it was given up.
func (t *trace) phase() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.answer > 0:
		return "reading the answer"
	case t.wrote:
		return "waiting for an answer"
	case t.gotConn:
		return "sending the request"
	case !t.tlsStart.IsZero() && t.tls == 0:
		return "the TLS handshake"
	case !t.connStart.IsZero() && t.connect == 0:
		return "connecting"
	case !t.dnsStart.IsZero() && t.dns == 0:
		return "looking up the name"
	default:
		return "connecting"
	}
}
