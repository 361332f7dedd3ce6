package webhook

import "net/http"

// HTTPDoer sends one HTTP request. *http.Client is one.
//
// The client that [NewHTTPClient] returns keeps attempts away from addresses
// that are not public, follows no redirects and bounds what it reads. A host
// that brings its own HTTPDoer takes over all three duties; to add something,
// wrap the library's client. An error that says nothing of its kind is logged as
// [ErrorConnect]. Do must honour the
// request's context: an attempt's slot is not free until Do has returned. It should
// call the request's httptrace hooks, as net/http's transport does: until GotConn is
// called, for 100 ms at most, an attempt may keep others waiting.
// Implementations must be safe for concurrent use.
type HTTPDoer interface {
	Do(*http.Request) (*http.Response, error)
}
