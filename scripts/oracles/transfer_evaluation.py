"""Transfer accuracies of a model directory by PyTorch and scikit-learn, to compare with `evaluate`.

    pip install sentence-transformers scikit-learn
    python scripts/oracles/transfer_evaluation.py MODEL_DIR TRANSFER_DIR [--mode test|fasttest|dev]
        [--tasks MR,CR,...] [--json OURS.json] [--cache VECTORS.npz]

TRANSFER_DIR holds mr.tsv, cr.tsv, subj.tsv, mpqa.tsv (label, text), sst2_{train,dev,test}.tsv,
trec_{train,test}.tsv and mrpc_{train,test}.tsv (label, sentence1, sentence2), each perhaps with `.gz`.

The protocol is SentEval's: one linear layer trained with `torch.optim`, the L2 penalty chosen from
1e-5 ... 1e-2 by cross-validation, early stopping whose count is never reset, seed 1111. Folds come from
scikit-learn's StratifiedKFold, shuffles from NumPy, first weights from PyTorch: another draw than
`evaluate` makes, so the two agree within the noise of the draw. With `--json` both are printed.

`--golden` needs no model and prints a few steps of both optimisers as JSON, for
crates/metrics/tests/golden/logistic_regression.json.
"""

import argparse
import copy
import gzip
import json
import pathlib
import time

import numpy as np
import torch
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

SEED = 1111
GRID = [1e-5, 1e-4, 1e-3, 1e-2]
MAX_EPOCHS = 200
THOROUGH = {"folds": 10, "optimizer": torch.optim.Adam, "lr": 1e-3, "batch": 64, "tenacity": 5, "epoch_size": 4}
FAST = {"folds": 5, "optimizer": torch.optim.RMSprop, "lr": 1e-2, "batch": 128, "tenacity": 3, "epoch_size": 2}
TASKS = ["MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC"]


class Classifier:
    def __init__(self, settings, dim, classes, l2):
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        self.settings = settings
        self.model = torch.nn.Linear(dim, classes)
        self.optimizer = settings["optimizer"](self.model.parameters(), lr=settings["lr"], weight_decay=l2)

    def hold_out(self, x, y, share):
        order = np.random.permutation(len(x))
        dev, train = order[: int(share * len(x))], order[int(share * len(x)) :]
        return self.fit((x[train], y[train]), (x[dev], y[dev]))

    def fit(self, train, dev):
        x, y = torch.from_numpy(train[0]), torch.from_numpy(train[1])
        size = self.settings["batch"]
        best, failures, epochs = (-1.0, None), 0, 0
        while epochs <= MAX_EPOCHS and failures <= self.settings["tenacity"]:
            for _ in range(self.settings["epoch_size"]):
                order = torch.from_numpy(np.random.permutation(len(x)))
                for start in range(0, len(x), size):
                    rows = order[start : start + size]
                    loss = torch.nn.functional.cross_entropy(self.model(x[rows]), y[rows])
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
            epochs += self.settings["epoch_size"]
            accuracy = self.score(*dev)
            if accuracy > best[0]:
                best = (accuracy, copy.deepcopy(self.model.state_dict()))
            else:
                failures += 1
        self.model.load_state_dict(best[1])
        return best[0]

    @torch.no_grad()
    def predict(self, x):
        return self.model(torch.from_numpy(x)).argmax(1).numpy()

    def score(self, x, y):
        return float((self.predict(x) == y).mean())


def folds_of(settings, x, y):
    return list(StratifiedKFold(settings["folds"], shuffle=True, random_state=SEED).split(x, y))


def choose(settings, x, y, classes):
    scores = []
    for l2 in GRID:
        accuracies = []
        for train, test in folds_of(settings, x, y):
            classifier = Classifier(settings, x.shape[1], classes, l2)
            accuracies.append(classifier.fit((x[train], y[train]), (x[test], y[test])))
        scores.append(round(100 * np.mean(accuracies), 2))
    return GRID[int(np.argmax(scores))], max(scores)


def nested(settings, x, y, classes, test):
    dev, tested = [], []
    for train, held in folds_of(settings, x, y):
        l2, score = choose(settings, x[train], y[train], classes)
        dev.append(score)
        if test:
            classifier = Classifier(settings, x.shape[1], classes, l2)
            classifier.hold_out(x[train], y[train], 0.05)
            tested.append(round(100 * classifier.score(x[held], y[held]), 2))
    return round(np.mean(dev), 2), round(np.mean(tested), 2) if test else None, None


def train_test(settings, train, tested, classes, test):
    l2, score = choose(settings, *train, classes)
    if not test:
        return score, None, None
    classifier = Classifier(settings, train[0].shape[1], classes, l2)
    classifier.hold_out(*train, 0.05)
    predicted = classifier.predict(tested[0])
    f1 = round(100 * f1_score(tested[1], predicted), 2) if classes == 2 else None
    return score, round(100 * float((predicted == tested[1]).mean()), 2), f1


