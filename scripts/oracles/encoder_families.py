#!/usr/bin/env python3
"""Makes the tiny checkpoints of the encoder families' tests and what PyTorch computes with them in f64.

    python scripts/oracles/encoder_families.py crates/encoder/tests/fixtures

Needs torch, transformers (5.23 or later), tokenizers and safetensors. Same seed, same files (values may
move in the last digits with library versions). RoBERTa, DistilBERT, MPNet, NomicBERT and ModernBERT are the
classes of transformers; Jina v2, which needs remote code there, is written out in `JinaBert` below.

Each directory gets config.json, model.safetensors and its tokenizer, and

    expected.json          texts, their ids (at most 28 a text), loss, masked positions
    expected.safetensors   hidden states of the tokens without padding, pooled vectors, logits, and the gradient of
                           every parameter (of the word table only the rows that occur: `rows` in expected.json)
"""
import json
import math
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F
from transformers import (DistilBertConfig, DistilBertForMaskedLM, ModernBertConfig, ModernBertForMaskedLM, MPNetConfig,
                          MPNetForMaskedLM, NomicBertConfig, NomicBertModel, RobertaConfig, RobertaForMaskedLM)

HIDDEN, INNER, LENGTH = 24, 28, 28
TEXTS = ["play the song", "", "turn off the kitchen light now please and set the alarm of the week", "a",
         "Stra\u00dfe \u4eca\u5929 \U0001f600 na\u00efve", "what is the weather " * 12]
WORDS = ("the a b c play song turn off on kitchen light now please what is weather set alarm and of week ! ? . , "
         "word ##s ##ing ##ed un ##known str ##a ##e").split()
MERGES = ["t h", "th e", "\u0120 the", "p l", "pl a", "pla y", "o n", "\u0120 s", "\u0120s on", "\u0120son g", "i n",
          "in g", "\u0120 a", "e r"]


def word_pieces(special, cls, sep):
    vocabulary = special + WORDS
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing((sep, special.index(sep)), (cls, special.index(cls)))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(special)
    return tokenizer


def byte_level(special, cls, sep, prefix):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = prefix + alphabet + ["".join(m.split()) for m in MERGES] + [t for t in special if t not in prefix]
    ids = {w: i for i, w in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, [tuple(m.split()) for m in MERGES]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if cls == "<s>":
        tokenizer.post_processor = processors.RobertaProcessing((sep, ids[sep]), (cls, ids[cls]), trim_offsets=True,
                                                                add_prefix_space=False)
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B {sep}", special_tokens=[(cls, ids[cls]), (sep, ids[sep])])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False, lstrip=t in ("<mask>", "[MASK]"))
                                  for t in special])
    return tokenizer, vocabulary


class JinaBert(nn.Module):
    """Jina embeddings v2 (Guenther et al., arXiv 2310.19923): BERT with symmetric ALiBi and a gated feed forward."""

    def __init__(self, vocabulary, heads, layers):
        super().__init__()
        self.heads = heads
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(vocabulary, HIDDEN),
                                         "token_type_embeddings": nn.Embedding(2, HIDDEN),
                                         "LayerNorm": nn.LayerNorm(HIDDEN, eps=1e-12)})
        def layer():
            attention = nn.ModuleDict({
                "self": nn.ModuleDict({n: nn.Linear(HIDDEN, HIDDEN) for n in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(HIDDEN, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, eps=1e-12)})})
            mlp = nn.ModuleDict({"gated_layers": nn.Linear(HIDDEN, 2 * INNER, bias=False), "wo": nn.Linear(INNER, HIDDEN),
                                 "layernorm": nn.LayerNorm(HIDDEN, eps=1e-12)})
            return nn.ModuleDict({"attention": attention, "mlp": mlp})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layer() for _ in range(layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(HIDDEN, HIDDEN)})

    @staticmethod
    def slopes(n):
        """Geometric for powers of two; else those of the power below, then every other one of the power above."""
        if n & (n - 1) == 0:
            return [2.0 ** (-8.0 * (i + 1) / n) for i in range(n)]
        below = 2 ** int(math.log2(n))
        return JinaBert.slopes(below) + JinaBert.slopes(2 * below)[0::2][:n - below]

    def forward(self, ids, mask):
        e = self.embeddings
        x = e["LayerNorm"](e["word_embeddings"](ids) + e["token_type_embeddings"](torch.zeros_like(ids)))
        states = [x]
        n, length = ids.shape
        at = torch.arange(length)
        distance = (at[None, :] - at[:, None]).abs().to(x.dtype)
        bias = -torch.tensor(self.slopes(self.heads), dtype=x.dtype)[:, None, None] * distance
        bias = bias[None] + (1.0 - mask)[:, None, None, :] * -1e300
        for layer in self.encoder["layer"]:
            a = layer["attention"]
            q, k, v = (a["self"][m](x).view(n, length, self.heads, -1).transpose(1, 2) for m in ("query", "key", "value"))
            p = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + bias, -1)
            c = (p @ v).transpose(1, 2).reshape(n, length, -1)
            x = a["output"]["LayerNorm"](x + a["output"]["dense"](c))
            m = layer["mlp"]
            gated, plain = m["gated_layers"](x).chunk(2, -1)
            x = m["layernorm"](x + m["wo"](F.gelu(gated) * plain))
            states.append(x)
        return states


