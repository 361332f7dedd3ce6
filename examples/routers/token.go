package routers

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"

	"github.com/posthorn/webhook"
)

// tokens are who may call the API, by the SHA-256 of the token. Yours are in a table, whose
// readers learn no token. A token is random, so that a plain hash is enough, and finding it
// by its hash tells nothing by the time it takes.
type tokens map[[sha256.Size]byte]webhook.Actor

// issue returns a new token, to be shown once.
func (t tokens) issue(a webhook.Actor) string {
	token := "acme_" + rand.Text() // 130 bits
	t[sha256.Sum256([]byte(token))] = a
	return token
}

var errNoSuchToken = errors.New("no such token")

// actor is httpapi.Config.Actor.
func (t tokens) actor(r *http.Request) (webhook.Actor, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return webhook.Actor{}, errNoSuchToken
	}
	actor, ok := t[sha256.Sum256([]byte(token))]
	if !ok {
		return webhook.Actor{}, errNoSuchToken // answered with 401
	}
	return actor, nil
}
