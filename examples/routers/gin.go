package routers

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

func withGin(p parts) http.Handler {
	r := gin.New()
	r.Any("/sign-in", gin.WrapH(p.people.signIn(p.sessions)))
	panel := http.StripPrefix("/admin/webhooks", p.panel)
	r.Any("/admin/webhooks/*path", gin.WrapH(p.people.orSignIn(p.sessions, panel)))
	r.Any("/api/v1/*path", gin.WrapH(http.StripPrefix("/api", p.api)))
	return p.sessions.LoadAndSave(r) // round the engine: gin's middleware is no http.Handler
}
