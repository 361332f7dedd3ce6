package schematest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhookschema/schematest"
)

// recorder is a test that notes what is said.
type recorder struct {
	testing.TB
	failed bool
	said   []string
}

func (r *recorder) Helper() {}

func (r *recorder) Logf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failed = true
	r.Logf(format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...) }

func (r *recorder) Fatal(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func catalog[T any](t *testing.T) *webhook.Catalog {
	t.Helper()
	var zero T
	c, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{webhook.DefineEvent("message_sent", "Message Sent", zero).Info()})
	require.NoError(t, err)
	return c
}

type first struct {
	Text string `json:"text"`
}

type more struct {
	Text string   `json:"text"`
	Tags []string `json:"tags,omitempty"`
}

type less struct {
	Text string `json:"text,omitempty"`
}

func TestGolden(t *testing.T) { //nolint:paralleltest // it changes the environment
	path := filepath.Join(t.TempDir(), "deep", "events.json")
	golden := func(c *webhook.Catalog, update string) *recorder {
		t.Setenv(schematest.Update, update)
		r := &recorder{TB: t}
		schematest.Golden(r, c, path)
		return r
	}
	text := func() string {
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(got)
	}
	same := func(as string) { require.Equal(t, as, text()) }

	missing := golden(catalog[first](t), "")
	require.True(t, missing.failed)
	require.Contains(t, missing.said[0], "POSTHORN_UPDATE_SCHEMAS=1")
	require.NoFileExists(t, path)

	require.False(t, golden(catalog[first](t), "1").failed)
	written := text()
	require.False(t, golden(catalog[first](t), "").failed)

	// What breaks nobody differs all the same.
	differs := golden(catalog[more](t), "")
	require.True(t, differs.failed)
	require.Contains(t, differs.said[0], "Nothing in it breaks receivers")
	same(written)
	require.False(t, golden(catalog[more](t), "1").failed)
	written = text()
	require.False(t, golden(catalog[more](t), "").failed)

	// What breaks receivers is said, and not written just so.
	for _, update := range []string{"", "1"} {
		breaks := golden(catalog[less](t), update)
		require.True(t, breaks.failed)
		require.Equal(t, []string{
			"schematest: breaks receivers: message_sent: data.tags: is no longer described",
			"schematest: breaks receivers: message_sent: data.text: need not be there any more",
		}, breaks.said[:2])
		require.Contains(t, breaks.said[2], "POSTHORN_UPDATE_SCHEMAS=breaking")
		same(written)
	}
	taken := golden(catalog[less](t), "breaking")
	require.False(t, taken.failed)
	require.Len(t, taken.said, 2)
	require.False(t, golden(catalog[less](t), "").failed)

	// Files as Git checks them out on Windows, and files that are none.
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text(), "\n", "\r\n")), 0o600))
	require.False(t, golden(catalog[less](t), "").failed)
	require.NoError(t, os.WriteFile(path, []byte("<<<<<<< ours"), 0o600))
	require.True(t, golden(catalog[less](t), "").failed)
	require.True(t, golden(catalog[less](t), "1").failed)
	require.False(t, golden(catalog[less](t), "breaking").failed)
	require.True(t, golden(catalog[less](t), "yes").failed)

	c, err := webhook.NewCatalog(webhook.DefaultCatalog().SubjectTypes(), []webhook.EventTypeInfo{{Type: "a", Title: "A", Schema: []byte(`{"type":1}`)}})
	require.NoError(t, err)
	require.True(t, golden(c, "").failed)
}
