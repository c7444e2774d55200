//go:build !js

package main

import (
	"flag"
	"log"
	"os"

	"muster/webapp/static"
)

// run writes the site.
func run() {
	log.SetFlags(0)
	log.SetPrefix("site: ")
	wasm := flag.String("wasm", "bin/app.wasm", "the app, built for js/wasm")
	out := flag.String("out", "webapp/dist/static", "folder to write the site into; what is there is replaced")
	quality := flag.Int("brotli", 11, "quality of brotli; 5 is quick, 11 is for releases")
	flag.Parse()
	program, err := os.ReadFile(*wasm)
	if err != nil {
		log.Fatalf("%v; build it first: make %s", err, *wasm)
	}
	support, err := wasmExec()
	if err != nil {
		log.Fatal(err)
	}
	site, err := static.Build(program, support)
	if err != nil {
		log.Fatal(err)
	}
	sizes, err := site.Write(*out, *quality)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%s: version %s, app.wasm %d bytes, gzip %d, brotli %d", *out, site.Version, len(program), sizes.Gzip, sizes.Brotli)
}
