// Package schematest keeps a host's events in golden files, and tells when a change
// would break receivers.
package schematest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/webhookschema"
)

// Update is the environment variable by which [Golden] writes files: "1" for what
// breaks no receiver, "breaking" for whatever there is.
const Update = "POSTHORN_UPDATE_SCHEMAS"

// Golden compares the catalog, as [webhookschema.Catalog] has it, with a golden file.
// The test fails when they differ, and says which of the changes break receivers
// ([webhookschema.Breaking]). To take a change over, on purpose:
//
//	POSTHORN_UPDATE_SCHEMAS=1 go test ./...
//
// That does not write what breaks receivers; POSTHORN_UPDATE_SCHEMAS=breaking does.
// Commit the file: its history is that of what receivers were promised.
func Golden(t testing.TB, c *webhook.Catalog, path string) {
	t.Helper()
	got, err := webhookschema.Catalog(c)
	if err != nil {
		t.Fatal(err)
		return
	}
	update := os.Getenv(Update)
	if update != "" && update != "1" && update != "breaking" {
		t.Fatalf("schematest: %s is 1 or breaking, not %q", Update, update)
		return
	}
	want, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && update == "":
		t.Fatalf("schematest: there is no %s yet; %s=1 go test writes it", path, Update)
		return
	case errors.Is(err, fs.ErrNotExist):
		write(t, path, got)
		return
	case err != nil:
		t.Fatal(err)
		return
	}
	want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n")) // of a checkout on Windows
	if bytes.Equal(got, want) {
		return
	}
	changes, err := webhookschema.Breaking(want, got)
	switch {
	case err != nil && update != "breaking":
		t.Errorf("schematest: %s: %v", path, err)
	case len(changes) == 0 && update == "":
		t.Errorf("schematest: the events are not those of %s. Nothing in it breaks receivers; %s=1 go test takes it over", path, Update)
	case update == "breaking", len(changes) == 0:
		for _, change := range changes {
			t.Logf("schematest: taken over: %v", change)
		}
		write(t, path, got)
	default:
		for _, change := range changes {
			t.Errorf("schematest: breaks receivers: %v", change)
		}
		t.Errorf("schematest: the events are not those of %s. Publish a new event type instead, or take it over with %s=breaking go test", path, Update)
	}
}

func write(t testing.TB, path string, document []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
		return
	}
	if err := os.WriteFile(path, document, 0o644); err != nil {
		t.Fatal(err)
	}
}
