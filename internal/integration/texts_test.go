package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/internal/integration"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/webhooktest"
)

// texts are what a database, a driver or a collation might not keep as it is.
// Those that are broken are refused wherever somebody would have to read them.
var texts = []struct {
	name, text string
	broken     bool
}{
	{"NUL", "a\x00b", true},
	{"nothing but NUL", "\x00", true},
	{"bad UTF-8", "a\xffb", true},
	{"UTF-8 that breaks off", "a\xf0\x9f\x98", true},
	{"NUL in two bytes", "a\xc0\x80b", true},
	{"half of a surrogate pair", "a\xed\xa0\x80b", true},
	{"beyond Unicode", "a\xf4\x90\x80\x80b", true},
	{"four bytes", "a😀b𝄞𠜎", false},
	{"joined", "👩\u200d👩\u200d👧", false},
	{"the last plane", "a\U0010FFFDb", false},
	{"the replacement character", "a\uFFFDb", false},
	{"no character", "a\uFFFFb", false},
	{"not composed", "re\u0301sume\u0301", false},
	{"escapes", `a\x00b\u0000%00\0\N`, false},
	{"signs", `'"{}[],;$1?%_--` + "`", false},
	{"a word", "null", false},
	{"128 bytes", strings.Repeat("😀", webhook.MaxIDBytes/4), false},
}

// spot is where a text can go.
type spot struct {
	name  string
	field string // that the error names; empty if anything is taken

	// tell puts the text there, by the public API alone, and returns what comes
	// back.
	tell func(t *testing.T, x *teller, text string) (back string, err error)

	// becomes is what has to come back, if that is not the text.
	becomes func(text string) string
}

