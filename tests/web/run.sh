#!/bin/sh
# Tests of web/ in Node and headless Chromium. Last line: `N passed, N failed`.
#   SONORANT_URL      a running server; without it, build/release/sonorant, and without that, the fake server
#   SONORANT_PROGRAM  another program than build/release/sonorant
#   SONORANT_SCREENSHOTS  a folder for screenshots
# Exits 77 (skipped) where node, npm or chromium is missing, and 1 if that happens in CI.
set -eu
cd "$(dirname "$0")"

for tool in node npm "${CHROMIUM:-chromium}"; do
  if ! command -v "$tool" >/dev/null 2>&1; then
    echo "tests/web: $tool not found (packages nodejs, npm, chromium)"
    [ "${CI:-}" = true ] && exit 1
    exit 77
  fi
done
CHROMIUM=$(command -v "${CHROMIUM:-chromium}")
export CHROMIUM

# The packages are the lock file's; installed anew when it changed.
if ! cmp -s package-lock.json node_modules/.installed-lock; then
  npm ci --ignore-scripts --no-audit --no-fund
  cp package-lock.json node_modules/.installed-lock
fi

exec node --test-reporter=./reporter.mjs --test-reporter-destination=stdout all.mjs
