package amdsmi

import (
	"bytes"
	"cmp"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"muster/agent/telemetry/kernel"
)

// find lists the libraries below a root that could be AMD SMI, best first: where the dynamic linker looks, then where ROCm is
// installed, then the wheels of Python environments. In each place the highest number goes first. It opens none of them.
func find(t kernel.Tree, getenv func(string) string) []string {
	var found []string
	add := func(path string) {
		if real, err := t.Resolve(path); err == nil && !slices.Contains(found, real) {
			found = append(found, real)
		}
	}
	addDir := func(dir string) {
		for _, name := range newestFirst(slices.DeleteFunc(t.List(t.Path(dir)), func(name string) bool { return !libraryName.MatchString(name) })) {
			add(filepath.Join(dir, name))
		}
	}
	for _, dir := range filepath.SplitList(getenv("LD_LIBRARY_PATH")) {
		if filepath.IsAbs(dir) {
			addDir(dir)
		}
	}
	if cache, err := t.Big("etc/ld.so.cache", 16<<20); err == nil {
		for _, path := range newestFirst(parseLinkerCache(cache)) {
			add(path)
		}
	}
	if rocm := getenv("ROCM_PATH"); filepath.IsAbs(rocm) {
		addDir(filepath.Join(rocm, "lib"))
	}
	for _, dir := range installations(t, getenv) {
		addDir(dir)
	}
	return found
}

var libraryName = regexp.MustCompile(`^libamd_smi\.so(\.[0-9]+)*$`)

// installations lists the folders in which ROCm and its Python wheels put libraries.
func installations(t kernel.Tree, getenv func(string) string) []string {
	dirs := []string{"opt/rocm/lib"}
	releases := slices.DeleteFunc(t.List(t.Path("opt")), func(name string) bool { return !strings.HasPrefix(name, "rocm-") })
	for _, release := range newestFirst(releases) {
		dirs = append(dirs, filepath.Join("opt", release, "lib"))
	}
	for _, python := range []string{getenv("VIRTUAL_ENV") + "/lib", getenv("HOME") + "/.local/lib", "opt/venv/lib", "usr/local/lib", "usr/lib"} {
		versions := slices.DeleteFunc(t.List(t.Path(python)), func(name string) bool { return !strings.HasPrefix(name, "python3") })
		for _, version := range newestFirst(versions) {
			for _, packages := range []string{"site-packages", "dist-packages"} {
				dirs = append(dirs, filepath.Join(python, version, packages, "_rocm_sdk_core/lib"))
			}
		}
	}
	return dirs
}

// newestFirst sorts names by the numbers in them, highest first: rocm-7.10.0 before rocm-7.2.0, libamd_smi.so.26 before
// libamd_smi.so.25 and both before libamd_smi.so. Folders before a name do not count.
func newestFirst(names []string) []string {
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Or(slices.Compare(numbers(b), numbers(a)), strings.Compare(a, b))
	})
	return names
}

var digits = regexp.MustCompile(`[0-9]+`)

func numbers(path string) []int {
	var list []int
	for _, text := range digits.FindAllString(filepath.Base(path), -1) {
		n, _ := strconv.Atoi(text)
		list = append(list, n)
	}
	return list
}

// parseLinkerCache lists the libraries that /etc/ld.so.cache names. Its strings end with NUL, and the first of them follows binary
// data. Source: elf/cache.c of glibc.
func parseLinkerCache(b []byte) []string {
	var paths []string
	for text := range bytes.SplitSeq(b, []byte{0}) {
		if !bytes.Contains(text, []byte("libamd_smi.so")) {
			continue
		}
		_, path, absolute := strings.Cut(string(text), "/")
		path = "/" + path
		if absolute && libraryName.MatchString(filepath.Base(path)) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}
