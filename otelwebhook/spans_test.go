package otelwebhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/otelwebhook"
	"github.com/posthorn/webhook/webhooktest"
)

// The spans of one publish with a retry are one tree, though another process makes
// the second attempt.
func TestOnePublishWithARetryIsOneTree(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.answer = func(r *http.Request) (*http.Response, error) {
		for header := range r.Header {
			require.NotContains(t, []string{"Traceparent", "Tracestate", "Baggage"}, header, "receivers are told nothing of it")
		}
		if r.Header.Get("X-Pivot-Attempt") == "1" {
			return status(http.StatusServiceUnavailable)
		}
		return status(http.StatusNoContent)
	}
	ctx, request := h.provider.Tracer("host").Start(t.Context(), "POST /orders")
	published := h.publish(ctx, t)
	request.End()
	n, err := h.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)

	h.telemetry, err = otelwebhook.New(otelwebhook.Config{TracerProvider: h.provider})
	require.NoError(t, err)
	h.assemble(t, h.store)
	webhooktest.Drain(t, h.dispatcher, h.clock)

	spans := h.spans.GetSpans()
	require.Len(t, spans, 4)
	children := map[trace.SpanID][]string{}
	for _, s := range spans {
		require.Equal(t, request.SpanContext().TraceID(), s.SpanContext.TraceID(), s.Name)
		require.Empty(t, s.Links, s.Name)
		children[s.Parent.SpanID()] = append(children[s.Parent.SpanID()], s.Name)
	}
	publish := h.span(t, "publish message_sent")
	require.Equal(t, map[trace.SpanID][]string{
		{}:                             {"POST /orders"},
		request.SpanContext().SpanID(): {"publish message_sent"},
		publish.SpanContext.SpanID():   {"attempt message_sent", "attempt message_sent"},
	}, children)

	require.Equal(t, trace.SpanKindProducer, publish.SpanKind)
	require.Equal(t, codes.Unset, publish.Status.Code)
	require.Equal(t, map[string]string{
		"messaging.system": "posthorn", "messaging.operation.name": "publish", "messaging.operation.type": "send",
		"messaging.destination.name": "message_sent", "messaging.message.id": published.EventID.String(),
		"posthorn.organization.id": "acme", "posthorn.deliveries": "1",
	}, attrs(publish))

	deliveries, err := h.manager.Deliveries(t.Context(), admin, webhook.DeliveryQuery{})
	require.NoError(t, err)
	d := deliveries.Items[0]
	want := map[string]string{
		"messaging.system": "posthorn", "messaging.operation.name": "attempt",
		"messaging.destination.name": "message_sent", "messaging.message.id": published.EventID.String(),
		"posthorn.organization.id": "acme", "posthorn.webhook.id": d.WebhookID.String(), "posthorn.delivery.id": d.ID.String(),
		"posthorn.attempt.number": "1", "posthorn.attempt.lag": "0",
		"http.request.method": "POST", "url.scheme": "https", "server.address": "receiver.example.com", "server.port": "8443",
		"http.response.status_code": "503", "error.type": "503", "posthorn.outcome": "failed", "posthorn.delivery.state": "pending",
		"posthorn.delivery.next_due_at": h.clock.Now().Format(time.RFC3339Nano),
	}
	attempts := h.named("attempt message_sent")
	require.Equal(t, want, attrs(attempts[0]))
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "answered 503 Service Unavailable"}, attempts[0].Status)
	for _, a := range attempts {
		require.Equal(t, trace.SpanKindClient, a.SpanKind)
		require.True(t, a.Parent.IsRemote())
	}
	delete(want, "error.type")
	delete(want, "posthorn.delivery.next_due_at")
	want["posthorn.attempt.number"], want["http.request.resend_count"] = "2", "1"
	want["http.response.status_code"], want["posthorn.outcome"], want["posthorn.delivery.state"] = "204", "succeeded", "succeeded"
	require.Equal(t, want, attrs(attempts[1]))
	require.Equal(t, codes.Unset, attempts[1].Status.Code)

	// No secret is in any of it.
	said, err := json.Marshal(spans)
	require.NoError(t, err)
	for _, secret := range []string{secretPart, payloadPart, h.secret.Reveal()} {
		require.NotContains(t, string(said), secret)
	}
}

