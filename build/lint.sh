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
go tool staticcheck ./...
GOOS=js GOARCH=wasm go tool staticcheck ./webapp/...
