// Command site is the app. Built for js/wasm it is what runs in the browser; built natively it writes the static site that
// the agent embeds, around an app.wasm that was built before:
//
//	make bin/app.wasm
//	go run ./webapp/cmd/site -wasm bin/app.wasm -out webapp/dist/static
package main

func main() { run() }
