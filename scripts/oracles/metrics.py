"""Reference values for the edge cases of crates/metrics.

Prints JSON with inputs and what numpy, scipy and scikit-learn make of them:

    pip install numpy scipy scikit-learn
    python scripts/oracles/metrics.py > crates/metrics/tests/golden/edge_cases.json

NaN is written as null. The same library versions give the same bytes; versions are in the output.
"""

import json
import math
import sys
import warnings

import numpy as np
import scipy
import sklearn
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist
from scipy.special import logsumexp
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

warnings.simplefilter("ignore")  # constant inputs are among the cases on purpose


def number(value):
    value = float(value)
    return None if math.isnan(value) else value


def partition_cases():
    rng = np.random.default_rng(11)
    halves = [0] * 6 + [1] * 6
    thirds = [0, 1, 2] * 4
    cases = {
        "one_row": ([0], [0]),
        "two_rows_together": ([0, 0], [5, 5]),
        "two_rows_apart": ([0, 1], [5, 4]),
        "two_rows_joined_by_one_side": ([0, 0], [5, 4]),
        "one_cluster_both": ([3] * 12, [8] * 12),
        "one_cluster_left": ([0] * 12, thirds),
        "one_cluster_right": (thirds, [0] * 12),
        "singletons_both": (list(range(12)), list(range(20, 8, -1))),
        "singletons_left": (list(range(12)), halves),
        "singletons_right": (halves, list(range(12))),
        "singletons_against_one": (list(range(12)), [0] * 12),
        "independent": (halves, thirds),
        "relabelled": (thirds, [{0: -4, 1: 900, 2: 7}[v] for v in thirds]),
        "refined": ([2 * v + (i % 2) for i, v in enumerate(thirds)], thirds),
        "crossed_pairs": ([0, 0, 1, 1], [0, 1, 0, 1]),
        "one_outlier": ([0] * 11 + [1], [0] * 12),
        "negative_ids": ([-1, -1, -5, -5, 3], [10, 10, 10, -2, -2]),
    }
    for clusters, labels, rows in [(2, 2, 9), (5, 3, 40), (3, 9, 40), (12, 12, 100), (64, 64, 640), (30, 4, 31)]:
        truth = rng.integers(0, labels, rows)
        guess = np.where(rng.random(rows) < 0.6, truth % clusters, rng.integers(0, clusters, rows))
        cases[f"random_{clusters}x{labels}"] = (guess.tolist(), truth.tolist())
    for name, (clusters, labels) in cases.items():
        table = contingency_matrix(labels, clusters)  # [labels, clusters]
        rows, columns = linear_sum_assignment(table, maximize=True)
        matched = int(table[rows, columns].sum())
        yield {
            "name": name,
            "clusters": clusters,
            "labels": labels,
            "matched": matched,
            "acc": matched / len(labels),
            "ari": number(adjusted_rand_score(labels, clusters)),
            "nmi": number(normalized_mutual_info_score(labels, clusters, average_method="arithmetic")),
            "purity": float(table.max(axis=0).sum() / len(labels)),
        }


def correlation_cases():
    rng = np.random.default_rng(12)
    ramp = [float(v) for v in range(8)]
    noise = rng.normal(size=8)
    cases = {
        "constant_left": ([2.5] * 8, ramp),
        "constant_right": (ramp, [0.1] * 8),
        "two_pairs_rising": ([0.0, 1.0], [3.0, 9.0]),
        "two_pairs_falling": ([0.0, 1.0], [3.0, -9.0]),
        "one_value_differs": ([0.0] * 7 + [1.0], ramp),
        "two_values_each": ([0.0, 0.0, 1.0, 1.0, 1.0], [5.0, 7.0, 5.0, 7.0, 7.0]),
        "signed_zeros": ([-0.0, 0.0, 1.0], [1.0, 2.0, 3.0]),
        "large_offset": ([1e6 + v for v in noise], ramp),
        "small_unit": ([1e-200 * v for v in noise], ramp),
        "outlier": (ramp, ramp[:-1] + [1e6]),
        "tied_long": (rng.integers(0, 5, 200).astype(float).tolist(), rng.integers(0, 11, 200).astype(float).tolist()),
    }
    for name, (x, y) in cases.items():
        yield {
            "name": name,
            "x": [float(v) for v in x],
            "y": [float(v) for v in y],
            "pearson": number(pearsonr(x, y)[0]),
            "spearman": number(spearmanr(x, y)[0]),
            "ranks_x": rankdata(x).tolist(),
        }


def assignment_cases():
    rng = np.random.default_rng(13)
    for rows, columns in [(1, 1), (1, 7), (7, 1), (4, 9), (9, 4), (15, 15), (40, 25)]:
        costs = np.round(rng.normal(size=(rows, columns)), 3)
        least = linear_sum_assignment(costs)
        most = linear_sum_assignment(costs, maximize=True)
        yield {
            "name": f"{rows}x{columns}",
            "rows": rows,
            "columns": columns,
            "costs": costs.ravel().tolist(),
            "min": float(costs[least].sum()),
            "max": float(costs[most].sum()),
        }


def sphere_cases():
    rng = np.random.default_rng(14)
    for name, rows, dim, t, alpha in [("pair", 2, 3, 2.0, 2.0), ("plain", 50, 6, 2.0, 2.0), ("sharp", 20, 4, 5000.0, 1.0), ("zero_row", 5, 3, 2.0, 2.0)]:
        x = np.round(rng.normal(size=(rows, dim)), 4).astype(np.float32)
        y = np.round(x + rng.normal(size=(rows, dim)) * 0.3, 4).astype(np.float32)
        if name == "zero_row":
            x[1] = 0
        unit = [v.astype(np.float64) / np.maximum(np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True), 1e-12) for v in (x, y)]
        squared = pdist(unit[0], "sqeuclidean")
        yield {
            "name": name,
            "dim": dim,
            "t": t,
            "alpha": alpha,
            "x": [float(f"{v:.4f}") for v in x.ravel()],
            "y": [float(f"{v:.4f}") for v in y.ravel()],
            "alignment": float((np.linalg.norm(unit[0] - unit[1], axis=1) ** alpha).mean()),
            "uniformity": float(logsumexp(-t * squared) - math.log(len(squared))),
        }


def lines(cases):
    return "[\n" + ",\n".join("  " + json.dumps(case, allow_nan=False) for case in cases) + "\n ]"


def main():
    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__}
    parts = {
        "versions": json.dumps(versions),
        "partitions": lines(partition_cases()),
        "correlations": lines(correlation_cases()),
        "assignments": lines(assignment_cases()),
        "spheres": lines(sphere_cases()),
    }
    sys.stdout.write("{\n" + ",\n".join(f' "{key}": {value}' for key, value in parts.items()) + "\n}\n")


if __name__ == "__main__":
    main()
