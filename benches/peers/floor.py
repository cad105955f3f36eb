"""PyTorch side of benches/examples/floor.rs: the same products and the same copy.

    python floor.py [tokens] [hidden] [intermediate] [runs]

Threads: THREADS, 2 if not set.
"""
import json
import resource
import sys
import time

import torch

from torch_side import use_threads

tokens, hidden, inner, runs = (int(v) for v in sys.argv[1:] + ["2048", "384", "1536", "9"][len(sys.argv) - 1:])
use_threads()


def line(what, seconds, **more):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"what": what, "side": "torch", "ms": seconds * 1e3, "peak_rss_mb": round(peak, 1)} | more),
          flush=True)


def times(work):
    work()
    for _ in range(runs):
        began = time.perf_counter()
        work()
        yield time.perf_counter() - began


x, w, g = torch.randn(tokens, hidden), torch.randn(hidden, inner), torch.randn(tokens, inner)
for name, work in {
    "forward": lambda: torch.mm(x, w),
    "input_gradient": lambda: torch.mm(g, w.t()),
    "weight_gradient": lambda: torch.mm(x.t(), g),
}.items():
    for seconds in times(work):
        line(f"gemm {name} {tokens}x{hidden}x{inner}", seconds, gflops=2e-9 * tokens * hidden * inner / seconds)
    with torch.autocast("cpu", torch.bfloat16):
        for seconds in times(work):
            line(f"gemm {name}_bf16 {tokens}x{hidden}x{inner}", seconds, gflops=2e-9 * tokens * hidden * inner / seconds)
source, target = torch.ones(64 << 20), torch.zeros(64 << 20)
for seconds in times(lambda: target.copy_(source)):
    line("memory copy 256MiB", seconds, gb_s=2 * 4e-9 * source.numel() / seconds)
