package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

// Ways to spoil a request after it was signed.
const (
	tamperBody      = "body"      // a byte more than was signed
	tamperSignature = "signature" // signed with another secret
	tamperTime      = "time"      // signed an hour ago
)

var tamperings = []string{tamperBody, tamperSignature, tamperTime}

// sendFlags are what is sent.
type sendFlags struct {
	secretFlags
	eventType, subject, data string
	eventID                  string
	header, tamper           string
	live, dryRun, json       bool
	allow                    []string
	caFile                   string
	timeout                  time.Duration
}

func (p Program) sendCommand() *cobra.Command {
	var flags sendFlags
	cmd := &cobra.Command{
		Use:   "send URL",
		Short: "Send a signed test event to an endpoint",
		Long: `Sends one event to an endpoint, exactly as the library does, and prints the answer.
It is a test event, which says "test":true, unless --live is given.

The secret is taken from ` + secretVariable + `.

Destinations are those of the library, public addresses over HTTPS, and besides them
this machine's loopback addresses, also over plain HTTP. --allow opens others, such
as 10.0.0.0/8. Redirects are not followed, and no proxy is used.

A 2xx status within --timeout is a success. Any other is exit code 1; no answer at
all is 3.

` + exitCodes,
		Example: `  posthorn send http://127.0.0.1:4000
  posthorn send https://hooks.example.com/in --data '{"text":"Hello"}'
  posthorn send http://127.0.0.1:4000 --tamper body     # must be refused
  posthorn send http://127.0.0.1:4000 --dry-run >request.http`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongUsage("URL", "is required, and only one")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.runSend(cmd.Context(), args[0], flags)
		},
	}
	flags.secretFlags.add(cmd)
	cmd.Flags().StringVar(&flags.eventType, "event-type", string(webhook.EventMessageSent), "what happened: a `type` in snake case")
	cmd.Flags().StringVar(&flags.subject, "subject", "", "what the event is about, as `TYPE:ID`; a room of a random id by default")
	cmd.Flags().StringVar(&flags.data, "data", "", "the event's data: `JSON`, @FILE, or - for standard input; a sample by default")
	cmd.Flags().StringVar(&flags.eventID, "event-id", "", "the event's id, a `UUID`, to send one event again; needs --live")
	cmd.Flags().BoolVar(&flags.live, "live", false, `leave out "test":true, as in a real event`)
	cmd.Flags().StringVar(&flags.header, "signature-header", headerPivot, "`name` of the header with the hex signature")
	cmd.Flags().StringVar(&flags.tamper, "tamper", "", "spoil the request `how`, once it is signed: body, signature or time")
	cmd.Flags().StringSliceVar(&flags.allow, "allow", nil, "addresses to allow besides public and loopback ones, as a `prefix`")
	cmd.Flags().StringVar(&flags.caFile, "ca-file", "", "`file` with further certificate authorities, in PEM")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", webhook.DefaultAttemptTimeout, "how long the answer may take")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "print the request instead of sending it")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print one JSON document")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "json")
	var types []string
	for _, t := range webhook.DefaultCatalog().EventTypes() {
		types = append(types, string(t.Type))
	}
	completeWith(cmd, "event-type", types...)
	completeWith(cmd, "tamper", tamperings...)
	for _, flag := range []string{"subject", "event-id", "signature-header", "allow", "timeout"} {
		completeWith(cmd, flag)
	}
	return cmd
}

// sent is what came of it.
type sent struct {
	URL               string   `json:"url"`
	EventID           string   `json:"event_id"`
	EventType         string   `json:"event_type"`
	Subject           subject  `json:"subject"`
	Test              bool     `json:"test"`
	Tampered          string   `json:"tampered,omitempty"`
	PayloadBytes      int64    `json:"payload_bytes"`
	Outcome           string   `json:"outcome"`
	StatusCode        int      `json:"status_code,omitempty"`
	DurationMS        float64  `json:"duration_ms"`
	ErrorClass        string   `json:"error_class,omitempty"`
	Error             string   `json:"error,omitempty"`
	RetryAfterSeconds *float64 `json:"retry_after_seconds,omitempty"`
	Response          string   `json:"response,omitempty"`
	ResponseTruncated bool     `json:"response_truncated,omitempty"`
}

