"""PyTorch side of benches/examples/encoder_step.rs: the same ids, sizes and measurements.

    python encoder_step.py MODEL_DIR [batch] [length] [runs] [dropout]
"""
import sys
import time

import torch
from transformers import AutoModel

model_dir = sys.argv[1]
batch, length, runs = (int(v) for v in (sys.argv[2:5] + ["64", "32", "7"][len(sys.argv[2:5]):]))
dropout = float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
torch.set_num_threads(2)
ids = torch.tensor([[1000 + (row * 131 + at * 17) % 20000 for at in range(length)] for row in range(batch)])
mask = torch.ones_like(ids)
model = AutoModel.from_pretrained(model_dir, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)


def pool():
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def report(kind, times):
    times = sorted(times)
    print(f"torch {kind} batch={batch} length={length} dropout={dropout:g} ms "
          f"{times[0]:.1f} {times[len(times) // 2]:.1f} {times[-1]:.1f}", flush=True)


model.eval()
times = []
with torch.inference_mode():
    for run in range(runs + 1):
        began = time.perf_counter()
        checksum = pool().sum().item()
        if run:
            times.append((time.perf_counter() - began) * 1e3)
        else:
            print("forward checksum", checksum, file=sys.stderr)
report("forward", times)

model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
times = []
for run in range(runs + 1):
    began = time.perf_counter()
    optimizer.zero_grad()
    loss = pool().pow(2).mean()
    value = loss.item()
    loss.backward()
    optimizer.step()
    if run:
        times.append((time.perf_counter() - began) * 1e3)
    else:
        print("training loss", value, file=sys.stderr)
report("train", times)
