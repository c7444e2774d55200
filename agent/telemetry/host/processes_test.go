package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"muster/shared/gpu"
)

const ownNamespace = "-> pid:[4026532000]"

// processTree is a machine on which 42 is a program of ada's that has an NVIDIA card open, 43 a shell of a user without a name.
func processTree(namespace string) map[string]string {
	return map[string]string{
		"proc/self/ns/pid": namespace,
		"etc/passwd":       "root:x:0:0::/root:/bin/sh\nbroken\nada:x:1000:1000:Ada:/home/ada:/bin/sh\nagain:x:1000:1000::/:/bin/sh\n",
		"proc/42/comm":     "python3\n",
		"proc/42/status":   "Name:\tpython3\nUid:\t0\t1000\t0\t0\n",
		"proc/42/cmdline":  "python3\x00train.py\x00--key=" + strings.Repeat("s", 400) + "\x00",
		"proc/42/fd/0":     "-> /dev/null", "proc/42/fd/5": "-> /dev/nvidia0",
		"proc/43/comm": "sh\x1b[31m\xff\n", "proc/43/status": "Uid:\t77\t77\t77\t77\n", "proc/43/cmdline": "sh\x00", "proc/43/fd/0": "-> /dev/dribble",
		"proc/44/status": "Uid:\n",
	}
}

func TestDescribeProcesses(t *testing.T) {
	t.Parallel()
	long := "python3 train.py --key=" + strings.Repeat("s", maxCommand-len("python3 train.py --key="))
	for _, tt := range []struct {
		name      string
		namespace string
		config    Config
		want      []gpu.Process
	}{
		{"names and users", "-> " + initialPIDNamespace, Config{}, []gpu.Process{
			{PID: 42, Name: "python3", User: "ada"}, {PID: 43, Name: "sh[31m", User: "77"}, {PID: 44}, {PID: 45}, {PID: 0}, {PID: -1}, {PID: 42, Name: "told", User: "ada"},
		}},
		{"command lines when asked for", "-> " + initialPIDNamespace, Config{ProcessCommands: true}, []gpu.Process{
			{PID: 42, Name: "python3", User: "ada", Command: long}, {PID: 43, Name: "sh[31m", User: "77", Command: "sh"}, {PID: 44}, {PID: 45}, {PID: 0}, {PID: -1},
			{PID: 42, Name: "told", User: "ada", Command: long},
		}},
		{"numbers of another namespace", ownNamespace, Config{}, []gpu.Process{
			{PID: 42, Name: "python3", User: "ada"}, {PID: 43}, {PID: 44}, {PID: 45}, {PID: 0}, {PID: -1}, {PID: 42, Name: "told", User: "ada"},
		}},
		{"numbers of another machine", "-> " + initialPIDNamespace, Config{SysRoot: "/captured"}, []gpu.Process{
			{PID: 42, Name: "python3", User: "ada"}, {PID: 43}, {PID: 44}, {PID: 45}, {PID: 0}, {PID: -1}, {PID: 42, Name: "told", User: "ada"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := New(tt.config)
			r.proc = newTree(plant(t, processTree(tt.namespace)))
			got := []gpu.Process{{PID: 42}, {PID: 43}, {PID: 44}, {PID: 45}, {PID: 0}, {PID: -1}, {PID: 42, Name: "told"}}
			r.DescribeProcesses(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A FIFO where a file of /proc should be is not waited for, and neither is a process list without end.
func TestDescribeProcessesIsBounded(t *testing.T) {
	t.Parallel()
	r := New(Config{})
	r.proc = newTree(plant(t, processTree("-> "+initialPIDNamespace)))
	fifo := filepath.Join(r.proc.root, "proc/45/comm")
	if err := errors.Join(os.Mkdir(filepath.Dir(fifo), 0o755), syscall.Mkfifo(fifo, 0o644)); err != nil {
		t.Fatal(err)
	}
	many := []gpu.Process{{PID: 45}, {PID: 42}}
	for pid := range 5 * maxDescribed {
		many = append(many, gpu.Process{PID: 1000 + pid})
	}
	begun := time.Now()
	r.DescribeProcesses(many)
	if took := time.Since(begun); took > 4*describeTime {
		t.Errorf("took %v", took)
	}
	if many[0].Name != "" || many[1].Name != "python3" {
		t.Errorf("%+v", many[:2])
	}
}

func TestDescribesThisProcess(t *testing.T) {
	t.Parallel()
	if namespace, err := os.Readlink("/proc/self/ns/pid"); err != nil || namespace != initialPIDNamespace {
		t.Skip("in a PID namespace of its own nothing is said of a process without a device")
	}
	own := []gpu.Process{{PID: os.Getpid()}}
	New(Config{ProcessCommands: true}).DescribeProcesses(own)
	if own[0].Name == "" || own[0].User == "" || !strings.Contains(own[0].Command, filepath.Base(os.Args[0])) {
		t.Errorf("%+v", own[0])
	}
}

func TestChangedPasswdIsReadAgain(t *testing.T) {
	t.Parallel()
	files := newTree(plant(t, map[string]string{"etc/passwd": "ada:x:7:7::/:/\n"}))
	var u users
	first := u.name(files, 7)
	if err := os.WriteFile(filepath.Join(files.root, "etc/passwd"), []byte("grace:x:7:7::/:/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if second := u.name(files, 7); first != "ada" || second != "grace" {
		t.Errorf("%q, then %q", first, second)
	}
}

func FuzzShown(f *testing.F) {
	f.Add([]byte("python3\x00-c\x00import torch"), 16)
	f.Add([]byte("\xff\x00\u200f é"), 3)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		limit &= 1023
		s := shown(data, limit)
		if len(s) > limit || !utf8.ValidString(s) || strings.IndexFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) >= 0 {
			t.Errorf("%q, at most %d bytes: %q", data, limit, s)
		}
	})
}

func FuzzParseUserFiles(f *testing.F) {
	f.Add([]byte("root:x:0:0::/root:/bin/sh\nada:x:4294967296:1::/:/\n:x:1:::\n"))
	f.Add([]byte("Name:\tx\nUid:\t1000\t1001\t0\t0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for uid, name := range parsePasswd(data) {
			if name == "" || len(name) > maxName {
				t.Errorf("%d: %q", uid, name)
			}
		}
		parseUID(data)
	})
}
