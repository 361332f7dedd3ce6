package webhook_test

import (
	"context"
	"fmt"
	"log"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/memstore"
)

// OrderPlaced is what a shop tells of, and Order the data of it. docs/events.md shows this code.
type Order struct {
	Number   int    `json:"number"`
	Customer string `json:"customer"`
}

var OrderPlaced = webhook.DefineEvent("order_placed", "Order Placed", Order{Number: 1, Customer: "Ada"})

func ExampleDefineEvent() {
	ctx := context.Background()
	branches := []webhook.SubjectTypeInfo{{Type: "branch", Title: "Branch"}}
	branch := webhook.Subject{Type: "branch", ID: "2c5a8f5e-3f0b-4b7e-9d35-8a0c8c1f7e11"}

	catalog, err := webhook.NewCatalog(branches, []webhook.EventTypeInfo{OrderPlaced.Info()})
	if err != nil {
		log.Fatal(err) // also for what is wrong with the definitions
	}
	pub, err := webhook.NewPublisher(memstore.New(), webhook.PublisherConfig{Catalog: catalog})
	if err != nil {
		log.Fatal(err)
	}
	published, err := pub.Publish(ctx, OrderPlaced.New("acme", branch, Order{Number: 7, Customer: "Ben"}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(published.Deliveries, "deliveries: nobody is subscribed")
	// Output: 0 deliveries: nobody is subscribed
}

// A receiver that shares the definition with the sender.
func ExampleEventDefinition_Decode() {
	body := []byte(`{"id":"019b797c-8e00-7d3a-9f00-5b1c2d3e4f50","event_type":"order_placed",` +
		`"subject":{"type":"branch","id":"2c5a8f5e-3f0b-4b7e-9d35-8a0c8c1f7e11"},"timestamp":"2026-01-01T12:00:00Z","data":{"number":7,"customer":"Ben"}}`)

	event, err := webhook.ParsePayload(body) // which a Verifier has let through
	if err != nil {
		log.Fatal(err)
	}
	switch event.Type {
	case OrderPlaced.Type():
		order, err := OrderPlaced.Decode(event)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("order %d of %s\n", order.Number, order.Customer)
	default: // one that this receiver does not know
	}
	// Output: order 7 of Ben
}
