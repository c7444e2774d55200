package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/agent"
)

func TestSysRootThatIsNoFolderIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for root, want := range map[string]string{filepath.Join(file, "below"): "--sysroot", file + "-missing": "no such file", file: "is no folder"} {
		config := agent.Default()
		config.SysRoot = root
		if _, err := newHardware(&config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "name the folder") {
			t.Errorf("%s: %v, want %q", root, err, want)
		}
	}
	config := agent.Default()
	config.SysRoot = t.TempDir() // of a machine without GPUs
	if _, err := newHardware(&config, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}
