package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

// scene is a webhook with one delivery of each kind that calls need.
type scene struct {
	*fixture
	webhook webhook.Webhook
	targets targets
}

// targets are the ids that calls name.
type targets struct {
	webhook, finished, pending, event uuid.UUID
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{fixture: newFixture(t)}
	s.webhook = s.createWebhook(t, endpointURL)
	s.publish(t)
	require.Equal(t, 1, s.fail(t))
	s.publish(t)
	deliveries := s.deliveries(t, s.webhook.ID)
	require.Equal(t, []webhook.DeliveryState{webhook.DeliveryFailed, webhook.DeliveryPending}, s.states(t, s.webhook.ID))
	s.targets = targets{webhook: s.webhook.ID, finished: deliveries[0].ID, pending: deliveries[1].ID, event: deliveries[0].EventID}
	return s
}

// managerCall is a way to call a method of the Manager that succeeds in a scene.
type managerCall struct {
	method  string
	reads   bool // open to viewers
	namesID bool // of a webhook or delivery
	call    func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error)
}

// managerCalls has every method that takes an Actor, in each way that it can
// name a record.
var managerCalls = []managerCall{
	{"Create", false, false, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, _ targets) (any, error) {
		w, secret, err := m.Create(ctx, a, webhook.WebhookInput{Name: "Another", EndpointURL: endpointURL, Subscriptions: rooms(1)})
		if secret.IsZero() != (err != nil) {
			panic("a secret without a webhook, or a webhook without a secret")
		}
		return w, err
	}},
	{"Update", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Update(ctx, a, to.webhook, webhook.WebhookChange{
			Version: 1, Name: "Changed", EndpointURL: endpointURL, Status: webhook.StatusActive, Subscriptions: rooms(1),
		})
	}},
	{"Delete", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return nil, m.Delete(ctx, a, to.webhook)
	}},
	{"DeleteWithin", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return nil, m.DeleteWithin(ctx, a, to.webhook, time.Second)
	}},
	{"Webhook", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Webhook(ctx, a, to.webhook)
	}},
	{"Webhooks", true, false, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, _ targets) (any, error) {
		return m.Webhooks(ctx, a, webhook.WebhookQuery{})
	}},
	{"Deliveries", true, false, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, _ targets) (any, error) {
		return m.Deliveries(ctx, a, webhook.DeliveryQuery{})
	}},
	{"Deliveries", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Deliveries(ctx, a, webhook.DeliveryQuery{WebhookID: to.webhook})
	}},
	{"Delivery", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Delivery(ctx, a, to.finished)
	}},
	{"Attempts", true, false, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, _ targets) (any, error) {
		return m.Attempts(ctx, a, webhook.AttemptQuery{})
	}},
	{"Attempts", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Attempts(ctx, a, webhook.AttemptQuery{WebhookID: to.webhook})
	}},
	{"Attempts", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Attempts(ctx, a, webhook.AttemptQuery{DeliveryID: to.finished})
	}},
	{"Counters", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Counters(ctx, a, webhook.CounterQuery{WebhookID: to.webhook})
	}},
	{"Await", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Await(ctx, a, to.finished)
	}},
	{"Health", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Health(ctx, a, to.webhook)
	}},
	{"Redeliver", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Redeliver(ctx, a, to.finished)
	}},
	{"Cancel", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return nil, m.Cancel(ctx, a, to.pending)
	}},
	{"Recover", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Recover(ctx, a, to.webhook, time.Time{})
	}},
	{"RecoverPreview", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.RecoverPreview(ctx, a, to.webhook, time.Time{})
	}},
	{"RecoverBatch", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		r, _, err := m.RecoverBatch(ctx, a, to.webhook, time.Time{}, "")
		return r, err
	}},
	{"InFlight", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.InFlight(ctx, a, to.webhook)
	}},
	{"Explain", true, false, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, _ targets) (any, error) {
		return m.Explain(ctx, a, webhook.ExplainQuery{Draft: webhook.Event{Type: webhook.EventMessageSent, Subject: rooms(1)[0].Subject}})
	}},
	{"Explain", true, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.Explain(ctx, a, webhook.ExplainQuery{EventID: to.event})
	}},
	{"SendTest", false, true, func(ctx context.Context, m *webhook.Manager, a webhook.Actor, to targets) (any, error) {
		return m.SendTest(ctx, a, to.webhook, webhook.EventMessageSent)
	}},
}

