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
)

// noticeLoop is Run's: it passes on notices, apart from deliveries.
func (d *Dispatcher) noticeLoop(ctx context.Context) {
	if d.cfg.Notifier == nil {
		return
	}
	retry := storeBackOff()
	for ctx.Err() == nil {
		next, err := d.passOnNotices(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
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
// returns when the next one is due.
func (d *Dispatcher) passOnNotices(ctx context.Context) (next time.Time, err error) {
	if d.cfg.Notifier == nil {
		return time.Time{}, nil
	}
	d.noticeMu.Lock()
	defer d.noticeMu.Unlock()
	for ctx.Err() == nil {
		if d.stuck != nil {
			select {
			case <-d.stuck:
				d.stuck = nil
			default: // the notifier has not come back from a call that was given up
				return d.clock.Now().Add(noticeRetry), nil
			}
		}
		r, err := d.store.ClaimNotices(ctx, ClaimNoticesParams{
			Now: storedTime(d.clock.Now()), LeaseFor: d.cfg.NotifyTimeout + noticeLease, Limit: 1,
		})
		if err != nil {
			return time.Time{}, fmt.Errorf("claim notices: %w", err)
		}
		if len(r.Claims) == 0 {
			return r.NextDue, nil
		}
		if err := d.passOn(ctx, r.Claims[0]); err != nil {
			return time.Time{}, err
		}
	}
	return time.Time{}, nil
}

// passOn gives one notice to the notifier and records whether it was sent.
func (d *Dispatcher) passOn(ctx context.Context, c NoticeClaim) error {
	began := time.Now()
	err := d.notify(ctx, c.Notice)
	d.tracer.NoticePassedOn(ctx, NoticeCall{Notice: c.Notice, Attempt: c.Attempt, Duration: time.Since(began), Err: err})
	now := storedTime(d.clock.Now())
	done := FinishNoticeParams{Now: now, WebhookID: c.Notice.WebhookID, Token: c.Token, Sent: err == nil}
	if err != nil {
		done.RetryAt = now.Add(min(maxNoticeRetry, noticeRetry<<min(c.Attempt-1, 10)))
		d.log.Error("webhook: a notice could not be sent; it will be tried again",
			"webhook_id", c.Notice.WebhookID, "notice_id", c.Notice.ID, "attempt", c.Attempt, "error", err, "retry_at", done.RetryAt)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := d.store.FinishNotice(ctx, done); err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("finish notice: %w", err)
	}
	return nil
}

// notify calls the notifier, waits no longer than it may take, and turns a
// panic into an error.
func (d *Dispatcher) notify(ctx context.Context, n Notice) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.NotifyTimeout)
	defer cancel()
	var err error
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
