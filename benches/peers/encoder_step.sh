#!/usr/bin/env bash
# Interleaves the encoder step here and in PyTorch.
#   benches/peers/encoder_step.sh PYTHON MODEL_DIR [rounds] [batch] [length] [runs] [dropout]
set -euo pipefail
python=$1 model=$2 rounds=${3:-3}
shift 3 || shift $#
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release -q -p benches --example encoder_step
binary=${CARGO_TARGET_DIR:-target}/release/examples/encoder_step
uptime
for ((round = 0; round < rounds; round++)); do
  "$binary" "$model" "$@"
  "$python" "$here/encoder_step.py" "$model" "$@" 2>/dev/null
done
uptime
