package amdsmi

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry/kernel"
)

func TestFind(t *testing.T) {
	t.Parallel()
	m := machine{t, t.TempDir()}
	for _, path := range []string{
		"usr/lib/x86_64-linux-gnu/libamd_smi.so.24", "usr/lib/x86_64-linux-gnu/libamd_smi.so.26", "usr/lib/x86_64-linux-gnu/libamd_smi.so.27",
		"own/lib/libamd_smi.so", "given/libamd_smi.so.25", "given/libamd_smi.so.txt", "given/libamd_smi_extra.so",
		"opt/rocm/lib/libamd_smi.so.24.6.2", "opt/rocm-6.4.1/lib/libamd_smi.so.25", "opt/rocm-7.10.0/lib/libamd_smi.so.26", "opt/rocm-7.2.0/lib/libamd_smi.so.26",
		"home/lib/python3.9/site-packages/_rocm_sdk_core/lib/libamd_smi.so.26", "home/lib/python3.12/site-packages/_rocm_sdk_core/lib/libamd_smi.so.26",
	} {
		m.put(path, "")
	}
	m.put("etc/ld.so.cache", "glibc-ld.so.cache1.1\x00\x01\x02/usr/lib/x86_64-linux-gnu/libamd_smi.so.24\x00libz.so\x00"+
		"libamd_smi.so.26\x00/usr/lib/x86_64-linux-gnu/libamd_smi.so.26\x00/usr/lib/x86_64-linux-gnu/libamd_smi.so.27\x00/gone/libamd_smi.so\x00")
	tree, err := kernel.Open(m.root)
	if err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{"LD_LIBRARY_PATH": "relative:/given:/gone", "ROCM_PATH": "/own", "VIRTUAL_ENV": "/home"}
	var got []string
	for _, path := range find(tree, func(name string) string { return environment[name] }) {
		got = append(got, strings.TrimPrefix(path, tree.Path("")+"/"))
	}
	want := []string{
		"given/libamd_smi.so.25",
		"usr/lib/x86_64-linux-gnu/libamd_smi.so.27", "usr/lib/x86_64-linux-gnu/libamd_smi.so.26", "usr/lib/x86_64-linux-gnu/libamd_smi.so.24",
		"own/lib/libamd_smi.so", "opt/rocm/lib/libamd_smi.so.24.6.2",
		"opt/rocm-7.10.0/lib/libamd_smi.so.26", "opt/rocm-7.2.0/lib/libamd_smi.so.26", "opt/rocm-6.4.1/lib/libamd_smi.so.25",
		"home/lib/python3.12/site-packages/_rocm_sdk_core/lib/libamd_smi.so.26", "home/lib/python3.9/site-packages/_rocm_sdk_core/lib/libamd_smi.so.26",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNamedLibraryGoesFirst(t *testing.T) {
	t.Parallel()
	env := func(string) string { return "/env" }
	if got := named("/flag", env); got != "/flag" {
		t.Errorf("got %q", got)
	}
	if got := named("", env); got != "/env" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseLinkerCache(f *testing.F) {
	f.Add([]byte("glibc-ld.so.cache1.1\x00/usr/lib/libamd_smi.so.26\x00"))
	f.Add([]byte("/libamd_smi.so/libamd_smi.so.1\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, path := range parseLinkerCache(b) {
			if !filepath.IsAbs(path) || !libraryName.MatchString(filepath.Base(path)) || strings.ContainsRune(path, 0) {
				t.Errorf("got %q", path)
			}
		}
	})
}
