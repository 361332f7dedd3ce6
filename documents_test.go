package webhook_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fencedBlock is a fenced piece of code in a document.
type fencedBlock struct {
	doc    string // its file
	line   int    // of the fence
	lang   string
	marker string // the text of the comment before the fence, if it is a marker
	text   string
}

var (
	marker    = regexp.MustCompile(`^<!-- ((?:not run|run by): .*) -->$`)
	forAllOf  = regexp.MustCompile(`(?m)^<!-- ([a-z]+) blocks ((?:not run|run by): .*) -->$`)
	fenceLine = regexp.MustCompile("^[ \t>]*(?:```|~~~)")
)

// blocksOf returns the fenced blocks of a document's text.
func blocksOf(doc, text string) (list []fencedBlock, fault string) {
	var open *fencedBlock
	before, general := "", map[string]string{} // markers by language
	for _, m := range forAllOf.FindAllStringSubmatch(text, -1) {
		general[m[1]] = m[2]
	}
	for i, line := range strings.Split(text, "\n") {
		switch {
		case open == nil && fenceLine.MatchString(line):
			lang, ok := strings.CutPrefix(line, "```")
			if !ok {
				return nil, fmt.Sprintf("%s:%d: a fence is three backticks at the beginning of a line", doc, i+1)
			}
			open = &fencedBlock{doc: doc, line: i + 1, lang: lang, marker: general[lang]}
			if m := marker.FindStringSubmatch(before); m != nil {
				open.marker = m[1]
			}
		case open == nil:
			before = cmp.Or(strings.TrimSpace(line), before)
		case line == "```":
			list = append(list, *open)
			open, before = nil, "```"
		default:
			open.text += line + "\n"
		}
	}
	if open != nil {
		return nil, fmt.Sprintf("%s:%d: the block is not closed", doc, open.line)
	}
	return list, ""
}

// runners is what blocks are held against.
type runners struct {
	code     []string            // Go files, which go test work compiles
	snippets map[string]string   // testdata/snippets, by name
	ran      string              // the test that runs them
	tests    map[string][]string // names of tests, and the text of the files they stand in
	script   string              // .ci/run
}

func newRunners(t *testing.T) runners {
	t.Helper()
	r := runners{snippets: map[string]string{}, ran: readText(t, "snippets_test.go"), tests: map[string][]string{}, script: readText(t, ".ci/run")}
	for _, f := range goFiles(t) {
		r.code = append(r.code, f.text)
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasSuffix(f.path, "_test.go") {
				r.tests[fn.Name.Name] = append(r.tests[fn.Name.Name], f.text)
			}
		}
	}
	entries, err := os.ReadDir("testdata/snippets")
	require.NoError(t, err)
	for _, e := range entries {
		r.snippets[e.Name()] = readText(t, "testdata/snippets/"+e.Name())
	}
	return r
}

// by says what runs a block, or why it is not run; fault why it is neither.
func (r runners) by(b fencedBlock) (by, notRun, fault string) {
	at := fmt.Sprintf("%s:%d", b.doc, b.line)
	kind, what, _ := strings.Cut(b.marker, ": ")
	switch {
	case kind == "not run":
		if strings.TrimSpace(what) == "" {
			return "", "", at + ": it is not said why it is not run"
		}
		return "", what, ""
	case what == ".ci/run":
		if line := r.missing(b.text); line != "" {
			return "", "", fmt.Sprintf("%s: .ci/run does not run %q", at, line)
		}
		return what, "", ""
	case kind == "run by":
		files, ok := r.tests[what]
		name := path.Base(b.doc)
		if !ok || !slices.ContainsFunc(files, func(text string) bool { return strings.Contains(text, name) }) {
			return "", "", fmt.Sprintf("%s: there is no test %s in a file that names %s", at, what, name)
		}
		return what, "", ""
	case b.lang == "go":
		indented := b.text
		for range 5 { // at whatever depth it is there
			if slices.ContainsFunc(r.code, func(text string) bool { return strings.Contains("\n"+text, "\n"+indented) }) {
				return "go test work", "", ""
			}
			indented = lineStart.ReplaceAllString(indented, "\t$1")
		}
		return "", "", fmt.Sprintf("%s: no Go file of the repository has this code:\n%s", at, b.text)
	}
	for name, text := range r.snippets {
		if text == b.text && strings.Contains(r.ran, name) {
			return "testdata/snippets/" + name, "", ""
		}
	}
	first, _, _ := strings.Cut(b.text, "\n")
	return "", "", fmt.Sprintf("%s: nothing runs this block (%s …), and no marker says why; see CONTRIBUTING, Documentation", at, first)
}

// missing returns a command whose words are not, in their order, in one line of .ci/run.
func (r runners) missing(commands string) string {
	for command := range strings.Lines(commands) {
		command, _, _ = strings.Cut(command, " #")
		words := strings.Fields(command)
		there := false
		for line := range strings.Lines(r.script) {
			left := words
			for word := range strings.FieldsSeq(line) {
				if len(left) > 0 && word == left[0] {
					left = left[1:]
				}
			}
			there = there || len(left) == 0
		}
		if !there {
			return strings.TrimSpace(command)
		}
	}
	return ""
}

