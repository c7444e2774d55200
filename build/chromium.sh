#!/usr/bin/env bash
# Makes sure that a Chrome is there for the browser tests: installs Debian's chromium through apt where none is found and we may.
set -euo pipefail
for name in chromium chromium-browser google-chrome google-chrome-stable chrome headless-shell; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
sudo=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null && sudo -n true 2>/dev/null || {
    echo "The browser tests need Chromium: sudo apt-get install chromium" >&2
    exit 1
  }
  sudo=(sudo -n)
fi
command -v apt-get >/dev/null || { echo "The browser tests need Chrome or Chromium on PATH." >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends chromium >/dev/null
