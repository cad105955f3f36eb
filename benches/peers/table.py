"""Result lines of benches/peers/run.sh to the table of a benchmark report. Standard library only.

    python table.py LINES [--markdown FILE] [--page PAGE] [--baseline DIR] [--command TEXT]
    python table.py --self-test

LINES has one JSON object a line: results (`what`, `side`, `ms`, `peak_rss_mb`, and what else a program reports), two
lines of machine.py, and `{"failed": COMMAND}` where a program failed. `--page` replaces what stands between the two
markers in a page of the book. `--baseline` writes the ratios for regression.py, one file
for each instruction set: baseline-avx512.json, baseline-avx2.json, baseline-portable.json.

A ratio is ours / peer of the medians over all rounds: below 1 we are faster.
"""
import argparse
import json
import re
import statistics
import sys
from pathlib import Path

OURS = "ours"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

# what, peer, largest allowed ratio of times
TIME_TARGETS = [
    (r"forward batch64 length(16|32|128)$", "torch", 1 / 1.2),
    (r"train batch64 length(16|32|128) dropout[\d.]+$", "torch", 1 / 1.2),
    (r"encode ", "sentence-transformers", 1 / 2),
    (r"epoch star ", "torch", 1 / 2),
    (r"epoch star ", "torch_pairwise", 1 / 20),
    (r"star 64x8954x\(384,128\)", "torch", 0.6),
    (r"kmeans (1031x384 K64|2250x384 K150) ", "scikit-learn", 1 / 3),
    (r"tsne 2250x384", "scikit-learn", 1.0),
]
# what, peer, largest allowed ratio of peak memory
MEMORY_TARGETS = [
    (r"encode ", "sentence-transformers", 1 / 2),
    (r"epoch star ", "torch", 1 / 2),
]
# what, largest allowed ratio of mean quality (inertia, Kullback-Leibler divergence: smaller is better)
QUALITY_TARGETS = [(r"kmeans ", 1.0), (r"tsne ", 1.01)]
# Reported for information, or part of the floor: no row in the baseline.
NO_BASELINE = re.compile(r"(gemm|memory) ")
SECTIONS = [
    ("Encoder", r"(\S+ )*(forward|train) "),
    ("Encoding texts", r"encode "),
    ("STAR-DOWN, one epoch", r"(epoch|step|refill) "),
    ("Clustering and projection", r"(kmeans|tsne) "),
    ("Rank correlation", r"spearman"),
    ("Objectives, forward and backward", r""),
]


def read(path):
    """Lines of a file as objects; a line that is not JSON is an error with its number."""
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
    return found


def grouped(lines):
    """{what: {side: [lines]}}, in order of appearance."""
    groups = {}
    for line in lines:
        if "what" in line and "ms" in line:
            groups.setdefault(line["what"], {}).setdefault(line.get("side", "?"), []).append(line)
    return groups


def spread(lines):
    """Smallest, median, largest time. Lines that stand for many steps carry their own `min` and `max`."""
    times = [line["ms"] for line in lines]
    return (min(line.get("min", line["ms"]) for line in lines), statistics.median(times),
            max(line.get("max", line["ms"]) for line in lines))


def ratios(groups):
    """[(what, peer, ratio)] of medians, for every peer beside our own side."""
    return [(what, peer, spread(sides[OURS])[1] / spread(lines)[1])
            for what, sides in groups.items() if OURS in sides
            for peer, lines in sides.items() if peer != OURS]


def target(table, what, peer=None):
    for row in table:
        if re.match(row[0], what) and (peer is None or row[1] == peer):
            return row[-1]
    return None


def number(value):
    if value is None:
        return ""
    size = abs(value)
    return f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.4f}"


def verdict(ratio, limit):
    # One part in a million for equal results that were summed in another order.
    return ["", ""] if limit is None else [f"at most {limit:.3g}", "yes" if ratio <= limit * (1 + 1e-6) else "**no**"]


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def peak(lines):
    found = [line["peak_rss_mb"] for line in lines if line.get("peak_rss_mb")]
    return max(found) if found else None


def name_of(peer, lines):
    return peer + (", extrapolated" if any(line.get("extrapolated") for line in lines) else "")


def times_table(groups):
    rows = []
    for what, sides in groups.items():
        ours = sides.get(OURS)
        mine = " / ".join(map(number, spread(ours))) if ours else "not measured"
        peers = [(peer, lines) for peer, lines in sides.items() if peer != OURS]
        for peer, lines in peers:
            theirs = spread(lines)
            row = [what, name_of(peer, lines), f"{len(ours or [])}, {len(lines)}", mine, " / ".join(map(number, theirs))]
            if ours:
                ratio = spread(ours)[1] / theirs[1]
                row += [f"{ratio:.3f}", f"{1 / ratio:.2f}", *verdict(ratio, target(TIME_TARGETS, what, peer))]
            rows.append(row + [""] * (9 - len(row)))
        if not peers:
            rows.append([what, "none", f"{len(ours)}", mine] + [""] * 5)
    return markdown(["what", "peer", "runs", "ours ms", "peer ms", "ratio", "times as fast", "target", "met"], rows)


