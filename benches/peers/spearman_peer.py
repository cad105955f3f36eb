"""SciPy side of benches/examples/spearman_step.rs: the same numbers, sizes and output lines.

    python spearman_peer.py [PAIRS] [RUNS] [SEED]
"""
import json
import resource
import sys
import time

import numpy as np
from scipy.stats import spearmanr

pairs, runs, seed = (int(v) for v in (sys.argv[1:4] + ["1000000", "1", "0"][len(sys.argv[1:4]):]))


def draw(series):
    z = (np.arange(pairs, dtype=np.uint64) * np.uint64(4) + np.uint64(2 * seed + series + 1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53


x = draw(0)
y = x + draw(1)
for what, a, b in [("no ties", x, y), ("ties", np.floor(x * 25) / 5, np.floor(y * 25) / 5)]:
    for _ in range(runs):
        began = time.perf_counter()
        rho = spearmanr(a, b).statistic
        ms = (time.perf_counter() - began) * 1e3
        # The peak of the whole process so far, the interpreter and its libraries included.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        line = {"what": f"spearman {pairs} pairs {what}", "side": "scipy", "ms": round(ms, 3), "quality": float(rho)}
        print(json.dumps(line | {"peak_rss_mb": round(peak, 1)}), flush=True)
