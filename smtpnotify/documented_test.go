package smtpnotify_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook/smtpnotify"
)

// docs/configuration.md has a row for each field of Config, in the order of the fields.
func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/configuration.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "\n| `smtpnotify.Config` | default | meaning |\n|---|---|---|\n")
	require.True(t, found)
	var got, want []string
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| `") {
			break
		}
		names, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for name := range strings.SplitSeq(names, ", ") {
			got = append(got, strings.Trim(name, "`"))
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[smtpnotify.Config]()) {
		want = append(want, f.Name)
	}
	require.Equal(t, want, got)
}
