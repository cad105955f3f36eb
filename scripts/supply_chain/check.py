#!/usr/bin/env python3
"""Checks what the project is made of: dependency counts, build scripts, unsafe code, licences.

    python3 scripts/supply_chain/check.py [--offline]

Needs cargo and nothing else; exit status 1 names what is wrong. The bounds below are part of the
project: a crate that needs more asks for it here, in the same change.
"""
import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Crate: arguments of cargo tree, direct dependencies, all crates below it (build scripts and
# procedural macros included, development dependencies not).
BOUNDS = {
    "metrics": ([], 3, 20),
    "lockfile": ([], 1, 15),
    "clustering": ([], 7, 60),
    "categories": ([], 8, 40),
    "web": ([], 7, 75),
    "datasets": ([], 12, 115),
    "datagen": ([], 13, 140),
    "columnar": ([], 8, 80),
    "explorer": ([], 7, 45),
    "server": ([], 14, 115),
    # On burn, whose bare core (no backend) is most of what is counted.
    "losses": (["--no-default-features"], 5, 150),
    "queue": (["--no-default-features"], 5, 155),
}

# What a build script must not do. Those that match are read by a person once.
DOWNLOADS = re.compile(r"\b(reqwest|ureq|attohttpc|minreq|curl::|git2::)|Command::new\(\s*\"(curl|wget|git|powershell)\"")
HARMLESS = {
    "wasm-bindgen-shared": "asks git for the commit it is built from; only in builds for browsers",
}
# Known to download, and the feature without which nothing below takes them in.
DOWNLOADING = {
    "tracel-llvm-bundler": "cuda",
}

# The one crate that may hold unsafe code.
UNSAFE_HOME = "crates/kernels/src"
UNSAFE_BLOCK = re.compile(r"\bunsafe\s*(\{|impl\b|fn\b|extern\b)")
# Lines above a block in which its reason may begin.
REASON_LINES = 6


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cargo {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def tree(crate, arguments, offline, *more):
    which = ["-p", crate] if crate else ["--workspace"]
    lines = cargo("tree", *offline, *which, *arguments, "--prefix", "none", "-f", "{p}", *more).splitlines()
    return {" ".join(line.replace(" (*)", "").split()[:2]) for line in lines if line.strip()}


def dependencies(offline):
    """Direct and total dependencies of the crates that others may want alone."""
    print(f"{'crate':<12} {'direct':>6} {'allowed':>8} {'all':>6} {'allowed':>8}")
    problems = []
    for crate, (arguments, most_direct, most) in BOUNDS.items():
        direct = len(tree(crate, arguments, offline, "-e", "normal", "--depth", "1")) - 1
        total = len(tree(crate, arguments, offline, "-e", "normal,build")) - 1
        print(f"{crate:<12} {direct:>6} {most_direct:>8} {total:>6} {most:>8}")
        if direct > most_direct:
            problems.append(f"{crate}: {direct} direct dependencies, at most {most_direct}")
        if total > most:
            problems.append(f"{crate}: {total} crates below it, at most {most}")
    return problems


def packages(offline):
    """Packages that a build with any of our features may take in, on any system, and which are ours."""
    data = json.loads(cargo("metadata", "--format-version", "1", "--locked", *offline))
    taken = tree(None, ["--all-features", "--target", "all"], offline, "-e", "normal,build")
    members = set(data["workspace_members"])
    return [p for p in data["packages"] if f"{p['name']} v{p['version']}" in taken], members


def build_scripts(found, members, offline):
    """No build script of ours; what others' download is known and optional."""
    problems, scripts = [], 0
    for package in found:
        for target in package["targets"]:
            if "custom-build" not in target["kind"]:
                continue
            scripts += 1
            if package["id"] in members:
                problems.append(f"{package['name']}: a build script of our own")
                continue
            text = Path(target["src_path"]).read_text(encoding="utf-8", errors="replace")
            match = DOWNLOADS.search(text)
            if match and package["name"] not in HARMLESS | DOWNLOADING:
                problems.append(f"{package['name']} {package['version']}: its build script has `{match.group(0)}`")
    print(f"build scripts: {scripts} with all features, all of the registry")
    others = tree(None, ["--features", "cli/ndarray,cli/wgpu,queue/hnsw", "--target", "all"], offline, "-e", "normal,build")
    names = {line.split()[0] for line in others}
    for name, feature in DOWNLOADING.items():
        print(f"  {name} downloads what it builds with; only with the feature {feature}")
        if name in names:
            problems.append(f"{name} downloads when it is built, and is needed without the feature {feature}")
    return problems


def licences(found, members):
    problems = [f"{name} is missing" for name in ("LICENSE-APACHE", "LICENSE-MIT", "Cargo.lock", "deny.toml", "SECURITY.md", "CHANGELOG.md")
                if not (ROOT / name).is_file()]
    for package in found:
        if package["id"] in members and package["license"] != "Apache-2.0 OR MIT":
            problems.append(f"{package['name']}: licence {package['license']}, expected Apache-2.0 OR MIT")
    print(f"licences: {len(members)} crates of ours, Apache-2.0 OR MIT; LICENSE-APACHE and LICENSE-MIT are there")
    return problems


def without_strings_and_comments(line):
    line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
    return line.split("//")[0]


def unsafe_code():
    """Unsafe code per file; each place says why it is sound."""
    problems, total = [], 0
    files = [path for folder in ("crates", "datasets", "experiments", "benches", "docs", "fuzz")
             for path in sorted((ROOT / folder).rglob("*.rs")) if "target" not in path.relative_to(ROOT).parts]
    print("unsafe code:")
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        lines = path.read_text(encoding="utf-8").splitlines()
        places = []
        for number, line in enumerate(lines):
            code = without_strings_and_comments(line)
            if not name.startswith(UNSAFE_HOME) and re.search(r"\ballow\(unsafe_code\)|\bunsafe\b\s*[{a-z]", code):
                problems.append(f"{name}:{number + 1}: unsafe code outside {UNSAFE_HOME}")
            if UNSAFE_BLOCK.search(code):
                places.append(number)
        for number in places:
            above = lines[max(0, number - REASON_LINES):number + 1]
            # A function that is unsafe to call states its contract in its documentation.
            contract = lines[max(0, number - 14):number]
            if not any("SAFETY:" in text for text in above) and not any("# Safety" in text for text in contract):
                problems.append(f"{name}:{number + 1}: unsafe code without its reason")
        if places:
            total += len(places)
            print(f"  {len(places):>3}  {name}")
    print(f"  {total:>3}  in all")
    return problems


def panics():
    """A panic of the tokenizer library is caught; with `panic = "abort"` it would end the server."""
    manifests = [ROOT / "Cargo.toml", *sorted((ROOT / "crates").glob("*/Cargo.toml"))]
    return [f"{path.relative_to(ROOT)}: panic = \"abort\"" for path in manifests
            if re.search(r'^\s*panic\s*=\s*"abort"', path.read_text(encoding="utf-8"), re.MULTILINE)]


def actions():
    """Actions of a hosted CI, if there ever are any, are pinned by hash."""
    problems = []
    folder = ROOT / ".github" / "workflows"
    for path in sorted(folder.glob("*.y*ml")) if folder.is_dir() else []:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            used = re.search(r"uses:\s*(\S+)", line)
            if used and not used.group(1).startswith("./") and not re.search(r"@[0-9a-f]{40}$", used.group(1)):
                problems.append(f"{path.name}:{number}: {used.group(1)} is not pinned by hash")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--offline", action="store_true", help="without network, from what cargo has")
    offline = ["--offline"] if parser.parse_args().offline else []
    found, members = packages(offline)
    problems = dependencies(offline) + build_scripts(found, members, offline) + licences(found, members) + unsafe_code() + panics() + actions()
    for problem in problems:
        print(f"WRONG: {problem}")
    print("nothing is wrong" if not problems else f"{len(problems)} things are wrong")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
