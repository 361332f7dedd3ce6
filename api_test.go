package webhook_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

var updateAPI = flag.Bool("update-api", false, "write testdata/api.txt anew instead of comparing with it")

// apiFolders are the packages whose API is locked. webhookmock is generated from theirs.
var apiFolders = []string{".", "httpapi", "memstore", "otelwebhook", "smtpnotify", "storetest", "webhookschema", "webhookschema/schematest", "webhooktest"}

const apiFile = "testdata/api.txt"

// Whoever changes what others compile against does so on purpose, and the
// change shows in review as lines of one file.
func TestAPIListing(t *testing.T) {
	t.Parallel()

	got, err := apiListing(os.DirFS("."), apiFolders)
	require.NoError(t, err)

	if *updateAPI {
		require.NoError(t, os.WriteFile(apiFile, []byte(strings.Join(got, "\n")+"\n"), 0o644))
	}
	data, err := os.ReadFile(apiFile)
	require.NoError(t, err)

	diff := listingDiff(strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), got)
	require.Empty(t, diff, "the exported API is no longer that of %s:\n%s\nIf that is meant, run: go test . -run APIListing -update-api",
		apiFile, strings.Join(diff, "\n"))
}

func TestAPIListingHasWhatOthersCompileAgainst(t *testing.T) {
	t.Parallel()

	got, err := apiListing(fstest.MapFS{
		"a.go": {Data: []byte(`// Package p is read as source only.
package p

const (
	A, b = 1, 2
	C    T = "c" // a comment
	D    = iota
	E
)

var (
	F    = errors.New("f")
	G, h int
	I    = [...]time.Duration{1, 2}
	J    = make(chan int)
)

type T string

type Alias = other.Thing

type S[K comparable] struct {
	// A comment.
	X, y int ` + "`json:\"x\"`" + `
	*Embedded
	other.Foreign
	hidden
}

type N interface {
	Do(ctx context.Context,
		n int) error
	secret()
	io.Closer
	~int | ~string
}

type Fn func(n int) bool

type private struct{ X int }

func (s *S[K]) Method(a, b int) (n int, err error) { return 0, nil }
func (S[K]) method()                               {}
func (private) Method()                            {}

// Func has a comment.
func Func[V any](v ...V) func() { return nil }
func unexported()               {}
`)},
		"a_test.go": {Data: []byte("package p\n\nfunc InATest() {}\n")},
		"doc.txt":   {Data: []byte("no code")},
	}, []string{"."})

	require.NoError(t, err)
	require.Equal(t, []string{
		`p: const A = 1`,
		`p: const C T = "c"`,
		`p: const D = iota // 2`,
		`p: const E = iota // 3`,
		`p: func (s *S[K]) Method(a, b int) (n int, err error)`,
		`p: func Func[V any](v ...V) func()`,
		`p: type Alias = other.Thing`,
		`p: type Fn func(n int) bool`,
		`p: type N interface`,
		`p: type N interface, Do(ctx context.Context, n int) error`,
		`p: type N interface, embeds io.Closer`,
		`p: type N interface, embeds ~int | ~string`,
		`p: type N interface, has unexported methods`,
		`p: type S[K comparable] struct`,
		`p: type S[K comparable] struct, X int ` + "`json:\"x\"`",
		`p: type S[K comparable] struct, embeds *Embedded`,
		`p: type S[K comparable] struct, embeds other.Foreign`,
		`p: type S[K comparable] struct, has unexported fields`,
		`p: type T string`,
		`p: var F error`,
		`p: var G int`,
		`p: var I [2]time.Duration`,
		`p: var J = make(chan int)`,
	}, got)
}

func TestListingDiffNamesBothSides(t *testing.T) {
	t.Parallel()

	require.Empty(t, listingDiff([]string{"a", "b"}, []string{"a", "b"}))
	require.Equal(t, []string{"- b", "+ c"}, listingDiff([]string{"a", "b"}, []string{"a", "c"}))
	require.Equal(t, []string{"the lines are the same, in another order or number"}, listingDiff([]string{"b", "a"}, []string{"a", "b"}))
}

