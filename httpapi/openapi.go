package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/webhook"
)

const (
	basePath     = "/v1"
	documentPath = basePath + "/openapi.json"

	// server is what stands before the document's paths, as seen from where the
	// document is: right behind any prefix and any proxy.
	server = ".." + basePath
)

func (a *api) openAPI(c *call) (*answer, error) {
	if err := a.mayRead(c); err != nil {
		return nil, err
	}
	return &answer{http.StatusOK, a.document}, nil
}

// schema is a JSON schema, 2020-12, which OpenAPI 3.1 takes as it is, or another
// part of the document.
type schema map[string]any

const componentsPath = "#/components/schemas/"

func reference(name string) schema { return schema{"$ref": componentsPath + name} }

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
	"HealthResponse":         reflect.TypeFor[healthAnswer](),
	"SendTestRequest":        reflect.TypeFor[testRequest](),
	"SendTestResponse":       reflect.TypeFor[testAnswer](),
	"RecoverRequest":         reflect.TypeFor[recoverRequest](),
	"RecoverResponse":        reflect.TypeFor[recoveryAnswer](),
	"ExplainRequest":         reflect.TypeFor[explainRequest](),
	"ExplainResponse":        reflect.TypeFor[explanationAnswer](),
	"EventTypesResponse":     reflect.TypeFor[eventTypesAnswer](),
	"Problem":                reflect.TypeFor[problem](),
}

// parts are what bodies consist of.
var parts = map[reflect.Type]string{
	reflect.TypeFor[subscription]():     "Subscription",
	reflect.TypeFor[hook]():             "Webhook",
	reflect.TypeFor[delivery]():         "Delivery",
	reflect.TypeFor[attempt]():          "Attempt",
	reflect.TypeFor[content]():          "Content",
	reflect.TypeFor[timing]():           "Timing",
	reflect.TypeFor[counter]():          "Counter",
	reflect.TypeFor[bucket]():           "Bucket",
	reflect.TypeFor[recovery]():         "Recovery",
	reflect.TypeFor[fault]():            "Fault",
	reflect.TypeFor[subjectTypeInfo]():  "SubjectTypeInfo",
	reflect.TypeFor[eventTypeInfo]():    "EventTypeInfo",
	reflect.TypeFor[createContent]():    "CreateWebhookContent",
	reflect.TypeFor[updateContent]():    "UpdateWebhookContent",
	reflect.TypeFor[subject]():          "Subject",
	reflect.TypeFor[draft]():            "EventDraft",
	reflect.TypeFor[explainedEvent]():   "ExplainedEvent",
	reflect.TypeFor[explainedWebhook](): "ExplainedWebhook",
	reflect.TypeFor[health]():           "Health",
}

// sent are the parts that requests have.
var sent = map[reflect.Type]bool{
	reflect.TypeFor[subscription]():  true,
	reflect.TypeFor[createContent](): true,
	reflect.TypeFor[updateContent](): true,
	reflect.TypeFor[subject]():       true,
	reflect.TypeFor[draft]():         true,
}

// bounds are what a field's values must keep to, by its tag.
var bounds = map[string]schema{
	"Name":          {"minLength": 1, "maxLength": webhook.MaxNameLength},
	"Description":   {"maxLength": webhook.MaxDescriptionLength},
	"EndpointURL":   {"maxLength": webhook.MaxEndpointURLBytes, "description": "An https URL of a host on the public internet."},
	"Subscriptions": {"minItems": 1, "maxItems": webhook.MaxSubscriptions},
	"ID":            {"minLength": 1, "maxLength": webhook.MaxIDBytes},
	"Filter":        {"maxProperties": webhook.MaxAttributes, "description": "Attributes that events must have, all of them."},
	"Parents":       {"maxItems": webhook.MaxParents},
	"Attributes":    {"maxProperties": webhook.MaxAttributes},
	"Version":       {"minimum": 1, "description": "The version that was read. Without a fraction or an exponent: 1 and not 1.0."},
	"RateLimit": {
		"minimum": 0, "maximum": webhook.MaxRateLimit,
		"description": "Attempts a second, by each process that sends; 0 means no limit. What has to wait is delayed and not lost.",
	},
}

