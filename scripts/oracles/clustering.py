#!/usr/bin/env python3
"""Compares k-means with scikit-learn: inertia over many seeds, time of both, interleaved.

    cargo build --release -p clustering --example kmeans_bench
    python scripts/oracles/clustering.py --bench target/release/examples/kmeans_bench --dir DIR

Needs numpy and scikit-learn. The data files are written into DIR by the example itself, so both
sides read the same bytes. Prints one line per seed and one summary per case; exits with 1 if our
mean inertia is above scikit-learn's by more than the given share.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

CASES = {  # name: rows, dim, true groups, k
    "hwu64": (1031, 384, 64, 64),
    "clinc": (2250, 384, 150, 150),
    "train": (8954, 384, 64, 64),
}


def child_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True, type=Path)
    parser.add_argument("--dir", required=True, type=Path)
    parser.add_argument("--cases", default="hwu64,clinc")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--n-init", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="allowed relative excess of the mean inertia")
    parser.add_argument("--tsne", action="store_true", help="compare t-SNE instead")
    args = parser.parse_args()
    # Both sides get the same number of threads; it must be set before numpy is loaded.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    import numpy as np

    failed = False
    for case in args.cases.split(","):
        rows, dim, groups, k = CASES[case]
        file = args.dir / f"{case}.f32"
        if not file.exists():
            subprocess.run([args.bench, "write", file, str(rows), str(dim), str(groups), "1"], check=True)
        x = np.fromfile(file, dtype="<f4").reshape(rows, dim)
        failed |= (tsne if args.tsne else kmeans)(args, case, file, x, k)
    sys.exit(1 if failed else 0)


def kmeans(args, case, file, x, k):
    import numpy as np
    from sklearn.cluster import KMeans

    KMeans(k, n_init=1, random_state=0).fit(x)  # loads the libraries before anything is timed
    ours, theirs = [], []
    for seed in range(args.seeds):
        before = child_cpu()
        command = [args.bench, "run", file, *map(str, (*x.shape, k, args.n_init, seed))]
        line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        cpu = child_cpu() - before
        ours.append((line["inertia"], line["seconds"], cpu))

        wall, cpu = time.perf_counter(), time.process_time()
        model = KMeans(k, n_init=args.n_init, random_state=seed).fit(x)
        theirs.append((model.inertia_, time.perf_counter() - wall, time.process_time() - cpu))
        print(f"{case} seed {seed}: ours {ours[-1][0]:.4f} in {ours[-1][1]:.3f} s, "
              f"scikit-learn {theirs[-1][0]:.4f} in {theirs[-1][1]:.3f} s", flush=True)
    ours, theirs = np.array(ours), np.array(theirs)
    excess = ours[:, 0].mean() / theirs[:, 0].mean() - 1
    print(f"{case} {x.shape[0]}x{x.shape[1]} k={k} n_init={args.n_init} threads={args.threads}:\n"
          f"  inertia mean {ours[:, 0].mean():.4f} +- {ours[:, 0].std():.4f}, "
          f"scikit-learn {theirs[:, 0].mean():.4f} +- {theirs[:, 0].std():.4f}, excess {excess:+.2e}\n"
          f"  wall median {np.median(ours[:, 1]):.3f} s against {np.median(theirs[:, 1]):.3f} s "
          f"({np.median(theirs[:, 1]) / np.median(ours[:, 1]):.1f}x), minimum {ours[:, 1].min():.3f} against "
          f"{theirs[:, 1].min():.3f} ({theirs[:, 1].min() / ours[:, 1].min():.1f}x)\n"
          f"  cpu median {np.median(ours[:, 2]):.3f} s (whole process) against {np.median(theirs[:, 2]):.3f} s "
          f"({np.median(theirs[:, 2]) / np.median(ours[:, 2]):.1f}x)", flush=True)
    return excess > args.tolerance


def tsne(args, case, file, x, _):
    from sklearn.manifold import TSNE

    before = child_cpu()
    command = [args.bench, "tsne", file, *map(str, x.shape), args.dir / f"{case}.tsne.f32"]
    line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    cpu = child_cpu() - before
    wall, start = time.perf_counter(), time.process_time()
    model = TSNE(2, n_jobs=args.threads, random_state=0).fit(x)
    wall, peer_cpu = time.perf_counter() - wall, time.process_time() - start
    print(f"{case} t-SNE {x.shape[0]}x{x.shape[1]} threads={args.threads}: ours KL {line['kl']:.4f} in "
          f"{line['seconds']:.2f} s (cpu {cpu:.2f}), scikit-learn KL {model.kl_divergence_:.4f} in {wall:.2f} s "
          f"(cpu {peer_cpu:.2f})", flush=True)
    return line["kl"] > model.kl_divergence_ * 1.02


if __name__ == "__main__":
    main()
