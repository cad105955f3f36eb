"""PyTorch side of benches/examples/objective_step.rs: the same inputs, objectives and output line.

    python star_peer.py NAME RUNS
    python star_peer.py names

NAME is one of the keys of OBJECTIVES below, or `all`. Every objective is written the way its
closed form asks for (matrix products, logsumexp, gathers), in fp32 with autograd (threads: THREADS, 2 if not
set; device: DEVICE, `cuda` or the processor);
one warm-up step, then RUNS timed steps (forward and backward, gradients to every trainable input).
Prints one JSON line a run.
"""
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from torch_side import finish, place, use_threads

use_threads()

BATCH, ROWS, HIDDEN, DIM, TOPK = 64, 8954, 384, 128, 120
TAU, GAMMA, FLOOR = 0.07, 0.05, 1e-8


def uniform(seed, *shape):
    """Numbers in [-0.5, 0.5) from a hash of the position; the Rust side has the same function."""
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint32) + np.uint32((seed * 0x9E3779B9) & 0xFFFFFFFF)
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x7FEB352D)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
    values = (x >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)
    return torch.from_numpy(values.reshape(shape)).to(torch.get_default_device())


def unit_rows(seed, rows, columns):
    x = uniform(seed, rows, columns).double()
    return (x / x.norm(dim=1, keepdim=True)).float()


def targets(batch, rows):
    ids = (uniform(3, batch, TOPK + 1).double() + 0.5).mul(rows).long()
    decay = torch.tensor([150.0 ** (-r / TOPK) for r in range(TOPK + 1)], dtype=torch.float32)
    return ids, decay.repeat(batch, 1)


def by_row(weights):
    return weights / weights.sum(1, keepdim=True)


class Star:
    """Gaussian STAR over the bank; gradients to queries, heads (both sides) and base."""

    def __init__(self, rows=ROWS, hidden=HIDDEN, frozen=False):
        self.queries = unit_rows(1, BATCH, hidden).requires_grad_()
        self.bank = unit_rows(2, rows, hidden)
        self.ids, self.weights = targets(BATCH, rows)
        bound = 2.0 / math.sqrt(hidden)
        self.mu = (uniform(4, hidden, DIM) * bound).requires_grad_()
        self.mu_bias = (uniform(5, DIM) * bound).requires_grad_()
        self.var = (uniform(6, hidden, DIM) * bound).requires_grad_()
        self.var_bias = (uniform(7, DIM) * bound).requires_grad_()
        self.base = torch.tensor([10.0], requires_grad=True)
        self.frozen = frozen
        self.leaves = [self.queries, self.mu, self.mu_bias, self.var, self.var_bias, self.base]
        self.what = f"star{'_frozen' if frozen else ''} {BATCH}x{rows}x({hidden},{DIM})"

    def heads(self, x, frozen=False):
        weight = torch.cat([self.mu, self.var], 1)
        bias = torch.cat([self.mu_bias, self.var_bias])
        if frozen:
            weight, bias = weight.detach(), bias.detach()
        mean, a = torch.addmm(bias, F.relu(x), weight).split(DIM, 1)
        return mean, F.elu(a) + (1 + FLOOR)

    def loss(self):
        q = F.normalize(self.queries, dim=1)
        mq, vq = self.heads(q)
        mh, vh = self.heads(self.bank, self.frozen)
        centre = mh.detach().mean(0)
        mq, mh = mq - centre, mh - centre
        eq, eh = vq - 1, vh - 1
        gq, gh = -eq / vq, -eh / vh
        sq, sh = mq * mq, mh * mh
        mgq, mgh = mq * gq, mh * gh
        rq = (eq + gq + 2 * sq + mq * mgq).sum(1)
        ch = (eh + gh + 2 * sh + mh * mgh).sum(1)
        x = torch.cat([eq + sq, gq, -(4 * mq + 2 * mgq), -2 * mq], 1)
        y = torch.cat([gh, eh + sh, mh, mgh], 1)
        d = ((x @ y.T + rq[:, None] + ch) * 0.25).clamp_min(0)
        s = (q / TAU) @ self.bank.T
        w = by_row(self.weights)
        kl = torch.logsumexp(d * (-1 / TAU), 1) + (w * d.gather(1, self.ids)).sum(1) / TAU
        eu = torch.logsumexp(s + d * self.base.clamp_min(1e-6).log(), 1) - (w * s.gather(1, self.ids)).sum(1)
        return (GAMMA * kl + eu).mean()


class StarSoftmax:
    """STAR with the symmetric divergence of softmax distributions at temperature 0.05."""

    def __init__(self, rows=ROWS, hidden=HIDDEN):
        self.queries = unit_rows(1, BATCH, hidden).requires_grad_()
        self.bank = unit_rows(2, rows, hidden)
        self.ids, self.weights = targets(BATCH, rows)
        self.base = torch.tensor([10.0], requires_grad=True)
        self.leaves = [self.queries, self.base]
        self.what = f"star_softmax {BATCH}x{rows}x{hidden}"

    def loss(self):
        q = F.normalize(self.queries, dim=1)
        d = softmax_kl(q, self.bank, 0.05)
        s = (q / TAU) @ self.bank.T
        w = by_row(self.weights)
        kl = torch.logsumexp(d * (-1 / TAU), 1) + (w * d.gather(1, self.ids)).sum(1) / TAU
        eu = torch.logsumexp(s + d * self.base.clamp_min(1e-6).log(), 1) - (w * s.gather(1, self.ids)).sum(1)
        return (GAMMA * kl + eu).mean()


