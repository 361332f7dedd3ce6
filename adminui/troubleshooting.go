package adminui

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/posthorn/webhook"
)

// troubleshootingData is the help page, for one webhook or in general.
type troubleshootingData struct {
	Webhook  *webhook.Webhook
	Checks   []check
	Webhooks []webhook.Webhook // to choose from, on the general page
	Looked   int               // attempts that the checks have looked at
}

// check is one of the usual causes: what to look for, and, for a webhook, whether
// it holds now.
type check struct {
	ID, Title string
	Tone      string // ok, bad, wait or off; empty in general
	Verdict   string
	Advice    []string
}

// Label is the tone in a word.
func (k check) Label() string {
	return map[string]string{"ok": "Fine", "bad": "Fails", "wait": "Look here", "off": "Cannot be seen from here"}[k.Tone]
}

// lookedAt is how many of the newest attempts are looked at.
const lookedAt = 50

// troubleshooting walks the usual causes. For a webhook it says which of them hold.
func (c *call) troubleshooting() error {
	var d troubleshootingData
	if c.r.PathValue("id") == "" {
		p, err := c.manager.Webhooks(c.r.Context(), c.actor, webhook.WebhookQuery{Limit: listSize})
		if err != nil {
			return err
		}
		d.Webhooks, d.Checks = p.Items, checks(c.cfg)
		return c.ok("troubleshooting", &page{Title: "Troubleshooting", Crumbs: c.crumbs(nil), Data: d})
	}
	w, err := c.webhook()
	if err != nil {
		return err
	}
	attempts, err := c.manager.Attempts(c.r.Context(), c.actor, webhook.AttemptQuery{WebhookID: w.ID, Limit: lookedAt})
	if err != nil {
		return err
	}
	deliveries, err := c.manager.Deliveries(c.r.Context(), c.actor, webhook.DeliveryQuery{WebhookID: w.ID, Limit: lookedAt})
	if err != nil {
		return err
	}
	d.Webhook, d.Looked = &w, len(attempts.Items)
	d.Checks = diagnose(c.catalog, c.cfg, w, deliveries.Items, attempts.Items)
	return c.ok("troubleshooting", &page{Title: "Troubleshooting", Crumbs: c.crumbs(&w), Data: d})
}

// The usual causes.
const (
	causeStatus    = "status"
	causeSubject   = "subject"
	causeEvents    = "events"
	causeReach     = "reachability"
	causeTLS       = "tls"
	causeSecret    = "secret"
	causeBody      = "body"
	causeAlgorithm = "algorithm"
	causeAnswer    = "answer"
	causeTime      = "time"
)

// checks are the usual causes, in the order in which an event meets them.
func checks(cfg Config) []check {
	return []check{
		{ID: causeStatus, Title: "Is the webhook active?", Advice: []string{
			"While a webhook is inactive, its events are held: nothing is sent, nothing is lost. Activate it to go on, and choose whether to deliver what was held.",
		}},
		{ID: causeSubject, Title: "Is the subject the right one?", Advice: []string{
			"A webhook gets the events of its subject, and those of what is inside it.",
			"Compare the subject ID, character by character, with that of what the events are about. It cannot be changed: create another webhook.",
		}},
		{ID: causeEvents, Title: "Is it subscribed to the event type?", Advice: []string{
			"Only event types that are ticked are sent. Filters, which the API can set, narrow them further.",
		}},
		{ID: causeReach, Title: "Can the endpoint be reached?", Advice: []string{
			"The endpoint must be on the public internet: its name must resolve, to an address that is not private, and its port must be open. Firewalls must let requests in.",
			"A development machine is reached through a tunnel with a public HTTPS address.",
		}},
		{ID: causeTLS, Title: "Is its certificate valid?", Advice: []string{
			"TLS 1.2 or later, with a certificate for this name, from a public authority, not expired, and with its whole chain. Browsers repair an incomplete chain; programs do not.",
			"To look: openssl s_client -connect HOST:443 -servername HOST",
		}},
		{ID: causeSecret, Title: "Does the receiver have this webhook's secret?", Advice: []string{
			"Each webhook has its own, shown once when it was created. All of it is the key, “whsec_” included; spaces or line breaks from copying are not.",
			"If it is lost, create a second webhook, let the receiver accept both secrets, and delete the first.",
		}},
		{ID: causeBody, Title: "Is the signature checked over the raw body?", Advice: []string{
			"The signature covers the bytes of the body as they came. JSON that was parsed and written again has other bytes. Take the body before any framework parses it.",
		}},
		{ID: causeAlgorithm, Title: "Is it computed in the right way?", Advice: []string{
			cfg.SignatureHeader + " is the lower-case hex HMAC-SHA256 of the body; the key is the secret's text.",
			"webhook-signature is “v1,” and the base64 HMAC-SHA256 of id.timestamp.body; the key is what follows “whsec_”, base64-decoded. The clock of the receiver may be off by five minutes.",
		}},
		{ID: causeAnswer, Title: "Does it answer with 2xx?", Advice: []string{
			"Any status from 200 to 299 is a success, and nothing else is. Redirects are not followed: enter the final URL, with or without the last slash, as the server wants it.",
		}},
		{ID: causeTime, Title: "Does it answer within " + roughly(cfg.AttemptTimeout) + "?", Advice: []string{
			"From the look-up of the name to the last byte. Store the event, answer, and do the work afterwards. Events come more than once: skip a webhook-id that is done already.",
		}},
	}
}

