package sqlstore

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// rows are many rows as one argument of a statement, which reads them as a table.
// So a statement's text does not depend on how many rows it gets, one round trip
// carries them all, and no driver needs to know about it: what is sent is text.
//
// Postgres gets an array for each column. There, reading a JSON text costs as
// much as writing the rows. The others get one JSON text.
type rows struct {
	d       Dialect
	n       int
	columns []column // Postgres: array literals without the closing brace
	next    int      // the column that is probably written next
	json    []byte
}

type column struct {
	name string
	text []byte
	n    int // values; rows that left it out are filled up with nulls
}

func (d Dialect) rows() *rows { return &rows{d: d} }

// add begins a row; the columns follow.
func (r *rows) add() *rows {
	r.n++
	r.next = 0
	switch {
	case r.d == Postgres:
	case r.n == 1:
		r.json = append(r.json, "[{"...)
	default:
		r.json = append(r.json, "},{"...)
	}
	return r
}

// args returns the arguments for a statement that reads these columns.
func (r *rows) args(columns []string) []any {
	if r.d != Postgres {
		if r.n == 0 {
			return []any{"[]"}
		}
		return []any{string(r.json) + "}]"}
	}
	out := make([]any, len(columns))
	for i, name := range columns {
		c := r.column(name)
		c.fill(r.n)
		out[i] = string(c.text) + "}"
	}
	return out
}

// size is about how long the arguments are, in bytes.
func (r *rows) size() int {
	n := len(r.json)
	for i := range r.columns {
		n += len(r.columns[i].text)
	}
	return n
}

// column returns the column of that name. Rows have the same columns, nearly
// always in the same order.
func (r *rows) column(name string) *column {
	for range r.columns {
		if r.next >= len(r.columns) {
			r.next = 0
		}
		c := &r.columns[r.next]
		r.next++
		if c.name == name {
			return c
		}
	}
	r.columns = append(r.columns, column{name: name, text: []byte{'{'}})
	r.next = len(r.columns)
	return &r.columns[r.next-1]
}

// fill adds nulls up to n values.
func (c *column) fill(n int) {
	for c.n < n {
		c.separate()
		c.text = append(c.text, "null"...)
	}
}

func (c *column) separate() {
	if c.n++; c.n > 1 {
		c.text = append(c.text, ',')
	}
}

// value writes a value that needs no quotes in an array, and has quotes in JSON
// if it is a text.
func (r *rows) value(name string, quoted bool, write func([]byte) []byte) *rows {
	if r.d == Postgres {
		c := r.column(name)
		c.fill(r.n - 1)
		c.separate()
		c.text = write(c.text)
		return r
	}
	if r.json[len(r.json)-1] != '{' {
		r.json = append(r.json, ',')
	}
	r.json = append(r.json, '"')
	r.json = append(r.json, name...)
	r.json = append(r.json, `":`...)
	if quoted {
		r.json = append(r.json, '"')
	}
	r.json = write(r.json)
	if quoted {
		r.json = append(r.json, '"')
	}
	return r
}

// null leaves a column without value.
func (r *rows) null(name string) *rows {
	return r.value(name, false, func(b []byte) []byte { return append(b, "null"...) })
}

// id writes an id; the zero UUID is null.
func (r *rows) id(name string, v uuid.UUID) *rows {
	if v == (uuid.UUID{}) {
		return r.null(name)
	}
	return r.value(name, true, func(b []byte) []byte { return hex.AppendEncode(b, v[:]) })
}

func (r *rows) int(name string, v int64) *rows {
	return r.value(name, false, func(b []byte) []byte { return strconv.AppendInt(b, v, 10) })
}

func (r *rows) bool(name string, v bool) *rows {
	return r.int(name, flag(v))
}

// time writes a moment; the zero time is null.
func (r *rows) time(name string, v time.Time) *rows {
	if v.IsZero() {
		return r.null(name)
	}
	return r.int(name, v.UnixMicro())
}

func (r *rows) text(name, v string) *rows {
	return r.value(name, false, func(b []byte) []byte {
		if r.d == Postgres {
			return appendArrayText(b, v)
		}
		quoted, err := json.Marshal(v)
		if err != nil {
			panic("sqlstore: a string did not encode: " + err.Error())
		}
		return append(b, quoted...)
	})
}

// appendArrayText writes an element of an array of texts.
func appendArrayText(b []byte, v string) []byte {
	b = append(b, '"')
	for {
		i := strings.IndexAny(v, `"\`)
		if i < 0 {
			b = append(b, v...)
			return append(b, '"')
		}
		b = append(b, v[:i]...)
		b = append(b, '\\', v[i])
		v = v[i+1:]
	}
}

// textOrNull writes a text; an empty one is null.
func (r *rows) textOrNull(name, v string) *rows {
	if v == "" {
		return r.null(name)
	}
	return r.text(name, v)
}

// any writes what asJSON returned.
func (r *rows) any(name string, v any) *rows {
	if text, ok := v.(string); ok {
		return r.text(name, text)
	}
	return r.null(name)
}

// bytes writes bytes; nil is null.
func (r *rows) bytes(name string, v []byte) *rows {
	if v == nil {
		return r.null(name)
	}
	return r.value(name, true, func(b []byte) []byte {
		if r.d != Postgres {
			return hex.AppendEncode(b, v)
		}
		b = append(b, `"\\x`...)
		return append(hex.AppendEncode(b, v), '"')
	})
}

func flag(v bool) int64 {
	if v {
		return 1
	}
	return 0
}