def softmax_kl(q, h, temperature):
    shift = math.log(q.shape[1])
    lq = F.log_softmax(q / temperature, 1)
    lh = F.log_softmax(h / temperature, 1)
    pq, ph = lq.exp(), lh.exp()
    lq, lh = lq + shift, lh + shift
    aq, ah = (pq * lq).sum(1), (ph * lh).sum(1)
    return (0.5 * (aq[:, None] + ah - pq @ lh.T - lq @ ph.T)).clamp_min(0)


class SoftmaxKl:
    """Mean of the symmetric softmax divergence; gradient to both sides."""

    def __init__(self, rows=ROWS, hidden=HIDDEN):
        self.queries = unit_rows(1, BATCH, hidden).requires_grad_()
        self.bank = unit_rows(2, rows, hidden).requires_grad_()
        self.leaves = [self.queries, self.bank]
        self.what = f"softmax_kl {BATCH}x{rows}x{hidden}"

    def loss(self):
        return softmax_kl(self.queries, self.bank, 0.05).mean()


class Down:
    """Weighted InfoNCE over the bank (DOWN), or with binary weights (DNA)."""

    def __init__(self, binary=False, rows=ROWS, hidden=HIDDEN):
        self.queries = unit_rows(1, BATCH, hidden).requires_grad_()
        self.bank = unit_rows(2, rows, hidden)
        self.ids, weights = targets(BATCH, rows)
        self.weights = torch.ones_like(weights) if binary else weights
        self.leaves = [self.queries]
        self.what = f"{'dna' if binary else 'down'} {BATCH}x{rows}x{hidden}"

    def loss(self):
        z = (F.normalize(self.queries, dim=1) / TAU) @ self.bank.T
        w = by_row(self.weights)
        return (torch.logsumexp(z, 1) - (w * z.gather(1, self.ids)).sum(1)).mean()


class InfoNce:
    """In-batch InfoNCE, optionally with hard negatives; gradient to all inputs."""

    def __init__(self, batch, negatives=False):
        self.leaves = [uniform(seed, batch, HIDDEN).requires_grad_() for seed in (8, 9, 10)[:3 if negatives else 2]]
        self.labels = torch.arange(batch)
        self.what = f"info_nce{'_hard' if negatives else ''} {batch}x{batch * len(self.leaves) - batch}x{HIDDEN}"

    def loss(self):
        a, *others = (F.normalize(x, dim=1) for x in self.leaves)
        candidates = others[0] if len(others) == 1 else torch.cat(others)
        return F.cross_entropy((a / 0.05) @ candidates.T, self.labels)


class CrossEntropy:
    """Cross entropy of logits; gradient to the logits."""

    def __init__(self, name, rows, classes, skip=False):
        self.logits = (uniform(11, rows, classes) * 8).requires_grad_()
        self.labels = (uniform(12, rows).double() + 0.5).mul(classes).long()
        if skip:
            self.labels[::7] = -100
        self.leaves = [self.logits]
        self.what = f"{name} {rows}x{classes}"

    def loss(self):
        return F.cross_entropy(self.logits, self.labels)


OBJECTIVES = {
    "star": Star,
    "star_frozen": lambda: Star(frozen=True),
    "star_clinc": lambda: Star(rows=18000, hidden=768),
    "star_softmax": StarSoftmax,
    "softmax_kl": SoftmaxKl,
    "down": Down,
    "dna": lambda: Down(binary=True),
    "down_clinc": lambda: Down(rows=18000, hidden=768),
    "info_nce": lambda: InfoNce(64),
    "info_nce_512": lambda: InfoNce(512),
    "info_nce_hard": lambda: InfoNce(64, negatives=True),
    "coarse": lambda: CrossEntropy("coarse", 64, 18),
    "mlm": lambda: CrossEntropy("mlm", 160, 30522, skip=True),
}


def memory(key):
    """A line of /proc/self/status in MB."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(key):
                return float(line.split()[1]) / 1024
    return 0.0


def run(problem, runs, device, before_name):
    # Resets the peak on Linux, so that it counts the steps and not the making of the inputs.
    try:
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
    except OSError:
        pass
    before = memory("VmRSS")
    for index in range(runs + 1):
        for leaf in problem.leaves:
            leaf.grad = None
        began = time.perf_counter()
        loss = problem.loss()
        loss.backward()
        value = loss.item()
        finish(device)
        took = (time.perf_counter() - began) * 1e3
        peak = memory("VmHWM")
        if index == 0:
            continue
        square = sum(float(leaf.grad.double().square().sum()) for leaf in problem.leaves)
        print(json.dumps({
            "what": before_name + problem.what, "side": "torch", "ms": round(took, 4), "value": value,
            "gradient_norm": math.sqrt(square), "peak_rss_mb": round(peak, 1),
            "step_mb": round(peak - before, 1),
        }), flush=True)


def main(objectives):
    wanted, *rest = sys.argv[1:]
    if wanted == "names":
        print(*objectives)
        return
    count = int(rest[0])
    device, before_name = place()
    torch.set_default_device(device)
    for key in objectives if wanted == "all" else [wanted]:
        run(objectives[key](), count, device, before_name)


if __name__ == "__main__":
    main(OBJECTIVES)
