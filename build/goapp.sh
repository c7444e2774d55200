#!/usr/bin/env bash
# Makes bin/goapp: go-app as the browser needs it, and bin/app.mod, which builds with it. go-app's server half (not used here:
# ARCHITECTURE.md, Edge) is linked into every app and brings net/http, crypto/tls and, through uuid, database/sql: without them
# app.wasm is 1.9 MB smaller. Nothing else is changed; what the rest of go-app still names of them fails to build.
set -euo pipefail
cd "$(dirname "$0")/.."
goapp=github.com/maxence-charriere/go-app/v10
uuid=github.com/google/uuid
out=bin/goapp

rm -rf "$out"
mkdir -p "$out/uuid"
go mod download "$goapp"
source=$(go list -m -f '{{.Dir}}' "$goapp")
cp -r "$source/go.mod" "$source/pkg" "$out/"
chmod -R u+w "$out"
find "$out" -name '*_test.go' -delete
rm "$out"/pkg/app/{http,resource,static,crypto}.go

cat >"$out/pkg/app/served.go" <<'EOF'
package app

import "errors"

// Handler serves an app. In a browser nobody does.
type Handler struct{}

// clientResourceResolver finds files of the app where they say they are.
func clientResourceResolver(string) func(string) string {
	return func(location string) string { return location }
}

var errLeftOut = errors.New("left out of this build")

func encrypt(string, []byte) ([]byte, error) { return nil, errLeftOut }

func decrypt(string, []byte) ([]byte, error) { return nil, errLeftOut }
EOF

printf 'module %s\n' "$uuid" >"$out/uuid/go.mod"
cat >"$out/uuid/uuid.go" <<'EOF'
// Package uuid names go-app's asynchronous actions and its channel between tabs: no secret, and unique is enough.
package uuid

import (
	"math/rand/v2"
	"strconv"
)

// NewString gives a name that nobody else has.
func NewString() string {
	return strconv.FormatUint(rand.Uint64(), 16) + strconv.FormatUint(rand.Uint64(), 16)
}
EOF

cp go.mod bin/app.mod
cp go.sum bin/app.sum
go mod edit -replace "$goapp=./$out" -replace "$uuid=./$out/uuid" bin/app.mod
