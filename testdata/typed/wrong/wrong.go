// Package wrong is fits with other types: what ends in "want" must not compile, for these types.
package wrong

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
	sampled     = webhook.DefineEvent[Message]("sampled", "Sampled", Order{}) // want: Order as Message

	room = webhook.Subject{Type: "room", ID: "1"}

	_ = messageSent.New("acme", room, Order{Number: 1})                // want: Order as Message
	_ = messageSent.New("acme", room, &Message{Text: "Hi"})            // want: *Message as Message
	_ = messageSent.New("acme", room, map[string]string{"text": "Hi"}) // want: map[string]string as Message
	_ = messageSent.New("acme", room, "Hi")                            // want: string as Message
	_ = orderPlaced.New("acme", room, Order{Number: 2})                // want: Order as *Order

	_ Order = received(messageSent.Decode(webhook.Payload{})) // want: Message as Order
)

func received[T any](data T, _ error) T { return data }
