package routers

import (
	"net/http"

	"github.com/labstack/echo/v5"
)

func withEcho(p parts) http.Handler {
	e := echo.New()
	e.Use(echo.WrapMiddleware(p.sessions.LoadAndSave))
	e.Any("/sign-in", echo.WrapHandler(p.people.signIn(p.sessions)))
	panel := http.StripPrefix("/admin/webhooks", p.panel)
	for _, path := range []string{"/admin/webhooks", "/admin/webhooks/*"} { // the first leads to the second
		e.Any(path, echo.WrapHandler(p.people.orSignIn(p.sessions, panel)))
	}
	e.Any("/api/v1/*", echo.WrapHandler(http.StripPrefix("/api", p.api)))
	return e
}
