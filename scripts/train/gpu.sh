#!/usr/bin/env bash
# The cloning voice on one large GPU, from the first minute to the last: data on its processor cores, then all stages, export and figures.
set -euo pipefail

usage() {
  cat <<TXT
usage: scripts/train/gpu.sh --text DIR --styles DIR [--work DIR] [--minutes M] [--slice M] [--size base|large] [--out DIR] [--small] [--python PY]

  --text DIR      what data/text.py wrote (needs no dictionary and no program of this project any more)
  --styles DIR    style vectors of Kokoro-82M voices (*.pt)
  --work DIR      data and checkpoints                                          (default: build/train/gpu)
  --minutes M     the machine's time in all, shared out below                   (default: 25)
  --slice M       of which this call may use so much; the next call goes on     (default: all)
  --size NAME     sizes of clone/config.py                                      (default: large)
  --out DIR       the exported voice, in pieces of 15 MB, logs and plots go here (default: WORK/out)
  --start DIR     begin with what an earlier run left: tokenizer_half.pt (is kept as it is) and voice/ of the same size
  --small         a rehearsal in some minutes, also without a GPU
  --python PY     interpreter with torch, numpy, scipy, tqdm, safetensors, onnx and onnxruntime (default: python3)

Where the teacher's packages cannot be installed, SONORANT_TEACHER names a folder with its model.onnx, model.sha256 and vocab.json.
Shares of --minutes: waveforms of the teacher 6 %, reader of mels 4 %, reading 8 %, tokenizer 16 %, then flow, vocoder and T2S at once 46 % with
more waveforms beside them, 8 % for two flow steps in place of four and one in place of two and, at once, the vocoder on that flow's mels, export and figures the rest. A call that is cut short loses two minutes at most: call it again with the same options.
TXT
}

work=build/train/gpu minutes=25 slice= size=large out= start= small= python=python3 text= styles=
while [ $# -gt 0 ]; do
  case "$1" in
    --text) text=$2; shift 2 ;;
    --styles) styles=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    --slice) slice=$2; shift 2 ;;
    --size) size=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --start) start=$2; shift 2 ;;
    --small) small=1; shift ;;
    --python) python=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "gpu.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
  esac