func TestEveryMethodWithAnActorIsInTheTable(t *testing.T) {
	t.Parallel()
	inTable := map[string]bool{}
	for _, c := range managerCalls {
		inTable[c.method] = true
	}
	takesActor := map[string]bool{}
	manager := reflect.TypeFor[*webhook.Manager]()
	for i := range manager.NumMethod() {
		m := manager.Method(i)
		for p := range m.Type.NumIn() {
			if m.Type.In(p) == reflect.TypeFor[webhook.Actor]() {
				takesActor[m.Name] = true
			}
		}
	}
	require.Equal(t, takesActor, inTable)
}

func TestRoles(t *testing.T) {
	t.Parallel()
	none, reads, everything := func(managerCall) bool { return false }, func(c managerCall) bool { return c.reads }, func(managerCall) bool { return true }
	for _, role := range []struct {
		name  string
		actor webhook.Actor
		may   func(managerCall) bool
	}{
		{"Owner", webhook.Actor{ID: "a", OrganizationID: "acme", Role: webhook.RoleOwner}, everything},
		{"Admin", webhook.Actor{ID: "a", OrganizationID: "acme", Role: webhook.RoleAdmin}, everything},
		{"AdminWithoutID", webhook.Actor{OrganizationID: "acme", Role: webhook.RoleAdmin}, everything},
		{"Viewer", webhook.Actor{ID: "a", OrganizationID: "acme", Role: webhook.RoleViewer}, reads},
		{"ZeroRole", webhook.Actor{ID: "a", OrganizationID: "acme"}, none},
		{"UnknownRole", webhook.Actor{ID: "a", OrganizationID: "acme", Role: "superuser"}, none},
		{"RoleInOtherCase", webhook.Actor{ID: "a", OrganizationID: "acme", Role: "Owner"}, none},
		{"RoleWithSpace", webhook.Actor{ID: "a", OrganizationID: "acme", Role: "admin "}, none},
		{"ZeroActor", webhook.Actor{}, none},
		{"OwnerOfNothing", webhook.Actor{ID: "a", Role: webhook.RoleOwner}, none},
		{"AdminOfNothing", webhook.Actor{ID: "a", Role: webhook.RoleAdmin}, none},
		{"ViewerOfNothing", webhook.Actor{ID: "a", Role: webhook.RoleViewer}, none},
	} {
		for i, c := range managerCalls {
			t.Run(fmt.Sprintf("%s/%s%d", role.name, c.method, i), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				spy := s.spy(t)
				got, err := c.call(t.Context(), s.manager, role.actor, s.targets)
				if role.may(c) {
					require.NoError(t, err)
					require.NotEmpty(t, spy.seen())
					return
				}
				require.ErrorIs(t, err, webhook.ErrForbidden)
				require.Empty(t, spy.seen(), "a forbidden call never touches the store")
				if got != nil {
					require.Zero(t, got)
				}
			})
		}
	}
}

// An organization that cannot be is refused before anything is asked for it:
// databases differ in what they say to such texts.
func TestImpossibleOrganizations(t *testing.T) {
	t.Parallel()
	for name, organization := range map[string]string{"NUL": "ac\x00me", "BadUTF8": "acme\xff", "Long": strings.Repeat("a", webhook.MaxIDBytes+1)} {
		for i, c := range managerCalls {
			t.Run(fmt.Sprintf("%s/%s%d", name, c.method, i), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				spy := s.spy(t)
				_, err := c.call(t.Context(), s.manager, adminOf(organization), s.targets)
				var fault webhook.ValidationError
				require.ErrorAs(t, err, &fault)
				require.Equal(t, "organization_id", fault.Field)
				require.Empty(t, spy.seen())
			})
		}
	}
}

