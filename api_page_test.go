package webhook_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// mountAPI is what docs/api.md shows first.
func mountAPI(mux *http.ServeMux, mgr *webhook.Manager, tokens map[string]webhook.Actor) error {
	actorFromToken := func(r *http.Request) (webhook.Actor, error) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		actor, known := tokens[token] // yours: by a hash, from a table
		if !ok || !known {
			return webhook.Actor{}, errors.New("no such token") // answered with 401
		}
		return actor, nil
	}
	api, err := httpapi.New(mgr, httpapi.Config{Actor: actorFromToken})
	if err != nil {
		return err
	}
	mux.Handle("/v1/", api)
	return nil
}

// command is one of the page's console, with what it says that comes back.
type command struct{ line, output string }

// consoleOf returns the commands of docs/api.md's only console block.
func consoleOf(t *testing.T) (list []command) {
	t.Helper()
	blocks := blocksIn(t, "docs/api.md", "console")
	require.Len(t, blocks, 1)
	for _, part := range strings.Split("\n"+blocks[0], "\n$ ")[1:] {
		line, rest, _ := strings.Cut(part, "\n")
		for strings.HasSuffix(line, `\`) || strings.Count(line, "'")%2 == 1 {
			var more string
			more, rest, _ = strings.Cut(rest, "\n")
			line += "\n" + more
		}
		list = append(list, command{line, strings.TrimSpace(rest)})
	}
	return list
}

// TestCurlRoundTrip runs the commands of docs/api.md as they stand there, by a
// shell, against a server over a socket. Each answers what the page says, but for
// ids, times, durations and the secret. ID is what the page says: the first answer's id.
func TestCurlRoundTrip(t *testing.T) {
	t.Parallel()
	shell := interpreter(t, "sh")
	interpreter(t, "curl")

	clock := &webhooktest.Clock{}
	store := memstore.New()
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Clock: clock, HTTPDoer: recorder(func(*http.Request) {})})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: disp})
	require.NoError(t, err)
	mux := http.NewServeMux()
	require.NoError(t, mountAPI(mux, mgr, map[string]webhook.Actor{"s3cret": {ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	var id string
	var ran []string
	for _, c := range consoleOf(t) {
		cmd := exec.CommandContext(t.Context(), shell, "-c", c.line)
		cmd.Env = append(os.Environ(), "API="+server.URL+"/v1/organizations/acme", "TOKEN=s3cret", "ID="+id, "no_proxy=*")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		require.NoError(t, err, c.line)
		requireAsDocumented(t, c, strings.TrimSpace(string(out)))
		if id == "" {
			var first struct {
				Webhook struct {
					ID string `json:"id"`
				} `json:"webhook"`
			}
			require.NoError(t, json.Unmarshal(out, &first))
			id = first.Webhook.ID
		}
		ran = append(ran, methodOf(c.line))

		_, err = disp.RunOnce(t.Context()) // what the dispatcher of the page's server does by itself
		require.NoError(t, err)
	}
	require.Equal(t, []string{"POST", "GET", "PATCH", "PATCH", "POST", "GET", "DELETE"}, ran)
	page, err := mgr.Webhooks(t.Context(), webhook.Actor{OrganizationID: "acme", Role: webhook.RoleAdmin}, webhook.WebhookQuery{})
	require.NoError(t, err)
	require.Empty(t, page.Items, "the last command deletes it")
}

// methodOf returns the method that a curl command uses.
func methodOf(line string) string {
	if m := regexp.MustCompile(` -X ([A-Z]+)`).FindStringSubmatch(line); m != nil {
		return m[1]
	}
	if strings.Contains(line, "--json") {
		return http.MethodPost
	}
	return http.MethodGet
}

// requireAsDocumented compares an answer with the page's.
func requireAsDocumented(t *testing.T, c command, got string) {
	t.Helper()
	var documented, actual any
	if json.Unmarshal([]byte(c.output), &documented) != nil {
		require.Equal(t, c.output, got, c.line)
		return
	}
	require.NoError(t, json.Unmarshal([]byte(got), &actual), got)
	require.Equal(t, general(documented), general(actual), "%s\nanswers\n%s", c.line, got)
}

var (
	aTime   = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`)
	aSecret = regexp.MustCompile(`^whsec_[A-Za-z0-9+/]{43}=$`)
)

// general takes out of an answer what is another one in each run. The subject is
// the caller's own.
func general(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, x := range v {
			out[name] = general(x)
			if _, number := x.(float64); number && strings.HasSuffix(name, "_ms") {
				out[name] = "a duration"
			}
			if name == "subject_id" {
				out[name] = x
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = general(v[i])
		}
		return out
	case string:
		switch {
		case uuid.Validate(v) == nil:
			return "an id"
		case aTime.MatchString(v):
			return "a time"
		case aSecret.MatchString(v):
			return "a secret"
		}
	}
	return v
}
