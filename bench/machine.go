package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// machineInfo is what figures were taken on.
type machineInfo struct {
	CPU      string `json:"cpu"`
	CPUs     int    `json:"cpus"`
	MemoryMB int    `json:"memory_mb"`
	System   string `json:"system"`
	Go       string `json:"go"`
}

func (m machineInfo) String() string {
	return fmt.Sprintf("%s, %d CPUs, %d MB of memory, %s, %s", m.CPU, m.CPUs, m.MemoryMB, m.System, m.Go)
}

// thisMachine reads what Linux says. What it does not say is left out.
func thisMachine() machineInfo {
	m := machineInfo{CPU: runtime.GOARCH, CPUs: runtime.NumCPU(), System: runtime.GOOS, Go: runtime.Version()}
	if model, ok := fieldOf("/proc/cpuinfo", "model name"); ok {
		m.CPU = model
	}
	if text, ok := fieldOf("/proc/meminfo", "MemTotal"); ok {
		var kb int
		if _, err := fmt.Sscan(text, &kb); err == nil {
			m.MemoryMB = kb >> 10
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + strings.TrimSpace(string(release))
	}
	return m
}

// fieldOf finds the first line "NAME : VALUE" of a file.
func fieldOf(path, name string) (value string, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// checkout is the repository that is measured.
type checkout struct {
	root   string
	commit string // the last one that changed code
}

// measured are the files whose change makes results old: neither tests, nor
// documents, nor the results themselves.
func measured() []string {
	return []string{":(glob)**/*.go", ":(glob)**/*.sql", ":(glob)**/go.mod", ":(glob)**/go.sum", ":(exclude,glob)**/*_test.go"}
}

// checkoutAt asks git about the repository around a folder. Uncommitted changes of
// what is measured are marked with a plus sign.
func checkoutAt(ctx context.Context, folder string) (c checkout, err error) {
	root, err := git(ctx, folder, "rev-parse", "--show-toplevel")
	if err != nil {
		return c, err
	}
	c.root = filepath.Clean(root)
	if c.commit, err = git(ctx, root, append([]string{"log", "-1", "--format=%h", "--"}, measured()...)...); err != nil {
		return c, err
	}
	changes, err := git(ctx, root, append([]string{"status", "--porcelain", "--"}, measured()...)...)
	if changes != "" {
		c.commit += "+"
	}
	return c, err
}

func git(ctx context.Context, folder string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", folder}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
