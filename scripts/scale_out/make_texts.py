"""Writes short texts for trying out large files: sentences of the bundled Pocket set, varied.

    python scripts/scale_out/make_texts.py 1000000 texts.tsv --seed 0

The same count and seed give the same bytes. Nearly all texts are different, so that the figures do
not profit from equal texts being computed once. The ending says what is written: .txt a text a line;
.tsv and .jsonl text and coarse label.
"""

import argparse
import json
import pathlib
import random

TRAIN = pathlib.Path(__file__).resolve().parents[2] / "datasets" / "pocket" / "train.tsv"
BEFORE = ["", "", "", "hello ", "hi ", "please ", "sorry ", "one question ", "can you help "]
AFTER = ["", "", "today", "tomorrow", "on monday", "again", "as soon as possible", "thank you"]


def rows(count, seed):
    """Pairs of text and coarse label."""
    source = [line.split("\t")[:2] for line in TRAIN.read_text("utf-8").splitlines()[1:]]
    chance = random.Random(seed)
    for _ in range(count):
        text, coarse = source[chance.randrange(len(source))]
        before = BEFORE[chance.randrange(len(BEFORE))]
        after = AFTER[chance.randrange(len(AFTER))]
        yield f"{before}{text} {after} {chance.randrange(100000)}".replace("  ", " "), coarse


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ending = options.file.rsplit(".", 1)[-1]
    if ending not in ("txt", "tsv", "jsonl"):
        parser.error("expected a .txt, .tsv or .jsonl file")
    with open(options.file, "w", encoding="utf-8", newline="\n") as out:
        if ending == "tsv":
            out.write("text\tcoarse\n")
        for text, coarse in rows(options.count, options.seed):
            if ending == "txt":
                out.write(f"{text}\n")
            elif ending == "tsv":
                out.write(f"{text}\t{coarse}\n")
            else:
                out.write(json.dumps({"text": text, "coarse": coarse}) + "\n")


if __name__ == "__main__":
    main()
