package webhook_test

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/httpapi"
	"github.com/posthorn/webhook/memstore"
	"github.com/posthorn/webhook/sqlstore"
)

// documents are what people read first; what they say is held against the code.
func documents(t *testing.T) []string {
	t.Helper()
	guides, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	guides = slices.DeleteFunc(guides, func(file string) bool { return file == "docs/design.md" }) // names what was rejected, too
	return append([]string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}, guides...)
}

var lineStart = regexp.MustCompile(`(?m)^(.)`) // of lines that are not empty

func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	configs := map[string]reflect.Type{}
	for _, c := range []reflect.Type{
		reflect.TypeFor[webhook.DispatcherConfig](), reflect.TypeFor[webhook.PublisherConfig](),
		reflect.TypeFor[webhook.ManagerConfig](), reflect.TypeFor[webhook.TransportConfig](),
		reflect.TypeFor[webhook.VerifierConfig](),
	} {
		configs[c.Name()] = c
	}
	docs := fieldDocs(t, ".")
	for name := range docs {
		require.True(t, configs[name] != nil || !strings.HasSuffix(name, "Config"), "%s is not in this test, nor perhaps in docs/configuration.md", name)
	}

	for name, c := range map[string]reflect.Type{
		"httpapi.Config": reflect.TypeFor[httpapi.Config](), "sqlstore.Config": reflect.TypeFor[sqlstore.Config](),
	} {
		folder, inIt, _ := strings.Cut(name, ".")
		configs[name], docs[name] = c, fieldDocs(t, folder)[inIt]
	}

	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want, got []string
			for _, f := range reflect.VisibleFields(c) {
				if f.IsExported() {
					want = append(want, f.Name)
				}
			}
			for _, row := range tableOf(t, "docs/configuration.md", "`"+name+"`") {
				field := strings.Trim(row[0], "`")
				got = append(got, field)

				// What a doc comment says after "Defaults to", the page says as well.
				byDefault := strings.ReplaceAll(row[1], "`", "")
				_, said, found := strings.Cut(docs[name][field], "Defaults to ")
				if byDefault == "required" {
					require.Contains(t, docs[name][field], "Required", field)
					continue
				}
				require.True(t, found && strings.HasPrefix(said, byDefault), "%s defaults to %q, or to %q?", field, byDefault, said)
			}
			require.Equal(t, want, got)
		})
	}
}

func TestRequestIsDocumented(t *testing.T) {
	t.Parallel()
	sent, payload := sampleRequest(t)

	require.Equal(t, []string{payload + "\n"}, blocksIn(t, "docs/receivers.md", "json"))

	headers := http.Header{}
	for _, row := range tableOf(t, "docs/receivers.md", "header") {
		headers.Set(strings.Trim(row[0], "`"), row[1])
	}
	require.ElementsMatch(t, sortedHeader(sent), sortedHeader(headers))
	for _, name := range []string{"Content-Type", "User-Agent"} {
		require.Contains(t, headers.Get(name), "`"+sent.Get(name)+"`")
	}
}

// sampleRequest is the one that docs/receivers.md describes.
func sampleRequest(t *testing.T) (h http.Header, payload string) {
	t.Helper()
	store := memstore.New()
	disp, err := webhook.NewDispatcher(store, webhook.DispatcherConfig{HTTPDoer: recorder(func(r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		h, payload = r.Header.Clone(), string(body)
	})})
	require.NoError(t, err)
	mgr, err := webhook.NewManager(store, webhook.ManagerConfig{})
	require.NoError(t, err)
	pub, err := webhook.NewPublisher(store, webhook.PublisherConfig{})
	require.NoError(t, err)

	room := webhook.Subject{Type: webhook.SubjectRoom, ID: "3f0c9d1e-8f5b-4c55-9b0e-0f4d2c7a9b11"}
	_, _, err = mgr.Create(t.Context(), webhook.Actor{OrganizationID: "acme", Role: webhook.RoleOwner}, webhook.WebhookInput{
		Name: "Archive", EndpointURL: "https://archive.example.com/webhooks",
		Subscriptions: []webhook.Subscription{{Subject: room, EventType: webhook.EventMessageSent}},
	})
	require.NoError(t, err)
	_, err = pub.Publish(t.Context(), webhook.Event{
		ID:             uuid.MustParse("019b797c-8e00-7d3a-9f00-5b1c2d3e4f50"),
		OrganizationID: "acme", Type: webhook.EventMessageSent, Subject: room,
		OccurredAt: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC),
		Data:       map[string]string{"text": "Hello, World!"},
	})
	require.NoError(t, err)
	n, err := disp.RunOnce(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	return h, payload
}

