package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/posthorn/webhook"
)

const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
	headerAttempt   = "X-Pivot-Attempt"
	headerPivot     = "X-Pivot-Signature"
)

var bothSchemes = []string{string(webhook.SchemePivot), string(webhook.SchemeStandard)}

// inspectFlags are what a receiver demands.
type inspectFlags struct {
	secretFlags
	schemes   []string
	header    string
	tolerance time.Duration
}

func (f *inspectFlags) add(cmd *cobra.Command) {
	f.secretFlags.add(cmd)
	cmd.Flags().StringSliceVar(&f.schemes, "scheme", bothSchemes, "signatures that are demanded, by `name`: pivot, standard, or both")
	cmd.Flags().StringVar(&f.header, "signature-header", headerPivot, "`name` of the header with the hex signature")
	cmd.Flags().DurationVar(&f.tolerance, "tolerance", 5*time.Minute, "how far webhook-timestamp may be from now")
	completeWith(cmd, "scheme", bothSchemes...)
	completeWith(cmd, "signature-header")
	completeWith(cmd, "tolerance")
}

// inspector verifies requests with the library's own Verifier, one for each
// scheme, and finds words for what it refuses: a Verifier says nothing to
// strangers, and who holds the secret is none.
type inspector struct {
	cfg      webhook.VerifierConfig
	schemes  []webhook.Scheme
	verifier map[webhook.Scheme]*webhook.Verifier
	now      func() time.Time
}

// clockFunc is a webhook.Clock.
type clockFunc func() time.Time

// Now returns the time.
func (f clockFunc) Now() time.Time { return f() }

func (p Program) inspector(f inspectFlags, now func() time.Time) (*inspector, error) {
	secrets, err := p.secrets(f.secretFlags)
	if err != nil {
		return nil, err
	}
	if f.tolerance < time.Second {
		return nil, wrongUsage("--tolerance", "must be at least 1s")
	}
	in := &inspector{now: now, verifier: map[webhook.Scheme]*webhook.Verifier{}, cfg: webhook.VerifierConfig{
		Secrets: secrets, Tolerance: f.tolerance, Clock: clockFunc(now), SignatureHeader: f.header,
	}}
	if len(f.schemes) == 0 {
		return nil, wrongUsage("--scheme", "must be pivot, standard or both")
	}
	for _, name := range f.schemes {
		if !slices.Contains(bothSchemes, name) {
			return nil, wrongUsage("--scheme", "must be pivot, standard or both")
		}
		scheme := webhook.Scheme(name)
		if slices.Contains(in.schemes, scheme) {
			continue
		}
		in.schemes = append(in.schemes, scheme)
		cfg := in.cfg
		cfg.Schemes = []webhook.Scheme{scheme}
		v, err := webhook.NewVerifier(cfg)
		if err != nil && scheme == webhook.SchemeStandard && strings.Contains(err.Error(), "Standard Webhooks key") {
			return nil, wrongUsage("secret", "is no key for Standard Webhooks, which takes padded base64, with or without whsec_; with --scheme pivot any text will do")
		}
		if err != nil {
			return nil, faultsOf(err, map[string]string{"signature_header": "--signature-header"})
		}
		in.verifier[scheme] = v
	}
	return in, nil
}

// finding is what became of one scheme.
type finding struct {
	Scheme webhook.Scheme `json:"scheme"`
	Valid  bool           `json:"valid"`
	Reason string         `json:"reason,omitempty"` // why it is not
}

// inspect verifies a request.
func (in *inspector) inspect(body []byte, h http.Header) (list []finding, ok bool) {
	ok = true
	for _, scheme := range in.schemes {
		f := finding{Scheme: scheme, Valid: in.verifier[scheme].Verify(body, h) == nil}
		switch {
		case f.Valid:
		case scheme == webhook.SchemePivot:
			f.Reason = in.whyNotPivot(h)
		default:
			f.Reason = in.whyNotStandard(body, h)
		}
		ok = ok && f.Valid
		list = append(list, f)
	}
	return list, ok
}

func (in *inspector) whyNotPivot(h http.Header) string {
	text, reason := single(h, in.cfg.SignatureHeader)
	if reason != "" {
		return reason
	}
	if _, err := hex.DecodeString(text); err != nil || len(text) != 64 {
		return in.cfg.SignatureHeader + " is not 64 hex digits"
	}
	return in.cfg.SignatureHeader + " does not fit the body: it is not the body that was signed, or not this secret"
}

