#!/usr/bin/env bash
# Every feature of every crate compiles by itself, and every crate without any.
#
#   scripts/supply_chain/features.sh [CRATE ...]
#
# Needs cargo-hack. Without arguments all crates, which takes the better part of an hour: each combination is another build of burn.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
crates=("$@")
if [ ${#crates[@]} -eq 0 ]; then
  mapfile -t crates < <(cargo metadata --no-deps --format-version 1 |
    python3 -c 'import json, sys; print("\n".join(p["name"] for p in json.load(sys.stdin)["packages"]))')
fi
# `cuda` downloads its compiler while it is built (see docs/src/supply-chain.md); ask for it by CUDA=1.
skip=(--exclude-features cuda)
[ "${CUDA:-0}" = 1 ] && skip=()
for crate in "${crates[@]}"; do
  cargo hack check --locked --each-feature "${skip[@]}" -p "$crate"
done
