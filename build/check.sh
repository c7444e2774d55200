#!/usr/bin/env bash
# Everything that decides whether a change is good: what make test and CI run. Fails at the first fault.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_CFLAGS="${CGO_CFLAGS:--Wno-deprecated-declarations}"

step() { printf '\n== %s\n' "$*"; }

step "formatting, vet, staticcheck"
build/lint.sh
step "build"
make --no-print-directory build
step "budgets of size"
build/budgets.sh
step "tests, with the race detector"
go test -race -timeout 15m $(go list ./... | grep -v /e2e)
step "each call of the disk fails in turn" # with the race detector only some of them do
go test -run '^TestEveryCall' ./agent/queue ./agent/images
step "tests of the real binary in a browser"
build/chromium.sh
MUSTER_BIN="$PWD/bin/muster" go test -count=1 -timeout 20m ./e2e/...
