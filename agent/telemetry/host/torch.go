package host

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path"
	"regexp"
	"strings"

	"muster/shared/gpu"
)

// maxVersionFile is how much of torch/version.py is read: the real ones have some ten lines.
const maxVersionFile = 64 << 10

// torch finds the PyTorch that a person would use here; nil when there is none.
func (r *Reader) torch() *gpu.Torch {
	for _, site := range r.sitePackages() {
		if t := r.torchIn(site); t != nil {
			return t
		}
		for _, source := range r.editable(site) {
			if t := r.torchIn(source); t != nil {
				return t
			}
		}
	}
	return nil
}

// torchIn reads the PyTorch of a folder of packages, or of a source tree.
func (r *Reader) torchIn(folder string) *gpu.Torch {
	name := path.Join(folder, "torch/version.py")
	data, err := r.files.read(name, maxVersionFile)
	if err != nil {
		return nil
	}
	t, ok := parseTorchVersion(data)
	if !ok {
		return nil
	}
	t.Path = path.Join(folder, "torch")
	return &t
}

// assignment is a line of torch/version.py: hip: Optional[str] = '6.3.42131-fa1d09cbd', or untyped in older ones.
var assignment = regexp.MustCompile(`^(__version__|cuda|hip|rocm)[ \t]*(?::[^=]+)?=[ \t]*(None|'[^']*'|"[^"]*")[ \t]*(?:#.*)?$`)

// parseTorchVersion reads torch/version.py, as written by PyTorch's tools/generate_torch_version.py; false without __version__.
// Nothing is executed. A value assigned twice is the last one, as in Python.
func parseTorchVersion(data []byte) (gpu.Torch, bool) {
	values := map[string]string{}
	for line := range bytes.Lines(data) {
		m := assignment.FindSubmatch(bytes.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		value := string(m[2])
		if value == "None" {
			value = ""
		}
		values[string(m[1])] = printable(strings.Trim(value, `'"`))
	}
	t := gpu.Torch{Version: values["__version__"], HIP: values["hip"], CUDA: values["cuda"]}
	if t.HIP == "" {
		t.HIP = values["rocm"] // PyTorch 2.10 and later
	}
	return t, t.Version != ""
}

// editable gives the source trees that an editable build of PyTorch left word of in a folder of packages: pip's direct_url.json
// (PEP 610), setuptools' .pth and .egg-link.
func (r *Reader) editable(site string) []string {
	var sources []string
	for _, name := range r.files.glob(path.Join(site, "torch-*.dist-info/direct_url.json")) {
		if data, err := r.files.read(name, 64<<10); err == nil {
			sources = append(sources, parseDirectURL(data)...)
		}
	}
	for _, pattern := range []string{"__editable__*torch*.pth", "torch.egg-link", "easy-install.pth"} {
		for _, name := range r.files.glob(path.Join(site, pattern)) {
			if data, err := r.files.read(name, 64<<10); err == nil {
				sources = append(sources, parsePaths(data)...)
			}
		}
	}
	return sources
}

// parseDirectURL gives the folder of an editable install; none for every other.
func parseDirectURL(data []byte) []string {
	var origin struct {
		URL string `json:"url"`
		Dir *struct {
			Editable bool `json:"editable"`
		} `json:"dir_info"`
	}
	if json.Unmarshal(data, &origin) != nil || origin.Dir == nil || !origin.Dir.Editable {
		return nil
	}
	u, err := url.Parse(origin.URL)
	if err != nil || u.Scheme != "file" || !path.IsAbs(u.Path) {
		return nil
	}
	return []string{path.Clean(u.Path)}
}

// parsePaths gives the absolute paths of a .pth or .egg-link file; its other lines are code and comments.
func parsePaths(data []byte) []string {
	var paths []string
	for line := range bytes.Lines(data) {
		if name := string(bytes.TrimSpace(line)); path.IsAbs(name) && len(paths) < 100 {
			paths = append(paths, path.Clean(name))
		}
	}
	return paths
}
