"""What helps and what hurts in STAR-DOWN, chosen on training data only.

    python scripts/ablations.py --data data/hwu64 --model MODEL --out runs/ablations \\
        --set train.epochs=5 --set pretrain.epochs=3 [CONFIG.toml ...]

A fifth of the rows of every label of DATA/train.tsv, those with the smallest hashes, is held out and takes the place of the test file;
DATA/test.tsv is never read. `star_down` then runs once without a config (the row `as given`) and once with each CONFIG (default: all of
experiments/configs/ablations), all with the same `--set` values. A CONFIG wins over `--set` for the keys that it names. Runs that have
ended are kept, interrupted ones are resumed, so the command can be repeated.

Prints a Markdown table: scores of the last stage on the held-out rows in percent, mean and standard deviation over the seeds, and
the mean difference to `as given`, seed by seed, under the floor of the frozen encoder. Python's standard library is enough.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "as given"
FLOOR = "frozen encoder"
METRICS = ("acc", "ari", "nmi")
HELD_OUT = 5


def split(data, target):
    """Writes the two parts of DATA/train.tsv as train.tsv and test.tsv."""
    header, *rows = (data / "train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    by_label = {}
    for row in rows:
        by_label.setdefault(row.rstrip("\r\n").rsplit("\t", 1)[-1], set()).add(row)
    held_out = set()
    for same in by_label.values():
        by_hash = sorted(same, key=lambda row: hashlib.sha256(row.encode()).hexdigest())
        held_out.update(by_hash[: len(same) // HELD_OUT])
    target.mkdir(parents=True, exist_ok=True)
    for name, part in (("train.tsv", False), ("test.tsv", True)):
        kept = [row for row in rows if (row in held_out) == part]
        if not kept:
            sys.exit(f"ablations.py: {data / 'train.tsv'}: too few rows to hold some out")
        (target / name).write_text(header + "".join(kept), encoding="utf-8")
    if (data / "coarse_map.tsv").exists():
        shutil.copy(data / "coarse_map.tsv", target)


def named_keys(config, prefix=""):
    """The dotted keys that a config sets."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from named_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def run(program, config, settings, run_dir):
    """The result of a run, made, continued or found."""
    result = run_dir / "result.json"
    if not result.exists():
        if run_dir.exists():
            command = [program, "--resume", run_dir]
        else:
            command = [program, "--out", run_dir]
            own = set(named_keys(tomllib.loads(config.read_text()))) if config else set()
            command += ["--config", config] if config else []
            for setting in settings:
                if setting.split("=", 1)[0] not in own:
                    command += ["--set", setting]
        status = subprocess.run([str(word) for word in command], check=False).returncode
        if status:
            sys.exit(f"ablations.py: {program} ended with status {status}")
    return json.loads(result.read_text())


def scores(result, inference, stage=None):
    """Scores of a stage, or of the last one, by seed."""
    rows = [row for row in result["rows"] if row["inference"] == inference]
    stage = stage or rows[-1]["stage"]
    return {row["seed"]: row for row in rows if row["stage"] == stage}


def cell(values):
    mean = f"{100 * statistics.mean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean


def table(results):
    lines = [
        "| settings | ACC | ARI | NMI | ACC by centroid | difference in ACC | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    base = scores(results[BASE], "cluster")
    rows = [(FLOOR, results[BASE], "frozen"), *((name, result, None) for name, result in results.items())]
    for name, result, stage in rows:
        own, centroid = scores(result, "cluster", stage), scores(result, "centroid", stage)
        differences = [own[seed]["acc"] - base[seed]["acc"] for seed in own if seed in base]
        cells = [name] + [cell([row[metric] for row in own.values()]) for metric in METRICS]
        cells.append(cell([row["acc"] for row in centroid.values()]))
        cells.append("" if name == BASE or not differences else f"{100 * statistics.mean(differences):+.2f}")
        cells.append("" if name == FLOOR else f"{result['total_s'] / 60:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--program", default="target/release/star_down")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("configs", nargs="*", type=Path, metavar="CONFIG.toml")
    args = parser.parse_args()
    configs = args.configs or sorted((ROOT / "experiments/configs/ablations").glob("*.toml"))
    # The name of the data set decides defaults of `star_down`.
    held_out = args.out / "data" / args.data.resolve().name
    split(args.data, held_out)
    settings = [f"data={held_out.resolve()}", f"model={args.model.resolve()}", "train.objective=star"]
    settings = ['stages=["frozen","pretrain","train"]', *settings, *args.settings]
    results = {}
    for name, config in [(BASE, None), *((config.stem, config) for config in configs)]:
        print(f"# {name}", file=sys.stderr)
        results[name] = run(args.program, config, settings, args.out / name.replace(" ", "_"))
        text = table(results)
        (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