// What an organization does not have is not found, whether or not another one
// has it.
func TestForeignRecordsAreNotFound(t *testing.T) {
	t.Parallel()
	for i, c := range managerCalls {
		if !c.namesID {
			continue
		}
		t.Run(fmt.Sprintf("%s%d", c.method, i), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			rival := s.of("rival")
			before := s.everything(t)
			got, foreign := c.call(t.Context(), s.manager, rival.owner, s.targets)
			require.ErrorIs(t, foreign, webhook.ErrNotFound)
			if got != nil {
				require.Zero(t, got)
			}
			_, missing := c.call(t.Context(), s.manager, rival.owner, targets{uuid.New(), uuid.New(), uuid.New(), uuid.New()})
			require.ErrorIs(t, missing, webhook.ErrNotFound)
			require.Equal(t, missing.Error(), foreign.Error(), "one cannot be told from the other")
			require.Equal(t, before, s.everything(t), "nothing has changed")
		})
	}
	t.Run("Lists", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		rival := s.of("rival")
		require.Empty(t, rival.everything(t))
		events, err := s.manager.Deliveries(t.Context(), rival.owner, webhook.DeliveryQuery{EventID: s.deliveries(t, s.webhook.ID)[0].EventID})
		require.NoError(t, err)
		require.Empty(t, events)
	})
}

func TestFaultyChangeOfForeignWebhook(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, id := range []uuid.UUID{s.webhook.ID, uuid.New()} {
		_, err := s.manager.Update(t.Context(), s.of("rival").owner, id, webhook.WebhookChange{})
		require.ErrorIs(t, err, webhook.ErrNotFound, "not even its faults say that it is there")
	}
	_, err := s.manager.Update(t.Context(), s.owner, s.webhook.ID, webhook.WebhookChange{})
	require.NotErrorIs(t, err, webhook.ErrNotFound)
	require.NotEmpty(t, faultFields(t, err))
}

// everything is all that an organization can read.
func (f *fixture) everything(t testing.TB) []any {
	t.Helper()
	var out []any
	webhooks, err := f.manager.Webhooks(t.Context(), f.owner, webhook.WebhookQuery{})
	require.NoError(t, err)
	for _, w := range webhooks.Items {
		one, err := f.manager.Webhook(t.Context(), f.owner, w.ID)
		require.NoError(t, err)
		counters, err := f.manager.Counters(t.Context(), f.owner, webhook.CounterQuery{WebhookID: w.ID})
		require.NoError(t, err)
		out = append(out, w, one, counters)
	}
	deliveries, err := f.manager.Deliveries(t.Context(), f.owner, webhook.DeliveryQuery{})
	require.NoError(t, err)
	for _, d := range deliveries.Items {
		one, err := f.manager.Delivery(t.Context(), f.owner, d.ID)
		require.NoError(t, err)
		out = append(out, d, one)
	}
	attempts, err := f.manager.Attempts(t.Context(), f.owner, webhook.AttemptQuery{})
	require.NoError(t, err)
	for _, a := range attempts.Items {
		out = append(out, a)
	}
	return out
}

func TestManagerReturnsTheStoresErrors(t *testing.T) {
	t.Parallel()
	for i, c := range managerCalls {
		s := newScene(t)
		spy := s.spy(t)
		_, err := c.call(t.Context(), s.manager, s.admin, s.targets)
		require.NoError(t, err)
		for _, failing := range spy.seen() {
			t.Run(fmt.Sprintf("%s%d/%s", c.method, i, failing), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				s.spy(t).before = func(method string, _ any) error {
					if method == failing {
						return errBoom
					}
					return nil
				}
				got, err := c.call(t.Context(), s.manager, s.admin, s.targets)
				require.ErrorIs(t, err, errBoom)
				if got != nil {
					require.Zero(t, got)
				}
			})
		}
	}
}

func TestSecretIsShownOnce(t *testing.T) {
	t.Parallel()
	for i, c := range managerCalls {
		t.Run(fmt.Sprintf("%s%d", c.method, i), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			other := s.createWebhook(t, endpointURL)
			secret := s.secret(t, s.webhook.ID)
			require.NotEqual(t, secret, s.secret(t, other.ID), "one for each webhook")
			require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, secret.Reveal())

			got, err := c.call(t.Context(), s.manager, s.owner, s.targets)
			require.NoError(t, err)
			s.deliver(t, answers(http.StatusOK, "thanks"))
			read := append(s.everything(t), got)

			texts := fmt.Sprintf("%+v %#v %s", read, read, read)
			encoded, err := json.Marshal(read)
			require.NoError(t, err)
			for _, leak := range []string{secret.Reveal(), strings.TrimPrefix(secret.Reveal(), "whsec_"), "whsec_", "redacted"} {
				require.NotContains(t, texts, leak)
				require.NotContains(t, string(encoded), leak)
			}
		})
	}
}

func TestSecretSignsTheWebhooksRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.publish(t)
	v, err := webhook.NewVerifier(webhook.VerifierConfig{Secrets: []webhook.Secret{f.secret(t, w.ID)}, Clock: f.clock})
	require.NoError(t, err)
	refused := errBoom
	require.Equal(t, 1, f.deliver(t, doerFunc(func(r *http.Request) (*http.Response, error) {
		_, refused = v.VerifyRequest(r)
		return answerOf(http.StatusOK, ""), nil
	})))
	require.NoError(t, refused)
}

func TestViewersSeeNeitherPayloadsNorAnswers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ctx := t.Context()

	full, err := s.manager.Delivery(ctx, s.admin, s.targets.finished)
	require.NoError(t, err)
	require.True(t, json.Valid(full.Payload))
	got, err := s.manager.Delivery(ctx, s.viewer, s.targets.finished)
	require.NoError(t, err)
	full.Payload = nil
	require.Equal(t, full, got, "all but the payload")

	list, err := s.manager.Deliveries(ctx, s.admin, webhook.DeliveryQuery{})
	require.NoError(t, err)
	for _, d := range list.Items {
		require.Nil(t, d.Payload, "lists have no payloads for anyone")
	}
	listed, err := s.manager.Deliveries(ctx, s.viewer, webhook.DeliveryQuery{})
	require.NoError(t, err)
	require.Equal(t, list, listed)

	s.deliver(t, answers(http.StatusBadGateway, strings.Repeat("x", webhook.MaxResponseBytes+1)))
	for _, q := range []webhook.AttemptQuery{{}, {WebhookID: s.webhook.ID}, {DeliveryID: s.targets.pending}} {
		log, err := s.manager.Attempts(ctx, s.admin, q)
		require.NoError(t, err)
		require.Len(t, log.Items[0].Response, webhook.MaxResponseBytes)
		require.True(t, log.Items[0].ResponseTruncated)
		seen, err := s.manager.Attempts(ctx, s.viewer, q)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadGateway, seen.Items[0].StatusCode)
		for i := range log.Items {
			log.Items[i].Response, log.Items[i].ResponseTruncated = nil, false
		}
		require.Equal(t, log, seen, "all but the answers")
	}

	for _, read := range []func(webhook.Actor) (any, error){
		func(a webhook.Actor) (any, error) { return s.manager.Webhook(ctx, a, s.webhook.ID) },
		func(a webhook.Actor) (any, error) { return s.manager.Webhooks(ctx, a, webhook.WebhookQuery{}) },
		func(a webhook.Actor) (any, error) {
			return s.manager.Counters(ctx, a, webhook.CounterQuery{WebhookID: s.webhook.ID})
		},
	} {
		admins, err := read(s.admin)
		require.NoError(t, err)
		viewers, err := read(s.viewer)
		require.NoError(t, err)
		require.Equal(t, admins, viewers)
	}
}

func TestNewManagerRefuses(t *testing.T) {
	t.Parallel()
	m, err := webhook.NewManager(nil, webhook.ManagerConfig{})
	require.Error(t, err)
	require.Nil(t, m)
	m, err = webhook.NewManager(memstore.New(), webhook.ManagerConfig{
		MaxWebhooks: -1, MaxPayloadBytes: -1,
		AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), {}, netip.MustParsePrefix("::ffff:10.0.0.0/104")},
	})
	require.Equal(t, []string{"max_webhooks", "max_payload_bytes", "allowed_prefixes[1]", "allowed_prefixes[2]"}, faultFields(t, err))
	require.Nil(t, m)
}