def memory_table(groups):
    rows = []
    for what, sides in groups.items():
        mine = peak(sides.get(OURS, []))
        for peer, lines in sides.items():
            theirs = peak(lines)
            if peer != OURS and mine and theirs:
                ratio = mine / theirs
                rows.append([what, peer, number(mine), number(theirs), f"{ratio:.3f}",
                             *verdict(ratio, target(MEMORY_TARGETS, what, peer))])
    return markdown(["what", "peer", "ours MiB", "peer MiB", "ratio", "target", "met"], rows)


def quality_table(groups):
    rows = []
    for what, sides in groups.items():
        means = {side: statistics.fmean(values) for side, lines in sides.items()
                 if (values := [line["quality"] for line in lines if line.get("quality") is not None])}
        for peer, value in means.items():
            if peer != OURS and OURS in means:
                ratio = means[OURS] / value if value else float("nan")
                rows.append([what, peer, f"{means[OURS]:.6g}", f"{value:.6g}", f"{ratio:.5f}",
                             *verdict(ratio, target(QUALITY_TARGETS, what))])
    return markdown(["what", "peer", "ours", "peer", "ratio", "target", "met"], rows) if rows else ""


def agreement_table(groups):
    """Largest relative difference of the values both sides print, for one and the same input."""
    rows = []
    for what, sides in groups.items():
        for peer, lines in sides.items():
            if peer == OURS or OURS not in sides:
                continue
            found = []
            for field in ("check", "value", "gradient_norm"):
                mine, theirs = sides[OURS][0].get(field), lines[0].get(field)
                if isinstance(mine, (int, float)) and isinstance(theirs, (int, float)):
                    found.append(f"{field} {abs(mine - theirs) / max(abs(theirs), 1e-30):.1e}")
            if found:
                rows.append([what, peer, ", ".join(found)])
    return markdown(["what", "peer", "relative difference"], rows) if rows else ""


def rate_table(groups):
    rows = []
    for what, sides in groups.items():
        rates = {side: statistics.median(line["sentences_per_s"] for line in lines) for side, lines in sides.items()
                 if all("sentences_per_s" in line for line in lines)}
        rows += [[what, peer, number(rates[OURS]), number(rate)] for peer, rate in rates.items()
                 if peer != OURS and OURS in rates]
    return markdown(["what", "peer", "ours, sentences/s", "peer, sentences/s"], rows) if rows else ""


def layer_work(model, batch, length, training):
    """FLOP of the matrix products, and bytes that must pass through memory, of one pass over a batch.

    FLOP of a forward pass: layers * (2 tokens (4 hidden^2 + 2 hidden inner) + 4 tokens length hidden); a training step
    has three times as many. Bytes: 6 hidden + inner floats a token and layer written once and read once (query, key,
    value, context, two sums, inner activation), and the weights of the layers read once; a training step has three times
    that, and AdamW reads four and writes three floats a parameter, after the gradient was written once.
    """
    h, inner, layers = model["hidden_size"], model["intermediate_size"], model["num_hidden_layers"]
    tokens = batch * length
    weights = layers * (4 * h * h + 2 * h * inner)
    flop = 2 * tokens * weights + layers * 4 * tokens * length * h
    size = 4 * (layers * tokens * 2 * (6 * h + inner) + weights)
    if not training:
        return flop, size
    parameters = weights + h * (model["vocab_size"] + model["max_position_embeddings"])
    return 3 * flop, 3 * size + 4 * 8 * parameters