done
[ -n "$text" ] && [ -n "$styles" ] || { usage >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
out=${out:-$work/out}
mkdir -p "$work/ck" "$out"
cores=$(nproc)                      # before OMP_NUM_THREADS, which it would believe
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
started=$(date +%s)
slice=${slice:-$minutes}
left() { echo $((started + $(seconds "$slice") - $(date +%s))); }            # seconds of this call
seconds() { "$python" -c "print(int(60 * $1))"; }
share() { [ -z "$small" ] && "$python" -c "print(int(0.6 * $minutes * $1))" || echo 600; } # seconds of so many per cent of --minutes
note() { printf '\n== %3d s of this call: %s\n' $(($(date +%s) - started)) "$*"; }
cuda=$("$python" -c "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')")
note "$cores cores, $cuda, --size $size, $minutes minutes in all, $slice in this call"

# crew SECONDS PROCESSES COMMAND...: the command on so many workers, stopped when its time is up; what is finished by then is kept.
crew() {
  local limit=$1 n=$2 k pids=() rest
  shift 2
  rest=$(left)
  if [ "$limit" -gt "$rest" ]; then limit=$rest; fi
  if [ "$limit" -lt 1 ]; then return 0; fi
  for ((k = 0; k < n; k++)); do
    timeout "$limit" "$python" "$here/data/speak.py" "$@" --worker "$k" --workers "$n" >>"$work/speak.log" 2>&1 &
    pids+=($!)
  done
  for k in "${pids[@]}"; do wait "$k" || true; done
}
# once NAME COMMAND...: skipped when it was done before; the call ends when less than five seconds are left.
once() {
  local name=$1
  shift
  if [ -e "$work/$name.done" ]; then return 0; fi
  if [ "$(left)" -lt 5 ]; then
    note "no time for $name; call again"
    exit 0
  fi
  note "$name"
  "$@"
  touch "$work/$name.done"
}

softness=0.5                        # of the noise that the flow starts from
postfilter=1.0                      # depth, over the mels of the flow
unseen=24 many=4000 real_takes=6 read_takes=12 positions=48000 wide=192 crops=192 clips=48 rehearse=()
if [ "$cuda" = cpu ]; then positions=2400 wide=20 crops=12 clips=8; fi
if [ -n "$small" ]; then unseen=2 many=3 real_takes=2 read_takes=2 rehearse=(--small); fi
data=(--takes "$work/read" "$work/real" "$work/real" "$work/real" --unseen "$work/unseen_real")    # waveforms are drawn three times as often
real() { crew "$1" "$2" real --text "$text" --styles "$styles" --out "$work/real" --speakers "$many" --takes "$real_takes"; }
unseen_real() { crew "$(share 8)" "$cores" real --text "$text" --styles "$styles" --out "$work/unseen_real" --speakers "$unseen" --takes 2 --unseen; }
reader() {
  "$python" "$here/data/speak.py" fit --real "$work/real" --out "$work/reader.pt" --budget "$("$python" -c "print(0.04 * $minutes)")" --batch "$crops" --device "$cuda" >>"$work/speak.log" 2>&1
}
reading() { crew "$1" "$cores" read --text "$text" --styles "$styles" --reader "$work/reader.pt" --out "$work/read" --speakers "$many" --takes "$read_takes"; }
# stage NAME PERCENT OPTION...: one stage until its budget or this call's time is used; true when the budget is.
stage() {
  local name=$1 budget rest script=${1%_own}
  budget=$("$python" -c "print(0.01 * $2 * $minutes)")
  shift 2
  rest=$("$python" -c "print(max(0.2, ($(left) - 40) / 60))")               # export takes the rest of the call
  "$python" "$here/clone/train_$script.py" --out "$work/ck/$name.pt" --budget "$budget" --slice "$rest" --every 3 --device "$cuda" "${rehearse[@]}" "$@" >>"$work/ck/$name.log" 2>&1
  [ -n "$small" ] || "$python" -c "
import json, sys
row = json.loads(open('$work/ck/$name.pt.jsonl').read().splitlines()[-1])
sys.exit(0 if row['minutes'] >= 0.99 * $budget else 1)"
}
finished() { # NAME COMMAND...: a stage, whose mark is set when its budget is used
  local name=$1
  if [ -e "$work/$name.done" ]; then return 0; fi
  if "${@:2}"; then touch "$work/$name.done"; fi
}
training() {
  local tokens=(--tokens "$work/ck/tokenizer.pt") pids=() k
  finished flow stage flow 46 "${data[@]}" "${tokens[@]}" --batch "$crops" --size "$size" --lr 1.2e-3 --ema 0.999 ${start:+--start "$start/voice/acoustic.safetensors"} &
  pids+=($!)
  finished t2s stage t2s 46 "${data[@]}" "${tokens[@]}" --positions "$positions" --size "$size" --lr 1.2e-3 --ema 0.999 ${start:+--start "$start/voice/t2s.safetensors"} &
  pids+=($!)
  finished vocoder stage vocoder 42 --takes "$work/real" --unseen "$work/unseen_real" --batch "$clips" --lr 1e-3 --ema 0.999 ${start:+--start "$start/voice/vocoder.safetensors"} &
  pids+=($!)
  if [ -z "$small" ] && [ ! -e "$work/waves.done" ]; then
    real "$(share 30)" $((cores > 6 ? cores - 5 : 1))
    touch "$work/waves.done"
  fi
  for k in "${pids[@]}"; do wait "$k" || true; done
  for k in flow t2s vocoder; do
    [ -e "$work/$k.done" ] || { note "$k has minutes left; call again"; tail -n 3 "$work/ck/$k.log"; }
  done
}
# folder NAME VOCODER OPTION...: what is trained as a voice folder.
folder() {
  "$python" "$here/clone/export_voice.py" --tokens "$work/ck/tokenizer.pt" --flow "$work/ck/flow.pt" --vocoder "$work/ck/$2.pt" --t2s "$work/ck/t2s.pt" --flow-temperature "$softness" \
    --postfilter "$postfilter" --takes "$work/real" --voice "$(basename "$(find "$work/real" -name 'en*.pt' | sort | head -n 1)" .pt)" --out "$work/$1" "${@:3}"
}
# fewer FROM TO STEPS TEACHER_STEPS PERCENT: the folder FROM with a flow of fewer steps.
fewer() {
  "$python" "$here/../compress/distil_flow.py" --model "$work/$1" --pairs "$work/pairs.pt" --out "$work/$2" --steps "$3" --teacher-steps "$4" --softest 0.4 \
    --budget "$("$python" -c "print(0.01 * $5 * $minutes if not '$small' else 0.2)")" --device "$cuda"
}
few_steps() {
  rm -rf "$work"/{four,two,voice}{,.pt}
  folder four vocoder --steps 4 &&
    "$python" "$here/../compress/data.py" takes --takes "$work/real" --tokens "$work/ck/tokenizer.pt" --out "$work/pairs.pt" &&
    { fewer four two 2 4 4 && fewer two voice 1 2 4; } >"$work/ck/few_steps.log" 2>&1
}
own_vocoder() {
  stage vocoder_own 6 --takes "$work/real" --unseen "$work/unseen_real" --batch "$clips" --lr 4e-4 --start "$work/ck/vocoder.pt" --flow "$work/ck/flow.pt" --tokens "$work/ck/tokenizer.pt" \
    --flow-temperature "$softness"
}
finishing() {
  local pids=() k
  finished few_steps few_steps &
  pids+=($!)
  finished vocoder_own own_vocoder &
  pids+=($!)
  for k in "${pids[@]}"; do wait "$k" || true; done
}
# The folder with the flow of one step and the vocoder that knows its mels; without them what there is.
export_voice() {
  local name=vocoder
  if [ -s "$work/ck/vocoder_own.pt" ]; then name=vocoder_own; fi
  folder last "$name" --steps 4
  if [ -e "$work/few_steps.done" ]; then
    cp "$work/last/vocoder.safetensors" "$work/voice/"
  else
    rm -rf "$work/voice"
    mv "$work/last" "$work/voice"
  fi
  tar -C "$work" -czf - voice | split -b 15000000 -d -a 1 - "$out/voice.tgz."
}
figures() {
  for k in tokenizer flow vocoder t2s vocoder_own; do
    [ -s "$work/ck/$k.pt.jsonl" ] || continue
    printf '%s: ' "$k"
    tail -n 1 "$work/ck/$k.pt.jsonl"
  done
  tar -C "$work" -czf "$out/logs.tar.gz" --exclude='*.train' --exclude='*.pt' ck speak.log
  if [ -s "$work/ck/tokenizer.pt" ]; then
    "$python" -c "
import torch
s = torch.load('$work/ck/tokenizer.pt', map_location='cpu')
torch.save(dict(net={k: v.half() for k, v in s['net'].items()}), '$out/tokenizer_half.pt')"
  fi
  du -sh "$work"/read "$work"/real "$out"/* | sed 's/^/  /' || true
}

if [ -n "$start" ] && [ ! -e "$work/tokenizer.done" ]; then
  "$python" -c "
import torch
s = torch.load('$start/tokenizer_half.pt', map_location='cpu')
torch.save(dict(net={k: v.float() for k, v in s['net'].items()}), '$work/ck/tokenizer.pt')"
  touch "$work/tokenizer.done"
fi
once waveforms real "$(share 6)" "$cores"
once reader reader
once unseen_real unseen_real
once reading reading "$(share 8)"
if [ ! -e "$work/tokenizer.done" ]; then
  note "tokenizer, more waveforms beside it"
  [ -n "$small" ] || real "$(share 14)" $((cores > 3 ? cores - 2 : 1)) &
  finished tokenizer stage tokenizer 16 "${data[@]}" --batch "$wide" --lr 1.5e-3 --ema 0.995
  wait
  [ -e "$work/tokenizer.done" ] || { note "tokenizer has minutes left; call again"; tail -n 3 "$work/ck/tokenizer.log"; exit 0; }
fi
if [ ! -e "$work/flow.done" ] || [ ! -e "$work/t2s.done" ] || [ ! -e "$work/vocoder.done" ]; then
  note "flow, T2S and vocoder at once"
  training
fi
if [ -e "$work/flow.done" ] && [ -e "$work/vocoder.done" ] && [ -e "$work/t2s.done" ] && [ "$(left)" -gt "$("$python" -c "print(int(4.8 * $minutes) + 40)")" ]; then
  note "one flow step, vocoder on the flow's mels"
  finishing
fi
note "export"
if [ -s "$work/ck/flow.pt" ] && [ -s "$work/ck/t2s.pt" ] && [ -s "$work/ck/vocoder.pt" ]; then export_voice; fi
figures
note "done"
