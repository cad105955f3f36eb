"""Prints the scalars of a TensorBoard event file, read by TensorBoard's own loader.

    python -m venv venv && venv/bin/pip install tensorboard==2.21.0
    venv/bin/python scripts/oracles/tensorboard.py FILE

One line per event and value: step, time, tag, value. The loader verifies the checksums of every
record; damage ends the program with an error. TensorFlow is not needed.
"""

import sys

# This file bears the name of the package: its own folder must not be searched for it.
sys.path.pop(0)

from tensorboard.compat import tf
from tensorboard.compat.proto import event_pb2


def records(path):
    reader = tf.compat.v1.io.tf_record_iterator(path)
    for record in reader:
        yield event_pb2.Event.FromString(record)


def main():
    (path,) = sys.argv[1:]
    count = 0
    for event in records(path):
        count += 1
        if event.HasField("file_version"):
            print(f"version {event.file_version} time {event.wall_time:.1f}")
        for value in event.summary.value:
            print(f"step {event.step} time {event.wall_time:.1f} {value.tag} {value.simple_value!r}")
    print(f"{count} events")


if __name__ == "__main__":
    main()
