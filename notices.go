package webhook

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const (
	noticeLease    = 30 * time.Second // beyond NotifyTimeout
	noticeRetry    = time.Minute      // after the first failure; doubled with each further one
	maxNoticeRetry = time.Hour

	// maxNoticeUnknown is how often it may be unknown whether a notice was sent,
	// and it is sent again all the same.
	maxNoticeUnknown = 1
)

// noticeLoop is Run's: it passes on notices, apart from deliveries.
func (d *Dispatcher) noticeLoop(ctx context.Context) {
	if d.cfg.Notifier == nil {
		return
	}
	retry := storeBackOff()
	for ctx.Err() == nil {
		next, err := d.passOnNotices(ctx, false)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			d.health.failed(d.clock, err)
			wait := retry.NextBackOff()
			d.log.Warn("webhook: the store failed with notices; trying again", "error", err, "wait", wait)
			sleep(ctx, wait)
			continue
		}
		retry.Reset()
		wait := listenedPoll // notices wait for minutes anyway
		if !next.IsZero() {
			wait = max(0, min(wait, next.Sub(d.clock.Now())))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-d.told:
		}
		timer.Stop()
	}
}

// passOnNotices gives due notices to the notifier, one after the other, and
// returns when the next one is due. If untilFailure is set, it leaves the rest
// for another time as soon as one could not be sent.
func (d *Dispatcher) passOnNotices(ctx context.Context, untilFailure bool) (next time.Time, err error) {
	if d.cfg.Notifier == nil {
		return time.Time{}, nil
	}
	d.noticeMu.Lock()
	defer d.noticeMu.Unlock()
	for limit := 1; ctx.Err() == nil; {
		if d.stuck != nil {
			select {
			case <-d.stuck:
				d.stuck = nil
			default: // the notifier has not come back from a call that was given up
				return d.clock.Now().Add(noticeRetry), nil
			}
		}
		r, err := d.claimNotices(ctx, limit)
		if err != nil {
			return time.Time{}, fmt.Errorf("claim notices: %w", err)
		}
		if len(r.Claims) == 0 {
			return r.NextDue, nil
		}
		sent, err := d.passOn(ctx, r.Claims[0])
		if err != nil {
			return time.Time{}, err
		}
		if untilFailure && !sent {
			limit = 0 // only look when the next one is due
		}
	}
	return time.Time{}, nil
}

func (d *Dispatcher) claimNotices(ctx context.Context, limit int) (ClaimNoticesResult, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return d.store.ClaimNotices(ctx, ClaimNoticesParams{
		Now: storedTime(d.clock.Now()), LeaseFor: d.cfg.NotifyTimeout + noticeLease, Limit: limit,
	})
}

// passOn gives one notice to the notifier and records whether it was sent.
func (d *Dispatcher) passOn(ctx context.Context, c NoticeClaim) (sent bool, err error) {
	done := d.tell(ctx, c)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := d.store.FinishNotice(ctx, done); err != nil && !errors.Is(err, ErrLeaseLost) {
		return done.Sent, fmt.Errorf("finish notice: %w", err)
	}
	return done.Sent, nil
}

// tell calls the notifier, unless that has been done often enough, and says what
// became of the notice.
func (d *Dispatcher) tell(ctx context.Context, c NoticeClaim) FinishNoticeParams {
	log := d.log.With("webhook_id", c.Notice.WebhookID, "notice_id", c.Notice.ID, "attempt", c.Attempt)
	done := FinishNoticeParams{WebhookID: c.Notice.WebhookID, Token: c.Token, Sent: true}
	if c.Unknown > maxNoticeUnknown {
		done.Now = storedTime(d.clock.Now())
		log.Error("webhook: processes died while they sent a notice; it may have arrived, and is not tried again", "unknown", c.Unknown)
		return done
	}
	began := time.Now()
	err := d.notify(ctx, c.Notice)
	d.tracer.NoticePassedOn(ctx, NoticeCall{Notice: c.Notice, Attempt: c.Attempt, Duration: time.Since(began), Err: err})
	done.Now = storedTime(d.clock.Now())
	unknown := errors.Is(err, ErrOutcomeUnknown)
	switch {
	case err == nil:
	case unknown && c.Unknown >= maxNoticeUnknown:
		log.Error("webhook: a notice may have arrived; it is not tried again", "error", err)
	default:
		done.Sent, done.Unknown = false, unknown
		done.RetryAt = done.Now.Add(min(maxNoticeRetry, noticeRetry<<min(c.Attempt-1, 10)))
		log.Error("webhook: a notice could not be sent; it will be tried again", "error", err, "unknown", unknown, "retry_at", done.RetryAt)
	}
	return done
}

// notify calls the notifier, waits no longer than it may take, and turns a
// panic into an error.
func (d *Dispatcher) notify(ctx context.Context, n Notice) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.NotifyTimeout)
	defer cancel()
	err := errors.New("the notifier ended its goroutine")
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the notifier panicked: %v\n%s", p, debug.Stack())
			}
		}()
		err = d.cfg.Notifier.Notify(ctx, n)
	}()
	select {
	case <-returned:
		return err
	case <-ctx.Done():
	}
	if waitFor(returned, time.Second) { // it may be returning just now
		return err
	}
	d.stuck = returned
	return fmt.Errorf("the notifier did not return: %w", ctx.Err())
}
