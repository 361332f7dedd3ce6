package httpapi

import (
	"encoding/json"
	"net/http"

	"github.com/posthorn/webhook"
)

// Parameters of lists.
var (
	limitParameter     = parameter{"limit", "Items a page; 50 by default.", schema{"type": "integer", "minimum": 1, "maximum": webhook.MaxPageSize}}
	cursorParameter    = parameter{"cursor", "next_cursor of the page before; the filters must be the same.", schema{"type": "string"}}
	eventTypeParameter = parameter{"subscription_type", "Only this type.", reference("SubscriptionType")}
	sinceParameter     = parameter{"since", "At this time or later.", schema{"type": "string", "format": "date-time"}}
	beforeParameter    = parameter{"before", "Before this time.", schema{"type": "string", "format": "date-time"}}

	attemptParameters = []parameter{
		{"outcome", "Only this outcome.", reference("Outcome")},
		{"status_class", "Only answers whose status code begins with this digit.", schema{"type": "integer", "minimum": 1, "maximum": 5}},
		eventTypeParameter, sinceParameter, beforeParameter, limitParameter, cursorParameter,
	}
	deliveryParameters = []parameter{
		{"state", "Only this state.", reference("DeliveryState")},
		{"event_id", "Only this event's.", schema{"type": "string", "format": "uuid"}},
		eventTypeParameter, sinceParameter, beforeParameter, limitParameter, cursorParameter,
	}
)

// operations is the API: what the mux is told, and what the document says.
var operations = []operation{
	{
		method: http.MethodPost, path: webhooksPath, id: "createWebhook", summary: "Register a webhook. Its secret is in this answer and nowhere else.",
		request: "CreateWebhookRequest", answers: []reply{{http.StatusCreated, "CreateWebhookResponse", "The webhook, active, and its secret."}},
		conflict: "The organization has as many webhooks as it may have.", serve: (*api).create,
	},
	{
		method: http.MethodGet, path: webhooksPath, id: "listWebhooks", summary: "List the organization's webhooks, newest first.",
		query:   []parameter{{"status", "Only this status.", reference("Status")}, eventTypeParameter, limitParameter, cursorParameter},
		answers: []reply{{http.StatusOK, "ListWebhooksResponse", "A page. It has fewer than limit if they are very large."}}, serve: (*api).list,
	},
	{
		method: http.MethodGet, path: webhookPath, id: "getWebhook", summary: "Read a webhook.",
		answers: []reply{{http.StatusOK, "WebhookResponse", "The webhook."}}, serve: (*api).read,
	},
	{
		method: http.MethodPatch, path: webhookPath, id: "updateWebhook",
		summary: "Change a webhook. What content leaves out stays. version is that of the webhook as it was read; resume, on activation, delivers what was held.",
		request: "UpdateWebhookRequest", answers: []reply{{http.StatusOK, "WebhookResponse", "The webhook as it is now."}},
		conflict: "The webhook has changed since that version; read it and make the change again.", serve: (*api).update,
	},
	{
		method: http.MethodDelete, path: webhookPath, id: "deleteWebhook", summary: "Delete a webhook. Nothing new is sent from then on.",
		answers: []reply{
			{http.StatusNoContent, "", "Deleted; nothing more reaches the endpoint."},
			{http.StatusAccepted, "DeleteWebhookResponse", "Deleted; attempts that are in flight still may reach the endpoint yet. Deleting it again goes on waiting for them."},
		},
		serve: (*api).remove,
	},
	{
		method: http.MethodGet, path: webhookPath + "/logs", id: "listLogs", summary: "The webhook's delivery log: every attempt, newest first.",
		query: attemptParameters, answers: []reply{{http.StatusOK, "ListLogsResponse", "A page."}}, serve: (*api).logs,
	},
	{
		method: http.MethodGet, path: webhookPath + "/deliveries", id: "listWebhookDeliveries", summary: "The webhook's deliveries, newest first.",
		query: deliveryParameters, answers: []reply{{http.StatusOK, "ListDeliveriesResponse", "A page."}}, serve: (*api).deliveries,
	},
	{
		method: http.MethodGet, path: webhookPath + "/counters", id: "listCounters", summary: "The webhook's attempts by hour, oldest first.",
		query: []parameter{sinceParameter, beforeParameter}, answers: []reply{{http.StatusOK, "ListCountersResponse", "The hours that have any."}}, serve: (*api).counters,
	},
	{
		method: http.MethodGet, path: webhookPath + "/health", id: "getHealth",
		summary: "How the webhook does: its attempts of the last 24 hours, and how often it has failed since the last success, in the last 30 days.",
		answers: []reply{{http.StatusOK, "HealthResponse", "Its health."}}, serve: (*api).health,
	},
	{
		method: http.MethodPost, path: webhookPath + "/test", id: "sendTest", summary: "Send a sample of an event type to the webhook, once.",
		query:   []parameter{{"wait", "Wait this many seconds for the answer, at most; by default not at all, nor when too many do so already.", schema{"type": "integer", "minimum": 1, "maximum": maxWait}}},
		request: "SendTestRequest", answers: []reply{
			{http.StatusOK, "SendTestResponse", "The delivery, finished while it was waited for, and its attempt."},
			{http.StatusAccepted, "DeliveryResponse", "The delivery, on its way; or held, if the webhook has become inactive meanwhile."},
		},
		conflict: "The webhook is inactive, or has no subscription.", serve: (*api).test,
	},
	{
		method: http.MethodPost, path: webhookPath + "/recover", id: "recoverWebhook",
		summary: "Send again what has failed since a time, and release what is held. With preview, only count it. What takes longer than 10 s is answered with a next_cursor: send the request again with it, until there is none. What is done is never done again.",
		request: "RecoverRequest", answers: []reply{{http.StatusOK, "RecoverResponse", "What this request did, or would do."}},
		conflict: "The webhook is inactive; activate it first.", serve: (*api).recover,
	},
	{
		method: http.MethodGet, path: deliveriesPath, id: "listDeliveries", summary: "The organization's deliveries, newest first.",
		query: deliveryParameters, answers: []reply{{http.StatusOK, "ListDeliveriesResponse", "A page."}}, serve: (*api).deliveries,
	},
	{
		method: http.MethodGet, path: deliveryPath, id: "getDelivery", summary: "Read a delivery, with its payload.",
		answers: []reply{{http.StatusOK, "DeliveryResponse", "The delivery."}}, serve: (*api).delivery,
	},
	{
		method: http.MethodGet, path: deliveryPath + "/attempts", id: "listAttempts", summary: "The delivery's attempts, newest first.",
		query: attemptParameters, answers: []reply{{http.StatusOK, "ListAttemptsResponse", "A page."}}, serve: (*api).attemptsOfDelivery,
	},
	{
		method: http.MethodPost, path: deliveryPath + "/redeliver", id: "redeliver", summary: "Send a finished delivery's event again.",
		answers:  []reply{{http.StatusAccepted, "DeliveryResponse", "The new delivery, on its way."}},
		conflict: "The delivery is not finished, its payload is no longer kept, or its webhook has been deleted.", serve: (*api).redeliver,
	},
	{
		method: http.MethodPost, path: deliveryPath + "/cancel", id: "cancelDelivery", summary: "End a delivery that is pending or held.",
		answers: []reply{{http.StatusNoContent, "", "Cancelled."}}, conflict: "The delivery is finished.", serve: (*api).cancel,
	},
	{
		method: http.MethodGet, path: organizationPath + "/events/{event_id}/explanation", id: "explainEvent",
		summary: "Which of the organization's webhooks ask for a stored event, as they are now, and why the others do not.",
		answers: []reply{{http.StatusOK, "ExplainResponse", "All of the organization's webhooks, newest first."}}, serve: (*api).explainEvent,
	},
	{
		method: http.MethodPost, path: organizationPath + "/explain", id: "explainDraft",
		summary: "Which of the organization's webhooks would ask for an event, and why the others would not. Nothing is published. An event that no webhook asks for is not stored, so this is how to find out why.",
		request: "ExplainRequest", answers: []reply{{http.StatusOK, "ExplainResponse", "All of the organization's webhooks, newest first."}}, serve: (*api).explainDraft,
	},
	{
		method: http.MethodGet, path: organizationPath + "/event-types", id: "listEventTypes", summary: "What webhooks can be subscribed to, with a sample of the data and, where there is one, its JSON Schema.",
		answers: []reply{{http.StatusOK, "EventTypesResponse", "Subject types and event types."}}, serve: (*api).eventTypes,
	},
	{
		method: http.MethodGet, path: documentPath, id: "getOpenAPI", summary: "This document.",
		answers: []reply{{http.StatusOK, "OpenAPIDocument", "OpenAPI 3.1."}}, serve: (*api).openAPI,
	},
}

