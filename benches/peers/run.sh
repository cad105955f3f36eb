#!/usr/bin/env bash
# Times our programs and their peers in turn, and writes one table.
#
#   benches/peers/run.sh --model DIR --data DIR [options]
#
#   --model DIR      a sentence-transformers directory of all-MiniLM-L6-v2 (config.json, model.safetensors, ...)
#   --data DIR       directory with fcdc/hwu64/{train,test}.tsv and sts/senteval/stsb.tsv
#   --rounds N       rounds; in each, ours runs and then the peer (3)
#   --runs N         timed runs a process, after a warm-up (5); slow programs run once a round
#   --only A,B       some of: floor encoder encode epoch clustering spearman objectives
#   --quick          one round, few runs, small inputs: to see that everything works, not to measure
#   --out DIR        where lines.jsonl, table.md, programs.log go (a new directory under the system's temporary one)
#   --page NAME      put the table into docs/src/benchmarks/NAME, between its markers
#   --baseline       write benches/baseline-avx512.json (or -avx2, -portable: what this processor has) from this run, which should
#                    be a complete one on an idle machine
#   --bin DIR        use the programs in DIR instead of building them
#   --device D       flex, or for the sections encoder and objectives `cuda` or `cuda:1`: ours is built with that feature, PyTorch runs
#                    eager and compiled, in fp32 and bf16
#   --bert-base      the encoder section also for an encoder of BERT-base's shape, with random weights
#   --max-len N      tokens a text in the STAR-DOWN epoch (32)
#
# Environment: ASTERISM_PEERS_VENV is the Python environment of the peers (default ~/.cache/asterism-peers); it is made
# from requirements.txt if it has no python. THREADS is the number of threads of both sides (default: all cores).
# CARGO_TARGET_DIR as usual. Nothing is written into the repository but what --page and --baseline name.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

model='' data='' rounds=3 runs=5 only='' quick='' out='' page='' baseline='' max_len=32 bin='' device=flex bert_base=''
asked=()
while (($#)); do
  case $1 in
    --quick | --baseline | --bert-base) asked+=("$1") ;;
    --model | --data | --out | --bin) word=${1#--} && asked+=("$1 ${word^^}") ;;
    *) asked+=("$1 ${2-}") ;;
  esac
  case $1 in
    --model) model=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --runs) runs=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --page) page=$2; shift 2 ;;
    --max-len) max_len=$2; shift 2 ;;
    --bin) bin=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --bert-base) bert_base=1; shift ;;
    --quick) quick=1; shift ;;
    --baseline) baseline=1; shift ;;
    -h | --help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
    *) echo "run.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
for needed in "$model/config.json" "$data/fcdc/hwu64/train.tsv" "$data/sts/senteval/stsb.tsv"; do
  [ -f "$needed" ] || { echo "run.sh: --model and --data: $needed is missing" >&2; exit 2; }
done
model=$(cd "$model" && pwd) data=$(cd "$data" && pwd)
features=()
if [ "$device" != flex ]; then
  features=(--features "${device%%:*}")
  only=${only:-encoder,objectives}
  [[ $only =~ ^(encoder|objectives)(,(encoder|objectives))?$ ]] || {
    echo "run.sh: --device $device: only the sections encoder and objectives, found $only" >&2
    exit 2
  }
fi
export DEVICE=$device
if [ -n "$page" ]; then
  page=$root/docs/src/benchmarks/$page
  [ -f "$page" ] || { echo "run.sh: --page: $page is missing" >&2; exit 2; }
