package httpapi

import (
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// schema is a JSON schema, 2020-12, which OpenAPI 3.1 takes as it is.
type schema map[string]any

func reference(name string) schema { return schema{"$ref": "#/components/schemas/" + name} }

// bodies are the schemas of what is sent and answered, by their names in the document.
var bodies = map[string]reflect.Type{
	"CreateWebhookRequest":   reflect.TypeFor[createRequest](),
	"CreateWebhookResponse":  reflect.TypeFor[createAnswer](),
	"ListWebhooksResponse":   reflect.TypeFor[webhooksAnswer](),
	"WebhookResponse":        reflect.TypeFor[webhookAnswer](),
	"UpdateWebhookRequest":   reflect.TypeFor[updateRequest](),
	"DeleteWebhookResponse":  reflect.TypeFor[deletionAnswer](),
	"ListLogsResponse":       reflect.TypeFor[logsAnswer](),
	"ListAttemptsResponse":   reflect.TypeFor[attemptsAnswer](),
	"ListDeliveriesResponse": reflect.TypeFor[deliveriesAnswer](),
	"DeliveryResponse":       reflect.TypeFor[deliveryAnswer](),
	"ListCountersResponse":   reflect.TypeFor[countersAnswer](),
	"SendTestRequest":        reflect.TypeFor[testRequest](),
	"RecoverRequest":         reflect.TypeFor[recoverRequest](),
	"RecoverResponse":        reflect.TypeFor[recoveryAnswer](),
	"EventTypesResponse":     reflect.TypeFor[eventTypesAnswer](),
	"Problem":                reflect.TypeFor[problem](),
}

// parts are what bodies consist of.
var parts = map[reflect.Type]string{
	reflect.TypeFor[subscription]():    "Subscription",
	reflect.TypeFor[hook]():            "Webhook",
	reflect.TypeFor[delivery]():        "Delivery",
	reflect.TypeFor[attempt]():         "Attempt",
	reflect.TypeFor[content]():         "Content",
	reflect.TypeFor[timing]():          "Timing",
	reflect.TypeFor[counter]():         "Counter",
	reflect.TypeFor[bucket]():          "Bucket",
	reflect.TypeFor[recovery]():        "Recovery",
	reflect.TypeFor[fault]():           "Fault",
	reflect.TypeFor[subjectTypeInfo](): "SubjectTypeInfo",
	reflect.TypeFor[eventTypeInfo]():   "EventTypeInfo",
	reflect.TypeFor[createContent]():   "CreateWebhookContent",
	reflect.TypeFor[updateContent]():   "UpdateWebhookContent",
}

// document is the API as OpenAPI 3.1 describes it.
func document(n *names) schema {
	schemas := schema{
		"SubjectType":      open(subjectTypePrefix, namesOf(subjectTypePrefix, n.subjects)),
		"SubscriptionType": open(subscriptionPrefix, namesOf(subscriptionPrefix, n.events)),
		"Status":           closed(namesOf(statusPrefix, statuses)),
		"DeliveryState":    closed(namesOf(statePrefix, states)),
		"Outcome":          closed(namesOf(outcomePrefix, outcomes)),
		"ErrorClass":       schema{"type": "string", "pattern": "^" + errorPrefix, "description": "More may come."},
		"OpenAPIDocument":  schema{"type": "object"},
	}
	for name, t := range bodies {
		schemas[name] = schemaOf(t)
	}
	for t, name := range parts {
		schemas[name] = schemaOf(t)
	}
	paths := schema{}
	for _, o := range operations {
		item, ok := paths[o.path].(schema)
		if !ok {
			item = schema{}
			if p := pathParameters(o.path); len(p) > 0 {
				item["parameters"] = p
			}
			paths[o.path] = item
		}
		item[strings.ToLower(o.method)] = o.describe()
	}
	return schema{
		"openapi": "3.1.0",
		"info": schema{
			"title": "Webhooks", "version": "1",
			"description": "Webhooks of an organization: registrations, deliveries and their log. Errors are problem documents (RFC 9457).",
		},
		"servers":  []schema{{"url": "/"}},
		"security": []schema{{"bearer": []string{}}},
		"paths":    paths,
		"components": schema{
			"schemas":         schemas,
			"securitySchemes": schema{"bearer": schema{"type": "http", "scheme": "bearer", "description": "Or what else this service authenticates with."}},
		},
	}
}

// open is an enum that answers may have retired values of.
func open(prefix string, names []string) schema {
	return schema{
		"anyOf":       []schema{{"type": "string", "enum": names}, {"type": "string", "pattern": "^" + prefix}},
		"description": "Requests take those that are listed; answers may have others, which are no longer offered.",
	}
}

func closed(names []string) schema { return schema{"type": "string", "enum": names} }

func pathParameters(path string) (list []schema) {
	for step := range strings.SplitSeq(path, "/") {
		name, ok := strings.CutPrefix(step, "{")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		s := schema{"type": "string"}
		if name != "organization_id" {
			s["format"] = "uuid"
		}
		list = append(list, schema{"name": name, "in": "path", "required": true, "schema": s})
	}
	return list
}

// problems are the statuses that every operation may answer with.
var problems = []int{
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict,
	http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusInternalServerError, http.StatusServiceUnavailable,
}

func (o operation) describe() schema {
	out := schema{"operationId": o.id, "summary": o.summary}
	var query []schema
	for _, p := range o.query {
		query = append(query, schema{"name": p.name, "in": "query", "description": p.about, "schema": p.schema})
	}
	if len(query) > 0 {
		out["parameters"] = query
	}
	if o.request != "" {
		out["requestBody"] = schema{"required": true, "content": schema{"application/json": schema{"schema": reference(o.request)}}}
	}
	answers := schema{}
	for _, r := range o.answers {
		a := schema{"description": r.about}
		if r.schema != "" {
			a["content"] = schema{"application/json": schema{"schema": reference(r.schema)}}
		}
		answers[strconv.Itoa(r.status)] = a
	}
	for _, status := range problems {
		answers[strconv.Itoa(status)] = schema{
			"description": http.StatusText(status), "content": schema{"application/problem+json": schema{"schema": reference("Problem")}},
		}
	}
	out["responses"] = answers
	return out
}

// schemaOf describes a struct as encoding/json writes and reads it. A field tagged
// enum is one of the named values; one that is omitempty, or tagged optional, need
// not be there.
func schemaOf(t reflect.Type) schema {
	properties, required := schema{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if e := f.Tag.Get("enum"); e != "" {
			properties[name] = reference(e)
		} else {
			properties[name] = valueSchema(f.Type)
		}
		if options != "" || f.Tag.Get("optional") != "" {
			continue
		}
		required = append(required, name)
		if f.Type.Kind() == reflect.Pointer {
			properties[name] = schema{"anyOf": []schema{valueSchema(f.Type), {"type": "null"}}}
		}
	}
	out := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func valueSchema(t reflect.Type) schema {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[uuid.UUID]():
		return schema{"type": "string", "format": "uuid"}
	case parts[t] != "":
		return reference(parts[t])
	}
	switch t.Kind() {
	case reflect.Pointer:
		return valueSchema(t.Elem())
	case reflect.Slice:
		return schema{"type": "array", "items": valueSchema(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": valueSchema(t.Elem())}
	case reflect.Struct:
		return schemaOf(t)
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Float64:
		return schema{"type": "number"}
	case reflect.Int, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Interface: // any JSON value
		return schema{}
	default:
		panic(fmt.Sprintf("httpapi: no schema for %s", t)) // of our own types, so that a test finds it
	}
}
