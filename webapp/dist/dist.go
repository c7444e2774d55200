// Package dist holds the built app as a file system, for the agent to serve. It is a leaf: everything below static is written
// by webapp/cmd/site, and only static/.gitkeep is committed.
package dist

import (
	"embed"
	"io/fs"
)

//go:embed all:static
var files embed.FS

// FS gives the built site: index.html, sw.js, manifest.webmanifest, version.txt and assets/, each with .br and .gz siblings
// where that is smaller. Before the first build it holds only .gitkeep.
func FS() fs.FS {
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // the path is a constant of this file
	}
	return static
}