func (p Program) runSend(ctx context.Context, endpoint string, flags sendFlags) error {
	secret, err := p.secret(flags.secretFlags)
	if err != nil {
		return err
	}
	if flags.tamper != "" && !slices.Contains(tamperings, flags.tamper) {
		return wrongUsage("--tamper", "must be body, signature or time")
	}
	if flags.timeout < time.Second {
		return wrongUsage("--timeout", "must be at least 1s")
	}
	event, catalog, err := p.event(ctx, flags)
	if err != nil {
		return err
	}
	allowed, err := prefixesOf(flags.allow)
	if err != nil {
		return err
	}
	doer, err := doerFor(flags, allowed)
	if err != nil {
		return err
	}
	o := &outgoing{next: doer, tamper: flags.tamper, header: flags.header, secret: secret}
	if flags.dryRun {
		o.next = nil
	}
	end := p.waiting("waiting for the answer")
	defer end()
	attempt, err := deliver(ctx, delivery{endpoint, secret, event, catalog, allowed, flags}, o)
	end()
	switch {
	case err != nil:
		return err
	case flags.dryRun:
		if _, err := p.Stdout.Write(o.raw); err != nil { // bytes are what is signed
			return failed("%w", err)
		}
		return nil
	}
	return p.printSent(attempt, event, flags, o.length)
}

// event reads what is to be published.
func (p Program) event(ctx context.Context, flags sendFlags) (webhook.Event, *webhook.Catalog, error) {
	e := webhook.Event{Type: webhook.EventType(flags.eventType), OrganizationID: "posthorn-send"}
	if flags.subject == "" {
		flags.subject = string(webhook.SubjectRoom) + ":" + uuid.NewString()
	}
	kind, id, found := strings.Cut(flags.subject, ":")
	if !found || id == "" || kind == "" {
		return e, nil, wrongUsage("--subject", "must be TYPE:ID, as in room:3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11")
	}
	e.Subject = webhook.Subject{Type: webhook.SubjectType(kind), ID: id}
	if flags.eventID != "" {
		if !flags.live {
			return e, nil, wrongUsage("--event-id", "needs --live: test events get ids of their own")
		}
		var err error
		if e.ID, err = uuid.Parse(flags.eventID); err != nil {
			return e, nil, wrongUsage("--event-id", "must be a UUID")
		}
	}
	data, err := p.data(ctx, flags.data)
	if err != nil {
		return e, nil, err
	}
	known := webhook.DefaultCatalog()
	info, ok := known.EventType(e.Type)
	if !ok {
		info = webhook.EventTypeInfo{Type: e.Type, Title: "Event", Sample: struct{}{}}
	}
	if data != nil {
		info.Sample = json.RawMessage(data)
	}
	e.Data = info.Sample
	kinds, ok := known.SubjectType(e.Subject.Type)
	if !ok { // hosts have ids of any form
		kinds = webhook.SubjectTypeInfo{Type: e.Subject.Type, Title: "Subject", ParseID: func(id string) (string, error) { return id, nil }}
	}
	catalog, err := webhook.NewCatalog([]webhook.SubjectTypeInfo{kinds}, []webhook.EventTypeInfo{info})
	if err != nil {
		return e, nil, faultsOf(err, map[string]string{
			"subject_types": "--subject", "event_types[0].type": "--event-type", "event_types[0].sample": "--data",
		})
	}
	return e, catalog, nil
}

// data returns the JSON that a flag says, nil if it is empty.
func (p Program) data(ctx context.Context, flag string) ([]byte, error) {
	name, isFile := strings.CutPrefix(flag, "@")
	switch {
	case flag == "":
		return nil, nil
	case flag == "-":
		name = "-"
	case !isFile:
		return []byte(flag), nil
	}
	text, err := p.readFile(ctx, name)
	if err != nil {
		return nil, failed("--data: %w", err)
	}
	return bytes.TrimSpace(text), nil
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func prefixesOf(texts []string) ([]netip.Prefix, error) {
	allowed := slices.Clone(loopback)
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, wrongUsage("--allow", "must be addresses with their length, as in 10.0.0.0/8")
		}
		allowed = append(allowed, prefix)
	}
	return allowed, nil
}

// delivery is an event and where it goes.
type delivery struct {
	endpoint string
	secret   webhook.Secret
	event    webhook.Event
	catalog  *webhook.Catalog
	allowed  []netip.Prefix
	flags    sendFlags
}

