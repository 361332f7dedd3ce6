package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kept is a result of a drain.
func kept(store, size, commit string, at time.Time, value float64) *result {
	return &result{
		resultKey: resultKey{"drain", store, size, commit}, Date: at, Seconds: 7,
		Machine: machineInfo{CPU: "abacus", CPUs: 2, MemoryMB: 64, System: "linux 6", Go: "go1.26"}, Settings: "go run ./bench -scenario drain",
		Notes: []string{"a note"}, Columns: []string{"", "per second"}, Rows: [][]string{{"posthorn", "12"}},
		Ratios: []ratio{{"drain_of_limit", value}},
	}
}

func TestResultsAreKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.jsonl")
	at := time.Date(2026, 11, 28, 4, 0, 0, 0, time.UTC)
	one, two := kept(storePostgres, sizeFull, "abc", at, 0.5), kept(storeSQLite, sizeQuick, "abc", at, 0.25)

	none, err := readResults(path)
	require.NoError(t, err)
	require.Empty(t, none)

	require.NoError(t, appendResult(path, one))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(text, `{"scenario":"dr`...), 0o600)) // whose writer was killed
	got, err := readResults(path)
	require.NoError(t, err)
	require.Equal(t, []result{*one}, got)

	require.NoError(t, appendResult(path, two))
	got, err = readResults(path)
	require.NoError(t, err)
	require.Equal(t, []result{*one, *two}, got)

	require.NoError(t, os.WriteFile(path, []byte("{}\nnonsense\n"), 0o600))
	_, err = readResults(path)
	require.ErrorContains(t, err, ":2: ")
}

func TestAllGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	all := jobs("", "")
	require.Equal(t, job{"limit", storeNone}, all[0])
	require.Contains(t, all, job{"mem", storeMem})
	require.Contains(t, all, job{"endurance", storeMariaDB})
	require.NotContains(t, all, job{"wall", storeMem})
	for _, s := range scenarios() {
		require.Len(t, jobs(s.name, ""), max(1, len(s.stores)), "%s", s.name)
	}
	require.Equal(t, []job{{"snapshot", storePostgres}}, jobs("snapshot", ""))
	require.Empty(t, jobs("snapshot", storeSQLite))
	require.Equal(t, []job{{"limit", storeNone}}, jobs("", storeNone))

	drains := []job{{"drain", storePostgres}, {"drain", storeSQLite}}
	have := []result{*kept(storePostgres, sizeFull, "abc", time.Time{}, 1)}
	require.Equal(t, drains[1:], todo(drains, have, sizeFull, "abc"))
	require.Equal(t, drains, todo(drains, have, sizeQuick, "abc"))
	require.Equal(t, drains, todo(drains, have, sizeFull, "def"))
}

func TestPageHasTheNewestResults(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "page.md")
	before := "By hand.\n\n" + pageBegin + "\nold\n" + pageEnd + "\n\nBy hand, too.\n"
	require.NoError(t, os.WriteFile(path, []byte(before), 0o600))
	at := time.Date(2026, 11, 28, 4, 0, 0, 0, time.UTC)
	results := []result{
		*kept(storePostgres, sizeFull, "abc", at, 0.7),
		*kept(storePostgres, sizeFull, "def", at.Add(time.Hour), 0.5),
		*kept(storePostgres, sizeQuick, "def", at.Add(2*time.Hour), 0.9),
		*kept(storeSQLite, sizeQuick, "def", at, 0.25),
	}

	require.NoError(t, writePage(path, results))

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	page := string(text)
	require.True(t, strings.HasPrefix(page, "By hand.\n\n"+pageBegin+"\n"), page)
	require.True(t, strings.HasSuffix(page, pageEnd+"\n\nBy hand, too.\n"), page)
	require.NotContains(t, page, "old")
	require.Contains(t, page, "| `drain_of_limit` | ≥ 0.700 | **not reached** | 0.500 |  | 0.250 (quick) |  |\n")
	require.Contains(t, page, "| `drain_of_river` | ≥ 2.500 |  |  |  |  |  |\n")
	require.Contains(t, page, "Machine: abacus, 2 CPUs, 64 MB of memory, linux 6, go1.26.\n")
	require.Contains(t, page, "### drain, postgres\n\n`go run ./bench -scenario drain`, 2026-11-28 05:00 UTC, commit def, 7 s.\n\n```text\na note\n")
	require.Contains(t, page, "ratio drain_of_limit 0.500\n```\n")
	require.Equal(t, 1, strings.Count(page, "### drain, postgres\n"))

	require.NoError(t, writePage(path, nil))
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), "Nothing has been measured yet.\n")
	require.NotContains(t, string(text), "###")

	require.NoError(t, os.WriteFile(path, []byte("By hand.\n"), 0o600))
	require.ErrorIs(t, writePage(path, results), errMarkers)
}

