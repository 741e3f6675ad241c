#!/usr/bin/env bash
# Checks and measures the T2S on a GPU (tests/models/t2s_gpu_bench.cpp), with generated weights of the published size.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

usage() {
  cat <<TEXT
usage: scripts/bench/gpu.sh STEP [--build DIR] [--out DIR] [--headers DIR] [--python PYTHON] [--nvcc NVCC]

  pack      copies the headers that the bench takes from this machine (Boost, spdlog, fmt) to --headers, for a machine
            that lacks them; needs g++ and PyTorch's or Debian's libtorch headers
  build     builds the bench: needs nvcc, cmake, ninja and a Python with PyTorch
  check     parity with float32 on the CPU, batches, memory; exits with 1 when one is wrong
  measure   tokens a second for 1 to 256 rows, long texts, prefills; with and without overlapping kernels
  sanitize  the small model under compute-sanitizer's four tools
  profile   time of each kernel of one decode step, by ncu
  all       build, check, measure, sanitize; goes on after a failure and tells it at the end

Writes JSON and logs to --out (build/gpu-bench). Defaults: --build build/gpu-bench/build, --python python3.
TEXT
}

[[ $# -gt 0 ]] || { usage >&2; exit 2; }
step=$1
shift
build=$root/build/gpu-bench/build
out=$root/build/gpu-bench
headers=
python=python3
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
while [[ $# -gt 0 ]]; do
  case $1 in
    --build) build=$2 ;;
    --out) out=$2 ;;
    --headers) headers=$2 ;;
    --python) python=$2 ;;
    --nvcc) nvcc=$2 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
bench=$build/t2s_gpu_bench

torch_dir() {
  "$python" -c 'import torch; print(torch.__path__[0])'
}

pack() {
  [[ -n $headers ]] || { echo "gpu.sh: pack needs --headers DIR" >&2; return 2; }
  local list flags=(-std=c++20 -I"$root" -DFMT_HEADER_ONLY -DSPDLOG_FMT_EXTERNAL)
  list=$(for source in src/core/log.cpp src/core/result.cpp models/t2s.cpp scripts/bench/gpu/no_files.cpp; do
    g++ "${flags[@]}" -M "$root/$source"
  done | tr ' \\' '\n\n' | grep -E '^/usr/(local/)?include/(boost|spdlog|fmt)/' | sort -u)
  rm -rf "${headers:?}"/{boost,spdlog,fmt}
  while read -r file; do
    local to=$headers/${file#*/include/}
    mkdir -p "$(dirname "$to")"
    cp "$file" "$to"
  done <<<"$list"
  du -sh "$headers" | sed 's/^/packed: /'
}

build_bench() {
  mkdir -p "$build"
  cmake -S "$root/scripts/bench/gpu" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_COMPILER="$nvcc" \
    -DSONORANT_TORCH_DIR="$(torch_dir)" -DSONORANT_HEADERS="$headers" ${CMAKE_CUDA_FLAGS:+-DCMAKE_CUDA_FLAGS="$CMAKE_CUDA_FLAGS"}
  cmake --build "$build"
}

# Runs a part of the bench into its own JSON; what it says on standard error is kept beside.
run() {
  local name=$1 rc=0
  shift
  "$bench" "$@" >"$out/$name.json" 2>"$out/$name.log" || rc=$?
  echo "$name: exit $rc"
  [[ $rc -eq 0 ]] || { tail -5 "$out/$name.log"; grep -n 'false' "$out/$name.json" || true; }
  return $rc
}

check() {
  run check parity rows memory
}

measure() {
  run measure steps long prefill && run measure_plain --no-overlap --precision fp16 steps && summary
}

summary() {
  "$python" - "$out" <<'PY'
import json, pathlib, sys
for name in ("measure", "measure_plain"):
    file = pathlib.Path(sys.argv[1]) / f"{name}.json"
    if not file.exists():
        continue
    data = json.loads(file.read_text())
    for precision in ("fp16", "bf16"):
        for part, steps in data.get(precision, {}).items():
            if not part.startswith("steps"):
                continue
            for rows, s in steps.items():
                print(f"{name:14} {precision} {part:14} rows {rows:>4}: step {s['step_ms']['p50']:.3f} ms p50, {s['step_ms']['p95']:.3f} p95; "
                      f"{s['tokens_per_second']:.0f} tokens/s, {s['tokens_per_second_with_draws']:.0f} with draws")
        for n, s in data.get(precision, {}).get("prefill", {}).items():
            print(f"{name:14} {precision} prefill of {n:>4}: {s['whole_ms']['p50']:.2f} ms p50, enqueued in {s['enqueue_ms']['p50']:.2f}; "
                  f"another row's step beside it {s['step_of_another_row_beside_ms']['p50']:.2f}")
PY
}

sanitize() {
  local tool failed=0
  for tool in memcheck racecheck initcheck synccheck; do
    if timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 9 "$bench" --small --steps 2 parity rows prefill \
      >"$out/sanitize_$tool.log" 2>&1; then
      echo "sanitize $tool: clean"
    else
      echo "sanitize $tool: exit $?"
      grep -E '^=========' "$out/sanitize_$tool.log" | head -12
      failed=1
    fi
  done
  return $failed
}

profile() {
  ncu --clock-control none --csv --metrics gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed \
    --launch-skip 400 --launch-count 130 --graph-profiling node "$bench" --precision fp16 --steps 3 steps >"$out/profile.csv"
  wc -l "$out/profile.csv"
}

mkdir -p "$out"
case $step in
  pack) pack ;;
  build) build_bench ;;
  check) check ;;
  measure) measure ;;
  sanitize) sanitize ;;
  profile) profile ;;
  all)
    failed=()
    build_bench || exit 1
    for part in check measure sanitize; do
      "$part" || failed+=("$part")
    done
    [[ ${#failed[@]} -eq 0 ]] || { echo "failed: ${failed[*]}"; exit 1; }
    ;;
  --help | -h) usage ;;
  *) usage >&2; exit 2 ;;
esac