// recorder is an HTTPDoer that answers everything with 204.
type recorder func(*http.Request)

func (f recorder) Do(r *http.Request) (*http.Response, error) {
	f(r)
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}

func sortedHeader(h http.Header) (names []string) {
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestScheduleIsDocumented(t *testing.T) {
	t.Parallel()
	s := webhook.DefaultSchedule()
	var want [][]string
	var at time.Duration
	for n := 1; n <= s.MaxAttempts(); n++ {
		wait, ok := s.Delay(n)
		text := "–"
		if ok {
			text = readable(wait)
		}
		want = append(want, []string{fmt.Sprint(n), readable(at), text})
		at += wait
	}
	require.Equal(t, want, tableOf(t, "docs/receivers.md", "attempt"))
}

// readable is a duration of whole minutes as docs/receivers.md writes it.
func readable(d time.Duration) string {
	hours, minutes := int(d.Hours()), int(d.Minutes())%60
	switch {
	case d == 0:
		return "0"
	case hours == 0:
		return fmt.Sprintf("%d m", minutes)
	case minutes == 0:
		return fmt.Sprintf("%d h", hours)
	default:
		return fmt.Sprintf("%d h %d m", hours, minutes)
	}
}

func TestLimitsAreDocumented(t *testing.T) {
	t.Parallel()
	thousands := func(n int) string {
		if n < 1000 {
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	require.Equal(t, [][]string{
		{"payload", fmt.Sprintf("%d KiB, `MaxPayloadBytes`", webhook.DefaultMaxPayloadBytes>>10)},
		{"webhooks of an organization", fmt.Sprintf("%d, `MaxWebhooks`", webhook.DefaultMaxWebhooks)},
		{"subscriptions of a webhook", fmt.Sprint(webhook.MaxSubscriptions)},
		{"rate limit of a webhook", thousands(webhook.MaxRateLimit) + " attempts a second"},
		{"name, description of a webhook", fmt.Sprintf("%d, %d characters", webhook.MaxNameLength, webhook.MaxDescriptionLength)},
		{"endpoint URL", thousands(webhook.MaxEndpointURLBytes) + " bytes"},
		{"organization and subject ids, keys, attribute values", fmt.Sprintf("%d bytes", webhook.MaxIDBytes)},
		{"parents, attributes of an event", fmt.Sprintf("%d, %d", webhook.MaxParents, webhook.MaxAttributes)},
		{"items of a page", fmt.Sprintf("%d; %d by default", webhook.MaxPageSize, webhook.DefaultPageSize)},
		{"response body that is kept", fmt.Sprintf("%s bytes", thousands(webhook.MaxResponseBytes))},
	}, tableOf(t, "docs/configuration.md", "of"))
}

// TestRolesAreDocumented calls every method of Manager in every role.
func TestRolesAreDocumented(t *testing.T) {
	t.Parallel()
	mgr, err := webhook.NewManager(memstore.New(), webhook.ManagerConfig{})
	require.NoError(t, err)
	manager := reflect.ValueOf(mgr)
	mayCall := func(method reflect.Method, role webhook.Role) bool {
		actor := webhook.Actor{ID: "ada", OrganizationID: "acme", Role: role}
		args := []reflect.Value{manager, reflect.ValueOf(t.Context()), reflect.ValueOf(actor)}
		for i := len(args); i < method.Type.NumIn(); i++ {
			args = append(args, reflect.Zero(method.Type.In(i)))
		}
		results := method.Func.Call(args)
		err, _ := reflect.TypeAssert[error](results[len(results)-1])
		return !errors.Is(err, webhook.ErrForbidden)
	}

	viewers := map[string]bool{} // by method, whether viewers may call it
	for _, row := range tableOf(t, "docs/routers.md", "method") {
		require.Equal(t, "yes", row[1])
		for name := range strings.SplitSeq(row[0], ", ") {
			viewers[strings.Trim(name, "`")] = row[2] != "no"
		}
	}
	methods := manager.Type()
	require.Len(t, viewers, methods.NumMethod()-1, "all but Catalog, which is nobody's")
	for i := range methods.NumMethod() {
		m := methods.Method(i)
		if m.Name == "Catalog" {
			continue
		}
		require.Contains(t, viewers, m.Name)
		require.True(t, mayCall(m, webhook.RoleOwner), m.Name)
		require.True(t, mayCall(m, webhook.RoleAdmin), m.Name)
		require.Equal(t, viewers[m.Name], mayCall(m, webhook.RoleViewer), m.Name)
		require.False(t, mayCall(m, ""), m.Name)
	}
}

func TestDocumentsNameFoldersThatExist(t *testing.T) {
	t.Parallel()
	folder := regexp.MustCompile(`\s(\./[a-z][a-z0-9/_-]*)`) // of commands
	for _, doc := range documents(t) {
		text := readText(t, doc)
		for _, m := range folder.FindAllStringSubmatch(text, -1) {
			require.DirExists(t, m[1], doc)
		}
	}
}

// TestDocumentsNameWhatExists holds code in the text of documents, such as
// `Manager.Delete`, against the exported names, and names of tests, and of subtests
// of the contract, against the tests.
func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	exported, tests := map[string]bool{}, map[string]bool{}
	files := goFiles(t)
	for _, f := range files {
		ast.Inspect(f.tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if strings.HasSuffix(f.path, "_test.go") {
					tests[n.Name.Name] = true
				} else {
					exported[n.Name.Name] = true
				}
				return false
			case *ast.TypeSpec:
				exported[n.Name.Name] = true
			case *ast.ValueSpec:
				for _, name := range n.Names {
					exported[name.Name] = true
				}
			case *ast.Field:
				for _, name := range n.Names {
					exported[name.Name] = true
				}
			}
			return true
		})
	}
	code := regexp.MustCompile("`(?:(?:webhook|memstore|storetest|webhooktest)\\.)?([A-Z][A-Za-z]*[a-z][A-Za-z]*)(?:\\.([A-Z]\\w*))?`")
	clause := regexp.MustCompile("`S[0-9]+/([A-Z][A-Za-z]+)`")
	test := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark|Example)[A-Z_]\w*`)
	for _, doc := range documents(t) {
		text := readText(t, doc)
		for _, m := range code.FindAllStringSubmatch(text, -1) {
			for _, name := range m[1:] {
				require.True(t, name == "" || exported[name] || tests[name], "%s names %s", doc, m[0])
			}
		}
		for _, name := range test.FindAllString(text, -1) {
			require.True(t, tests[name], "%s names %s", doc, name)
		}
		for _, m := range clause.FindAllStringSubmatch(text, -1) {
			require.True(t, slices.ContainsFunc(files, func(f goFile) bool {
				return path.Dir(f.path) == "storetest" && strings.Contains(f.text, m[1]+`"`)
			}), "%s names %s", doc, m[0])
		}
	}
}

