package browser_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// axeVersion is the one that .ci/run fetches.
const axeVersion = "4.14.1"

// need ends a test for which something is missing: it is skipped, but not in CI.
func need(t *testing.T, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		require.NoError(t, err, "%s is missing", what)
	default:
		t.Skipf("not tested: %s is missing: %v", what, err) //nolint:forbidigo // not everybody has a browser; CI has
	}
}

// chromium returns the browser's executable.
func chromium() (string, error) {
	if path := os.Getenv("POSTHORN_TEST_CHROMIUM"); path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("neither chromium nor google-chrome is in PATH; POSTHORN_TEST_CHROMIUM may name it")
}

// axe returns the source of axe-core, which looks for what keeps people from using
// a page.
func axe() (string, error) {
	path := os.Getenv("POSTHORN_TEST_AXE")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		path = filepath.Join(cache, "posthorn-ci", "axe-core-"+axeVersion, "axe.min.js")
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("axe-core %s (npm; POSTHORN_TEST_AXE may name axe.min.js): %w", axeVersion, err)
	}
	return string(source), nil
}

// start returns the context of a browser that ends with the test.
func start(t *testing.T) context.Context {
	t.Helper()
	path, err := chromium()
	need(t, "Chromium", err)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.WindowSize(1280, 900),
		// Its sandbox refuses to work for root, as whom CI runs.
		chromedp.NoSandbox,
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx), "start %s", path)
	return ctx
}

// appearance is how a page is looked at.
type appearance struct {
	name          string
	width, height int64
	dark          bool
	script        bool
}

// appearances are those in which every page has to work.
var appearances = []appearance{
	{name: "light", width: 1280, height: 900, script: true},
	{name: "dark", width: 1280, height: 900, dark: true, script: true},
	{name: "narrow", width: 375, height: 800, script: true},
	{name: "narrow-dark", width: 375, height: 800, dark: true, script: true},
}

// apply makes a page look so.
func (a appearance) apply() chromedp.Action[chromedp.Void] {
	scheme := "light"
	if a.dark {
		scheme = "dark"
	}
	return chromedp.Steps(
		chromedp.EmulateViewport(a.width, a.height),
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			return err
		}),
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !a.script})
			return err
		}),
	)
}
