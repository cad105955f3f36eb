#!/usr/bin/env bash
# Conformance on the backend wgpu with a processor instead of a GPU: Mesa's software driver for Vulkan.
#
#   scripts/conformance_wgpu.sh [FILE|DIR ...]      (default: the golden files of all crates)
#
# As root on Debian or Ubuntu the driver is installed if it is missing; otherwise install the package
# mesa-vulkan-drivers first. Exit status: that of the program `conformance`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

driver() { find /usr/share/vulkan/icd.d -name 'lvp_icd*.json' -print -quit 2>/dev/null || true; }

icd=$(driver)
if [ -z "$icd" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends mesa-vulkan-drivers libvulkan1
  icd=$(driver)
fi
if [ -z "$icd" ]; then
  echo "no software driver for Vulkan: install mesa-vulkan-drivers" >&2
  exit 2
fi

# Only this driver, so that the result does not depend on what else is plugged in.
export VK_ICD_FILENAMES=$icd VK_DRIVER_FILES=$icd
paths=("$@")
if [ ${#paths[@]} -eq 0 ]; then
  # Beside them lie other tables of the crates' own tests.
  mapfile -t paths < <(grep -lE '"schema": *"golden/1"' crates/*/tests/golden/*.json)
fi
exec cargo run --release -p experiments --no-default-features --features flex,wgpu --bin conformance -- "${paths[@]}" --device wgpu
