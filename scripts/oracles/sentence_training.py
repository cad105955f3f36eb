"""Losses of SimCSE and of regression STS trained by torch, to compare with our programs.

    pip install torch transformers safetensors
    python scripts/oracles/sentence_training.py replay simcse MODEL_DIR TRIPLETS.csv OUT_DIR
    python scripts/oracles/sentence_training.py replay regression_sts MODEL_DIR PAIRS.tsv OUT_DIR
    python scripts/oracles/sentence_training.py golden TINY_MODEL_DIR OUT.json

`replay` trains for `--steps` steps and writes into OUT_DIR `order.json` (the batches, for
`batch_order_file`), for regression STS `head.safetensors` (for `head_init_file`), and `losses.json`. It
prints the arguments that make our program do the same. With `--compare RUN_DIR/metrics.jsonl` it trains
nothing, compares the losses written before with those of our run, and fails if one differs by more than
1e-3 of its size. TRIPLETS.csv has three columns, PAIRS.tsv the columns label, premise, hypothesis without
quoting; rows with the label `-` are left out.

`golden` makes up rows from the vocabulary of a small model, trains both methods on them and writes rows,
batches, head and losses into one file, which the tests of `experiments` compare with.

Dropout is 0 on both sides. SimCSE: mean pooling, temperature 0.05, a hard negative each, AdamW without
weight decay, clipping at 1, linear decay to 0. Regression STS: mean pooling, Smooth K2 with k = 2 and
x0 = 0.25, predictions below 0 count as 0, weight decay 0.01 (none on biases and layer norms), clipping
at 10, 20 % warm-up, each layer 0.95 times the rate of the one above.
"""

import argparse
import csv
import json
import pathlib
import random
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModel

TOLERANCE = 1e-3
LABELS = {"contradiction": 0, "neutral": 1, "entailment": 2}


class SimCse:
    """Triplets: the positive of an anchor among all positives and all hard negatives."""

    texts = 3
    clip = 1.0
    warmup = 0.0

    def __init__(self, rows):
        self.columns = [[row[column] for row in rows] for column in range(3)]

    def groups(self, model, lr):
        return [{"params": list(model.parameters()), "lr": lr, "weight_decay": 0.0}]

    def loss(self, vectors, _):
        anchors, positives, negatives = torch.nn.functional.normalize(vectors, dim=-1).chunk(3)
        logits = torch.cat([anchors @ positives.T, anchors @ negatives.T], dim=1) / 0.05
        return torch.nn.functional.cross_entropy(logits, torch.arange(len(anchors)))

    @staticmethod
    def arguments(settings):
        return [
            "stages=['train']", f"max_len={settings['max_len']}", f"batch_size={settings['batch']}",
            f"lr={settings['lr']}", "pooling=mean", "dropout=0", "selection.every=0",
        ]


class Regression:
    """Labelled pairs: a linear head over `[u ; v ; |u - v|]`, Smooth K2."""

    texts = 2
    clip = 10.0
    warmup = 0.2

    def __init__(self, rows, hidden, seed):
        self.labels = torch.tensor([float(row[0]) for row in rows])
        self.columns = [[row[1] for row in rows], [row[2] for row in rows]]
        torch.manual_seed(seed)
        self.head = torch.nn.Linear(3 * hidden, 1)

    def groups(self, model, lr):
        depth = model.config.num_hidden_layers
        groups = []
        for name, parameter in [*model.named_parameters(), *self.head.named_parameters(prefix="head")]:
            plain = name.endswith("bias") or "LayerNorm" in name
            rate = lr
            if name.startswith("encoder.layer."):
                rate *= 0.95 ** (depth - 1 - int(name.split(".")[2]))
            groups.append(
                {"params": [parameter], "lr": rate, "weight_decay": 0.0 if plain else 0.01}
            )
        return groups

    def loss(self, vectors, rows):
        u, v = vectors.chunk(2)
        scores = self.head(torch.cat([u, v, (u - v).abs()], dim=1)).squeeze(1)
        scores = torch.where(scores >= 0, scores, torch.zeros_like(scores))
        errors = (scores - self.labels[rows]).abs()
        return (2.0 * torch.relu(errors - 0.25).square()).mean()

    @staticmethod
    def arguments(settings):
        return [
            "stages=['nli']", f"max_len={settings['max_len']}", f"nli.batch_size={settings['batch']}",
            f"nli.lr={settings['lr']}", "pooling=mean", "dropout=0", "selection.every=0",
            "schedule=textbook", "dedup_against_eval=none",
        ]