var spots = []spot{
	{name: "name", field: "name", tell: created(
		func(in *webhook.WebhookInput, text string) { in.Name = text }, func(w webhook.Webhook) string { return w.Name })},
	{name: "description", field: "description", tell: created(
		func(in *webhook.WebhookInput, text string) { in.Description = text }, func(w webhook.Webhook) string { return w.Description })},
	{name: "name, changed", field: "name", tell: changed(
		func(ch *webhook.WebhookChange, text string) { ch.Name = text }, func(w webhook.Webhook) string { return w.Name })},
	{name: "description, changed", field: "description", tell: changed(
		func(ch *webhook.WebhookChange, text string) { ch.Description = text }, func(w webhook.Webhook) string { return w.Description })},
	{name: "name in a notice", field: "name", tell: noticed},
	{name: "actor", field: "actor_id", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		a := x.newActor()
		a.ID = text
		w, err := x.create(t, a, nil)
		return w.CreatedBy, err
	}},
	{name: "organization of an actor", field: "organization_id", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		w, err := x.create(t, adminOf(text), nil)
		return w.OrganizationID, err
	}},
	{name: "subject of a subscription", field: "subscriptions[0].subject.id", tell: created(
		func(in *webhook.WebhookInput, text string) { in.Subscriptions[0].Subject.ID = text },
		func(w webhook.Webhook) string { return w.Subscriptions[0].Subject.ID })},
	{name: "value of a filter", field: "subscriptions[0].filter[k]", tell: created(
		func(in *webhook.WebhookInput, text string) { in.Subscriptions[0].Filter = map[string]string{"k": text} },
		func(w webhook.Webhook) string { return w.Subscriptions[0].Filter["k"] })},
	{name: "key of a filter", field: "subscriptions[0].filter", tell: created(
		func(in *webhook.WebhookInput, text string) {
			in.Subscriptions[0].Filter = map[string]string{text: "v"}
		},
		func(w webhook.Webhook) (key string) {
			for key = range w.Subscriptions[0].Filter {
				continue
			}
			return key
		})},

	{name: "subject of an event", field: "subject.id", tell: matched(
		func(e *webhook.Event, text string) { e.Subject.ID = text },
		func(s *webhook.Subscription, text string) { s.Subject.ID = text })},
	{name: "parent of an event", field: "parents[0].id", tell: matched(
		func(e *webhook.Event, text string) {
			e.Subject.ID, e.Parents = "another", []webhook.Subject{{Type: e.Subject.Type, ID: text}}
		},
		func(s *webhook.Subscription, text string) { s.Subject.ID = text })},
	{name: "value of an attribute", field: "attributes[k]", tell: matched(
		func(e *webhook.Event, text string) { e.Attributes = map[string]string{"k": text} },
		func(s *webhook.Subscription, text string) { s.Filter = map[string]string{"k": text} })},
	{name: "key of an attribute", field: "attributes", tell: matched(
		func(e *webhook.Event, text string) { e.Attributes = map[string]string{text: "v"} },
		func(s *webhook.Subscription, text string) { s.Filter = map[string]string{text: "v"} })},
	{name: "organization of an event", field: "organization_id", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		e := x.newEvent(adminOf(text))
		e.IdempotencyKey = "k" // so that it is stored, although nobody asks for it
		_, err := x.publisher.Publish(t.Context(), e)
		return text, err
	}},
	{name: "idempotency key", field: "idempotency_key", tell: keyed},
	{name: "type in a query", field: "event_type", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		page, err := x.manager.Deliveries(t.Context(), x.newActor(), webhook.DeliveryQuery{EventType: webhook.EventType(text)})
		require.Empty(t, page.Items)
		return text, err
	}},

	// A string is made UTF-8 by encoding/json.
	{name: "data", tell: func(t *testing.T, x *teller, text string) (back string, err error) {
		t.Helper()
		body := x.deliver(t, text, answer("")).Payload
		require.NoError(t, json.Unmarshal(body, &struct{ Data *string }{&back}))
		return back, nil
	}, becomes: func(text string) string { return string([]rune(text)) }},
	{name: "data in JSON", field: "data", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		raw := json.RawMessage(asJSON(text))
		if e := x.newEvent(x.newActor()); !json.Valid(raw) || string([]rune(text)) != text {
			e.Data = raw
			_, err := x.publisher.Publish(t.Context(), e)
			return "", err
		}
		_, after, found := strings.Cut(string(x.deliver(t, raw, answer("")).Payload), `"data":`)
		require.True(t, found)
		return strings.TrimSuffix(after, "}"), nil
	}, becomes: asJSON},
	{name: "answer", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		return string(x.deliver(t, "hello", answer(text)).attempt.Response), nil
	}},
	{name: "long answer", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		d := x.deliver(t, "hello", answer("."+strings.Repeat(text, webhook.MaxResponseBytes))) // may break off in a character
		require.True(t, d.attempt.ResponseTruncated)
		return string(d.attempt.Response), nil
	}, becomes: func(text string) string {
		return ("." + strings.Repeat(text, webhook.MaxResponseBytes))[:webhook.MaxResponseBytes]
	}},
	{name: "error", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		a := x.deliver(t, "hello", func() (*http.Response, error) { return nil, errors.New(text) }).attempt
		return string(a.ErrorClass) + ": " + a.Error, nil
	}, becomes: always("connect: no connection to the endpoint")},
	{name: "panic", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		a := x.deliver(t, "hello", func() (*http.Response, error) { panic(text) }).attempt
		return string(a.ErrorClass) + ": " + a.Error, nil
	}, becomes: always("internal: internal error of the sender")},
	{name: "body that breaks off", tell: func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		a := x.deliver(t, "hello", func() (*http.Response, error) {
			r, err := answer("")()
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(text), brokenReader{errors.New(text)}))
			return r, err
		}).attempt
		require.Equal(t, text, string(a.Response))
		return string(a.Outcome) + ": " + a.Error, nil
	}, becomes: always("succeeded: answered, but the body broke off: no connection to the endpoint")},
}

// always is what any text becomes.
func always(text string) func(string) string { return func(string) string { return text } }

// asJSON encodes a text without touching what is not ASCII.
func asJSON(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

type brokenReader struct{ err error }

// Read fails.
func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// unlike returns a text that differs in the last character.
func unlike(text string) string {
	runes := []rune(text)
	return string(runes[:len(runes)-1]) + "."
}

// created puts a text into a new webhook.
func created(put func(*webhook.WebhookInput, string), get func(webhook.Webhook) string) func(*testing.T, *teller, string) (string, error) {
	return func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		w, err := x.create(t, x.newActor(), func(in *webhook.WebhookInput) { put(in, text) })
		if err != nil {
			return "", err
		}
		return get(w), nil
	}
}