// blocksIn returns the fenced blocks of a document in one language.
func blocksIn(t *testing.T, doc, lang string) (texts []string) {
	t.Helper()
	blocks, fault := blocksOf(doc, readText(t, doc))
	require.Empty(t, fault)
	for _, b := range blocks {
		if b.lang == lang {
			texts = append(texts, b.text)
		}
	}
	return texts
}

// tableOf returns the rows of a document's only table whose first column has this
// title.
func tableOf(t *testing.T, doc, title string) (rows [][]string) {
	t.Helper()
	text := readText(t, doc)
	require.Equal(t, 1, strings.Count(text, "\n| "+title+" |"), "tables of %s in %s", title, doc)
	_, after, _ := strings.Cut(text, "\n| "+title+" |")
	lines := strings.Split(after, "\n")
	for _, line := range lines[2:] { // after the header and the rule below it
		if !strings.HasPrefix(line, "| ") {
			break
		}
		cells := strings.Split(strings.Trim(line, "| "), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

// goFile is a file that go test work compiles.
type goFile struct {
	path, text string
	tree       *ast.File
}

func goFiles(t *testing.T) (files []goFile) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && notCode(d.Name()):
			return fs.SkipDir
		case path.Ext(file) != ".go":
			return nil
		}
		text := readText(t, file)
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ParseComments)
		files = append(files, goFile{file, text, tree})
		return err
	})
	require.NoError(t, err)
	return files
}

// fieldDocs returns the doc comments, on one line and without quotation marks,
// of the fields of the structs in a folder.
func fieldDocs(t *testing.T, folder string) map[string]map[string]string {
	t.Helper()
	docs := map[string]map[string]string{}
	for _, f := range goFiles(t) {
		if path.Dir(f.path) != folder || strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			docs[spec.Name.Name] = map[string]string{}
			for _, field := range s.Fields.List {
				text := cmp.Or(field.Doc, field.Comment).Text()
				for _, name := range field.Names {
					docs[spec.Name.Name][name.Name] = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), `"`, "")
				}
			}
			return false
		})
	}
	return docs
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