func TestClocksDefaultToTheDispatchers(t *testing.T) {
	t.Parallel()
	clocked := newFixture(t)
	f := &fixture{store: clocked.store}
	f.assemble(t, nil, clocked.dispatcher(t, answers(http.StatusOK, "")))
	w := f.createWebhook(t, endpointURL)
	require.Equal(t, clocked.clock.Now(), w.CreatedAt)
	f.publish(t)
	require.Equal(t, clocked.clock.Now(), f.deliveries(t, w.ID)[0].CreatedAt)
}

func TestAllowedPrefixes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	create := func(m *webhook.Manager, url string) error {
		_, _, err := m.Create(t.Context(), f.admin, webhook.WebhookInput{Name: "x", EndpointURL: url, Subscriptions: rooms(1)})
		return err
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	prefixes := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}
	lax, err := webhook.NewManager(f.store, webhook.ManagerConfig{AllowedPrefixes: prefixes, Logger: logger})
	require.NoError(t, err)
	prefixes[0] = netip.MustParsePrefix("10.0.0.0/8")
	for _, url := range []string{"https://127.8.9.10:8443/", "https://[::1]/", "https://localhost/", "https://receiver.internal/", endpointURL} {
		require.NoError(t, create(lax, url), url)
	}
	require.ErrorIs(t, create(lax, "https://10.0.0.1/"), webhook.ErrDestinationNotAllowed)

	var lines []map[string]any
	for line := range bytes.Lines(log.Bytes()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal(line, &fields))
		delete(fields, "time")
		lines = append(lines, fields)
	}
	require.Len(t, lines, 1, "once, by NewManager")
	require.Equal(t, map[string]any{
		"level": "WARN", "msg": lines[0]["msg"], "allowed_prefixes": "[127.0.0.0/8 ::1/128]",
	}, lines[0])

	log.Reset()
	strict, err := webhook.NewManager(f.store, webhook.ManagerConfig{Logger: logger})
	require.NoError(t, err)
	require.Empty(t, log.String(), "there is nothing to warn of")
	for _, url := range []string{"https://127.8.9.10:8443/", "https://[::1]/", "https://localhost/", "https://receiver.internal/"} {
		require.ErrorIs(t, create(strict, url), webhook.ErrDestinationNotAllowed, url)
	}
}

func TestForbiddenDestinationsAreToldWithAllFaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for url, denied := range map[string]bool{"https://169.254.169.254/latest": true, "https://user@127.0.0.1/": true, "http://example.com/": false} {
		_, _, err := f.manager.Create(t.Context(), f.admin, webhook.WebhookInput{EndpointURL: url})
		fields := slices.Compact(faultFields(t, err))
		require.Equal(t, []string{"name", "endpoint_url", "subscriptions"}, fields)
		if denied {
			require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
		} else {
			require.NotErrorIs(t, err, webhook.ErrDestinationNotAllowed)
		}

		_, err = f.manager.Update(t.Context(), f.admin, w.ID, webhook.WebhookChange{EndpointURL: url, Resume: true})
		fields = slices.Compact(faultFields(t, err))
		require.Equal(t, []string{"name", "endpoint_url", "subscriptions", "version", "status"}, fields)
		if denied {
			require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
		}
	}
}

func TestMaxWebhooks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ configured, max int }{"Default": {0, 100}, "Configured": {3, 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m, err := webhook.NewManager(f.store, webhook.ManagerConfig{MaxWebhooks: c.configured})
			require.NoError(t, err)
			f.manager = m
			for range c.max - 1 {
				f.createWebhook(t, endpointURL)
			}
			last := f.createWebhook(t, endpointURL)
			in := webhook.WebhookInput{Name: "One too many", EndpointURL: endpointURL, Subscriptions: rooms(1)}
			_, secret, err := m.Create(t.Context(), f.admin, in)
			require.Equal(t, []string{"webhooks"}, faultFields(t, err))
			require.ErrorContains(t, err, fmt.Sprint(c.max))
			require.True(t, secret.IsZero())

			f.of("rival").createWebhook(t, endpointURL) // has a bound of its own
			require.NoError(t, m.Delete(t.Context(), f.admin, last.ID))
			f.createWebhook(t, endpointURL)
			_, _, err = m.Create(t.Context(), f.admin, in)
			require.Equal(t, []string{"webhooks"}, faultFields(t, err))
		})
	}
}

