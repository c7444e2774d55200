package host

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// sitePackages gives the folders in which the meant interpreter looks for packages, in its order: the configured one, else
// $VIRTUAL_ENV, else the first python3 on PATH. In a system root other than the machine's: the configured one, else the usual folders.
func (r *Reader) sitePackages() []string {
	if r.python != "" {
		return r.packagesOf(r.locate(r.python))
	}
	if !r.files.machine() {
		var sites []string
		for _, pattern := range []string{
			"/usr/lib/python3*/dist-packages", "/usr/lib/python3*/site-packages",
			"/usr/local/lib/python3*/dist-packages", "/usr/local/lib/python3*/site-packages", "/opt/*/lib/python3*/site-packages",
		} {
			sites = append(sites, r.files.glob(pattern)...)
		}
		return sites
	}
	if env := r.getenv("VIRTUAL_ENV"); env != "" {
		return r.packagesOf(env)
	}
	if python := r.onPath("python3"); python != "" {
		return r.packagesOf(python)
	}
	return nil
}

// locate makes the configured interpreter an absolute path in the tree.
func (r *Reader) locate(python string) string {
	if path.IsAbs(python) || !r.files.machine() {
		return path.Clean("/" + python)
	}
	if !strings.Contains(python, "/") {
		if found := r.onPath(python); found != "" {
			return found
		}
	}
	absolute, err := filepath.Abs(python)
	if err != nil {
		return python
	}
	return absolute
}

// onPath gives the first executable file of that name on PATH; "" when there is none.
func (r *Reader) onPath(name string) string {
	for _, dir := range filepath.SplitList(r.getenv("PATH")) {
		if !path.IsAbs(dir) {
			continue
		}
		candidate := path.Join(dir, name)
		if info, err := os.Stat(r.files.outside(candidate)); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return candidate
		}
	}
	return ""
}

var versioned = regexp.MustCompile(`^python(3\.[0-9]+)`)

// packagesOf gives the folders of packages of an interpreter, a virtual environment, or a folder of packages itself.
func (r *Reader) packagesOf(python string) []string {
	if r.files.isDir(python) {
		if r.files.isDir(path.Join(python, "torch")) {
			return []string{python}
		}
		return r.packagesOfEnvironment(python)
	}
	// A virtual environment is known by where it is called from: its python is a link to the system's.
	if env := path.Dir(path.Dir(python)); r.isEnvironment(env) {
		return r.packagesOfEnvironment(env)
	}
	return r.packagesOfInterpreter(python)
}

// packagesOfInterpreter gives those of an interpreter that is not part of an environment.
func (r *Reader) packagesOfInterpreter(python string) []string {
	resolved, err := r.files.resolve(python)
	if err != nil {
		return nil
	}
	prefix, version := path.Dir(path.Dir(resolved)), "3*"
	if m := versioned.FindStringSubmatch(path.Base(resolved)); m != nil {
		version = m[1]
	}
	var patterns []string
	if home := r.getenv("HOME"); path.IsAbs(home) && r.files.machine() {
		patterns = append(patterns, path.Join(home, ".local/lib/python"+version+"/site-packages"))
	}
	if prefix == "/usr" || prefix == "/" {
		prefix = "/usr"
		patterns = append(patterns, "/usr/local/lib/python"+version+"/dist-packages", "/usr/local/lib/python"+version+"/site-packages",
			"/usr/lib/python3/dist-packages", "/usr/lib/python"+version+"/dist-packages")
	}
	patterns = append(patterns, path.Join(prefix, "lib/python"+version+"/site-packages"), path.Join(prefix, "lib64/python"+version+"/site-packages"),
		path.Join(prefix, "lib/python"+version+"/dist-packages"))
	return r.globAll(patterns)
}

func (r *Reader) isEnvironment(dir string) bool {
	info, err := r.files.stat(path.Join(dir, "pyvenv.cfg"))
	return err == nil && info.Mode().IsRegular()
}

// packagesOfEnvironment gives those of a virtual or conda environment, and the system's where its pyvenv.cfg includes them.
func (r *Reader) packagesOfEnvironment(env string) []string {
	sites := r.globAll([]string{path.Join(env, "lib/python3*/site-packages"), path.Join(env, "lib64/python3*/site-packages")})
	data, err := r.files.read(path.Join(env, "pyvenv.cfg"), 64<<10)
	if err != nil {
		return sites
	}
	home, system := parseEnvironment(data)
	if system && path.IsAbs(home) {
		sites = append(sites, r.packagesOfInterpreter(path.Join(home, "python3"))...)
	}
	return sites
}

// parseEnvironment reads pyvenv.cfg (PEP 405): the folder of the interpreter it was made with, and whether that one's packages
// count too.
func parseEnvironment(data []byte) (home string, system bool) {
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "home":
			home = value
		case "include-system-site-packages":
			system = strings.EqualFold(value, "true")
		}
	}
	return home, system
}

func (r *Reader) globAll(patterns []string) []string {
	var paths []string
	for _, pattern := range patterns {
		paths = append(paths, r.files.glob(pattern)...)
	}
	return paths
}
