package adminui

import (
	"bufio"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// maxExported bounds an export; the filter of times is for more.
const maxExported = 100_000

// exported is an attempt as a line of the export.
type exported struct {
	OrganizationID string            `json:"organization_id"`
	WebhookID      uuid.UUID         `json:"webhook_id"`
	DeliveryID     uuid.UUID         `json:"delivery_id"`
	EventID        uuid.UUID         `json:"event_id"`
	EventType      webhook.EventType `json:"event_type"`
	Attempt        int               `json:"attempt"`
	StartedAt      time.Time         `json:"started_at"`
	DurationMS     float64           `json:"duration_ms"`
	EndpointURL    string            `json:"endpoint_url"`
	Outcome        webhook.Outcome   `json:"outcome"`
	StatusCode     int               `json:"status_code,omitempty"`
	ErrorClass     string            `json:"error_class,omitempty"`
	Error          string            `json:"error,omitempty"`
	DNSMS          float64           `json:"dns_ms"`
	ConnectMS      float64           `json:"connect_ms"`
	TLSMS          float64           `json:"tls_ms"`
	FirstByteMS    float64           `json:"first_byte_ms"`
	RetryAfterS    float64           `json:"retry_after_s,omitempty"`
	Response       string            `json:"response,omitempty"` // not for viewers
	Truncated      bool              `json:"response_truncated,omitempty"`
}

// export writes the log as NDJSON, newest first: one object a line, those that the
// filter leaves. If the store fails on the way, the connection is broken off, so that
// what came is not taken for everything.
func (c *call) export() error {
	a, err := c.about()
	if err != nil {
		return err
	}
	f := c.filter()
	if f.fault != "" {
		if err := c.exists(a); err != nil {
			return err
		}
		c.refuse(http.StatusBadRequest, "This cannot be exported", f.fault)
		return nil
	}
	q := c.attemptQuery(a, f)
	q.Limit = webhook.MaxPageSize
	p, err := c.manager.Attempts(c.r.Context(), c.actor, q)
	if err != nil {
		return err
	}
	name := "webhooks"
	if a.ID != uuid.Nil {
		name = a.ID.String()
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/x-ndjson; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="log-`+name+"-"+c.now.Format("20060102-150405")+`.ndjson"`)
	if c.r.Method == http.MethodHead {
		return nil
	}
	out := bufio.NewWriter(c.w)
	lines := json.NewEncoder(out)
	for written := 0; ; {
		for _, at := range p.Items {
			if err := lines.Encode(exportedOf(at)); err != nil {
				panic(http.ErrAbortHandler) // nobody is listening any more
			}
		}
		if written += len(p.Items); p.Next == "" || written >= maxExported {
			break
		}
		q.Cursor = p.Next
		if p, err = c.manager.Attempts(c.r.Context(), c.actor, q); err != nil {
			c.cfg.Logger.ErrorContext(c.r.Context(), "adminui: an export broke off", "error", err)
			panic(http.ErrAbortHandler)
		}
	}
	if err := out.Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

func exportedOf(a webhook.Attempt) exported {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return exported{
		OrganizationID: a.OrganizationID, WebhookID: a.WebhookID, DeliveryID: a.DeliveryID, EventID: a.EventID, EventType: a.EventType,
		Attempt: a.Number, StartedAt: a.StartedAt, DurationMS: ms(a.Duration), EndpointURL: a.EndpointURL, Outcome: a.Outcome,
		StatusCode: a.StatusCode, ErrorClass: string(a.ErrorClass), Error: a.Error, DNSMS: ms(a.Timing.DNS), ConnectMS: ms(a.Timing.Connect),
		TLSMS: ms(a.Timing.TLS), FirstByteMS: ms(a.Timing.FirstByte), RetryAfterS: a.RetryAfter.Seconds(),
		Response: string(a.Response), Truncated: a.ResponseTruncated,
	}
}
