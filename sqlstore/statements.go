package sqlstore

import (
	"context"
	"strings"
)

// updateRows changes the rows of a table that rows x name. on and the right sides
// of set speak of the table as t; its arguments come in setArgs. It returns how
// many rows were changed.
func (c session) updateRows(ctx context.Context, table, columns string, x *rows, on string, set []string, setArgs ...any) (int, error) {
	if x.n == 0 {
		return 0, nil
	}
	source := "{rows x " + columns + "}"
	if c.d == MySQL { // left sides may be columns of x, too
		return c.exec(ctx, "update "+source+" {join "+table+" t} on "+on+" set t."+strings.Join(set, ", t."), append([]any{x}, setArgs...)...)
	}
	return c.exec(ctx, "update {"+table+"} as t set "+strings.Join(set, ", ")+" from "+source+" where "+on, append(setArgs, x)...)
}

// deleteRows deletes the rows of a table that rows x name, and returns how many.
func (c session) deleteRows(ctx context.Context, table, columns string, x *rows, on string) (int, error) {
	if x.n == 0 {
		return 0, nil
	}
	source := "{rows x " + columns + "}"
	switch c.d {
	case Postgres:
		return c.exec(ctx, "delete from {"+table+"} t using "+source+" where "+on, x)
	case MySQL:
		return c.exec(ctx, "delete t from "+source+" {join "+table+" t} on "+on, x)
	default:
		return c.exec(ctx, "delete from {"+table+"} where rowid in (select t.rowid from "+source+" {join "+table+" t} where "+on+")", x)
	}
}
