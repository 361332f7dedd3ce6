package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
)

// ModelConfig says how much [Model] tries. The zero value is useful.
type ModelConfig struct {
	// Runs is how many sequences are tried, each with a store of its own.
	// Defaults to 30.
	Runs int

	// Operations is the length of each sequence. Defaults to 200.
	Operations int

	// Seed is that of the first run; each further one has the next number.
	// Defaults to 1.
	Seed uint64
}

// shrinkRuns bounds how many shorter sequences are tried after a failure.
const shrinkRuns = 300

// Model gives random operations to a store and to a model of the contract, which
// is made of slices and loops, and compares what each call returns and, every few
// steps, all that reads show. There are only two organizations, three webhooks
// and few events, so that operations meet.
//
// A sequence that fails is made shorter for as long as it still does, each time
// on a new store, and is then printed with its seed: ModelConfig{Runs: 1, Seed: 17}
// finds it again.
func Model(t *testing.T, newStore func(t *testing.T) webhook.Store, cfg ModelConfig) {
	t.Helper()
	seed, length := cmp.Or(cfg.Seed, 1), cmp.Or(cfg.Operations, 200)
	for range cmp.Or(cfg.Runs, 30) {
		ok := t.Run(fmt.Sprint("Seed", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			steps := make([]uint64, length)
			for i := range steps {
				steps[i] = r.Uint64()
			}
			play := func(steps []uint64) (c *comparison) {
				t.Run("Try", func(t *testing.T) { // so that its store is given up before the next one is asked for
					c = newComparison(t, newStore(t), int(seed%3))
					c.play(steps)
				})
				return c
			}
			c := play(steps)
			if c.difference == "" {
				return
			}
			steps, c = shrink(steps[:c.played], c, play)
			readable := strings.NewReplacer(c.names...)
			t.Errorf("seed %d: the store and the model disagree after %d of %d operations:\n%s\n%s",
				seed, len(steps), length, readable.Replace(strings.Join(c.lines, "\n")), readable.Replace(c.difference))
		})
		if !ok {
			return // one is enough, and making others shorter takes long
		}
		seed++
	}
}

// shrink leaves out parts of a failing sequence, ever smaller ones, as long as
// what is left fails too.
func shrink(steps []uint64, failed *comparison, play func([]uint64) *comparison) ([]uint64, *comparison) {
	runs := 0
	for size := max(1, len(steps)/2); size > 0; {
		shorter := false
		for at := len(steps) - size; at >= 0 && runs < shrinkRuns; at -= size {
			runs++
			rest := slices.Delete(slices.Clone(steps), at, at+size)
			if c := play(rest); c.difference != "" {
				steps, failed, shorter = rest[:c.played], c, true
				at = min(at, len(steps))
			}
		}
		if !shorter || size > 1 {
			size /= 2
		}
	}
	return steps, failed
}

// comparison is a store and the model at the same point of a sequence.
type comparison struct {
	*fixture
	m          *model
	r          *rand.Rand // of the step
	claims     []webhook.Claim
	notices    []webhook.NoticeClaim
	played     int
	lines      []string       // what has been done
	names      []string       // for what is printed: an id, its name, and so on
	named      map[string]int // how many of each kind have one
	difference string         // the first one, which is the end
}

// newComparison begins one with a schedule of that many waits, at most 2.
func newComparison(t *testing.T, store webhook.Store, waits int) *comparison {
	t.Helper()
	c := &comparison{fixture: newFixture(t, store), names: []string{uuid.UUID{}.String(), "none"}, named: map[string]int{}}
	c.Assertions = require.New(c)
	c.m = &model{now: c.now, schedule: c.schedule([]time.Duration{wait, 0}[:waits]...)}
	c.say("a schedule of %d attempts", c.m.schedule.MaxAttempts())
	return c
}

// Errorf and FailNow let require report to the comparison: a sequence that fails
// is to be made shorter before the test fails.
func (c *comparison) Errorf(format string, args ...any) { c.difference += fmt.Sprintf(format, args...) }

// FailNow ends the sequence.
func (c *comparison) FailNow() { panic(c) }

