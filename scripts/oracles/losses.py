#!/usr/bin/env python3
"""Values and gradients of the sentence embedding losses, from sentence-transformers and plain torch.

    python scripts/oracles/losses.py crates/losses/tests/fixtures/sentence_losses.json

Needs numpy, torch and sentence-transformers 6.2 or later. Inputs are f32, everything is computed in f64.
Same versions, same file (values may move in the last digits with others). The losses of
sentence-transformers are called with ready embeddings, so no model is loaded; what that library does not
have (the hinge of PromCSE, ListMLE without padding) is written out here.
"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer import losses as st
from sentence_transformers.sentence_transformer.losses import gist_embed

RNG = np.random.default_rng(11)


def f32(x):
    return float(str(np.float32(x)))


def tensor(a, digits=None):
    flat = [f32(v) if digits is None else float(f"{v:.{digits}g}") for v in np.asarray(a).ravel()]
    return {"shape": list(np.shape(a)), "dtype": "f32" if digits is None else "f64", "data": flat}


def case(name, params, inputs, leaves, loss):
    """`loss` maps a dict of tensors to one that holds `loss`."""
    def run(dtype):
        x = {k: torch.tensor(v, dtype=dtype, requires_grad=k in leaves) for k, v in inputs.items()}
        out = loss(x)
        grads = torch.autograd.grad(out["loss"], [x[k] for k in leaves])
        out = {k: v.detach().to(torch.float64) for k, v in out.items()}
        out.update({f"grad.{k}": g.to(torch.float64) for k, g in zip(leaves, grads)})
        return out

    inputs = {k: np.asarray(v, dtype=np.float32) for k, v in inputs.items()}
    exact, single = run(torch.float64), run(torch.float32)
    tolerances = {}
    for key, value in exact.items():
        error = float((single[key] - value).abs().max())
        size = float(value.abs().max())
        tolerances[key] = {"rtol": 2e-5, "atol": float(f"{max(8 * error, 1e-7 * min(1.0, size)):.2g}")}
    return {
        "name": name,
        "params": params,
        "inputs": {k: tensor(v) for k, v in inputs.items()},
        "expected": {k: tensor(v.numpy(), 10) for k, v in exact.items()},
        "tol": tolerances,
    }


def normal(rows, dim, near=None, noise=0.6):
    x = RNG.normal(size=(rows, dim))
    return x if near is None else near + noise * x


def columns(rows, dim, hard=0):
    a = normal(rows, dim)
    out = {"a": a, "p": normal(rows, dim, a, 1.5)}
    out.update({f"n{k}": normal(rows, dim, a, 2.0) for k in range(hard)})
    return out


def graded(name, loss, dim, scale, labels):
    a = normal(len(labels), dim)
    inputs = {"x": a, "y": normal(len(labels), dim, a, 0.9), "labels": labels}
    call = loss(None, scale=scale)
    value = lambda t: {"loss": call.compute_loss_from_embeddings([t["x"], t["y"]], t["labels"])}
    return case(name, {"loss": name.split("_")[0], "scale": scale}, inputs, ["x", "y"], value)


def ranking(name, hard=0, **options):
    inputs = columns(6, 8, hard)
    call = st.MultipleNegativesRankingLoss(None, **options)
    value = lambda t: {"loss": call.compute_loss_from_embeddings([t[k] for k in inputs], None)}
    params = {"loss": "multiple_negatives", **{k: v for k, v in options.items()}, "hard": hard}
    return case(f"multiple_negatives_{name}", params, inputs, list(inputs), value)


def gist(name, hard=0, **options):
    inputs = columns(6, 8, hard)
    guide = {f"guide_{k}": v for k, v in columns(6, 5, hard).items()}
    call = gist_embed.GISTEmbedLoss.__new__(gist_embed.GISTEmbedLoss)
    torch.nn.Module.__init__(call)
    # The tokenizers of both models are all that its constructor looks at besides these.
    for key, value in {"temperature": 0.1, "margin_strategy": "absolute", "margin": 0.0, "contrast_anchors": True,
                       "contrast_positives": True, **options}.items():
        setattr(call, key, value)
    call.model, call.guide, call.must_retokenize, call.gather_across_devices = 0, 1, False, False
    call.similarity_fct, call.cross_entropy_loss = torch.nn.CosineSimilarity(dim=-1), torch.nn.CrossEntropyLoss()

    def value(t):
        embeddings = [[t[k] for k in inputs], [t[k] for k in guide]]
        gist_embed.embed_columns = lambda model, features: embeddings[model]
        return {"loss": call([], None)}

    params = {"loss": "gist", "temperature": 0.1, "hard": hard, **options}
    return case(f"gist_{name}", params, {**inputs, **guide}, list(inputs), value)


def hinge(name, hard):
    inputs = columns(6, 8, hard)

    def value(t):
        unit = {k: F.normalize(v) for k, v in t.items()}
        cos = unit["a"] @ unit["p"].T
        positive = cos.diagonal()
        negatives = cos - 1e9 * torch.eye(len(cos), dtype=cos.dtype)
        if hard:
            negatives = torch.cat([negatives, unit["a"] @ unit["n0"].T], 1)
        hardest = negatives.max(1).values
        target = torch.ones_like(positive)
        return {"loss": 10 * torch.nn.MarginRankingLoss(margin=0.2)(positive, hardest, target)}

    return case(f"energy_hinge_{name}", {"loss": "energy_hinge", "margin": 0.2, "weight": 10.0}, inputs, list(inputs), value)


def embeddings(metric):
    call = st.EmbedDistillLoss(None, distance_metric=metric)
    inputs = {"student": normal(7, 6), "teacher": normal(7, 6)}
    value = lambda t: {"loss": call.compute_loss_from_embeddings([t["student"]], [t["teacher"]])}
    return case(f"embedding_{metric}", {"loss": "embedding", "distance": metric}, inputs, ["student"], value)


def listwise(objective, own):
    a, b = normal(6, 8), normal(6, 5)
    inputs = {"x": a, "y": normal(6, 8, a), "teacher_x": b, "teacher_y": normal(6, 5, b)}

    def value(t):
        unit = {k: F.normalize(v) for k, v in t.items()}
        student = unit["x"] @ unit["y"].T / 0.1
        teacher = unit["teacher_x"] @ unit["teacher_y"].T / 0.2
        if not own:
            keep = ~torch.eye(len(student), dtype=torch.bool)
            student, teacher = student[keep].view(len(a), -1), teacher[keep].view(len(a), -1)
        if objective == "list_net":
            log_q, log_p = student.log_softmax(1), teacher.log_softmax(1)
            return {"loss": F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)}
        z = student.gather(1, teacher.argsort(dim=1, descending=True, stable=True))
        tails = z.flip(1).logcumsumexp(1).flip(1)
        return {"loss": (tails - z).sum(1).mean()}

    params = {"loss": "ranking", "objective": objective, "own": own, "student_temperature": 0.1, "teacher_temperature": 0.2}
    return case(f"ranking_{objective}_{'all' if own else 'others'}", params, inputs, ["x", "y"], value)


def matryoshka(dims, weights):
    inputs = columns(5, 8)
    call = st.MultipleNegativesRankingLoss(None)

    def value(t):
        terms = [w * call.compute_loss_from_embeddings([t["a"][:, :d], t["p"][:, :d]], None) for d, w in zip(dims, weights)]
        return {"loss": sum(terms)}

    return case("matryoshka", {"loss": "matryoshka", "dims": dims, "weights": weights}, inputs, ["a", "p"], value)


ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
TIES = [1.0, 0.0, 0.6, 0.6, 0.2, 0.6, 0.0, 5.0, -1.0]
CASES = [
    graded("cosent", st.CoSENTLoss, 8, 20.0, TIES),
    graded("cosent_steep", st.CoSENTLoss, 5, 500.0, TIES),
    graded("angle", st.AnglELoss, 8, 20.0, TIES),
    graded("angle_odd", st.AnglELoss, 7, 20.0, TIES),
    ranking("plain"),
    ranking("hard", 2),
    ranking("all_directions", 1, directions=ALL),
    ranking("queries", 0, directions=ALL[:2]),
    ranking("symmetric", 0, directions=(ALL[0], ALL[2]), partition_mode="per_direction"),
    ranking("hardness_in_batch", 1, hardness_mode="in_batch_negatives", hardness_strength=9.0),
    ranking("hardness_hard", 2, hardness_mode="hard_negatives", hardness_strength=5.0),
    ranking("hardness_all", 1, directions=ALL, hardness_mode="all_negatives", hardness_strength=5.0),
    gist("plain"),
    gist("hard", 1),
    gist("absolute", 1, margin=0.3),
    gist("relative", 1, margin_strategy="relative", margin=0.2),
    gist("documents", 0, contrast_anchors=False, contrast_positives=False),
    hinge("pairs", 0),
    hinge("hard", 1),
    embeddings("mse"),
    embeddings("l2"),
    embeddings("cosine"),
    listwise("list_net", True),
    listwise("list_net", False),
    listwise("list_mle", True),
    listwise("list_mle", False),
    matryoshka([8, 4, 2], [1.0, 0.5, 2.0]),
]

if __name__ == "__main__":
    about = "losses of sentence embeddings, values and gradients of sentence-transformers and torch in f64"
    with open(sys.argv[1], "w") as file:
        json.dump({"schema": "golden/1", "name": "sentence_losses", "about": about, "cases": CASES}, file, separators=(",", ":"))
        file.write("\n")
    print(len(CASES), "cases")
