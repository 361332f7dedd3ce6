// Package fits publishes and receives typed events. It compiles.
package fits

import "github.com/posthorn/webhook"

type Message struct {
	Text string `json:"text"`
}

type Order struct {
	Number int `json:"number"`
}

var (
	messageSent = webhook.DefineEvent("message_sent", "Message Sent", Message{Text: "Hello"})
	orderPlaced = webhook.DefineEvent[*Order]("order_placed", "Order Placed", &Order{Number: 1})
	anything    = webhook.DefineEvent[any]("anything", "Anything", Message{})

	room = webhook.Subject{Type: "room", ID: "1"}

	_ = messageSent.New("acme", room, Message{Text: "Hi"})
	_ = orderPlaced.New("acme", room, &Order{Number: 2})
	_ = anything.New("acme", room, Order{Number: 2})

	_ Message = received(messageSent.Decode(webhook.Payload{}))
)

func received[T any](data T, _ error) T { return data }