// document is the API as OpenAPI 3.1 describes it.
func document(n *names) schema {
	schemas := schema{
		"SubjectType":      open(subjectTypePrefix, namesOf(subjectTypePrefix, n.subjects)),
		"SubscriptionType": open(subscriptionPrefix, namesOf(subscriptionPrefix, n.events)),
		"Status":           closed(namesOf(statusPrefix, statuses)),
		"DeliveryState":    closed(namesOf(statePrefix, states)),
		"Outcome":          closed(namesOf(outcomePrefix, outcomes)),
		"Match":            closed(namesOf(matchPrefix, matches)),
		"ErrorClass":       schema{"type": "string", "pattern": "^" + errorPrefix + upperSnake, "description": "More may come."},
		"DeactivationReason": schema{
			"type": "string", "pattern": "^" + reasonPrefix + upperSnake,
			"description": "Why a webhook was made inactive without a person: " + strings.Join(namesOf(reasonPrefix, reasons), ", ") + ". More may come.",
		},
		"OpenAPIDocument": schema{"type": "object"},
	}
	for name, t := range bodies {
		schemas[name] = schemaOf(t, strings.HasSuffix(name, "Request"))
	}
	for t, name := range parts {
		schemas[name] = schemaOf(t, sent[t])
	}
	paths := schema{}
	for _, o := range operations {
		path := strings.TrimPrefix(o.path, basePath)
		item, ok := paths[path].(schema)
		if !ok {
			item = schema{}
			if p := pathParameters(o.path); len(p) > 0 {
				item["parameters"] = p
			}
			paths[path] = item
		}
		item[strings.ToLower(o.method)] = o.describe()
	}
	return schema{
		"openapi": "3.1.0",
		"info": schema{
			"title": "Webhooks", "version": "1",
			"description": "Webhooks of an organization: registrations, deliveries and their log. Errors are problem documents (RFC 9457).",
		},
		"servers":  []schema{{"url": server}},
		"security": []schema{{"bearer": []string{}}},
		"paths":    paths,
		"webhooks": webhooks(n.catalog, schemas),
		"components": schema{
			"schemas":         schemas,
			"securitySchemes": schema{"bearer": schema{"type": "http", "scheme": "bearer", "description": "Or what else this service authenticates with."}},
		},
	}
}

// webhooks describes what endpoints get, by the names of event types, and adds the
// schemas of their payloads.
func webhooks(c *webhook.Catalog, schemas schema) schema {
	text := schema{"type": "string"}
	header := func(name, about string) schema {
		return schema{"name": name, "in": "header", "required": true, "description": about, "schema": text}
	}
	out := schema{}
	for _, e := range c.EventTypes() {
		name := "Payload." + string(e.Type)
		schemas[name] = schema{
			"type": "object", "required": []string{"id", "event_type", "subject", "timestamp", "data"},
			"properties": schema{
				"id":         schema{"type": "string", "format": "uuid", "description": "The event's, the same on every attempt."},
				"event_type": schema{"const": e.Type},
				"subject": schema{
					"type": "object", "required": []string{"type", "id"}, "properties": schema{"type": text, "id": text},
				},
				"timestamp": schema{"type": "string", "format": "date-time"},
				"test":      schema{"const": true, "description": "Only in test events, whose data is a sample."},
				"data":      dataSchema(&e, schemas),
			},
		}
		sample, _ := c.SamplePayload(e.Type)
		out[string(e.Type)] = schema{"post": schema{
			"operationId": "webhook." + string(e.Type), "summary": e.Title, "description": e.Description,
			"security": []schema{},
			"parameters": []schema{
				header("webhook-id", "The event's id. Skip one that came before."),
				header("webhook-timestamp", "When the attempt was signed, in seconds since 1970."),
				header("webhook-signature", "As Standard Webhooks has it. There is a signature of the body alone, too."),
			},
			"requestBody": schema{"required": true, "content": schema{"application/json": schema{"schema": reference(name), "example": sample}}},
			"responses":   schema{"2XX": schema{"description": "The event has arrived. Anything else, or nothing in time, and it is sent again by the schedule."}},
		}}
	}
	return out
}

var componentName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

