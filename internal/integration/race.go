//go:build race

package integration

// Raced says that the race detector watches, under which SQLite, which is
// compiled into the tests, takes ten times as long.
const Raced = true