type (
	subjectTypeInfo struct {
		Name        string `json:"name" enum:"SubjectType"`
		Title       string `json:"title"`
		Description string `json:"description"`
	}
	eventTypeInfo struct {
		Name        string          `json:"name" enum:"SubscriptionType"`
		Title       string          `json:"title"`
		Description string          `json:"description"`
		Sample      any             `json:"sample"`
		Schema      json.RawMessage `json:"schema,omitempty"` // of the data
	}
	eventTypesAnswer struct {
		SubjectTypes []subjectTypeInfo `json:"subject_types"`
		EventTypes   []eventTypeInfo   `json:"event_types"`
	}
)

// mayRead lets those through who may read anything. The catalog is the host's, but
// for its customers' people only; the manager says who these are.
func (a *api) mayRead(c *call) error {
	_, err := a.manager.Webhooks(c.Context(), c.actor, webhook.WebhookQuery{Limit: 1})
	return err
}

func (a *api) eventTypes(c *call) (*answer, error) {
	if err := a.mayRead(c); err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, eventTypesAnswer{
		SubjectTypes: mapped(a.names.catalog.SubjectTypes(), func(s *webhook.SubjectTypeInfo) subjectTypeInfo {
			return subjectTypeInfo{nameOf(subjectTypePrefix, s.Type), s.Title, s.Description}
		}),
		EventTypes: mapped(a.names.catalog.EventTypes(), func(e *webhook.EventTypeInfo) eventTypeInfo {
			return eventTypeInfo{nameOf(subscriptionPrefix, e.Type), e.Title, e.Description, e.Sample, e.Schema}
		}),
	}}, nil
}