// play does the steps until one of them fails. Each is a seed, by which it is an
// operation and chooses among what is there: it is the same operation still when
// others have been left out.
func (c *comparison) play(steps []uint64) {
	defer func() {
		switch p := recover(); p {
		case nil, c:
		default:
			c.difference = fmt.Sprintf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	c.addWebhook(subscribed(messages, transcripts))
	c.addWebhook(subscribed(messages))
	c.addWebhook(in(umbrella), subscribed(messages))
	for i, s := range steps {
		c.played = i + 1
		c.r = rand.New(rand.NewPCG(s, 0))
		operations[c.r.IntN(len(operations))](c)
		if i%10 == 9 || i == len(steps)-1 {
			c.reads()
		}
	}
}

const moment = "Jan _2 15:04:05.000000"

// say writes down what is done.
func (c *comparison) say(format string, args ...any) {
	line := fmt.Sprintf("%3d. %s  ", len(c.lines)+1, c.now.Format(moment)) + fmt.Sprintf(format, args...)
	c.lines = append(c.lines, line)
}

// name gives an id a name in what is printed.
func (c *comparison) name(id uuid.UUID, kind string) {
	if !slices.Contains(c.names, id.String()) {
		c.named[kind]++
		c.names = append(c.names, id.String(), fmt.Sprint(kind, c.named[kind]))
	}
}

func same[T any](c *comparison, what string, model, store T) {
	if !reflect.DeepEqual(model, store) {
		c.Errorf("%s\nmodel: %+v\nstore: %+v\n", what, model, store)
		c.FailNow()
	}
}

func sameList[T any](c *comparison, what string, model, store []T) {
	for i := range min(len(model), len(store)) {
		same(c, fmt.Sprintf("%s, number %d", what, i+1), model[i], store[i])
	}
	if len(model) != len(store) {
		same(c, what, model, store)
	}
}

// sameDue compares when it is worth coming again: at that very moment, or at once.
func (c *comparison) sameDue(model, store time.Time) {
	if model.IsZero() || store.IsZero() || model.After(c.now) || store.After(c.now) {
		same(c, "NextDue", model, store)
	}
}

// sameDelivery compares all that the contract says of a delivery.
func (c *comparison) sameDelivery(model, store webhook.Delivery) {
	same(c, "payload of a delivery", string(model.Payload), string(store.Payload))
	for _, d := range []*webhook.Delivery{&model, &store} {
		d.Payload = nil
		// It does not say when one in flight is due, nor one that would be due at
		// once if it were not held, nor whether a purged one is still named.
		if !d.LeasedUntil.IsZero() || d.State == webhook.DeliveryHeld && !d.DueAt.After(c.now) {
			d.DueAt = time.Time{}
		}
		if c.m.delivery(d.RedeliveryOf) == nil {
			d.RedeliveryOf = uuid.UUID{}
		}
	}
	same(c, "delivery", model, store)
}

// reads compares all that reads show.
func (c *comparison) reads() {
	for _, s := range []webhook.Scope{{}, ours, theirs} {
		model, store := c.m.contents(s), c.contents(s)
		sameList(c, "webhooks", model.Webhooks, store.Webhooks)
		for i := range min(len(model.Deliveries), len(store.Deliveries)) {
			c.sameDelivery(model.Deliveries[i], store.Deliveries[i])
		}
		same(c, "number of deliveries", len(model.Deliveries), len(store.Deliveries))
		sameList(c, "attempts", model.Attempts, store.Attempts)
		for _, w := range model.Webhooks {
			sameList(c, "counters", model.Counters[w.ID], store.Counters[w.ID])
		}
	}
	for _, w := range c.m.webhooks { // deleted ones too
		same(c, "leased of "+w.ID.String(), c.m.leased(w), c.leased(w.Webhook))
		listed := c.deliveries(scopeOf(w.Webhook), webhook.DeliveryQuery{WebhookID: w.ID})
		of := where(c.m.deliveries, func(d *modelDelivery) bool { return d.webhook == w })
		same(c, "deliveries of "+w.ID.String(), len(of), len(listed))
	}
}
