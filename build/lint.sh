#!/usr/bin/env bash
# Formatting, vet for both targets, staticcheck.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_CFLAGS="${CGO_CFLAGS:--Wno-deprecated-declarations}"

unformatted=$(gofmt -l agent shared webapp e2e)
if [ -n "$unformatted" ]; then
  printf 'gofmt would change these files (make fmt):\n%s\n' "$unformatted"
  exit 1
fi
go mod verify
go vet ./...
GOOS=js GOARCH=wasm go vet ./shared/... ./webapp/...
staticcheck=$(go tool -n staticcheck) # built for this machine, whatever it looks at
"$staticcheck" ./...
GOOS=js GOARCH=wasm "$staticcheck" ./shared/... ./webapp/...
