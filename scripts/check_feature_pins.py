#!/usr/bin/env python3
"""Lists crates that `cargo test -p MEMBER` would build with other features than the workspace does.

    python3 scripts/check_feature_pins.py [MEMBER ...]

A difference in a crate below burn means a second build of burn-flex; crates/kernels/Cargo.toml
carries the pins that prevent it. Exit status 1 if burn-flex itself would be built twice.
"""
import subprocess
import sys


def features(*selection):
    lines = subprocess.run(
        ["cargo", "tree", "--prefix", "none", "-e", "normal,build,dev", "-f", "{p}|{f}", *selection],
        check=True, capture_output=True, text=True).stdout.splitlines()
    found = {}
    for line in lines:
        if "|" in line:
            package, names = line.replace(" (*)", "").split("|")
            found.setdefault(package.strip(), set()).update(n for n in names.split(",") if n)
    return found


def closure(root, selection):
    lines = subprocess.run(["cargo", "tree", "--prefix", "none", "-e", "normal,build", "-f", "{p}", *selection, root],
                           check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.replace(" (*)", "").strip() for line in lines}


def main():
    members = sys.argv[1:] or ["kernels", "losses", "queue", "encoder", "training", "experiments"]
    workspace = features("--workspace")
    below_flex = closure("burn-flex", ["-p"])
    twice = False
    for member in members:
        for package, names in sorted(features("-p", member).items()):
            wanted = workspace.get(package, names)
            if wanted != names:
                critical = package in below_flex
                twice |= critical
                print(f"{member}: {package} lacks {sorted(wanted - names)}{'  <- below burn-flex' if critical else ''}")
    return 1 if twice else 0


if __name__ == "__main__":
    sys.exit(main())