func TestPublishManyIsOneSpan(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := message()
	other.Type = webhook.EventRoomRecordingTranscriptPublished
	refused := message()
	refused.Type = "unheard_of"
	results, err := h.publisher.PublishMany(t.Context(), []webhook.Event{message(), other, refused, message()})
	require.NoError(t, err)
	require.Error(t, results[2].Err)
	webhooktest.Drain(t, h.dispatcher, h.clock)

	publish := h.span(t, "publish")
	require.Equal(t, map[string]string{
		"messaging.system": "posthorn", "messaging.operation.name": "publish", "messaging.operation.type": "send",
		"messaging.batch.message_count": "4", "posthorn.organization.id": "acme", "posthorn.deliveries": "2", "posthorn.refused": "1",
	}, attrs(publish))
	require.Equal(t, codes.Unset, publish.Status.Code)
	attempts := h.named("attempt message_sent")
	require.Len(t, attempts, 2)
	for _, a := range attempts {
		require.Equal(t, publish.SpanContext.SpanID(), a.Parent.SpanID())
	}
}

func TestPublishErrors(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	wrong := message()
	wrong.Type = "unheard_of"
	_, err := h.publisher.Publish(t.Context(), wrong)
	require.Error(t, err)
	require.Equal(t, "validation", attrs(h.span(t, "publish unheard_of"))["error.type"])

	taken := message()
	taken.ID = h.publish(t.Context(), t).EventID
	h.spans.Reset()
	_, err = h.publisher.Publish(t.Context(), taken)
	require.ErrorIs(t, err, webhook.ErrConflict)
	span := h.span(t, "publish message_sent")
	require.Equal(t, "conflict", attrs(span)["error.type"])
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: err.Error()}, span.Status)

	// The classes of errors, as the store may give them.
	for want, err := range map[string]error{
		"not_found": webhook.ErrNotFound, "outcome_unknown": webhook.ErrOutcomeUnknown, "timeout": context.DeadlineExceeded,
		"canceled": context.Canceled, "_OTHER": errors.New("the database is away"),
	} {
		h.spans.Reset()
		ctx, _ := h.telemetry.PublishStarted(t.Context(), webhook.PublishStarted{Events: 2})
		h.telemetry.Published(ctx, webhook.Publication{Err: fmt.Errorf("webhook: publish: %w", err)})
		require.Equal(t, want, attrs(h.span(t, "publish"))["error.type"])
	}

	// What was stored before is not stored again, and the attempt is the first one's.
	h.spans.Reset()
	keyed := message()
	keyed.IdempotencyKey = "order 1"
	for range 2 {
		_, err = h.publisher.Publish(t.Context(), keyed)
		require.NoError(t, err)
	}
	webhooktest.Drain(t, h.dispatcher, h.clock)
	publishes, attempts := h.named("publish message_sent"), h.named("attempt message_sent")
	require.Equal(t, "1", attrs(publishes[1])["posthorn.duplicates"])
	require.Len(t, attempts, 2, "of the taken id's event, and of the key's")
	parents := []trace.SpanID{attempts[0].Parent.SpanID(), attempts[1].Parent.SpanID()}
	require.Contains(t, parents, publishes[0].SpanContext.SpanID())
	require.NotContains(t, parents, publishes[1].SpanContext.SpanID())
}

// An attempt whose event nobody traced is a trace of its own: a test event's.
func TestAnAttemptWithoutAPublish(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	page, err := h.manager.Webhooks(t.Context(), admin, webhook.WebhookQuery{})
	require.NoError(t, err)
	_, err = h.manager.SendTest(t.Context(), admin, page.Items[0].ID, webhook.EventMessageSent)
	require.NoError(t, err)
	webhooktest.Drain(t, h.dispatcher, h.clock)
	span := h.span(t, "attempt message_sent")
	require.False(t, span.Parent.IsValid())
	require.Equal(t, "true", attrs(span)["posthorn.test"])
}

// What a dispatcher runs in is linked, and does not become the parent.
func TestWhatADispatcherRunsInIsLinked(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.publish(t.Context(), t)
	ctx, job := h.provider.Tracer("host").Start(t.Context(), "job")
	_, err := h.dispatcher.RunOnce(ctx)
	require.NoError(t, err)
	job.End()
	attempt := h.span(t, "attempt message_sent")
	require.Equal(t, h.span(t, "publish message_sent").SpanContext.SpanID(), attempt.Parent.SpanID())
	require.Len(t, attempt.Links, 1)
	require.Equal(t, job.SpanContext(), attempt.Links[0].SpanContext)
}

// Where a trace begins it is decided whether it is sampled, for all attempts as well.
func TestAttemptsFollowTheSamplingOfTheirPublish(t *testing.T) {
	t.Parallel()
	for _, sampled := range []bool{true, false} {
		h := newHost(t)
		flags := trace.FlagsSampled
		if !sampled {
			flags = 0
		}
		ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags,
		}))
		h.publish(ctx, t)
		webhooktest.Drain(t, h.dispatcher, h.clock)
		if sampled {
			require.Len(t, h.spans.GetSpans(), 2)
		} else {
			require.Empty(t, h.spans.GetSpans())
		}
	}
}