def floor_tables(groups, model):
    measured, rates = [], {}
    for what, sides in groups.items():
        if not re.match(r"(gemm|memory) ", what):
            continue
        unit = "gflops" if what.startswith("gemm") else "gb_s"
        for side, lines in sides.items():
            values = sorted(line[unit] for line in lines)
            middle = statistics.median(values)
            measured.append([what, side, f"{number(values[0])} / {number(middle)} / {number(values[-1])}",
                             "GFLOP/s" if unit == "gflops" else "GB/s"])
            kind = what.split()[1] if unit == "gflops" else "memory"
            rates[kind] = max(rates.get(kind, 0), middle)
    if not measured:
        return ""
    text = markdown(["what", "side", "min / median / max", "unit"], measured)
    products = ["forward", "input_gradient", "weight_gradient"]
    if not model or not all(kind in rates for kind in [*products, "memory"]):
        return text
    rows = []
    for what, sides in groups.items():
        found = re.match(r"(forward|train) batch(\d+) length(\d+)( dropout[\d.]+)?$", what)
        if not found or OURS not in sides:
            continue
        training = found[1] == "train"
        flop, size = layer_work(model, int(found[2]), int(found[3]), training)
        if training:
            product = sum(flop / 3 / rates[kind] for kind in products) * 1e-6
        else:
            product = flop / rates["forward"] * 1e-6
        memory = size / rates["memory"] * 1e-6
        ours = spread(sides[OURS])[1]
        row = [what, number(flop * 1e-9), number(product), number(size * 1e-9), number(memory), number(ours),
               f"{ours / (product + memory):.2f}"]
        torch = sides.get("torch")
        rows.append(row + [f"{spread(torch)[1] / (product + memory):.2f}" if torch else ""])
    return text + "\n" + markdown(
        ["what", "GFLOP", "products ms", "GB", "memory ms", "ours ms", "ours / floor", "torch / floor"], rows)


def machine_table(lines, command):
    before, after = machine(lines), machine(lines, "after")

    def load(line):
        if not line:
            return "unknown"
        return " ".join(map(str, line["load"])) + (f" ({', '.join(line['busy'])})" if line.get("busy") else "")

    rows = [
        ["date", f"{before.get('date', 'unknown')} to {after.get('date', 'unknown')}"],
        ["processor", f"{before.get('processor', 'unknown')}, {before.get('cores', '?')} cores, "
                      f"{' '.join(before.get('instructions', []))}"],
        ["memory", f"{before.get('memory_gib', '?')} GiB"],
        ["system", before.get("system", "unknown")],
        ["Rust, burn", f"{before.get('rust', 'unknown')}, {before.get('burn', 'unknown')}"],
        ["revision", before.get("revision", "unknown")],
        ["peers", f"Python {before.get('python', '?')}, " + ", ".join(
            f"{name} {version}" for name, version in before.get("versions", {}).items())],
        ["threads", f"{before.get('threads', '?')} on both sides"],
        ["load average before (busy)", load(before)],
        ["load average after (busy)", load(after)],
    ]
    if command:
        rows.append(["command", f"`{command}`"])
    return markdown(["", ""], rows), before.get("model")


def report(lines, command=""):
    groups = grouped(lines)
    where, model = machine_table(lines, command)
    parts = ["### Where\n", where]
    floors = floor_tables(groups, model)
    if floors:
        parts += ["### Floor\n", floors]
    left = {what: sides for what, sides in groups.items() if not re.match(r"(gemm|memory) ", what)}
    for title, pattern in SECTIONS:
        chosen = {what: sides for what, sides in left.items() if re.match(pattern, what)}
        left = {what: sides for what, sides in left.items() if what not in chosen}
        if chosen:
            parts += [f"### {title}\n", times_table(chosen)]
            if rates := rate_table(chosen):
                parts.append(rates)
    timed = {what: sides for what, sides in groups.items() if not re.match(r"(gemm|memory) ", what)}
    parts += ["### Peak memory of the process\n", memory_table(timed)]
    if quality := quality_table(timed):
        parts += ["### Quality, mean over the runs\n", quality]
    if agreement := agreement_table(timed):
        parts += ["### Agreement of both sides\n", agreement]
    failed = [line["failed"] for line in lines if "failed" in line]
    if failed:
        parts += ["### Failed\n", "".join(f"- `{command}`\n" for command in failed)]
    return "\n".join(parts)


def replaced(page, text):
    """`page` with `text` between its markers."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"expected {BEGIN} and {END} once each, in this order")
    return page[:page.index(BEGIN) + len(BEGIN)] + "\n\n" + text.strip() + "\n\n" + page[page.index(END):]


def machine(lines, when="before"):
    return next((line for line in lines if line.get("machine") == when), {})


def baseline_name(lines):
    """File of the baseline of this machine's instruction set, which decides most ratios."""
    instructions = machine(lines).get("instructions", [])
    level = next((name for name, flag in (("avx512", "avx512f"), ("avx2", "avx2")) if flag in instructions), "portable")
    return f"baseline-{level}.json"


def baseline(lines):
    before = machine(lines)
    kept = {name: before[name] for name in ("date", "processor", "cores", "instructions", "threads", "revision",
                                            "versions", "load") if name in before}
    items = [{"what": what, "peer": peer, "ratio": round(ratio, 4)} for what, peer, ratio in ratios(grouped(lines))
             if not NO_BASELINE.match(what)]
    return {"ratio": "ours / peer of the medians", "machine": kept, "items": items}


