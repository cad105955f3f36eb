"""Checks that files as pyarrow and pandas write them are read, against the program.

    python scripts/scale_out/pyarrow_files.py --asterism target/release/asterism

Every file holds the same texts; the vectors have to be the same as those of a file of lines.
"""

import argparse
import os
import subprocess
import tempfile

import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet


def stream(table, path):
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


WRITERS = {
    "default.parquet": lambda table, path: parquet.write_table(table, path),
    "zstd.parquet": lambda table, path: parquet.write_table(table, path, compression="zstd"),
    "plain.parquet": lambda table, path: parquet.write_table(table, path, compression="none"),
    "groups.parquet": lambda table, path: parquet.write_table(table, path, row_group_size=7),
    "version1.parquet": lambda table, path: parquet.write_table(table, path, version="1.0"),
    "pages2.parquet": lambda table, path: parquet.write_table(table, path, data_page_version="2.0"),
    "nodictionary.parquet": lambda table, path: parquet.write_table(table, path, use_dictionary=False),
    "pandas.parquet": lambda table, path: table.to_pandas().to_parquet(path),
    "category.parquet": lambda table, path: table.to_pandas()
    .astype({"text": "category"})
    .to_parquet(path),
    "large.parquet": lambda table, path: parquet.write_table(
        table.set_column(0, "text", table["text"].cast(pa.large_string())), path
    ),
    "stream.arrow": stream,
    "view.arrow": lambda table, path: stream(
        table.set_column(0, "text", table["text"].cast(pa.string_view())), path
    ),
    "dictionary.arrow": lambda table, path: stream(
        table.set_column(0, "text", table["text"].dictionary_encode()), path
    ),
    "plain.feather": lambda table, path: feather.write_feather(
        table, path, compression="uncompressed"
    ),
}

# Not read, and the message says what it is.
REFUSED = {
    "lz4.feather": (lambda table, path: feather.write_feather(table, path, compression="lz4"), "lz4"),
    "gzip.parquet": (lambda table, path: parquet.write_table(table, path, compression="gzip"), "gzip"),
    "null.parquet": (
        lambda table, path: parquet.write_table(pa.table({"text": ["a", None, "b"]}), path),
        "row 1 (the first is 0)",
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--asterism", default="asterism")
    program = parser.parse_args().asterism
    texts = [f"where is card number {row % 17}" for row in range(40)]
    table = pa.table({"text": texts, "n": list(range(40)), "list": [[1, 2]] * 40})

    def encode(path):
        return subprocess.run([program, "encode", "--in", path], capture_output=True, text=True)

    with tempfile.TemporaryDirectory() as folder:
        lines = os.path.join(folder, "lines.txt")
        with open(lines, "w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in texts)
        expected = encode(lines).stdout
        assert expected.count("\n") == 40
        for name, write in WRITERS.items():
            path = os.path.join(folder, name)
            write(table, path)
            found = encode(path)
            assert found.returncode == 0 and found.stdout == expected, (name, found.stderr)
            print(f"{name}: read")
        for name, (write, message) in REFUSED.items():
            path = os.path.join(folder, name)
            write(table, path)
            found = encode(path)
            assert found.returncode == 2 and message in found.stderr.lower(), (name, found)
            print(f"{name}: refused, {' '.join(found.stderr.split())}")

        # And the other way round: what is written opens with pyarrow.
        for name in ("out.parquet", "out.arrow"):
            path = os.path.join(folder, name)
            subprocess.run([program, "encode", "--in", lines, "--out", path], check=True)
            read = (
                parquet.read_table(path)
                if name.endswith("parquet")
                else pa.ipc.open_stream(path).read_all()
            )
            assert read["text"].to_pylist() == texts
            assert pa.types.is_fixed_size_list(read.schema.field("vector").type)
            rows = [[float(x) for x in line.split("\t")] for line in expected.splitlines()]
            pd.testing.assert_frame_equal(
                pd.DataFrame(read["vector"].to_pylist()).astype("float32"),
                pd.DataFrame(rows).astype("float32"),
            )
            print(f"{name}: {read.schema.field('vector').type}")


if __name__ == "__main__":
    main()
