// Package webhooktest has fakes for the tests of services that send webhooks: a
// [Clock] that is moved by hand, an [Inbox] that receives over real HTTPS and
// verifies, endpoints of it that fail by a script, and [Drain], which carries
// every delivery through its whole schedule in milliseconds.
//
//	clock := &webhooktest.Clock{}
//	inbox := webhooktest.NewInbox(t)
//	endpoint := inbox.Endpoint(webhooktest.Fail(2))
//
//	store := memstore.New()
//	dispatcher, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{Clock: clock, HTTPDoer: inbox.HTTPDoer()})
//	manager, err := webhook.NewManager(store, webhook.ManagerConfig{Dispatcher: dispatcher, AllowedPrefixes: inbox.Prefixes()})
//	publisher, err := webhook.NewPublisher(store, webhook.PublisherConfig{Dispatcher: dispatcher})
//
//	w, secret, err := manager.Create(ctx, admin, webhook.WebhookInput{Name: "test", EndpointURL: endpoint.URL(), Subscriptions: …})
//	endpoint.Trust(secret)
//	// … make the service publish …
//	webhooktest.Drain(t, dispatcher, clock)
//	received := endpoint.Received() // three requests of one delivery
package webhooktest
