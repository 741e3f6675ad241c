#!/usr/bin/env bash
# Measures Sonorant on this machine and makes a page of it: the voice that ships, and full-size GPT-SoVITS shapes with
# generated weights. Needs the built program; making the generated voices (compare.py voices) needs a Python with PyTorch.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

usage() {
  cat <<'END'
usage: scripts/bench/run.sh [--out FOLDER] [--streams N,M,..] [--seconds S] [--full VERSIONS] [--search] [--before FILE.json]

  --out      where to (build/bench): starter.json, one JSON per full-size version, report.md and its plots
  --streams  live streams with the starter voice (1,2,4,8,12,16)
  --seconds  per number of streams (20)
  --full     also these versions, at full size with generated weights, one and two streams (none): "v2 v2Pro"
  --python   a Python with PyTorch, which makes them (python3)
  --search   also find the largest number of streams that holds
  --before   an earlier starter.json to compare with
  SONORANT   the program, if not build/release/sonorant
END
}

out=$ROOT/build/bench streams=1,2,4,8,12,16 seconds=20 full='' search='' before='' python=python3
while [ $# -gt 0 ]; do
  case $1 in
    --search) search=--search ;;
    --out | --streams | --seconds | --full | --python | --before)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

program=${SONORANT:-$ROOT/build/release/sonorant}
[ -x "$program" ] || { echo "run.sh: $program is not there; build it (./scripts/serve does), or set SONORANT" >&2; exit 1; }
commit=$(git -C "$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)
[ -z "$(git -C "$ROOT" status --porcelain --untracked-files=no 2>/dev/null)" ] || commit=$commit+changes
export SONORANT_ENGINE_TEXT_DATA_DIR=$ROOT/src/text/data SONORANT_SERVER_WEB_DIR=$ROOT/web
mkdir -p "$out"

echo "starter voice: $streams streams"
"$program" bench --json --runs 30 --socket --stages --streams "$streams" --seconds "$seconds" $search --commit "$commit" \
  --voices "$ROOT/models/pretrained" >"$out/starter.json"

pages=()
for version in $full; do
  name=gen-${version,,}
  if [ ! -e "$out/voices/$name/manifest.json" ]; then
    echo "$version: generating a checkpoint of full size and converting it"
    "$python" "$ROOT/scripts/bench/compare.py" voices --work "$out" --forms "$version" --sonorant "$program"
  fi
  echo "$version: full size"
  "$program" bench --json --runs 3 --socket --stages --streams 1,2 --seconds "$seconds" --voice "$name" --commit "$commit" \
    --voices "$out/voices" >"$out/$version.json"
  "$ROOT/scripts/bench/report.py" --out "$out/$version" "$version=$out/$version.json"
  pages+=("$out/$version/report.md")
done

files=("now=$out/starter.json")
[ -z "$before" ] || files=("before=$before" "${files[@]}")
"$ROOT/scripts/bench/report.py" --out "$out" "${files[@]}"
[ ${#pages[@]} -eq 0 ] || printf '%s\n' "${pages[@]}"
