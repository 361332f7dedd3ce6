package main

import (
	"crypto/rand"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"github.com/posthorn/webhook"
)

// organization is the customer whose people these are.
const organization = "acme"

// user is somebody who may sign in.
type user struct {
	Name, Title string
	Role        webhook.Role // in the organization
	Staff       bool         // works for Acme itself, and is in no customer's organization
	About       string
}

// users are those there are, and who of them is signed in. A service has them in its
// database.
type users struct {
	all    []user
	signIn *template.Template

	mu       sync.Mutex
	sessions map[string]user // by the cookie's value
}

//go:embed signin.html
var signInPage string

func newUsers() *users {
	return &users{
		all: []user{
			{"olga", "Olga", webhook.RoleOwner, false, "may do everything"},
			{"ada", "Ada", webhook.RoleAdmin, false, "may do everything"},
			{"sam", "Sam", "", true, "sees how much there is to deliver, and pauses it"},
			{"vic", "Vic", webhook.RoleViewer, false, "sees webhooks and logs, changes nothing, and sees no payloads"},
		},
		signIn:   template.Must(template.New("").Parse(signInPage)),
		sessions: map[string]user{},
	}
}

func (u *users) named(name string) (user, bool) {
	for _, x := range u.all {
		if x.Name == name {
			return x, true
		}
	}
	return user{}, false
}

func (x user) actor() webhook.Actor {
	return webhook.Actor{ID: x.Name, OrganizationID: organization, Role: x.Role}
}

var errNotSignedIn = errors.New("not signed in")

const cookieName = "session"

// bySession is for the panel, adminui.Config.Actor: who a browser's request comes
// from.
func (u *users) bySession(r *http.Request) (webhook.Actor, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return webhook.Actor{}, errNotSignedIn
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	x, ok := u.sessions[cookie.Value]
	if !ok {
		return webhook.Actor{}, errNotSignedIn
	}
	return x.actor(), nil
}

// staffBySession is for the page of Acme's own people, adminui.OperationsConfig.Staff.
func (u *users) staffBySession(r *http.Request) (id string, ok bool) {
	actor, err := u.bySession(r)
	if err != nil {
		return "", false
	}
	x, ok := u.named(actor.ID)
	return x.Name, ok && x.Staff
}

// orSignIn leads people who are not signed in to the login page, instead of the
// panel's own page that says so.
func (u *users) orSignIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := u.bySession(r); err != nil && r.Method == http.MethodGet {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// byToken is for the API, httpapi.Config.Actor. Here a token is just a user's name;
// a service's cannot be guessed.
func (u *users) byToken(r *http.Request) (webhook.Actor, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return webhook.Actor{}, errNotSignedIn
	}
	x, ok := u.named(token)
	if !ok {
		return webhook.Actor{}, errNotSignedIn
	}
	return x.actor(), nil
}

// route adds the application's own pages.
func (u *users) route(mux *http.ServeMux) {
	origins := http.NewCrossOriginProtection() // nobody else's page signs anybody in
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		actor, _ := u.bySession(r) // the zero actor is nobody
		_ = u.signIn.Execute(w, struct {
			Users []user
			Name  string
		}{u.all, actor.ID})
	})
	mux.Handle("POST /sign-in", origins.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, ok := u.named(r.FormValue("user"))
		if !ok {
			http.Error(w, "there is nobody of that name", http.StatusForbidden)
			return
		}
		id := rand.Text()
		u.mu.Lock()
		u.sessions[id] = x
		u.mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		page := "/admin/webhooks/"
		if x.Staff {
			page = operationsPath + "/"
		}
		http.Redirect(w, r, page, http.StatusSeeOther)
	})))
	mux.HandleFunc("GET /sign-out", func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie(cookieName); err == nil {
			u.mu.Lock()
			delete(u.sessions, cookie.Value)
			u.mu.Unlock()
		}
		http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}
