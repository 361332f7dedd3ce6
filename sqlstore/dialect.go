package sqlstore

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Dialect says which SQL a database speaks.
type Dialect string

// The dialects. MySQL is for MySQL 8 and MariaDB 10.6 and later alike.
const (
	Postgres Dialect = "postgres"
	MySQL    Dialect = "mysql"
	SQLite   Dialect = "sqlite"
)

// Statements are written once, in the SQL that the three dialects share. What
// they do not share is a macro in braces:
//
//	{queue}                        the table of that name, with the host's prefix
//	{rows x id uuid, n int}        a table x of the rows that one argument has, see [rows]
//	{for update}, {skip locked}    row locks, which SQLite does not have or need; {nowait} as well
//	{max a, b}                     the greater of two numbers
//	{key t.id = x.id}              that a join finds rows of t by an index, for those of x
//	{join queue t}                 a join with rows that a key finds by their primary key, to lock them
//	{insert} … {or ignore}         an insert that passes over rows which are there
//
// Parameters are question marks; Postgres gets them numbered.
var macro = regexp.MustCompile(`\{([^}]+)\}|\?`)

// statement is a statement in a dialect.
type statement struct {
	text string
	rows [][]string // the columns of each rows macro
}

// expand writes a statement in the dialect.
func (d Dialect) expand(shared, prefix string) (out statement) {
	params := 0
	var replace func(m string) string
	replace = func(m string) string {
		if m == "?" {
			if params++; d == Postgres {
				return "$" + strconv.Itoa(params)
			}
			return "?"
		}
		m = m[1 : len(m)-1]
		name, rest, _ := strings.Cut(m, " ")
		switch {
		case name == "rows":
			alias, list, _ := strings.Cut(rest, " ")
			columns, kinds := columnsOf(list)
			out.rows = append(out.rows, columns)
			return d.rowsOf(alias, columns, kinds, func() string { return replace("?") })
		case name == "key":
			if d != Postgres {
				return rest
			}
			indexed, of, _ := strings.Cut(rest, " = ")
			return indexed + " = any(array[" + of + "])" // see planByIndex
		case name == "join":
			table, alias, _ := strings.Cut(rest, " ")
			if d == MySQL { // reads a small table from end to end instead, and waits for whatever is locked in it
				return "straight_join " + prefix + table + " " + alias + " force index (primary)"
			}
			return "cross join " + prefix + table + " " + alias
		case m == "for update", m == "skip locked", m == "nowait":
			if d == SQLite {
				return ""
			}
			return m
		case m == "insert" && d == MySQL:
			return "insert ignore into"
		case m == "insert":
			return "insert into"
		case m == "or ignore" && d == MySQL:
			return ""
		case m == "or ignore":
			return "on conflict do nothing"
		case name == "max":
			rest = macro.ReplaceAllStringFunc(rest, replace)
			if d == SQLite {
				return "max(" + rest + ")"
			}
			return "greatest(" + rest + ")"
		default:
			return prefix + m
		}
	}
	out.text = macro.ReplaceAllStringFunc(shared, replace)
	return out
}

// columnsOf splits "id uuid, n int".
func columnsOf(list string) (names, kinds []string) {
	for c := range strings.SplitSeq(list, ",") {
		name, kind, _ := strings.Cut(strings.TrimSpace(c), " ")
		names, kinds = append(names, name), append(kinds, kind)
	}
	return names, kinds
}

// rowsOf returns the table expression that reads rows. Bytes are MEDIUMTEXT on
// their way to MySQL: what MariaDB unhexes from LONGTEXT has no length in a
// temporary table.
func (d Dialect) rowsOf(alias string, names, kinds []string, param func() string) string {
	var read, typed []string
	for i, name := range names {
		switch d {
		case Postgres:
			kind := map[string]string{"uuid": "uuid", "int": "bigint", "text": "text", "bytes": "bytea"}[kinds[i]]
			read = append(read, param()+"::text::"+kind+"[]")
		case MySQL:
			typed = append(typed, fmt.Sprintf("%s %s path '$.%s'", name,
				map[string]string{"uuid": "varchar(32)", "int": "bigint", "text": "longtext", "bytes": "mediumtext"}[kinds[i]], name))
			read = append(read, fmt.Sprintf(map[string]string{
				"uuid": "unhex(j.%s)", "int": "j.%s", "text": "cast(j.%s as binary)", "bytes": "unhex(j.%s)",
			}[kinds[i]]+" as %s", name, name))
		case SQLite:
			read = append(read, fmt.Sprintf(map[string]string{
				"uuid": "unhex(value->>'%s')", "int": "value->>'%s'", "text": "value->>'%s'", "bytes": "unhex(value->>'%s')",
			}[kinds[i]]+" as %s", name, name))
		}
	}
	switch d {
	case Postgres:
		return fmt.Sprintf("unnest(%s) as %s(%s)", strings.Join(read, ", "), alias, strings.Join(names, ", "))
	case MySQL:
		return fmt.Sprintf("(select %s from json_table(%s, '$[*]' columns (%s)) j) %s",
			strings.Join(read, ", "), param(), strings.Join(typed, ", "), alias)
	default:
		return fmt.Sprintf("(select %s from json_each(%s)) %s", strings.Join(read, ", "), param(), alias)
	}
}