def families():
    sizes = dict(hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4, intermediate_size=INNER,
                 initializer_range=0.2)
    bert_tokens, mpnet_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]

    roberta_prefix = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer, vocabulary = byte_level(roberta_prefix + ["<mask>"], "<s>", "</s>", roberta_prefix)
    model = RobertaForMaskedLM(RobertaConfig(vocab_size=len(vocabulary), max_position_embeddings=LENGTH + 2,
                                             type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
                                             eos_token_id=2, **sizes))
    yield "roberta", tokenizer, model, model.roberta

    tokenizer = word_pieces(bert_tokens, "[CLS]", "[SEP]")
    words = len(bert_tokens) + len(WORDS)
    model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=words, dim=HIDDEN, n_layers=2, n_heads=4,
                                                   hidden_dim=INNER, max_position_embeddings=LENGTH,
                                                   initializer_range=0.2))
    yield "distilbert", tokenizer, model, model.distilbert

    tokenizer = word_pieces(mpnet_tokens, "<s>", "</s>")
    model = MPNetForMaskedLM(MPNetConfig(vocab_size=words, max_position_embeddings=LENGTH + 2, layer_norm_eps=1e-5,
                                         **sizes))
    yield "mpnet", tokenizer, model, model.mpnet

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer, vocabulary = byte_level(special, "[CLS]", "[SEP]", [])
    ids = {t: i for i, t in enumerate(vocabulary)}
    model = ModernBertForMaskedLM(ModernBertConfig(
        vocab_size=len(vocabulary), max_position_embeddings=LENGTH, local_attention=8, attention_dropout=0.0,
        pad_token_id=ids["[PAD]"], bos_token_id=ids["[CLS]"], cls_token_id=ids["[CLS]"], eos_token_id=ids["[SEP]"],
        sep_token_id=ids["[SEP]"], **sizes))
    yield "modernbert", tokenizer, model, model.model

    tokenizer = word_pieces(bert_tokens, "[CLS]", "[SEP]")
    model = NomicBertModel(NomicBertConfig(vocab_size=words, max_position_embeddings=LENGTH,
                                           rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, **sizes))
    yield "nomic_bert", tokenizer, model, model

    tokenizer = word_pieces(bert_tokens, "[CLS]", "[SEP]")
    yield "jina_bert", tokenizer, JinaBert(words, heads=6, layers=2), None


def jina_config(words):
    remote = "jinaai/jina-bert-implementation--"
    return {"architectures": ["JinaBertForMaskedLM"], "model_type": "bert", "position_embedding_type": "alibi",
            "auto_map": {"AutoConfig": remote + "configuration_bert.JinaBertConfig",
                         "AutoModel": remote + "modeling_bert.JinaBertModel"},
            "feed_forward_type": "geglu", "emb_pooler": "mean", "attn_implementation": "torch", "vocab_size": words,
            "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": INNER,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0,
            "initializer_range": 0.2, "layer_norm_eps": 1e-12, "max_position_embeddings": LENGTH, "pad_token_id": 0,
            "type_vocab_size": 2}


