"""One JSON line about this machine, the versions and the load, for the table of benches/peers/run.sh.

    python machine.py before|after REPOSITORY MODEL_DIR

Run with the Python of the peers, so that the versions are theirs.
"""
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ["torch", "transformers", "sentence-transformers", "scikit-learn", "scipy", "numpy"]


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def first(pattern, text, default="unknown"):
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip() if found else default


def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def busy():
    """Commands that used most of a core lately, beside this one."""
    lines = output("ps", "-eo", "pcpu,comm", "--sort=-pcpu", "--no-headers").splitlines()
    rows = [line.split(None, 1) for line in lines[:8]]
    return [f"{name} {share}%" for share, name in rows if float(share) > 20]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    when, repository, model = sys.argv[1:]
    load = [round(value, 2) for value in os.getloadavg()]
    line = {"machine": when, "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), "load": load,
            "busy": busy()}
    if when == "before":
        cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        memory = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""
        flags = set(first(r"^flags\s*:(.*)$", cpu, "").split())
        wanted = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"]
        lock = (Path(repository) / "Cargo.lock").read_text()
        revision = output("git", "-C", repository, "rev-parse", "--short=12", "HEAD")
        if output("git", "-C", repository, "status", "--porcelain", "--untracked-files=no") not in ("", "unknown"):
            revision += " with local changes"
        config = json.loads((Path(model) / "config.json").read_text())
        line |= {
            "processor": first(r"^model name\s*:(.*)$", cpu, platform.processor() or "unknown"),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "instructions": [flag for flag in wanted if flag in flags],
            "memory_gib": round(int(first(r"^MemTotal:\s*(\d+)", memory, "0")) / 2**20, 1),
            "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
            "rust": output("rustc", "-V"),
            "burn": first(r'name = "burn"\nversion = "([^"]+)"', lock),
            "revision": revision,
            "python": platform.python_version(),
            "versions": {package: version(package) for package in PACKAGES},
            "threads": int(os.environ.get("THREADS", "2")),
            "model": {name: config[name] for name in (
                "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
                "max_position_embeddings")},
        }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
