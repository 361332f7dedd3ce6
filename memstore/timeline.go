package memstore

import (
	"slices"

	"github.com/posthorn/webhook"
)

// timeline keeps records in the order of lists, oldest first.
type timeline[T interface {
	comparable
	position() webhook.Position
}] struct {
	items []T
}

// find returns where a record with this position is, or would be.
func (t *timeline[T]) find(p webhook.Position) (int, bool) {
	return slices.BinarySearchFunc(t.items, p, func(x T, p webhook.Position) int { return x.position().Compare(p) })
}

// add puts a record in its place, which nearly always is the end.
func (t *timeline[T]) add(x T) {
	if n := len(t.items); n == 0 || t.items[n-1].position().Compare(x.position()) < 0 {
		t.items = append(t.items, x)
		return
	}
	i, _ := t.find(x.position())
	t.items = slices.Insert(t.items, i, x)
}

func (t *timeline[T]) remove(x T) {
	if i, ok := t.find(x.position()); ok && t.items[i] == x {
		t.items = slices.Delete(t.items, i, i+1)
	}
}

// page collects what a list query asks for, newest first, and the cursor of the
// page after it.
func page[T interface {
	comparable
	position() webhook.Position
}, V any](t *timeline[T], s webhook.Scope, q webhook.Query, keep func(T) bool, view func(T) V) (webhook.Page[V], error) {
	after, limit, goesOn, err := webhook.StartOf(s, q)
	if err != nil {
		return webhook.Page[V]{}, err
	}
	i := len(t.items)
	if goesOn {
		i, _ = t.find(after)
	}
	var out webhook.Page[V]
	var last T
	for i--; i >= 0; i-- {
		x := t.items[i]
		if !keep(x) {
			continue
		}
		if len(out.Items) == limit {
			out.Next = webhook.NextCursor(s, q, last.position())
			break
		}
		out.Items = append(out.Items, view(x))
		last = x
	}
	return out, nil
}
