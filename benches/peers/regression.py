"""Compares the ratios of a new run of benches/peers/run.sh with a baseline. Standard library only.

    python regression.py LINES [BASELINE] [--allow PERCENT]
    python regression.py --self-test

BASELINE is the file in benches for the instruction set of LINES, unless given. A ratio (ours / peer of the medians) that rose by more than PERCENT (10)
is a regression. Ratios, not times: both sides of a pair ran in turn, so another machine or its load moves both.
Exit status: 0 no regression, 1 a regression, 2 nothing to compare or unreadable input.
"""
import argparse
import json
import sys
from pathlib import Path

import table

BASELINES = Path(__file__).resolve().parent.parent


def compare(new, old, allowed):
    """[(what, peer, old ratio, new ratio, change in percent, regressed)], and baseline items that were not run."""
    now = {(what, peer): ratio for what, peer, ratio in new}
    rows, missing = [], []
    for item in old["items"]:
        key = (item["what"], item["peer"])
        if key not in now:
            missing.append(key)
            continue
        change = (now[key] / item["ratio"] - 1) * 100
        rows.append((*key, item["ratio"], now[key], change, change > allowed))
    return rows, missing


def self_test():
    old = {"items": [{"what": "a", "peer": "torch", "ratio": 1.0}, {"what": "b", "peer": "torch", "ratio": 0.5},
                     {"what": "c", "peer": "torch", "ratio": 0.5}]}
    rows, missing = compare([("a", "torch", 1.09), ("b", "torch", 0.56), ("d", "torch", 9.0)], old, 10)
    assert [(row[0], row[5]) for row in rows] == [("a", False), ("b", True)], rows
    assert missing == [("c", "torch")]
    rows, _ = compare([("b", "torch", 0.2)], old, 10)
    assert not rows[0][5] and rows[0][4] < -50
    lines = [{"what": "a", "side": "ours", "ms": 3.0}, {"what": "a", "side": "torch", "ms": 2.0}]
    rows, _ = compare(table.ratios(table.grouped(lines)), table.baseline(lines), 10)
    assert len(rows) == 1 and rows[0][4] == 0.0
    print("regression.py: self-test passed")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="?")
    parser.add_argument("baseline", nargs="?")
    parser.add_argument("--allow", type=float, default=10.0, metavar="PERCENT")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.lines:
        parser.error("LINES is missing")
    try:
        lines = table.read(options.lines)
        baseline = Path(options.baseline or BASELINES / table.baseline_name(lines))
        new = table.ratios(table.grouped(lines))
        rows, missing = compare(new, json.loads(baseline.read_text(encoding="utf-8")), options.allow)
    except (OSError, ValueError, KeyError) as error:
        print(f"regression.py: {error}", file=sys.stderr)
        return 2
    for what, peer, before, after, change, regressed in rows:
        print(f"{'REGRESSED' if regressed else 'ok':9}  {before:8.4f} -> {after:8.4f}  {change:+6.1f} %  {what} [{peer}]")
    for what, peer in missing:
        print(f"not run    {what} [{peer}]")
    if not rows:
        print("nothing to compare", file=sys.stderr)
        return 2
    return int(any(row[5] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