// The tracestate of other systems goes along, if it fits.
func TestTracestate(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 200, 256} {
		h := newHost(t)
		var state trace.TraceState
		var err error
		for _, key := range []string{"a", "b"} {
			state, err = state.Insert(key, strings.Repeat("v", size))
			require.NoError(t, err)
		}
		h.publish(trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state,
		})), t)
		webhooktest.Drain(t, h.dispatcher, h.clock)
		attempt := h.span(t, "attempt message_sent")
		require.Equal(t, h.span(t, "publish message_sent").SpanContext.SpanID(), attempt.Parent.SpanID())
		if 55+1+2*(size+2)+1 > webhook.MaxTraceContextBytes {
			state = trace.TraceState{}
		}
		require.Equal(t, state.String(), attempt.Parent.TraceState().String(), "%d bytes", size)
	}
}

// A text that somebody else has stored makes a trace of its own, and nothing worse.
func TestForeignTraceContexts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, text := range []string{
		"x", " ", "00-00000000000000000000000000000000-0000000000000000-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
		"zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", strings.Repeat("0", webhook.MaxTraceContextBytes),
	} {
		h.spans.Reset()
		ctx := h.telemetry.AttemptStarted(t.Context(), webhook.AttemptStarted{TraceContext: text, EndpointURL: "://", Number: 1})
		h.telemetry.AttemptEnded(ctx, webhook.AttemptEnded{})
		require.False(t, h.span(t, "attempt").Parent.IsValid(), text)
	}
}

// Only what was begun here is ended here.
func TestTheHostsSpanIsNotEnded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx, span := h.provider.Tracer("host").Start(t.Context(), "the host's")
	h.telemetry.Published(ctx, webhook.Publication{})
	h.telemetry.AttemptEnded(ctx, webhook.AttemptEnded{})
	require.True(t, span.IsRecording())
	require.Empty(t, h.spans.GetSpans())
}

// The line that the log has of an attempt is written within its span.
func TestTheLogsLineIsWithinTheSpan(t *testing.T) {
	t.Parallel()
	log := &spanOfLog{Handler: slog.DiscardHandler}
	h := newHost(t, func(cfg *webhook.DispatcherConfig) { cfg.Logger = slog.New(always{log}) })
	h.publish(t.Context(), t)
	webhooktest.Drain(t, h.dispatcher, h.clock)
	require.Equal(t, []trace.SpanContext{h.span(t, "attempt message_sent").SpanContext}, log.spans)
}

// always is enabled.
type always struct{ *spanOfLog }

func (always) Enabled(context.Context, slog.Level) bool { return true }

// The global providers are the default; without an SDK they do nothing.
func TestWithoutAnSDKNothingIsStored(t *testing.T) {
	t.Parallel()
	tel, err := otelwebhook.New(otelwebhook.Config{})
	require.NoError(t, err)
	ctx, text := tel.PublishStarted(t.Context(), webhook.PublishStarted{Events: 1})
	require.Empty(t, text)
	tel.Published(ctx, webhook.Publication{Results: []webhook.PublishResult{{}}})
	ctx = tel.AttemptStarted(ctx, webhook.AttemptStarted{})
	tel.AttemptEnded(ctx, webhook.AttemptEnded{})
}

// What is published may be anything: of what cannot be valid a span has nothing, and
// of a payload that does not encode no piece.
func TestSpansOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, edit := range []func(*webhook.Event){
		func(e *webhook.Event) { e.Type = "\xff" },
		func(e *webhook.Event) { e.Type = webhook.EventType(strings.Repeat("x", 1<<20)) },
		func(e *webhook.Event) { e.OrganizationID = "a\xff" },
		func(e *webhook.Event) { e.OrganizationID = strings.Repeat("x", 1<<20) },
		func(e *webhook.Event) { e.Data = json.Number(payloadPart) },
	} {
		h.spans.Reset()
		e := message()
		edit(&e)
		_, err := h.publisher.Publish(t.Context(), e)
		require.Error(t, err)
		spans := h.spans.GetSpans()
		require.Len(t, spans, 1)
		text := fmt.Sprint(spans[0].Name, " ", attrs(spans[0]), " ", spans[0].Status.Description)
		require.True(t, utf8.ValidString(text))
		require.Less(t, len(text), 500)
		require.NotContains(t, text, payloadPart)
		require.Contains(t, spans[0].Status.Description, "refused: ")
	}
}
