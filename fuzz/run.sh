#!/usr/bin/env bash
# Runs fuzz targets one after the other and says what each did.
#
#   fuzz/run.sh MINUTES [TARGET ...]      (default: all targets)
#
# Needs cargo-fuzz and a nightly compiler. The first run compiles burn once more, with coverage.
#
#   SANITIZER   none (default: our code is safe Rust), address, ...
#   BURN=0      without the targets of crates that depend on burn
#   FUZZ_TARGET_DIR  where to build (default fuzz/target)
#   FUZZ_SECONDS     instead of MINUTES
#
# Inputs that a target finds interesting gather in fuzz/corpus, crashes in fuzz/artifacts; both stay out of
# the repository. A crash becomes a small seed in fuzz/seeds and a named test of the crate.
# Exit status 1 if any target crashed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
minutes=${1:?usage: fuzz/run.sh MINUTES [TARGET ...]}
shift
seconds=${FUZZ_SECONDS:-$((minutes * 60))}

# The versions that the workspace uses.
[ -f Cargo.lock ] && [ Cargo.lock -nt ../Cargo.lock ] || cp ../Cargo.lock Cargo.lock

if [ -d /dev/shm ] && [ -z "${TMPDIR:-}" ]; then
  TMPDIR=$(mktemp -d -p /dev/shm asterism-fuzz.XXXXXX)
  export TMPDIR
  trap 'rm -rf "$TMPDIR"' EXIT
fi
options=(--sanitizer "${SANITIZER:-none}" --target-dir "${FUZZ_TARGET_DIR:-$PWD/target}")
[ "${BURN:-1}" = 0 ] || options+=(--features burn)

mapfile -t known < <(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"/\1/p' Cargo.toml)
heavy=$(sed -n '/^name = /h; /^required-features/{x;s/name = "\(.*\)"/\1/p;x}' Cargo.toml)
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for target in "${known[@]}"; do
    [ "${BURN:-1}" = 0 ] && grep -qx "$target" <<<"$heavy" && continue
    targets+=("$target")
  done
fi

failed=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "seeds/$target" "logs"
  log=logs/$target.log
  status=0
  # -timeout and -rss_limit_mb are part of the bar: seconds and memory in proportion to small inputs.
  cargo +nightly fuzz run --fuzz-dir . "${options[@]}" "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 >"$log" 2>&1 || status=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 || true)
  if [ "$status" = 0 ]; then
    printf '%-18s %10s executions, %s, no crash\n' "$target" "${runs:-?}" "${coverage:-cov: ?}"
  else
    failed=1
    printf '%-18s CRASH (status %s), see fuzz/%s\n' "$target" "$status" "$log"
  fi
done
exit $failed