// changed puts a text into a webhook that is there.
func changed(put func(*webhook.WebhookChange, string), get func(webhook.Webhook) string) func(*testing.T, *teller, string) (string, error) {
	return func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		a := x.newActor()
		w, err := x.create(t, a, nil)
		require.NoError(t, err)
		ch := webhook.WebhookChange{
			Version: w.Version, Name: w.Name, Description: w.Description, EndpointURL: w.EndpointURL, Status: w.Status, Subscriptions: w.Subscriptions,
		}
		put(&ch, text)
		updated, err := x.manager.Update(t.Context(), a, w.ID, ch)
		read, readErr := x.manager.Webhook(t.Context(), a, w.ID)
		require.NoError(t, readErr)
		if err != nil {
			require.Equal(t, w, read)
			return "", err
		}
		require.Equal(t, updated, read)
		return get(read), nil
	}
}

// matched puts a text into an event, and the same into the subscription of a
// webhook, which gets the event.
func matched(event func(*webhook.Event, string), subscription func(*webhook.Subscription, string)) func(*testing.T, *teller, string) (string, error) {
	return func(t *testing.T, x *teller, text string) (string, error) {
		t.Helper()
		a := x.newActor()
		e := x.newEvent(a)
		event(&e, text)
		if _, err := x.publisher.Publish(t.Context(), e); err != nil {
			return "", err
		}
		w, err := x.create(t, a, func(in *webhook.WebhookInput) { subscription(&in.Subscriptions[0], text) })
		require.NoError(t, err)
		_, err = x.create(t, a, func(in *webhook.WebhookInput) { subscription(&in.Subscriptions[0], unlike(text)) })
		require.NoError(t, err)
		p, err := x.publisher.Publish(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, 1, p.Deliveries)
		page, err := x.manager.Deliveries(t.Context(), a, webhook.DeliveryQuery{WebhookID: w.ID})
		require.NoError(t, err)
		require.Len(t, page.Items, 1)
		require.Equal(t, e.Subject, page.Items[0].Subject)
		return text, nil
	}
}

// keyed publishes an event twice.
func keyed(t *testing.T, x *teller, text string) (string, error) {
	t.Helper()
	a := x.newActor()
	_, err := x.create(t, a, nil)
	require.NoError(t, err)
	e := x.newEvent(a)
	e.IdempotencyKey = text
	first, err := x.publisher.Publish(t.Context(), e)
	if err != nil {
		return "", err
	}
	again, err := x.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, webhook.Published{EventID: first.EventID, Duplicate: true}, again)
	e.IdempotencyKey = unlike(text)
	other, err := x.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	require.False(t, other.Duplicate)
	return text, nil
}

// noticed lets a webhook of that name fail for good.
func noticed(t *testing.T, x *teller, text string) (string, error) {
	t.Helper()
	a := x.newActor()
	w, err := x.create(t, a, func(in *webhook.WebhookInput) { in.Name = text })
	if err != nil {
		return "", err
	}
	x.answer = func() (*http.Response, error) { return nil, io.EOF }
	_, err = x.publisher.Publish(t.Context(), x.newEvent(a))
	require.NoError(t, err)
	for range 2 {
		_, err = x.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		x.clock.Advance(webhook.NoticeWindow)
	}
	at := slices.IndexFunc(x.notices, func(n webhook.Notice) bool { return n.WebhookID == w.ID })
	require.GreaterOrEqual(t, at, 0)
	return x.notices[at].WebhookName, nil
}

// teller is the public API on a store.
type teller struct {
	clock      *webhooktest.Clock
	manager    *webhook.Manager
	publisher  *webhook.Publisher
	dispatcher *webhook.Dispatcher

	cases   int
	answer  func() (*http.Response, error)
	notices []webhook.Notice

	mu   sync.Mutex
	body []byte // of the latest request
}

func newTeller(t *testing.T, store webhook.Store) *teller {
	t.Helper()
	x := &teller{clock: new(webhooktest.Clock)}
	catalog, err := webhook.NewCatalog(
		[]webhook.SubjectTypeInfo{{Type: room.Type, Title: "Room", ParseID: func(id string) (string, error) { return id, nil }}},
		[]webhook.EventTypeInfo{{Type: webhook.EventMessageSent, Title: "Message"}})
	require.NoError(t, err)
	once, err := webhook.NewSchedule()
	require.NoError(t, err)
	x.manager, err = webhook.NewManager(store, webhook.ManagerConfig{Catalog: catalog, Clock: x.clock})
	require.NoError(t, err)
	x.publisher, err = webhook.NewPublisher(store, webhook.PublisherConfig{Catalog: catalog, Clock: x.clock})
	require.NoError(t, err)
	x.dispatcher, err = webhook.NewDispatcher(store, webhook.DispatcherConfig{
		HTTPDoer: x, Notifier: x, Clock: x.clock, Schedule: once,
	})
	require.NoError(t, err)
	return x
}

