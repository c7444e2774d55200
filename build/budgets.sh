#!/usr/bin/env bash
# Budgets in bytes: what is downloaded by a browser and by a person. The app's goals are 7.5 / 2.0 / 1.5 MB; an empty go-app
# page takes 6.9 / 1.9 MB of them, for go-app links net/http and with it crypto/tls. Until that is cut, these hold the line.
set -euo pipefail
cd "$(dirname "$0")/.."
static=webapp/dist/static

within() { # what, bytes, budget
  printf '%-36s %12s of %12s bytes\n' "$1" "$2" "$3"
  [ "$2" -le "$3" ] || { echo "over budget: $1"; exit 1; }
}
size() { stat -c %s "$1"; }
wasm=$(find "$static" -name '*.wasm' | head -n 1)
within "app.wasm raw" "$(size "$wasm")" 8250000
within "app.wasm gzip" "$(size "$wasm.gz")" 2235000
within "app.wasm brotli" "$(size "$wasm.br")" 1640000
within "bin/muster without the app" $(($(size bin/muster) - $(find "$static" -type f -printf '%s\n' | awk '{s += $1} END {print s}'))) 25000000
