package webhook_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

const (
	rootModule = "github.com/posthorn/webhook"

	uuidModule    = "github.com/google/uuid"
	backoffModule = "github.com/cenkalti/backoff/v4"
	testifyModule = "github.com/stretchr/testify"
	mockModule    = "go.uber.org/mock"
)

// importRule says what the packages in one folder, and below it, may import.
// The standard library is always allowed, except for notStd, and so is the
// folder itself. Folders are relative to the repository; "." is the root package.
type importRule struct {
	folders []string // of this project
	modules []string // of others; nil in a nested module means any, its own go.mod is the list
	notStd  []string

	// Further folders and modules for files named *_test.go, to which notStd does not apply.
	testFolders []string
	testModules []string
}

// importRules is the architecture: examples, bench, cmd, integration → adapters
// → root → two small modules. A folder without a row is a fault, so that a new
// package takes a decision.
var importRules = func() map[string]importRule {
	var (
		root     = []string{"."}
		adapters = []string{
			"memstore", "sqlstore", "storetest", "webhooktest", "webhookmock", "adminui", "httpapi",
			"smtpnotify", "webhookschema", "otelwebhook",
		}
		all = slices.Concat(root, adapters)

		library = []string{uuidModule, backoffModule}
		asserts = []string{testifyModule, mockModule}
		testers = []string{"memstore", "storetest", "webhooktest", "webhookmock"}
	)
	return map[string]importRule{
		".": {
			modules: library, notStd: []string{"database/sql", "html/template", "net/smtp"},
			testFolders: adapters, testModules: asserts,
		},

		"memstore":    {folders: root, modules: library, testFolders: testers, testModules: asserts},
		"sqlstore":    {folders: root, modules: library, testFolders: testers, testModules: asserts},
		"adminui":     {folders: root, modules: library, testFolders: testers, testModules: asserts},
		"httpapi":     {folders: root, modules: library, testFolders: testers, testModules: asserts},
		"webhooktest": {folders: root, modules: library, testFolders: testers, testModules: asserts},

		// A conformance suite asserts, and generated mocks need their runtime.
		"storetest":   {folders: root, modules: slices.Concat(library, []string{testifyModule}), testFolders: testers, testModules: asserts},
		"webhookmock": {folders: root, modules: slices.Concat(library, []string{mockModule}), testFolders: testers, testModules: asserts},

		// Nested modules.
		"smtpnotify":    {folders: root, testFolders: testers},
		"webhookschema": {folders: root, testFolders: testers},
		"otelwebhook":   {folders: root, testFolders: testers},

		"examples":             {folders: all},
		"cmd":                  {folders: all},
		"bench":                {folders: all},
		"internal/integration": {folders: all},
	}
}()

// rootRequirements are the only modules that the root go.mod may ask for by
// itself: whoever imports the library gets each of them into its module graph.
var rootRequirements = []string{uuidModule, backoffModule, testifyModule, mockModule}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()

	faults, err := importFaults(os.DirFS("."))

	require.NoError(t, err)
	require.Empty(t, faults, "%s", strings.Join(faults, "\n"))
}

func TestRootRequiresFewModules(t *testing.T) {
	t.Parallel()

	faults, err := requirementFaults(os.DirFS("."))

	require.NoError(t, err)
	require.Empty(t, faults, "%s", strings.Join(faults, "\n"))
}

