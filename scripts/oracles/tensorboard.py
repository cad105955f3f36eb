"""Prints the scalars of a TensorBoard event file, read by TensorBoard's own loader.

    python -m venv venv && venv/bin/pip install tensorboard==2.21.0
    venv/bin/python scripts/oracles/tensorboard.py FILE

One line per value: step, time, tag, value. The loader checks both checksums of every record and
stops at the first that is wrong; if that leaves bytes of the file unread, the program ends with an
error. TensorFlow is not needed.
"""

import os
import sys

# This file bears the name of the package: its own folder must not be searched for it.
sys.path.pop(0)

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2


def main():
    (path,) = sys.argv[1:]
    count = size = 0
    for record in RawEventFileLoader(path).Load():
        event = event_pb2.Event.FromString(record)
        count += 1
        size += len(record) + 16  # length and two checksums
        if event.HasField("file_version"):
            print(f"version {event.file_version} time {event.wall_time:.1f}")
        for value in event.summary.value:
            print(f"step {event.step} time {event.wall_time:.1f} {value.tag} {value.simple_value!r}")
    print(f"{count} events, {size} bytes")
    if size != os.path.getsize(path):
        sys.exit(f"{path}: damaged after byte {size} of {os.path.getsize(path)}")


if __name__ == "__main__":
    main()
