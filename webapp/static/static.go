// Package static makes the static site around the app: page, styles, icons, manifest and service worker, each asset under a name
// that contains its hash, with precompressed siblings. It does not run in the browser.
package static

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"text/template"
)

//go:embed index.html sw.js app.css loader.js icon.svg
var sources embed.FS

// Site is the finished site in memory: the files by their path, "index.html" or "assets/app-0123456789abcdef.wasm".
// Everything below assets/ never changes under its name.
type Site struct {
	Version string // hash of all assets
	Files   map[string][]byte
}

// page is what the templates are filled with.
type page struct {
	Version                               string
	CSS, Loader, Support, Wasm            string // addresses
	Icon, Icon192, Icon512, Maskable, Mac string
	Assets                                string // JSON list of addresses that the service worker keeps
}

// Build makes the site of the app's wasm and the toolchain's wasm_exec.js.
func Build(wasm, support []byte) (*Site, error) {
	s := &Site{Files: map[string][]byte{}}
	var p page
	icons, err := drawIcons()
	if err != nil {
		return nil, err
	}
	for _, asset := range []struct {
		name    string
		content []byte
		address *string
	}{
		{"app.css", source("app.css"), &p.CSS},
		{"loader.js", source("loader.js"), &p.Loader},
		{"wasm_exec.js", support, &p.Support},
		{"app.wasm", wasm, &p.Wasm},
		{"icon.svg", source("icon.svg"), &p.Icon},
		{"icon-192.png", icons.plain192, &p.Icon192},
		{"icon-512.png", icons.plain512, &p.Icon512},
		{"icon-maskable.png", icons.maskable512, &p.Maskable},
		{"icon-180.png", icons.apple180, &p.Mac},
	} {
		*asset.address = s.add(asset.name, asset.content)
	}
	s.Version = s.hash()
	p.Version = s.Version
	if s.Files["manifest.webmanifest"], err = manifest(p); err != nil {
		return nil, err
	}
	assets, err := json.Marshal(s.addresses())
	if err != nil {
		return nil, err
	}
	p.Assets = string(assets)
	for _, name := range []string{"index.html", "sw.js"} {
		if s.Files[name], err = fill(name, p); err != nil {
			return nil, err
		}
	}
	s.Files["version.txt"] = []byte(s.Version + "\n")
	return s, nil
}

// add puts an asset under its hashed name and gives its address.
func (s *Site) add(name string, content []byte) string {
	sum := sha256.Sum256(content)
	ext := path.Ext(name)
	hashed := "assets/" + strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(sum[:8]) + ext
	s.Files[hashed] = content
	return "/" + hashed
}

// hash is over the names of the assets, which hold the hashes of their contents, and the templates.
func (s *Site) hash() string {
	h := sha256.New()
	for _, address := range s.addresses() {
		h.Write([]byte(address + "\n"))
	}
	h.Write(source("index.html"))
	h.Write(source("sw.js"))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// addresses lists what an offline start needs besides the page itself, in a fixed order.
func (s *Site) addresses() []string {
	var list []string
	for name := range s.Files {
		list = append(list, "/"+name)
	}
	slices.Sort(list)
	return list
}

func source(name string) []byte {
	b, err := sources.ReadFile(name)
	if err != nil {
		panic(err) // the name is a constant of this package
	}
	return b
}

func fill(name string, p page) ([]byte, error) {
	t, err := template.New(name).Delims("{{", "}}").Parse(string(source(name)))
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	return b.Bytes(), nil
}
