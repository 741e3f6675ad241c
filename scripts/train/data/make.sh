#!/usr/bin/env bash
# The data of the cloning voice from nothing, in one command: text, speakers, teacher speech, labels, manifest. Resumes where it stopped.
set -euo pipefail

usage() {
  cat <<TXT
usage: scripts/train/data/make.sh --cmudict FILE --styles DIR --phonemize PROGRAM [--prose FILE]... [--out DIR]
           [--speakers N] [--real N] [--workers N] [--start FILE] [--small] [--python PY]

  --cmudict FILE       CMUdict (cmudict.dict of the public repository cmusphinx/cmudict)
  --styles DIR         style vectors of Kokoro-82M voices (*.pt; api/src/voices/v1_0 of the public repository remsky/Kokoro-FastAPI)
  --phonemize PROGRAM  tests/phonemize of this project's build
  --prose FILE         more English text, lines of name|text (e.g. the LJ Speech transcripts); may be repeated
  --out DIR            where everything goes                                   (default: build/train/clone)
  --speakers N         speakers whose mels are read off the teacher, 16 takes each (default: 300, about 5 hours)
  --real N             speakers with waveforms, 5 takes each                    (default: 128, about 40 minutes)
  --workers N          processes                                               (default: 1)
  --start FILE         begin the reader of mels with the weights of pseudo.py  (optional)
  --small              a rehearsal: some speakers, half a minute for the reader
  --python PY          interpreter with requirements.txt, scipy and jieba      (default: python3)

Writes text/, real/, unseen_real/, reader.pt, read/ and manifest.json (sources, licences, checksums, hours).
TXT
}

out=build/train/clone speakers=300 real=128 workers=1 budget=17 small= python=python3 cmudict= styles= phonemize= start= prose=()
while [ $# -gt 0 ]; do
  case "$1" in
    --cmudict) cmudict=$2; shift 2 ;;
    --styles) styles=$2; shift 2 ;;
    --phonemize) phonemize=$2; shift 2 ;;
    --prose) prose+=("$2"); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --speakers) speakers=$2; shift 2 ;;
    --real) real=$2; shift 2 ;;
    --workers) workers=$2; shift 2 ;;
    --start) start=$2; shift 2 ;;
    --small) small=1; shift ;;
    --python) python=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "make.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
  esac
done
[ -n "$cmudict" ] && [ -n "$styles" ] && [ -n "$phonemize" ] || { usage >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
size=12000 real_takes=(--takes 5) takes=() unseen=24
if [ -n "$small" ]; then size=600 speakers=6 real=4 budget=0.5 unseen=2 real_takes=(--takes 3) takes=(--takes 3); fi
mkdir -p "$out"
step() { printf '\n== %s\n' "$*"; }
# together COMMAND...: the command once for each worker, all at once.
together() {
  local pids=() k
  for ((k = 0; k < workers; k++)); do
    "$@" --worker "$k" --workers "$workers" &
    pids+=($!)
  done
  for k in "${pids[@]}"; do wait "$k"; done
}
speak() { "$python" "$here/speak.py" "$@"; }

step "text"
[ -s "$out/text/zh.tsv" ] || "$python" "$here/text.py" --cmudict "$cmudict" --phonemize "$phonemize" ${prose[0]+--prose "${prose[@]}"} --out "$out/text" --size "$size"
step "waveforms"
together speak real --text "$out/text" --styles "$styles" --out "$out/real" --speakers "$real" "${real_takes[@]}"
together speak real --text "$out/text" --styles "$styles" --out "$out/unseen_real" --speakers "$unseen" --takes 2 --unseen
step "reading mels off the teacher"
[ -s "$out/reader.pt" ] || speak fit --real "$out/real" --out "$out/reader.pt" --budget "$budget" --threads "$workers" ${start:+--start "$start"}
together speak read --text "$out/text" --styles "$styles" --reader "$out/reader.pt" --out "$out/read" --speakers "$speakers" "${takes[@]}"
step "manifest"
"$python" "$here/manifest.py" --out "$out" --cmudict "$cmudict" --styles "$styles" ${prose[0]+--prose "${prose[@]}"}
