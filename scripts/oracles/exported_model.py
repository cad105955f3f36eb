#!/usr/bin/env python3
"""Opens a model directory in Python sentence-transformers and compares its vectors with those of `asterism encode`.

    python scripts/oracles/exported_model.py --write-texts TEXTS.txt
    asterism encode --model DIR --json --file TEXTS.txt > VECTORS.jsonl
    python scripts/oracles/exported_model.py DIR VECTORS.jsonl

The 200 texts are made here: ordinary sentences, the empty text, single tokens, texts far beyond the longest length,
scripts other than Latin, emoji, control characters. Prints the smallest cosine and the largest difference of a number,
and exits with 1 where a cosine is below 0.99999 or a text differs from the one that was encoded. Further pairs of directory and file may
follow.
"""
import json
import sys

import numpy as np

LEAST = 0.99999
SUBJECTS = ["The cat", "A tall man", "Our neighbour", "Nobody", "The old library", "My first computer", "The committee"]
VERBS = ["watches", "cannot find", "has painted", "will sell", "is afraid of", "remembers"]
OBJECTS = ["the river", "a red bicycle", "two loaves of bread", "the last train to Leeds", "its own shadow"]
SPECIAL = [
    "", " ", "a", "!", "word", "x" * 300, "\u00e9", "I", "7", "...", "\u4eca", "\U0001f600",
    "\u4eca\u5929\u5929\u6c14\u600e\u4e48\u6837\uff1f", "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "Stra\u00dfe, na\u00efve, \u0130stanbul, \ufb01ne",
    "I \u2764\ufe0f this \U0001f680\U0001f680", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family",
    "flags \U0001f1e9\U0001f1ea\U0001f1ef\U0001f1f5", "combining e\u0301 and \u00e9", "tabs\tinside", "zero\u200bwidth",
    "soft\u00adhyphen", "\ufeffbom", "full\uff57\uff49\uff44\uff54\uff48", "1,234.56 \u20ac and 20 %", "https://example.org/?q=a&b=c",
    "e-mail: nobody@example.org", "C++ && !x || y[0] == '\\n'", "ALL CAPS SHOUTING", "MiXeD cAsE", "don't can't won't",
    "\u201cquoted\u201d \u2018text\u2019 \u2014 dash", "[CLS] special [SEP] words [MASK]", "<s> angle </s> <mask>",
    "a  b   c", " leading and trailing ",
]


def texts():
    ordinary = [f"{s} {v} {o}." for s in SUBJECTS for v in VERBS for o in OBJECTS]
    # A fixed spread over all combinations, then texts of many lengths.
    found = SPECIAL + [ordinary[(37 * i) % len(ordinary)] for i in range(200 - len(SPECIAL) - 20)]
    long = " ".join(ordinary)
    return found + [long[: 50 * 2 ** (i % 10)] for i in range(19)] + ["word " * 3000]


def check(directory, vectors):
    from sentence_transformers import SentenceTransformer
    with open(vectors, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    wanted = texts()
    if [row["text"] for row in rows] != wanted:
        print(f"{vectors}: other texts than this script's ({len(rows)} of {len(wanted)})")
        return False
    model = SentenceTransformer(directory, device="cpu")
    theirs = model.encode(wanted, batch_size=16, show_progress_bar=False).astype(np.float64)
    ours = np.array([row["vector"] for row in rows], dtype=np.float64)
    if ours.shape != theirs.shape:
        print(f"{vectors}: {ours.shape}, in Python {theirs.shape}")
        return False
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    worst = int(cosine.argmin())
    good = bool(cosine.min() >= LEAST)
    print(f"{directory}: {len(wanted)} texts, smallest cosine {cosine.min():.9f} at {wanted[worst][:40]!r}, "
          f"largest difference {np.abs(ours - theirs).max():.2e}: {'ok' if good else 'BELOW ' + str(LEAST)}")
    return good


def main(arguments):
    if arguments[:1] == ["--write-texts"]:
        with open(arguments[1], "w", encoding="utf-8", newline="") as f:
            f.writelines(text + "\n" for text in texts())
        return
    pairs = list(zip(arguments[0::2], arguments[1::2]))
    if not pairs or len(arguments) % 2:
        sys.exit(__doc__)
    sys.exit(0 if all([check(directory, vectors) for directory, vectors in pairs]) else 1)


if __name__ == "__main__":
    assert len(texts()) == 200
    main(sys.argv[1:])
