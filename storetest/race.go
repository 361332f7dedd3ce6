//go:build race

package storetest

// raced says that the race detector watches, under which a store that is compiled
// into the tests takes ten times as long.
const raced = true