func TestAnIdempotencyKeyCreatesOneWebhook(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	in := webhook.WebhookInput{Name: "Archive", EndpointURL: endpointURL, Subscriptions: rooms(1), IdempotencyKey: "form-1"}
	first, secret, err := f.manager.Create(t.Context(), f.admin, in)
	require.NoError(t, err)
	require.False(t, secret.IsZero())

	in.Name = "Archive, once more"
	again, secret, err := f.manager.Create(t.Context(), f.owner, in)
	require.ErrorIs(t, err, webhook.ErrConflict)
	require.Equal(t, first, again)
	require.True(t, secret.IsZero(), "it was shown")
	page, err := f.manager.Webhooks(t.Context(), f.admin, webhook.WebhookQuery{})
	require.NoError(t, err)
	require.Equal(t, []webhook.Webhook{first}, page.Items)

	// The key of one organization says nothing about another's.
	theirs, _, err := f.manager.Create(t.Context(), f.of("rival").admin, in)
	require.NoError(t, err)
	require.NotEqual(t, first.ID, theirs.ID)

	require.NoError(t, f.manager.Delete(t.Context(), f.admin, first.ID))
	again, secret, err = f.manager.Create(t.Context(), f.admin, in)
	require.ErrorIs(t, err, webhook.ErrConflict)
	require.Zero(t, again)
	require.True(t, secret.IsZero())

	in.IdempotencyKey = strings.Repeat("k", webhook.MaxIDBytes+1)
	_, _, err = f.manager.Create(t.Context(), f.admin, in)
	require.Equal(t, []string{"idempotency_key"}, faultFields(t, err))
}

func TestUpdateReplacesEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL, func(in *webhook.WebhookInput) { in.Description = "old" })
	f.clock.Advance(time.Hour)
	subs := []webhook.Subscription{
		{Subject: webhook.Subject{Type: f.space.Type, ID: strings.ToUpper(f.space.ID)}, EventType: webhook.EventRoomRecordingTranscriptPublished},
		{Subject: f.room, EventType: webhook.EventMessageSent, Filter: map[string]string{"a": "b"}},
	}
	got, err := f.manager.Update(t.Context(), f.owner, w.ID, webhook.WebhookChange{
		Version: 1, Name: " New ", EndpointURL: "https://new.example.com:443", Status: webhook.StatusInactive, Subscriptions: subs,
	})
	require.NoError(t, err)
	want := webhook.Webhook{
		ID: w.ID, OrganizationID: "acme", Name: "New", EndpointURL: "https://new.example.com/", Status: webhook.StatusInactive,
		Subscriptions: []webhook.Subscription{
			{Subject: f.space, EventType: webhook.EventRoomRecordingTranscriptPublished},
			{Subject: f.room, EventType: webhook.EventMessageSent, Filter: map[string]string{"a": "b"}},
		},
		StatusSince: f.clock.Now(), Version: 2, CreatedAt: w.CreatedAt, CreatedBy: "ada", UpdatedAt: f.clock.Now(), UpdatedBy: "olga",
	}
	require.Equal(t, want, got)
	subs[1].Filter["a"], got.Subscriptions[1].Filter["a"] = "x", "x"
	stored, err := f.manager.Webhook(t.Context(), f.viewer, w.ID)
	require.NoError(t, err)
	require.Equal(t, want, stored)
}

func TestUpdateOfAStaleVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	current := f.update(t, w.ID, func(ch *webhook.WebhookChange) { ch.Name = "First" })
	require.Equal(t, int64(2), current.Version)
	for _, version := range []int64{1, 3} {
		ch := sameAs(w)
		ch.Version, ch.Name = version, "Second"
		_, err := f.manager.Update(t.Context(), f.admin, w.ID, ch)
		require.ErrorIs(t, err, webhook.ErrConflict)
	}
	for _, version := range []int64{0, -1} {
		ch := sameAs(w)
		ch.Version = version
		_, err := f.manager.Update(t.Context(), f.admin, w.ID, ch)
		require.Equal(t, []string{"version"}, faultFields(t, err))
	}
	stored, err := f.manager.Webhook(t.Context(), f.admin, w.ID)
	require.NoError(t, err)
	require.Equal(t, current, stored)
}