def self_test():
    lines = [{"machine": "before", "load": [0.1, 0.2, 0.3], "busy": [], "date": "a", "processor": "p", "cores": 2,
              "model": {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2, "vocab_size": 10,
                        "max_position_embeddings": 6}}]
    for side, times, memory in [(OURS, [2.0, 1.0, 3.0], 50), ("torch", [4.0, 5.0, 3.0], 200)]:
        lines += [{"what": "forward batch64 length32", "side": side, "ms": ms, "peak_rss_mb": memory, "check": 2.0}
                  for ms in times]
    for side, ms, extra in [(OURS, 10.0, {}), ("torch", 15.0, {}), ("torch_pairwise", 300.0, {"extrapolated": True})]:
        lines.append({"what": "epoch star x", "side": side, "ms": ms, "peak_rss_mb": 1.0} | extra)
    for side, quality in [(OURS, 1.0), ("scikit-learn", 2.0)]:
        lines.append({"what": "kmeans 1031x384 K64 n_init20", "side": side, "ms": 1.0, "quality": quality})
    for kind in ("forward", "input_gradient", "weight_gradient"):
        lines.append({"what": f"gemm {kind} 2x2x2", "side": OURS, "ms": 1.0, "gflops": 2.0})
    lines.append({"what": "memory copy", "side": OURS, "ms": 1.0, "gb_s": 1.0})
    lines.append({"failed": "x y"})
    groups = grouped(lines)
    assert spread(groups["forward batch64 length32"][OURS]) == (1.0, 2.0, 3.0)
    assert spread([{"ms": 5.0, "min": 1.0, "max": 9.0}]) == (1.0, 5.0, 9.0)
    found = {(what, peer): ratio for what, peer, ratio in ratios(groups)}
    assert found[("forward batch64 length32", "torch")] == 0.5
    text = report(lines, "run.sh")
    row = next(line for line in text.splitlines() if line.startswith("| forward batch64 length32 | torch | 3, 3"))
    assert "1.00 / 2.00 / 3.00 | 3.00 / 4.00 / 5.00 | 0.500 | 2.00 | at most 0.833 | yes |" in row, row
    row = next(line for line in text.splitlines() if line.startswith("| epoch star x | torch |"))
    assert "0.667 | 1.50 | at most 0.5 | **no** |" in row, row
    row = next(line for line in text.splitlines() if "torch_pairwise, extrapolated" in line)
    assert "| at most 0.05 | yes |" in row, row
    assert "| kmeans 1031x384 K64 n_init20 | scikit-learn | 1 | 2 | 0.50000 | at most 1 | yes |" in text
    assert "check 0.0e+00" in text and "- `x y`" in text
    assert "| epoch star x | torch | 1.00 | 1.00 | 1.000 | at most 0.5 | **no** |" in text
    # Two layers, 1 x 3 tokens: 2 * 3 * 2 * (64 + 64) products of weights, 2 * 4 * 3 * 3 * 4 of attention.
    model = lines[0]["model"]
    assert layer_work(model, 1, 3, False) == (1536 + 288, 4 * (2 * 3 * 2 * 32 + 256))
    assert layer_work(model, 1, 3, True)[0] == 3 * (1536 + 288)
    assert "| ours / floor |" in text
    page = replaced(f"a\n{BEGIN}\nold\n{END}\nb\n", "new")
    assert page == f"a\n{BEGIN}\n\nnew\n\n{END}\nb\n"
    assert replaced(page, "new") == page
    try:
        replaced("no markers", "new")
    except ValueError:
        pass
    else:
        raise AssertionError("a page without markers was accepted")
    kept = baseline(lines)
    assert baseline_name(lines) == "baseline-portable.json"
    assert baseline_name([{"machine": "before", "instructions": ["avx2", "avx512f"]}]) == "baseline-avx512.json"
    assert {"what": "epoch star x", "peer": "torch", "ratio": 0.6667} in kept["items"]
    assert all(not item["what"].startswith("gemm") for item in kept["items"])
    print("table.py: self-test passed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="?")
    parser.add_argument("--markdown")
    parser.add_argument("--page")
    parser.add_argument("--baseline")
    parser.add_argument("--command", default="")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.lines:
        parser.error("LINES is missing")
    lines = read(options.lines)
    text = report(lines, options.command)
    if options.markdown:
        Path(options.markdown).write_text(text, encoding="utf-8")
    if options.page:
        page = Path(options.page)
        page.write_text(replaced(page.read_text(encoding="utf-8"), text), encoding="utf-8")
    if options.baseline:
        Path(options.baseline, baseline_name(lines)).write_text(
            json.dumps(baseline(lines), indent=1) + "\n", encoding="utf-8")
    if not (options.markdown or options.page or options.baseline):
        print(text)


if __name__ == "__main__":
    sys.exit(main())
