package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// annotated is a store whose errors begin with the method that returned them. A
// failing clause has called many, and its author reads which one said it. The
// store is not embedded: a method that is added to the contract needs a line
// here before this compiles.
type annotated struct{ store webhook.Store }

var _ webhook.Store = annotated{}

// by puts the method's name before an error, which errors.Is still finds.
func by(method string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the store's %s: %w", method, err)
}

func (a annotated) InsertEvents(ctx context.Context, p webhook.InsertParams) (webhook.InsertResult, error) {
	got, err := a.store.InsertEvents(ctx, p)
	return got, by("InsertEvents", err)
}

func (a annotated) CreateWebhook(ctx context.Context, p webhook.CreateWebhookParams) error {
	return by("CreateWebhook", a.store.CreateWebhook(ctx, p))
}

func (a annotated) UpdateWebhook(ctx context.Context, p webhook.UpdateWebhookParams) (webhook.Webhook, error) {
	got, err := a.store.UpdateWebhook(ctx, p)
	return got, by("UpdateWebhook", err)
}

func (a annotated) DeleteWebhook(ctx context.Context, p webhook.DeleteWebhookParams) error {
	return by("DeleteWebhook", a.store.DeleteWebhook(ctx, p))
}

func (a annotated) Webhook(ctx context.Context, s webhook.Scope, id uuid.UUID) (webhook.Webhook, error) {
	got, err := a.store.Webhook(ctx, s, id)
	return got, by("Webhook", err)
}

func (a annotated) Webhooks(ctx context.Context, s webhook.Scope, q webhook.WebhookQuery) (webhook.Page[webhook.Webhook], error) {
	got, err := a.store.Webhooks(ctx, s, q)
	return got, by("Webhooks", err)
}

func (a annotated) Leased(ctx context.Context, s webhook.Scope, id uuid.UUID, now time.Time) (int, error) {
	got, err := a.store.Leased(ctx, s, id, now)
	return got, by("Leased", err)
}

func (a annotated) Event(ctx context.Context, s webhook.Scope, id uuid.UUID) (webhook.EventRecord, error) {
	got, err := a.store.Event(ctx, s, id)
	return got, by("Event", err)
}

func (a annotated) Delivery(ctx context.Context, s webhook.Scope, id uuid.UUID) (webhook.Delivery, error) {
	got, err := a.store.Delivery(ctx, s, id)
	return got, by("Delivery", err)
}

func (a annotated) Deliveries(ctx context.Context, s webhook.Scope, q webhook.DeliveryQuery) (webhook.Page[webhook.Delivery], error) {
	got, err := a.store.Deliveries(ctx, s, q)
	return got, by("Deliveries", err)
}

func (a annotated) Attempts(ctx context.Context, s webhook.Scope, q webhook.AttemptQuery) (webhook.Page[webhook.Attempt], error) {
	got, err := a.store.Attempts(ctx, s, q)
	return got, by("Attempts", err)
}

func (a annotated) Counters(ctx context.Context, s webhook.Scope, q webhook.CounterQuery) ([]webhook.Counter, error) {
	got, err := a.store.Counters(ctx, s, q)
	return got, by("Counters", err)
}

func (a annotated) Redeliver(ctx context.Context, p webhook.RedeliverParams) (webhook.Delivery, error) {
	got, err := a.store.Redeliver(ctx, p)
	return got, by("Redeliver", err)
}

func (a annotated) CancelDelivery(ctx context.Context, p webhook.CancelParams) error {
	return by("CancelDelivery", a.store.CancelDelivery(ctx, p))
}

func (a annotated) Recover(ctx context.Context, p webhook.RecoverParams) (webhook.RecoverResult, error) {
	got, err := a.store.Recover(ctx, p)
	return got, by("Recover", err)
}

func (a annotated) Settle(ctx context.Context, p webhook.SettleParams) (webhook.SettleResult, error) {
	got, err := a.store.Settle(ctx, p)
	return got, by("Settle", err)
}

func (a annotated) Sweep(ctx context.Context, p webhook.SweepParams) (webhook.SweepResult, error) {
	got, err := a.store.Sweep(ctx, p)
	return got, by("Sweep", err)
}

func (a annotated) Claim(ctx context.Context, p webhook.ClaimParams) (webhook.ClaimResult, error) {
	got, err := a.store.Claim(ctx, p)
	return got, by("Claim", err)
}

func (a annotated) Finish(ctx context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
	got, err := a.store.Finish(ctx, p)
	return got, by("Finish", err)
}

func (a annotated) Release(ctx context.Context, p webhook.ReleaseParams) (webhook.ReleaseResult, error) {
	got, err := a.store.Release(ctx, p)
	return got, by("Release", err)
}

func (a annotated) ClaimNotices(ctx context.Context, p webhook.ClaimNoticesParams) (webhook.ClaimNoticesResult, error) {
	got, err := a.store.ClaimNotices(ctx, p)
	return got, by("ClaimNotices", err)
}

func (a annotated) FinishNotice(ctx context.Context, p webhook.FinishNoticeParams) error {
	return by("FinishNotice", a.store.FinishNotice(ctx, p))
}

func (a annotated) FailingWebhooks(ctx context.Context, p webhook.FailingParams) (webhook.FailingResult, error) {
	got, err := a.store.FailingWebhooks(ctx, p)
	return got, by("FailingWebhooks", err)
}

func (a annotated) Deactivate(ctx context.Context, p webhook.DeactivateParams) (webhook.DeactivateResult, error) {
	got, err := a.store.Deactivate(ctx, p)
	return got, by("Deactivate", err)
}

func (a annotated) Purge(ctx context.Context, p webhook.PurgeParams) (webhook.PurgeResult, error) {
	got, err := a.store.Purge(ctx, p)
	return got, by("Purge", err)
}

func (a annotated) Overview(ctx context.Context, p webhook.OverviewParams) (webhook.Overview, error) {
	got, err := a.store.Overview(ctx, p)
	return got, by("Overview", err)
}

func (a annotated) SetPaused(ctx context.Context, p webhook.SetPausedParams) error {
	return by("SetPaused", a.store.SetPaused(ctx, p))
}
