"""A process of `asterism predict` or `asterism encode` that answers Arrow record batches.

One batch goes in on its standard input, the same batch with more columns comes out on its standard
output, before the next one is sent: no batch is held back, so two pipes are enough and nothing waits
for ever.
"""

import argparse
import subprocess

import pyarrow as pa

ARROW = ["--in", "-", "--in-format", "arrow", "--out", "-", "--format", "arrow"]

# Columns that `predict` adds, as Spark writes its types.
ANSWERS = (
    "category_id long, category string, category_coarse string, cosine float, confidence float, "
    "unknown boolean, runner_up_id long, runner_up string, runner_up_cosine float"
)
VECTORS = "vector array<float>"


class Worker:
    """Use it in one thread; close it when the last batch is answered."""

    def __init__(self, command, schema):
        """`command` without the options about Arrow, `schema` of the batches to come."""
        self.process = subprocess.Popen(
            [*command, *ARROW], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.writer = pa.ipc.new_stream(self.process.stdin, schema)
        self.reader = None

    def answer(self, batch):
        """The batch with the columns of the answers."""
        try:
            self.writer.write_batch(batch)
            self.process.stdin.flush()
            if self.reader is None:
                # The columns arrive with the first answer, as pyarrow sends ours with the first batch.
                self.reader = pa.ipc.open_stream(self.process.stdout)
            return self.reader.read_next_batch()
        except (OSError, StopIteration, pa.ArrowInvalid) as error:
            code = self.process.wait()
            raise RuntimeError(f"the worker ended with code {code}; its log says why") from error

    def close(self):
        """Ends the process; an error if it did not end well."""
        try:
            self.writer.close()
            self.process.stdin.close()
        except OSError:
            pass
        self.process.stdout.close()
        code = self.process.wait()
        if code != 0:
            raise RuntimeError(f"the worker ended with code {code}; its log says why")


def plain_lists(batch):
    """Vectors as lists: Spark knows no lists of fixed size."""
    arrays, fields = [], []
    for field, array in zip(batch.schema, batch.columns):
        if pa.types.is_fixed_size_list(field.type):
            field = field.with_type(pa.list_(field.type.value_type))
            array = array.cast(field.type)
        arrays.append(array)
        fields.append(field)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def arguments(description):
    """What both programs are told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--asterism", default="asterism", help="the program")
    parser.add_argument("--run", help="run of `asterism discover`: categories are predicted")
    parser.add_argument("--model", default="pocket", help="without --run: vectors of this model")
    parser.add_argument("--input", help="Parquet file or folder with a column `text`")
    parser.add_argument("--output", help="folder of Parquet files to write")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument(
        "--self-check",
        action="store_true",
        help="compare generated texts with a direct run of the program, and write nothing",
    )
    parser.add_argument("--rows", type=int, default=2000, help="texts of --self-check")
    options = parser.parse_args()
    if not options.self_check and not (options.input and options.output):
        parser.error("--input and --output are needed, or --self-check")
    return options


def command(options):
    """The program without the options about Arrow."""
    if options.run:
        return [options.asterism, "predict", "--run", options.run]
    return [options.asterism, "encode", "--model", options.model]


def sample(count):
    """A table of rows and texts; some texts are empty, some come twice."""
    words = "where is my card the train to rome was late please cancel it and refund me".split()
    texts = []
    for row in range(count):
        length = row % 11
        texts.append(" ".join(words[(row * 7 + at * (1 + row % 5)) % len(words)] for at in range(length)))
    return pa.table({"row": pa.array(range(count), pa.int64()), "text": texts})


def direct(options, table):
    """The same rows through one process of the program, as one file."""
    import os
    import tempfile

    import pyarrow.parquet as parquet

    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in.parquet"), os.path.join(folder, "out.parquet")
        parquet.write_table(table, source)
        subprocess.run([*command(options), "--in", source, "--out", target], check=True)
        return parquet.read_table(target)


def compare(name, found, expected):
    """Rows in order, everything equal, numbers up to the last bits: which texts share a batch differs."""
    found = found.sort_by("row")
    assert found.column_names == expected.column_names, (found.column_names, expected.column_names)
    assert found.num_rows == expected.num_rows, (found.num_rows, expected.num_rows)
    largest = 0.0
    for column in expected.column_names:
        for row, (a, b) in enumerate(zip(found[column].to_pylist(), expected[column].to_pylist())):
            if isinstance(b, list):
                differences = [abs(x - y) for x, y in zip(a, b, strict=True)]
            elif isinstance(b, float):
                differences = [abs(a - b)]
            else:
                assert a == b, (column, row, a, b)
                continue
            largest = max([largest, *differences])
            assert largest < 1e-5, (column, row, a, b)
    print(f"{name}: {found.num_rows} rows as from a direct run, largest difference {largest:.1e}")
