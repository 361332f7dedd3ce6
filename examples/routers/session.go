package routers

import (
	"errors"
	"net/http"

	"github.com/alexedwards/scs/v2"

	"github.com/posthorn/webhook"
)

// people are who may sign in, by name. Yours are in a table.
type people map[string]webhook.Actor

var errNotSignedIn = errors.New("not signed in")

// actor is adminui.Config.Actor. The session has only the name: what somebody may do is
// looked up for each request, so that it can be taken away.
func (p people) actor(sessions *scs.SessionManager, r *http.Request) (webhook.Actor, error) {
	actor, ok := p[sessions.GetString(r.Context(), "name")]
	if !ok {
		return webhook.Actor{}, errNotSignedIn // answered with 401
	}
	return actor, nil
}

// orSignIn leads people who are not signed in to the login page. Forms, whose content
// would be lost, get the panel's own 401.
func (p people) orSignIn(sessions *scs.SessionManager, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.actor(sessions, r); err != nil && r.Method == http.MethodGet {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newSessions returns sessions in this process's memory; scs has stores for databases.
func newSessions() *scs.SessionManager {
	sessions := scs.New() // HttpOnly, SameSite=Lax
	sessions.Cookie.Name = "__Host-session"
	sessions.Cookie.Secure = true
	return sessions
}

// signIn is your login, which asks for more than a name.
func (p people) signIn(sessions *scs.SessionManager) http.Handler {
	login := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only a form: a link that signs in could be anybody's, and browsers follow it.
		name := r.PostFormValue("name")
		if _, ok := p[name]; !ok {
			http.Error(w, "sign in", http.StatusForbidden)
			return
		}
		if err := sessions.RenewToken(r.Context()); err != nil { // no session from before the login goes on
			http.Error(w, "try again", http.StatusInternalServerError)
			return
		}
		sessions.Put(r.Context(), "name", name)
		http.Redirect(w, r, "/admin/webhooks/", http.StatusSeeOther)
	})
	return http.NewCrossOriginProtection().Handler(login) // nobody else's page signs anybody in
}