func TestUpdateConcurrently(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = f.manager.Update(t.Context(), f.admin, w.ID, sameAs(w)) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		require.ErrorIs(t, err, webhook.ErrConflict)
	}
	require.Equal(t, 1, won)
}

func TestUpdateStatusRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	for name, c := range map[string]struct {
		status webhook.Status
		resume bool
		fields []string
	}{
		"Zero":           {"", false, []string{"status"}},
		"Unknown":        {"paused", false, []string{"status"}},
		"InOtherCase":    {"Active", false, []string{"status"}},
		"ResumeInactive": {webhook.StatusInactive, true, []string{"resume"}},
		"ResumeUnknown":  {"paused", true, []string{"status"}},
	} {
		ch := sameAs(w)
		ch.Status, ch.Resume = c.status, c.resume
		_, err := f.manager.Update(t.Context(), f.admin, w.ID, ch)
		require.Equal(t, c.fields, faultFields(t, err), name)
	}
}

// What a webhook has may not be accepted any more: by another catalog, or without the
// AllowedPrefixes of before. It can be switched off all the same.
func TestUpdateMakesInactiveWhatIsNoLongerAccepted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lax, err := webhook.NewManager(f.store, webhook.ManagerConfig{AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	require.NoError(t, err)
	filtered := webhook.Subscription{Subject: f.room, EventType: webhook.EventMessageSent, Filter: map[string]string{"a": "b"}}
	w, _, err := lax.Create(t.Context(), f.admin, webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://127.0.0.1/", Subscriptions: []webhook.Subscription{filtered},
	})
	require.NoError(t, err)
	types := webhook.DefaultCatalog()
	smaller, err := webhook.NewCatalog([]webhook.SubjectTypeInfo{{Type: "branch", Title: "Branch"}}, types.EventTypes()[1:])
	require.NoError(t, err)
	f.manager, err = webhook.NewManager(f.store, webhook.ManagerConfig{Catalog: smaller})
	require.NoError(t, err)
	update := func(edit func(*webhook.WebhookChange)) error {
		ch := sameAs(w)
		edit(&ch)
		_, err := f.manager.Update(t.Context(), f.admin, w.ID, ch)
		return err
	}
	var (
		off     = func(ch *webhook.WebhookChange) { ch.Status = webhook.StatusInactive }
		address = "endpoint_url"
		kind    = "subscriptions[0].subject.type"
		event   = "subscriptions[0].event_type"
	)
	err = update(func(*webhook.WebhookChange) {})
	require.Equal(t, []string{address, kind, event}, faultFields(t, err), "nothing is sent by what is not accepted")
	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
	err = update(func(ch *webhook.WebhookChange) { off(ch); ch.EndpointURL = "https://127.0.0.2/" })
	require.Equal(t, []string{address}, faultFields(t, err), "what is new is held to the rules")
	require.ErrorIs(t, err, webhook.ErrDestinationNotAllowed)
	err = update(func(ch *webhook.WebhookChange) { off(ch); ch.Subscriptions[0].Filter = nil })
	require.Equal(t, []string{kind, event}, faultFields(t, err))
	err = update(func(ch *webhook.WebhookChange) {
		off(ch)
		ch.Subscriptions = append(ch.Subscriptions, ch.Subscriptions[0])
	})
	require.Equal(t, []string{"subscriptions[1]"}, faultFields(t, err))
	err = update(func(ch *webhook.WebhookChange) { off(ch); ch.Name = "" })
	require.Equal(t, []string{"name"}, faultFields(t, err))
	err = update(func(ch *webhook.WebhookChange) { off(ch); ch.Version = 2 })
	require.Equal(t, []string{address, kind, event}, faultFields(t, err), "a version that there is not has nothing")

	require.NoError(t, update(off))

	want := w
	want.Status, want.Version = webhook.StatusInactive, 2
	stored, err := f.manager.Webhook(t.Context(), f.admin, w.ID)
	require.NoError(t, err)
	want.UpdatedAt, want.StatusSince = stored.UpdatedAt, stored.UpdatedAt
	require.Equal(t, want, stored)
	require.ErrorIs(t, update(off), webhook.ErrConflict)
	w = stored
	require.NoError(t, update(func(ch *webhook.WebhookChange) { ch.Name = "Old archive" }), "and stays editable so")
	w.Version++
	require.Equal(t, []string{address, kind, event}, faultFields(t, update(func(ch *webhook.WebhookChange) { ch.Status = webhook.StatusActive })))
}

