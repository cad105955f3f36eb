#!/usr/bin/env python3
"""Writes a CycloneDX bill of materials of one of our programs.

    python3 scripts/supply_chain/bill_of_materials.py [--package cli] [--features a,b] [--target TRIPLE] > bom.cdx.json

From `cargo tree`, `cargo metadata` and the digests of Cargo.lock; the same inputs give the same bytes. What is only needed to
test is left out.
"""
import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cargo {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def selection(arguments):
    chosen = ["-p", arguments.package, "--target", arguments.target, "-e", "normal,build"]
    if arguments.features is not None:
        chosen += ["--no-default-features", "--features", arguments.features]
    return chosen


def edges(arguments):
    """Name and version of every package of the tree, with those it needs; repeats are printed without theirs."""
    text = cargo("tree", "--locked", *selection(arguments), "--prefix", "depth", "-f", "|{p}")
    needs, path = {}, []
    for line in text.splitlines():
        depth, _, package = line.partition("|")
        if not depth.isdigit():
            continue
        name, version = package.split()[:2]
        key = (name, version.removeprefix("v"))
        del path[int(depth):]
        needs.setdefault(key, set())
        if path:
            needs[path[-1]].add(key)
        path.append(key)
    return needs


def reference(key):
    return f"pkg:cargo/{key[0]}@{key[1]}"


def component(key, package, digests):
    entry = {
        "type": "application" if any("bin" in target["kind"] for target in package["targets"]) and package["source"] is None else "library",
        "bom-ref": reference(key),
        "name": key[0],
        "version": key[1],
        "purl": reference(key),
    }
    if package["description"]:
        entry["description"] = " ".join(package["description"].split())
    if package["license"]:
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if key in digests:
        entry["hashes"] = [{"alg": "SHA-256", "content": digests[key]}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def bill(arguments):
    needs = edges(arguments)
    packages = {(p["name"], p["version"]): p
                for p in json.loads(cargo("metadata", "--format-version", "1", "--locked"))["packages"]}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    digests = {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}
    root = next(key for key in needs if key[0] == arguments.package)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root, packages[root], digests)},
        "components": [component(key, packages[key], digests) for key in sorted(needs) if key != root],
        "dependencies": [{"ref": reference(key), "dependsOn": sorted(map(reference, needs[key]))} for key in sorted(needs)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", default="cli")
    parser.add_argument("--features", help="instead of the default features")
    parser.add_argument("--target", default="x86_64-unknown-linux-gnu")
    json.dump(bill(parser.parse_args()), sys.stdout, indent=1, sort_keys=False)
    print()


if __name__ == "__main__":
    main()