// TestFencedBlocksAreRun holds each block of each document against what runs it.
// With -v it lists those that nothing runs, with the reason that stands before them.
func TestFencedBlocksAreRun(t *testing.T) {
	t.Parallel()
	r := newRunners(t)
	var faults, notRun []string
	ran := map[string]int{}
	total := 0
	for _, doc := range markdownFiles(t) {
		blocks, fault := blocksOf(doc, readText(t, doc))
		if fault != "" {
			faults = append(faults, fault)
		}
		for _, b := range blocks {
			by, reason, fault := r.by(b)
			switch {
			case fault != "":
				faults = append(faults, fault)
			case reason != "":
				notRun = append(notRun, fmt.Sprintf("%s:%d (%s): %s", doc, b.line, cmp.Or(b.lang, "text"), reason))
			default:
				ran[by]++
				total++
			}
		}
	}
	require.Empty(t, faults, "%s", strings.Join(faults, "\n"))
	t.Logf("%d blocks run: %v", total, ran)
	t.Logf("%d not run:\n%s", len(notRun), strings.Join(notRun, "\n"))
}

func TestBlocksThatNothingRunsAreFound(t *testing.T) {
	t.Parallel()
	r := runners{
		code:     []string{"package p\n\nfunc f() {\n\tfirst()\n\tsecond()\n}\n"},
		snippets: map[string]string{"verify.rb": "puts 1\n", "unused.rb": "puts 2\n"},
		ran:      `{"ruby", "verify.rb"}`,
		tests:    map[string][]string{"TestPage": {"reads page.md"}},
		script:   "step 'x' says 'ok' go run ./examples/x -once -db file\n",
	}
	const ok, fault = true, false
	for _, tc := range []struct {
		name, text string
		want       bool
	}{
		{"Go that is compiled", "```go\nfirst()\nsecond()\n```\n", ok},
		{"Go that is not there", "```go\nfirst()\nthird()\n```\n", fault},
		{"a part of a line", "```go\nrst()\n```\n", fault},
		{"Go that is marked", "<!-- not run: pseudo code -->\n```go\nthird()\n```\n", ok},
		{"a snippet", "```ruby\nputs 1\n```\n", ok},
		{"a part of a snippet", "```ruby\nputs\n```\n", fault},
		{"a snippet that no test runs", "```ruby\nputs 2\n```\n", fault},
		{"commands", "```sh\nls\n```\n", fault},
		{"without a language", "```\nls\n```\n", fault},
		{"commands that are marked", "text\n\n<!-- not run: output -->\n\n```sh\nls\n```\n", ok},
		{"no reason", "<!-- not run:  -->\n```sh\nls\n```\n", fault},
		{"a marker of the block before", "<!-- not run: output -->\n```sh\nls\n```\n```sh\nls\n```\n", fault},
		{"a marker for all of a language", "<!-- sh blocks run by: TestPage -->\n\n```sh\nls\n```\n```sh\nls\n```\n", ok},
		{"of another language", "<!-- sh blocks run by: TestPage -->\n\n```console\n$ ls\n```\n", fault},
		{"a test that names the page", "<!-- run by: TestPage -->\n```sh\nls\n```\n", ok},
		{"no such test", "<!-- run by: TestOther -->\n```sh\nls\n```\n", fault},
		{"commands of .ci/run", "<!-- run by: .ci/run -->\n```sh\ngo run ./examples/x -once  # to see\n```\n", ok},
		{"others", "<!-- run by: .ci/run -->\n```sh\ngo run ./examples/x -twice\n```\n", fault},
		{"a fence in a list", "- x\n  ```sh\n  ls\n  ```\n", fault},
		{"tildes", "~~~sh\nls\n~~~\n", fault},
		{"not closed", "```go\nfirst()\n", fault},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			blocks, said := blocksOf("docs/page.md", tc.text)
			for _, b := range blocks {
				_, _, fault := r.by(b)
				said += fault
			}
			require.Equal(t, tc.want, said == "", said)
		})
	}
	_, _, said := r.by(fencedBlock{doc: "docs/other.md", marker: "run by: TestPage"})
	require.NotEmpty(t, said, "the test has nothing to do with this page")
}

// markdownFiles returns the documents of the repository.
func markdownFiles(t *testing.T) (files []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || file != "." && d.Name()[0] == '.'):
			return fs.SkipDir
		case path.Ext(file) == ".md":
			files = append(files, file)
		}
		return nil
	})
	require.NoError(t, err)
	return files
}

// TestLinksLead goes through the links of all documents to files and headings.
func TestLinksLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code := regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]+`")
	for _, doc := range markdownFiles(t) {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(readText(t, doc), ""), -1) {
			file, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(m[1], "://") {
				continue
			}
			to := doc
			if file != "" {
				to = path.Join(path.Dir(doc), file)
				_, err := os.Stat(to)
				require.NoError(t, err, "%s links to %s", doc, m[1])
			}
			if heading != "" {
				require.Contains(t, headings(readText(t, to)), heading, "%s links to %s", doc, m[1])
			}
		}
	}
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// headings returns the anchors that GitHub makes of a document's headings.
func headings(text string) (list []string) {
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			anchor := notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			list = append(list, strings.ReplaceAll(anchor, " ", "-"))
		}
	}
	return list
}
