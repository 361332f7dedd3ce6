package webhookschema

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/posthorn/webhook"
)

// Change is something that breaks receivers, or may.
type Change struct {
	// EventType is the event type whose payload it is about; empty if two schemas
	// were compared that are no catalogs.
	EventType webhook.EventType

	// Path leads to a value of the payload: "data.author.name", "data.tags[]" for
	// the items of a list, "data.labels{}" for the values of a map. Empty for all.
	Path string

	// Reason says what is different: "need not be there any more".
	Reason string

	// Unsure means that the schemas differ in a way that cannot be compared here. A
	// person has to look.
	Unsure bool
}

// String is the change on one line.
func (c Change) String() string {
	var parts []string
	if c.EventType != "" {
		parts = append(parts, string(c.EventType))
	}
	if c.Path != "" {
		parts = append(parts, c.Path)
	}
	reason := c.Reason
	if c.Unsure {
		reason += " (cannot tell whether that breaks receivers)"
	}
	return strings.Join(append(parts, reason), ": ")
}

// Breaking returns what of an old catalog receivers can no longer rely on in a new
// one; both are documents of [Catalog], or both are schemas of one payload, or of its
// data. Payloads break receivers if they can be what the old schema did not allow:
// if a property need not be there any more or is no longer described, has another
// type or format, can be null, or has a value that an enum did not have. So does an
// event type that there is no longer.
//
// More event types and more properties are no break, unless the old schema has no
// room for others; neither is what becomes narrower. What cannot be compared, and is
// not the same, is returned as [Change].Unsure, never passed in silence. It is an
// error if one of the documents is no schema, or only one is a catalog.
func Breaking(old, now json.RawMessage) ([]Change, error) {
	before, err := decode(old)
	if err != nil {
		return nil, fmt.Errorf("webhookschema: the old schema: %w", err)
	}
	after, err := decode(now)
	if err != nil {
		return nil, fmt.Errorf("webhookschema: the new schema: %w", err)
	}
	c := &comparison{old: before, now: after, under: map[[2]uintptr]bool{}, steps: new(int)}
	was, is := payloadsOf(before), payloadsOf(after)
	if (was == nil) != (is == nil) {
		return nil, errors.New("webhookschema: only one of the schemas is a catalog")
	}
	if was == nil {
		c.compare("", before, after)
		return once(c.changes), nil
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		c.event = webhook.EventType(name)
		if payload, ok := is[name]; ok {
			c.compare("", was[name], payload)
		} else {
			c.breaks("", "is no longer in the catalog")
		}
	}
	return once(c.changes), nil
}

// once leaves out what was found again on another way.
func once(changes []Change) (list []Change) {
	seen := map[Change]bool{}
	for _, c := range changes {
		if !seen[c] {
			list = append(list, c)
		}
		seen[c] = true
	}
	return list
}

// decode reads a schema, and keeps its numbers as they are written.
func decode(text json.RawMessage) (map[string]any, error) {
	if _, err := resolve(text); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var schema map[string]any
	if err := decoder.Decode(&schema); err != nil {
		return nil, errors.New("must be a JSON object")
	}
	return schema, nil
}

// payloadsOf returns the payloads of a catalog's document by event type, and nil if
// it is none.
func payloadsOf(document map[string]any) map[string]any {
	list, _ := document["oneOf"].([]any)
	defs, _ := document["$defs"].(map[string]any)
	payloads := map[string]any{}
	for _, reference := range list {
		r, _ := reference.(map[string]any)
		at, _ := r["$ref"].(string)
		name := strings.TrimPrefix(at, "#/$defs/")
		payload, _ := defs[name].(map[string]any)
		properties, _ := payload["properties"].(map[string]any)
		event, _ := properties["event_type"].(map[string]any)
		if len(r) != 1 || event["const"] != any(name) {
			return nil
		}
		payloads[name] = payload
	}
	if len(payloads) == 0 {
		return nil
	}
	return payloads
}

