#!/usr/bin/env python3
"""A small hub for `asterism model fetch` and for Python's huggingface_hub: both must get the same bytes.

    pip install huggingface_hub
    python3 scripts/interop/hub.py MODEL_DIR path/to/asterism

Serves MODEL_DIR on a loopback port the way a hub does: a list of files with sizes and SHA-256 of the
weights, weights behind a redirect that carries X-Linked-Etag. Downloads with both, twice with ours (the
second time nothing may be asked for), then changes a byte and expects an error.
"""
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "owner/tiny"


def serve(directory):
    files = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    asked = []

    def entry(name, path_key, digest_key, **more):
        size = files[name].stat().st_size
        found = {path_key: name, "size": size, **more}
        if name.endswith(".safetensors"):
            found["lfs"] = {digest_key: digests[name], "size": size, "pointerSize": 134}
        return found

    class Hub(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.split("?")[0]
            asked.append(path)
            if path.startswith(f"/api/models/{MODEL}/tree/"):
                return self.answer(json.dumps([entry(n, "path", "oid", type="file", oid="0" * 40) for n in files]).encode())
            if path.startswith(f"/api/models/{MODEL}"):
                siblings = [entry(name, "rfilename", "sha256", blobId="0" * 40) for name in files]
                return self.answer(json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings}).encode())
            for prefix in (f"/{MODEL}/resolve/{COMMIT}/", "/store/"):
                name = path.removeprefix(prefix)
                if path.startswith(prefix) and name in files:
                    body = files[name].read_bytes()
                    if name.endswith(".safetensors") and prefix != "/store/":
                        linked = {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{digests[name]}"'}
                        return self.answer(b"", 302, {"Location": "/store/" + name, "X-Repo-Commit": COMMIT, **linked})
                    return self.answer(body, 200, {"X-Repo-Commit": COMMIT, "ETag": '"' + "1" * 40 + '"'})
            return self.answer(b"", 404)

        def answer(self, body, status=200, headers=None):
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", files, asked


def main():
    directory, program = pathlib.Path(sys.argv[1]), os.path.abspath(sys.argv[2])
    url, files, asked = serve(directory)
    with tempfile.TemporaryDirectory() as place:
        # Read when the package is imported.
        os.environ.update(HF_ENDPOINT=url, HF_HUB_DISABLE_XET="1", HF_HOME=place, HF_HUB_DISABLE_PROGRESS_BARS="1")
        import huggingface_hub

        theirs = pathlib.Path(huggingface_hub.snapshot_download(MODEL, local_dir=os.path.join(place, "theirs")))
        ours = pathlib.Path(place) / "ours"

        def fetch():
            before = len(asked)
            done = subprocess.run([program, "model", "fetch", MODEL, "--hub", url, "--out", ours], stdout=subprocess.DEVNULL)
            return done.returncode, len(asked) - before

        first, again = fetch(), fetch()
        same = sum((ours / name).read_bytes() == (theirs / name).read_bytes() for name in files if (ours / name).exists())
        weights = ours / "model.safetensors"
        with weights.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
        changed = fetch()
        print(f"huggingface_hub {huggingface_hub.__version__}: {same} of {len(files)} files the same")
        print(f"exit code and requests: first {first}, again {again}, changed {changed}")
        sys.exit(0 if first[0] == 0 and again == (0, 0) and changed == (1, 0) and same else 1)


if __name__ == "__main__":
    main()
