package webhook_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

func TestSentinelsAreDistinct(t *testing.T) {
	t.Parallel()
	sentinels := []error{
		webhook.ErrNotFound, webhook.ErrForbidden, webhook.ErrConflict, webhook.ErrLeaseLost, webhook.ErrInvalidCursor,
		webhook.ErrInvalidSignature, webhook.ErrDestinationNotAllowed, webhook.ErrStillInFlight, webhook.ErrUnavailable,
	}
	texts := map[string]bool{}
	for i, a := range sentinels {
		texts[a.Error()] = true
		require.Regexp(t, "^webhook: [a-z ]+$", a.Error())
		for j, b := range sentinels {
			require.Equal(t, i == j, errors.Is(a, b), "%v, %v", a, b)
		}
	}
	require.Len(t, texts, len(sentinels))
}

func TestValidationErrorsAreFound(t *testing.T) {
	t.Parallel()
	faults := webhook.ValidationErrors{{Field: "name", Reason: "is required"}, {Field: "endpoint_url", Reason: "is too long"}}
	for name, err := range map[string]error{
		"Plain":   faults,
		"Wrapped": fmt.Errorf("create: %w", faults),
		"Joined":  fmt.Errorf("%w: %w", webhook.ErrDestinationNotAllowed, faults),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all webhook.ValidationErrors
			require.ErrorAs(t, err, &all)
			require.Equal(t, faults, all)
			var first webhook.ValidationError
			require.ErrorAs(t, err, &first)
			require.Equal(t, faults[0], first)
			require.ErrorIs(t, err, faults[1])
			require.NotErrorIs(t, err, webhook.ValidationError{Field: "name", Reason: "is too long"})
		})
	}
}

func TestValidationErrorTexts(t *testing.T) {
	t.Parallel()
	one := webhook.ValidationError{Field: "name", Reason: "is required"}
	require.EqualError(t, one, "webhook: name: is required")
	require.EqualError(t, webhook.ValidationErrors{one}, "webhook: invalid input: name: is required")
	require.EqualError(t, webhook.ValidationErrors{one, {Field: "status", Reason: "must be new"}},
		"webhook: invalid input: name: is required; status: must be new")
}

func TestUnwrappedValidationErrorsAreACopy(t *testing.T) {
	t.Parallel()
	faults := webhook.ValidationErrors{{Field: "name", Reason: "is required"}}
	faults.Unwrap()[0] = webhook.ErrConflict
	require.Equal(t, []error{webhook.ValidationError{Field: "name", Reason: "is required"}}, faults.Unwrap())
}