// maxSteps bounds the work on schemas with many alternatives within alternatives.
const maxSteps = 200_000

// comparison looks for values that a new schema allows and an old one does not.
type comparison struct {
	old, now map[string]any // the documents, in which references are looked up
	event    webhook.EventType
	changes  []Change
	under    map[[2]uintptr]bool // pairs that are being compared, for schemas that contain themselves
	steps    *int
}

func (c *comparison) breaks(path, format string, args ...any) {
	c.changes = append(c.changes, Change{EventType: c.event, Path: strings.TrimPrefix(path, "."), Reason: fmt.Sprintf(format, args...)})
}

func (c *comparison) unsure(path, format string, args ...any) {
	c.breaks(path, format, args...)
	c.changes[len(c.changes)-1].Unsure = true
}

// Keywords that say nothing about what is valid.
var annotations = map[string]bool{
	"$comment": true, "$schema": true, "$defs": true, "definitions": true, "title": true, "description": true, "default": true,
	"deprecated": true, "readOnly": true, "writeOnly": true, "examples": true,
}

// Keywords that are compared as a whole: they are the same, or there only now and so
// leave less, or cannot be compared. Those of a group depend on each other.
var wholes = [][]string{
	{"not"},
	{"if", "then", "else"},
	{"contains", "minContains", "maxContains"},
	{"dependentRequired"},
	{"dependentSchemas"},
	{"propertyNames"},
	{"patternProperties"},
	{"contentSchema"},
}

// understood are the keywords that the comparison is about. Others may mean anything.
var understood = func() map[string]bool {
	known := map[string]bool{
		"$ref": true, "allOf": true, "anyOf": true, "oneOf": true, "type": true, "enum": true, "const": true,
		"minimum": true, "exclusiveMinimum": true, "maximum": true, "exclusiveMaximum": true, "multipleOf": true,
		"minLength": true, "maxLength": true, "pattern": true, "format": true, "contentEncoding": true, "contentMediaType": true,
		"properties": true, "required": true, "additionalProperties": true, "minProperties": true, "maxProperties": true,
		"unevaluatedProperties": true, "unevaluatedItems": true, "items": true, "prefixItems": true, "minItems": true, "maxItems": true, "uniqueItems": true,
	}
	for _, group := range wholes {
		for _, k := range group {
			known[k] = true
		}
	}
	return known
}()

// compare looks for what the new schema allows at a path and the old one does not.
func (c *comparison) compare(path string, old, now any) {
	if *c.steps++; *c.steps > maxSteps {
		c.unsure(path, "has too many alternatives to compare")
		return
	}
	if c.same(old, now) {
		return
	}
	was, ok1 := c.follow(c.old, old)
	is, ok2 := c.follow(c.now, now)
	if !ok1 || !ok2 {
		c.unsure(path, "has a reference that leads elsewhere")
		return
	}
	switch {
	case was.anything():
		return
	case is.never:
		return // its absence is told of where it is required
	case was.never:
		c.breaks(path, "can be there now")
		return
	}
	pair := [2]uintptr{reflect.ValueOf(was.keywords).Pointer(), reflect.ValueOf(is.keywords).Pointer()}
	if c.under[pair] {
		return
	}
	c.under[pair] = true
	defer delete(c.under, pair)
	if c.combined(path, was.keywords, is.keywords) {
		return
	}
	c.keywords(path, was.keywords, is.keywords)
}

// schema is one whose reference has been followed.
type schema struct {
	keywords map[string]any
	never    bool // false: nothing is valid
}

func (s schema) anything() bool {
	if s.never {
		return false
	}
	for k := range s.keywords {
		if !annotations[k] && !strings.HasPrefix(k, "x-") {
			return false
		}
	}
	return true
}

