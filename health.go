package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// DeactivationReason is a rule by which the library makes a webhook inactive.
type DeactivationReason string

// The rules. Both are off unless the host's DispatcherConfig turns them on.
const (
	DeactivatedFailing DeactivationReason = "failing" // nothing but failures for DispatcherConfig.DeactivateAfter
	DeactivatedGone    DeactivationReason = "gone"    // the endpoint answered 410 Gone, see DispatcherConfig.DeactivateOnGone
)

// DeactivatedBy is the UpdatedBy of a webhook that was made inactive by a rule.
const DeactivatedBy = "posthorn"

// Windows of [Health].
const (
	HealthWindow  = 24 * time.Hour      // of the success rate
	HealthHistory = 30 * 24 * time.Hour // of everything else
)

// Health is how a webhook does, by its hourly counters. Interrupted attempts say
// nothing about the receiver and count neither as success nor as failure.
type Health struct {
	// Since is where the window of the next three begins: an hour's beginning, at
	// least HealthWindow ago.
	Since                          time.Time
	Succeeded, Failed, Interrupted int

	// ConsecutiveFailures is how many attempts have failed since the last that
	// succeeded. It, LastSuccessAt and FailingSince look back over HealthHistory.
	ConsecutiveFailures int

	// LastSuccessAt is when the last attempt that succeeded started; zero if none
	// is known.
	LastSuccessAt time.Time

	// FailingSince is about when the first of the consecutive failures was: no
	// later, and less than an hour earlier. It is zero if there are none.
	FailingSince time.Time

	Status         Status
	StatusSince    time.Time          // since when the webhook is that
	DeactivatedFor DeactivationReason // if it is inactive by a rule
}

// SuccessRate returns the part of the window's attempts that succeeded, from 0 to
// 1, and false if there were none.
func (h *Health) SuccessRate() (rate float64, ok bool) {
	n := h.Succeeded + h.Failed
	if n == 0 {
		return 0, false
	}
	return float64(h.Succeeded) / float64(n), true
}

// HealthSince returns from which hour on [HealthOf] looks at counters.
func HealthSince(now time.Time) time.Time {
	return now.UTC().Add(-HealthHistory).Truncate(time.Hour)
}

// HealthOf says how a webhook does, by its counters since [HealthSince], oldest
// first as Manager.Counters returns them. [Manager.Health] reads both.
func HealthOf(w *Webhook, counters []Counter, now time.Time) Health {
	h := Health{
		Since: now.UTC().Add(-HealthWindow).Truncate(time.Hour), Status: w.Status, StatusSince: w.StatusSince, DeactivatedFor: w.DeactivatedFor,
	}
	for _, c := range counters {
		if !c.Hour.Before(h.Since) {
			h.Succeeded += c.Succeeded
			h.Failed += c.Failed
			h.Interrupted += c.Interrupted
		}
		if c.Succeeded > 0 {
			h.LastSuccessAt = c.LastSuccessAt
			h.ConsecutiveFailures, h.FailingSince = 0, time.Time{}
		}
		if c.FailedSince > 0 && h.ConsecutiveFailures == 0 {
			h.FailingSince = c.Hour
			for _, t := range []time.Time{h.LastSuccessAt, w.CreatedAt} {
				if t.After(h.FailingSince) {
					h.FailingSince = t
				}
			}
		}
		h.ConsecutiveFailures += c.FailedSince
	}
	return h
}

// Health says how a webhook does: its success rate, how often it has failed in a
// row, and whether a rule has made it inactive. It returns ErrNotFound if there is
// no such webhook.
func (m *Manager) Health(ctx context.Context, a Actor, webhookID uuid.UUID) (Health, error) {
	w, err := m.Webhook(ctx, a, webhookID)
	if err != nil {
		return Health{}, err
	}
	now := m.now()
	cs, err := m.Counters(ctx, a, CounterQuery{WebhookID: webhookID, Since: HealthSince(now)})
	if err != nil {
		return Health{}, err
	}
	return HealthOf(&w, cs, now), nil
}

// FailingRule is the rule of DispatcherConfig.DeactivateAfter, for stores: a
// webhook is failing if, since the last attempt that succeeded and since it became
// active,
//
//   - an attempt failed in an hour that had ended at Before or earlier,
//   - none has succeeded, and
//   - attempts failed in at least two of the hours since Recent, so that one
//     failure after a long silence is not enough.
//
// Counters are hourly. Where an hour is of both sides of a limit, the rule waits.
type FailingRule struct {
	Before time.Time
	Recent time.Time
}

// failingRule returns the rule for failures that have gone on for the given time.
func failingRule(now time.Time, after time.Duration) FailingRule {
	return FailingRule{Before: now.Add(-after), Recent: now.Add(-24 * time.Hour).Truncate(time.Hour)}
}

// Failing reports whether the rule applies to a webhook that has been active since
// then, by its counters since that time, oldest first, and since when it has been failing.
func (r FailingRule) Failing(activeSince time.Time, counters []Counter) (since time.Time, failing bool) {
	recent := 0
	for _, c := range counters {
		switch {
		case c.Hour.Before(activeSince): // in part, at least
			continue
		case c.Succeeded > 0:
			since, recent = time.Time{}, 0
		}
		if c.FailedSince == 0 {
			continue
		}
		if since.IsZero() {
			since = c.Hour
			if c.LastSuccessAt.After(since) {
				since = c.LastSuccessAt
			}
		}
		if !c.Hour.Before(r.Recent) {
			recent++
		}
	}
	first := since.Truncate(time.Hour)
	return since, !since.IsZero() && recent >= 2 && !first.Add(time.Hour).After(r.Before)
}

// Applies reports whether a webhook is to be deactivated, and since when it has
// been failing. Of DeactivatedFailing it asks for the counters since the webhook
// became active, oldest first.
func (p *DeactivateParams) Applies(w *Webhook, counters func(since time.Time) ([]Counter, error)) (failingSince time.Time, applies bool, err error) {
	switch {
	case w.Status != StatusActive:
		return time.Time{}, false, nil
	case p.Reason == DeactivatedGone:
		return time.Time{}, w.EndpointURL == p.EndpointURL && !p.StartedAt.Before(w.StatusSince), nil
	case p.Reason != DeactivatedFailing:
		return time.Time{}, false, fmt.Errorf("webhook: deactivate: %q is no reason", p.Reason)
	}
	cs, err := counters(w.StatusSince)
	if err != nil {
		return time.Time{}, false, err
	}
	failingSince, applies = p.Rule.Failing(w.StatusSince, cs)
	return failingSince, applies, nil
}
