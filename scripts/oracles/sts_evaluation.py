"""STS scores of a model directory by sentence-transformers and scipy, to compare with `evaluate`.

    pip install sentence-transformers scipy
    python scripts/oracles/sts_evaluation.py MODEL_DIR STS_DIR [--mode test|dev] [--json OURS.json]

STS_DIR holds sts12.tsv ... sts16.tsv, stsb.tsv and sickr.tsv (columns split, subset, score, sentence1,
sentence2; no quoting). Every sentence is encoded without truncation up to the positions that the model
has. Prints Spearman and Pearson x 100 of every task for the three aggregations; with `--json`, a file
written by `evaluate --json`, also the largest difference, and fails if one exceeds 0.01 points.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sentence_transformers import SentenceTransformer

TASKS = ["STS12", "STS13", "STS14", "STS15", "STS16", "STSB", "SICKR"]
AGGREGATIONS = ["all", "mean", "wmean"]
TOLERANCE = 0.01


def read_pairs(path, split):
    """Pairs by subset, in file order; pairs without a score are left out."""
    subsets = {}
    with path.open(encoding="utf-8") as lines:
        header = next(lines).rstrip("\n").split("\t")
        assert header == ["split", "subset", "score", "sentence1", "sentence2"], (path, header)
        for line in lines:
            part, subset, score, first, second = line.rstrip("\n").split("\t")
            if score and part in split:
                subsets.setdefault(subset, []).append((float(score), first, second))
    return subsets


def scores_of(subsets, vectors, correlation):
    predicted, gold = [], []
    for pairs in subsets.values():
        first = np.stack([vectors[pair[1]] for pair in pairs]).astype(np.float64)
        second = np.stack([vectors[pair[2]] for pair in pairs]).astype(np.float64)
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        predicted.append((first * second).sum(1) / norms)
        gold.append(np.array([pair[0] for pair in pairs]))
    each = [correlation(p, g)[0] for p, g in zip(predicted, gold)]
    return {
        "all": correlation(np.concatenate(predicted), np.concatenate(gold))[0],
        "mean": np.mean(each),
        "wmean": np.average(each, weights=[len(g) for g in gold]),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("sts", type=pathlib.Path)
    parser.add_argument("--mode", choices=["test", "dev"], default="test")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()

    split = {"test": ["test"], "dev": ["dev", "trial"]}[args.mode]
    data = {}
    for task in TASKS:
        # STS-B and SICK-R have no subsets: whatever the column says is joined.
        subsets = read_pairs(args.sts / f"{task.lower()}.tsv", split)
        if task in ("STSB", "SICKR"):
            subsets = {task: [pair for pairs in subsets.values() for pair in pairs]}
        if any(subsets.values()):
            data[task] = subsets

    texts = sorted({text for subsets in data.values() for pairs in subsets.values() for pair in pairs for text in pair[1:]})
    model = SentenceTransformer(args.model, device="cpu")
    model.max_seq_length = model[0].auto_model.config.max_position_embeddings
    vectors = dict(zip(texts, model.encode(texts, batch_size=64, show_progress_bar=False)))

    found = {}
    for metric, correlation in [("spearman", spearmanr), ("pearson", pearsonr)]:
        print(f"\n{metric:<9}" + "".join(f"{task:>8}" for task in data) + ("    Avg." if len(data) == 7 else ""))
        results = {task: scores_of(subsets, vectors, correlation) for task, subsets in data.items()}
        for aggregation in AGGREGATIONS:
            row = [100 * results[task][aggregation] for task in data]
            for task, value in zip(data, row):
                found[task, metric, aggregation] = value
            average = f"{np.mean([round(value, 2) for value in row]):8.2f}" if len(row) == 7 else ""
            print(f"{aggregation:<9}" + "".join(f"{value:8.2f}" for value in row) + average)

    if args.json:
        rows = {
            (row["task"], row["metric"], row["aggregation"]): 100 * row["value"]
            for row in json.loads(args.json.read_text())["rows"]
            if row["split"] == args.mode and row["metric"] in ("spearman", "pearson") and row["task"] in TASKS
        }
        assert rows.keys() == found.keys(), rows.keys() ^ found.keys()
        differences = {key: abs(rows[key] - found[key]) for key in found}
        worst = max(differences, key=differences.get)
        print(f"\n{len(found)} figures compared, largest difference {differences[worst]:.6f} points at {' '.join(worst)}")
        sys.exit(differences[worst] > TOLERANCE)


if __name__ == "__main__":
    main()
