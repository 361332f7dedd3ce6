package memstore

import stdheap "container/heap"

// heap is a priority queue whose items know their place, so that any of them
// can be taken out. An item that is in no heap is at place -1.
type heap[T any] struct {
	items []T
	less  func(a, b T) bool
	moved func(item T, place int)
}

func (h *heap[T]) top() T     { return h.items[0] }
func (h *heap[T]) len() int   { return len(h.items) }
func (h *heap[T]) push(x T)   { stdheap.Push((*heapItems[T])(h), x) }
func (h *heap[T]) fix(at int) { stdheap.Fix((*heapItems[T])(h), at) }
func (h *heap[T]) remove(at int) T {
	return stdheap.Remove((*heapItems[T])(h), at).(T)
}

// heapItems is what container/heap works on.
type heapItems[T any] heap[T]

func (h *heapItems[T]) Len() int           { return len(h.items) }
func (h *heapItems[T]) Less(i, j int) bool { return h.less(h.items[i], h.items[j]) }

func (h *heapItems[T]) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.moved(h.items[i], i)
	h.moved(h.items[j], j)
}

func (h *heapItems[T]) Push(x any) {
	h.items = append(h.items, x.(T))
	h.moved(x.(T), len(h.items)-1)
}

func (h *heapItems[T]) Pop() any {
	var zero T
	last := len(h.items) - 1
	x := h.items[last]
	h.items[last] = zero
	h.items = h.items[:last]
	h.moved(x, -1)
	return x
}
