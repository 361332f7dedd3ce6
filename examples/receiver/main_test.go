package main

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

const payload = `{"id":"0199","event_type":"message_sent","subject":{"type":"room","id":"1"},` +
	`"timestamp":"2026-01-01T12:00:00Z","data":{"text":"Hello"}}`

func TestReceiver(t *testing.T) {
	t.Parallel()
	old, current, foreign := newSecret(t), newSecret(t), newSecret(t)
	var out bytes.Buffer // written under the receiver's lock, read between requests
	receiver, err := newReceiver(old.Reveal()+" "+current.Reveal(), &out)
	require.NoError(t, err)
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)

	for _, tc := range []struct {
		name   string
		secret webhook.Secret
		signed string // the body that is signed
		sent   string // the body that is sent
		age    time.Duration
		want   int
	}{
		{"signed", current, payload, payload, 0, http.StatusNoContent},
		{"signed by the secret that is on its way out", old, payload, payload, 0, http.StatusNoContent},
		{"signed by a secret of somebody else", foreign, payload, payload, 0, http.StatusUnauthorized},
		{"tampered with", current, payload, strings.Replace(payload, "Hello", "Howdy", 1), 0, http.StatusUnauthorized},
		{"too old", current, payload, payload, time.Hour, http.StatusUnauthorized},
		{"too large", current, strings.Repeat(" ", 1<<20+1), strings.Repeat(" ", 1<<20+1), 0, http.StatusRequestEntityTooLarge},
		{"signed, but not an event", current, "hello", "hello", 0, http.StatusBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out.Reset()
			id := uuid.NewString()
			signer, err := webhook.NewSigner(tc.secret)
			require.NoError(t, err)
			h := http.Header{}
			signer.Sign(h, id, time.Now().Add(-tc.age), []byte(tc.signed))

			require.Equal(t, tc.want, post(t, server.URL, h, tc.sent))
			if tc.want != http.StatusNoContent {
				require.Empty(t, out.String())
				return
			}
			require.Equal(t, id+` message_sent {"text":"Hello"}`+"\n", out.String())

			out.Reset()
			require.Equal(t, http.StatusNoContent, post(t, server.URL, h, tc.sent), "a repetition is a success, too")
			require.Empty(t, out.String(), "but nothing is done twice")
		})
	}
}

func TestUnsignedRequestsAreRefused(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	receiver, err := newReceiver(newSecret(t).Reveal(), &out)
	require.NoError(t, err)
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)

	require.Equal(t, http.StatusUnauthorized, post(t, server.URL, nil, payload))
	require.Empty(t, out.String())
}

func TestListenRefusesWhatIsIncomplete(t *testing.T) {
	t.Parallel()
	secret := newSecret(t).Reveal()
	none := filepath.Join(t.TempDir(), "none.pem")
	var invalid webhook.ValidationErrors

	require.ErrorAs(t, listen("localhost:0", "", "", ""), &invalid, "no secret")
	require.Error(t, listen("localhost:0", none, "", secret), "no key")
	require.Error(t, listen("localhost:0", "", none, secret), "no certificate")
	require.Error(t, listen("localhost:0", none, none, secret), "no such files")
}

func newSecret(t *testing.T) webhook.Secret {
	t.Helper()
	secret, err := webhook.NewSecret()
	require.NoError(t, err)
	return secret
}

// post returns the status of the answer.
func post(t *testing.T, url string, h http.Header, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	maps.Copy(req.Header, h)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}