func TestImportFaultsAreFound(t *testing.T) {
	t.Parallel()

	const (
		allowed = true
		fault   = false

		own = rootModule
	)
	for _, tc := range []struct {
		name, file, imports string
		want                bool
	}{
		{"root: standard library", "a.go", "net/http", allowed},
		{"root: uuid", "a.go", "github.com/google/uuid", allowed},
		{"root: backoff", "a.go", "github.com/cenkalti/backoff/v4", allowed},
		{"root: another major version", "a.go", "github.com/cenkalti/backoff/v5", fault},
		{"root: a path that only begins the same", "a.go", "github.com/google/uuid2", fault},
		{"root: foreign module", "a.go", "github.com/lib/pq", fault},
		{"root: testify", "a.go", "github.com/stretchr/testify/require", fault},
		{"root: cgo", "a.go", "C", fault},
		{"root: database/sql", "a.go", "database/sql", fault},
		{"root: below database/sql", "a.go", "database/sql/driver", fault},
		{"root: html/template", "a.go", "html/template", fault},
		{"root: net/smtp", "a.go", "net/smtp", fault},
		{"root: adapter", "a.go", own + "/memstore", fault},
		{"root's tests: testify", "a_test.go", "github.com/stretchr/testify/require", allowed},
		{"root's tests: net/smtp", "a_test.go", "net/smtp", allowed},
		{"root's tests: adapter", "a_test.go", own + "/memstore", allowed},
		{"root's tests: nested module", "a_test.go", own + "/smtpnotify", fault},
		{"root's tests: foreign module", "a_test.go", "github.com/lib/pq", fault},

		{"adapter: root", "memstore/a.go", own, allowed},
		{"adapter: below itself", "adminui/a.go", own + "/adminui/assets", allowed},
		{"adapter: database/sql", "sqlstore/a.go", "database/sql", allowed},
		{"adapter: adapter", "adminui/a.go", own + "/httpapi", fault},
		{"below an adapter: adapter", "adminui/assets/a.go", own + "/httpapi", fault},
		{"adapter: nested module", "adminui/a.go", own + "/smtpnotify", fault},
		{"adapter: foreign module", "sqlstore/a.go", "github.com/lib/pq", fault},
		{"adapter: testify", "webhooktest/a.go", "github.com/stretchr/testify/require", fault},
		{"adapter: conformance suite", "memstore/a.go", own + "/storetest", fault},
		{"adapter: folder without a row", "adminui/a.go", own + "/extra", fault},
		{"adapter's tests: conformance suite", "memstore/a_test.go", own + "/storetest", allowed},
		{"adapter's tests: in-memory store", "adminui/a_test.go", own + "/memstore", allowed},
		{"adapter's tests: adapter", "adminui/a_test.go", own + "/httpapi", fault},
		{"conformance suite: testify", "storetest/a.go", "github.com/stretchr/testify/require", allowed},
		{"conformance suite: in-memory store", "storetest/a.go", own + "/memstore", fault},
		{"mocks: their runtime", "webhookmock/a.go", "go.uber.org/mock/gomock", allowed},

		{"nested module: root", "smtpnotify/a.go", own, allowed},
		{"nested module: foreign module", "smtpnotify/a.go", "github.com/lib/pq", allowed},
		{"nested module: adapter", "smtpnotify/a.go", own + "/adminui", fault},
		{"examples: anything", "examples/quickstart/a.go", own + "/adminui", allowed},

		{"testdata is no code", "testdata/a.go", "github.com/lib/pq", allowed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tree := fstest.MapFS{
				"go.mod":            {},
				"smtpnotify/go.mod": {},
				"examples/go.mod":   {},
				// The build tag shows that no platform hides an import.
				tc.file: {Data: fmt.Appendf(nil, "//go:build plan9\n\npackage p\n\nimport _ %q\n", tc.imports)},
			}

			faults, err := importFaults(tree)

			require.NoError(t, err)
			if tc.want == allowed {
				require.Empty(t, faults)
				return
			}
			require.Len(t, faults, 1)
			require.Contains(t, faults[0], tc.file+" imports "+tc.imports+": ")
		})
	}
}

func TestFolderWithoutARowIsFound(t *testing.T) {
	t.Parallel()

	faults, err := importFaults(fstest.MapFS{
		"go.mod":            {},
		"extra/a.go":        {Data: []byte("package extra\n")},
		"extra/deeper/b.go": {Data: []byte("package deeper\n")},
	})

	require.NoError(t, err)
	require.Equal(t, []string{
		"extra/a.go is in a folder without a row in importRules",
		"extra/deeper/b.go is in a folder without a row in importRules",
	}, faults)
}

func TestRequirementFaultsAreFound(t *testing.T) {
	t.Parallel()

	tree := fstest.MapFS{"go.mod": {Data: []byte(`module github.com/posthorn/webhook

go 1.25

require github.com/jackc/pgx/v5 v5.7.0 // for sqlstore

require (
	github.com/google/uuid v1.6.0
	// a comment
	github.com/google/uuid2 v1.0.0
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace github.com/lib/pq => ../pq
`)}}

	faults, err := requirementFaults(tree)

	require.NoError(t, err)
	require.Len(t, faults, 2)
	require.Contains(t, faults[0], "go.mod requires github.com/jackc/pgx/v5")
	require.Contains(t, faults[1], "go.mod requires github.com/google/uuid2")
}