def encode(model, ids):
    """Mean of the last hidden states over the tokens of each text."""
    width = max(map(len, ids))
    tokens = torch.zeros(len(ids), width, dtype=torch.long)
    mask = torch.zeros(len(ids), width)
    for row, text in enumerate(ids):
        tokens[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1.0
    states = model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def train(model_dir, method, order, settings):
    """Loss of every step."""
    tokenizer = Tokenizer.from_file(str(pathlib.Path(model_dir) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings["max_len"])
    columns = [[each.ids for each in tokenizer.encode_batch(column)] for column in method.columns]
    model = AutoModel.from_pretrained(
        model_dir,
        add_pooling_layer=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        dtype=torch.float32,
    )
    model.train()
    groups = method.groups(model, settings["lr"])
    optimizer = torch.optim.AdamW(groups, eps=1e-8)
    steps = len(order)
    warmup = int(method.warmup * steps)

    def factor(step):
        if step < warmup:
            return step / warmup
        return (steps - step) / (steps - warmup)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    parameters = [parameter for group in groups for parameter in group["params"]]
    losses = []
    for rows in order:
        vectors = encode(model, [column[row] for column in columns for row in rows])
        loss = method.loss(vectors, rows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, method.clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def draw_order(rows, settings, rng):
    """Batches of whole epochs, cut at the number of steps."""
    order = []
    while len(order) < settings["steps"]:
        epoch = list(range(rows))
        rng.shuffle(epoch)
        size = settings["batch"]
        order += [epoch[at : at + size] for at in range(0, rows - size + 1, size)]
    return order[: settings["steps"]]


def read_triplets(path):
    with path.open(encoding="utf-8", newline="") as lines:
        return [[text or " " for text in row] for row in list(csv.reader(lines))[1:]]


def read_pairs(path):
    with path.open(encoding="utf-8") as lines:
        next(lines)
        rows = [line.rstrip("\n").split("\t") for line in lines]
    return [[LABELS[row[0]], row[1], row[2]] for row in rows if row[0] != "-"]


def compare(losses, metrics):
    ours = [json.loads(line) for line in metrics.read_text().splitlines()]
    ours = [line["loss"] for line in ours if "loss" in line]
    assert len(ours) == len(losses), f"{len(ours)} steps of ours, {len(losses)} of torch"
    worst = max(
        (abs(a - b) / abs(b), step, a, b) for step, (a, b) in enumerate(zip(ours, losses))
    )
    print("largest relative difference %.2e at step %d: ours %.7f, torch %.7f" % worst)
    print(f"first and last loss of torch: {losses[0]:.6f} {losses[-1]:.6f}")
    return worst[0] <= TOLERANCE


def replay(options):
    options.out.mkdir(parents=True, exist_ok=True)
    if options.compare:
        losses = json.loads((options.out / "losses.json").read_text())
        sys.exit(0 if compare(losses, options.compare) else 1)
    settings = {
        "steps": options.steps, "batch": options.batch, "lr": options.lr,
        "max_len": options.max_len,
    }
    sets = []
    if options.method == "simcse":
        method = SimCse(read_triplets(options.data))
    else:
        hidden = json.loads((options.model / "config.json").read_text())["hidden_size"]
        method = Regression(read_pairs(options.data), hidden, options.seed)
        head = {name: value.detach() for name, value in method.head.named_parameters()}
        save_file(head, options.out / "head.safetensors")
        sets.append(f"head_init_file={options.out / 'head.safetensors'}")
    order = draw_order(len(method.columns[0]), settings, random.Random(options.seed))
    (options.out / "order.json").write_text(json.dumps(order))
    sets = method.arguments(settings) + [f"batch_order_file={options.out / 'order.json'}"] + sets
    sets = " ".join(f'--set "{each}"' for each in sets)
    print(f"{options.method} --model {options.model} --data {options.data} {sets}", flush=True)
    losses = train(options.model, method, order, settings)
    (options.out / "losses.json").write_text(json.dumps(losses))


def golden(options):
    rng = random.Random(0)
    vocabulary = json.loads((options.model / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isalpha() and len(word) > 1)

    def text(own):
        return " ".join(own + rng.choices(words, k=rng.randint(1, 6)))

    triplets, pairs = [], []
    for _ in range(48):
        own, other = rng.sample(words, 2), rng.sample(words, 2)
        triplets.append([text(own), text(own), text(other)])
        label = rng.randrange(3)
        pairs.append([label, text(own), text([other, own[:1], own][label])])
    hidden = json.loads((options.model / "config.json").read_text())["hidden_size"]
    found = {}
    for name, rows, lr in [("simcse", triplets, 1e-3), ("regression_sts", pairs, 2e-3)]:
        settings = {"steps": 50, "batch": 8, "lr": lr, "max_len": 12}
        method = SimCse(rows) if name == "simcse" else Regression(rows, hidden, 0)
        entry = {"settings": settings, "rows": rows}
        if name == "regression_sts":
            entry["head"] = {
                "weight": method.head.weight.detach().flatten().tolist(),
                "bias": method.head.bias.detach().tolist(),
            }
        entry["order"] = draw_order(len(rows), settings, rng)
        entry["losses"] = train(options.model, method, entry["order"], settings)
        found[name] = entry
    options.out.write_text(json.dumps(found) + "\n")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("replay")
    one.add_argument("method", choices=["simcse", "regression_sts"])
    one.add_argument("model", type=pathlib.Path)
    one.add_argument("data", type=pathlib.Path)
    one.add_argument("out", type=pathlib.Path)
    one.add_argument("--steps", type=int, default=50)
    one.add_argument("--batch", type=int, default=16)
    one.add_argument("--lr", type=float, default=3e-5)
    one.add_argument("--max-len", type=int, default=32)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--compare", type=pathlib.Path, metavar="METRICS")
    one.set_defaults(run=replay)
    two = commands.add_parser("golden")
    two.add_argument("model", type=pathlib.Path)
    two.add_argument("out", type=pathlib.Path)
    two.set_defaults(run=golden)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