// dataSchema adds the schema of an event type's data to the others, and its $defs
// beside it, because tools for OpenAPI look for schemas nowhere else.
func dataSchema(e *webhook.EventTypeInfo, schemas schema) schema {
	if e.Schema == nil {
		return schema{} // anything
	}
	name := "Data." + string(e.Type)
	at := componentsPath + name
	e.Schema = withoutID(e.Schema)
	text := e.SchemaAt(at)
	moved := bytes.ReplaceAll(text, []byte(`"$ref":"`+at+`/$defs/`), []byte(`"$ref":"`+at+`.`))
	var data, defs map[string]json.RawMessage
	if json.Unmarshal(moved, &data) != nil || data["$defs"] != nil && json.Unmarshal(data["$defs"], &defs) != nil {
		return schema{} // it is no schema
	}
	for def := range defs {
		if !componentName.MatchString(def) {
			schemas[name] = text // with its $defs where they are
			return reference(name)
		}
	}
	for def, s := range defs {
		schemas[name+"."+def] = s
	}
	delete(data, "$defs")
	schemas[name] = data
	return reference(name)
}

// withoutID returns a schema that refers to itself by "#" alone, because tools for OpenAPI
// look for that in the document, and not in the schema that has the $id.
func withoutID(text json.RawMessage) json.RawMessage {
	var keywords map[string]json.RawMessage
	var id string
	if json.Unmarshal(text, &keywords) != nil || json.Unmarshal(keywords["$id"], &id) != nil {
		return text
	}
	delete(keywords, "$id")
	out, err := json.Marshal(keywords)
	if err != nil {
		return text
	}
	return bytes.ReplaceAll(out, []byte(`"$ref":"`+strings.TrimSuffix(id, "#")+`#`), []byte(`"$ref":"#`))
}

// open is an enum that answers may have retired values of.
func open(prefix string, names []string) schema {
	return schema{
		"anyOf":       []schema{{"type": "string", "enum": names}, {"type": "string", "pattern": "^" + prefix + upperSnake}},
		"description": "Requests take those that are listed; filters and answers may have others, which are no longer offered.",
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

// problems are the statuses that an operation may answer with, beside those that it
// lists.
func (o *operation) problems() map[int]string {
	list := map[int]string{
		http.StatusBadRequest:          "The request breaks a rule, which errors names.",
		http.StatusUnauthorized:        "The request does not say who makes it.",
		http.StatusForbidden:           "The role does not allow it, or the request comes from a page of another origin.",
		http.StatusInternalServerError: "Something went wrong on this side.",
		http.StatusServiceUnavailable:  "It took too long, or what it needs is out of order.",
	}
	if strings.HasPrefix(o.path, organizationPath) {
		list[http.StatusNotFound] = "The organization is not the caller's, or has no such record."
	}
	if !o.reads() {
		list[http.StatusRequestEntityTooLarge] = "The body is too large."
	}
	if o.request != "" {
		list[http.StatusUnsupportedMediaType] = "The body is not said to be application/json."
	}
	if o.conflict != "" {
		list[http.StatusConflict] = o.conflict
	}
	return list
}

func (o *operation) describe() schema {
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
	for status, about := range o.problems() {
		answers[strconv.Itoa(status)] = schema{
			"description": about, "content": schema{"application/problem+json": schema{"schema": reference("Problem")}},
		}
	}
	out["responses"] = answers
	return out
}

// schemaOf describes a struct as encoding/json writes and reads it. A field tagged
// enum is one of the named values, one tagged bound keeps to it; one that is
// omitempty, or tagged optional, need not be there. Requests are closed: what is not
// in them is refused. Answers may have more one day.
func schemaOf(t reflect.Type, strict bool) schema {
	properties, required := schema{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, s := jsonName(f), valueSchema(f.Type)
		if e := f.Tag.Get("enum"); e != "" {
			s = reference(e)
		}
		maps.Copy(s, bounds[f.Tag.Get("bound")])
		if !optional(f) {
			required = append(required, name)
		}
		if f.Tag.Get("null") != "" {
			s = schema{"anyOf": []schema{s, {"type": "null"}}}
		}
		properties[name] = s
	}
	out := schema{"type": "object", "properties": properties}
	if strict {
		out["additionalProperties"] = false
	}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func valueSchema(t reflect.Type) schema {
	switch {
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[instant]():
		return schema{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage](): // a JSON Schema
		return schema{"type": "object"}
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
