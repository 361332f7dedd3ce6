package webhookmock_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/mock/gomock"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhookmock"
)

// dispatcherStore is put together from the mocks of its roles.
type dispatcherStore struct {
	*webhookmock.MockDeliveryQueue
	*webhookmock.MockNoticeQueue
	*webhookmock.MockDeactivator
	*webhookmock.MockPurger
	*webhookmock.MockOverseer
}

var _ webhook.DispatcherStore = dispatcherStore{}

// A claim that was made is sent, and an answer that cannot be recorded is an
// error of the round.
func TestAFaultAtACertainCall(t *testing.T) {
	t.Parallel()
	ctrl := gomock.NewController(t)
	store := dispatcherStore{
		webhookmock.NewMockDeliveryQueue(ctrl), webhookmock.NewMockNoticeQueue(ctrl), webhookmock.NewMockDeactivator(ctrl),
		webhookmock.NewMockPurger(ctrl), webhookmock.NewMockOverseer(ctrl),
	}
	doer, clock := webhookmock.NewMockHTTPDoer(ctrl), webhookmock.NewMockClock(ctrl)
	secret, err := webhook.NewSecret()
	require.NoError(t, err)
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	full := errors.New("disk full")
	claim := webhook.Claim{
		DeliveryID: uuid.New(), WebhookID: uuid.New(), OrganizationID: "acme", Attempt: 1, Token: uuid.New(),
		EndpointURL: "https://example.com/", Secret: secret, Payload: []byte("{}"),
	}

	clock.EXPECT().Now().Return(now).AnyTimes()
	store.MockDeliveryQueue.EXPECT().Settle(gomock.Any(), gomock.Any()).Return(webhook.SettleResult{}, nil)
	store.MockDeliveryQueue.EXPECT().Sweep(gomock.Any(), gomock.Any()).Return(webhook.SweepResult{}, nil)
	store.MockDeliveryQueue.EXPECT().Claim(gomock.Any(), gomock.Any()).Return(webhook.ClaimResult{Claims: []webhook.Claim{claim}}, nil)
	doer.EXPECT().Do(gomock.Any()).Return(&http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil)
	store.MockDeliveryQueue.EXPECT().Finish(gomock.Any(), gomock.Any()).DoAndReturn(
		func(_ context.Context, p webhook.FinishParams) (webhook.FinishResult, error) {
			require.Len(t, p.Outcomes, 1)
			require.Equal(t, claim.Token, p.Outcomes[0].Token)
			require.Equal(t, webhook.DeliverySucceeded, p.Outcomes[0].State)
			return webhook.FinishResult{}, full
		})

	d, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Clock: clock, HTTPDoer: doer})
	require.NoError(t, err)
	n, err := d.RunOnce(t.Context())
	require.ErrorIs(t, err, full)
	require.Equal(t, 1, n)
}
