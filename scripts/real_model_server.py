#!/usr/bin/env python3
"""Runs a command against a real OpenAI-compatible model server with a tiny random model.

    pip install torch transformers accelerate fastapi uvicorn openai
    python scripts/real_model_server.py FOLDER -- \\
        asterism datagen simulate --pattern sts --input {sentences} --out FOLDER/rows.jsonl \\
        --base-url {url} --model {model} --retries 4 --max-tokens 24 --force

The script makes a causal language model with random weights and its own tokenizer in FOLDER/tiny-model
(trained on the texts of the bundled Pocket set), and FOLDER/sentences.txt with source sentences. It
starts `transformers serve` with that model on a free port of 127.0.0.1, waits until it answers, runs the
command with {url}, {model} and {sentences} filled in, stops the server, and exits with the command's
code. Nothing is downloaded; the server needs no key.

The answers are garbage, which is the point: they are what the checks of a job are for. So that every
kind of garbage is likely, the source sentences, a stock phrase, a refusal, line breaks, foreign sentences
and marks without letters are tokens of their own. The rest is chance: a random network with tied embeddings tends to
repeat the token that it saw last, which makes copies. This server ignores `response_format`, so calls
with a schema get garbage as well.
"""
import argparse
import csv
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

POCKET = pathlib.Path(__file__).resolve().parent.parent / "datasets" / "pocket" / "train.tsv"
MODEL = "tiny-model"

# Tokens of their own, and how much likelier than a random one each is, as a summand of its logit.
EXTRA = [
    ("<end>", 6.0),
    ("\n", 3.0),
    ("i would like to hear the same answer again", 6.0),
    ("I'm sorry, but as an AI language model I cannot help with that request.", 2.5),
    ("Погода сегодня хорошая, и поезд приходит вовремя.", 4.0),
    ("今天的天气很好，火车准时到达。", 3.0),
    ("?! ...", 2.0),
    ("\ufffd\x07", 2.0),
]

# Single bytes that are no text by themselves, which would make garbage of nearly every answer.
RARE = -6.0

# The user's text stands last, so that the model continues it.
TEMPLATE = ("{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}\n"
            "{% else %}{{ message.content }}{% endif %}{% endfor %}")


def source_sentences(count):
    with open(POCKET, encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return texts, list(dict.fromkeys(texts))[:count]


def make_model(folder, count, seed):
    """Writes FOLDER/tiny-model and FOLDER/sentences.txt."""
    texts, sentences = source_sentences(count)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
    wrapped.add_tokens([token for token, _ in EXTRA[1:]] + sentences)
    wrapped.add_special_tokens({"eos_token": EXTRA[0][0], "pad_token": EXTRA[0][0]})
    wrapped.chat_template = TEMPLATE

    torch.manual_seed(seed)
    end = wrapped.eos_token_id
    config = PhiConfig(vocab_size=len(wrapped), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                       num_attention_heads=2, max_position_embeddings=4096, tie_word_embeddings=True,
                       bos_token_id=end, eos_token_id=end, pad_token_id=end)
    model = PhiForCausalLM(config)
    with torch.no_grad():
        # Of length 1 about, so that a repeated token gets a logit of about sqrt(32).
        embeddings = model.get_input_embeddings().weight
        embeddings.normal_(0.0, 32 ** -0.5)
        for token in set(alphabet) - set(map(chr, range(33, 127))):
            model.lm_head.bias[wrapped.convert_tokens_to_ids(token)] = RARE
        # The space.
        model.lm_head.bias[wrapped.convert_tokens_to_ids("\u0120")] = 0.0
        for token, logit in EXTRA:
            index = wrapped.convert_tokens_to_ids(token)
            model.lm_head.bias[index] = logit
            # Short, so that these are not repeated as well.
            embeddings[index] *= 0.1
    model.generation_config = GenerationConfig(do_sample=True, top_k=0, eos_token_id=end, pad_token_id=end,
                                               bos_token_id=end)
    model.save_pretrained(folder / MODEL)
    wrapped.save_pretrained(folder / MODEL)
    (folder / "sentences.txt").write_text("".join(f"{line}\n" for line in sentences), encoding="utf-8")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url, server, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"the server ended with code {server.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    sys.exit(f"no answer from {url} within {seconds} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=pathlib.Path, help="where model, sentences and the server's log go")
    parser.add_argument("--sentences", type=int, default=60, help="source sentences to write")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start-seconds", type=float, default=180.0, help="time the server has to start")
    parser.add_argument("command", nargs="+", help="command to run, after --")
    args = parser.parse_args()

    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder, args.sentences, args.seed)
    port = free_port()
    values = {"{url}": f"http://127.0.0.1:{port}/v1", "{model}": MODEL,
              "{sentences}": str(folder / "sentences.txt")}
    command = args.command
    for name, value in values.items():
        command = [word.replace(name, value) for word in command]

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    serve = [sys.executable, "-m", "transformers.cli.transformers", "serve", MODEL,
             "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--default-seed", str(args.seed)]
    with open(folder / "server.log", "wb") as log:
        # The model's name is a path below the folder, so the folder is where the server runs.
        with subprocess.Popen(serve, cwd=folder, env=environment, stdout=log, stderr=log) as server:
            try:
                wait_for(f"http://127.0.0.1:{port}/health", server, args.start_seconds)
                code = subprocess.call(command)
            finally:
                server.terminate()
                try:
                    server.wait(10)
                except subprocess.TimeoutExpired:
                    server.kill()
    sys.exit(code)


if __name__ == "__main__":
    main()