func TestProjectPageHasAPlaceForResults(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(pagePath)))
	require.NoError(t, err)
	_, err = replacePart(page, "")
	require.NoError(t, err)
}

func TestBounds(t *testing.T) {
	t.Parallel()
	require.True(t, bound{}.none())
	require.Empty(t, bound{}.String())
	require.False(t, atMost(0).none())
	require.Equal(t, "≤ 0", atMost(0).String())
	require.True(t, atMost(0).reached(0))
	require.False(t, atMost(0).reached(1))
	require.Equal(t, "≥ 2.300", atLeast(2.3).String())
	require.True(t, atLeast(2.3).reached(2.3))
	require.False(t, atLeast(2.3).reached(2.29))
}

func TestFiguresHaveOneScenario(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, s := range scenarios() {
		require.NotEmpty(t, s.about, "%s", s.name)
		for _, f := range s.figures {
			if f.name == "limit_per_second" {
				continue
			}
			require.Empty(t, seen[f.name], "%s", f.name)
			seen[f.name] = s.name
		}
	}
}

func TestReadmeExplainsEveryFigure(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, s := range scenarios() {
		require.Contains(t, string(text), "`"+s.name+"`")
		for _, f := range s.figures {
			require.Contains(t, string(text), "`"+f.name+"`")
		}
	}
}

// A commit of documents, tests or results leaves results what they are; code does
// not.
func TestCheckoutKnowsWhatIsMeasured(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	do := func(args ...string) {
		t.Helper()
		args = append([]string{"-C", root, "-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "commit.gpgsign=false"}, args...)
		out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	now := func() string {
		t.Helper()
		c, err := checkoutAt(t.Context(), root)
		require.NoError(t, err)
		resolved, err := filepath.EvalSymlinks(root)
		require.NoError(t, err)
		require.Equal(t, resolved, c.root)
		return c.commit
	}
	do("init", "-q")
	write("code.go", "package code\n")
	do("add", ".")
	do("commit", "-qm", "code")
	first := now()
	require.NotEmpty(t, first)

	write("results.jsonl", "{}\n")
	write("code_test.go", "package code\n")
	write("page.md", "page\n")
	require.Equal(t, first, now())
	do("add", ".")
	do("commit", "-qm", "results")
	require.Equal(t, first, now())

	write("code.go", "package code // changed\n")
	require.Equal(t, first+"+", now())
	do("commit", "-qam", "code")
	require.NotContains(t, []string{first, first + "+"}, now())

	_, err := checkoutAt(t.Context(), t.TempDir())
	require.Error(t, err)
}

func TestClosedLoopMakesEachCallOnce(t *testing.T) {
	t.Parallel()
	made := make([]int, 100)
	took, err := callAll(t.Context(), 7, len(made), func(_ context.Context, i int) error {
		made[i]++
		return nil
	})
	require.NoError(t, err)
	require.Len(t, took, len(made))
	require.True(t, slices.IsSorted(took))
	require.Equal(t, slices.Repeat([]int{1}, len(made)), made)

	_, err = callAll(t.Context(), 7, 100, func(_ context.Context, i int) error {
		if i == 13 {
			return errMissing
		}
		return nil
	})
	require.ErrorIs(t, err, errMissing)
}

func TestSharedEventsStayInTheirOrganization(t *testing.T) {
	t.Parallel()
	b := &bench{options: options{organizations: 3}, receiver: &receiverProcess{address: "127.0.0.1:1"}}
	targets, err := b.targets(7, promptPath)
	require.NoError(t, err)
	owners, deliveries := map[int]string{}, map[int]map[int]bool{}
	for i := range 70 {
		event, owner := seed{n: 70, shared: true}.eventOf(i, len(targets), b.organizations)
		organization := targets[i%len(targets)].webhook.OrganizationID
		require.Equal(t, organization, targets[owner].webhook.OrganizationID)
		if before, ok := owners[event]; ok {
			require.Equal(t, before, organization)
		}
		owners[event] = organization
		if deliveries[event] == nil {
			deliveries[event] = map[int]bool{}
		}
		require.False(t, deliveries[event][i%len(targets)], "an event goes to a webhook twice")
		deliveries[event][i%len(targets)] = true
	}
	require.Len(t, owners, 30)
}
