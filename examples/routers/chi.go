package routers

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

func withChi(p parts) http.Handler {
	r := chi.NewRouter()
	r.Use(p.sessions.LoadAndSave)
	r.Handle("/sign-in", p.people.signIn(p.sessions))
	panel := http.StripPrefix("/admin/webhooks", p.panel) // Mount strips nothing from the URL
	r.Mount("/admin/webhooks", p.people.orSignIn(p.sessions, panel))
	r.Mount("/api/v1", http.StripPrefix("/api", p.api))
	return r
}