def train_dev_test(settings, train, dev, tested, test):
    scores = []
    for l2 in GRID:
        scores.append(round(100 * Classifier(settings, train[0].shape[1], 2, l2).fit(train, dev), 2))
    if not test:
        return max(scores), None, None
    classifier = Classifier(settings, train[0].shape[1], 2, GRID[int(np.argmax(scores))])
    classifier.fit(train, dev)
    return max(scores), round(100 * classifier.score(*tested), 2), None


def read(folder, name):
    path = folder / f"{name}.tsv"
    opener = path.open if path.exists() else lambda **kw: gzip.open(folder / f"{name}.tsv.gz", "rt", **kw)
    with opener(encoding="utf-8") as lines:
        next(lines)
        return [line.rstrip("\n").split("\t") for line in lines]


def files_of(task):
    name = task.lower()
    parts = {"SST2": ["train", "dev", "test"], "TREC": ["train", "test"], "MRPC": ["train", "test"]}
    return [f"{name}_{part}" for part in parts[task]] if task in parts else [name]


def encode(model, texts, cache):
    known = {}
    if cache and cache.exists():
        stored = np.load(cache, allow_pickle=False)
        known = dict(zip(stored["texts"].tolist(), stored["vectors"]))
    missing = sorted(set(texts) - known.keys())
    if missing:
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(2)
        encoder = SentenceTransformer(model, device="cpu")
        encoder.max_seq_length = encoder[0].auto_model.config.max_position_embeddings
        known.update(zip(missing, encoder.encode(missing, batch_size=64, show_progress_bar=False)))
        if cache:
            np.savez(cache, texts=np.array(list(known)), vectors=np.stack(list(known.values())))
    return known


def golden():
    torch.manual_seed(3)
    rows, dim, classes, steps = 24, 19, 3, 12
    x, y = torch.randn(rows, dim), torch.arange(rows) % classes
    batches = [[(5 * step + 7 * place) % rows for place in range(8)] for step in range(steps)]
    cases = []
    for name, optimizer, lr in [("adam", torch.optim.Adam, 1e-2), ("rmsprop", torch.optim.RMSprop, 1e-2)]:
        model = torch.nn.Linear(dim, classes)
        first = {key: value.flatten().tolist() for key, value in copy.deepcopy(model.state_dict()).items()}
        update = optimizer(model.parameters(), lr=lr, weight_decay=1e-2)
        for batch in batches:
            update.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            update.step()
        last = {key: value.flatten().tolist() for key, value in model.state_dict().items()}
        cases.append({"optimizer": name, "lr": lr, "l2": 1e-2, "first": first, "last": last})
    return {
        "source": f"scripts/oracles/transfer_evaluation.py --golden, torch {torch.__version__}",
        "dim": dim,
        "classes": classes,
        "features": x.flatten().tolist(),
        "labels": y.tolist(),
        "batches": batches,
        "cases": cases,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("transfer", nargs="?", type=pathlib.Path)
    parser.add_argument("--mode", choices=["test", "fasttest", "dev"], default="test")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("--golden", action="store_true")
    args = parser.parse_args()
    if args.golden:
        print(json.dumps(golden()))
        return
    if not args.transfer:
        parser.error("MODEL_DIR and TRANSFER_DIR are needed")

    settings = THOROUGH if args.mode == "test" else FAST
    tasks = args.tasks.split(",")
    ours = {}
    if args.json:
        for row in json.loads(args.json.read_text())["rows"]:
            ours[row["task"], row["split"], row["metric"]] = 100 * row["value"]
    print(f"{'task':<6}{'score':>10}{'here':>8}{'ours':>8}   seconds")
    for task in tasks:
        tables = [read(args.transfer, name) for name in files_of(task)]
        vectors = encode(args.model, [text for rows in tables for row in rows for text in row[1:]], args.cache)
        # Steps this small only lose by threads.
        torch.set_num_threads(1)
        started = time.time()
        names = sorted({row[0] for rows in tables for row in rows})
        parts = []
        for rows in tables:
            if task == "MRPC":
                u, v = (np.stack([vectors[row[at]] for row in rows]) for at in (1, 2))
                x = np.concatenate([np.abs(u - v), u * v], axis=1)
            else:
                x = np.stack([vectors[row[1]] for row in rows])
            parts.append((x, np.array([names.index(row[0]) for row in rows])))
        test = args.mode != "dev"
        if task == "SST2":
            dev, accuracy, f1 = train_dev_test(settings, *parts, test)
        elif len(parts) == 2:
            dev, accuracy, f1 = train_test(settings, *parts, len(names), test)
        else:
            dev, accuracy, f1 = nested(settings, *parts[0], len(names), test)
        seconds = time.time() - started
        for label, split, metric, value in [
            ("devacc", "dev", "accuracy", dev),
            ("test", "test", "accuracy", accuracy),
            ("test F1", "test", "f1", f1),
        ]:
            if value is not None:
                other = ours.get((task, split, metric))
                other = "-" if other is None else f"{other:.2f}"
                print(f"{task:<6}{label:>10}{value:>8.2f}{other:>8}   {seconds:.0f}", flush=True)


if __name__ == "__main__":
    main()
