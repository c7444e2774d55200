#!/usr/bin/env bash
# Budgets in bytes: what is downloaded by a browser and by a person. The app's are the goals of design/BENCHMARKS.md 3.
set -euo pipefail
cd "$(dirname "$0")/.."
static=webapp/dist/static

within() { # what, bytes, budget
  printf '%-36s %12s of %12s bytes\n' "$1" "$2" "$3"
  [ "$2" -le "$3" ] || { echo "over budget: $1"; exit 1; }
}
size() { stat -c %s "$1"; }
wasm=$(find "$static" -name '*.wasm' | head -n 1)
within "app.wasm raw" "$(size "$wasm")" 7500000
within "app.wasm gzip" "$(size "$wasm.gz")" 2000000
within "app.wasm brotli" "$(size "$wasm.br")" 1500000
within "bin/muster without the app" $(($(size bin/muster) - $(find "$static" -type f -printf '%s\n' | awk '{s += $1} END {print s}'))) 25000000
