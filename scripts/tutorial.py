"""Runs the commands of the tutorial as a reader would and checks what they print.

    python3 scripts/tutorial.py [--asterism target/release/asterism] [--page docs/src/tutorial.md] [--keep DIR]

Every block marked `sh` runs, in order, in one shell in an empty folder. A comment after a block,

    <!-- expect: some text -->

is a text that the block's output has to contain. The shell ends at the first command that fails.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

MARK = "=== end of block"
BLOCK = re.compile(r"^```sh\n(.*?)^```$|^<!-- expect: (.*?) -->$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Pairs of commands and the texts expected of them."""
    found = []
    for match in BLOCK.finditer(page):
        commands, expected = match.groups()
        if commands is not None:
            found.append((commands, []))
        elif found:
            found[-1][1].append(expected)
        else:
            sys.exit(f"an expectation without a block before it: {expected}")
    return found


def run(script, folder, path, limit):
    environment = dict(os.environ, PATH=f"{path}{os.pathsep}{os.environ['PATH']}", NO_COLOR="1")
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return 124, output
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--asterism", type=pathlib.Path, default=here / "target/release/asterism")
    parser.add_argument("--page", type=pathlib.Path, default=here / "docs/src/tutorial.md")
    parser.add_argument("--keep", type=pathlib.Path, help="empty folder to work in and leave as it is")
    parser.add_argument("--limit", type=float, default=900, help="seconds")
    arguments = parser.parse_args()
    if not arguments.asterism.is_file():
        sys.exit(f"{arguments.asterism}: no such program; build it: cargo build --release -p cli")
    parts = blocks(arguments.page.read_text(encoding="utf-8"))
    if not parts:
        sys.exit(f"{arguments.page}: no block marked sh")
    folder = arguments.keep or pathlib.Path(tempfile.mkdtemp(prefix="tutorial-"))
    folder.mkdir(parents=True, exist_ok=True)
    script = "\n".join(f"{commands}\necho '{MARK} {index}'" for index, (commands, _) in enumerate(parts))
    # A server in the background holds the output open: it is stopped when the last block is done.
    script += "\nkill $(jobs -p) 2>/dev/null || true\nwait\n"
    try:
        code, output = run(script, folder, arguments.asterism.resolve().parent, arguments.limit)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(output)
    if code != 0:
        sys.exit(f"the tutorial ended with code {code}")
    rest = output
    for index, (commands, expected) in enumerate(parts):
        printed, found, rest = rest.partition(f"{MARK} {index}\n")
        if not found:
            sys.exit(f"block {index} did not end:\n{commands}")
        for text in expected:
            if text not in printed:
                sys.exit(f"expected `{text}` of\n{commands}\nfound\n{printed}")
    print(f"{len(parts)} blocks ran, {sum(len(expected) for _, expected in parts)} expectations held")


if __name__ == "__main__":
    main()