// apiListing returns one line for each exported thing of the packages in the
// folders, sorted.
func apiListing(tree fs.FS, folders []string) ([]string, error) {
	var lines []string
	for _, folder := range folders {
		files, err := fs.Glob(tree, path.Join(folder, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := fs.ReadFile(tree, file)
			if err != nil {
				return nil, err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, decl := range parsed.Decls {
				for _, item := range apiOf(decl) {
					lines = append(lines, parsed.Name.Name+": "+item)
				}
			}
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// listingDiff returns what is only in the first list, after a minus, and what
// is only in the second, after a plus, in the order of the lines themselves.
func listingDiff(want, got []string) []string {
	type change struct{ line, sign string }
	var changes []change
	for _, line := range want {
		if !slices.Contains(got, line) {
			changes = append(changes, change{line, "- "})
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			changes = append(changes, change{line, "+ "})
		}
	}
	if len(changes) == 0 && !slices.Equal(want, got) {
		return []string{"the lines are the same, in another order or number"}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return strings.Compare(a.line, b.line) })
	var diff []string
	for _, c := range changes {
		diff = append(diff, c.sign+c.line)
	}
	return diff
}

func apiOf(decl ast.Decl) []string {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() || d.Recv != nil && !ast.IsExported(receiverName(d.Recv.List[0].Type)) {
			return nil
		}
		return []string{sourceOf(&ast.FuncDecl{Recv: d.Recv, Name: d.Name, Type: d.Type})}
	case *ast.GenDecl:
		switch d.Tok {
		case token.CONST:
			return constsOf(d)
		case token.VAR:
			return varsOf(d)
		case token.TYPE:
			return typesOf(d)
		default: // imports
		}
	}
	return nil
}

func constsOf(d *ast.GenDecl) []string {
	var items []string
	var typ ast.Expr
	var values []ast.Expr
	for n, s := range d.Specs {
		spec := s.(*ast.ValueSpec)
		// A line without a value repeats the one before it.
		if spec.Values != nil {
			typ, values = spec.Type, spec.Values
		}
		for i, name := range spec.Names {
			if !name.IsExported() {
				continue
			}
			item := "const " + name.Name
			if typ != nil {
				item += " " + sourceOf(typ)
			}
			value := sourceOf(values[i])
			item += " = " + value
			if strings.Contains(value, "iota") {
				item += " // " + strconv.Itoa(n)
			}
			items = append(items, item)
		}
	}
	return items
}

func varsOf(d *ast.GenDecl) []string {
	var items []string
	for _, s := range d.Specs {
		spec := s.(*ast.ValueSpec)
		for i, name := range spec.Names {
			if !name.IsExported() {
				continue
			}
			item := "var " + name.Name
			if spec.Type != nil {
				item += " " + sourceOf(spec.Type)
			} else {
				item += initialised(spec.Values[min(i, len(spec.Values)-1)])
			}
			items = append(items, item)
		}
	}
	return items
}

// initialised returns the type of a variable with this value, where the
// value's source tells it, and the value otherwise.
func initialised(value ast.Expr) string {
	switch v := value.(type) {
	case *ast.CallExpr:
		if sourceOf(v.Fun) == "errors.New" {
			return " error"
		}
	case *ast.CompositeLit:
		if array, ok := v.Type.(*ast.ArrayType); ok && array.Len != nil {
			if _, ok := array.Len.(*ast.Ellipsis); ok {
				return fmt.Sprintf(" [%d]%s", len(v.Elts), sourceOf(array.Elt))
			}
		}
		return " " + sourceOf(v.Type)
	}
	return " = " + sourceOf(value)
}

func typesOf(d *ast.GenDecl) []string {
	var items []string
	for _, s := range d.Specs {
		spec := s.(*ast.TypeSpec)
		if !spec.Name.IsExported() {
			continue
		}
		var members []string
		typ := spec.Type
		if spec.Assign == token.NoPos {
			switch u := spec.Type.(type) {
			case *ast.StructType:
				typ, members = ast.NewIdent("struct"), membersOf(u.Fields, "fields")
			case *ast.InterfaceType:
				typ, members = ast.NewIdent("interface"), membersOf(u.Methods, "methods")
			}
		}
		item := sourceOf(&ast.GenDecl{Tok: token.TYPE, Specs: []ast.Spec{
			&ast.TypeSpec{Name: spec.Name, TypeParams: spec.TypeParams, Assign: spec.Assign, Type: typ},
		}})
		items = append(items, item)
		for _, m := range members {
			items = append(items, item+", "+m)
		}
	}
	return items
}

// membersOf lists fields or methods. That there are unexported ones is part of
// the API: such a struct has no unkeyed literals, such an interface no other
// implementations.
func membersOf(list *ast.FieldList, kind string) []string {
	var members []string
	hidden := false
	for _, f := range list.List {
		if f.Names == nil {
			if name := receiverName(f.Type); name != "" && !ast.IsExported(name) {
				hidden = true
				continue
			}
			members = append(members, "embeds "+sourceOf(f.Type))
		}
		for _, name := range f.Names {
			if !name.IsExported() {
				hidden = true
				continue
			}
			member := name.Name + " " + sourceOf(f.Type)
			if kind == "methods" {
				member = name.Name + strings.TrimPrefix(sourceOf(f.Type), "func")
			}
			if f.Tag != nil {
				member += " " + f.Tag.Value
			}
			members = append(members, member)
		}
	}
	if hidden {
		members = append(members, "has unexported "+kind)
	}
	return members
}

// receiverName returns the name of the type behind pointers, packages and type
// arguments; it is empty if there is none.
func receiverName(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		return t.Name
	case *ast.SelectorExpr:
		return t.Sel.Name
	case *ast.StarExpr:
		return receiverName(t.X)
	case *ast.IndexExpr:
		return receiverName(t.X)
	case *ast.IndexListExpr:
		return receiverName(t.X)
	}
	return ""
}

// sourceOf prints a node in one line. An empty file set forgets where the
// source had its line breaks.
func sourceOf(node any) string {
	var b strings.Builder
	if err := printer.Fprint(&b, token.NewFileSet(), node); err != nil {
		panic(fmt.Sprintf("printing a %s: %v", reflect.TypeOf(node), err))
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
