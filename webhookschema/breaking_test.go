package webhookschema_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhookschema"
)

// TestBreaking compares pairs of schemas. Each line that is wanted is a change;
// "?" marks those of which it cannot be told.
func TestBreaking(t *testing.T) {
	t.Parallel()
	const (
		object  = `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a"]}`
		recurse = `{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#/$defs/n"}}}}}`
	)
	for name, c := range map[string]struct {
		old, now string
		want     []string
	}{
		"the same":                {object, object, nil},
		"words":                   {object, `{"type":"object","title":"T","description":"D","examples":[1],"x-new":1,` + object[len(`{"type":"object",`):], nil},
		"a property more":         {object, `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{"type":"string"}},"required":["a","c"]}`, nil},
		"a property is required":  {object, `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a","b"]}`, nil},
		"a property less":         {object, `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, []string{"b: is no longer described"}},
		"a property never there":  {object, `{"type":"object","properties":{"a":{"type":"string"},"b":false},"required":["a"]}`, []string{"b: is no longer there"}},
		"a property is optional":  {object, `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}}}`, []string{"a: need not be there any more"}},
		"an undescribed property": {`{"required":["a"]}`, `{"required":[]}`, []string{"a: need not be there any more"}},
		"required but of any type": {
			object, `{"type":"object","properties":{"b":{"type":"integer"}},"required":["a"]}`, []string{"a: can be anything now, and was string"},
		},
		"a type":                 {object, strings.Replace(object, `"string"`, `"integer"`, 1), []string{"a: can be integer now, and was string"}},
		"another type more":      {`{"type":"string"}`, `{"type":["string","boolean"]}`, []string{"can be boolean now, and was string"}},
		"null":                   {object, strings.Replace(object, `"string"`, `["string","null"]`, 1), []string{"a: can be null now"}},
		"only null":              {`{"type":"object","properties":{"a":{}}}`, `{"type":"null"}`, []string{"can be null now"}},
		"no null any more":       {`{"type":["string","null"]}`, `{"type":"string"}`, nil},
		"integer to number":      {`{"type":"integer"}`, `{"type":"number"}`, []string{"can be number now, and was integer"}},
		"number to integer":      {`{"type":"number"}`, `{"type":"integer"}`, nil},
		"a type at last":         {`{}`, `{"type":"integer"}`, nil},
		"no type any more":       {`{"type":"integer"}`, `{}`, []string{"can be anything now, and was integer"}},
		"a type by its values":   {`{"type":"string"}`, `{"enum":["a",1]}`, []string{"can be integer now, and was string"}},
		"an enum value more":     {`{"enum":["a","b"]}`, `{"enum":["b","a","c"]}`, []string{`can be "c" now, which was not listed`}},
		"an enum value less":     {`{"enum":["a","b"]}`, `{"enum":["b"]}`, nil},
		"an enum no more":        {`{"type":"string","enum":["a"]}`, `{"type":"string"}`, []string{"can have other values than those that were listed"}},
		"an enum at last":        {`{"type":"string"}`, `{"type":"string","enum":["a"]}`, nil},
		"a constant":             {`{"const":{"a":[1]}}`, `{"const":{"a":[2]}}`, []string{`can be {"a":[2]} now, which was not listed`}},
		"a constant of an enum":  {`{"enum":[1,2]}`, `{"const":2}`, nil},
		"a format":               {`{"type":"string","format":"uuid"}`, `{"type":"string","format":"email"}`, []string{"has the format email, which was uuid"}},
		"no format any more":     {`{"type":"string","format":"uuid"}`, `{"type":"string"}`, []string{"has no format any more, which was uuid"}},
		"a format at last":       {`{"type":"string"}`, `{"type":"string","format":"uuid"}`, nil},
		"a pattern":              {`{"pattern":"a"}`, `{"pattern":"b"}`, []string{"? has another pattern"}},
		"no pattern any more":    {`{"pattern":"a"}`, `{}`, []string{"need not match a pattern any more"}},
		"base64 no more":         {`{"contentEncoding":"base64"}`, `{"type":"string"}`, []string{"has no contentEncoding any more, which was base64"}},
		"longer":                 {`{"type":"string","maxLength":10,"minLength":2}`, `{"type":"string","maxLength":11,"minLength":1}`, []string{"has 11 as its maxLength, which was 10", "has 1 as its minLength, which was 2"}},
		"shorter":                {`{"type":"string","maxLength":10,"minLength":2}`, `{"type":"string","maxLength":9,"minLength":3}`, nil},
		"without bounds":         {`{"maxLength":10,"maximum":5,"minItems":1,"maxProperties":3}`, `{}`, []string{"has no maximum any more, which was 5", "has no maxLength any more, which was 10", "has no minItems any more, which was 1", "has no maxProperties any more, which was 3"}},
		"bounds that are closed": {`{"type":"number","exclusiveMaximum":10,"minimum":1}`, `{"type":"number","maximum":10,"exclusiveMinimum":1}`, []string{"can be 10, its bound, now"}},
		"bounds that open":       {`{"type":"number","maximum":10}`, `{"type":"number","exclusiveMaximum":10}`, nil},
		"multiples":              {`{"multipleOf":2}`, `{"multipleOf":3}`, []string{"? has another multipleOf"}},
		"unique items":           {`{"uniqueItems":true}`, `{"uniqueItems":false}`, []string{"can have an item twice now"}},

		"items":           {`{"items":{"type":"string"}}`, `{"items":{"type":"integer"}}`, []string{"[]: can be integer now, and was string"}},
		"items of any":    {`{"type":"array","items":{"type":"string"}}`, `{"type":"array"}`, []string{"[]: can be anything now, and was string"}},
		"items in places": {`{"type":"array","prefixItems":[{"type":"string"}],"items":false}`, `{"type":"array","prefixItems":[{"type":"string"},{"type":"string"}],"items":false}`, []string{"[1]: can be there now"}},
		"a tuple to list": {`{"type":"array","prefixItems":[{"type":"string"}],"items":false}`, `{"type":"array","items":{"type":"string"}}`, []string{"[]: can be there now"}},
		"values of a map": {`{"type":"object","additionalProperties":{"type":"string"}}`, `{"type":"object","additionalProperties":{"type":["string","null"]}}`, []string{"{}: can be null now"}},
		"a closed object": {`{"type":"object","properties":{"a":{}},"additionalProperties":false}`, `{"type":"object","properties":{"a":{},"b":{}}}`, []string{"b: is new, where the schema had no room for other properties", "can have other properties now"}},
		"a map's property": {
			`{"type":"object","additionalProperties":{"type":"string"}}`, `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"additionalProperties":false}`,
			[]string{"a: can be integer now, and was string"},
		},
		"a map's pattern": {
			`{"type":"object","additionalProperties":{"type":"string"}}`, `{"type":"object","patternProperties":{"^x":{"type":"integer"}},"additionalProperties":{"type":"string"}}`,
			[]string{"{}: can be integer now, and was string"},
		},
		"a pattern where there was no room": {
			`{"type":"object","additionalProperties":false}`, `{"type":"object","patternProperties":{"^x":{}},"additionalProperties":false}`,
			[]string{"can have other properties now"},
		},
		"a pattern at last": {`{"type":"object"}`, `{"type":"object","patternProperties":{"^x":{"type":"string"}}}`, nil},
		"a property that was to be evaluated": {
			`{"type":"object","properties":{"a":{}},"unevaluatedProperties":false}`, `{"type":"object","properties":{"a":{},"b":{}},"unevaluatedProperties":false}`,
			[]string{"b: is new, where the schema had no room for other properties"},
		},
		"unevaluated properties": {
			`{"type":"object","unevaluatedProperties":{"type":"string"}}`, `{"type":"object","unevaluatedProperties":{"type":["string","null"]}}`,
			[]string{"{}: can be null now"},
		},
		"unevaluated is additional": {`{"type":"object","unevaluatedProperties":false}`, `{"type":"object","additionalProperties":false}`, nil},
		"unevaluated beside others": {
			`{"type":"object","unevaluatedProperties":false}`, `{"type":"object","allOf":[{"properties":{"b":{}}}],"unevaluatedProperties":false}`,
			[]string{"? has unevaluatedProperties beside allOf, and differs"},
		},
		"an item that was to be evaluated": {
			`{"type":"array","prefixItems":[{}],"unevaluatedItems":false}`, `{"type":"array","prefixItems":[{},{}],"unevaluatedItems":false}`,
			[]string{"[1]: can be there now"},
		},
		"a number's format": {`{"type":"integer","format":"int32"}`, `{"type":"integer","format":"int64"}`, []string{"has the format int64, which was int32"}},
		"deep": {
			`{"properties":{"a":{"properties":{"b":{"items":{"properties":{"c":{"type":"string"}}}}}}}}`,
			`{"properties":{"a":{"properties":{"b":{"items":{"properties":{"c":{"type":"boolean"}}}}}}}}`, []string{"a.b[].c: can be boolean now, and was string"},
		},

		"a reference":              {`{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}`, `{"type":"string"}`, nil},
		"a referenced change":      {`{"items":{"$ref":"#/$defs/a"},"$defs":{"a":{"type":"string"}}}`, `{"items":{"$ref":"#/$defs/a"},"$defs":{"a":{"type":"integer"}}}`, []string{"[]: can be integer now, and was string"}},
		"a definition nobody uses": {`{"$defs":{"a":{"type":"string"}}}`, `{"$defs":{"a":{"type":"integer"}}}`, nil},
		"in itself":                {recurse, recurse, nil},
		"in itself, a change":      {recurse, strings.Replace(recurse, `"integer"`, `"string"`, 1), []string{"v: can be string now, and was integer"}},
		"in itself, deeper":        {recurse, `{"type":"object","properties":{"v":{"type":"integer"},"next":{"type":"object","properties":{"v":{"type":"string"},"next":{"$ref":"#"}}}}}`, []string{"next.v: can be string now, and was integer"}},
		"the root":                 {`{"type":"object","properties":{"a":{"$ref":"#"},"b":{"type":"string"}}}`, `{"type":"object","properties":{"a":{"$ref":"#"},"b":{"type":"boolean"}}}`, []string{"b: can be boolean now, and was string"}},
		"a reference and more":     {`{"$ref":"#/$defs/a","minLength":1,"$defs":{"a":{"type":"string"}}}`, `{"$ref":"#/$defs/a","minLength":0,"$defs":{"a":{"type":"string"}}}`, []string{"? has a reference that leads elsewhere"}},
		"a reference, unchanged":   {`{"$ref":"#/$defs/a","minLength":1,"$defs":{"a":{"type":"string"}}}`, `{"$ref":"#/$defs/a","minLength":1,"$defs":{"a":{"type":"string"}}}`, nil},

		"an alternative more":    {`{"anyOf":[{"type":"string"},{"type":"integer"}]}`, `{"anyOf":[{"type":"string"},{"type":"integer"},{"type":"boolean"}]}`, []string{"can be what none of the alternatives was"}},
		"an alternative less":    {`{"anyOf":[{"type":"string"},{"type":"integer"}]}`, `{"anyOf":[{"type":"integer"}]}`, nil},
		"alternatives in turn":   {`{"oneOf":[{"type":"string"},{"type":"integer"}]}`, `{"anyOf":[{"type":"integer"},{"type":"string"}]}`, nil},
		"alternatives at last":   {`{"type":"string"}`, `{"anyOf":[{"type":"string","enum":["a"]},{"type":"null"}]}`, []string{"can be null now"}},
		"alternatives no more":   {`{"anyOf":[{"type":"string"},{"type":"integer"}]}`, `{"type":"string","format":"uuid"}`, nil},
		"alternatives and more":  {`{"minLength":1,"anyOf":[{"pattern":"a"}]}`, `{"minLength":1,"anyOf":[{"pattern":"b"}]}`, []string{"? has another anyOf"}},
		"alternatives, unclear":  {`{"anyOf":[{"pattern":"a"},{"pattern":"b"}]}`, `{"pattern":"c"}`, []string{"? has alternatives that differ"}},
		"all of":                 {`{"allOf":[{"type":"string"},{"maxLength":3}]}`, `{"type":"string","maxLength":4}`, []string{"has 4 as its maxLength, which was 3"}},
		"all of, now":            {`{"type":"string"}`, `{"allOf":[{"maxLength":4},{"type":"string"}]}`, nil},
		"all of, the same":       {`{"allOf":[{"type":"string"},{"maxLength":3}]}`, `{"allOf":[{"type":"string"},{"maxLength":3}]}`, nil},
		"a condition":            {`{"if":{"required":["a"]},"then":{"required":["b"]}}`, `{"if":{"required":["a"]},"then":{"required":["c"]}}`, []string{"? has another if, then, else"}},
		"a condition, the same":  {`{"if":{"required":["a"]},"then":{"$ref":"#/$defs/x"},"$defs":{"x":{"required":["b"]}}}`, `{"if":{"required":["a"]},"then":{"$ref":"#/$defs/x"},"$defs":{"x":{"required":["b"]}}}`, nil},
		"behind a condition":     {`{"not":{"$ref":"#/$defs/x"},"$defs":{"x":{"required":["b"]}}}`, `{"not":{"$ref":"#/$defs/x"},"$defs":{"x":{"required":["c"]}}}`, []string{"? has another not"}},
		"a condition at last":    {`{}`, `{"not":{"type":"null"}}`, nil},
		"containing":             {`{"contains":{"type":"string"}}`, `{"contains":{"type":"string"},"minContains":0}`, []string{"? has another contains, minContains, maxContains"}},
		"names by pattern":       {`{"patternProperties":{"^a":{"type":"string"}}}`, `{"patternProperties":{"^a":{"type":"integer"}}}`, []string{"? has another patternProperties"}},
		"what nobody knows":      {`{"discriminator":"a"}`, `{"discriminator":"b"}`, []string{"? has another discriminator"}},
		"what nobody knows, new": {`{"type":"string"}`, `{"type":"string","nullable":true}`, []string{"? has another nullable"}},
		"a resource in another":  {`{"properties":{"a":{"$id":"https://a.example/","type":"string"}}}`, `{"properties":{"a":{"$id":"https://a.example/","type":"integer"}}}`, []string{"? a: has a reference that leads elsewhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes, err := webhookschema.Breaking(json.RawMessage(c.old), json.RawMessage(c.now))
			require.NoError(t, err)
			var got []string
			for _, change := range changes {
				line := change.Reason
				if change.Path != "" {
					line = change.Path + ": " + line
				}
				if change.Unsure {
					line = "? " + line
				}
				got = append(got, line)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Alternatives within alternatives are too many to try, which is told and not passed.
func TestBreakingHasABound(t *testing.T) {
	t.Parallel()
	nested := func(leaf string) json.RawMessage {
		for range 12 {
			leaf = `{"anyOf":[{"items":` + leaf + `},{"items":` + leaf + `,"maxItems":9}]}`
			if len(leaf) > 50_000 {
				break
			}
		}
		return json.RawMessage(leaf)
	}
	changes, err := webhookschema.Breaking(nested(`{"type":"string"}`), nested(`{"type":"integer"}`))
	require.NoError(t, err)
	require.NotEmpty(t, changes)
}

func TestBreakingRefuses(t *testing.T) {
	t.Parallel()
	catalog, err := webhookschema.Catalog(newCatalog(t))
	require.NoError(t, err)
	for name, c := range map[string][2]string{
		"the old schema":   {`{"type":1}`, `{}`},
		"the new schema":   {`{}`, `[]`},
		"JSON Schema":      {`{`, `{}`},
		"is a catalog":     {string(catalog), `{}`},
		"none/of/them":     {`{"$ref":"#/none/of/them"}`, `{}`},
		"must be a JSON o": {`true`, `{}`},
	} {
		_, err := webhookschema.Breaking(json.RawMessage(c[0]), json.RawMessage(c[1]))
		require.ErrorContains(t, err, name)
	}
}

// A catalog in which nothing is as before, but for one event type.
func TestBreakingChangesOfACatalog(t *testing.T) {
	t.Parallel()
	type author struct {
		ID   string  `json:"id"`
		Name *string `json:"name"`
	}
	type changed struct {
		Text    string    `json:"text,omitempty"`
		Status  string    `json:"status"`
		Author  author    `json:"author"`
		Tags    []int     `json:"tags"`
		Replies []changed `json:"replies,omitempty"`
		Added   bool      `json:"added"`
	}
	old, err := webhookschema.Catalog(newCatalog(t))
	require.NoError(t, err)
	catalog, err := webhookschema.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{
		webhook.DefineEvent("commented", "Commented", changed{}).Info(), webhook.DefineEvent("new_one", "New", 1).Info(), plain,
	})
	require.NoError(t, err)
	now, err := webhookschema.Catalog(catalog)
	require.NoError(t, err)

	changes, err := webhookschema.Breaking(old, now)

	require.NoError(t, err)
	var got []string
	for _, c := range changes {
		got = append(got, c.String())
	}
	require.Equal(t, []string{
		"commented: data.author.id: has no format any more, which was uuid",
		"commented: data.author.name: can be null now",
		"commented: data.editor: is no longer described",
		"commented: data.status: can have other values than those that were listed",
		"commented: data.tags[]: can be integer now, and was string",
		"commented: data.text: need not be there any more",
		"measured: is no longer in the catalog",
	}, got)
	changes, err = webhookschema.Breaking(old, old)
	require.NoError(t, err)
	require.Empty(t, changes)
	require.Equal(t, "a: x (cannot tell whether that breaks receivers)", webhookschema.Change{Path: "a", Reason: "x", Unsure: true}.String())
}

// source turns bytes into decisions. When there are none left, all are 0.
type source []byte

func (s *source) pick(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

func (s *source) value(depth int) any {
	choices := 8
	if depth == 0 {
		choices = 6
	}
	switch s.pick(choices) {
	case 0:
		return nil
	case 1:
		return s.pick(2) == 0
	case 2:
		return float64(s.pick(5))
	case 3:
		return 0.5 + float64(s.pick(3))
	case 4, 5:
		return []string{"", "a", "b", "ab", "abc"}[s.pick(5)]
	case 6:
		list := []any{}
		for range s.pick(4) {
			list = append(list, s.value(depth-1))
		}
		return list
	default:
		object := map[string]any{}
		for _, name := range []string{"a", "b", "c"} {
			if s.pick(3) > 0 {
				object[name] = s.value(depth - 1)
			}
		}
		return object
	}
}

func (s *source) schemas(depth int) []any {
	list := []any{s.schema(depth)}
	for range s.pick(3) {
		list = append(list, s.schema(depth))
	}
	return list
}

// schema makes a schema of what is within depth. oneOf, of which [Breaking] takes any
// alternative, and formats, which validation does not look at, are not among it.
func (s *source) schema(depth int) any {
	if s.pick(8) == 7 {
		return s.pick(2) == 0
	}
	out := map[string]any{}
	types := []string{"string", "integer", "number", "boolean", "null", "array", "object"}
	switch s.pick(4) {
	case 1, 2:
		out["type"] = types[s.pick(len(types))]
	case 3:
		first := s.pick(len(types))
		out["type"] = []any{types[first], types[(first+1+s.pick(len(types)-1))%len(types)]}
	}
	for range s.pick(3) {
		switch k := s.pick(22); k {
		case 0:
			out["const"] = s.value(1)
		case 1, 2:
			first := s.value(1)
			out["enum"] = []any{first, map[string]any{"first": first}, s.value(0)}[:1+s.pick(2)]
		case 3, 4, 5, 6:
			out[[]string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}[k-3]] = s.pick(4)
		case 7, 8, 9, 10:
			out[[]string{"minLength", "maxLength", "minItems", "maxItems"}[k-7]] = s.pick(4)
		case 11:
			out["pattern"] = []string{"a", "b"}[s.pick(2)]
		case 12:
			out["required"] = []any{[]string{"a", "b", "c"}[s.pick(3)]}
		case 13:
			out["uniqueItems"] = true
		case 14:
			out["minProperties"] = s.pick(3)
		case 15:
			out["$ref"] = []string{"#/$defs/x", "#/$defs/y", "#"}[s.pick(3)]
		default:
			if depth == 0 {
				continue
			}
			switch k {
			case 16:
				out[[]string{"anyOf", "allOf"}[s.pick(2)]] = s.schemas(depth - 1)
			case 17:
				out["not"] = s.schema(depth - 1)
			case 18:
				out["additionalProperties"] = s.schema(depth - 1)
			case 19:
				out["items"] = s.schema(depth - 1)
			case 20:
				out["prefixItems"] = s.schemas(depth - 1)
			default:
				out["properties"] = map[string]any{[]string{"a", "b", "c"}[s.pick(3)]: s.schema(depth - 1), "b": s.schema(depth - 1)}
			}
		}
	}
	return out
}

func (s *source) document() map[string]any {
	document, ok := s.schema(3).(map[string]any)
	if !ok {
		document = map[string]any{}
	}
	document["$defs"] = map[string]any{"x": s.schema(2), "y": s.schema(1)}
	return document
}

// Whatever a new schema takes and an old one does not is told, if only as something
// that cannot be compared; and no schema is a break of itself.
func FuzzBreaking(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		seed := make([]byte, 120)
		for i := range seed {
			seed[i] = byte(random.UintN(256))
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		s := source(seed)
		before := s.document()
		rest := s
		after := rest.document()
		if s.pick(2) == 0 { // else all is new
			after["$defs"] = before["$defs"]
		}
		old, err := json.Marshal(before)
		require.NoError(t, err)
		now, err := json.Marshal(after)
		require.NoError(t, err)
		changes, err := webhookschema.Breaking(old, now)
		if err != nil {
			return // #/$defs/x that is its own reference, among others
		}
		was, is := validator(t, old), validator(t, now)
		if was == nil || is == nil {
			return
		}
		same, err := webhookschema.Breaking(old, old)
		require.NoError(t, err)
		require.Empty(t, same, "%s", old)
		for range 30 {
			v := rest.value(3)
			if is.Validate(v) == nil && was.Validate(v) != nil {
				require.NotEmpty(t, changes, "%v fits only the new one of\n%s\n%s", v, old, now)
			}
		}
	})
}

// validator is another implementation's, or nil if that refuses the schema, as it does
// with one that refers to itself without end.
func validator(t *testing.T, schema json.RawMessage) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	require.NoError(t, c.AddResource("schema.json", document))
	s, err := c.Compile("schema.json")
	if err != nil {
		return nil
	}
	return s
}
