package smtpnotify_test

import (
	"context"
	"fmt"
	"log"
	"net/mail"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/smtpnotify"
)

const password = "of the account that sends"

// adminsOf would ask the host's own tables.
func adminsOf(_ context.Context, organizationID string) ([]mail.Address, error) {
	return []mail.Address{{Name: "Ada", Address: "ada@" + organizationID + ".example"}}, nil
}

func Example() {
	store := memstore.New()

	mailer, err := smtpnotify.New(smtpnotify.Config{
		Host: "smtp.example.com", Username: "hooks", Password: password, // port 587, STARTTLS required
		From:       mail.Address{Name: "Example Chat", Address: "hooks@chat.example"},
		Recipients: adminsOf, // yours: the addresses of an organization's owners and admins
		Link: func(n webhook.Notice) string {
			return "https://chat.example/admin/webhooks/" + n.WebhookID.String()
		},
	})
	if err != nil {
		log.Fatal(err) // a webhook.ValidationErrors names every fault at once
	}
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Notifier: mailer})

	fmt.Println(disp != nil, err)
	// Output: true <nil>
}