// diagnose says which of the causes hold, by a webhook's newest deliveries and
// attempts.
func diagnose(catalog *webhook.Catalog, cfg Config, w webhook.Webhook, deliveries []webhook.Delivery, attempts []webhook.Attempt) []check {
	list := checks(cfg)
	for i := range list {
		list[i].Tone, list[i].Verdict = verdict(list[i].ID, catalog, cfg.AttemptTimeout, w, deliveries, attempts)
	}
	return list
}

const noAttempt = "Nothing has been sent yet. Send a test event to find out."

func verdict(
	cause string, catalog *webhook.Catalog, timeout time.Duration, w webhook.Webhook, deliveries []webhook.Delivery, attempts []webhook.Attempt,
) (tone, text string) {
	switch cause {
	case causeStatus:
		if w.Status == webhook.StatusActive {
			return "ok", "It is active."
		}
		return "bad", "It is inactive."
	case causeSubject:
		return subjectVerdict(w, deliveries)
	case causeEvents:
		for _, t := range eventTypesOf(w) {
			if _, ok := catalog.EventType(t); !ok {
				return "bad", fmt.Sprintf("It is subscribed to %s, which there is no longer.", t)
			}
		}
		var titles []string
		for _, t := range eventTypesOf(w) {
			titles = append(titles, eventTitle(catalog, t))
		}
		return "ok", "It is subscribed to " + strings.Join(titles, ", ") + "."
	}
	reported := attempts[:0:0] // those that say something about the endpoint
	for _, a := range attempts {
		if a.ErrorClass != webhook.ErrorInterrupted && a.ErrorClass != webhook.ErrorInternal {
			reported = append(reported, a)
		}
	}
	if len(reported) == 0 {
		return "off", noAttempt
	}
	return endpointVerdict(cause, timeout, reported)
}

func subjectVerdict(w webhook.Webhook, deliveries []webhook.Delivery) (tone, text string) {
	for _, d := range deliveries {
		if !d.Test {
			return "ok", "Events have matched it, last at " + d.CreatedAt.Format("2006-01-02 15:04:05") + " UTC."
		}
	}
	var ids []string
	for _, s := range subjectsOf(w) {
		ids = append(ids, string(s.Type)+" "+s.ID)
	}
	return "wait", "No event has matched it among what is kept. It is subscribed to " + strings.Join(ids, ", ") + "."
}

// endpointVerdict goes by the newest attempt; it is what holds now.
func endpointVerdict(cause string, timeout time.Duration, attempts []webhook.Attempt) (tone, text string) {
	last := attempts[0]
	told := "The last attempt: " + last.Error + "."
	answered := last.StatusCode != 0
	switch cause {
	case causeReach:
		switch last.ErrorClass {
		case webhook.ErrorDNS, webhook.ErrorConnect, webhook.ErrorDestination, webhook.ErrorProtocol:
			return "bad", told
		case webhook.ErrorTimeout:
			if !answered {
				return "wait", told
			}
		default:
		}
		return "ok", "The last attempt reached it."
	case causeTLS:
		switch {
		case last.ErrorClass == webhook.ErrorTLS:
			return "bad", told
		case answered:
			return "ok", "The last attempt was answered over TLS."
		default:
			return "off", "The last attempt did not get that far."
		}
	case causeSecret, causeBody, causeAlgorithm:
		switch last.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest:
			return "wait", fmt.Sprintf("The last answer was %d, as receivers give it when a signature is not valid.", last.StatusCode)
		}
		if last.Outcome == webhook.OutcomeSucceeded {
			return "ok", "The last request was accepted, which says that it is right, or that nothing is checked."
		}
		return "off", "Only the receiver can tell."
	case causeAnswer:
		switch {
		case last.Outcome == webhook.OutcomeSucceeded:
			return "ok", fmt.Sprintf("The last answer was %d.", last.StatusCode)
		case answered && last.ErrorClass == webhook.ErrorStatus:
			return "bad", "The last attempt was " + last.Error + "."
		default:
			return "off", "The last attempt was not answered."
		}
	default: // causeTime
		late, slow := 0, time.Duration(0)
		for _, a := range attempts {
			if a.ErrorClass == webhook.ErrorTimeout {
				late++
			}
			slow = max(slow, a.Duration)
		}
		switch {
		case late > 0:
			return "bad", fmt.Sprintf("%d of the last %d attempts timed out.", late, len(attempts))
		case slow > timeout/3:
			return "wait", "The slowest of the last attempts took " + duration(slow) + "."
		default:
			return "ok", "The slowest of the last attempts took " + duration(slow) + "."
		}
	}
}
