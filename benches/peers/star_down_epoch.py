"""One epoch of STAR-DOWN (or DOWN) as a plain PyTorch loop: the mathematics of benches/examples/star_down_epoch.rs.

    python star_down_epoch.py DATA_DIR MODEL_DIR [max_len] [star|info_nce] [closed|pairwise] [steps]

DATA_DIR holds train.tsv with the columns text, coarse, fine. The model is transformers' BertModel; batches are padded
to their longest text, texts are tokenised once, bank refills take texts of similar length together, AdamW is fused, the
moving average is one foreach operation. `closed` evaluates the divergence of all pairs by matrix products; `pairwise`
is the form of the released STAR code, a difference tensor for every query, bank row and dimension, in pieces of 32
queries x 3000 bank rows, and a cosine of broadcast pairs. With `steps` only so many steps run, and the epoch is
extrapolated from their median (`"extrapolated": true`). No checkpoint is written. Threads: THREADS, 2 if not set.
"""
import csv
import json
import math
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from torch_side import use_threads

BATCH, TAU, GAMMA, MOMENTUM, REPLACED, PEAK_LR, DECAY, CLIP = 64, 0.07, 0.05, 0.99, 0.9 * 0.25, 5e-5, 0.01, 1.0
DIM, VAR_FLOOR, FIRST_BASE, TOPK = 128, 1e-8, 150.0, 120


class Star(nn.Module):
    """Heads of the diagonal Gaussians and the base of the weight."""

    def __init__(self, hidden):
        super().__init__()
        self.mean, self.variance = nn.Linear(hidden, DIM), nn.Linear(hidden, DIM)
        self.base = nn.Parameter(torch.tensor(10.0))

    def gaussian(self, x):
        x = F.relu(x)
        return self.mean(x), F.elu(self.variance(x)) + 1 + VAR_FLOOR


def closed_form(m_q, v_q, m_h, v_h):
    """1/4 sum_k [ v/w + w/v - 2 + (m - n)^2 (1/v + 1/w) ] for all pairs: one product of inner size 4 DIM."""
    shift = m_h.mean(0).detach()
    m_q, m_h = m_q - shift, m_h - shift
    e_q, g_q, e_h, g_h = v_q - 1, 1 / v_q - 1, v_h - 1, 1 / v_h - 1

    def own(m, e, g):
        return (e + g + 2 * m * m + m * m * g).sum(1)

    left = torch.cat([e_q + m_q * m_q, g_q, -(4 * m_q + 2 * m_q * g_q), -2 * m_q], 1)
    right = torch.cat([g_h, e_h + m_h * m_h, m_h, m_h * g_h], 1)
    return ((own(m_q, e_q, g_q)[:, None] + own(m_h, e_h, g_h)[None] + left @ right.t()) / 4).clamp_min(0)


def pairwise_form(m_q, v_q, m_h, v_h):
    rows = []
    for q in range(0, len(m_q), 32):
        parts = []
        for h in range(0, len(m_h), 3000):
            a, v = m_q[q:q + 32, None], v_q[q:q + 32, None]
            b, w = m_h[None, h:h + 3000], v_h[None, h:h + 3000]
            difference = (a - b) ** 2
            forth = 0.5 * (v / w + difference / w - 1 + w.log() - v.log()).sum(2)
            back = 0.5 * (w / v + difference / v - 1 + v.log() - w.log()).sum(2)
            parts.append((forth + back) / 2)
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows)


def objective(star, q, bank, ids, weights, form):
    """Mean over the queries; `weights` [topk + 1] sum to one, `ids` [batch, topk + 1]."""
    cosine = F.cosine_similarity(q[:, None], bank[None], dim=2) if form == "pairwise" else q @ bank.t()
    cosine = cosine / TAU
    near = (cosine.gather(1, ids) * weights).sum(1)
    if star is None:
        return (cosine.logsumexp(1) - near).mean()
    form = pairwise_form if form == "pairwise" else closed_form
    d = form(*star.gaussian(q), *star.gaussian(bank))
    divergence = (-d / TAU).logsumexp(1) + (d.gather(1, ids) * weights).sum(1) / TAU
    guided = (cosine + d * star.base.clamp_min(1e-6).log()).logsumexp(1) - near
    return (GAMMA * divergence + guided).mean()