// follow returns what a schema says, and false if that is in another document, or in
// several places.
func (c *comparison) follow(document map[string]any, value any) (schema, bool) {
	for range 100 { // references to references
		keywords, ok := value.(map[string]any)
		if !ok {
			allowed, isBool := value.(bool)
			return schema{map[string]any{}, isBool && !allowed}, isBool || value == nil
		}
		ref, ok := keywords["$ref"].(string)
		if !ok {
			_, anchored := keywords["$dynamicRef"]
			_, moved := keywords["$id"]
			return schema{keywords: keywords}, !anchored && (!moved || isRoot(document, keywords))
		}
		for k := range keywords {
			if k != "$ref" && !annotations[k] {
				return schema{}, false
			}
		}
		if value, ok = lookUp(document, ref); !ok {
			return schema{}, false
		}
	}
	return schema{}, false
}

func isRoot(document, keywords map[string]any) bool {
	return reflect.ValueOf(document).Pointer() == reflect.ValueOf(keywords).Pointer()
}

// lookUp follows a reference within a document.
func lookUp(document map[string]any, ref string) (any, bool) {
	pointer, ok := strings.CutPrefix(ref, "#")
	if !ok || pointer != "" && pointer[0] != '/' {
		return nil, false
	}
	var at any = document
	for step := range strings.SplitSeq(pointer, "/") {
		if step == "" && isDocument(at, document) {
			continue
		}
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch v := at.(type) {
		case map[string]any:
			if at, ok = v[step]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			at = v[i]
		default:
			return nil, false
		}
	}
	return at, true
}

func isDocument(v any, document map[string]any) bool {
	m, ok := v.(map[string]any)
	return ok && isRoot(document, m)
}

// same reports whether two values are equal, and so is everything that they refer to.
func (c *comparison) same(old, now any) bool {
	return c.sameBut(old, now, map[[2]uintptr]bool{})
}

func (c *comparison) sameBut(old, now any, under map[[2]uintptr]bool) bool {
	switch was := old.(type) {
	case map[string]any:
		is, ok := now.(map[string]any)
		if !ok || len(was) != len(is) {
			return false
		}
		pair := [2]uintptr{reflect.ValueOf(was).Pointer(), reflect.ValueOf(is).Pointer()}
		if under[pair] {
			return true
		}
		under[pair] = true
		for k, v := range was {
			other, ok := is[k]
			if !ok || !c.sameBut(v, other, under) {
				return false
			}
		}
		ref, ok := was["$ref"].(string)
		if !ok {
			return true
		}
		target1, ok1 := lookUp(c.old, ref)
		target2, ok2 := lookUp(c.now, ref)
		return !ok1 && !ok2 || ok1 && ok2 && c.sameBut(target1, target2, under)
	case []any:
		is, ok := now.([]any)
		if !ok || len(was) != len(is) {
			return false
		}
		for i := range was {
			if !c.sameBut(was[i], is[i], under) {
				return false
			}
		}
		return true
	default:
		return old == now
	}
}

// combined compares schemas of which one is made of others, and reports whether that
// was all.
func (c *comparison) combined(path string, old, now map[string]any) bool {
	if all, ok := only(old, "allOf"); ok {
		for _, part := range all {
			c.compare(path, part, now)
		}
		return true
	}
	if all, ok := only(now, "allOf"); ok {
		c.oneWill(path, len(all), func(try *comparison, i int) { try.compare(path, old, all[i]) })
		return true
	}
	was, ok1 := alternatives(old)
	is, ok2 := alternatives(now)
	if !ok1 && !ok2 {
		return false
	}
	for _, alternative := range is {
		c.oneWill(path, len(was), func(try *comparison, i int) { try.compare(path, was[i], alternative) })
	}
	return true
}

// only returns a list of schemas that a schema consists of.
func only(s map[string]any, keyword string) ([]any, bool) {
	list, ok := s[keyword].([]any)
	if !ok {
		return nil, false
	}
	for k := range s {
		if k != keyword && !annotations[k] {
			return nil, false
		}
	}
	return list, true
}