// deliver lets the library do all of it, in memory: a webhook, an event, one round
// of a dispatcher. So what is sent is what a service would send.
func deliver(ctx context.Context, d delivery, doer webhook.HTTPDoer) (webhook.Attempt, error) {
	store := memstore.New()
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{
		HTTPDoer: doer, AttemptTimeout: d.flags.timeout, SignatureHeader: d.flags.header,
	})
	if err != nil {
		return webhook.Attempt{}, faultsOf(err, map[string]string{"signature_header": "--signature-header"})
	}
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp, Catalog: d.catalog, AllowedPrefixes: d.allowed})
	if err != nil {
		return webhook.Attempt{}, faultsOf(err, map[string]string{"allowed_prefixes": "--allow"})
	}
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: disp, Catalog: d.catalog})
	if err != nil {
		return webhook.Attempt{}, failed("%w", err)
	}
	actor := webhook.Actor{ID: "posthorn", OrganizationID: d.event.OrganizationID, Role: webhook.RoleOwner}
	id, err := register(ctx, store, mgr, actor, d)
	if err != nil {
		return webhook.Attempt{}, err
	}
	if d.flags.live {
		_, err = pub.Publish(ctx, d.event)
	} else {
		_, err = mgr.SendTest(ctx, actor, id, d.event.Type)
	}
	if err != nil {
		return webhook.Attempt{}, faultsOf(err, map[string]string{"data": "--data", "subject": "--subject", "type": "--event-type"})
	}
	if _, err := disp.RunOnce(ctx); err != nil && ctx.Err() == nil { // after Ctrl-C the log says how far it was
		return webhook.Attempt{}, failed("%w", err)
	}
	log, err := mgr.Attempts(context.WithoutCancel(ctx), actor, webhook.AttemptQuery{WebhookID: id})
	if err != nil || len(log.Items) != 1 {
		return webhook.Attempt{}, failed("nothing was sent: %w", errors.Join(err, ctx.Err()))
	}
	return log.Items[0], nil
}

// register makes a webhook with a secret that is given. The Manager, which makes
// secrets itself, checks it first; plain HTTP, which it does not know, is for this
// machine only.
func register(ctx context.Context, store *memstore.Store, mgr *webhook.Manager, actor webhook.Actor, d delivery) (uuid.UUID, error) {
	endpoint, plain := d.endpoint, false
	if rest, found := cutHTTP(endpoint); found {
		endpoint, plain = "https://"+rest, true
	}
	w, _, err := mgr.Create(ctx, actor, webhook.WebhookInput{
		Name: "posthorn send", EndpointURL: endpoint,
		Subscriptions: []webhook.Subscription{{Subject: d.event.Subject, EventType: d.event.Type}},
	})
	if err != nil {
		return uuid.UUID{}, faultsOf(err, map[string]string{
			"endpoint_url": "URL", "subscriptions[0].subject": "--subject", "subscriptions[0].event_type": "--event-type",
		})
	}
	if err := mgr.Delete(ctx, actor, w.ID); err != nil {
		return uuid.UUID{}, failed("%w", err)
	}
	w = w.Clone()
	if plain {
		u, err := url.Parse(w.EndpointURL)
		if err != nil {
			return uuid.UUID{}, failed("%w", err)
		}
		if a, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !a.IsLoopback()) {
			return uuid.UUID{}, wrongUsage("URL", "must begin with https://, unless it is of this machine: localhost, 127.0.0.1 or [::1]")
		}
		u.Scheme = "http"
		if u.Port() == "" { // which http:// takes for 80, and the check has taken for 443
			if given, err := url.Parse(d.endpoint); err == nil && given.Port() != "" {
				u.Host = net.JoinHostPort(u.Hostname(), given.Port())
			}
		}
		w.EndpointURL = u.String()
	}
	w.ID = uuid.New()
	if err := store.CreateWebhook(ctx, webhook.CreateWebhookParams{Webhook: w, Secret: d.secret}); err != nil {
		return uuid.UUID{}, failed("%w", err)
	}
	return w.ID, nil
}

// cutHTTP cuts off http://, which may be in upper case.
func cutHTTP(endpoint string) (rest string, found bool) {
	const prefix = "http://"
	if len(endpoint) < len(prefix) || !strings.EqualFold(endpoint[:len(prefix)], prefix) {
		return endpoint, false
	}
	return endpoint[len(prefix):], true
}

// bySchemeDoer sends over HTTPS by the library's client, and over HTTP to this
// machine only.
type bySchemeDoer struct {
	https, http webhook.HTTPDoer
}

// Do sends a request.
func (d bySchemeDoer) Do(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		return d.http.Do(r)
	}
	return d.https.Do(r)
}