class Loop:
    def __init__(self, data, model_dir, max_len, objective_name, form):
        with open(Path(data) / "train.tsv", encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
        names = sorted({row[1] for row in rows})
        self.coarse = torch.tensor([names.index(row[1]) for row in rows])
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        self.ids = tokenizer([row[0] for row in rows], truncation=True, max_length=max_len)["input_ids"]
        self.special = np.array(sorted(tokenizer.all_special_ids))
        self.pad, self.vocabulary = tokenizer.pad_token_id, len(tokenizer)
        self.online, self.momentum = (AutoModel.from_pretrained(model_dir, dtype=torch.float32) for _ in range(2))
        self.momentum.eval().requires_grad_(False)
        hidden = self.online.config.hidden_size
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, 128),
                                  nn.Linear(128, len(names)))
        self.star = Star(hidden) if objective_name == "star" else None
        self.form = form
        named = [pair for module in (self.online, self.head, self.star) if module is not None
                 for pair in module.named_parameters()]
        plain = [p for n, p in named if n.endswith("bias") or "LayerNorm" in n]
        decayed = [p for n, p in named if not (n.endswith("bias") or "LayerNorm" in n)]
        self.parameters = plain + decayed
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}],
            lr=0.0, eps=1e-6, fused=True)
        self.rng = np.random.default_rng(0)
        self.topk = min(TOPK, len(rows) - 1)
        weights = FIRST_BASE ** (-torch.arange(self.topk + 1) / self.topk)
        self.weights = weights / weights.sum()
        self.planned = max(1, len(rows) // BATCH * 100)
        self.done = 0

    def padded(self, rows):
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.pad] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return ids, mask

    @staticmethod
    def pool(model, ids, mask):
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    def refill(self):
        self.online.eval()
        self.bank = torch.empty(len(self.ids), self.online.config.hidden_size)
        order = sorted(range(len(self.ids)), key=lambda row: -len(self.ids[row]))
        with torch.inference_mode():
            for at in range(0, len(order), BATCH):
                part = order[at:at + BATCH]
                self.bank[part] = F.normalize(self.pool(self.online, *self.padded([self.ids[row] for row in part])))
            self.neighbours = torch.cat([
                (self.bank[at:at + 512] @ self.bank.t()).topk(self.topk + 1).indices
                for at in range(0, len(self.bank), 512)])
        self.neighbours = self.neighbours.clone()  # an ordinary tensor again, which autograd may save
        self.online.train()

    def replaced(self, ids):
        ordinary = ~np.isin(ids, self.special)
        chosen = ordinary & (self.rng.random(ids.shape) < REPLACED)
        return np.where(chosen, self.rng.integers(0, self.vocabulary, ids.shape), ids)

    def step(self, rows):
        ids, mask = self.padded([self.replaced(np.array(self.ids[row])).tolist() for row in rows])
        pooled = self.pool(self.online, ids, mask)
        coarse = F.cross_entropy(self.head(pooled), self.coarse[rows])
        fine = objective(self.star, F.normalize(pooled), self.bank, self.neighbours[rows], self.weights, self.form)
        loss = fine + coarse
        with torch.inference_mode():
            keys = F.normalize(self.pool(self.momentum, ids, mask))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        warm = self.planned // 10
        factor = self.done / warm if self.done < warm else max(0.0, (self.planned - self.done) / (self.planned - warm))
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_LR * factor
        self.optimizer.step()
        self.bank[rows] = keys
        with torch.no_grad():
            torch._foreach_lerp_(list(self.momentum.parameters()), list(self.online.parameters()), 1 - MOMENTUM)
        self.done += 1
        value = loss.item()
        if not math.isfinite(value):
            sys.exit(f"loss {value} at step {self.done}")
        return value


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    data, model_dir, *rest = sys.argv[1:]
    max_len, objective_name, form, steps = rest + ["32", "star", "closed", "0"][len(rest):]
    use_threads()
    torch.manual_seed(0)
    loop = Loop(data, model_dir, int(max_len), objective_name, form)
    side = "torch_pairwise" if form == "pairwise" else "torch"
    began = time.perf_counter()
    loop.refill()
    refill = (time.perf_counter() - began) * 1e3
    order = loop.rng.permutation(len(loop.ids))
    batches = [order[at:at + BATCH] for at in range(0, len(order), BATCH)]
    wanted = int(steps) or len(batches)
    times = []
    for rows in batches[:wanted]:
        start = time.perf_counter()
        loop.step(rows)
        times.append((time.perf_counter() - start) * 1e3)
    epoch = (time.perf_counter() - began) * 1e3
    more = {"steps": len(times)}
    if wanted < len(batches):
        epoch = refill + statistics.median(times) * len(batches)
        more["extrapolated"] = True
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    name = f"{objective_name} {Path(data).name} rows{len(order)} max_len{max_len}"
    for what, ms, more in [
        ("epoch", epoch, more | {"peak_rss_mb": peak}),
        ("step", statistics.median(times), {"min": min(times), "max": max(times), "steps": len(times)}),
        ("refill", refill, {}),
    ]:
        print(json.dumps({"what": f"{what} {name}", "side": side, "ms": ms} | more), flush=True)


if __name__ == "__main__":
    main()
