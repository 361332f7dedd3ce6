package webhook

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// NoticeKind says what a notice is about.
type NoticeKind string

// The kinds of notices. A notifier passes on kinds that it does not know, too:
// more may come.
const (
	NoticeExhausted   NoticeKind = "exhausted"   // deliveries have failed for good
	NoticeDeactivated NoticeKind = "deactivated" // a webhook was made inactive by a rule, see Reason
)

// Grouping of notices: many deliveries of one webhook that fail together are
// one message, not one each.
const (
	NoticeWindow   = 10 * time.Minute // from the first exhausted delivery to its notice
	NoticeInterval = 24 * time.Hour   // between notices of one webhook, until one of its attempts succeeds
)

// NoticeDue is the grouping rule, for stores: when a notice goes out for a
// delivery that was exhausted at the given time, if the webhook's last notice
// went out at lastSent. A zero lastSent means that there was none, or that an
// attempt has succeeded since.
func NoticeDue(exhausted, lastSent time.Time) time.Time {
	due := exhausted.Add(NoticeWindow)
	if next := lastSent.Add(NoticeInterval); !lastSent.IsZero() && next.After(due) {
		due = next
	}
	return storedTime(due)
}

// Notice is a message to the people who look after a webhook. It holds no
// secret, no payload, and of the endpoint only the host.
type Notice struct {
	// ID is the same each time this notice is tried, so that a mail can carry
	// a deterministic Message-ID.
	ID uuid.UUID

	Kind           NoticeKind
	OrganizationID string
	WebhookID      uuid.UUID
	WebhookName    string
	EndpointHost   string

	// Of NoticeDeactivated: the rule, when it was applied, and since when, to the
	// hour, nothing but failures is known of; that is zero for other rules than
	// DeactivatedFailing.
	Reason        DeactivationReason
	DeactivatedAt time.Time
	FailingSince  time.Time

	Deliveries int               // exhausted since the last notice; may be 0 if the webhook was deactivated
	EventTypes map[EventType]int // the same by event type
	FirstAt    time.Time         // when the first of them was exhausted; zero if there are none
	LastAt     time.Time         // and the last

	// Of the last exhausted delivery's last attempt.
	LastStatusCode int
	LastErrorClass ErrorClass
	LastError      string
}

// Notifier tells people. Notify is called by one goroutine at a time of each
// dispatcher, never on the path of deliveries. An error, a panic, or not
// returning within DispatcherConfig.NotifyTimeout means that the notice is
// tried again later, under the same ID.
//
// So a notice may arrive twice. But one whose outcome is unknown is tried at most
// once more: if an error is ErrOutcomeUnknown (errors.Is), or the process dies
// during a call, and that happens to the same notice again, it counts as sent.
type Notifier interface {
	Notify(ctx context.Context, n Notice) error
}

// LogNotifier is a [Notifier] that writes each notice as one Warn line, for
// hosts whose people watch the log. It never fails.
type LogNotifier struct {
	log *slog.Logger
}

// NewLogNotifier returns a notifier that writes to l, or nowhere if l is nil.
func NewLogNotifier(l *slog.Logger) *LogNotifier { return &LogNotifier{log: loggerOrSilent(l)} }

// Notify writes the line.
func (n *LogNotifier) Notify(ctx context.Context, x Notice) error {
	attrs := []slog.Attr{
		slog.String("kind", string(x.Kind)), slog.String("notice_id", x.ID.String()),
		slog.String("organization_id", x.OrganizationID), slog.String("webhook_id", x.WebhookID.String()),
		slog.String("webhook_name", x.WebhookName), slog.String("endpoint_host", x.EndpointHost),
	}
	if x.Deliveries == 0 {
		attrs = append(attrs, slog.Int("deliveries", 0))
	} else {
		attrs = append(attrs,
			slog.Int("deliveries", x.Deliveries), slog.Any("event_types", x.EventTypes),
			slog.Time("first_at", x.FirstAt), slog.Time("last_at", x.LastAt),
			slog.Int("last_status_code", x.LastStatusCode), slog.String("last_error_class", string(x.LastErrorClass)),
			slog.String("last_error", x.LastError),
		)
	}
	if x.Kind != NoticeDeactivated {
		n.log.LogAttrs(ctx, slog.LevelWarn, "webhook: deliveries have failed for good", attrs...)
		return nil
	}
	attrs = append(attrs, slog.String("reason", string(x.Reason)), slog.Time("deactivated_at", x.DeactivatedAt))
	if !x.FailingSince.IsZero() {
		attrs = append(attrs, slog.Time("failing_since", x.FailingSince))
	}
	n.log.LogAttrs(ctx, slog.LevelWarn, "webhook: a webhook was made inactive", attrs...)
	return nil
}
