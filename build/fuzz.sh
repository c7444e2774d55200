#!/usr/bin/env bash
# Runs every fuzz target of the tree for FUZZTIME (10s unless told).
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_CFLAGS="${CGO_CFLAGS:--Wno-deprecated-declarations}"
grep -rlE '^func Fuzz' --include='*_test.go' agent shared webapp | while read -r file; do
  grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | cut -d' ' -f2 | while read -r target; do
    echo "== $(dirname "$file") $target"
    go test -run xxx -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "./$(dirname "$file")" </dev/null
  done
done
