"""PyTorch side of benches/examples/encoder_step.rs: the same ids, sizes, measurements and lines.

    python encoder_step.py MODEL_DIR [batch] [length] [runs] [dropout] [forward|train|both] [PRECISION]

PRECISION is `fp32`, `bf16` (the forward pass, and that of the training step, under autocast; goes behind the name of the results),
`compiled` or `compiled_bf16` (through `torch.compile`). Threads: THREADS, 2 if not set. Device: DEVICE, `cuda` or the processor.
"""
import contextlib
import json
import resource
import sys
import time

import torch
from transformers import AutoModel

from torch_side import finish, place, use_threads

if len(sys.argv) < 2:
    sys.exit(__doc__)
model_dir, *rest = sys.argv[1:]
defaults = ["64", "32", "7", "0", "both", "fp32"]
batch, length, runs, dropout, kind, precision = rest + defaults[len(rest):]
batch, length, runs, dropout = int(batch), int(length), int(runs), float(dropout)
use_threads()
device, before = place()
ids = torch.tensor([[1000 + (row * 131 + at * 17) % 20000 for at in range(length)] for row in range(batch)],
                   device=device)
mask = torch.ones_like(ids)
model = AutoModel.from_pretrained(
    model_dir, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, dtype=torch.float32).to(device)
if model.config.hidden_size != 384:
    before += f"{model.config.hidden_size}x{model.config.num_hidden_layers} "
side = "torch_compiled" if precision.startswith("compiled") else "torch"
after = " bf16" if precision.endswith("bf16") else ""
states_of = torch.compile(model) if precision.startswith("compiled") else model


def autocast():
    return torch.autocast(device.type, torch.bfloat16) if precision.endswith("bf16") else contextlib.nullcontext()


def pool():
    with autocast():
        states = states_of(input_ids=ids, attention_mask=mask).last_hidden_state
    return (states.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def line(what, ms, check):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"what": what, "side": side, "ms": round(ms, 3), "peak_rss_mb": round(peak, 1), "check": check}),
          flush=True)


if kind != "train":
    model.eval()
    with torch.inference_mode():
        for run in range(runs + 1):
            began = time.perf_counter()
            checksum = pool().sum().item()
            if run:
                line(f"{before}forward batch{batch} length{length}{after}", (time.perf_counter() - began) * 1e3, checksum)

if kind != "forward":
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    first = None
    for run in range(runs + 1):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = pool().pow(2).mean()
        value = loss.item()
        loss.backward()
        optimizer.step()
        finish(device)
        first = value if first is None else first
        if run:
            line(f"{before}train batch{batch} length{length} dropout{dropout:g}{after}", (time.perf_counter() - began) * 1e3,
                 first if dropout == 0 else None)