// alternatives returns the schemas of which a value has to fit one, and whether there
// is a choice.
func alternatives(s map[string]any) ([]any, bool) {
	for _, k := range []string{"anyOf", "oneOf"} {
		if list, ok := only(s, k); ok {
			return list, true
		}
	}
	return []any{s}, false
}

// oneWill makes comparisons until one finds nothing. If none does, there is one change
// that says so, or, of a single comparison, what that found.
func (c *comparison) oneWill(path string, n int, compare func(try *comparison, i int)) {
	sure := true
	var found []Change
	for i := range n {
		try := *c
		try.changes = nil
		compare(&try, i)
		if len(try.changes) == 0 {
			return
		}
		found = try.changes
		sure = sure && !slices.ContainsFunc(try.changes, func(x Change) bool { return x.Unsure })
	}
	switch {
	case n == 1:
		c.changes = append(c.changes, found...)
	case sure:
		c.breaks(path, "can be what none of the alternatives was")
	default:
		c.unsure(path, "has alternatives that differ")
	}
}

// keywords compares schemas keyword by keyword.
func (c *comparison) keywords(path string, old, now map[string]any) {
	for _, k := range []string{"allOf", "anyOf", "oneOf"} {
		if old[k] != nil && !c.same(old[k], now[k]) {
			c.unsure(path, "has another %s", k)
		}
	}
	for _, group := range wholes {
		there, same := false, true
		for _, k := range group {
			there = there || old[k] != nil
			same = same && c.same(old[k], now[k])
		}
		if there && !same {
			c.unsure(path, "has another %s", strings.Join(group, ", "))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(merged(old, now))) {
		if !understood[k] && !annotations[k] && k != "$id" && !strings.HasPrefix(k, "x-") && !c.same(old[k], now[k]) {
			c.unsure(path, "has another %s", k)
		}
	}
	if !c.types(path, old, now) {
		return // all else would be about another kind of value
	}
	c.values(path, old, now)
	c.bounds(path, old, now)
	c.annotation(path, "format", old, now) // numbers have some, too
	is := typesOf(now)
	if slices.Contains(is, "string") {
		c.texts(path, old, now)
	}
	if slices.Contains(is, "object") {
		c.properties(path, old, now)
	}
	if slices.Contains(is, "array") {
		c.items(path, old, now)
	}
}

func merged(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// types compares what kinds of values there can be, and reports whether they are the
// same ones, but for null.
func (c *comparison) types(path string, old, now map[string]any) bool {
	was, is := typesOf(old), typesOf(now)
	var more []string
	for _, t := range is {
		if !slices.Contains(was, t) && (t != "integer" || !slices.Contains(was, "number")) {
			more = append(more, t)
		}
	}
	others := slices.DeleteFunc(slices.Clone(more), func(t string) bool { return t == "null" })
	before := slices.DeleteFunc(slices.Clone(was), func(t string) bool { return t == "null" })
	switch {
	case len(others) > 0 && len(is) == len(allTypes):
		c.breaks(path, "can be anything now, and was %s", strings.Join(was, " or "))
		return false
	case len(more) > len(others):
		c.breaks(path, "can be null now")
	}
	if len(others) > 0 {
		c.breaks(path, "can be %s now, and was %s", strings.Join(others, " or "), cmp.Or(strings.Join(before, " or "), "null"))
	}
	return len(others) == 0
}

var allTypes = []string{"array", "boolean", "null", "number", "object", "string"}

func typesOf(s map[string]any) []string {
	switch t := s["type"].(type) {
	case string:
		return []string{t}
	case []any:
		var list []string
		for _, x := range t {
			list = append(list, fmt.Sprint(x))
		}
		return list
	}
	list, ok := valuesOf(s)
	if !ok {
		return allTypes
	}
	var types []string
	for _, v := range list {
		t := "object"
		switch v := v.(type) {
		case nil:
			t = "null"
		case string:
			t = "string"
		case bool:
			t = "boolean"
		case json.Number:
			t = "number"
			if _, err := v.Int64(); err == nil {
				t = "integer"
			}
		case []any:
			t = "array"
		}
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types
}

// valuesOf returns the only values that there can be, if the schema lists them.
func valuesOf(s map[string]any) ([]any, bool) {
	if v, ok := s["const"]; ok {
		return []any{v}, true
	}
	list, ok := s["enum"].([]any)
	return list, ok
}

func (c *comparison) values(path string, old, now map[string]any) {
	for _, keyword := range []string{"const", "enum"} {
		if v, ok := old[keyword]; ok {
			c.listed(path, map[string]any{keyword: v}, now)
		}
	}
}

func (c *comparison) listed(path string, old, now map[string]any) {
	was, _ := valuesOf(old)
	is, ok := valuesOf(now)
	if !ok {
		c.breaks(path, "can have other values than those that were listed")
		return
	}
	for _, v := range is {
		if !slices.ContainsFunc(was, func(w any) bool { return reflect.DeepEqual(v, w) }) {
			text, _ := json.Marshal(v) //nolint:errchkjson // it comes from JSON
			c.breaks(path, "can be %s now, which was not listed", text)
		}
	}
}

// Bounds: of what type, and whether of the greatest value or the least.
var boundKeywords = []struct {
	of, keyword, exclusive string
	upper                  bool
}{
	{"number", "maximum", "exclusiveMaximum", true},
	{"number", "minimum", "exclusiveMinimum", false},
	{"string", "maxLength", "", true},
	{"string", "minLength", "", false},
	{"array", "maxItems", "", true},
	{"array", "minItems", "", false},
	{"object", "maxProperties", "", true},
	{"object", "minProperties", "", false},
}

func (c *comparison) bounds(path string, old, now map[string]any) {
	types := typesOf(now)
	if slices.Contains(types, "integer") {
		types = append(slices.Clone(types), "number")
	}
	for _, b := range boundKeywords {
		if !slices.Contains(types, b.of) {
			continue
		}
		was, closed1, ok1 := bound(old, b.keyword, b.exclusive, b.upper)
		is, closed2, ok2 := bound(now, b.keyword, b.exclusive, b.upper)
		wider := b.upper == (is > was)
		switch {
		case !ok1:
		case !ok2:
			c.breaks(path, "has no %s any more, which was %s", b.keyword, number(was))
		case is != was && wider:
			c.breaks(path, "has %s as its %s, which was %s", number(is), b.keyword, number(was))
		case is == was && !closed2 && closed1:
			c.breaks(path, "can be %s, its bound, now", number(is))
		}
	}
	if was, ok := float(old["multipleOf"]); ok && slices.Contains(types, "number") {
		if is, ok := float(now["multipleOf"]); !ok || is != was {
			c.unsure(path, "has another multipleOf")
		}
	}
	if old["uniqueItems"] == true && now["uniqueItems"] != true && slices.Contains(types, "array") {
		c.breaks(path, "can have an item twice now")
	}
}

// bound returns a schema's bound, and whether the bound itself is excluded.
func bound(s map[string]any, keyword, exclusive string, upper bool) (value float64, closed, ok bool) {
	value, ok = float(s[keyword])
	if other, has := float(s[exclusive]); exclusive != "" && has && (!ok || upper == (other < value) || other == value) {
		return other, true, true
	}
	return value, false, ok
}

func float(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// annotation compares a keyword that says what a value means.
func (c *comparison) annotation(path, keyword string, old, now map[string]any) {
	was, is := old[keyword], now[keyword]
	switch {
	case was == nil || was == is:
	case is == nil:
		c.breaks(path, "has no %s any more, which was %v", keyword, was)
	default:
		c.breaks(path, "has the %s %v, which was %v", keyword, is, was)
	}
}

func (c *comparison) texts(path string, old, now map[string]any) {
	c.annotation(path, "contentEncoding", old, now)
	c.annotation(path, "contentMediaType", old, now)
	switch {
	case old["pattern"] == nil || old["pattern"] == now["pattern"]:
	case now["pattern"] == nil:
		c.breaks(path, "need not match a pattern any more")
	default:
		c.unsure(path, "has another pattern")
	}
}

func (c *comparison) properties(path string, old, now map[string]any) {
	was, is := object(old["properties"]), object(now["properties"])
	wasThere, isThere := list(old["required"]), list(now["required"])
	for _, name := range slices.Sorted(maps.Keys(was)) {
		at := path + "." + name
		property, ok := is[name]
		switch {
		case property == false && was[name] != false:
			c.breaks(at, "is no longer there")
			continue
		case !ok && was[name] != false && !slices.Contains(isThere, any(name)):
			c.breaks(at, "is no longer described")
			continue
		case !ok: // and no more is said of it
			property = others(now)
		case slices.Contains(wasThere, any(name)) && !slices.Contains(isThere, any(name)):
			c.breaks(at, "need not be there any more")
		}
		c.compare(at, was[name], property)
	}
	for _, name := range wasThere {
		if _, described := was[fmt.Sprint(name)]; !described && !slices.Contains(isThere, name) {
			c.breaks(path+"."+fmt.Sprint(name), "need not be there any more")
		}
	}
	room := others(old)
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, described := was[name]; described {
			continue
		}
		if room == false && is[name] != false {
			c.breaks(path+"."+name, "is new, where the schema had no room for other properties")
		} else {
			c.compare(path+"."+name, room, is[name])
		}
	}
	more := []any{others(now)}
	if old["patternProperties"] == nil { // else they are compared as a whole
		patterns := object(now["patternProperties"])
		for _, p := range slices.Sorted(maps.Keys(patterns)) {
			more = append(more, patterns[p])
		}
	}
	for _, s := range more {
		if room == false && s != false {
			c.breaks(path, "can have other properties now")
		} else {
			c.compare(path+"{}", room, s)
		}
	}
	c.unevaluated(path, "unevaluatedProperties", old, now)
}

// others returns the schema of properties that are not described.
func others(s map[string]any) any { return rest(s, "additionalProperties", "unevaluatedProperties") }

// rest returns the schema of what others do not describe. If there is nothing else in
// the schema that may describe it, both keywords say the same.
func rest(s map[string]any, keyword, unevaluated string) any {
	for _, k := range []string{keyword, unevaluated} {
		if others, ok := s[k]; ok {
			return others
		}
	}
	return true
}

// unevaluated says that it cannot be told what a schema leaves to the keyword, if
// there are others that describe some of it.
func (c *comparison) unevaluated(path, keyword string, old, now map[string]any) {
	if old[keyword] == nil && now[keyword] == nil {
		return
	}
	for _, k := range []string{"allOf", "anyOf", "oneOf", "if", "dependentSchemas", "contains"} {
		if old[k] != nil || now[k] != nil {
			c.unsure(path, "has %s beside %s, and differs", keyword, k)
			return
		}
	}
}

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func list(v any) []any { l, _ := v.([]any); return l }

func (c *comparison) items(path string, old, now map[string]any) {
	was, is := list(old["prefixItems"]), list(now["prefixItems"])
	rest := func(s map[string]any) any { return rest(s, "items", "unevaluatedItems") }
	at := func(prefix []any, s map[string]any, i int) any {
		if i < len(prefix) {
			return prefix[i]
		}
		return rest(s)
	}
	for i := range max(len(was), len(is)) {
		c.compare(fmt.Sprintf("%s[%d]", path, i), at(was, old, i), at(is, now, i))
	}
	c.compare(path+"[]", rest(old), rest(now))
	c.unevaluated(path, "unevaluatedItems", old, now)
}