// importFaults returns one line for each import in the tree that importRules
// does not allow, naming its file. It reads import declarations only, so it
// sees files under every build tag.
func importFaults(tree fs.FS) ([]string, error) {
	modules, err := modulesOf(tree)
	if err != nil {
		return nil, err
	}
	var faults []string
	err = fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && notCode(d.Name()):
			return fs.SkipDir
		case d.IsDir() || path.Ext(file) != ".go":
			return nil
		}
		source, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if _, ok := rowOf(path.Dir(file)); !ok {
			faults = append(faults, file+" is in a folder without a row in importRules")
			return nil
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if reason := importFault(modules, file, imported); reason != "" {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", file, imported, reason))
			}
		}
		return nil
	})
	return faults, err
}

// importFault says why the file, whose folder has a row, may not import the
// path, and is empty if it may.
func importFault(modules map[string]bool, file, imported string) string {
	row, _ := rowOf(path.Dir(file))
	rule := importRules[row]
	folders, others, notStd := rule.folders, rule.modules, rule.notStd
	if strings.HasSuffix(file, "_test.go") {
		folders = slices.Concat(folders, rule.testFolders)
		others = slices.Concat(others, rule.testModules)
		notStd = nil
	}
	module := moduleOf(modules, path.Dir(file))

	switch target, ours := folderOf(imported); {
	case ours:
		targetRow, ok := rowOf(target)
		switch {
		case !ok:
			return "that folder has no row in importRules"
		case module == "." && moduleOf(modules, target) != ".":
			return "the root module must not need a nested one"
		case targetRow != row && !slices.Contains(folders, targetRow):
			return "imports run examples, bench, cmd, integration → adapters → root, and adapters never import each other"
		}
	case imported == "C":
		return "no cgo"
	case isStandard(imported):
		if slices.ContainsFunc(notStd, func(p string) bool { return importedFrom(imported, p) }) {
			return "the root package leaves databases, pages and mail to adapters"
		}
	case module == ".":
		if !slices.ContainsFunc(others, func(m string) bool { return importedFrom(imported, m) }) {
			return "a module that this folder may not use"
		}
	}
	return ""
}

// requirementFaults returns one line for each direct requirement of the root
// go.mod that is not in rootRequirements.
func requirementFaults(tree fs.FS) ([]string, error) {
	data, err := fs.ReadFile(tree, "go.mod")
	if err != nil {
		return nil, err
	}
	var faults []string
	block := false
	for line := range strings.Lines(string(data)) {
		code, comment, _ := strings.Cut(line, "//")
		fields := strings.Fields(code)
		switch {
		case len(fields) == 0:
			continue
		case fields[0] == ")":
			block = false
			continue
		case fields[0] == "require" && len(fields) > 1 && fields[1] == "(":
			block = true
			continue
		case fields[0] == "require":
			fields = fields[1:]
		case !block:
			continue
		}
		if strings.TrimSpace(comment) != "indirect" && !slices.Contains(rootRequirements, fields[0]) {
			faults = append(faults, fmt.Sprintf("go.mod requires %s: a direct requirement of the root module reaches every importer; use a nested module", fields[0]))
		}
	}
	return faults, nil
}

// modulesOf returns the folders in the tree that have a go.mod.
func modulesOf(tree fs.FS) (map[string]bool, error) {
	modules := map[string]bool{}
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && notCode(d.Name()):
			return fs.SkipDir
		case d.Name() == "go.mod":
			modules[path.Dir(file)] = true
		}
		return nil
	})
	return modules, err
}

// moduleOf returns the folder of the module that the folder belongs to.
func moduleOf(modules map[string]bool, folder string) string {
	for ; folder != "."; folder = path.Dir(folder) {
		if modules[folder] {
			return folder
		}
	}
	return "."
}

// rowOf returns the key of importRules that covers the folder.
func rowOf(folder string) (string, bool) {
	if folder == "." {
		return ".", true
	}
	for ; folder != "."; folder = path.Dir(folder) {
		if _, ok := importRules[folder]; ok {
			return folder, true
		}
	}
	return "", false
}

// folderOf returns the folder of a package of this project.
func folderOf(imported string) (string, bool) {
	if imported == rootModule {
		return ".", true
	}
	return strings.CutPrefix(imported, rootModule+"/")
}

// isStandard holds for paths whose first element has no dot, as cmd/go decides it.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func importedFrom(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, prefix+"/")
}

// notCode holds for the folders that cmd/go ignores, too.
func notCode(folder string) bool {
	return folder == "testdata" || folder != "." && (folder[0] == '.' || folder[0] == '_')
}
