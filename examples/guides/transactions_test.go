package guides_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

func TestPublishingTwice(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	publisher, err := webhook.NewPublisher(memstore.New(), webhook.PublisherConfig{})
	require.NoError(t, err)
	messageID, text := "4711", "Hello"

	event := webhook.Event{
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room,
		IdempotencyKey: "message-" + messageID,
		Data:           map[string]string{"text": text},
	}
	first, err := publisher.Publish(ctx, event)
	require.NoError(t, err)
	again, err := publisher.Publish(ctx, event) // a retried request, a message of a queue that came twice
	require.NoError(t, err)
	require.True(t, again.Duplicate)
	require.Equal(t, first.EventID, again.EventID)
}

func TestPublishingMany(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	publisher, err := webhook.NewPublisher(memstore.New(), webhook.PublisherConfig{})
	require.NoError(t, err)
	good := webhook.Event{OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room}
	events := []webhook.Event{good, {Type: "no_such_type"}, good}
	var refused []int

	results, err := publisher.PublishMany(ctx, events)
	if err != nil {
		t.Fatal(err) // the store: nobody knows what was stored; publish again, with idempotency keys
	}
	for i, r := range results {
		if _, ok := errors.AsType[webhook.ValidationErrors](r.Err); ok {
			refused = append(refused, i) // only this one
		}
	}

	require.Equal(t, []int{1}, refused)
}
