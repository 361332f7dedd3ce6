package httpapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/memstore"
)

// A host mounts the API beside its own, and says who calls by its own tokens.
func ExampleNew() {
	manager, err := webhook.NewManager(memstore.New(), webhook.ManagerConfig{})
	if err != nil {
		panic(err)
	}
	tokens := map[string]webhook.Actor{"t0ken": {ID: "ada", OrganizationID: "acme", Role: webhook.RoleAdmin}}
	api, err := httpapi.New(manager, httpapi.Config{Actor: func(r *http.Request) (webhook.Actor, error) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		actor, ok := tokens[token]
		if !ok {
			return webhook.Actor{}, errors.New("no such token")
		}
		return actor, nil
	}})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", api)

	for _, token := range []string{"t0ken", "guess"} {
		r := httptest.NewRequest(http.MethodGet, "/v1/organizations/acme/webhooks", http.NoBody)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}

	// Output:
	// 200 {"webhooks":[]}
	// 401 {"type":"about:blank","title":"Unauthorized","status":401,"detail":"The request does not say who you are, or not so that it can be believed."}
}
