"""Time and memory against bank size, length and batch: runs the sizes, then draws them. Standard library only.

    python scaling.py run  --bin DIR --points FILE [--model DIR [--peers PYTHON]] [--quick|--long]
    python scaling.py plot --points FILE --out DIR
    python scaling.py --self-test

`run` starts one process a size, because the peak of memory is that of a process: the example `scaling` for banks of
10^4, 10^5 and 10^6 rows of 384, and with a model directory `encoder_step` for lengths 8 to 256 at batch 64 and batches
8 to 256 at length 32, in turn with encoder_step.py if a Python with torch is given. `--long` adds the index over 10^6
rows, whose construction takes a while. `plot` writes
scaling-{bank,length,batch}.svg: median time and peak memory, both axes logarithmic.
"""
import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path

LENGTHS = BATCHES = [8, 16, 32, 64, 128, 256]
# command of the example `scaling`, its bank sizes. All lists of 10^6 rows would be 770 TFLOP; STAR holds several
# matrices of [rows, 512] there.
BANKS = {
    "search": [10**4, 10**5, 10**6],
    "lists": [10**4, 10**5],
    "down": [10**4, 10**5, 10**6],
    "star": [10**4, 10**5],
    "approximate": [10**4, 10**5],
}
BANK_LABELS = {
    "search exact": "1,024 queries, exact",
    "search approximate": "1,024 queries by the index",
    "build approximate": "construction of the index",
    "lists exact": "lists of all rows, exact",
}
COLOURS = ["#0b6bcb", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be123c", "#0f766e", "#475569"]


def run(options):
    commands = []
    for what, sizes in BANKS.items():
        if what == "approximate" and options.long:
            sizes = [*sizes, 10**6]
        for rows in sizes[:1] if options.quick else sizes:
            runs = 1 if what == "lists" and rows > 10**4 else 3
            for storage in ["f32", "f16"] if what == "search" else ["f32"]:
                commands.append([f"{options.bin}/scaling", what, str(rows), str(runs), storage])
    shapes = [(64, length) for length in LENGTHS] + [(batch, 32) for batch in BATCHES if batch != 64]
    if options.quick:
        shapes = [(8, 8), (8, 16)]
    for batch, length in shapes if options.model else []:
        for kind in ("forward", "train"):
            step = [options.model, str(batch), str(length), "2" if options.quick else "3", "0", kind]
            commands.append([f"{options.bin}/encoder_step", *step])
            if options.peers:
                commands.append([options.peers, str(Path(__file__).parent / "encoder_step.py"), *step])
    status = 0
    with open(options.points, "w", encoding="utf-8") as points:
        for command in commands:
            name = " ".join(Path(word).name for word in command)
            print(name, file=sys.stderr, flush=True)
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            points.write(done.stdout)
            if done.returncode:
                print(f"  failed with {done.returncode}: {done.stderr[-300:]}", file=sys.stderr)
                points.write(json.dumps({"failed": name}) + "\n")
                status = 1
            points.flush()
    return status


def series(lines, pattern, label):
    """{label: [(x, median ms, peak MiB)]} of the results whose `what` matches; the group `x` is the abscissa."""
    found = {}
    for line in lines:
        match = re.fullmatch(pattern, line.get("what", ""))
        if match:
            name = label(match, line["side"])
            found.setdefault(name, {}).setdefault(int(match["x"]), []).append(line)
    return {name: [(x, statistics.median(line["ms"] for line in at),
                    max(line.get("peak_rss_mb") or 0 for line in at)) for x, at in sorted(points.items())]
            for name, points in found.items()}


def encoder_label(match, side):
    kind = "training step" if match["kind"] == "train" else "forward"
    return f"{kind}, {side}"


def figures(lines):
    bank = series(lines, r"(?P<kind>(?:search|lists|build) (?:exact|approximate)) (?P<store>f\d+) (?P<x>\d+)x\d+(?: queries\d+)?",
                  lambda m, _: f"{BANK_LABELS[m['kind']]}, {m['store']}")
    bank |= series(lines, r"(?P<kind>star|down) 64x(?P<x>\d+)x384", lambda m, _: f"{m['kind'].upper()}, 64 queries")
    length = series(lines, r"(?P<kind>forward|train) batch64 length(?P<x>\d+)(?: dropout0)?", encoder_label)
    batch = series(lines, r"(?P<kind>forward|train) batch(?P<x>\d+) length32(?: dropout0)?", encoder_label)
    return {
        "scaling-bank": ("Bank rows of 384 dimensions", bank),
        "scaling-length": ("Tokens a text, batch 64", length),
        "scaling-batch": ("Texts a batch, length 32", batch),
    }


def ticks(low, high):
    """Powers of ten within the range; over less than three decades their double and fivefold too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [1] if high >= 1000 * low else [1, 2, 5]
    return [step * 10**power for power in range(first, last + 1) for step in steps
            if low * 0.999 <= step * 10**power <= high * 1.001]


def compact(value):
    for limit, unit in ((10**6, "M"), (10**3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def panel(left, title, xlabel, curves, index):
    """One logarithmic plot, 360 x 260 with margins, of value `index` of every point."""
    width, height, top = 270, 190, 40
    points = [(point[0], point[index]) for curve in curves.values() for point in curve if point[index] > 0]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys) / 1.3, max(ys) * 1.3
    x1 = x1 if x1 > x0 else 2 * x0

    def at(x, y):
        return (left + width * math.log(x / x0) / math.log(x1 / x0),
                top + height * (1 - math.log(y / y0) / math.log(y1 / y0)))

    parts = [f'<text x="{left + width / 2:.0f}" y="24" text-anchor="middle" font-weight="bold">{title}</text>',
             f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#64748b"/>']
    for x in sorted(set(xs)):
        px, _ = at(x, y1)
        parts.append(f'<path d="M{px:.1f} {top}V{top + height}" stroke="#e2e8f0"/>'
                     f'<text x="{px:.1f}" y="{top + height + 15}" text-anchor="middle">{compact(x)}</text>')
    for y in ticks(y0, y1):
        _, py = at(x0, y)
        parts.append(f'<path d="M{left} {py:.1f}H{left + width}" stroke="#e2e8f0"/>'
                     f'<text x="{left - 5}" y="{py + 4:.1f}" text-anchor="end">{compact(y)}</text>')
    parts.append(f'<text x="{left + width / 2:.0f}" y="{top + height + 33}" text-anchor="middle">{xlabel}</text>')
    for number, curve in enumerate(curves.values()):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(point[0], point[index]) for point in curve if point[index] > 0]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in places]
    return "\n".join(parts)


def svg(xlabel, curves):
    legend = []
    for number, name in enumerate(curves):
        x, y = 55 + 345 * (number % 2), 292 + 18 * (number // 2)
        colour = COLOURS[number % len(COLOURS)]
        name = name.replace("&", "&amp;").replace("<", "&lt;")
        legend.append(f'<rect x="{x}" y="{y - 9}" width="14" height="4" fill="{colour}"/>'
                      f'<text x="{x + 20}" y="{y - 3}">{name}</text>')
    height = 292 + 18 * math.ceil(len(curves) / 2)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="700" height="{height}" fill="#fff"/>',
        panel(55, "median time, ms", xlabel, curves, 1),
        panel(400, "peak memory of the process, MiB", xlabel, curves, 2),
        *legend, "</svg>", ""])


def plot(options):
    lines = [json.loads(line) for line in Path(options.points).read_text(encoding="utf-8").splitlines() if line]
    for name, (xlabel, curves) in figures(lines).items():
        if curves:
            text = svg(xlabel, curves)
            (Path(options.out) / f"{name}.svg").write_text(text, encoding="utf-8")
            print(f"{name}.svg: {len(curves)} curves, {len(text)} bytes")
    return 0


def self_test():
    import xml.etree.ElementTree as tree

    lines = []
    for length in LENGTHS:
        for side in ("ours", "torch"):
            for ms in (length, 3 * length, 2 * length):
                lines.append({"what": f"forward batch64 length{length}", "side": side, "ms": ms, "peak_rss_mb": length})
    lines += [{"what": f"search exact f16 {rows}x384 queries1024", "side": "ours", "ms": rows / 10, "peak_rss_mb": 5}
              for rows in (10**4, 10**6)]
    lines += [{"what": "train batch8 length32 dropout0", "side": "ours", "ms": 4, "peak_rss_mb": 5}, {"failed": "x"}]
    found = figures(lines)
    assert found["scaling-length"][1]["forward, torch"][0] == (8, 16, 8)
    assert found["scaling-bank"][1] == {"1,024 queries, exact, f16": [(10**4, 1000.0, 5), (10**6, 100000.0, 5)]}
    assert found["scaling-batch"][1]["training step, ours"] == [(8, 4, 5)]
    assert ticks(9, 1100) == [10, 20, 50, 100, 200, 500, 1000] and ticks(1, 10**5) == [1, 10, 100, 1000, 10**4, 10**5]
    assert compact(10**6) == "1M" and compact(2500) == "2.5k" and compact(8) == "8"
    for xlabel, curves in found.values():
        text = svg(xlabel, curves)
        root = tree.fromstring(text)
        assert len(text) < 40_000
        marks = [node for node in root.iter() if node.tag.endswith("circle")]
        assert len(marks) == 2 * sum(map(len, curves.values()))
        for node in marks:
            assert 0 <= float(node.get("cx")) <= 700 and 0 <= float(node.get("cy")) <= 300, node.attrib
    print("scaling.py: self-test passed")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true")
    commands = parser.add_subparsers(dest="command")
    runs = commands.add_parser("run")
    runs.add_argument("--bin", required=True)
    runs.add_argument("--points", required=True)
    runs.add_argument("--model")
    runs.add_argument("--peers")
    runs.add_argument("--quick", action="store_true")
    runs.add_argument("--long", action="store_true")
    plots = commands.add_parser("plot")
    plots.add_argument("--points", required=True)
    plots.add_argument("--out", required=True)
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if options.command is None:
        parser.error("run or plot")
    return {"run": run, "plot": plot}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
