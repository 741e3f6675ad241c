# Sourced by the other scripts: where the project is, messages, how wide to build.
# shellcheck shell=bash

# shellcheck disable=SC2034
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

note() { printf '== %s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# One compiler per core, but none without 1.5 GB of memory of its own: a file with WebSockets or tensors needs about 1 GB.
build_jobs() {
  local cores memory_kb jobs
  cores=$(nproc 2>/dev/null || echo 1)
  memory_kb=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo 2>/dev/null || true)
  jobs=$((${memory_kb:-3000000} / 1500000))
  if [ "$jobs" -gt "$cores" ]; then jobs=$cores; fi
  if [ "$jobs" -lt 1 ]; then jobs=1; fi
  echo "${SONORANT_JOBS:-$jobs}"
}