def states_of(name, model, body, ids, mask):
    if body is None:
        return model(ids, mask.double())
    output = body(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    states = list(output.hidden_states)
    states[-1] = output.last_hidden_state
    return states


def logits_of(name, model, rows):
    """Masked-word logits from rows of the last hidden state, through the head's own modules."""
    if name == "roberta" or name == "mpnet":
        return model.lm_head(rows)
    if name == "distilbert":
        return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(rows))))
    if name == "modernbert":
        return model.decoder(model.head(rows))
    return None


def checkpoint_gradients(model, out):
    """Gradients under the names and in the layout of the file: written by the model's own writer."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.zeros_like(p) if p.grad is None else p.grad)
    if isinstance(model, JinaBert):
        return {k: v.float() for k, v in model.state_dict().items()}
    folder = os.path.join(out, "gradients")
    model.float().save_pretrained(folder)
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    for name in os.listdir(folder):
        os.remove(os.path.join(folder, name))
    os.rmdir(folder)
    return tensors


def make(name, tokenizer, model, body, root):
    out = os.path.join(root, "tiny_" + name)
    os.makedirs(out, exist_ok=True)
    for old in os.listdir(out):
        os.remove(os.path.join(out, old))
    with torch.no_grad():
        for key, p in model.named_parameters():     # away from the 0 and 1 of a fresh model
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
            elif body is None or name == "modernbert":
                p.copy_(0.2 * torch.randn_like(p))
    model.eval()
    if body is None:
        save_file(model.state_dict(), os.path.join(out, "model.safetensors"), {"format": "pt"})
        config = jina_config(tokenizer.get_vocab_size())
        with open(os.path.join(out, "config.json"), "w") as f:
            json.dump(config, f, indent=2)
            f.write("\n")
    else:
        model.save_pretrained(out)
    if os.path.exists(os.path.join(out, "generation_config.json")):
        os.remove(os.path.join(out, "generation_config.json"))
    tokenizer.save(os.path.join(out, "tokenizer.json"), pretty=False)
    if name == "roberta":                              # the older form of the same tokenizer
        tokenizer.model.save(out)

    tokenizer.enable_truncation(LENGTH)
    rows = [e.ids for e in tokenizer.encode_batch(TEXTS)]
    width = max(map(len, rows))
    # Masked; RoBERTa and MPNet count positions over the other ids.
    pad = 1 if name in ("roberta", "mpnet") else 0
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    double = model.double()
    states = states_of(name, double, body, ids, mask)
    real = mask.bool()
    last = states[-1]
    mean = (last * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    weights = torch.arange(1, HIDDEN + 1, dtype=torch.float64) / HIDDEN
    loss = (mean * weights).pow(2).sum() + (last[:, 0] * weights.flip(0)).sin().sum()
    tensors = {"hidden.first": states[1][real], "hidden.last": last[real], "vectors.mean": mean}
    positions = [[0, 1], [2, 3], [5, 7]]
    logits = logits_of(name, double, torch.stack([last[r, c] for r, c in positions]))
    if logits is not None:
        tensors["logits"] = logits
        loss = loss + logits.logsumexp(1).sum()
    tensors = {k: v.detach().float().contiguous() for k, v in tensors.items()}
    double.zero_grad()
    loss.backward()
    value = loss.item()
    used = sorted({i for row in rows for i in row})
    for key, gradient in checkpoint_gradients(double, out).items():
        if key.endswith(("word_embeddings.weight", "tok_embeddings.weight")):
            gradient = gradient[used]
        tensors["gradient." + key] = gradient.contiguous()
    save_file(tensors, os.path.join(out, "expected.safetensors"))
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump({"texts": TEXTS, "length": LENGTH, "ids": rows, "rows": used, "loss": value,
                   "masked": positions if logits is not None else []}, f, separators=(",", ":"))
        f.write("\n")
    total = sum(os.path.getsize(os.path.join(out, n)) for n in os.listdir(out))
    print(f"{out}: {total} bytes, loss {value:.9f}, longest {width}")


def main(root):
    torch.manual_seed(23)
    for name, tokenizer, model, body in families():
        make(name, tokenizer, model, body, root)


if __name__ == "__main__":
    main(*sys.argv[1:])
