package adminui

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

// createdData is the one page that has a secret.
type createdData struct {
	Webhook  webhook.Webhook
	Secret   string
	Header   string
	Snippets []snippet
}

// newKey makes the idempotency key of a form.
func (c *call) newKey() string { return "panel-" + uuid.NewString() }

// formData is a form, and what is around it.
type formData struct {
	*form
	Webhook  webhook.Webhook // of a change
	Subjects []webhook.SubjectTypeInfo
	Held     string // how many deliveries are held
	Ahead    *ahead
}

// ahead is who has changed a webhook while somebody else was editing it.
type ahead struct {
	By      string
	At      moment
	Changes []difference
	Gone    []string // what is ticked, and cannot be any more
}

// difference is a field as it is now.
type difference struct{ Field, Now string }

// newWebhook shows the empty form.
func (c *call) newWebhook() error {
	if err := c.mustChange(); err != nil {
		return err
	}
	return c.ok("new", c.newPage(c.blank()))
}

func (c *call) newPage(f *form) *page {
	return &page{Title: "Add a webhook", Crumbs: c.crumbs(nil), Data: formData{form: f, Subjects: c.catalog.SubjectTypes()}}
}

// create creates a webhook and answers with its secret, which no other page has.
//
// The answer is not a redirect, because the secret would have to be kept for it
// somewhere. So reloading the page sends the form again. Its key makes that
// harmless: the Manager finds the webhook that the first one has created, and the
// second is led to its page.
func (c *call) create() error {
	f := c.readNew()
	if f.Key == "" {
		f.Key = c.newKey() // not a form of ours
	}
	sent := c.r.PostForm["event"]
	w, secret, err := c.manager.Create(c.r.Context(), c.actor, f.input(sent))
	switch {
	case errors.Is(err, webhook.ErrConflict) && w.ID != uuid.Nil:
		return c.seeOther(w.ID.String() + "?said=existed")
	case errors.Is(err, webhook.ErrConflict):
		return conflictError{"This form created a webhook that has been deleted since. To create another, begin with an empty form."}
	case f.understand(err, len(sent) == 0):
		c.render(http.StatusUnprocessableEntity, "new", c.newPage(f))
		return nil
	case err != nil:
		return err
	}
	snippets, err := snippetsFor(c.cfg.SignatureHeader)
	if err != nil {
		return err
	}
	c.render(http.StatusCreated, "created", &page{
		Title: "Copy the secret", Crumbs: c.crumbs(&w),
		Data: createdData{Webhook: w, Secret: secret.Reveal(), Header: c.cfg.SignatureHeader, Snippets: snippets},
	})
	return nil
}

// crumbs are the pages above one of a webhook, or of none.
func (c *call) crumbs(w *webhook.Webhook) []crumb {
	list := []crumb{{listTitle, ""}}
	if w != nil {
		list = append(list, crumb{w.Name, w.ID.String()})
	}
	return list
}
