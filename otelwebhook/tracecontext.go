package otelwebhook

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/webhook"
)

// traceContext is a W3C trace context on its way into the text that is stored with an
// event, and out of it: traceparent, and after a space tracestate if there is any.
type traceContext struct{ parent, state string }

var _ propagation.TextMapCarrier = (*traceContext)(nil)

// Get returns a header.
func (c *traceContext) Get(key string) string {
	switch key {
	case "traceparent":
		return c.parent
	case "tracestate":
		return c.state
	}
	return ""
}

// Set sets a header.
func (c *traceContext) Set(key, value string) {
	switch key {
	case "traceparent":
		c.parent = value
	case "tracestate":
		c.state = value
	}
}

// Keys names the headers.
func (c *traceContext) Keys() []string { return []string{"traceparent", "tracestate"} }

// encode returns the text for the span of a context; empty if there is none. A
// tracestate that does not fit is left out, which W3C allows.
func encode(ctx context.Context) string {
	var c traceContext
	propagation.TraceContext{}.Inject(ctx, &c)
	if c.state == "" || len(c.parent)+1+len(c.state) > webhook.MaxTraceContextBytes {
		return c.parent
	}
	return c.parent + " " + c.state
}

// decode returns what encode wrote. A text of others gives an invalid span context.
func decode(text string) trace.SpanContext {
	if text == "" {
		return trace.SpanContext{}
	}
	var c traceContext
	c.parent, c.state, _ = strings.Cut(text, " ")
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &c))
}