fi
out=${out:-$(mktemp -d)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
lines=$out/lines.jsonl log=$out/programs.log
: >"$lines"
: >"$log"
# Half-written inputs and run directories of this run only.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

export THREADS=${THREADS:-$(nproc)}
export RAYON_NUM_THREADS=$THREADS OMP_NUM_THREADS=$THREADS MKL_NUM_THREADS=$THREADS OPENBLAS_NUM_THREADS=$THREADS
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=true PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# The peers' environment, outside the repository.
venv=${ASTERISM_PEERS_VENV:-$HOME/.cache/asterism-peers}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
fi
python=$venv/bin/python

if [ -z "$bin" ]; then
  cargo build --release --quiet --manifest-path "$root/Cargo.toml" -p benches --examples "${features[@]}"
  bin=${CARGO_TARGET_DIR:-$root/target}/release/examples
fi

wanted() { [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]; }

# race ROUNDS LABEL COMMAND... + COMMAND...: the commands in turn, ROUNDS times; their output is result lines.
race() {
  local times=$1 label=$2 round word status
  shift 2
  for ((round = 1; round <= times; round++)); do
    printf '%s  %s: round %d of %d\n' "$(date +%T)" "$label" "$round" "$times" >&2
    local command=()
    for word in "$@" +; do
      if [ "$word" != + ]; then
        command+=("$word")
        continue
      fi
      status=0
      # A run directory must be new for every run.
      rm -rf "$scratch/run"
      printf '== %s\n' "${command[*]}" >>"$log"
      "${command[@]}" >"$scratch/lines" 2>>"$log" || status=$?
      cat "$scratch/lines" >>"$lines"
      if ((status)); then
        printf '{"failed": "%s: %s, status %d, round %d"}\n' "$label" "$(basename "${command[0]}")" "$status" "$round" >>"$lines"
        printf '  %s failed with status %d, see %s\n' "$(basename "${command[0]}")" "$status" "$log" >&2
      fi
      command=()
    done
  done
}

slow_runs=1 texts=4000 pairs=1000000 pairwise_steps=2 lengths='16 32 128' batch=64
if [ -n "$quick" ]; then
  rounds=1 runs=2 texts=256 pairs=20000 pairwise_steps=1 lengths=16 batch=16
fi

"$python" "$here/machine.py" before "$root" "$model" >>"$lines"

if wanted floor; then
  race "$rounds" floor "$bin/floor" 2048 384 1536 "$runs" + "$python" "$here/floor.py" 2048 384 1536 "$runs"
fi

if wanted encoder; then
  encoders=("$model")
  if [ -n "$bert_base" ]; then
    "$python" "$here/random_bert.py" "$model" "$scratch/bert-base" 2>>"$log"
    encoders+=("$scratch/bert-base")
  fi
  compiled=''
  [ "$device" = flex ] || compiled='compiled compiled_bf16'
  for encoder in "${encoders[@]}"; do
    for length in $lengths; do
      label="encoder $(basename "$encoder") length $length"
      for case in 'forward 0' 'train 0' 'train 0.1'; do
        read -r kind dropout <<<"$case"
        race "$rounds" "$label $kind dropout $dropout" \
          "$bin/encoder_step" "$encoder" "$batch" "$length" "$runs" "$dropout" "$kind" + \
          "$python" "$here/encoder_step.py" "$encoder" "$batch" "$length" "$runs" "$dropout" "$kind"
      done
      for kind in forward train; do
        race "$rounds" "$label $kind bf16" \
          "$bin/encoder_step" "$encoder" "$batch" "$length" "$runs" 0 "$kind" bf16 + \
          "$python" "$here/encoder_step.py" "$encoder" "$batch" "$length" "$runs" 0 "$kind" bf16
        for precision in $compiled; do
          race 1 "$label $kind $precision" \
            "$python" "$here/encoder_step.py" "$encoder" "$batch" "$length" "$((runs < 3 ? runs : 3))" 0 "$kind" "$precision"
        done
      done
    done
  done
fi

if wanted encode; then
  "$python" "$here/inputs.py" texts "$data/fcdc/hwu64/train.tsv" text "$texts" "$scratch/hwu64.txt"
  "$python" "$here/inputs.py" texts "$data/sts/senteval/stsb.tsv" sentence1,sentence2 "$texts" "$scratch/stsb.txt"
  for set in hwu64 stsb; do
    for size in 32 64; do
      race "$rounds" "encode $set batch $size" \
        "$bin/encode_step" "$model" "$scratch/$set.txt" "$size" "$slow_runs" + \
        "$python" "$here/encode_step.py" "$model" "$scratch/$set.txt" "$size" "$slow_runs"
    done
  done
fi

if wanted epoch; then
  hwu64=$data/fcdc/hwu64
  if [ -n "$quick" ]; then
    "$python" "$here/inputs.py" head "$hwu64" 400 "$scratch/hwu64"
    hwu64=$scratch/hwu64
  fi
  race "$rounds" 'STAR-DOWN epoch' \
    "$bin/star_down_epoch" "$hwu64" "$model" "$scratch/run" "$max_len" star + \
    "$python" "$here/star_down_epoch.py" "$hwu64" "$model" "$max_len" star closed
  race 1 'STAR-DOWN epoch, pairwise form' \
    "$python" "$here/star_down_epoch.py" "$hwu64" "$model" "$max_len" star pairwise "$pairwise_steps"
fi

if wanted clustering; then
  for case in '1031 64' '2250 150'; do
    read -r rows groups <<<"$case"
    [ -z "$quick" ] || { rows=300 groups=10; }
    "$bin/clustering_step" mixture "$scratch/$rows.f32" "$rows" 384 "$groups"
    race "$rounds" "k-means $rows" \
      "$bin/clustering_step" kmeans "$scratch/$rows.f32" 384 "$groups" "$runs" + \
      "$python" "$here/clustering_peer.py" kmeans "$scratch/$rows.f32" 384 "$groups" "$runs"
    race "$rounds" "t-SNE $rows" \
      "$bin/clustering_step" tsne "$scratch/$rows.f32" 384 "$slow_runs" + \
      "$python" "$here/clustering_peer.py" tsne "$scratch/$rows.f32" 384 "$slow_runs"
    [ -z "$quick" ] || break
  done
fi

if wanted spearman; then
  race "$rounds" Spearman "$bin/spearman_step" "$pairs" "$runs" + "$python" "$here/spearman_peer.py" "$pairs" "$runs"
fi

if wanted objectives; then
  for peer in star_peer sentence_peer; do
    names=$("$python" "$here/$peer.py" names)
    for name in $names; do
      race "$rounds" "objective $name" "$bin/objective_step" "$name" "$runs" + "$python" "$here/$peer.py" "$name" "$runs"
    done
  done
fi

"$python" "$here/machine.py" after "$root" "$model" >>"$lines"

write=(--markdown "$out/table.md" --command "benches/peers/run.sh ${asked[*]}")
[ -z "$page" ] || write+=(--page "$page")
[ -z "$baseline" ] || write+=(--baseline "$root/benches")
"$python" "$here/table.py" "$lines" "${write[@]}"
echo "lines.jsonl, table.md and programs.log are in $out" >&2
if grep -q '"failed"' "$lines"; then
  echo 'run.sh: some programs failed' >&2
  exit 1
fi