func (in *inspector) whyNotStandard(body []byte, h http.Header) string {
	for _, name := range []string{headerID, headerTimestamp, headerSignature} {
		if _, reason := single(h, name); reason != "" {
			return reason
		}
	}
	sent, ok := timestampOf(h)
	if !ok {
		return "webhook-timestamp is not a number of seconds since 1970"
	}
	// Would it be valid at the time that it names?
	cfg := in.cfg
	cfg.Schemes, cfg.Clock = []webhook.Scheme{webhook.SchemeStandard}, clockFunc(func() time.Time { return sent })
	v, err := webhook.NewVerifier(cfg)
	if err != nil || v.Verify(body, h) != nil {
		return "webhook-signature does not fit id, timestamp and body: one of them is not what was signed, or not this secret"
	}
	age, ahead := in.now().Sub(sent), "old"
	if age < 0 {
		age, ahead = -age, "ahead"
	}
	return fmt.Sprintf("the signature fits, but webhook-timestamp is %s %s, and %s is the most", short(age), ahead, short(in.cfg.Tolerance))
}

// single returns the value of a header, or why it has none.
func single(h http.Header, name string) (value, reason string) {
	shown := name
	if strings.HasPrefix(name, "Webhook-") {
		shown = strings.ToLower(name)
	}
	switch values := h.Values(name); len(values) {
	case 0:
		return "", "there is no " + shown
	case 1:
		return values[0], ""
	default:
		return "", fmt.Sprintf("there are %d of %s", len(values), shown)
	}
}

// timestampOf reads webhook-timestamp.
func timestampOf(h http.Header) (time.Time, bool) {
	n, err := strconv.ParseInt(h.Get(headerTimestamp), 10, 64)
	if err != nil || n < 0 || n >= 1e12 { // the Verifier's bound
		return time.Time{}, false
	}
	return time.Unix(n, 0).UTC(), true
}

// reasons are those of all schemes that are not valid.
func reasons(list []finding) string {
	var out []string
	for _, f := range list {
		if !f.Valid {
			out = append(out, string(f.Scheme)+": "+f.Reason)
		}
	}
	return strings.Join(out, "; ")
}

// subject is what an event is about.
type subject struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// envelope is what a payload says about itself.
type envelope struct {
	EventType string  `json:"event_type"`
	Subject   subject `json:"subject"`
	Test      bool    `json:"test"`
}

// report is a request as listen and verify print it.
type report struct {
	ReceivedAt *time.Time      `json:"received_at,omitempty"`
	Verified   bool            `json:"verified"`
	Schemes    []finding       `json:"schemes"`
	Answered   int             `json:"answered,omitempty"` // with this status
	WebhookID  string          `json:"webhook_id,omitempty"`
	SignedAt   *time.Time      `json:"signed_at,omitempty"`
	Attempt    int             `json:"attempt,omitempty"`
	EventType  string          `json:"event_type,omitempty"`
	Subject    *subject        `json:"subject,omitempty"`
	Test       bool            `json:"test,omitempty"`
	Payload    json.RawMessage `json:"payload,omitempty"` // a string if it is no JSON
}

// describe adds what the request says. Of one that is not verified that is
// nothing: anybody may have written it.
func (r *report) describe(body []byte, h http.Header) {
	if !r.Verified {
		return
	}
	if slices.ContainsFunc(r.Schemes, func(f finding) bool { return f.Scheme == webhook.SchemeStandard }) {
		r.WebhookID = h.Get(headerID)
		if at, ok := timestampOf(h); ok {
			r.SignedAt = &at
		}
	}
	r.Attempt, _ = strconv.Atoi(h.Get(headerAttempt)) // not signed, but harmless
	var e envelope
	if json.Valid(body) && utf8.Valid(body) {
		r.Payload = body
		if err := json.Unmarshal(body, &e); err == nil && e.Subject != (subject{}) {
			r.Subject = &e.Subject
		}
		r.EventType, r.Test = e.EventType, e.Test
		return
	}
	r.Payload, _ = json.Marshal(textOf(body)) // a string encodes
}

// lines is the report for people, but for its first words.
func (r *report) lines() string {
	var b strings.Builder
	what := r.EventType
	if what == "" {
		what = "(no event_type)"
	}
	if r.Test {
		what += " (test)"
	}
	fmt.Fprintf(&b, "%s", oneLine(what))
	if r.Subject != nil {
		fmt.Fprintf(&b, "  %s %s", oneLine(r.Subject.Type), oneLine(r.Subject.ID))
	}
	if r.Attempt > 0 {
		fmt.Fprintf(&b, "  attempt %d", r.Attempt)
	}
	if r.WebhookID != "" {
		fmt.Fprintf(&b, "\n  webhook-id %s", oneLine(r.WebhookID))
	}
	if r.SignedAt != nil {
		fmt.Fprintf(&b, ", signed at %s", r.SignedAt.Format(time.RFC3339))
	}
	b.WriteString("\n")
	var text string
	if json.Unmarshal(r.Payload, &text) == nil {
		b.WriteString(indented([]byte(text)))
	} else {
		b.WriteString(indented(r.Payload))
	}
	return b.String()
}

// errTooLarge says that a body is longer than any payload.
var errTooLarge = errors.New("has more than 16 MiB, which no payload has")
