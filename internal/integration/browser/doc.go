// Package browser drives the panel with Chromium, as people do: the tests of
// this folder are all that is here.
package browser
