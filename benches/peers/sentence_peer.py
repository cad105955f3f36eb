"""PyTorch side of benches/src/sentence_objectives.rs: the same inputs, objectives and output line.

    python sentence_peer.py NAME RUNS
    python sentence_peer.py names

NAME is one of the keys of OBJECTIVES below, or `all`. Every objective is written with matrix products, logsumexp and
masks, the way one would in PyTorch; gradients reach every trainable input. Output as in star_peer.py.
"""
import torch
import torch.nn.functional as F

from star_peer import main, uniform

HIDDEN, SMALL, TAU = 768, 384, 0.05


def unit(x):
    return F.normalize(x, dim=1)


def in_batch(a, candidates):
    return F.cross_entropy((unit(a) / TAU) @ unit(candidates).T, torch.arange(len(a)))


def labels(batch):
    return (uniform(40, batch).double() + 0.5).mul(6).long().float()


def ordered(s, y, scale=20.0):
    """ln (1 + sum over y_i > y_j of exp(scale (s_j - s_i)))"""
    terms = (scale * (s[None, :] - s[:, None]))[y[:, None] > y[None, :]]
    return torch.logsumexp(torch.cat([torch.zeros(1), terms]), 0)


def alone(batch):
    """Where a text would meet itself."""
    return torch.eye(batch, dtype=torch.bool)


class Problem:
    """`count` trainable matrices and what `loss` makes of them."""

    def __init__(self, name, sizes, count, batch, loss, dim=HIDDEN, more=()):
        self.leaves = [uniform(seed, batch, dim).requires_grad_() for seed in range(20, 20 + count)]
        self.leaves += [leaf.requires_grad_() for leaf in more]
        self.what = f"{name} {sizes}"
        self.of = loss

    def loss(self):
        return self.of(*self.leaves)


def siamese(name, of_distance):
    y = labels(64)

    def loss(u, v, weight):
        s = (torch.cat([u, v, (u - v).abs()], 1) @ weight)[:, 0]
        return of_distance((torch.where(s < 0, 0.0, s) - y).abs()).mean()

    return lambda: Problem(name, f"64x{HIDDEN}", 2, 64, loss, more=[uniform(30, 3 * HIDDEN, 1) * 0.05])


def cosent():
    y = labels(64)
    return Problem("cosent", f"64x{HIDDEN}", 2, 64, lambda u, v: ordered(F.cosine_similarity(u, v), y))


def angle():
    y = labels(64)

    def loss(u, v):
        (x_re, x_im), (y_re, y_im) = unit(u).chunk(2, 1), unit(v).chunk(2, 1)
        return ordered((x_re * y_re + x_im * y_im + x_im * y_re - x_re * y_im).sum(1).abs(), y)

    return Problem("angle", f"64x{HIDDEN}", 2, 64, loss)


def simcse():
    return Problem("simcse", f"64x64x{HIDDEN}", 2, 64, in_batch)


def simcse_supervised():
    def loss(a, p, n):
        return in_batch(a, torch.cat([p, n]))

    return Problem("simcse_supervised", f"512x1024x{HIDDEN}", 3, 512, loss)


def multiple_negatives():
    def loss(q, d):
        scores, own = (unit(q) / TAU) @ unit(d).T, torch.arange(len(q))
        return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2

    return Problem("multiple_negatives", f"64x64x{HIDDEN}", 2, 64, loss)


def gist():
    batch, tau = 64, 0.01
    a_guide, p_guide = (unit(uniform(seed, batch, SMALL)) for seed in (31, 32))

    def blocks(a, p):
        return torch.cat([a @ p.T, a @ a.T, p @ p.T], 1)

    guide = blocks(a_guide, p_guide)
    dropped = guide > guide.diagonal()[:, None]
    dropped[:, :batch] &= ~alone(batch)
    dropped[:, batch:] |= alone(batch).repeat(1, 2)

    def loss(a, p):
        scores = blocks(unit(a), unit(p)) / tau
        return F.cross_entropy(scores.masked_fill(dropped, -torch.inf), torch.arange(batch))

    return Problem("gist", f"64x64x{HIDDEN}", 2, batch, loss)


def energy_hinge():
    def loss(a, p, n):
        a, p, n = unit(a), unit(p), unit(n)
        near = a @ p.T
        hardest = torch.cat([near.masked_fill(alone(len(a)), -torch.inf), a @ n.T], 1).amax(1)
        return 10 * F.relu(0.2 + hardest - near.diagonal()).mean()

    return Problem("energy_hinge", f"512x1024x{HIDDEN}", 3, 512, loss)


def triplet(a, *levels):
    s = torch.stack([F.cosine_similarity(a, level) for level in levels], 1)
    return F.relu(s[:, 1:] - s[:, :-1] + torch.tensor([5e-3, 5e-2])).mean()


def ngcse():
    def loss(g0, g1, g2, g3, o0, o1):
        contrast = in_batch(torch.cat([o0, g0]), torch.cat([o1, g2]))
        return contrast + triplet(g0, g1, g2, g3)

    more = [uniform(seed, 208, HIDDEN) for seed in (28, 29)]
    return Problem("ngcse", f"256x256x{HIDDEN}", 4, 48, loss, more=more)


def embedding_distillation():
    teacher = uniform(31, 256, SMALL)

    def loss(student):
        return F.mse_loss(student, teacher)

    return Problem("embedding_distillation", f"256x{SMALL}", 1, 256, loss, dim=SMALL)


def ranking_distillation():
    batch = 128
    a, b = (unit(uniform(seed, batch, SMALL)) for seed in (31, 32))

    def scores(a, b):
        return ((a / TAU) @ b.T).masked_select(~alone(batch)).view(batch, batch - 1)

    def loss(u, v):
        teacher = F.log_softmax(scores(a, b), 1)
        student = F.log_softmax(scores(unit(u), unit(v)), 1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True)

    return Problem("ranking_distillation", f"128x128x{HIDDEN}", 2, batch, loss)


def matryoshka():
    def loss(a, p):
        return sum(in_batch(a[:, :dim], p[:, :dim]) for dim in (768, 512, 256, 128, 64))

    return Problem("matryoshka", f"64x64x{HIDDEN}", 2, 64, loss)


def alignment_uniformity():
    def loss(x, y):
        x, y = unit(x), unit(y)
        uniformity = torch.pdist(x).square().mul(-2).exp().mean().log()
        return (x - y).square().sum(1).mean() + uniformity

    return Problem("alignment_uniformity", f"256x{HIDDEN}", 2, 256, loss)


OBJECTIVES = {
    "siamese_mse": siamese("siamese_mse", lambda distance: distance.square()),
    "siamese_l1": siamese("siamese_l1", lambda distance: distance),
    "translated_relu": siamese("translated_relu", lambda distance: 2.5 * F.relu(distance - 0.25)),
    "smooth_k2": siamese("smooth_k2", lambda distance: 2 * F.relu(distance - 0.25).square()),
    "cosent": cosent,
    "angle": angle,
    "simcse": simcse,
    "simcse_supervised": simcse_supervised,
    "multiple_negatives": multiple_negatives,
    "gist": gist,
    "energy_hinge": energy_hinge,
    "hierarchical_triplet": lambda: Problem("hierarchical_triplet", f"48x3x{HIDDEN}", 4, 48, triplet),
    "ngcse": ngcse,
    "embedding_distillation": embedding_distillation,
    "ranking_distillation": ranking_distillation,
    "matryoshka": matryoshka,
    "alignment_uniformity": alignment_uniformity,
}

if __name__ == "__main__":
    main(OBJECTIVES)
