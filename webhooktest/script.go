package webhooktest

import (
	"net/http"
	"strconv"
	"time"
)

// Answer is how an endpoint answers one request. The zero Answer is 204 No
// Content.
type Answer struct {
	Status int         // defaults to 204
	Header http.Header // added to the answer's
	Body   []byte

	// Hang makes the endpoint say nothing until the sender has given up.
	Hang bool

	// Reset makes the endpoint close the connection without an answer.
	Reset bool
}

// Script says how an endpoint answers its n-th request, counted from 1.
type Script func(n int) Answer

// Succeed answers every request with 204.
func Succeed() Script { return Status(http.StatusNoContent) }

// Status answers every request with a status.
func Status(code int) Script { return Always(Answer{Status: code}) }

// Always gives every request the same answer.
func Always(a Answer) Script { return func(int) Answer { return a } }

// Fail answers the first n requests with 500, and the rest with 204.
func Fail(n int) Script {
	return func(i int) Answer {
		if i <= n {
			return Answer{Status: http.StatusInternalServerError}
		}
		return Answer{}
	}
}

// Hang never answers.
func Hang() Script { return Always(Answer{Hang: true}) }

// Reset closes every connection without an answer.
func Reset() Script { return Always(Answer{Reset: true}) }

// RetryAfter answers every request with a status and a Retry-After header in
// whole seconds.
func RetryAfter(code int, wait time.Duration) Script {
	seconds := strconv.Itoa(int(wait / time.Second))
	return Always(Answer{Status: code, Header: http.Header{"Retry-After": {seconds}}})
}

// Sequence gives each request the next answer, and the last one to all after.
// Without answers it is Succeed.
func Sequence(answers ...Answer) Script {
	return func(n int) Answer {
		if len(answers) == 0 {
			return Answer{}
		}
		return answers[min(n, len(answers))-1]
	}
}
