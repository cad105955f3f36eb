"""sentence-transformers side of benches/examples/encode_step.rs: the same texts, batch and lines.

    python encode_step.py MODEL_DIR TEXTS [batch] [runs]

Threads: THREADS, 2 if not set.
"""
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from torch_side import use_threads

if len(sys.argv) < 3:
    sys.exit(__doc__)
model_dir, file, *rest = sys.argv[1:]
batch, runs = (int(v) for v in rest + ["64", "3"][len(rest):])
use_threads()
texts = Path(file).read_text(encoding="utf-8").split("\n")
if texts[-1] == "":
    texts.pop()
model = SentenceTransformer(model_dir, device="cpu")
model.encode(texts[:64], batch_size=batch, show_progress_bar=False)
for _ in range(runs):
    began = time.perf_counter()
    vectors = model.encode(texts, batch_size=batch, show_progress_bar=False, convert_to_numpy=True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({
        "what": f"encode {Path(file).stem} texts{len(texts)} batch{batch}", "side": "sentence-transformers",
        "ms": round(seconds * 1e3, 3), "peak_rss_mb": round(peak, 1), "sentences_per_s": len(texts) / seconds,
        "check": float(np.abs(vectors, dtype=np.float64).mean())}), flush=True)
