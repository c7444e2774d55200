package host

import (
	"strings"
	"testing"

	"muster/agent/telemetry"
)

const (
	everything = "Name:\tmuster\nCapEff:\t000001ffffffffff\n"
	nothing    = "Name:\tmuster\nCapEff:\t0000000000000000\n"
	openProc   = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
)

func TestExamine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		files     map[string]string
		container string // a word of the finding; "" = there must be none
		processes string // a word of its remedy; "" = all is well
	}{
		{"root on the machine", map[string]string{"proc/self/status": everything}, "", ""},
		{"another user", map[string]string{"proc/self/status": nothing}, "", "setcap"},
		{"hidden processes", map[string]string{"proc/self/status": everything, "proc/self/mountinfo": "22 27 0:21 / /proc rw - proc proc rw,hidepid=invisible\n"}, "", "remount"},
		{"hidden, and mounted again", map[string]string{"proc/self/status": everything, "proc/self/mountinfo": "22 27 0:21 / /proc rw - proc proc rw,hidepid=2\n" + openProc}, "", ""},
		{"Docker", map[string]string{"proc/self/status": everything, ".dockerenv": "", "proc/self/ns/pid": "-> pid:[4026532000]"}, "Docker", "--pid=host"},
		{"Podman", map[string]string{"proc/self/status": everything, "run/.containerenv": ""}, "Podman", ""},
		{"Kubernetes", map[string]string{"proc/self/status": everything, "proc/self/cgroup": "0::/kubepods.slice/kubepods-pod1.slice\n"}, "Kubernetes", ""},
		{"a /proc without anything", map[string]string{"proc/cpuinfo": ""}, "", "mount /proc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.files["proc/self/ns/pid"] == "" {
				tt.files["proc/self/ns/pid"] = "-> " + initialPIDNamespace
			}
			r := &Reader{proc: newTree(plant(t, tt.files))}
			var container, processes telemetry.Finding
			for _, f := range r.Examine(t.Context()) {
				switch f.Subject {
				case "container":
					container = f
				case "processes":
					processes = f
				}
			}
			if (tt.container == "") != (container.Text == "") || !strings.Contains(container.Text, tt.container) {
				t.Errorf("container: %+v", container)
			}
			if tt.processes == "" && processes.Level != telemetry.LevelOK || !strings.Contains(processes.Mend, tt.processes) {
				t.Errorf("processes: %+v", processes)
			}
		})
	}
}

func TestHidepid(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", openProc: "", "x": "",
		"22 27 0:21 / /proc rw - proc proc rw,hidepid=1\n":   "1",
		"22 27 0:21 / /proc rw - proc proc rw,hidepid=off\n": "",
		"22 27 0:21 / /other rw - proc proc rw,hidepid=2\n":  "",
	} {
		if got := hidepid(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzExamine(f *testing.F) {
	f.Add(openProc)
	f.Add(nothing)
	f.Add("0::/system.slice/docker-1.scope\n")
	f.Fuzz(func(t *testing.T, text string) {
		hidepid(text)
		containerOf(text)
		if able, known := capable(text, capSysPtrace); able && !known {
			t.Error("able, and not known")
		}
	})
}
