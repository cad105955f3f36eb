"""Input files of benches/peers/run.sh, made once and read by both sides.

    python inputs.py texts TSV COLUMN[,COLUMN] COUNT OUT     one text a line, evenly spread over the rows
    python inputs.py head DATA_DIR ROWS OUT_DIR              train.tsv and test.tsv cut to ten fine classes and ROWS rows

TSV files have a header line and no quoting.
"""
import sys
from pathlib import Path


def table(path):
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    rows = [line.split("\t") for line in lines if line]
    return rows[0], rows[1:]


def spread(items, count):
    """`count` of the items (all if there are fewer) at even distances, in their order."""
    count = min(count, len(items))
    return [items[at * len(items) // count] for at in range(count)]


def texts(path, columns, count, out):
    header, rows = table(path)
    at = [header.index(column) for column in columns.split(",")]
    found = [row[column] for row in rows for column in at if row[column].strip()]
    Path(out).write_text("".join(text + "\n" for text in spread(found, int(count))), encoding="utf-8")


def head(data, rows, out):
    Path(out).mkdir(parents=True, exist_ok=True)
    header, lines = table(Path(data) / "train.tsv")
    fine = header.index("fine")
    labels = spread(sorted({line[fine] for line in lines}), 10)
    most = int(rows) // len(labels)
    for name in ("train.tsv", "test.tsv"):
        header, lines = table(Path(data) / name)
        kept = [line for label in labels for line in [line for line in lines if line[fine] == label][:most]]
        text = "".join("\t".join(line) + "\n" for line in [header, *kept])
        (Path(out) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    commands = {"texts": (texts, 4), "head": (head, 3)}
    command, count = commands.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if command is None or len(sys.argv) != count + 2:
        sys.exit(__doc__)
    command(*sys.argv[2:])
