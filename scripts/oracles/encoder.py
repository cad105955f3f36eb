#!/usr/bin/env python3
"""Makes the tiny BERT checkpoint of the encoder's tests and what transformers computes with it.

    python scripts/oracles/encoder.py crates/encoder/tests/fixtures/tiny_bert

Needs torch, transformers and tokenizers. Same seed, same files (values may move in the last digits
with library versions). With a second argument, a real sentence-transformers directory, nothing is
written: it prints how a directory saved by `asterism model export` differs from it in Python.
"""
import json
import os
import sys

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM

TEXTS = ["play the song", "", "turn off the kitchen light now please", "a b c", "unknown zzz word", "Play THE song!"]
WORDS = ("the a b c play song turn off on kitchen light now please what is weather set alarm ! ? . , "
         "word ##s ##ing ##ed un ##known").split()


def compare(ours, theirs):
    from sentence_transformers import SentenceTransformer
    texts = TEXTS + ["A man is playing a guitar.", "\u4eca\u5929\u5929\u6c14\u600e\u4e48\u6837", "word " * 600]
    a = SentenceTransformer(ours, device="cpu").encode(texts, normalize_embeddings=True)
    b = SentenceTransformer(theirs, device="cpu").encode(texts, normalize_embeddings=True)
    print("largest difference of the vectors:", abs(a - b).max())
    for name in ["model.safetensors", "tokenizer.json"]:
        same = open(os.path.join(ours, name), "rb").read() == open(os.path.join(theirs, name), "rb").read()
        print(f"{name}: {'the same bytes' if same else 'other bytes'}")


def main(out):
    torch.manual_seed(11)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
                        intermediate_size=40, max_position_embeddings=16, initializer_range=0.3,
                        hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():     # away from the 0 and 1 of a fresh model
            if "LayerNorm" in name or name.endswith("bias"):
                p.add_(0.1 * torch.randn_like(p))
    model.save_pretrained(out)
    tokenizer.save(os.path.join(out, "tokenizer.json"))
    for name in os.listdir(out):
        if name not in ("config.json", "model.safetensors", "tokenizer.json", "expected.json"):
            os.remove(os.path.join(out, name))

    double = model.double()
    ids = [e.ids for e in tokenizer.encode_batch(TEXTS)]
    width = max(map(len, ids))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in ids], dtype=torch.float64)
    output = double.bert(input_ids=padded, attention_mask=mask, output_hidden_states=True)
    h = output.hidden_states
    mean = lambda x: (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    vectors = {"cls": h[-1][:, 0], "mean": mean(h[-1]), "avg_top2": mean((h[-1] + h[-2]) / 2),
               "avg_first_last": mean((h[1] + h[-1]) / 2)}
    logits = double(input_ids=padded, attention_mask=mask).logits
    positions = [(0, 1), (0, 3), (2, 2), (5, 1)]
    picked = torch.stack([logits[r, c] for r, c in positions])
    weights = torch.arange(1, 25, dtype=torch.float64) / 24
    loss = (vectors["mean"] * weights).pow(2).sum() + picked.logsumexp(1).sum()
    double.zero_grad()
    loss.backward()
    names = ["bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight",
             "bert.embeddings.LayerNorm.weight", "bert.encoder.layer.0.attention.self.query.weight",
             "bert.encoder.layer.1.attention.self.value.bias", "bert.encoder.layer.2.attention.output.dense.weight",
             "bert.encoder.layer.0.attention.output.LayerNorm.bias", "bert.encoder.layer.1.intermediate.dense.weight",
             "bert.encoder.layer.2.output.LayerNorm.weight", "cls.predictions.transform.dense.weight",
             "cls.predictions.bias"]
    parameters = dict(double.named_parameters())
    pack = lambda t: {"shape": list(t.shape), "data": [float(f"{v:.9g}") for v in t.detach().reshape(-1).tolist()]}
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump({"texts": TEXTS, "ids": ids, "vectors": {k: pack(v) for k, v in vectors.items()},
                   "mlm_positions": positions, "mlm_logits": pack(picked), "loss": loss.item(),
                   "gradients": {n: pack(parameters[n].grad) for n in names}}, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    compare(*sys.argv[1:]) if len(sys.argv) > 2 else main(sys.argv[1])
