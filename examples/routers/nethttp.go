package routers

import "net/http"

func withNetHTTP(p parts) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/sign-in", p.people.signIn(p.sessions))
	panel := http.StripPrefix("/admin/webhooks", p.panel)
	mux.Handle("/admin/webhooks/", p.people.orSignIn(p.sessions, panel))
	mux.Handle("/api/v1/", http.StripPrefix("/api", p.api))
	return p.sessions.LoadAndSave(mux)
}
