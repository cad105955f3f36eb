#!/usr/bin/env python3
"""Real clients against a running `asterism serve`: the openai package, huggingface_hub, curl.

    pip install openai huggingface_hub numpy
    asterism serve --addr 127.0.0.1:8080 &
    python scripts/server/clients.py --url http://127.0.0.1:8080

Checks that all of them get the same vectors, one at a time and in a list, in both encodings and with
fewer dimensions, and that errors arrive as the errors these packages know. Exit code 1 at the first
difference.
"""
import argparse
import json
import subprocess
import sys

import huggingface_hub
import numpy as np
import openai

TEXTS = ["renew the library book", "my parcel has not arrived", "Zürich, 東京 and 🦀"]


def near(a, b):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.abs(a - b).max() < 1e-5, np.abs(a - b).max()


def curl(args, path, body=None):
    """Status and body of what the command line client gets."""
    command = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", args.url + path]
    if body is not None:
        command += ["--header", "content-type: application/json", "--data", json.dumps(body)]
    if args.key:
        command += ["--header", f"authorization: Bearer {args.key}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text, status = output.rsplit("\n", 1)
    return int(status), text


def fails(error, call):
    try:
        call()
    except error as found:
        return found
    raise AssertionError(f"no {error.__name__}")


def main(args):
    status, text = curl(args, "/embed", {"inputs": TEXTS})
    assert status == 200, text
    want = np.array(json.loads(text))
    print("curl", want.shape)

    client = openai.OpenAI(base_url=args.url + "/v1", api_key=args.key or "none", max_retries=0)
    # The package asks for base64 by itself.
    found = client.embeddings.create(input=TEXTS, model="any")
    near([entry.embedding for entry in found.data], want)
    assert found.usage.total_tokens > len(TEXTS)
    near(client.embeddings.create(input=TEXTS[0], model="any").data[0].embedding, want[0])
    floats = client.embeddings.create(input=TEXTS, model="any", encoding_format="float")
    near([entry.embedding for entry in floats.data], want)
    short = client.embeddings.create(input=TEXTS[1], model="any", dimensions=16)
    cut = want[1][:16]
    near(short.data[0].embedding, cut / np.linalg.norm(cut))
    error = fails(
        openai.UnprocessableEntityError,
        lambda: client.embeddings.create(input=[[1, 2, 3]], model="any"),
    )
    assert "token ids" in error.message and error.code == "invalid_request", error
    fails(openai.APIStatusError, lambda: client.embeddings.create(input=["a"] * 33, model="any"))
    fails(openai.NotFoundError, lambda: client.chat.completions.create(model="any", messages=[]))
    models = [model.id for model in client.models.list()]
    print("openai", openai.__version__, models, found.usage)

    hub = {
        path: huggingface_hub.InferenceClient(model=args.url + path, token=args.key or "none")
        for path in ["/embed", "/similarity"]
    }
    near(hub["/embed"].feature_extraction(TEXTS[2]), want[2:])
    near(hub["/embed"].feature_extraction(TEXTS, normalize=True, truncate=True), want)
    cosines = hub["/similarity"].sentence_similarity(TEXTS[0], other_sentences=TEXTS)
    near(cosines, want @ want[0])
    error = fails(
        huggingface_hub.errors.HfHubHTTPError,
        lambda: hub["/embed"].feature_extraction("word " * 9000),
    )
    assert error.response.status_code == 413, error
    print("huggingface_hub", huggingface_hub.__version__, cosines)

    for path, body, expected in [
        ("/health/live", None, 200),
        ("/health/ready", None, 200),
        ("/info", None, 200),
        ("/metrics", None, 200),
        ("/openapi.json", None, 200),
        ("/docs", None, 200),
        ("/v1/models", None, 200),
        ("/embed", {"inputs": ""}, 422),
        ("/nothing", None, 404),
    ]:
        status, text = curl(args, path, body)
        assert status == expected, (path, status, text)
    print("all clients agree")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", help="API key of the server")
    main(parser.parse_args())
    sys.exit(0)