// Do takes a request.
func (x *teller) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.body = body
	x.mu.Unlock()
	return x.answer()
}

// Notify takes a notice.
func (x *teller) Notify(_ context.Context, n webhook.Notice) error {
	x.notices = append(x.notices, n)
	return nil
}

// answer answers 200 with a body.
func answer(body string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// newActor returns an admin of an organization of its own.
func (x *teller) newActor() webhook.Actor {
	x.cases++
	return adminOf(fmt.Sprintf("organization-%d", x.cases))
}

// create creates a webhook, and wants it to be read as it was created.
func (x *teller) create(t *testing.T, a webhook.Actor, edit func(*webhook.WebhookInput)) (webhook.Webhook, error) {
	t.Helper()
	in := webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://archive.example/hooks",
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	}
	if edit != nil {
		edit(&in)
	}
	w, _, err := x.manager.Create(t.Context(), a, in)
	if err != nil {
		return webhook.Webhook{}, err
	}
	read, err := x.manager.Webhook(t.Context(), a, w.ID)
	require.NoError(t, err)
	require.Equal(t, w, read)
	page, err := x.manager.Webhooks(t.Context(), a, webhook.WebhookQuery{})
	require.NoError(t, err)
	require.Contains(t, page.Items, w)
	return read, nil
}

func (x *teller) newEvent(a webhook.Actor) webhook.Event { return message(a.OrganizationID, room) }

// delivered is a delivery of which there was one attempt.
type delivered struct {
	webhook.Delivery
	attempt webhook.Attempt
}

// deliver takes an event with some data to its end.
func (x *teller) deliver(t *testing.T, data any, answer func() (*http.Response, error)) delivered {
	t.Helper()
	a := x.newActor()
	_, err := x.create(t, a, nil)
	require.NoError(t, err)
	e := x.newEvent(a)
	e.Data = data
	x.settle(t)
	_, err = x.publisher.Publish(t.Context(), e)
	require.NoError(t, err)
	x.answer = answer
	attempts, err := x.dispatcher.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, attempts)
	page, err := x.manager.Attempts(t.Context(), a, webhook.AttemptQuery{})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	d, err := x.manager.Delivery(t.Context(), a, page.Items[0].DeliveryID)
	require.NoError(t, err)
	require.True(t, d.State.Finished())
	require.Equal(t, x.body, d.Payload)
	return delivered{d, page.Items[0]}
}

// settle ends what other cases have published.
func (x *teller) settle(t *testing.T) {
	t.Helper()
	x.answer = answer("") //nolint:bodyclose // the dispatcher closes it
	for {
		attempts, err := x.dispatcher.RunOnce(t.Context())
		require.NoError(t, err)
		if attempts == 0 {
			return
		}
	}
}

// told is what became of a text.
type told struct {
	Back   string
	Faults webhook.ValidationErrors
}

// tellAll puts each text to each place.
func tellAll(t *testing.T, store webhook.Store) map[string]told {
	t.Helper()
	x := newTeller(t, store)
	all := map[string]told{}
	for _, p := range spots {
		for _, k := range texts {
			name := p.name + ": " + k.name
			var got told
			var err error
			if got.Back, err = p.tell(t, x, k.text); err != nil {
				got.Back = ""
				require.ErrorAs(t, err, &got.Faults, name)
			}
			all[name] = got
		}
	}
	return all
}

// TestTexts puts difficult texts wherever texts can go. They come back as they
// were, or are refused; and all stores do the same.
func TestTexts(t *testing.T) {
	t.Parallel()
	want := tellAll(t, memstore.New())
	for _, p := range spots {
		for _, k := range texts {
			name := p.name + ": " + k.name
			got := want[name]
			if k.broken && p.field != "" {
				require.Len(t, got.Faults, 1, name)
				require.Equal(t, p.field, got.Faults[0].Field, name)
				continue
			}
			back := k.text
			if p.becomes != nil {
				back = p.becomes(k.text)
			}
			require.Equal(t, told{Back: back}, got, name)
		}
	}
	for _, s := range integration.Servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, tellAll(t, s.Migrated(t).Store(t)))
		})
	}
}
