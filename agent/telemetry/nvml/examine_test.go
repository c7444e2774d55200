//go:build cgo

package nvml

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/agent/telemetry"
	"muster/agent/telemetry/nvml/fakenvml"
)

// finding gives the one with that subject.
func (c *child) finding(subject string) telemetry.Finding {
	c.t.Helper()
	all := c.ask("examine").Findings
	for _, f := range all {
		if f.Subject == subject {
			return f
		}
	}
	c.t.Fatalf("no finding about %s in %+v", subject, all)
	return telemetry.Finding{}
}

func TestExamine(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	card(t, root, "0000:1a:00.0", "nvidia")
	put(t, root, "dev/nvidia0", "")
	put(t, root, "dev/nvidiactl", "")
	library := fakenvml.Build(t, "nvmlDeviceGetNumGpuCores", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetRunningProcessDetailList")
	c := startAt(t, library, root)
	c.Set("devices=1", "persistence=0")
	c.inventory()
	if f := c.finding("NVIDIA driver"); f.Level != telemetry.LevelOK || !strings.Contains(f.Text, "535.104.05") || !strings.Contains(f.Text, "CUDA 12.4") || !strings.Contains(f.Text, library) {
		t.Errorf("got %+v", f)
	}
	if f := c.finding("nvmlDeviceGetNumGpuCores"); f.Level != telemetry.LevelNote || f.Costs != "multi_processor_count" || f.Mend == "" {
		t.Errorf("got %+v", f)
	}
	if f := c.finding("nvmlDeviceGetMemoryInfo_v2"); f.Costs != "memory_reserved_bytes" {
		t.Errorf("got %+v", f)
	}
	if f := c.finding("processes"); !strings.Contains(f.Mend, "535.98") {
		t.Errorf("got %+v", f)
	}
	if f := c.finding("persistence mode"); f.Level != telemetry.LevelNote || !strings.Contains(f.Mend, "nvidia-persistenced") {
		t.Errorf("got %+v", f)
	}
	if f := c.finding("/dev/nvidia*"); f.Level != telemetry.LevelOK {
		t.Errorf("got %+v", f)
	}
	if err := os.Symlink("nowhere", filepath.Join(root, "dev/nvidia1")); err != nil {
		t.Fatal(err)
	}
	if f := c.finding("/dev/nvidia1"); f.Level != telemetry.LevelFault || !strings.Contains(f.Mend, "/dev/nvidia1") {
		t.Errorf("got %+v", f)
	}
}

// A library that is installed on a machine without the module is no sign of cards that sleep.
func TestExamineWithoutTheKernelModule(t *testing.T) {
	t.Parallel()
	c := startAt(t, fakenvml.Build(t), t.TempDir())
	c.Set("init=9")
	c.inventory()
	if f := c.finding("NVIDIA driver"); f.Level != telemetry.LevelNote || !strings.Contains(f.Text, "not loaded") || !strings.Contains(f.Mend, "modprobe nvidia") {
		t.Errorf("got %+v", f)
	}
}

func TestExamineWhatIsMissing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := startAt(t, filepath.Join(root, "none.so"), root)
	c.inventory()
	if got := c.ask("examine").Findings; len(got) != 0 {
		t.Errorf("a machine without NVIDIA: got %+v", got)
	}
	card(t, root, "0000:1a:00.0", "")
	c.inventory()
	if f := c.finding("NVIDIA driver"); f.Level != telemetry.LevelFault || !strings.Contains(f.Text, "install") || f.Mend == "" {
		t.Errorf("got %+v", f)
	}
	if f := c.finding("/dev/nvidia*"); f.Level != telemetry.LevelFault || !strings.Contains(f.Mend, "nvidia-modprobe") || !strings.Contains(f.Mend, "--gpus all") {
		t.Errorf("got %+v", f)
	}
	put(t, root, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: gcc version 12.3.0\n")
	for code, mend := range map[string]string{"init=18": "sudo reboot (the module that is loaded is 550.54.15)", "init=9": "sudo modprobe nvidia", "init=4": "ls -l", "init=999": "dmesg"} {
		mismatch := startAt(t, fakenvml.Build(t), root)
		mismatch.Set(code)
		mismatch.inventory()
		if f := mismatch.finding("NVIDIA driver"); f.Level != telemetry.LevelFault || !strings.HasPrefix(f.Mend, mend) && !strings.Contains(f.Mend, mend) {
			t.Errorf("%s: got %+v", code, f)
		}
	}
}

func TestMendNode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nvidia0")
	write(t, path, "")
	if got := mendNode(path, "/dev/nvidia0"); !strings.Contains(got, "chmod 0666 /dev/nvidia0") {
		t.Errorf("got %q", got)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	if os.Chown(path, -1, 12345) != nil {
		t.Skip("only root can give a file to a group")
	}
	if got := mendNode(path, "/dev/nvidia0"); !strings.HasPrefix(got, "sudo usermod -aG 12345") {
		t.Errorf("got %q", got)
	}
}

func TestModuleVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc version 11.4.0": "535.104.05",
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.48.01  Release Build  (x@y)\n":                                 "590.48.01",
		"": "", "GCC version: 11.4.0": "", "NVRM version: none": "",
	} {
		if got := moduleVersion(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzModuleVersion(f *testing.F) {
	f.Add("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat")
	f.Fuzz(func(t *testing.T, text string) {
		if got := moduleVersion(text); got != "" && (!strings.Contains(got, ".") || strings.ContainsAny(got, " \n")) {
			t.Errorf("%q: got %q", text, got)
		}
	})
}
