//go:build race

package integration_test

// raced says that the race detector watches, under which SQLite, which is
// compiled into the tests, takes ten times as long.
const raced = true
