#!/usr/bin/env bash
# Trains the starter voice from nothing: text, teacher speech, features, the four networks, and the exported voice folder.
set -euo pipefail

usage() {
  cat <<TXT
usage: scripts/train/run.sh --cmudict FILE --style FILE.pt [--prose FILE]... [--work DIR] [--hours H] [--small] [--python PY]

  --cmudict FILE   CMUdict (cmudict.dict of the public repository cmusphinx/cmudict)
  --style FILE     style vectors of one Kokoro-82M voice, e.g. af_heart.pt
  --prose FILE     more text, lines of name|text (e.g. the LJ Speech transcripts); may be repeated
  --work DIR       where data and checkpoints go            (default: build/train)
  --hours H        time for the networks, without the data  (default: 4)
  --small          a rehearsal in minutes: one line in thirty, half a minute for each network; what it gives speaks no word
  --python PY      interpreter with requirements.txt        (default: python3)

Every stage resumes or is skipped when its result is there; delete a file to make it again.
TXT
}

work=build/train hours=4 small= python=python3 cmudict= style= prose=()
while [ $# -gt 0 ]; do
  case "$1" in
    --cmudict) cmudict=$2; shift 2 ;;
    --style) style=$2; shift 2 ;;
    --prose) prose+=("$2"); shift 2 ;;
    --work) work=$2; shift 2 ;;
    --hours) hours=$2; shift 2 ;;
    --small) small=1; shift ;;
    --python) python=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "run.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
  esac
done
[ -n "$cmudict" ] && [ -n "$style" ] || { usage >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
minutes() { [ -n "$small" ] && echo 0.5 || "$python" -c "print(max(1, $hours * 60 * $1))"; }
corpus() {  # FILE EVERY OPTION...: EVERY is the share of lines that a rehearsal keeps
  [ -s "$1" ] && return
  "$python" "$here/corpus.py" --cmudict "$cmudict" ${prose[0]+--prose "${prose[@]}"} --out "$1.all" "${@:3}"
  if [ -n "$small" ]; then sed -n "1~$2p" "$1.all" > "$1"; rm "$1.all"; else mv "$1.all" "$1"; fi
}
step() { printf '\n== %s\n' "$*"; }

step "text"
corpus "$work/list.tsv" 30
step "teacher speech"
"$python" "$here/teacher.py" --cmudict "$cmudict" --style "$style" --list "$work/list.tsv" --out "$work/speech"
step "features"
"$python" "$here/prep.py" --data "$work/speech" --out "$work/features"
step "tokenizer"
[ -s "$work/tokenizer.pt" ] || "$python" "$here/tokenizer.py" --features "$work/features" --out "$work/tokenizer.pt" --minutes "$(minutes 0.1)"
step "more text for T2S, read off the teacher"
teacher=(--cmudict "$cmudict" --style "$style")
corpus "$work/list_more.tsv" 300 --longest 24 --templates 4500 --rare 2500
[ -s "$work/mel.pt" ] || "$python" "$here/pseudo.py" fit "${teacher[@]}" --data "$work/speech" --features "$work/features" --tokens "$work/tokenizer.pt" --out "$work/mel.pt" --minutes "$(minutes 0.04)"
"$python" "$here/pseudo.py" label "${teacher[@]}" --list "$work/list_more.tsv" --mel "$work/mel.pt" --out "$work/pseudo"
[ -s "$work/again.pt" ] || "$python" "$here/pseudo.py" again "${teacher[@]}" --data "$work/speech" --features "$work/features" --mel "$work/mel.pt" --out "$work/again.pt"
step "vocoder"
[ -s "$work/vocoder.pt" ] || "$python" "$here/vocoder.py" --features "$work/features" --out "$work/vocoder.pt" --minutes "$(minutes 0.15)"
step "flow matching"
[ -s "$work/flow.pt" ] || "$python" "$here/flow.py" --features "$work/features" --tokens "$work/tokenizer.pt" --again "$work/again.pt" --out "$work/flow.pt" --minutes "$(minutes 0.28)"
step "flow matching in two steps"
[ -s "$work/flow_fast.pt" ] || "$python" "$here/distil.py" --features "$work/features" --tokens "$work/tokenizer.pt" --again "$work/again.pt" --flow "$work/flow.pt" --out "$work/flow_fast.pt" --minutes "$(minutes 0.08)"
step "T2S"
[ -s "$work/t2s.pt" ] || "$python" "$here/t2s.py" --features "$work/features" --tokens "$work/tokenizer.pt" --pseudo "$work/pseudo" --dropout 0.05 --budget 2000 --out "$work/t2s.pt" --minutes "$(minutes 0.35)"
step "export"
"$python" "$here/export.py" --t2s "$work/t2s.pt" --flow "$work/flow_fast.pt" --vocoder "$work/vocoder.pt" --features "$work/features" --out "$work/voice"
echo "the voice is in $work/voice; score it with scripts/eval/run.py before shipping it"
