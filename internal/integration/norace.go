//go:build !race

package integration

// Raced says that the race detector watches.
const Raced = false
