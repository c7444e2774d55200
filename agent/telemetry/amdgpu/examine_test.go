package amdgpu

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"
	"syscall"
	"testing"

	"muster/agent/telemetry"
)

// findingsWith gives the texts of the findings that contain the words in any of their parts.
func findingsWith(findings []telemetry.Finding, words string) (texts []string) {
	for _, f := range findings {
		if whole := fmt.Sprint(f.Level, "|", f.Subject, "|", f.Text, "|", f.Costs, "|", f.Mend); strings.Contains(whole, words) {
			texts = append(texts, whole)
		}
	}
	return texts
}

func TestExamine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		make  func(m machine, dir string)
		fail  func(path string) error
		want  []string // each in one finding
		wantN string   // in none
	}{
		{"nothing loaded", func(m machine, dir string) {}, nil, []string{"fault|amdgpu|the kernel module is not loaded|AMD cards can neither be read nor used|sudo modprobe amdgpu"}, "/dev/"},
		{"loaded", func(m machine, dir string) { m.file("sys/module/amdgpu/version", "6.8.5\n") }, nil, []string{"ok|amdgpu|kernel module 6.8.5"}, "fault"},
		{"no nodes", func(m machine, dir string) { m.file("dev/null", "") }, nil,
			[]string{"fault|/dev/kfd|it is not there", "fault|/dev/dri/renderD128|it is not there|programs can't use the card 0000:1a:00.0", "--device /dev/kfd --device /dev/dri"}, ""},
		{"nodes", func(m machine, dir string) { m.file("dev/kfd", ""); m.file("dev/dri/renderD128", "") }, nil,
			[]string{"ok|/dev/kfd|this user may open it", "ok|/dev/dri/renderD128"}, "usermod"},
		{"no sensors", func(m machine, dir string) { m.remove(dir + "/hwmon") }, nil, []string{"note|AMD GPU 0x6860 0000:1a:00.0|its sensors (hwmon) are not there"}, ""},
		{"unknown metrics", func(m machine, dir string) { m.file(dir+"/gpu_metrics", string(blob(4, 2, 500, nil))) }, nil, []string{"gpu_metrics has version 4.2", "update muster"}, ""},
		{"hidden nodes", func(m machine, dir string) {}, func(path string) error {
			if strings.Contains(path, "nodes/1/properties") {
				return syscall.EPERM // trap 34
			}
			return nil
		}, []string{"note|/sys/class/kfd|1 GPU(s) of the machine are not given to this container"}, ""},
		{"foreign processes", func(m machine, dir string) { m.holds("500", "13261", "1") }, nil, []string{"--pid=host"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, dir := detailed(t)
			c.make(m, dir)
			r := New(m.root)
			watch(r, c.fail)
			inventory(t, r)
			details(t, r, mi25ID)
			findings := r.Examine(context.Background())
			for _, want := range c.want {
				if len(findingsWith(findings, want)) == 0 {
					t.Errorf("got %+v, want one with %q", findings, want)
				}
			}
			if c.wantN != "" && len(findingsWith(findings, c.wantN)) > 0 {
				t.Errorf("got %v", findingsWith(findings, c.wantN))
			}
			for _, f := range findings {
				if f.Subject == "" || f.Text == "" || (f.Level == telemetry.LevelOK) != (f.Costs == "") {
					t.Errorf("incomplete: %+v", f)
				}
			}
		})
	}
}

func TestExamineWithoutHardware(t *testing.T) {
	t.Parallel()
	r := New(t.TempDir())
	inventory(t, r)
	if got := r.Examine(context.Background()); got != nil {
		t.Errorf("got %+v", got)
	}
	m := newMachine(t)
	m.file(m.pci("0000:51:00.0", "")+"/uevent", "PCI_CLASS=38000\nPCI_ID=1002:6860\n")
	r, _ = m.inventory()
	if got := findingsWith(r.Examine(context.Background()), "modprobe amdgpu"); len(got) != 1 {
		t.Errorf("a card without driver: got %v", got)
	}
	if got := New(m.path("none")).Examine(context.Background()); got != nil {
		t.Errorf("no root: got %+v", got)
	}
}

// Only KFD shows a card whose folder the container hides.
func TestExamineHiddenCard(t *testing.T) { // trap 34
	t.Parallel()
	r, _ := kfdMachine(t, "mi25-oldkernel", "topology").inventory()
	if got := findingsWith(r.Examine(context.Background()), "only KFD shows the card"); len(got) != 1 { // its two nodes say they are one
		t.Errorf("got %v", got)
	}
}

func TestMendAccess(t *testing.T) {
	t.Parallel()
	m, _ := detailed(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	m.file("dev/kfd", "")
	r := newReader(t, m)
	tree := r.known()[mi25ID].tree
	info := func() os.FileInfo {
		t.Helper()
		info, err := os.Stat(m.path("dev/kfd"))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	chmod := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(m.path("dev/kfd"), mode); err != nil {
			t.Fatal(err)
		}
	}
	gid := fmt.Sprint(info().Sys().(*syscall.Stat_t).Gid)
	chmod(0o660)
	if gid == "0" { // files of root's group: nobody should be told to join it
		if err := os.Chown(m.path("dev/kfd"), -1, 4242); err != nil {
			t.Skip("may not change the group here")
		}
		gid = "4242"
	}
	if got, want := mendAccess(tree, "/dev/kfd", info()), "in a container: docker run --group-add "+gid; got != want {
		t.Errorf("unknown group: got %q, want %q", got, want)
	}
	m.file("etc/group", "root:x:0:\nbroken\nrender:x:"+gid+":"+me.Username+"\n")
	if got := mendAccess(tree, "/dev/kfd", info()); got != "sudo usermod -aG render $USER, then log in anew" {
		t.Errorf("named group: got %q", got)
	}
	chmod(0o600)
	if got := mendAccess(tree, "/dev/kfd", info()); !strings.Contains(got, "sudo chgrp render /dev/kfd") {
		t.Errorf("no group may: got %q", got)
	}
}
