#!/usr/bin/env python3
"""Writes a model directory as one ONNX graph: encoder, pooling and normalisation.

    pip install torch sentence-transformers onnx onnxscript onnxruntime
    asterism model export DIR --to plain       # gives any model the layout that Python reads
    python3 scripts/export_onnx.py plain model.onnx --check

Inputs `input_ids` and `attention_mask`, int64 `[batch, length]`; output `sentence_embedding`, float32
`[batch, dim]`. Batch and length are free. Tokenise with `tokenizer.json` of the directory and pad on the
right; texts are cut to `max_seq_length` of sentence_bert_config.json before.

`--check` computes the 200 texts of scripts/oracles/exported_model.py with onnxruntime and with
sentence-transformers, in batches of other sizes and so with other padding, and fails if any two vectors
differ by more than rounding.
"""

import argparse
import logging
import pathlib
import sys
import warnings

from oracles.exported_model import texts

OPSET = 18
BATCH = 16
MIN_COSINE = 0.99999
MAX_DIFFERENCE = 1e-4


def export(model, out):
    import torch

    class Graph(torch.nn.Module):
        """All modules of the directory in a row, from token ids to the vector."""

        def __init__(self):
            super().__init__()
            self.modules_in_row = torch.nn.ModuleList(model)

        def forward(self, input_ids, attention_mask):
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            for module in self.modules_in_row:
                features = module(features)
            return features["sentence_embedding"]

    # More than one text and unequal lengths: neither size may be taken for a constant.
    sample = model.tokenize(["a short text", "a second text that is longer than the first one", "third"])
    batch = torch.export.Dim("batch", min=1, max=4096)
    length = torch.export.Dim("length", min=2, max=model.max_seq_length)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Graph().eval(),
            (sample["input_ids"], sample["attention_mask"]),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_embedding"],
            dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}),
            verbose=False,
        )
    program.save(str(out), external_data=False)


def check(model, out, lines):
    import numpy
    import onnx
    import onnxruntime

    graph = onnx.load(str(out))
    onnx.checker.check_model(graph)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    ours = []
    for at in range(0, len(lines), BATCH):
        tokens = model.tokenize(lines[at : at + BATCH])
        feed = {name: tokens[name].numpy() for name in ("input_ids", "attention_mask")}
        ours.append(session.run(["sentence_embedding"], feed)[0])
    ours = numpy.concatenate(ours).astype(numpy.float64)
    theirs = model.encode(lines, batch_size=3 * BATCH, show_progress_bar=False).astype(numpy.float64)
    norms = numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / norms
    difference = numpy.abs(ours - theirs).max()
    print(f"{out.name}: {out.stat().st_size} bytes, opset {opsets.get('ai.onnx')}, onnxruntime {onnxruntime.__version__}")
    print(f"texts {len(lines)}, vectors {ours.shape}, length of vectors {numpy.linalg.norm(ours, axis=1).mean():.6f}")
    print(f"smallest cosine {cosines.min():.8f}, largest difference {difference:.2e}")
    good = cosines.min() >= MIN_COSINE and difference <= MAX_DIFFERENCE * max(1.0, numpy.abs(theirs).max())
    print("same" if good else "DIFFERENT")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL_DIR")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT.onnx")
    parser.add_argument("--check", action="store_true", help="compare with sentence-transformers afterwards")
    parser.add_argument("--texts", type=pathlib.Path, metavar="FILE", help="texts for --check, one a line")
    args = parser.parse_args()
    logging.disable(logging.WARNING)

    from sentence_transformers import SentenceTransformer

    # Only files of the directory, no code from it, no network.
    model = SentenceTransformer(
        str(args.model.resolve(strict=True)),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"attn_implementation": "eager", "use_safetensors": True},
    ).eval()
    if model.default_prompt_name is not None:
        print(f"the prompt `{model.default_prompt_name}` is not part of the graph", file=sys.stderr)
    export(model, args.out)
    lines = args.texts.read_text(encoding="utf-8").splitlines() if args.texts else texts()
    if args.check and not check(model, args.out, lines):
        sys.exit(1)


if __name__ == "__main__":
    main()