func TestUpdateCancelsWhatIsNoLongerSubscribed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL, subscribing(
		webhook.Subscription{Subject: f.room, EventType: webhook.EventMessageSent},
		webhook.Subscription{Subject: f.space, EventType: webhook.EventMessageSent},
		webhook.Subscription{Subject: f.room, EventType: webhook.EventRoomRecordingTranscriptPublished},
	))
	f.publish(t)
	inSpace := f.message()
	inSpace.Subject = f.space
	transcript := f.message()
	transcript.Type = webhook.EventRoomRecordingTranscriptPublished
	both := f.message()
	both.Parents = []webhook.Subject{f.space}
	for _, e := range []webhook.Event{inSpace, transcript, both} {
		_, err := f.publisher.Publish(t.Context(), e)
		require.NoError(t, err)
	}
	f.update(t, w.ID, func(ch *webhook.WebhookChange) {
		ch.Subscriptions = ch.Subscriptions[:1]
		ch.Subscriptions[0].Filter = map[string]string{"narrower": "now"} // which cancels nothing
	})
	require.Equal(t, []webhook.DeliveryState{
		webhook.DeliveryPending, webhook.DeliveryCancelled, webhook.DeliveryCancelled, webhook.DeliveryPending,
	}, f.states(t, w.ID))
}

func TestUpdateMovesLaterAttempts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.createWebhook(t, endpointURL)
	f.publish(t)
	var sentTo []string
	endpoint := doerFunc(func(r *http.Request) (*http.Response, error) {
		sentTo = append(sentTo, r.URL.String())
		return answerOf(http.StatusServiceUnavailable, ""), nil
	})
	f.deliver(t, endpoint)
	const moved = "https://moved.example.com/"
	f.update(t, w.ID, func(ch *webhook.WebhookChange) { ch.EndpointURL = moved })
	f.clock.Advance(time.Minute)
	f.deliver(t, endpoint)
	require.Equal(t, []string{endpointURL, moved}, sentTo)
	log, err := f.manager.Attempts(t.Context(), f.admin, webhook.AttemptQuery{})
	require.NoError(t, err)
	require.Equal(t, []string{moved, endpointURL}, []string{log.Items[0].EndpointURL, log.Items[1].EndpointURL}, "the log keeps where each went")
}

func TestInactiveWebhooksHoldTheirDeliveries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		activation func(*webhook.WebhookChange)
		want       []webhook.DeliveryState
		attempts   int
	}{
		"Resume": {resume, []webhook.DeliveryState{webhook.DeliveryPending, webhook.DeliveryPending, webhook.DeliveryPending}, 3},
		"Leave":  {activate, []webhook.DeliveryState{webhook.DeliveryHeld, webhook.DeliveryHeld, webhook.DeliveryPending}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			w := f.createWebhook(t, endpointURL)
			f.publish(t) // pending, and held with the webhook
			f.update(t, w.ID, deactivate)
			f.publish(t) // held from the start
			require.Equal(t, []webhook.DeliveryState{webhook.DeliveryHeld, webhook.DeliveryHeld}, f.states(t, w.ID))
			f.clock.Advance(24 * time.Hour)
			require.Zero(t, f.deliver(t, answers(http.StatusOK, "")), "nothing is attempted")

			f.update(t, w.ID, c.activation)
			f.publish(t)
			require.Equal(t, c.want, f.states(t, w.ID))
			require.Equal(t, c.attempts, f.deliver(t, answers(http.StatusOK, "")))
			if name == "Leave" {
				got, err := f.manager.Recover(t.Context(), f.admin, w.ID, time.Time{})
				require.NoError(t, err)
				require.Equal(t, webhook.Recovery{Released: 2}, got)
				require.Equal(t, 2, f.deliver(t, answers(http.StatusOK, "")))
			}
			require.Equal(t, slices.Repeat([]webhook.DeliveryState{webhook.DeliverySucceeded}, 3), f.states(t, w.ID))
		})
	}
}
