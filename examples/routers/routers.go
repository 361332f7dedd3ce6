// Package routers shows how the panel and the JSON API are mounted in net/http, chi, gin
// and echo, and who it is that asks: a person by a session, a program by a bearer token.
// docs/routers.md explains it; the test sends the same requests to each of them.
package routers

import (
	"net/http"

	"github.com/alexedwards/scs/v2"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/adminui"
	"github.com/posthorn/webhook/httpapi"
)

// parts are what each router mounts.
type parts struct {
	panel, api http.Handler
	sessions   *scs.SessionManager
	people     people
}

func newParts(mgr *webhook.Manager, sessions *scs.SessionManager, p people, t tokens) (parts, error) {
	panel, err := adminui.New(mgr, adminui.Config{
		Actor: func(r *http.Request) (webhook.Actor, error) { return p.actor(sessions, r) },
	})
	if err != nil {
		return parts{}, err
	}
	api, err := httpapi.New(mgr, httpapi.Config{Actor: t.actor})
	return parts{panel, api, sessions, p}, err
}
