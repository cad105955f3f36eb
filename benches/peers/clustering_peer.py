"""scikit-learn side of benches/examples/clustering_step.rs: same data, sizes and output lines.

    python clustering_peer.py kmeans DATA DIM K [RUNS] [SEED]
    python clustering_peer.py tsne DATA DIM [RUNS] [SEED] [MAP] [INIT]
    python clustering_peer.py score DATA DIM MAP [MAP ...]

DATA is a file of little-endian f32 rows of length DIM (`clustering_step mixture` writes one). MAP is
where the last t-SNE map goes, f32 rows of length 2; INIT is `pca` or `random`. `score` gives the
Kullback-Leibler divergence of any map, whoever made it, in double precision and with the exact
normaliser: `quality` over the 91 nearest neighbours, which is what both sides minimise at perplexity
30, and `all_pairs`.
Threads: THREADS, 2 if not set.
"""
import json
import os
import resource
import sys
import time

THREADS = int(os.environ.get("THREADS", "2"))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(THREADS)
import numpy as np  # noqa: E402

NEIGHBOURS = 91


def read(path, dim):
    return np.fromfile(path, "<f4").reshape(-1, dim)


def report(what, ms, quality, **more):
    # The peak of the whole process so far, the interpreter and its libraries included.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = {"what": what, "side": "scikit-learn", "ms": round(ms, 3), "quality": quality, "peak_rss_mb": round(peak, 1)}
    print(json.dumps(line | more), flush=True)


def kmeans(path, dim, k, runs=1, seed=0):
    from sklearn.cluster import KMeans

    x = read(path, dim)
    for run in range(runs):
        began = time.perf_counter()
        model = KMeans(k, n_init=20, random_state=seed + run).fit(x)
        ms = (time.perf_counter() - began) * 1e3
        # Once more in double precision, as the other side does.
        centroids = np.zeros((k, dim))
        np.add.at(centroids, model.labels_, x.astype(np.float64))
        centroids /= np.maximum(np.bincount(model.labels_, minlength=k), 1)[:, None]
        inertia = float(((x - centroids[model.labels_]) ** 2).sum())
        report(f"kmeans {len(x)}x{dim} K{k} n_init20", ms, inertia, seed=seed + run)


def tsne(path, dim, runs=1, seed=0, out=None, init="pca"):
    from sklearn.manifold import TSNE

    x = read(path, dim)
    p = similarities(x, neighbours=NEIGHBOURS)
    for run in range(runs):
        began = time.perf_counter()
        model = TSNE(2, init=init, random_state=seed + run, n_jobs=THREADS).fit(x)
        ms = (time.perf_counter() - began) * 1e3
        if out:
            model.embedding_.astype("<f4").tofile(out)
        report(f"tsne {len(x)}x{dim}", ms, divergence(p, model.embedding_), seed=seed + run)


def similarities(x, perplexity=30.0, neighbours=None):
    """Symmetric similarities of all pairs, or over so many nearest neighbours of each row.

    The inverse widths come from a bisection in double precision.
    """
    x = x.astype(np.float64)
    n = len(x)
    norms = (x**2).sum(1)
    d = np.maximum(norms[:, None] + norms[None] - 2 * x @ x.T, 0)
    np.fill_diagonal(d, np.inf)
    if neighbours:
        d[d > np.partition(d, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]] = np.inf
    d -= d.min(1, keepdims=True)
    low, high = np.zeros((n, 1)), np.full((n, 1), np.inf)
    beta = np.ones((n, 1))
    finite = np.where(np.isfinite(d), d, 0)
    for _ in range(60):
        w = np.exp(-d * beta)
        total = w.sum(1, keepdims=True)
        entropy = np.log(total) + beta * (w * finite).sum(1, keepdims=True) / total
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        beta = np.where(np.isinf(high), beta * 2, (low + high) / 2)
    p = w / total
    return (p + p.T) / (2 * n)


def divergence(p, y):
    y = np.asarray(y, np.float64)
    norms = (y**2).sum(1)
    q = 1 / (1 + np.maximum(norms[:, None] + norms[None] - 2 * y @ y.T, 0))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    kept = p > 0
    return float((p[kept] * np.log(p[kept] / q[kept])).sum())


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    command, path, dim, *rest = sys.argv[1:]
    dim = int(dim)
    if command == "kmeans":
        kmeans(path, dim, *(int(v) for v in rest))
    elif command == "tsne":
        tsne(path, dim, *(int(v) for v in rest[:2]), *rest[2:])
    elif command == "score":
        x = read(path, dim)
        p, dense = similarities(x, neighbours=NEIGHBOURS), similarities(x)
        for file in rest:
            y = read(file, 2)
            line = {"what": f"tsne {len(x)}x{dim}", "map": file, "quality": divergence(p, y)}
            print(json.dumps(line | {"all_pairs": divergence(dense, y)}), flush=True)
    else:
        sys.exit(__doc__)