func doerFor(flags sendFlags, allowed []netip.Prefix) (webhook.HTTPDoer, error) {
	cfg := webhook.TransportConfig{AllowedPrefixes: allowed, Slots: 1}
	if flags.caFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, failed("--ca-file: the system's authorities: %w", err)
		}
		text, err := os.ReadFile(flags.caFile)
		if err != nil {
			return nil, failed("--ca-file: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, wrongUsage("--ca-file", "must have a certificate in PEM")
		}
		cfg.RootCAs = pool
	}
	client, err := webhook.NewHTTPClient(cfg)
	if err != nil {
		return nil, faultsOf(err, map[string]string{"allowed_prefixes": "--allow"})
	}
	dialer := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !ap.Addr().Unmap().IsLoopback() {
			return webhook.ErrDestinationNotAllowed // localhost is what resolvers make of it
		}
		return nil
	}}
	plain := &http.Transport{DialContext: dialer.DialContext, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}
	return bySchemeDoer{client, &http.Client{
		Transport:     plain,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// outgoing is where the one request passes: it is measured, perhaps spoiled, and
// sent, or kept as it would be on the wire.
type outgoing struct {
	next   webhook.HTTPDoer // nil keeps it
	tamper string
	header string
	secret webhook.Secret

	length int64
	raw    []byte
}

// Do sends a request on.
func (o *outgoing) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	sentAt, by := time.Now(), o.secret
	switch o.tamper {
	case tamperBody:
		body = append(body, ' ') // the same JSON, but not the same bytes
	case tamperTime:
		sentAt = sentAt.Add(-time.Hour)
	case tamperSignature:
		if by, err = webhook.NewSecret(); err != nil {
			return nil, err
		}
	}
	if o.tamper == tamperTime || o.tamper == tamperSignature {
		signer, err := webhook.NewSigner(by)
		if err == nil {
			signer, err = signer.WithHeader(o.header)
		}
		if err != nil {
			return nil, err
		}
		signer.Sign(r.Header, r.Header.Get(headerID), sentAt, body)
	}
	o.length = int64(len(body))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), o.length
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if o.next != nil {
		return o.next.Do(r)
	}
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		return nil, err
	}
	o.raw = wire.Bytes()
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func (p Program) printSent(a webhook.Attempt, e webhook.Event, flags sendFlags, length int64) error {
	s := sent{
		URL: a.EndpointURL, EventID: a.EventID.String(), EventType: string(a.EventType),
		Subject: subject{string(e.Subject.Type), e.Subject.ID}, Test: !flags.live, Tampered: flags.tamper,
		PayloadBytes: length, Outcome: string(a.Outcome), StatusCode: a.StatusCode, DurationMS: milliseconds(a.Duration),
		ErrorClass: string(a.ErrorClass), Error: a.Error, Response: textOf(a.Response), ResponseTruncated: a.ResponseTruncated,
	}
	if a.RetryAfter > 0 {
		seconds := a.RetryAfter.Seconds()
		s.RetryAfterSeconds = &seconds
	}
	var err error
	if flags.json {
		err = writeJSON(p.Stdout, s)
	} else {
		err = p.printSentText(s, a)
	}
	if err != nil {
		return failed("%w", err)
	}
	switch {
	case a.Outcome == webhook.OutcomeSucceeded:
		return nil
	case a.StatusCode != 0:
		return refused("refused: the receiver answered %d, and only 2xx is a success", a.StatusCode)
	default:
		return failed("no answer: %s", a.Error)
	}
}

func (p Program) printSentText(s sent, a webhook.Attempt) error {
	kind := ""
	if s.Test {
		kind = ", a test"
	}
	if s.Tampered != "" {
		kind += ", tampered with: " + s.Tampered
	}
	if err := p.say("%s  %s %s to %s\n  webhook-id %s, %d bytes%s\n",
		oneLine(s.EventType), oneLine(s.Subject.Type), oneLine(s.Subject.ID), visible(s.URL), s.EventID, s.PayloadBytes, kind); err != nil {
		return err
	}
	if s.StatusCode == 0 {
		return nil // the error says it
	}
	text := http.StatusText(s.StatusCode)
	if err := p.say("answered %s in %s\n", strings.TrimSpace(fmt.Sprintf("%d %s", s.StatusCode, text)), a.Duration.Round(100*time.Microsecond)); err != nil {
		return err
	}
	if len(a.Response) == 0 {
		return nil
	}
	if err := p.say("%s", indented(a.Response)); err != nil {
		return err
	}
	if a.ResponseTruncated {
		return p.say("  … (the first 4 KiB)\n")
	}
	return nil
}
